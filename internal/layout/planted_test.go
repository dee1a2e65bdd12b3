package layout_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// place puts a file, a link or a directory where it is to lie in wait.
type place func(t *testing.T, victim, name string)

func hardLink(t *testing.T, victim, name string) {
	t.Helper()
	if err := os.Link(victim, name); err != nil {
		t.Skipf("no hard links here: %v", err)
	}
}

func symbolicLink(t *testing.T, victim, name string) {
	t.Helper()
	to, err := filepath.Rel(filepath.Dir(name), victim)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
}

func fullDirectory(t *testing.T, _, name string) {
	t.Helper()
	write(t, []byte("x"), name, "x")
}

var places = []struct {
	name string
	put  place
}{{"hard link", hardLink}, {"symbolic link", symbolicLink}, {"directory", fullDirectory}}

// The lock is emptied and written to. Whatever has its name, no other content is.
func TestPlantedLock(t *testing.T) {
	t.Parallel()
	for _, tt := range places {
		for _, content := range []string{"short", string(noise(5000))} {
			t.Run(fmt.Sprintf("%s, %d bytes", tt.name, len(content)), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				w := writer(t, dir)
				blob := push(t, w, ocispec.MediaTypeImageLayer, []byte(content))
				closeWriter(t, w)
				remove(t, dir, "sealift/lock")
				tt.put(t, layoutPath(dir, blob), filepath.Join(dir, "sealift", "lock"))
				for range 2 {
					closeWriter(t, writer(t, dir))
				}
				if got := string(read(t, layoutPath(dir, blob))); got != content {
					t.Errorf("the blob has %d bytes, want its %d", len(got), len(content))
				}
				if info, err := os.Lstat(filepath.Join(dir, "sealift", "lock")); err != nil || !info.Mode().IsRegular() || info.Size() != 0 {
					t.Errorf("the lock is %v, %v, want an empty file", info, err)
				}
				if left, _ := filepath.Glob(filepath.Join(dir, "sealift", "lock.*")); left != nil {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// A backup made of links gives the lock a second name while it is held.
func TestHeldLockWithTwoNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writer(t, dir)
	hardLink(t, filepath.Join(dir, "sealift", "lock"), filepath.Join(dir, "backup"))
	if w, err := layout.OpenWriter(t.Context(), dir); !errors.Is(err, layout.ErrLocked) {
		t.Errorf("OpenWriter = %v, %v, want %v", w, err, layout.ErrLocked)
	}
}

// A partial is continued in place. One that is another blob too is begun anew.
func TestPlantedPartial(t *testing.T) {
	t.Parallel()
	whole := noise(5000)
	for _, segment := range []int64{0, 2000} {
		for _, tt := range places {
			t.Run(fmt.Sprintf("%s, segments of %d", tt.name, segment), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				w := writer(t, dir)
				victim := push(t, w, ocispec.MediaTypeImageLayer, whole[:1500]) // the beginning, so that it is continued
				desc := describe(ocispec.MediaTypeImageLayer, whole)
				name := partialPath(dir, desc.Digest)
				if segment > 0 {
					name = filepath.Join(name+".parts", "000")
				}
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				tt.put(t, layoutPath(dir, victim), name)
				src := &source{content: whole}
				var err error
				if segment > 0 {
					_, err = w.IngestSegments(t.Context(), desc, segment, func(int) bool { return true }, src.open)
				} else {
					err = w.Ingest(t.Context(), desc, src.open)
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]int64{0}, src.offsets); diff != "" {
					t.Errorf("asked for (-want +got):\n%s", diff)
				}
				checkBlobs(t, dir)
				if got := fetch(t, w.Layout, desc); string(got) != string(whole) {
					t.Error("the blob is another")
				}
			})
		}
	}
}

// A link from the partials to the blobs makes a partial of each, and a partial of a
// blob that is there is removed.
func TestPartialsThatAreTheBlobs(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("making symbolic links needs a privilege on Windows")
	}
	for _, name := range []string{"sealift/partial", "sealift/partial/sha256", "sealift/parts", "sealift/parts/sha256"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := writer(t, dir)
			blob := noise(3000)
			desc := push(t, w, ocispec.MediaTypeImageLayer, blob)
			closeWriter(t, w)
			to := filepath.Join(dir, "blobs")
			if filepath.Base(name) == "sha256" {
				to = filepath.Join(to, "sha256")
			}
			at := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			symbolicLink(t, to, at)
			w = writer(t, dir)
			if err := w.Ingest(t.Context(), desc, (&source{content: blob}).open); err != nil {
				t.Fatal(err)
			}
			if ok, err := w.Exists(t.Context(), desc); err != nil || !ok {
				t.Errorf("Exists = %v, %v, want true", ok, err)
			}
		})
	}
}

// What is no file in the place of a blob is damage, which writing the blob mends.
func TestPlantedBlob(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, []byte("x"), outside)
	for _, tt := range []struct {
		name string
		put  place
	}{
		{"directory", fullDirectory},
		{"link out", func(t *testing.T, _, name string) { symbolicLink(t, outside, name) }},
		{"absolute link", func(t *testing.T, _, name string) {
			if err := os.Symlink(outside, name); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
		}},
		{"named pipe", namedPipe},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := writer(t, dir)
			blob := noise(3000)
			desc := push(t, w, ocispec.MediaTypeImageLayer, blob)
			plant := func() {
				remove(t, layoutPath(dir, desc))
				tt.put(t, "", layoutPath(dir, desc))
			}
			plant()
			if _, err := w.Fetch(t.Context(), desc); !errors.Is(err, artifact.ErrDamaged) || !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("Fetch = %v, want damage", err)
			}
			if err := w.Ingest(t.Context(), desc, (&source{content: blob}).open); err != nil {
				t.Fatal(err)
			}
			checkBlobs(t, dir)
			plant()
			if err := w.Delete(t.Context(), desc); err != nil {
				t.Fatal(err)
			}
			if err := w.Push(t.Context(), desc, bytes.NewReader(blob)); err != nil {
				t.Fatal(err)
			}
			checkBlobs(t, dir)
		})
	}
}

// A directory that has a name of the layout's own is removed, at every place.
func TestPlantedDirectories(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"sealift/media.json", "sealift/index.json.new", "sealift/oci-layout.new", "sealift/index.1.json", "sealift/index.2.json", "sealift/index.3.json",
		"sealift/index.99.json", "sealift/index.9007199254740991.json", "sealift/bin/tool", "index.json",
	} {
		for _, weak := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, weak %t", name, weak), func(t *testing.T) {
				t.Parallel()
				dir := newShop(t).dir
				remove(t, dir, name)
				fullDirectory(t, "", filepath.Join(dir, filepath.FromSlash(name)))
				options := layout.WriterOptions{}
				if weak {
					options = layout.Weak(options)
				}
				w, err := layout.OpenWriterOptions(t.Context(), dir, options)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				setRoot(t, w, "registry.example.com/new:1", "", image(t, w, "new"))
				if err := w.SetLabel(t.Context(), fullLabel()); err != nil {
					t.Error(err)
				}
				if err := w.WriteFile(t.Context(), "sealift/bin/tool", 0o755, strings.NewReader("tool")); err != nil {
					t.Error(err)
				}
				commit(t, w)
				l := open(t, dir)
				if _, err := l.Resolve(t.Context(), "registry.example.com/new:1"); err != nil {
					t.Error(err)
				}
				if label, err := l.Label(); err != nil || label.Set == nil {
					t.Errorf("Label = %+v, %v, want what was written", label, err)
				}
			})
		}
	}
}

// Nothing is copied to a layout that could not name it in the end.
func TestLastGeneration(t *testing.T) {
	t.Parallel()
	dir := newShop(t).dir
	paths := slots(t, dir)
	newest := paths[len(paths)-1]
	number := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(newest), "index."), ".json")
	raw := strings.Replace(string(read(t, newest)), `"generation":`+number, `"generation":9007199254740991`, 1)
	const last = "sealift/index.9007199254740991.json"
	write(t, []byte(raw), dir, last)
	if _, err := layout.OpenWriter(t.Context(), dir); !errors.Is(err, errdef.ErrSizeExceedsLimit) || !strings.Contains(err.Error(), last) {
		t.Fatalf("OpenWriter = %v, want %s to be named", err, last)
	}
	open(t, dir)
	remove(t, dir, last)
	writer(t, dir)
}

// A label that is full of roots nobody has gives way to those there are.
func TestFullLabel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	var label layout.Label
	for i := range 100_000 {
		label.Roots = append(label.Roots, layout.LabelRoot{Name: fmt.Sprintf("registry.example.com/%d:1", i), Digest: labelA})
	}
	if err := w.SetLabel(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	desc := image(t, w, "new")
	setRoot(t, w, oneName, "", desc)
	label.Roots = append(label.Roots, layout.LabelRoot{Name: oneName, Digest: desc.Digest})
	if err := w.SetLabel(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	got, err := open(t, dir).Label()
	if err != nil || len(got.Roots) != 1 || got.Roots[0].Name != oneName {
		t.Errorf("Label has %d roots, %v, want one", len(got.Roots), err)
	}
}

func layoutPath(dir string, desc ocispec.Descriptor) string {
	return filepath.Join(dir, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded())
}
