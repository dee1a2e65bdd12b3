package layout_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/internal/layout"
)

const (
	shop = "registry.example.com/shop"
	db   = "registry.example.com/db"
)

// shopLayout has two repositories. shop has an index of an image and of one
// that is left out, an SBOM of the image, a signature of the SBOM, and a
// signature by tag.
type shopLayout struct {
	dir                                          string
	index, image, missing, sbom, sig, tagged, db ocispec.Descriptor
	schemeTag                                    string
}

func newShop(t *testing.T) *shopLayout {
	t.Helper()
	s := &shopLayout{dir: t.TempDir()}
	w := writer(t, s.dir)
	s.image = image(t, w, "amd64")
	s.missing = describe(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":{}}`))
	s.index = imageIndex(t, w, s.image, s.missing)
	s.sbom = referrer(t, w, s.image, sbomType, "sbom")
	s.sig = referrer(t, w, s.sbom, "application/x-signature", "signature")
	s.tagged = image(t, w, "signature by tag")
	s.db = image(t, w, "db")
	s.schemeTag = "sha256-" + s.index.Digest.Encoded() + ".sig"
	setRoot(t, w, shop+":1.0.0", "shop-1.0.0", s.index)
	setRoot(t, w, shop+":"+s.schemeTag, s.schemeTag, s.tagged)
	setRoot(t, w, db+":7", "", s.db)
	for _, d := range []ocispec.Descriptor{s.sbom, s.sig} {
		if err := w.AddUntagged(d); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, w)
	closeWriter(t, w)
	return s
}

func tags(t *testing.T, r *layout.Repository, last string) []string {
	t.Helper()
	var all []string
	if err := r.Tags(t.Context(), last, func(tags []string) error { all = append(all, tags...); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func referrers(t *testing.T, r registry.ReferrerLister, desc ocispec.Descriptor, artifactType string) []ocispec.Descriptor {
	t.Helper()
	var all []ocispec.Descriptor
	if err := r.Referrers(t.Context(), desc, artifactType, func(d []ocispec.Descriptor) error { all = append(all, d...); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	l := open(t, s.dir)
	if diff := cmp.Diff([]string{db, shop}, l.Repositories()); diff != "" {
		t.Errorf("Repositories (-want +got):\n%s", diff)
	}
	want := db + ":7 " + shop + ":1.0.0 " + shop + ":" + s.schemeTag
	if got := rootNames(l); got != want {
		t.Errorf("Roots = %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"1.0.0", s.schemeTag}, tags(t, l.Repository(shop), "")); diff != "" {
		t.Errorf("Tags (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{s.schemeTag}, tags(t, l.Repository(shop), "1.0.0")); diff != "" {
		t.Errorf("Tags after 1.0.0 (-want +got):\n%s", diff)
	}
	for _, last := range []string{s.schemeTag, "zzz"} {
		if got := tags(t, l.Repository(shop), last); got != nil {
			t.Errorf("Tags after %s = %v, want none", last, got)
		}
	}
}

func TestRepositoryHoldsItsClosure(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	l := open(t, s.dir)
	layer := describe(ocispec.MediaTypeImageLayer, []byte("layer of amd64"))
	dbLayer := describe(ocispec.MediaTypeImageLayer, []byte("layer of db"))
	inShop := []ocispec.Descriptor{s.index, s.image, s.sbom, s.sig, s.tagged}
	for _, tt := range []struct {
		repository string
		desc       []ocispec.Descriptor
		want       bool
	}{
		{shop, inShop, true},
		{shop, []ocispec.Descriptor{layer}, true},
		{shop, []ocispec.Descriptor{s.db, dbLayer, s.missing}, false},
		{db, []ocispec.Descriptor{s.db, dbLayer}, true},
		{db, append(inShop, layer), false},
		{"registry.example.com/unknown", append(inShop, layer, s.db), false},
	} {
		r := l.Repository(tt.repository)
		for _, desc := range tt.desc {
			ok, err := r.Exists(t.Context(), desc)
			if err != nil || ok != tt.want {
				t.Errorf("%s: Exists(%s) = %v, %v, want %v", tt.repository, desc.Digest, ok, err, tt.want)
			}
			rc, err := r.Fetch(t.Context(), desc)
			if err == nil {
				rc.Close()
			}
			if (err == nil) != tt.want || err != nil && !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("%s: Fetch(%s) = %v, want found: %v", tt.repository, desc.Digest, err, tt.want)
			}
		}
	}
}

func TestRepositoryResolve(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := open(t, s.dir).Repository(shop)
	for reference, want := range map[string]ocispec.Descriptor{
		"1.0.0":                 s.index,
		s.schemeTag:             s.tagged,
		s.index.Digest.String(): s.index,
		s.image.Digest.String(): s.image,
		s.sig.Digest.String():   s.sig,
	} {
		got, err := r.Resolve(t.Context(), reference)
		if err != nil {
			t.Errorf("Resolve(%s): %v", reference, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Resolve(%s) (-want +got):\n%s", reference, diff)
		}
	}
	layer := digest.FromString("layer of amd64")
	for _, reference := range []string{"", "2.0.0", "shop-1.0.0", "7", s.db.Digest.String(), s.missing.Digest.String(), layer.String(), "sha256:../x"} {
		if _, err := r.Resolve(t.Context(), reference); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("Resolve(%s) = %v, want %v", reference, err, errdef.ErrNotFound)
		}
	}
	if got, err := r.Blob(t.Context(), layer); err != nil || got.Size != 14 {
		t.Errorf("Blob = %+v, %v, want 14 bytes", got, err)
	}
	if _, err := r.Blob(t.Context(), digest.FromString("layer of db")); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Blob of another repository = %v, want %v", err, errdef.ErrNotFound)
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	l := open(t, s.dir)
	r := l.Repository(shop)
	want := s.sbom
	want.ArtifactType, want.Annotations = sbomType, map[string]string{"text": "sbom"}
	for _, kind := range []string{"", sbomType} {
		if diff := cmp.Diff([]ocispec.Descriptor{want}, referrers(t, r, s.image, kind)); diff != "" {
			t.Errorf("Referrers of type %q (-want +got):\n%s", kind, diff)
		}
	}
	if got := referrers(t, r, s.sbom, ""); len(got) != 1 || got[0].Digest != s.sig.Digest {
		t.Errorf("Referrers of the SBOM = %v, want its signature", got)
	}
	if got := referrers(t, r, s.image, "text/other"); got != nil {
		t.Errorf("Referrers of another type = %v, want none", got)
	}
	if got := referrers(t, l.Repository(db), s.image, ""); got != nil {
		t.Errorf("Referrers in another repository = %v, want none", got)
	}
}

// A damaged manifest takes away what only it leads to, and is told of.
func TestDamagedManifest(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	l := open(t, s.dir)
	raw := read(t, l.BlobPath(s.image.Digest))
	raw[len(raw)-3] ^= 1
	write(t, raw, l.BlobPath(s.image.Digest))

	var damaged *layout.ManifestError
	if err := l.Damage(t.Context()); !errors.As(err, &damaged) || damaged.Digest != s.image.Digest {
		t.Errorf("Damage = %v, want a ManifestError of %s", err, s.image.Digest)
	}
	if _, err := l.Repository(shop).Resolve(t.Context(), s.image.Digest.String()); !errors.As(err, &damaged) {
		t.Errorf("Resolve = %v, want a ManifestError", err)
	}
	if got := referrers(t, l.Repository(shop), s.image, ""); len(got) != 1 {
		t.Errorf("Referrers = %v, want the SBOM still", got)
	}
	if _, err := l.Repository(db).Resolve(t.Context(), "7"); err != nil {
		t.Errorf("the other repository: %v", err)
	}
	if err := open(t, newShop(t).dir).Damage(t.Context()); err != nil {
		t.Errorf("Damage of a sound sparse layout = %v", err)
	}
}

func TestFetchTruncatedBlob(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	l := open(t, s.dir)
	if err := os.Truncate(l.BlobPath(s.image.Digest), 5); err != nil {
		t.Fatal(err)
	}
	var size *layout.SizeError
	if _, err := l.Fetch(t.Context(), s.image); !errors.As(err, &size) || size.Got != 5 {
		t.Errorf("Fetch = %v, want a SizeError of 5 bytes", err)
	}
	if ok, err := l.Exists(t.Context(), s.image); ok || err != nil {
		t.Errorf("Exists = %v, %v, want false", ok, err)
	}
}

// Layouts of other tools: bare tags, the name for containerd, no name at all,
// signatures under a bare tag.
func TestForeignLayouts(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "My Stick_1")
	store, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(kind string) ocispec.Descriptor {
		desc, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, kind, oras.PackManifestOptions{
			ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: "2024-01-01T00:00:00Z"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	app, sig, nameless := pack("application/app"), pack("application/sig"), pack("application/nameless")
	schemeTag := "sha256-" + app.Digest.Encoded() + ".sig"
	for desc, tag := range map[string]ocispec.Descriptor{"1.0": app, schemeTag: sig} {
		if err := store.Tag(t.Context(), tag, desc); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, dir)
	if diff := cmp.Diff([]string{"my-stick-1"}, l.Repositories()); diff != "" {
		t.Fatalf("Repositories (-want +got):\n%s", diff)
	}
	r := l.Repository("my-stick-1")
	for reference, want := range map[string]ocispec.Descriptor{"1.0": app, schemeTag: sig, nameless.Digest.String(): nameless} {
		if got, err := r.Resolve(t.Context(), reference); err != nil || got.Digest != want.Digest {
			t.Errorf("Resolve(%s) = %v, %v, want %s", reference, got.Digest, err, want.Digest)
		}
	}

	// The same with a full name beside the tag, as docker save writes it: the
	// tag is no repository of its own, and the signature follows its subject.
	raw := strings.Replace(string(read(t, dir, "index.json")), `"org.opencontainers.image.ref.name":"1.0"`,
		`"io.containerd.image.name":"docker.io/library/app:1.0","org.opencontainers.image.ref.name":"1.0"`, 1)
	write(t, []byte(raw), dir, "index.json")
	l = open(t, dir)
	if diff := cmp.Diff([]string{"docker.io/library/app"}, l.Repositories()); diff != "" {
		t.Errorf("Repositories (-want +got):\n%s", diff)
	}
	r = l.Repository("docker.io/library/app")
	if diff := cmp.Diff([]string{"1.0", schemeTag}, tags(t, r, "")); diff != "" {
		t.Errorf("Tags (-want +got):\n%s", diff)
	}
	for _, name := range []string{"1.0", "docker.io/library/app:1.0"} {
		if got, err := l.Resolve(t.Context(), name); err != nil || got.Digest != app.Digest {
			t.Errorf("Resolve(%s) = %v, %v, want %s", name, got.Digest, err, app.Digest)
		}
	}
}

func TestLocalName(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]string{"/": "layout", "/mnt/USB Stick": "usb-stick", "/x/---": "layout", "/x/Größe.2": "gr-e-2", "media/": "media"} {
		if got := layout.LocalName(dir); got != want {
			t.Errorf("LocalName(%q) = %q, want %q", dir, got, want)
		}
	}
}

// Media is hostile: nothing in it leads out of its directory or blocks.
func TestLinksOutOfTheLayout(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("making symbolic links needs a privilege on Windows")
	}
	s := newShop(t)
	l := open(t, s.dir)
	secret := filepath.Join(t.TempDir(), "secret")
	raw := read(t, l.BlobPath(s.image.Digest))
	write(t, raw, secret)
	if err := os.Remove(l.BlobPath(s.image.Digest)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, l.BlobPath(s.image.Digest)); err != nil {
		t.Fatal(err)
	}
	if rc, err := l.Fetch(t.Context(), s.image); err == nil {
		rc.Close()
		t.Error("Fetch followed a link out of the layout")
	}
	if got := l.BlobPath("sha256:../../x"); got != "" {
		t.Errorf("BlobPath of a bad digest = %q, want none", got)
	}
}

// The repository of a writer takes what a registry takes.
func TestWritableRepository(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	w := writer(t, s.dir)
	r := w.WritableRepository(shop)
	att, err := oras.PackManifest(t.Context(), r, oras.PackManifestVersion1_1, "application/att", oras.PackManifestOptions{Subject: &s.index})
	if err != nil {
		t.Fatal(err)
	}
	if got := referrers(t, r, s.index, "application/att"); len(got) != 1 || got[0].Digest != att.Digest {
		t.Errorf("Referrers before the commit = %v, want %s", got, att.Digest)
	}
	tag := "sha256-" + s.index.Digest.Encoded() + ".att"
	if err := r.Tag(t.Context(), att, tag); err != nil {
		t.Fatal(err)
	}
	if err := r.Tag(t.Context(), s.missing, "x"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Tag of a missing manifest = %v, want %v", err, errdef.ErrNotFound)
	}
	commit(t, w)
	l := open(t, s.dir)
	if got := referrers(t, l.Repository(shop), s.index, "application/att"); len(got) != 1 {
		t.Errorf("Referrers after the commit = %v, want one", got)
	}
	for _, name := range []string{tag, shop + ":" + tag} {
		if got, err := l.Resolve(t.Context(), name); err != nil || got.Digest != att.Digest {
			t.Errorf("Resolve(%s) = %v, %v, want %s", name, got.Digest, err, att.Digest)
		}
	}
}

func TestCancelledReadingIsNotKept(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := open(t, s.dir).Repository(shop)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Resolve(ctx, "1.0.0"); !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve = %v, want %v", err, context.Canceled)
	}
	if _, err := r.Resolve(t.Context(), "1.0.0"); err != nil {
		t.Errorf("Resolve afterwards = %v", err)
	}
}
