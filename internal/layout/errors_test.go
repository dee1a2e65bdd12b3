package layout_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// Callers tell damage from other failures without knowing the types.
func TestDamageIsOneSentinel(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&layout.SizeError{}, &layout.DigestError{}, &layout.ManifestError{Err: io.EOF}, layout.ErrCorruptIndex,
	} {
		wrapped := fmt.Errorf("open: %w", err)
		if !errors.Is(wrapped, artifact.ErrDamaged) || !artifact.IsDamage(wrapped) || !errors.Is(wrapped, err) {
			t.Errorf("%T (%v) is not %v", err, err, artifact.ErrDamaged)
		}
	}
	if !errors.Is(&layout.SizeError{}, content.ErrInvalidDescriptorSize) || !errors.Is(&layout.DigestError{}, content.ErrMismatchedDigest) {
		t.Error("the errors of a blob are not oras-go's too")
	}
	for _, err := range []error{layout.ErrNotLayout, layout.ErrLocked, errdef.ErrNotFound, context.Canceled} {
		if artifact.IsDamage(err) {
			t.Errorf("IsDamage(%v) = true, want false", err)
		}
	}
	dir := newShop(t).dir
	if err := os.WriteFile(filepath.Join(dir, ocispec.ImageIndexFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "sealift")); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Open(dir); !artifact.IsDamage(err) {
		t.Errorf("Open with a torn index = %v, want damage", err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	l := open(t, newShop(t).dir)
	for _, name := range l.Repositories() {
		if r, ok := l.Lookup(name); !ok || r.Name() != name {
			t.Errorf("Lookup(%q) = %v, %t, want the repository", name, r, ok)
		}
	}
	for _, name := range []string{"", "nobody", "example.com/none", l.Repositories()[0] + "/x"} {
		if r, ok := l.Lookup(name); ok || r != nil {
			t.Errorf("Lookup(%q) = %v, %t, want none", name, r, ok)
		}
	}
}
