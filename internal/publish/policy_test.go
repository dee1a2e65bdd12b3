package publish_test

import (
	"context"
	"errors"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/publish"
	"github.com/sealift/sealift/mirror"
)

// An update is signed before anybody can find its version, which is never another's.
func TestPolicyPush(t *testing.T) {
	t.Parallel()
	repo := memory.New()
	five, err := publish.PreparePolicy(5, []byte("version: 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := publish.PreparePolicy(5, []byte("version: 5 # other\n"))
	if err != nil {
		t.Fatal(err)
	}
	failed := errors.New("no password")
	err = five.Push(t.Context(), repo, func(context.Context, ocispec.Descriptor) error { return failed })
	if !errors.Is(err, failed) || !errors.As(err, new(*mirror.IncompleteError)) {
		t.Errorf("Push() that is not signed = %v, want it incomplete", err)
	}
	if _, err := repo.Resolve(t.Context(), "5"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("what was not signed has the tag: %v", err)
	}
	signed := 0
	sign := func(ctx context.Context, root ocispec.Descriptor) error {
		signed++
		if ok, err := repo.Exists(ctx, root); err != nil || !ok || root.Digest != five.Root.Descriptor.Digest {
			t.Errorf("signs %s, which is there: %t, %v", root.Digest, ok, err)
		}
		return nil
	}
	for range 2 { // the second changes nothing
		if err := five.Push(t.Context(), repo, sign); err != nil {
			t.Fatal(err)
		}
		if desc, err := repo.Resolve(t.Context(), "5"); err != nil || desc.Digest != five.Root.Descriptor.Digest {
			t.Errorf("the tag names %s, %v", desc.Digest, err)
		}
	}
	if ok, err := five.Check(t.Context(), repo); err != nil || !ok {
		t.Errorf("Check() = %t, %v", ok, err)
	}
	if err := other.Push(t.Context(), repo, sign); !errors.Is(err, publish.ErrVersionTaken) || signed != 2 {
		t.Errorf("Push() of other content = %v after %d signatures, want %v after 2", err, signed, publish.ErrVersionTaken)
	}
}
