package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// copyTo copies the tag 1.0.0 of src to media.
func copyTo(t *testing.T, src mirror.Source, dir string, opts mirror.ExecuteOptions) error {
	t.Helper()
	m, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
	if err != nil {
		t.Fatalf("OpenMedia = %v", err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}()
	return plan(t, m, item(src, "1.0.0")).Execute(t.Context(), opts)
}

// repository opens what the copies above are called.
func repository(t *testing.T, dir string) *layout.Repository {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatalf("layout.Open = %v", err)
	}
	return l.Repository("example.com/shop")
}

func TestMediaRoundTrip(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), filepath.Join(t.TempDir(), "media")
	f := newFixture(src)
	before, err := mirror.Peek(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := plan(t, before, item(src, "1.0.0")).Missing(); n == 0 {
		t.Error("a plan for media that is not there misses nothing")
	}
	if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	after, err := mirror.Peek(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := plan(t, after, item(src, "1.0.0")).Missing(); n != 0 {
		t.Errorf("a plan for the media misses %d pieces, want 0", n)
	}
	// From the media into a registry: everything must come out again.
	dst := newDestination(t)
	if err := plan(t, dst, item(repository(t, dir), "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range f.manifests() {
		if dst.pushed[d.Digest] != 1 {
			t.Errorf("%s came back %d times, want once", d.Digest, dst.pushed[d.Digest])
		}
	}
	if got, want := len(dst.named[0].Tags), 4; got != want {
		t.Errorf("%d signature tags came back, want %d", got, want)
	}
}

// What arrived before a cut must not be read from the source again by a second
// run.
func TestMediaResumes(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	f := newFixture(src)
	m, err := content.FetchAll(t.Context(), src, f.arm64)
	if err != nil {
		t.Fatal(err)
	}
	layer := blobsOf(t, m)[2]
	cut := &faulty{Source: src, digest: layer.Digest, times: 1, after: 5000, err: io.ErrUnexpectedEOF}
	var incomplete *mirror.IncompleteError
	if err := copyTo(t, cut, dir, mirror.ExecuteOptions{Attempts: 1, Concurrency: 1}); !errors.As(err, &incomplete) {
		t.Fatalf("Execute = %v, want an IncompleteError", err)
	}
	partial, err := os.Stat(filepath.Join(dir, "sealift", "partial", "sha256", layer.Digest.Encoded()))
	if err != nil || partial.Size() != 5000 {
		t.Errorf("partial content = %v, %v, want 5000 bytes", partial, err)
	}
	if err := copyTo(t, cut, dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := content.FetchAll(t.Context(), repository(t, dir), layer); err != nil {
		t.Errorf("layer on the media: %v", err)
	}
}

func blobPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded())
}

// flip changes one bit of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A copy onto damaged media must not call a root complete that is not, and mends
// what it looks at: manifests always, blobs when asked to.
func TestCopyMendsMedia(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	m, err := content.FetchAll(t.Context(), src, f.amd64)
	if err != nil {
		t.Fatal(err)
	}
	layer := blobsOf(t, m)[1]
	all := func(dir string) []string {
		return []string{blobPath(dir, f.root.Digest), blobPath(dir, f.amd64.Digest), blobPath(dir, f.sig.Digest), blobPath(dir, layer.Digest)}
	}
	tests := []struct {
		name    string
		check   bool
		damage  func(t *testing.T, dir string)
		damaged int
		sound   bool // afterwards
	}{
		{"nothing", true, func(*testing.T, string) {}, 0, true},
		{"flipped root", false, func(t *testing.T, dir string) { flip(t, blobPath(dir, f.root.Digest)) }, 1, true},
		{"flipped child", false, func(t *testing.T, dir string) { flip(t, blobPath(dir, f.amd64.Digest)) }, 1, true},
		{"flipped layer, unchecked", false, func(t *testing.T, dir string) { flip(t, blobPath(dir, layer.Digest)) }, 0, false},
		{"flipped layer", true, func(t *testing.T, dir string) { flip(t, blobPath(dir, layer.Digest)) }, 1, true},
		{"all of it", true, func(t *testing.T, dir string) {
			for _, path := range all(dir) {
				flip(t, path)
			}
		}, 4, true},
		{"truncated", true, func(t *testing.T, dir string) {
			for _, path := range all(dir) {
				if err := os.Truncate(path, 1); err != nil {
					t.Fatal(err)
				}
			}
		}, 0, true}, // another size is as good as nothing
		{"a directory in its place", false, func(t *testing.T, dir string) {
			path := blobPath(dir, f.amd64.Digest)
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o755)); err != nil {
				t.Fatal(err)
			}
		}, 0, true}, // it is in the way, and goes
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, w := t.TempDir(), &watcher{}
			if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
				t.Fatal(err)
			}
			tt.damage(t, dir)
			media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer media.Close()
			p, err := mirror.NewPlan(t.Context(), media, []mirror.Item{item(src, "1.0.0")}, mirror.PlanOptions{Check: tt.check, Progress: w})
			if err != nil {
				t.Fatal(err)
			}
			if tt.check {
				w.orderly(t)
			}
			if p.Damaged() != tt.damaged || p.Missing() < tt.damaged || tt.check && (w.begun != 1 || w.total != w.missing || w.advanced < w.total) {
				t.Errorf("Damaged() = %d, Missing() = %d, progress %+v, want %d damaged", p.Damaged(), p.Missing(), w, tt.damaged)
			}
			err = p.Execute(t.Context(), mirror.ExecuteOptions{})
			if err == nil {
				_, err = mirror.Verify(t.Context(), repository(t, dir), f.root, mirror.VerifyOptions{})
			}
			if (err == nil) != tt.sound {
				t.Errorf("copy and verify = %v, want success: %t", err, tt.sound)
			}
		})
	}
}

// worn is a store on a disk that does not give some of it back.
type worn struct {
	mirror.Source
	lost []ocispec.Descriptor
}

func (w worn) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := w.Source.Fetch(ctx, d)
	if err != nil || !slices.ContainsFunc(w.lost, func(l ocispec.Descriptor) bool { return l.Digest == d.Digest }) {
		return rc, err
	}
	return struct {
		io.Reader
		io.Closer
	}{failing{&fs.PathError{Op: "read", Path: "blob", Err: syscall.EIO}}, rc}, nil
}

// A sector that cannot be read is damage, and does not hide the rest.
func TestVerifyUnreadable(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	m, err := content.FetchAll(t.Context(), src, f.arm64)
	if err != nil {
		t.Fatal(err)
	}
	blobs := blobsOf(t, m)
	_, err = mirror.Verify(t.Context(), worn{src, append(blobs, f.sbom, f.childSig)}, f.root, mirror.VerifyOptions{})
	var damage *mirror.DamageError
	if !errors.As(err, &damage) || len(damage.Unreadable) != 5 || len(damage.Corrupt)+len(damage.Missing) != 0 {
		t.Fatalf("Verify = %v, want 5 unreadable", err)
	}
	if !strings.Contains(err.Error(), "0 corrupt, 5 unreadable, 0 missing, the first is "+damage.Unreadable[0].Digest.String()) {
		t.Errorf("Verify = %v, want the counts and the first", err)
	}
	if !slices.IsSortedFunc(damage.Unreadable, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) }) {
		t.Errorf("Unreadable = %v, want it sorted", damage.Unreadable)
	}
}

// What is no damage ends the verification, and is told once.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	denied := errors.New("denied")
	for _, d := range []ocispec.Descriptor{f.arm64, f.root} {
		_, err := mirror.Verify(t.Context(), &faulty{Source: src, digest: d.Digest, times: -1, err: denied}, f.root, mirror.VerifyOptions{})
		var outer, inner *mirror.CopyError
		if !errors.Is(err, denied) || errors.Is(err, mirror.ErrDamaged) || !errors.As(err, &outer) || errors.As(outer.Err, &inner) {
			t.Errorf("Verify = %v, want one CopyError", err)
		}
	}
}

// However many roots are named, index.json is written once.
func TestMediaCommitsOnce(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	newFixture(src)
	m, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var items []mirror.Item
	for i := range 20 {
		items = append(items, mirror.Item{Source: src, Reference: "1.0.0", Name: fmt.Sprintf("example.com/shop:1.0.%d", i)})
	}
	if err := errors.Join(plan(t, m, items...).Execute(t.Context(), mirror.ExecuteOptions{}), m.Close()); err != nil {
		t.Fatal(err)
	}
	slots, err := filepath.Glob(filepath.Join(dir, "sealift", "index.*.json"))
	if err != nil || len(slots) != 1 || filepath.Base(slots[0]) != "index.1.json" {
		t.Errorf("slots = %q, %v, want that of one commit", slots, err)
	}
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(l.Roots()); got != 20+4 {
		t.Errorf("%d roots on the media, want 20 and 4 signature tags", got)
	}
}

// A release's short name is on its index; its template and files are not read
// for it.
func TestMediaAlias(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"example.com/fancy": "fancy-1.0.0", "": "shop-1.0.0", "example.com/no tag": "example.com-shop-1.0.0"} {
		src, dir := newStore(t), t.TempDir()
		src.tag(src.doc(ocispec.MediaTypeImageIndex, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: artifact.TypeRelease,
			Manifests: []ocispec.Descriptor{}, Annotations: map[string]string{artifact.AnnotationID: id},
		}), "1.0.0")
		if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
			t.Fatal(err)
		}
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Resolve(t.Context(), want); err != nil {
			t.Errorf("Resolve(%s) = %v, want the release %q under its alias", want, err, id)
		}
	}
}

func TestOpenSource(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	f := newFixture(src)
	if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	media, err := mirror.OpenSource(dir, "example.com/shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Verify(t.Context(), media, f.root, mirror.VerifyOptions{}); err != nil {
		t.Errorf("Verify = %v", err)
	}
	if _, err := mirror.OpenSource(dir, "example.com/other"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("OpenSource of another repository = %v, want %v", err, errdef.ErrNotFound)
	}
	if _, err := mirror.OpenSource(filepath.Join(dir, "none"), "example.com/shop"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenSource of no directory = %v, want %v", err, fs.ErrNotExist)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	m, err := content.FetchAll(t.Context(), src, f.amd64)
	if err != nil {
		t.Fatal(err)
	}
	blobs := blobsOf(t, m)
	tests := []struct {
		name             string
		damage           func(t *testing.T, dir string)
		corrupt, missing int
	}{
		{"sound", func(*testing.T, string) {}, 0, 0},
		{"flipped and missing layers", func(t *testing.T, dir string) {
			flip(t, blobPath(dir, blobs[1].Digest))
			if err := os.Remove(blobPath(dir, blobs[2].Digest)); err != nil {
				t.Fatal(err)
			}
		}, 1, 1},
		{"truncated layer", func(t *testing.T, dir string) {
			if err := os.Truncate(blobPath(dir, blobs[2].Digest), 1); err != nil {
				t.Fatal(err)
			}
		}, 1, 0},
		{"flipped child", func(t *testing.T, dir string) { flip(t, blobPath(dir, f.amd64.Digest)) }, 1, 0},
		{"missing child", func(t *testing.T, dir string) {
			if err := os.Remove(blobPath(dir, f.arm64.Digest)); err != nil {
				t.Fatal(err)
			}
		}, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
				t.Fatal(err)
			}
			tt.damage(t, dir)
			w := &watcher{}
			got, err := mirror.Verify(t.Context(), repository(t, dir), f.root, mirror.VerifyOptions{Progress: w})
			w.orderly(t)
			if tt.corrupt+tt.missing == 0 {
				total, _ := plan(t, newDestination(t), item(src, "1.0.0")).Size()
				if err != nil || got.Manifests != len(f.manifests()) || got.Bytes != total || w.advanced != total {
					t.Errorf("Verify = %+v, %v with %d bytes of progress, want %d manifests and %d bytes", got, err, w.advanced, len(f.manifests()), total)
				}
				return
			}
			var damage *mirror.DamageError
			if !errors.As(err, &damage) || !errors.Is(err, mirror.ErrDamaged) {
				t.Fatalf("Verify = %+v, %v, want a DamageError", got, err)
			}
			if len(damage.Corrupt) != tt.corrupt || len(damage.Missing) != tt.missing {
				t.Errorf("Verify found %d corrupt and %d missing, want %d and %d: %v", len(damage.Corrupt), len(damage.Missing), tt.corrupt, tt.missing, damage)
			}
		})
	}
}

func TestPeekWritesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	d, err := mirror.Peek(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Name(t.Context(), mirror.Root{}); !errors.Is(err, errdef.ErrUnsupported) {
		t.Errorf("Name = %v, want %v", err, errdef.ErrUnsupported)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat(%s) = %v, want %v", dir, err, os.ErrNotExist)
	}
}
