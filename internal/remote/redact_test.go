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
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

// A registry redirects to its storage, with a URL that is a credential. Whatever
// goes wrong there, no error shows it.
func TestErrorsShowNoCredentials(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	const storage, closed = "http://storage.example", "http://closed.example"
	signed := "?X-Amz-Signature=" + secret + "&X-Amz-Credential=" + secret + "&sig=%73" + secret + "&bad=" + secret
	store := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			panic(http.ErrAbortHandler)
		case "/short":
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "abc")
		case "/loop":
			w.Header().Set("Location", storage+"/loop"+signed)
			w.WriteHeader(http.StatusFound)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	inUserInfo := strings.Replace(storage, "http://", "http://user:"+secret+"@", 1)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 1}
	for name, location := range map[string]string{
		"refused":       storage + "/refused" + signed,
		"broken":        storage + "/broken" + signed,
		"short":         storage + "/short" + signed,
		"unreachable":   closed + "/x" + signed,
		"in user info":  inUserInfo + "/refused",
		"as user":       strings.Replace(closed, "http://", "http://"+secret+"@", 1) + "/x",
		"bad query":     storage + "/refused?a=" + secret + ";b=%zz" + secret,
		"only a secret": storage + "/refused?" + secret,
		"bad path":      storage + "/%zz" + signed,
		"bad scheme":    "ftp://storage.example/x" + signed,
		"loop":          storage + "/loop" + signed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				net.Handle("storage.example:80", store)
				net.Handle("127.0.0.1:80", remotetest.Status(http.StatusTemporaryRedirect, "Location", location))
				repo, err := newClient(t, remote.Options{Transport: net.Transport()}).Repository("127.0.0.1/shop")
				if err != nil {
					t.Fatal(err)
				}
				_, resolveErr := repo.Resolve(t.Context(), "1.0.0")
				manifestErr := opened(repo.Fetch(t.Context(), desc))
				blobErr := opened(repo.Fetch(t.Context(), blob))
				rangeErr := opened(repo.FetchFrom(t.Context(), ocispec.Descriptor{Digest: blob.Digest, Size: 10}, 5))
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
		})
	}
}

// opened closes what was opened and returns why it was not.
func opened(rc io.ReadCloser, err error) error {
	if err != nil {
		return err
	}
	return rc.Close()
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
