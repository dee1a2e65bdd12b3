package remote_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/remote"
)

// asking is a registry that answers questions for referrers as a script says: a for an
// answer with one, n for 404, m for 404 of a manifest that is unknown, b for a list that
// breaks off behind its first page. Behind the script everything is answered as its last
// letter.
type asking struct {
	mu        sync.Mutex
	script    string
	api, tags int
}

func (a *asking) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !strings.Contains(req.URL.Path, "/referrers/") {
		a.tags++
		w.WriteHeader(http.StatusNotFound)
		return
	}
	letter := a.script[min(a.api, len(a.script)-1)]
	if req.URL.RawQuery != "" {
		letter = 'n'
	} else {
		a.api++
	}
	switch letter {
	case 'n':
		w.WriteHeader(http.StatusNotFound)
		return
	case 'm':
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
		return
	case 'b':
		w.Header().Set("Link", `<?page=2>; rel="next"`)
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":1}]}`, ocispec.MediaTypeImageManifest, digest.FromString("x"))
}

// A wrong answer about the API for referrers costs no referrer in silence, whichever
// of the questions it is given to; a registry without the API is asked a few times.
func TestReferrersWays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		script string
		// outcomes of six questions: the number of referrers, or x for ErrReferrers.
		want      string
		api, tags int
	}{
		{"aaaaaa", "111111", 6, 0},
		{"nnnnnn", "000000", 3, 6},
		{"naaaaa", "0xxxxx", 6, 1},
		{"maaaaa", "0xxxxx", 6, 1},
		{"aanaaa", "11xxxx", 6, 0},
		{"mmmmmm", "000000", 3, 6},
		{"abaaaa", "1x1111", 6, 0},
	}
	for _, tt := range tests {
		t.Run(tt.script, func(t *testing.T) {
			t.Parallel()
			registry := &asking{script: tt.script}
			srv := httptest.NewServer(registry)
			t.Cleanup(srv.Close)
			host := strings.TrimPrefix(srv.URL, "http://")
			client, err := remote.NewClient(remote.Options{Transport: &http.Transport{}}) // of its own: closing a server ends idle connections of the default one
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for i := range 6 {
				repo, err := client.Repository(host + "/app")
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				err = repo.Referrers(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1}, "",
					func(page []ocispec.Descriptor) error { n += len(page); return nil })
				switch {
				case errors.Is(err, remote.ErrReferrers):
					got += "x"
				case err != nil:
					t.Fatal(err)
				default:
					got += fmt.Sprint(n)
				}
			}
			if got != tt.want || registry.api != tt.api || registry.tags != tt.tags {
				t.Errorf("%s by %d questions to the API and %d to tags, want %s by %d and %d", got, registry.api, registry.tags, tt.want, tt.api, tt.tags)
			}
		})
	}
}
