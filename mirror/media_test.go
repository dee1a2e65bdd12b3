package mirror_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// copyTo copies the tag 1.0.0 of src to media.
func copyTo(t *testing.T, src mirror.Source, dir string, opts mirror.ExecuteOptions) error {
	t.Helper()
	m, err := mirror.OpenMedia(t.Context(), dir)
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

func TestVerify(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	m, err := content.FetchAll(t.Context(), src, f.amd64)
	if err != nil {
		t.Fatal(err)
	}
	blobs := blobsOf(t, m)
	blobPath := func(dir string, d digest.Digest) string {
		return filepath.Join(dir, "blobs", "sha256", d.Encoded())
	}
	flip := func(t *testing.T, path string) {
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
			got, err := mirror.Verify(t.Context(), repository(t, dir), f.root, w)
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
