package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// twoCopies are two media with the same artifact, and the layers of it.
func twoCopies(t *testing.T) (dirs []string, root ocispec.Descriptor, layers []ocispec.Descriptor) {
	t.Helper()
	src := newStore(t)
	layers = lots(src, mega, 1000)
	for range 2 {
		dirs = append(dirs, t.TempDir())
		copyItem(t, dirs[len(dirs)-1], item(src, "1"), mirror.PlanOptions{})
	}
	root, err := src.Resolve(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	return dirs, root, layers
}

// spoil flips a bit of a blob on media.
func spoil(t *testing.T, dir string, desc ocispec.Descriptor) {
	t.Helper()
	path := filepath.Join(dir, "blobs", "sha256", desc.Digest.Encoded())
	raw := bytes.Clone(readFile(t, path))
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

func joined(t *testing.T, dirs []string) *layout.Layout {
	t.Helper()
	var list []*layout.Layout
	for _, dir := range dirs {
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, l)
	}
	l, err := layout.Join(list...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Each of two copies has what is damaged on the other: verifying and copying both
// together finds all of it sound, and knows what is not.
func TestCopiesMakeUpForEachOther(t *testing.T) {
	t.Parallel()
	dirs, root, layers := twoCopies(t)
	spoil(t, dirs[0], layers[0])
	spoil(t, dirs[0], root) // manifests too
	spoil(t, dirs[1], layers[1])
	l := joined(t, dirs)
	repo := l.Repository("example.com/shop")
	sum, err := mirror.Verify(t.Context(), repo, root, mirror.VerifyOptions{})
	if err != nil || sum.Blobs == 0 {
		t.Errorf("Verify = %+v, %v, want all good", sum, err)
	}
	if n := len(l.Flaws()); n != 2 { // the third is behind a sound one
		t.Errorf("%d flaws, want 2: %v", n, l.Flaws())
	}

	l = joined(t, dirs)
	it := mirror.Item{Source: l.Repository("example.com/shop"), Reference: "1", Name: "example.com/shop:1", Sparse: true}
	copyItem(t, t.TempDir(), it, mirror.PlanOptions{})
	if n := len(l.Flaws()); n != 2 {
		t.Errorf("%d flaws, want 2: %v", n, l.Flaws())
	}
	dst := newDestination(t) // written by Push, from a verifying reader
	p := plan(t, dst, mirror.Item{Source: joined(t, dirs).Repository("example.com/shop"), Reference: "1", Name: "example.com/shop:1", Sparse: true})
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Errorf("Execute = %v", err)
	}

	spoil(t, dirs[1], layers[0])
	repo = joined(t, dirs).Repository("example.com/shop")
	var damage *mirror.DamageError
	if _, err := mirror.Verify(t.Context(), repo, root, mirror.VerifyOptions{}); !errors.As(err, &damage) || len(damage.Corrupt) != 1 || damage.Corrupt[0].Digest != layers[0].Digest {
		t.Errorf("Verify = %v, want damage of the layer that no copy has", err)
	}
}

// hiccup is media that cannot be read once.
type hiccup struct {
	*layout.Repository
	digest digest.Digest
	left   atomic.Int32
}

func (h *hiccup) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Digest == h.digest && h.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	}
	return h.Repository.Fetch(ctx, desc)
}

// What came before damage does not keep from looking for another copy.
func TestCopyAfterHiccup(t *testing.T) {
	t.Parallel()
	dirs, _, layers := twoCopies(t)
	spoil(t, dirs[0], layers[0])
	src := &hiccup{Repository: joined(t, dirs).Repository("example.com/shop"), digest: layers[0].Digest}
	src.left.Store(1)
	p := plan(t, newDestination(t), mirror.Item{Source: src, Reference: "1", Name: "example.com/shop:1", Sparse: true})
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil || src.left.Load() >= 0 {
		t.Errorf("Execute = %v", err)
	}
}
