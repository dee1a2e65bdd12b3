package layout_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

func join(t *testing.T, dirs ...string) *layout.Layout {
	t.Helper()
	var layouts []*layout.Layout
	for _, dir := range dirs {
		layouts = append(layouts, open(t, dir))
	}
	l, err := layout.Join(layouts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// volumes are two volumes of the shop: both have the manifests, each one of the
// layers, and each some segments of a large one.
func volumes(t *testing.T) (dirs []string, small, large ocispec.Descriptor, blob []byte) {
	t.Helper()
	blob = noise(2500)
	large = describe(ocispec.MediaTypeImageLayer, blob)
	small = describe(ocispec.MediaTypeImageLayer, []byte("layer of amd64"))
	for volume := range 2 {
		s := newShop(t)
		w := writer(t, s.dir)
		src := &source{content: blob}
		keep := func(n int) bool { return n%2 == volume }
		if _, err := w.IngestSegments(t.Context(), large, 1000, keep, src.open); err != nil {
			t.Fatal(err)
		}
		left := []ocispec.Descriptor{small, describe("", []byte("layer of db"))}[volume]
		if err := w.Delete(t.Context(), left); err != nil {
			t.Fatal(err)
		}
		closeWriter(t, w)
		dirs = append(dirs, s.dir)
	}
	return dirs, small, large, blob
}

func TestJoin(t *testing.T) {
	t.Parallel()
	dirs, small, large, blob := volumes(t)
	for range 2 {
		slices.Reverse(dirs) // in any order
		one, l := open(t, dirs[0]), join(t, dirs...)
		if l.Dir() != dirs[0] {
			t.Errorf("Dir = %s, want the first, %s", l.Dir(), dirs[0])
		}
		if diff := cmp.Diff(one.Entries(), l.Entries()); diff != "" {
			t.Errorf("Entries (-one +joined):\n%s", diff)
		}
		if diff := cmp.Diff(one.Repositories(), l.Repositories()); diff != "" {
			t.Errorf("Repositories (-one +joined):\n%s", diff)
		}
		if diff := cmp.Diff(tags(t, one.Repository(shop), ""), tags(t, l.Repository(shop), "")); diff != "" {
			t.Errorf("Tags (-one +joined):\n%s", diff)
		}
		for _, desc := range []ocispec.Descriptor{small, describe("", []byte("layer of db")), large} {
			if ok, err := l.Exists(t.Context(), desc); err != nil || !ok {
				t.Errorf("Exists(%s) = %v, %v, want true", desc.Digest, ok, err)
			}
			fetch(t, l, desc)
		}
		if !bytes.Equal(fetch(t, l, large), blob) {
			t.Error("segments of two volumes are not the blob")
		}
		if got, err := l.Segments(t.Context(), large); err != nil || !slices.Equal(got, []int{0, 1, 2}) {
			t.Errorf("Segments = %v, %v, want all three", got, err)
		}
		fetch(t, l.Repository(shop), small)
		if err := l.Damage(t.Context()); err != nil {
			t.Errorf("Damage = %v", err)
		}
		if got, want := string(read(t, l.BlobPath(small.Digest))), "layer of amd64"; got != want {
			t.Errorf("BlobPath leads to %q, want %q", got, want)
		}
		if ok, err := one.Exists(t.Context(), large); err != nil || ok {
			t.Errorf("one volume: Exists = %v, %v, want false", ok, err)
		}
	}
}

// A volume with a damaged copy does not hide another's sound one.
func TestJoinPrefersWhatIsSound(t *testing.T) {
	t.Parallel()
	dirs, small, large, blob := volumes(t)
	first := open(t, dirs[0])
	desc, err := first.Resolve(t.Context(), shop+":1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	raw := read(t, first.BlobPath(desc.Digest))
	raw[10] ^= 1
	write(t, raw, first.BlobPath(desc.Digest))
	write(t, []byte("cut"), first.BlobPath(small.Digest))
	write(t, blob[:700], segmentPath(dirs[0], large.Digest, "001"))
	if err := first.Damage(t.Context()); err == nil {
		t.Fatal("a damaged volume has no damage")
	}
	l := join(t, dirs...)
	if err := l.Damage(t.Context()); err != nil {
		t.Errorf("Damage = %v", err)
	}
	fetch(t, l.Repository(shop), desc)
	if flaws := l.Flaws(); len(flaws) != 1 || flaws[0].Blob.Digest != desc.Digest || flaws[0].Dir != dirs[0] {
		t.Errorf("Flaws = %v, want the manifest in %s", flaws, dirs[0])
	}
	fetch(t, l, small)
	if !bytes.Equal(fetch(t, l, large), blob) {
		t.Error("segments of two volumes are not the blob")
	}
}

// A name that stands for two manifests is an error for who asks for it, and for
// nobody else.
func TestJoinConflict(t *testing.T) {
	t.Parallel()
	const other = "registry.example.com/a/other:1.0.0"
	var layouts []*layout.Layout
	var digests, alone [2]digest.Digest
	for i, text := range []string{"one", "two"} {
		w := writer(t, t.TempDir())
		desc, own := image(t, w, text), image(t, w, "only on "+text)
		digests[i], alone[i] = desc.Digest, own.Digest
		setRoot(t, w, oneName, "one-1.0.0", desc)
		setRoot(t, w, []string{other, "registry.example.com/b/own:1.0.0"}[i], "own-1.0.0", own) // an alias for two
		commit(t, w)
		layouts = append(layouts, w.Layout)
	}
	joined, err := layout.Join(layouts...)
	if err != nil {
		t.Fatal(err)
	}
	again, err := layout.Join(joined, layouts[0])
	if err != nil {
		t.Fatal(err)
	}
	repository, tag, _ := strings.Cut(oneName, ":")
	for _, l := range []*layout.Layout{joined, again} {
		_, byName := l.Resolve(t.Context(), oneName)
		_, byTag := l.Repository(repository).Resolve(t.Context(), tag)
		for _, err := range []error{byName, byTag} {
			var conflict *layout.ConflictError
			if !errors.As(err, &conflict) || conflict.Digests != digests {
				t.Fatalf("Resolve = %v, want a ConflictError of %v", err, digests)
			}
			for _, want := range []string{oneName, digests[0].String(), digests[1].String(), layouts[0].Dir(), layouts[1].Dir()} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %s", err, want)
				}
			}
		}
		if got := tags(t, l.Repository(repository), ""); !slices.Contains(got, tag) {
			t.Errorf("Tags = %v, want %s among them", got, tag)
		}
		for _, d := range digests {
			desc, err := l.Repository(repository).Resolve(t.Context(), d.String())
			if err != nil {
				t.Fatalf("by digest: %v", err)
			}
			fetch(t, l.Repository(repository), desc)
		}
		if got, err := l.Resolve(t.Context(), other); err != nil || got.Digest != alone[0] {
			t.Errorf("Resolve(%s) = %v, %v, want %s", other, got.Digest, err, alone[0])
		}
		var conflict *layout.ConflictError
		if _, err := l.Resolve(t.Context(), "own-1.0.0"); !errors.As(err, &conflict) {
			t.Errorf("Resolve of an alias for two = %v, want a ConflictError", err)
		}
	}
	if _, err := layout.Join(); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Join of nothing = %v, want %v", err, fs.ErrInvalid)
	}
}

// Bare tags, as other tools write them, are contested too.
func TestJoinConflictOfBareTags(t *testing.T) {
	t.Parallel()
	var layouts []*layout.Layout
	for _, text := range []string{"old", "new"} {
		dir := filepath.Join(t.TempDir(), "images")
		desc := describe(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"annotations":{"x":"`+text+`"}}`))
		entry := `{"mediaType":"` + desc.MediaType + `","digest":"` + desc.Digest.String() + `","size":` + strconv.FormatInt(desc.Size, 10) +
			`,"annotations":{"org.opencontainers.image.ref.name":"latest"}}`
		write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
		write(t, []byte(`{"schemaVersion":2,"manifests":[`+entry+`]}`), dir, "index.json")
		write(t, []byte(`{"schemaVersion":2,"annotations":{"x":"`+text+`"}}`), dir, "blobs", "sha256", desc.Digest.Encoded())
		layouts = append(layouts, open(t, dir))
	}
	l, err := layout.Join(layouts...)
	if err != nil {
		t.Fatal(err)
	}
	var conflict *layout.ConflictError
	if _, err := l.Repository("images").Resolve(t.Context(), "latest"); !errors.As(err, &conflict) {
		t.Fatalf("Resolve = %v, want a ConflictError", err)
	}
	for _, d := range conflict.Digests {
		if _, err := l.Repository("images").Resolve(t.Context(), d.String()); err != nil {
			t.Errorf("by digest: %v", err)
		}
	}
}

// Of two entries with one name in one index the last counts, and does so still
// when the volumes are joined.
func TestJoinOfRepeatedNames(t *testing.T) {
	t.Parallel()
	old, now := digest.FromString("old"), digest.FromString("new")
	for annotation, name := range map[string]string{
		"org.opencontainers.image.ref.name": "x",
		"io.containerd.image.name":          "registry.example.com/app:1",
	} {
		entry := func(d digest.Digest) string {
			return `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + d.String() + `","size":3,"annotations":{"` + annotation + `":"` + name + `"}}`
		}
		var dirs []string
		for _, entries := range []string{entry(now), entry(old) + "," + entry(now)} {
			dir := t.TempDir()
			write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
			write(t, []byte(`{"schemaVersion":2,"manifests":[`+entries+`]}`), dir, "index.json")
			write(t, []byte("new"), dir, "blobs", "sha256", now.Encoded())
			dirs = append(dirs, dir)
		}
		for range 2 {
			slices.Reverse(dirs)
			l := join(t, dirs...)
			if got, err := l.Resolve(t.Context(), name); err != nil || got.Digest != now {
				t.Errorf("Resolve(%s) = %v, %v, want %s", name, got.Digest, err, now)
			}
			if n := len(l.Entries()); n != 1 {
				t.Errorf("%s: %d entries, want 1", name, n)
			}
		}
	}
}

// A disc that was taken out is an error only for what nothing else has.
func TestJoinedVolumeIsGone(t *testing.T) {
	t.Parallel()
	dirs, small, large, _ := volumes(t)
	l := join(t, dirs...)
	remove(t, dirs[0]) // has the layer of db
	fetch(t, l, small)
	for _, desc := range []ocispec.Descriptor{describe("", []byte("layer of db")), large} {
		_, err := l.Fetch(t.Context(), desc)
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("Fetch = %v, want the error of the volume", err)
		}
		if _, err := l.Exists(t.Context(), desc); err == nil {
			t.Error("Exists = nil, want the error of the volume")
		}
	}
}

func TestJoinedReadFile(t *testing.T) {
	t.Parallel()
	dirs, _, _, _ := volumes(t)
	write(t, []byte("second"), dirs[1], "sealift", "media.json")
	l := join(t, dirs...)
	if got, err := l.ReadFile("sealift/media.json", 100); err != nil || string(got) != "second" {
		t.Errorf("ReadFile = %q, %v, want that of the second volume", got, err)
	}
	write(t, []byte("first"), dirs[0], "sealift", "media.json")
	if got, err := l.ReadFile("sealift/media.json", 100); err != nil || string(got) != "first" {
		t.Errorf("ReadFile = %q, %v, want that of the first volume", got, err)
	}
	if _, err := l.ReadFile("START-HERE.txt", 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile = %v, want %v", err, fs.ErrNotExist)
	}
}

// A segment that grew, was cut, or is one too many on one of two copies hides nothing
// that the other has.
func TestJoinOfSpoiltSegments(t *testing.T) {
	t.Parallel()
	blob := noise(5 << 20)
	for name, spoil := range map[string]func(file string) error{
		"grown": func(file string) error { return appendTo(file, "x") },
		"cut":   func(file string) error { return os.Truncate(file, 1000) },
		"gone":  os.Remove,
		"one too many": func(file string) error {
			return os.WriteFile(filepath.Join(filepath.Dir(file), "007"), []byte("x"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dirs := []string{t.TempDir(), t.TempDir()}
			var all [2]*layout.Layout
			for i, dir := range dirs {
				w := segmented(t, dir, 2<<20)
				push(t, w, "x/y", blob)
				closeWriter(t, w)
				all[i] = open(t, dir)
			}
			desc := describe("x/y", blob)
			if err := spoil(segmentPath(dirs[1], desc.Digest, "000")); err != nil {
				t.Fatal(err)
			}
			for _, order := range [][]*layout.Layout{{all[0], all[1]}, {all[1], all[0]}} {
				l, err := layout.Join(order...)
				if err != nil {
					t.Fatal(err)
				}
				if ok, err := l.Exists(t.Context(), desc); err != nil || !ok {
					t.Fatalf("Exists = %t, %v", ok, err)
				}
				if !bytes.Equal(fetch(t, l, desc), blob) {
					t.Error("Fetch gives something else")
				}
			}
		})
	}
}

func appendTo(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
