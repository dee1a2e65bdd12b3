package remote_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/internal/remote"
)

// A registry redirects to its storage, with a URL that is a credential. Whatever
// goes wrong there, no error shows it.
func TestErrorsShowNoCredentials(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	closed := httptest.NewServer(nil)
	closed.Close()
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/short":
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "abc")
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(storage.Close)
	signed := "?X-Amz-Signature=" + secret + "&X-Amz-Credential=" + secret + "&sig=%73" + secret + "&bad=" + secret
	inUserInfo := strings.Replace(storage.URL, "http://", "http://user:"+secret+"@", 1)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 1}
	for name, location := range map[string]string{
		"refused":       storage.URL + "/refused" + signed,
		"broken":        storage.URL + "/broken" + signed,
		"short":         storage.URL + "/short" + signed,
		"unreachable":   closed.URL + "/x" + signed,
		"in user info":  inUserInfo + "/refused",
		"as user":       strings.Replace(closed.URL, "http://", "http://"+secret+"@", 1) + "/x",
		"bad query":     storage.URL + "/refused?a=" + secret + ";b=%zz" + secret,
		"only a secret": storage.URL + "/refused?" + secret,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			t.Cleanup(front.Close)
			repo, err := newClient(t, remote.Options{}).Repository(strings.TrimPrefix(front.URL, "http://") + "/shop")
			if err != nil {
				t.Fatal(err)
			}
			_, resolveErr := repo.Resolve(t.Context(), "1.0.0")
			_, manifestErr := repo.Fetch(t.Context(), desc)
			_, blobErr := repo.Fetch(t.Context(), blob)
			_, rangeErr := repo.FetchFrom(t.Context(), ocispec.Descriptor{Digest: blob.Digest, Size: 10}, 5)
			pushErr := repo.Push(t.Context(), desc, strings.NewReader("x"))
			for _, err := range []error{resolveErr, manifestErr, blobErr, rangeErr, pushErr} {
				if err == nil {
					if name != "short" {
						t.Error("a request = nil, want an error")
					}
					continue
				}
				for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%q", err)} {
					if strings.Contains(text, secret) {
						t.Errorf("error shows the secret: %s", text)
					}
				}
			}
			if name == "unreachable" && !remote.IsUnreachable(blobErr) || name == "refused" && !remote.IsUnauthorized(blobErr) {
				t.Errorf("the error lost its kind: %v", blobErr)
			}
			if name == "refused" && !strings.Contains(blobErr.Error(), "X-Amz-Signature=REDACTED") {
				t.Errorf("error = %v, want it to say what was left out", blobErr)
			}
		})
	}
}

// What a response says to ask next is asked whole.
func TestRedactionKeepsLinks(t *testing.T) {
	t.Parallel()
	pages := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/uploads/"):
			w.Header().Set("Location", "/v2/shop/blobs/uploads/1?_state=opaque")
			w.WriteHeader(http.StatusAccepted)
		case r.Method == http.MethodPut:
			if r.URL.Query().Get("_state") != "opaque" {
				t.Errorf("PUT %s, want the state it was given", r.URL)
			}
			w.WriteHeader(http.StatusCreated)
		case r.URL.Query().Get("token") == "":
			w.Header().Set("Link", `<?token=opaque>; rel="next"`)
			fallthrough
		default:
			if token := r.URL.Query().Get("token"); token != "" && token != "opaque" {
				t.Errorf("GET %s, want the token it was given", r.URL)
			}
			pages++
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_ = json.NewEncoder(w).Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{Digest: digest.FromString("r"), Size: 1}}})
		}
	}))
	t.Cleanup(srv.Close)
	repo, err := newClient(t, remote.Options{}).Repository(strings.TrimPrefix(srv.URL, "http://") + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: "text/plain", Digest: digest.FromString("x"), Size: 1}
	if err := repo.Push(t.Context(), desc, strings.NewReader("x")); err != nil {
		t.Errorf("Push = %v", err)
	}
	desc.MediaType = ocispec.MediaTypeImageManifest
	list, err := registry.Referrers(t.Context(), repo, desc, "")
	if err != nil || pages != 2 || len(list) != 2 {
		t.Errorf("Referrers = %v, %v in %d pages, want two", list, err, pages)
	}
}

// once hides that a reader can be rewound.
type once struct{ io.Reader }

// A manifest arrives also where the first request is answered with a challenge.
func TestPushAfterChallenge(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	body := []byte(`{"schemaVersion":2}`)
	got := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		if r.Header.Get("Authorization") == "" && r.URL.Path != "/token" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Path == "/token" {
			io.WriteString(w, `{"token":"t"}`)
			return
		}
		got = string(data)
		w.Header().Set("OCI-Subject", digest.FromBytes(body).String())
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(srv.Close)
	repo, err := newClient(t, remote.Options{}).Repository(strings.TrimPrefix(srv.URL, "http://") + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.SetReferrersCapability(true); err != nil { // or oras-go reads it all itself
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
	if err := repo.Push(t.Context(), desc, once{bytes.NewReader(body)}); err != nil || got != string(body) {
		t.Errorf("Push = %v and %q arrived, want the manifest", err, got)
	}
	wrong := desc
	wrong.Digest = digest.FromString("other")
	if err := repo.Push(t.Context(), wrong, once{bytes.NewReader(body)}); err == nil || errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Push of other bytes = %v, want an error", err)
	}
}
