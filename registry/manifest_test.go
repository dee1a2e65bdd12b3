package registry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/registry"
)

const absent = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")

func TestManifest(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	amd64 := repo.image(t, nil, "", []byte("amd64"))
	root := repo.index(t, []ocispec.Descriptor{amd64}, "1.0.0")
	long := repo.manifest(t, ocispec.MediaTypeImageIndex, map[string]any{"manifests": []any{}, "x": 512}, "sha512")
	body512 := repo.blobs[long.Digest]
	d512 := digest.SHA512.FromBytes(body512)
	repo.store(t, d512, body512)
	repo.manifests[d512] = ocispec.Descriptor{MediaType: long.MediaType, Digest: d512, Size: long.Size}
	url := serve(t, catalog{"reg.example/shop": repo}, registry.Options{}) + "/v2/reg.example/shop/manifests/"

	for _, ref := range []string{"1.0.0", root.Digest.String(), d512.String()} {
		want := root
		if ref == d512.String() {
			want = repo.manifests[d512]
		}
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			// A client that accepts nothing of the kind still gets the manifest.
			a := request(t, method, url+ref, "Accept: text/html")
			if a.StatusCode != http.StatusOK || a.ContentLength != want.Size {
				t.Errorf("%s %s: status %d with %d bytes, want 200 with %d", method, ref, a.StatusCode, a.ContentLength, want.Size)
			}
			if method == http.MethodGet && !bytes.Equal(a.body, repo.blobs[want.Digest]) {
				t.Errorf("%s: other bytes", ref)
			}
			for key, want := range map[string]string{
				"Content-Type":                    ocispec.MediaTypeImageIndex,
				"Docker-Content-Digest":           want.Digest.String(),
				"ETag":                            `"` + want.Digest.String() + `"`,
				"Docker-Distribution-Api-Version": "registry/2.0",
				"X-Content-Type-Options":          "nosniff",
			} {
				if got := a.Header.Get(key); got != want {
					t.Errorf("%s %s: %s: %q, want %q", method, ref, key, got, want)
				}
			}
		}
	}

	if a := request(t, http.MethodGet, url+"1.0.0", `If-None-Match: "`+root.Digest.String()+`"`); a.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match: status %d, want 304", a.StatusCode)
	}
	for _, test := range []struct {
		ref, code string
		status    int
	}{
		{"2.0.0", "MANIFEST_UNKNOWN", 404},
		{absent.String(), "MANIFEST_UNKNOWN", 404},
		{digest.FromString("amd64").String(), "MANIFEST_UNKNOWN", 404}, // a layer
		{"-bad", "TAG_INVALID", 404},
		{strings.Repeat("t", 129), "TAG_INVALID", 404},
		{"sha256:abc", "DIGEST_INVALID", 400},
		{"md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID", 400},
	} {
		request(t, http.MethodGet, url+test.ref).wantError(t, test.status, test.code)
		request(t, http.MethodHead, url+test.ref).wantError(t, test.status, test.code)
	}
}

func TestManifestMediaType(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, declared, body, want string }{
		{"declared", ocispec.MediaTypeImageManifest, `{"mediaType":"application/vnd.other+json"}`, ocispec.MediaTypeImageManifest},
		{"from body", "application/octet-stream", `{"mediaType":"application/vnd.other+json"}`, "application/vnd.other+json"},
		{"generic json", "application/json", `{"mediaType":"application/vnd.other+json"}`, "application/vnd.other+json"},
		{"index by shape", "", `{"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{"manifest by shape", "", `{"config":{},"layers":[]}`, ocispec.MediaTypeImageManifest},
		{"nothing", "", `{}`, "application/octet-stream"},
		{"page for a browser", "text/html", `{"mediaType":"text/html"}`, "application/octet-stream"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			repo := newRepository()
			repo.manifest(t, test.declared, json.RawMessage(test.body), "t")
			a := request(t, http.MethodGet, serve(t, catalog{"h/r": repo}, registry.Options{})+"/v2/h/r/manifests/t")
			if got := a.Header.Get("Content-Type"); got != test.want || a.StatusCode != http.StatusOK {
				t.Errorf("status %d, Content-Type %q, want 200, %q", a.StatusCode, got, test.want)
			}
		})
	}
}

func TestManifestCorrupt(t *testing.T) {
	t.Parallel()
	repo := newRepository().files(t)
	var log bytes.Buffer
	good := repo.image(t, nil, "", []byte("layer"))
	content := repo.blobs[good.Digest]
	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 1
	url := serve(t, catalog{"h/r": repo}, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}) +
		"/v2/h/r/manifests/" + good.Digest.String()

	for name, corrupt := range map[string][]byte{
		"flipped": flipped, "short": content[:len(content)-1], "long": append(bytes.Clone(content), ' '), "empty": {},
	} {
		repo.store(t, good.Digest, corrupt)
		message := request(t, http.MethodGet, url).wantError(t, http.StatusInternalServerError, "MANIFEST_INVALID")
		if !strings.Contains(message, good.Digest.String()) || !strings.Contains(message, "whoever runs this registry") || strings.Contains(message, "sealift") {
			t.Errorf("%s: message %q, want the digest and what to do", name, message)
		}
		request(t, http.MethodHead, url).wantError(t, http.StatusInternalServerError, "")
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log %q, want an error", log.String())
	}
	repo.store(t, good.Digest, content)
	if a := request(t, http.MethodGet, url); a.StatusCode != http.StatusOK {
		t.Errorf("repaired: status %d, want 200", a.StatusCode)
	}
}

func TestManifestTooLarge(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	repo.manifest(t, ocispec.MediaTypeImageManifest, map[string]string{"x": strings.Repeat("x", 4<<20)}, "big")
	url := serve(t, catalog{"h/r": repo}, registry.Options{})
	request(t, http.MethodGet, url+"/v2/h/r/manifests/big").wantError(t, http.StatusInternalServerError, "MANIFEST_INVALID")
}

func TestManifestNotCarried(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	amd64 := repo.image(t, nil, "", []byte("amd64"))
	arm64 := repo.image(t, nil, "", []byte("arm64"))
	inner := repo.index(t, []ocispec.Descriptor{amd64, arm64})
	listed := repo.image(t, nil, "", []byte("riscv64"))
	repo.index(t, []ocispec.Descriptor{inner, listed}, "1.0.0")
	// One child is unknown to the repository, the other known but absent.
	delete(repo.blobs, arm64.Digest)
	delete(repo.manifests, arm64.Digest)
	delete(repo.blobs, listed.Digest)
	url := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/manifests/"

	for _, d := range []digest.Digest{arm64.Digest, listed.Digest} {
		message := request(t, http.MethodGet, url+d.String()).wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
		if !strings.Contains(message, "not carried") {
			t.Errorf("message %q, want to read that it was not carried", message)
		}
	}
	message := request(t, http.MethodGet, url+absent.String()).wantError(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	if strings.Contains(message, "not carried") {
		t.Errorf("message %q for a manifest no index names", message)
	}
	if a := request(t, http.MethodGet, url+amd64.Digest.String()); a.StatusCode != http.StatusOK {
		t.Errorf("carried child: status %d, want 200", a.StatusCode)
	}
}
