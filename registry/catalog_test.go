package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/registry"
)

// catalog is a registry.Catalog over repositories in memory.
type catalog map[string]registry.Repository

func (c catalog) Repositories(context.Context) ([]string, error) {
	return slices.Collect(maps.Keys(c)), nil
}

func (c catalog) Repository(_ context.Context, name string) (registry.Repository, error) {
	repo, ok := c[name]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return repo, nil
}

// repository keeps its blobs in open, which decides what kind of reader the
// handler gets. Its fields are not to be changed while it is served.
type repository struct {
	open      func(digest.Digest) (io.ReadCloser, error)
	blobs     map[digest.Digest][]byte
	dir       string // where the blobs are files, if not empty
	clock     time.Time
	manifests map[digest.Digest]ocispec.Descriptor
	tags      map[string]digest.Digest
	referrers map[digest.Digest][]ocispec.Descriptor
}

func newRepository() *repository {
	r := &repository{
		clock:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		blobs:     map[digest.Digest][]byte{},
		manifests: map[digest.Digest]ocispec.Descriptor{},
		tags:      map[string]digest.Digest{},
		referrers: map[digest.Digest][]ocispec.Descriptor{},
	}
	r.open = func(d digest.Digest) (io.ReadCloser, error) {
		b, ok := r.blobs[d]
		if !ok {
			return nil, errdef.ErrNotFound
		}
		return io.NopCloser(struct{ io.Reader }{bytes.NewReader(b)}), nil
	}
	return r
}

type seekCloser struct{ io.ReadSeeker }

func (seekCloser) Close() error { return nil }

// seekers makes the repository return seekable readers without an identity.
func (r *repository) seekers() *repository {
	r.open = func(d digest.Digest) (io.ReadCloser, error) {
		b, ok := r.blobs[d]
		if !ok {
			return nil, errdef.ErrNotFound
		}
		return seekCloser{bytes.NewReader(b)}, nil
	}
	return r
}

// files makes the repository keep and return real files.
func (r *repository) files(t testing.TB) *repository {
	r.dir = t.TempDir()
	r.open = func(d digest.Digest) (io.ReadCloser, error) {
		f, err := os.Open(r.path(d))
		if os.IsNotExist(err) {
			return nil, errdef.ErrNotFound
		}
		return f, err
	}
	return r
}

func (r *repository) path(d digest.Digest) string { return filepath.Join(r.dir, d.Encoded()) }

// store puts content under a digest, its own or not.
func (r *repository) store(t testing.TB, d digest.Digest, content []byte) {
	t.Helper()
	r.blobs[d] = content
	if r.dir != "" {
		if err := os.WriteFile(r.path(d), content, 0o644); err != nil {
			t.Fatal(err)
		}
		// Clocks of file systems are too coarse to tell writes of one test apart.
		r.clock = r.clock.Add(time.Hour)
		if err := os.Chtimes(r.path(d), r.clock, r.clock); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *repository) blob(t testing.TB, mediaType string, content []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	r.store(t, d.Digest, content)
	return d
}

func (r *repository) manifest(t testing.TB, mediaType string, v any, tags ...string) ocispec.Descriptor {
	t.Helper()
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := r.blob(t, mediaType, content)
	r.manifests[d.Digest] = d
	for _, tag := range tags {
		r.tags[tag] = d.Digest
	}
	return d
}

func (r *repository) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return r.open(desc.Digest)
}

func (r *repository) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	_, ok := r.blobs[desc.Digest]
	return ok, nil
}

func (r *repository) Resolve(_ context.Context, ref string) (ocispec.Descriptor, error) {
	d, ok := r.tags[ref]
	if !ok {
		d = digest.Digest(ref)
	}
	desc, ok := r.manifests[d]
	if !ok {
		return ocispec.Descriptor{}, errdef.ErrNotFound
	}
	return desc, nil
}

func (r *repository) Tags(_ context.Context, _ string, fn func([]string) error) error {
	// In pages of one and in no order: the handler must cope.
	for tag := range r.tags {
		if err := fn([]string{tag}); err != nil {
			return err
		}
	}
	return nil
}

func (r *repository) Referrers(_ context.Context, desc ocispec.Descriptor, _ string, fn func([]ocispec.Descriptor) error) error {
	return fn(r.referrers[desc.Digest])
}

// image pushes a manifest with the given layers.
func (r *repository) image(t testing.TB, subject *ocispec.Descriptor, artifactType string, layers ...[]byte) ocispec.Descriptor {
	t.Helper()
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       r.blob(t, ocispec.MediaTypeImageConfig, []byte(`{"layers":`+string(rune('0'+len(layers)))+`}`)),
		Subject:      subject,
	}
	for _, layer := range layers {
		m.Layers = append(m.Layers, r.blob(t, ocispec.MediaTypeImageLayerGzip, layer))
	}
	d := r.manifest(t, m.MediaType, m)
	if subject != nil {
		referrer := d
		referrer.ArtifactType = artifactType
		r.referrers[subject.Digest] = append(r.referrers[subject.Digest], referrer)
	}
	return d
}

// index pushes an index of the given manifests.
func (r *repository) index(t testing.TB, children []ocispec.Descriptor, tags ...string) ocispec.Descriptor {
	t.Helper()
	return r.manifest(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: children,
	}, tags...)
}

// serve starts a server for c.
func serve(t testing.TB, c registry.Catalog, opts registry.Options) string {
	t.Helper()
	server := httptest.NewUnstartedServer(registry.New(c, opts))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

type answer struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// request asks a server; headers are given as "Key: value".
func request(t testing.TB, method, url string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range headers {
		key, value, _ := strings.Cut(header, ": ")
		req.Header.Set(key, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{Response: resp}
	a.body, a.err = io.ReadAll(resp.Body)
	return a
}

// wantError checks that the answer is an error document with one code.
func (a answer) wantError(t testing.TB, status int, code string) (message string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: status %d, want %d", a.Request.Method, a.Request.URL, a.StatusCode, status)
	}
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type %q of an error, want application/json", a.Request.URL, got)
	}
	for _, key := range []string{"ETag", "Docker-Content-Digest"} {
		if got := a.Header.Get(key); got != "" {
			t.Errorf("%s: an error has the header %s: %s", a.Request.URL, key, got)
		}
	}
	if a.Request.Method == http.MethodHead {
		return ""
	}
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || len(doc.Errors) != 1 {
		t.Fatalf("%s: body %.200q is not an error document", a.Request.URL, a.body)
	}
	if doc.Errors[0].Code != code {
		t.Errorf("%s: code %s, want %s", a.Request.URL, doc.Errors[0].Code, code)
	}
	return doc.Errors[0].Message
}

// noise is what random cuts its results from.
var noise = sync.OnceValue(func() []byte {
	var out []byte
	for block := digest.FromString("seed"); len(out) < 64<<20; {
		block = digest.FromString(block.Encoded())
		out = append(out, strings.Repeat(block.Encoded(), 16<<10)...)
	}
	return out
})

// random returns n reproducible bytes, the caller's own.
func random(n int) []byte { return bytes.Clone(noise()[:n]) }
