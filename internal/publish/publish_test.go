package publish_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/publish"
	"github.com/sealift/sealift/mirror"
)

// server is a registry in memory that notes what is written to it.
type server struct {
	host   string
	client *http.Client

	mu     sync.Mutex
	writes []string // METHOD PATH?QUERY of each request that writes
}

func newServer(t *testing.T) *server {
	t.Helper()
	store := olareg.New(config.Config{Storage: config.ConfigStorage{StoreType: config.StoreMem}})
	s := &server{}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.mu.Lock()
			s.writes = append(s.writes, r.Method+" "+r.URL.RequestURI())
			s.mu.Unlock()
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		front.Close()
		_ = store.Close()
	})
	// The default client loses its connections whenever some other test server ends.
	s.host, s.client = strings.TrimPrefix(front.URL, "http://"), front.Client()
	return s
}

func (s *server) repository(t *testing.T, name string) *remote.Repository {
	t.Helper()
	repo, err := remote.NewRepository(s.host + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Client: s.client}
	return repo
}

// written returns the writes since the last call.
func (s *server) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writes
	s.writes = nil
	return w
}

func push(t *testing.T, repo registry.Repository, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	desc := artifact.Describe(mediaType, data)
	if err := repo.Push(t.Context(), desc, bytes.NewReader(data)); err != nil {
		t.Fatalf("push %s: %v", mediaType, err)
	}
	return desc
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// image pushes an image of one platform.
func image(t *testing.T, repo registry.Repository, name string, platform ocispec.Platform) ocispec.Descriptor {
	t.Helper()
	layer := push(t, repo, ocispec.MediaTypeImageLayer, []byte("layer of "+name))
	cfg := push(t, repo, ocispec.MediaTypeImageConfig, encode(t, ocispec.Image{Platform: platform, Author: name}))
	return push(t, repo, ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: cfg, Layers: []ocispec.Descriptor{layer},
	}))
}

// multiArch pushes and tags an index of one image for each platform, with an
// attestation beside them as buildkit makes it.
func multiArch(t *testing.T, repo registry.Repository, tag string, platforms ...string) ocispec.Descriptor {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, p := range append(platforms, "unknown/unknown") {
		parts := strings.Split(p, "/")
		platform := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
		if len(parts) > 2 {
			platform.Variant = parts[2]
		}
		d := image(t, repo, tag+" "+p, platform)
		d.Platform = &platform
		index.Manifests = append(index.Manifests, d)
	}
	desc := push(t, repo, ocispec.MediaTypeImageIndex, encode(t, index))
	if err := repo.Tag(t.Context(), desc, tag); err != nil {
		t.Fatal(err)
	}
	return desc
}

const template = `apiVersion: sealift/v1
kind: App
id: example.com/shop
version: 1.0.0
platforms: [linux/amd64, linux/arm64]
components:
  web: {image: example.com/web, files: {/etc/web.conf: {source: web.conf}}}
  api: {image: example.com/web}
  db: {image: example.com/redis}
`

func app(t *testing.T, doc string) *artifact.App {
	t.Helper()
	app, err := artifact.ParseTemplate("app.yaml", []byte(doc), fstest.MapFS{"web.conf": {Data: []byte("x = 1\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

// world is a registry that holds the images of the template.
type world struct {
	*server
	web, redis *remote.Repository
	images     map[string]publish.Image
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := newServer(t)
	w := &world{server: s, web: s.repository(t, "origin/web"), redis: s.repository(t, "origin/redis")}
	multiArch(t, w.web, "1", "linux/amd64", "linux/arm64/v8")
	multiArch(t, w.redis, "7.2", "linux/amd64", "linux/arm64")
	web := publish.Image{Source: w.web, Reference: "1", Name: "example.com/web:1"}
	w.images = map[string]publish.Image{"web": web, "api": web, "db": {Source: w.redis, Reference: "7.2", Name: "example.com/redis:7.2"}}
	s.written()
	return w
}

func prepare(t *testing.T, a *artifact.App, images map[string]publish.Image) *publish.Release {
	t.Helper()
	r, err := publish.Prepare(t.Context(), a, images, time.Time{})
	if err != nil {
		t.Fatalf("Prepare = %v", err)
	}
	return r
}

func pushTo(t *testing.T, r *publish.Release, repo registry.Repository) error {
	t.Helper()
	p, err := r.Plan(t.Context(), repo)
	if err != nil {
		t.Fatalf("Plan = %v", err)
	}
	return r.Push(t.Context(), repo, p, publish.PushOptions{})
}

// walk reads everything under desc and counts it.
func walk(t *testing.T, src content.Fetcher, desc ocispec.Descriptor) int {
	t.Helper()
	if !artifact.IsManifest(desc.MediaType) {
		if _, err := content.FetchAll(t.Context(), src, desc); err != nil {
			t.Errorf("fetch %s: %v", desc.Digest, err)
		}
		return 1
	}
	m, _, err := artifact.FetchManifest(t.Context(), src, desc)
	if err != nil {
		t.Errorf("fetch %s: %v", desc.Digest, err)
		return 0
	}
	n := 1
	for _, d := range append(m.Manifests, m.Blobs...) {
		n += walk(t, src, d)
	}
	return n
}

func TestPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repository(t, "shop")
	r := prepare(t, app(t, template), w.images)
	if published, err := r.Check(t.Context(), repo); published || err != nil {
		t.Errorf("Check before = %t, %v, want false", published, err)
	}
	if got := w.written(); got != nil {
		t.Errorf("Prepare and Check wrote %q", got)
	}
	if err := pushTo(t, r, repo); err != nil {
		t.Fatalf("Push = %v", err)
	}
	if last := w.written(); len(last) == 0 || last[len(last)-1] != "PUT /v2/shop/manifests/1.0.0" {
		t.Errorf("the last write is not the version's tag: %q", last)
	}
	desc, err := repo.Resolve(t.Context(), "1.0.0")
	if err != nil || desc.Digest != r.Root.Descriptor.Digest {
		t.Fatalf("Resolve(1.0.0) = %s, %v, want %s", desc.Digest, err, r.Root.Descriptor.Digest)
	}
	// root, app, config and file; two indexes of three images of three parts.
	if got, want := walk(t, repo, desc), 4+2*(1+3*3); got != want {
		t.Errorf("the release reaches %d pieces, want %d", got, want)
	}
	got, err := artifact.ReadRelease(t.Context(), repo, desc)
	if err != nil {
		t.Fatal(err)
	}
	for key, image := range r.Images {
		if got.Images[key].Digest != image.Descriptor.Digest || image.Source != w.images[key].Name {
			t.Errorf("image of %s = %s from %s, want %s from %s", key, got.Images[key].Digest, image.Source, image.Descriptor.Digest, w.images[key].Name)
		}
	}

	// The same again writes nothing.
	again := prepare(t, app(t, template), w.images)
	if published, err := again.Check(t.Context(), repo); !published || err != nil {
		t.Errorf("Check after = %t, %v, want true", published, err)
	}
	if err := pushTo(t, again, repo); err != nil {
		t.Errorf("Push again = %v", err)
	}
	if got := w.written(); got != nil {
		t.Errorf("publishing the same again wrote %q", got)
	}
}

func TestVersionTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repository(t, "shop")
	first := prepare(t, app(t, template), w.images)
	if err := pushTo(t, first, repo); err != nil {
		t.Fatal(err)
	}
	other := prepare(t, app(t, strings.Replace(template, "kind: App", "kind: App\ntitle: Other", 1)), w.images)
	if published, err := other.Check(t.Context(), repo); published || !errors.Is(err, publish.ErrVersionTaken) {
		t.Errorf("Check = %t, %v, want %v", published, err, publish.ErrVersionTaken)
	}
	if err := pushTo(t, other, repo); !errors.Is(err, publish.ErrVersionTaken) {
		t.Errorf("Push = %v, want %v", err, publish.ErrVersionTaken)
	}
	if desc, err := repo.Resolve(t.Context(), "1.0.0"); err != nil || desc.Digest != first.Root.Descriptor.Digest {
		t.Errorf("Resolve(1.0.0) = %s, %v, want the first release", desc.Digest, err)
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	repo := s.repository(t, "origin")
	multiArch(t, repo, "both", "linux/amd64", "linux/arm64/v8")
	multiArch(t, repo, "amd64", "linux/amd64")
	single := image(t, repo, "single", ocispec.Platform{OS: "linux", Architecture: "amd64"})
	artifactOnly := image(t, repo, "none", ocispec.Platform{})
	tests := []struct{ platforms, reference, want string }{
		{"linux/amd64", "both", ""},
		{"linux/amd64, linux/arm64", "both", ""},
		{"linux/arm64/v8", "both", ""},
		{"linux/arm64/v9", "both", "offers [linux/amd64 linux/arm64 linux/arm64/v8], the template promises linux/arm64/v9 too"},
		{"unknown/unknown", "both", "offers [linux/amd64 linux/arm64 linux/arm64/v8], the template promises unknown/unknown too"},
		{"linux/amd64, linux/arm64", "amd64", "offers [linux/amd64], the template promises linux/arm64 too"},
		{"linux/amd64", single.Digest.String(), ""},
		{"linux/arm64", single.Digest.String(), "offers [linux/amd64], the template promises linux/arm64 too"},
		{"linux/amd64", artifactOnly.Digest.String(), "offers [], the template promises linux/amd64 too"},
	}
	for _, tt := range tests {
		a := app(t, "apiVersion: sealift/v1\nkind: App\nid: example.com/x\nversion: 1.0.0\nplatforms: ["+tt.platforms+"]\ncomponents: {a: {image: a}}\n")
		_, err := publish.Prepare(t.Context(), a, map[string]publish.Image{"a": {Source: repo, Reference: tt.reference, Name: "x"}}, time.Time{})
		var failed *publish.ImageError
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("Prepare(%s, %s) = %v, want nil", tt.platforms, tt.reference, err)
		case tt.want != "" && (!errors.As(err, &failed) || failed.Component != "a" || failed.Name != "x" || failed.Err.Error() != tt.want):
			t.Errorf("Prepare(%s, %s) = %v, want an ImageError, %s", tt.platforms, tt.reference, err, tt.want)
		}
	}
}

func TestPrepareReportsEveryImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	multiArch(t, w.web, "amd64", "linux/amd64")
	w.images["api"] = publish.Image{Source: w.web, Reference: "amd64", Name: "example.com/web:amd64"}
	w.images["db"] = publish.Image{Source: w.redis, Reference: "8", Name: "example.com/redis:8"}
	delete(w.images, "web")
	r, err := publish.Prepare(t.Context(), app(t, template), w.images, time.Time{})
	if r != nil || !errors.Is(err, errdef.ErrNotFound) {
		t.Fatalf("Prepare = %v, %v, want %v", r, err, errdef.ErrNotFound)
	}
	var got []string
	for line := range strings.Lines(err.Error()) {
		got = append(got, strings.Join(strings.SplitN(line, ": ", 3)[:2], ": "))
	}
	want := []string{"component api: image example.com/web:amd64", "component db: image example.com/redis:8", "component web: image example.com/web"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reported (-want +got):\n%s", diff)
	}
}

// Blobs that the same registry holds in another repository are not sent again.
func TestMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for key, from := range map[string]string{"web": "origin/web", "api": "origin/web", "db": "origin/redis"} {
		image := w.images[key]
		image.MountFrom = from
		w.images[key] = image
	}
	repo := w.repository(t, "shop")
	r := prepare(t, app(t, template), w.images)
	if err := pushTo(t, r, repo); err != nil {
		t.Fatal(err)
	}
	mounts, uploads := 0, 0
	for _, write := range w.written() {
		switch {
		case strings.Contains(write, "mount="):
			mounts++
		case strings.HasPrefix(write, "POST"):
			uploads++
		}
	}
	if mounts != 12 || uploads != 2 { // the template and its file are new
		t.Errorf("%d mounts and %d uploads, want 12 and 2", mounts, uploads)
	}
	walk(t, repo, r.Root.Descriptor)
}

// plain hides what a repository can do beyond the interface.
type plain struct{ registry.Repository }

func TestMountNotOffered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := w.images["db"]
	image.MountFrom = "origin/redis"
	w.images["db"] = image
	r := prepare(t, app(t, template), w.images)
	repo := w.repository(t, "shop")
	if err := pushTo(t, r, plain{repo}); err != nil {
		t.Fatalf("Push = %v", err)
	}
	walk(t, repo, r.Root.Descriptor)
}

// raced is a repository in which another publisher tags right after this one.
type raced struct {
	registry.Repository
	other ocispec.Descriptor
}

func (r raced) Tag(ctx context.Context, desc ocispec.Descriptor, tag string) error {
	return errors.Join(r.Repository.Tag(ctx, desc, tag), r.Repository.Tag(ctx, r.other, tag))
}

func TestRaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repository(t, "shop")
	other := image(t, repo, "other", ocispec.Platform{})
	r := prepare(t, app(t, template), w.images)
	err := pushTo(t, r, raced{repo, other})
	// Running again does not help: the version is theirs.
	if !errors.Is(err, publish.ErrRaced) || !errors.Is(err, publish.ErrVersionTaken) || errors.As(err, new(*mirror.IncompleteError)) {
		t.Errorf("Push = %v, want %v", err, publish.ErrRaced)
	}
}

// The signature stands before the name does, and whatever fails on the way leaves a
// version that is not there and can be pushed again.
func TestSignedBeforeNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repository(t, "shop")
	r := prepare(t, app(t, template), w.images)
	push := func(sign func(context.Context, ocispec.Descriptor) error, repo registry.Repository) error {
		p, err := r.Plan(t.Context(), repo)
		if err != nil {
			t.Fatal(err)
		}
		return r.Push(t.Context(), repo, p, publish.PushOptions{BeforeTag: sign})
	}
	unnamed := func(when string) {
		t.Helper()
		if _, err := repo.Resolve(t.Context(), "1.0.0"); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("Resolve(1.0.0) %s = %v, want %v", when, err, errdef.ErrNotFound)
		}
	}
	denied := errors.New("the key is locked")
	var incomplete *mirror.IncompleteError
	err := push(func(ctx context.Context, root ocispec.Descriptor) error {
		unnamed("while it is signed")
		if got := walk(t, repo, root); root.Digest != r.Root.Descriptor.Digest || got != 4+2*(1+3*3) {
			t.Errorf("BeforeTag(%s) with %d pieces, want the whole root %s", root.Digest, got, r.Root.Descriptor.Digest)
		}
		return denied
	}, repo)
	if !errors.Is(err, denied) || !errors.As(err, &incomplete) || incomplete.Stored != incomplete.Total {
		t.Errorf("Push = %v, want %v as what can be completed", err, denied)
	}
	unnamed("unsigned")
	if err := push(nil, refusing{repo, denied}); !errors.Is(err, denied) || !errors.As(err, &incomplete) {
		t.Errorf("Push without a tag = %v, want %v as what can be completed", err, denied)
	}
	signed := 0
	sign := func(context.Context, ocispec.Descriptor) error { signed++; return nil }
	for range 2 { // signing is repaired also where the name stands already
		if err := push(sign, repo); err != nil {
			t.Errorf("Push again = %v", err)
		}
	}
	if desc, err := repo.Resolve(t.Context(), "1.0.0"); err != nil || desc.Digest != r.Root.Descriptor.Digest || signed != 2 {
		t.Errorf("Resolve(1.0.0) = %s, %v, signed %d times, want the release, signed twice", desc.Digest, err, signed)
	}
	other := prepare(t, app(t, strings.Replace(template, "kind: App", "kind: App\ntitle: Other", 1)), w.images)
	r = other
	if err := push(sign, repo); !errors.Is(err, publish.ErrVersionTaken) || signed != 2 {
		t.Errorf("Push of other content = %v, signed %d times, want %v and no signature", err, signed-2, publish.ErrVersionTaken)
	}
}

// refusing is a repository that takes no tags.
type refusing struct {
	registry.Repository
	err error
}

func (r refusing) Tag(context.Context, ocispec.Descriptor, string) error { return r.err }

// A document that does not arrive is no reason to begin anew.
func TestDocumentsCanBeCompleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repository(t, "shop")
	r := prepare(t, app(t, template), w.images)
	broken := errors.New("connection reset")
	p, err := r.Plan(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Push(t.Context(), failingPush{repo, r.Root.Descriptor, broken}, p, publish.PushOptions{})
	var incomplete *mirror.IncompleteError
	if !errors.Is(err, broken) || !errors.As(err, &incomplete) || incomplete.Total-incomplete.Stored != r.Root.Descriptor.Size {
		t.Errorf("Push = %v, want all but the root stored", err)
	}
}

// failingPush does not take one piece of content.
type failingPush struct {
	registry.Repository
	desc ocispec.Descriptor
	err  error
}

func (f failingPush) Push(ctx context.Context, d ocispec.Descriptor, r io.Reader) error {
	if d.Digest == f.desc.Digest {
		return f.err
	}
	return f.Repository.Push(ctx, d, r)
}

// Signatures of the images travel with the release.
func TestImageSignaturesTravel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	desc, err := w.redis.Resolve(t.Context(), "7.2")
	if err != nil {
		t.Fatal(err)
	}
	cfg := push(t, w.redis, "application/vnd.example.signature", []byte(`{"s":1}`))
	referrer := push(t, w.redis, ocispec.MediaTypeImageManifest, encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: cfg, Layers: []ocispec.Descriptor{}, Subject: &desc,
	}))
	tag := strings.Replace(desc.Digest.String(), ":", "-", 1) + ".sig"
	tagged := image(t, w.redis, "tagged signature", ocispec.Platform{})
	if err := w.redis.Tag(t.Context(), tagged, tag); err != nil {
		t.Fatal(err)
	}
	repo := w.repository(t, "shop")
	for range 2 {
		if err := pushTo(t, prepare(t, app(t, template), w.images), repo); err != nil {
			t.Fatal(err)
		}
		var got []string
		err = repo.Referrers(t.Context(), desc, "", func(list []ocispec.Descriptor) error {
			for _, d := range list {
				got = append(got, d.Digest.String())
			}
			return nil
		})
		if err != nil || !slices.Equal(got, []string{referrer.Digest.String()}) {
			t.Errorf("Referrers = %q, %v, want %s", got, err, referrer.Digest)
		}
		if d, err := repo.Resolve(t.Context(), tag); err != nil || d.Digest != tagged.Digest {
			t.Errorf("Resolve(%s) = %s, %v, want %s", tag, d.Digest, err, tagged.Digest)
		}
		w.written()
	}
	if err := pushTo(t, prepare(t, app(t, template), w.images), repo); err != nil || w.written() != nil {
		t.Errorf("publishing the same again wrote, %v", err)
	}
}
