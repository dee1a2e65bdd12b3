package layout_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

func TestNewLayoutIsReadable(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	closeWriter(t, writer(t, dir))
	if l := open(t, dir); len(l.Roots()) != 0 || len(l.Repositories()) != 0 {
		t.Errorf("new layout has %v", l.Roots())
	}
	if _, err := oci.New(dir); err != nil {
		t.Errorf("oras refuses it: %v", err)
	}
}

// The index depends on the set of its entries, not on order, repetition or
// where descriptors came from.
func TestIndexIsReproducible(t *testing.T) {
	t.Parallel()
	build := func(dir string, order []int, decorate bool) string {
		w := writer(t, dir)
		one, two := image(t, w, "one"), image(t, w, "two")
		ref := referrer(t, w, one, sbomType, "sbom")
		if decorate {
			one.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
			ref.ArtifactType, ref.Annotations = sbomType, map[string]string{"text": "sbom"}
		}
		steps := []func(){
			func() { setRoot(t, w, oneName, "one-1.0.0", one) },
			func() { setRoot(t, w, twoName, "two-1.0.0", two) },
			func() {
				if err := w.AddUntagged(ref); err != nil {
					t.Fatal(err)
				}
			},
		}
		for _, i := range order {
			steps[i]()
			commit(t, w)
		}
		return string(read(t, dir, "index.json"))
	}
	a := build(t.TempDir(), []int{0, 1, 2}, false)
	b := build(t.TempDir(), []int{2, 1, 0, 2, 1}, true)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(a, `"digest"`); n != 5 {
		t.Errorf("%d entries, want two roots twice and a referrer: %s", n, a)
	}
	if !strings.Contains(a, `"io.containerd.image.name":"`+oneName+`","org.opencontainers.image.ref.name":"`+oneName+`"`) {
		t.Errorf("no entry for containerd: %s", a)
	}
}

func TestCommitWithoutChangeWritesNothing(t *testing.T) {
	t.Parallel()
	dir, _, second := twoCommits(t)
	before := slots(t, dir)
	w := writer(t, dir)
	commit(t, w)
	if diff := cmp.Diff(before, slots(t, dir)); diff != "" {
		t.Error(diff)
	}
	if got := read(t, dir, "index.json"); !bytes.Equal(got, second) {
		t.Errorf("index.json = %s, want %s", got, second)
	}
}

func TestSetRootMovesNameAndAlias(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	one, two := image(t, w, "one"), image(t, w, "two")
	setRoot(t, w, oneName, "old-alias", one)
	setRoot(t, w, oneName, "new-alias", two)
	if got, err := w.Resolve(t.Context(), oneName); err != nil || got.Digest != two.Digest {
		t.Errorf("uncommitted Resolve = %v, %v, want %s", got.Digest, err, two.Digest)
	}
	if l := open(t, dir); len(l.Roots()) != 0 {
		t.Errorf("a reader sees %v before the commit", l.Roots())
	}
	commit(t, w)
	l := open(t, dir)
	for _, name := range []string{oneName, "new-alias", two.Digest.String(), "registry.example.com/a/one@" + two.Digest.String(), oneName + "@" + two.Digest.String()} {
		if got, err := l.Resolve(t.Context(), name); err != nil || got.Digest != two.Digest {
			t.Errorf("Resolve(%s) = %v, %v, want %s", name, got.Digest, err, two.Digest)
		}
	}
	for _, name := range []string{"old-alias", one.Digest.String(), "registry.example.com/a/two@" + two.Digest.String()} {
		if _, err := l.Resolve(t.Context(), name); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("Resolve(%s) = %v, want %v", name, err, errdef.ErrNotFound)
		}
	}
	if err := w.RemoveRoot(oneName); err != nil {
		t.Fatal(err)
	}
	commit(t, w)
	if l := open(t, dir); len(l.Entries()) != 0 {
		t.Errorf("after RemoveRoot: %v", l.Entries())
	}
}

func TestSetRootRefuses(t *testing.T) {
	t.Parallel()
	w := writer(t, t.TempDir())
	desc := image(t, w, "one")
	for _, name := range []string{"", "one:1.0", "registry.example.com/a", "registry.example.com/A:1", "../a:1", "registry.example.com/a:b c", "registry.example.com/a/../b:1", "registry.example.com/" + strings.Repeat("a", 300) + ":1"} {
		if err := w.SetRoot(name, "", desc); !errors.Is(err, errdef.ErrInvalidReference) {
			t.Errorf("SetRoot(%q) = %v, want %v", name, err, errdef.ErrInvalidReference)
		}
	}
	if err := w.SetRoot(oneName, "a/b", desc); !errors.Is(err, errdef.ErrInvalidReference) {
		t.Errorf("SetRoot with alias a/b = %v, want %v", err, errdef.ErrInvalidReference)
	}
	desc.Digest = "sha256:../../x"
	if err := w.SetRoot(oneName, "", desc); !errors.Is(err, errdef.ErrInvalidDigest) {
		t.Errorf("SetRoot = %v, want %v", err, errdef.ErrInvalidDigest)
	}
	if err := w.AddUntagged(desc); !errors.Is(err, errdef.ErrInvalidDigest) {
		t.Errorf("AddUntagged = %v, want %v", err, errdef.ErrInvalidDigest)
	}
}

// A name never leads to nothing: the manifest comes first.
func TestCommitNeedsTheManifest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	content := []byte(`{"schemaVersion":2}`)
	desc := describe(ocispec.MediaTypeImageIndex, content)
	setRoot(t, w, oneName, "", desc)
	if err := w.Commit(t.Context()); !errors.Is(err, errdef.ErrNotFound) {
		t.Fatalf("Commit = %v, want %v", err, errdef.ErrNotFound)
	}
	push(t, w, desc.MediaType, content)
	commit(t, w)
	if got := rootNames(open(t, dir)); got != oneName {
		t.Errorf("roots %q, want %q", got, oneName)
	}
}

// Other tools know nothing of the lock. What they write beside an open writer
// is kept.
func TestCommitKeepsForeignEdit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	setRoot(t, w, oneName, "one-1.0.0", image(t, w, "one"))
	commit(t, w)
	setRoot(t, w, twoName, "two-1.0.0", image(t, w, "two"))

	store, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, "text/plain", oras.PackManifestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Tag(t.Context(), desc, "theirs"); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Resolve(t.Context(), "theirs"); err != nil {
		t.Errorf("before the commit: %v", err)
	}
	commit(t, w)
	l := open(t, dir)
	for _, name := range []string{"theirs", oneName, twoName, "one-1.0.0", "two-1.0.0"} {
		if _, err := l.Resolve(t.Context(), name); err != nil {
			t.Errorf("Resolve(%s): %v", name, err)
		}
	}
}

func TestOrasCopiesFromCommittedLayout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	index := imageIndex(t, w, image(t, w, "amd64"), image(t, w, "arm64"))
	sbom := referrer(t, w, index, sbomType, "sbom")
	setRoot(t, w, "registry.example.com/shop:1.0.0", "shop-1.0.0", index)
	if err := w.AddUntagged(sbom); err != nil {
		t.Fatal(err)
	}
	commit(t, w)

	store, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := memory.New()
	desc, err := oras.ExtendedCopy(t.Context(), store, "shop-1.0.0", got, "copied", oras.DefaultExtendedCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest != index.Digest {
		t.Errorf("alias resolves to %s, want %s", desc.Digest, index.Digest)
	}
	for _, want := range []ocispec.Descriptor{index, sbom} {
		if ok, err := got.Exists(t.Context(), want); err != nil || !ok {
			t.Errorf("copy has %s: %v, %v", want.Digest, ok, err)
		}
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	_, err := layout.OpenWriter(t.Context(), dir)
	var locked *layout.LockedError
	if !errors.As(err, &locked) || !errors.Is(err, layout.ErrLocked) {
		t.Fatalf("second OpenWriter = %v, want a LockedError", err)
	}
	if !strings.Contains(locked.Holder, "pid ") || !strings.Contains(locked.Holder, "host ") {
		t.Errorf("Holder = %q, want pid and host", locked.Holder)
	}
	open(t, dir) // readers are not kept out
	closeWriter(t, w)
	closeWriter(t, w)
	if err := w.Commit(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Close = %v, want %v", err, fs.ErrClosed)
	}
	if err := w.Push(t.Context(), describe("text/plain", []byte("x")), strings.NewReader("x")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Push after Close = %v, want %v", err, fs.ErrClosed)
	}
	writer(t, dir)
}

// A layout never starts over an index that was lost.
func TestOpenWriterRefusesCorruptIndex(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
	write(t, nil, dir, "index.json")
	if _, err := layout.OpenWriter(t.Context(), dir); !errors.Is(err, layout.ErrCorruptIndex) {
		t.Errorf("OpenWriter = %v, want %v", err, layout.ErrCorruptIndex)
	}
	if err := os.Remove(filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	writer(t, dir)
}
