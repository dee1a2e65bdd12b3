package remote_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

// Blobs do not share one connection, not even where they are redirected; questions
// do, where the registry can.
func TestLanes(t *testing.T) {
	t.Parallel()
	data := []byte("0123456789")
	var mu sync.Mutex
	protocols := map[string]int{}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		protocols[r.Method+" "+strings.Split(r.URL.Path+"/", "/")[3]] = r.ProtoMajor
		mu.Unlock()
		switch {
		case r.Method == http.MethodPost:
			w.Header().Set("Location", "/v2/shop/upload")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusCreated)
		case strings.Contains(r.URL.Path, "/blobs/"):
			w.Header().Set("Location", "/v2/shop/storage")
			w.WriteHeader(http.StatusTemporaryRedirect)
		case strings.HasSuffix(r.URL.Path, "/storage"):
			remotetest.Content(data)(w, r)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	// By a name that httptest's certificate has and its client dials: a loopback
	// address would be reached without TLS.
	transport := srv.Client().Transport.(*http.Transport)
	repo, err := newClient(t, remote.Options{Transport: transport}).Repository("example.com/shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Resolve(t.Context(), "1"); err == nil {
		t.Error("Resolve = nil, want not found")
	}
	for _, offset := range []int64{0, 6} {
		if got, err := readFrom(t, repo, describe(data), offset); got != string(data[offset:]) || err != nil {
			t.Errorf("FetchFrom(%d) gives %q, %v", offset, got, err)
		}
	}
	desc := ocispec.Descriptor{MediaType: "text/plain", Digest: describe(data).Digest, Size: 10}
	if err := repo.Push(t.Context(), desc, strings.NewReader(string(data))); err != nil {
		t.Error(err)
	}
	want := map[string]int{"HEAD manifests": 2, "GET blobs": 1, "GET storage": 1, "POST blobs": 2, "PUT upload": 1}
	if diff := cmp.Diff(want, protocols); diff != "" {
		t.Errorf("HTTP of each question (-want +got):\n%s", diff)
	}
}
