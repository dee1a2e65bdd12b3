package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/sealift/sealift/registry"
)

// client is not the default one, which loses its connections whenever some other
// test server ends.
var client = &http.Client{Transport: &http.Transport{}}

func TestBase(t *testing.T) {
	t.Parallel()
	base := serve(t, catalog{}, registry.Options{})
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, path := range []string{"/v2/", "/v2"} {
			a := request(t, method, base+path)
			if a.StatusCode != http.StatusOK || a.Header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
				t.Errorf("%s %s: status %d, %v", method, path, a.StatusCode, a.Header)
			}
		}
	}
	for _, path := range []string{"/", "/v1/", "/v2/x", "/v2/a/x", "/v2/a/tags/other", "/v2/manifests/x", "/v2/_catalog/x"} {
		request(t, http.MethodGet, base+path).wantError(t, http.StatusNotFound, "UNSUPPORTED")
	}
	for _, name := range []string{"A/b", "a:1/b", "a//b", "-a/b", strings.Repeat("a", 600)} {
		request(t, http.MethodGet, base+"/v2/"+name+"/tags/list").wantError(t, http.StatusBadRequest, "NAME_INVALID")
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	d := repo.index(t, nil, "1").Digest.String()
	base := serve(t, catalog{"h/r": repo}, registry.Options{})
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodOptions, "BREW"} {
		for _, path := range []string{"/v2/", "/v2/h/r/manifests/1", "/v2/h/r/blobs/" + d, "/v2/h/r/blobs/uploads/", "/v2/new/blobs/uploads/?mount=" + d, "/v2/h/r/tags/list"} {
			a := request(t, method, base+path)
			a.wantError(t, http.StatusMethodNotAllowed, "UNSUPPORTED")
			if got := a.Header.Get("Allow"); got != "GET, HEAD" {
				t.Errorf("%s %s: Allow %q, want GET, HEAD", method, path, got)
			}
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	c := catalog{}
	for _, name := range []string{
		"docker.io/library/redis", "quay.io/library/redis", "reg.example:5001/shop/web", "[::1]:5001/shop/db",
		"docker.io/team/manifests/app", "cache.example/docker.io/library/redis", "reg.example/a/tags/list",
	} {
		repo := newRepository()
		repo.manifest(t, ocispec.MediaTypeImageManifest, map[string]string{"repository": name}, "1")
		c[name] = repo
	}
	base := serve(t, c, registry.Options{})
	tests := []struct {
		name, path, ns, want string // an empty want is NAME_UNKNOWN
	}{
		{"full", "docker.io/library/redis", "", "docker.io/library/redis"},
		{"port", "reg.example__5001/shop/web", "", "reg.example:5001/shop/web"},
		{"IPv6", "ip6-0-0-0-0-0-0-0-1__5001/shop/db", "", "[::1]:5001/shop/db"},
		{"short", "shop/web", "", "reg.example:5001/shop/web"},
		{"ambiguous", "library/redis", "", ""},
		{"part of a repository", "web", "", ""},
		{"part of a host", "reg.example/shop/web", "", ""},
		{"unknown", "library/nginx", "", ""},
		{"verbs in the name", "docker.io/team/manifests/app", "", "docker.io/team/manifests/app"},
		{"another verb in the name", "reg.example/a/tags/list", "", "reg.example/a/tags/list"},
		{"mirror", "library/redis", "docker.io", "docker.io/library/redis"},
		{"mirror with port", "shop/web", "reg.example:5001", "reg.example:5001/shop/web"},
		{"mirror of a mirror", "docker.io/library/redis", "cache.example", "cache.example/docker.io/library/redis"},
		{"mirror of this registry", "docker.io/library/redis", "site:5050", "docker.io/library/redis"},
		{"mirror of another host", "shop/web", "docker.io", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := base + "/v2/" + test.path + "/manifests/1"
			if test.ns != "" {
				path += "?ns=" + url.QueryEscape(test.ns)
			}
			a := request(t, http.MethodGet, path)
			if test.want == "" {
				a.wantError(t, http.StatusNotFound, "NAME_UNKNOWN")
				return
			}
			var got struct{ Repository string }
			if err := json.Unmarshal(a.body, &got); err != nil || got.Repository != test.want {
				t.Errorf("GET %s = %s, %v, want the one of %s", path, a.body, err, test.want)
			}
		})
	}
}

func TestAmbiguousNameListsCandidates(t *testing.T) {
	t.Parallel()
	c := catalog{"b.example:1/app": newRepository(), "a.example/app": newRepository()}
	a := request(t, http.MethodGet, serve(t, c, registry.Options{})+"/v2/app/tags/list")
	var doc struct {
		Errors []struct {
			Detail struct{ Candidates []string }
		}
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) != 1 {
		t.Fatalf("%s: %v", a.body, err)
	}
	if diff := cmp.Diff([]string{"a.example/app", "b.example__1/app"}, doc.Errors[0].Detail.Candidates); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
}

type brokenCatalog struct{}

func (brokenCatalog) Repositories(context.Context) ([]string, error) {
	return nil, errors.New("open /secret/path: input/output error")
}

func (brokenCatalog) Repository(context.Context, string) (registry.Repository, error) {
	return nil, errors.New("open /secret/path: input/output error")
}

func TestCatalogErrors(t *testing.T) {
	t.Parallel()
	base := serve(t, brokenCatalog{}, registry.Options{})
	for _, path := range []string{"/v2/_catalog", "/v2/h/r/tags/list"} {
		message := request(t, http.MethodGet, base+path).wantError(t, http.StatusInternalServerError, "UNKNOWN")
		if strings.Contains(message, "secret") {
			t.Errorf("message %q shows the server's insides", message)
		}
	}
}

// TestCopy copies a release with all that refers to it, as a site would.
func TestCopy(t *testing.T) {
	t.Parallel()
	for name, newRepo := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			var children []ocispec.Descriptor
			for i, arch := range []string{"amd64", "arm64"} {
				d := repo.image(t, nil, "", random(300<<10+i), []byte(arch))
				d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
				children = append(children, d)
			}
			root := repo.index(t, children, "1.0.0")
			signature := repo.image(t, &root, "application/vnd.example.signature", []byte("signed"))
			repo.image(t, &signature, "application/vnd.example.timestamp", []byte("noon"))
			repo.image(t, &children[0], "application/vnd.example.sbom", []byte("parts"))
			base := serve(t, catalog{"reg.example:5001/shop": repo}, registry.Options{})

			src, err := remote.NewRepository(strings.TrimPrefix(base, "http://") + "/" + registry.URLName("reg.example:5001/shop"))
			if err != nil {
				t.Fatal(err)
			}
			src.PlainHTTP = true
			src.Client = &auth.Client{Client: client}
			dst := memory.New()
			got, err := oras.ExtendedCopy(t.Context(), src, "1.0.0", dst, "1.0.0", oras.DefaultExtendedCopyOptions)
			if err != nil || got.Digest != root.Digest {
				t.Fatalf("ExtendedCopy = %s, %v, want %s", got.Digest, err, root.Digest)
			}
			if err := oras.CopyGraph(t.Context(), src, dst, children[0], oras.DefaultCopyGraphOptions); err != nil {
				t.Fatal(err)
			}
			for _, subject := range []ocispec.Descriptor{root, signature} {
				referrers, err := orasregistry.Referrers(t.Context(), dst, subject, "")
				if err != nil || len(referrers) != 1 {
					t.Errorf("Referrers(%s) = %v, %v, want one", subject.Digest, referrers, err)
				}
			}
			sboms, err := orasregistry.Referrers(t.Context(), src, children[0], "application/vnd.example.sbom")
			if err != nil || len(sboms) != 1 {
				t.Errorf("Referrers of a child = %v, %v, want its SBOM", sboms, err)
			}
			tags, err := orasregistry.Tags(t.Context(), src)
			if diff := cmp.Diff([]string{"1.0.0"}, tags); err != nil || diff != "" {
				t.Errorf("Tags: %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// TestCopyCorrupt copies a graph with a flipped byte: the client must notice.
func TestCopyCorrupt(t *testing.T) {
	t.Parallel()
	for name, newRepo := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			layer := random(1 << 20)
			root := repo.image(t, nil, "", layer)
			d := digest.FromBytes(layer)
			layer[1<<19] ^= 1
			repo.store(t, d, layer)
			base := serve(t, catalog{"h/r": repo}, registry.Options{})
			src, err := remote.NewRepository(strings.TrimPrefix(base, "http://") + "/h/r")
			if err != nil {
				t.Fatal(err)
			}
			src.PlainHTTP = true
			src.Client = &auth.Client{Client: client}
			if err := oras.CopyGraph(t.Context(), src, memory.New(), root, oras.DefaultCopyGraphOptions); err == nil {
				t.Error("CopyGraph of a corrupt layer succeeded")
			}
		})
	}
}

// FuzzPath sends arbitrary paths: each must be answered without a panic, and
// what is not served must be an error document.
func FuzzPath(f *testing.F) {
	for _, path := range []string{
		"/v2/", "/v2", "", "/", "/v2/_catalog", "/v2/h/r/tags/list", "/v2/h/r/manifests/1", "/v2/h/r/manifests/" + absent.String(),
		"/v2/h/r/blobs/" + absent.String(), "/v2/h/r/blobs/uploads/", "/v2/h/r/referrers/" + absent.String(), "/v2/r/manifests/1",
		"/v2//manifests/1", "/v2/../../etc/passwd", "/v2/h/r/manifests/../1", "/v2/h/r/blobs/sha256:..%2f", "/v2/h/r/manifests/\x00",
		"/v2/manifests/manifests/manifests/manifests", "/v2/h/r/manifests/", "/v2/h/r/blobs/sha512:aa", "/v2/hex-61/tags/list",
	} {
		f.Add(path, "", "bytes=0-1")
	}
	f.Add("/v2/r/tags/list", "ns=h&n=1&last=x", "")
	f.Add("/v2/_catalog", "n=-1", "")
	repo := newRepository().seekers()
	repo.index(f, nil, "1")
	handler := registry.New(catalog{"h/r": repo}, registry.Options{})
	f.Fuzz(func(t *testing.T, path, query, ranges string) {
		r := &http.Request{
			Method: http.MethodGet,
			URL:    &url.URL{Path: path, RawQuery: query},
			Header: http.Header{"Range": {ranges}},
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code < 400 {
			return
		}
		var doc struct{ Errors []struct{ Code string } }
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || len(doc.Errors) != 1 || doc.Errors[0].Code == "" {
			t.Fatalf("GET %q: status %d with %q", path, w.Code, w.Body)
		}
		if w.Code >= 500 {
			t.Fatalf("GET %q: status %d", path, w.Code)
		}
	})
}
