package mirror_test

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// A reason excuses what media may lack, and no proof.
func TestVerifyWantsProofs(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	raw, err := content.FetchAll(t.Context(), src, f.amd64)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := content.FetchAll(t.Context(), src, f.signature)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		lost    digest.Digest
		missing int
	}{
		{"a layer", blobsOf(t, raw)[2].Digest, 0},
		{"what a signature consists of", blobsOf(t, signed)[1].Digest, 1},
	} {
		dir := t.TempDir()
		if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(blobPath(dir, tt.lost)); err != nil {
			t.Fatal(err)
		}
		got, err := mirror.Verify(t.Context(), repository(t, dir), f.root, mirror.VerifyOptions{Absent: func(ocispec.Descriptor) string { return "elsewhere" }})
		var damage *mirror.DamageError
		if errors.As(err, &damage) != (tt.missing > 0) || damage != nil && len(damage.Missing) != tt.missing || len(got.Absent) != 1-tt.missing {
			t.Errorf("%s: Verify = %+v, %v, want %d missing", tt.name, got, err, tt.missing)
		}
	}
}

// tallying counts how often blobs are fetched.
type tallying struct {
	mirror.Source
	mu      sync.Mutex
	fetched map[digest.Digest]int
}

func (c *tallying) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if !artifact.IsManifest(d.MediaType) {
		c.mu.Lock()
		c.fetched[d.Digest]++
		c.mu.Unlock()
	}
	return c.Source.Fetch(ctx, d)
}

// What several roots share is read once, and counted for each, damage too.
func TestVerifySeen(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	f := newFixture(src)
	if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []bool{false, true} {
		if damaged {
			raw, err := content.FetchAll(t.Context(), src, f.amd64)
			if err != nil {
				t.Fatal(err)
			}
			flip(t, blobPath(dir, blobsOf(t, raw)[1].Digest))
		}
		c, seen := &tallying{Source: repository(t, dir), fetched: map[digest.Digest]int{}}, &mirror.Checked{}
		for _, root := range []ocispec.Descriptor{f.root, f.amd64, f.root} {
			w := &watcher{}
			got, err := mirror.Verify(t.Context(), c, root, mirror.VerifyOptions{Seen: seen, Progress: w})
			w.orderly(t)
			if errors.Is(err, mirror.ErrDamaged) != damaged || !damaged && (err != nil || w.advanced != got.Bytes) {
				t.Errorf("Verify = %+v, %v with %d bytes of progress, damage %t", got, err, w.advanced, damaged)
			}
		}
		for d, n := range c.fetched {
			if n != 1 {
				t.Errorf("%s is read %d times", d, n)
			}
		}
	}
}

// What was read counts for content of that size only: who says another one lies.
func TestVerifySeenOfAnotherSize(t *testing.T) {
	t.Parallel()
	src, seen := newStore(t), &mirror.Checked{}
	layer := src.layer("layer")
	lie := layer
	lie.Size++
	for _, d := range []ocispec.Descriptor{layer, lie} {
		_, err := mirror.Verify(t.Context(), src, src.image("image", nil, d), mirror.VerifyOptions{Seen: seen})
		if lies := d.Size != layer.Size; errors.Is(err, mirror.ErrDamaged) != lies || !lies && err != nil {
			t.Errorf("Verify of a layer of %d bytes, said to be %d = %v, want damage: %t", layer.Size, d.Size, err, lies)
		}
	}
}

// A lost signature is found by what lists it alone.
func TestMissingListed(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	f := newFixture(src)
	if err := copyTo(t, src, dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, lost := range [][]ocispec.Descriptor{nil, {f.signature}, {f.signature, f.sig}} {
		for _, d := range lost {
			if err := os.Remove(blobPath(dir, d.Digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = mirror.MissingListed(t.Context(), l, slices.Repeat(l.Entries(), 2))
		var damage *mirror.DamageError
		if errors.As(err, &damage) != (len(lost) > 0) || damage != nil && len(damage.Missing) != len(lost) {
			t.Errorf("MissingListed = %v, want %d missing", err, len(lost))
		}
	}
}
