package layout_test

import (
	"bytes"
	"context"
	_ "crypto/sha512"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

var blob = bytes.Repeat([]byte("0123456789abcdef"), 200_000) // a little over three buffers

func TestIngest(t *testing.T) {
	t.Parallel()
	cut := errors.New("cable pulled")
	half := int64(len(blob) / 2)
	tests := []struct {
		name    string
		partial []byte // on the disk before
		present []byte // at the final path before
		source  *source
		desc    *ocispec.Descriptor
		want    error
		offsets []int64
		left    int64 // bytes of the partial afterwards, -1 when there is none
	}{
		{name: "fresh", source: &source{content: blob}, offsets: []int64{0}, left: -1},
		{name: "one byte at a time", source: &source{content: blob[:5000], wrap: iotest.OneByteReader}, desc: new(describe("x/y", blob[:5000])), offsets: []int64{0}, left: -1},
		{name: "data with the EOF", source: &source{content: blob, wrap: iotest.DataErrReader}, offsets: []int64{0}, left: -1},
		{name: "empty blob", source: &source{}, desc: new(describe("x/y", nil)), offsets: []int64{0}, left: -1},
		{name: "sha512", source: &source{content: blob}, desc: &ocispec.Descriptor{Digest: digest.SHA512.FromBytes(blob), Size: int64(len(blob))}, offsets: []int64{0}, left: -1},
		{name: "resumed", partial: blob[:half], source: &source{content: blob}, offsets: []int64{half}, left: -1},
		{name: "complete partial", partial: blob, source: &source{content: blob}, left: -1},
		{name: "complete partial, damaged", partial: append(blob[:len(blob)-1:len(blob)-1], 'X'), source: &source{content: blob}, offsets: []int64{0}, left: -1},
		{name: "partial damaged by a power failure", partial: make([]byte, half), source: &source{content: blob}, offsets: []int64{half, 0}, left: -1},
		{name: "partial too long", partial: append(bytes.Clone(blob), 'X'), source: &source{content: blob}, offsets: []int64{0}, left: -1},
		{name: "present", present: blob, source: &source{content: blob}, left: -1},
		{name: "truncated at the final path", present: blob[:10], source: &source{content: blob}, offsets: []int64{0}, left: -1},
		{name: "ends early", source: &source{content: blob[:half]}, want: io.ErrUnexpectedEOF, offsets: []int64{0}, left: half},
		{name: "breaks off", source: &source{content: blob[:half], wrap: func(r io.Reader) io.Reader {
			return io.MultiReader(r, iotest.ErrReader(cut))
		}}, want: cut, offsets: []int64{0}, left: half},
		{name: "breaks off after resuming", partial: blob[:half], source: &source{content: blob[:half+7]}, want: io.ErrUnexpectedEOF, offsets: []int64{half}, left: half + 7},
		{name: "wrong content", source: &source{content: bytes.ToUpper(blob)}, want: content.ErrMismatchedDigest, offsets: []int64{0}, left: -1},
		{name: "goes on after its end", source: &source{content: append(bytes.Clone(blob), 'X')}, want: content.ErrTrailingData, offsets: []int64{0}, left: -1},
		{name: "never reads anything", source: &source{content: blob, wrap: func(io.Reader) io.Reader { return stuck{} }}, want: io.ErrNoProgress, offsets: []int64{0}, left: 0},
		{name: "path as digest", source: &source{}, desc: &ocispec.Descriptor{Digest: "sha256:../../x", Size: 1}, want: errdef.ErrInvalidDigest, left: -1},
		{name: "negative size", source: &source{}, desc: &ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: -1}, want: content.ErrInvalidDescriptorSize, left: -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			desc := describe("application/octet-stream", blob)
			if tt.desc != nil {
				desc = *tt.desc
			}
			dir := t.TempDir()
			w := writer(t, dir)
			if tt.partial != nil {
				write(t, tt.partial, partialPath(dir, desc.Digest))
			}
			if tt.present != nil {
				write(t, tt.present, w.BlobPath(desc.Digest))
			}
			err := w.Ingest(t.Context(), desc, tt.source.open)
			if !errors.Is(err, tt.want) {
				t.Fatalf("Ingest = %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(tt.offsets, tt.source.offsets); diff != "" {
				t.Errorf("offsets asked for (-want +got):\n%s", diff)
			}
			if desc.Digest.Validate() != nil {
				return
			}
			left := int64(-1)
			if info, err := os.Stat(partialPath(dir, desc.Digest)); err == nil {
				left = info.Size()
			}
			if left != tt.left {
				t.Errorf("partial has %d bytes, want %d", left, tt.left)
			}
			if tt.want == nil {
				checkFetch(t, w.Layout, desc)
			} else if _, err := os.Stat(w.BlobPath(desc.Digest)); err == nil {
				t.Error("a blob was left at the final path")
			}
			checkBlobs(t, dir)
		})
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func checkFetch(t *testing.T, l *layout.Layout, desc ocispec.Descriptor) {
	t.Helper()
	rc, err := l.Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, ok := rc.(*os.File); !ok {
		t.Errorf("Fetch returns a %T, want an *os.File", rc)
	}
	if _, err := content.ReadAll(rc, desc); err != nil {
		t.Error(err)
	}
}

func TestIngestErrorSaysWhich(t *testing.T) {
	t.Parallel()
	w := writer(t, t.TempDir())
	desc := describe("x/y", []byte("right"))
	err := w.Push(t.Context(), desc, strings.NewReader("wrong"))
	var wrong *layout.DigestError
	if !errors.As(err, &wrong) {
		t.Fatalf("Push = %v, want a DigestError", err)
	}
	if want := digest.FromString("wrong"); wrong.Want != desc.Digest || wrong.Got != want {
		t.Errorf("DigestError = %+v, want %s instead of %s", wrong, want, desc.Digest)
	}
}

// Push has the whole content, so it does not build on what an Ingest left.
func TestPushOverPartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	desc := describe("x/y", blob)
	write(t, blob[:100], partialPath(dir, desc.Digest))
	push(t, w, "x/y", blob)
	checkFetch(t, w.Layout, desc)
}

// A flipped bit leaves the size right: only deleting makes room for the repair.
func TestDeleteDamagedManifest(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	w := writer(t, s.dir)
	sound := read(t, w.BlobPath(s.image.Digest))
	damaged := bytes.Clone(sound)
	damaged[9] ^= 1
	write(t, damaged, w.BlobPath(s.image.Digest))
	if err := w.Damage(t.Context()); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Fatalf("Damage = %v, want %v", err, content.ErrMismatchedDigest)
	}
	if err := w.Delete(t.Context(), s.image); err != nil {
		t.Fatal(err)
	}
	if err := w.Delete(t.Context(), s.image); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("second Delete = %v, want %v", err, errdef.ErrNotFound)
	}
	if _, err := w.Repository(shop).Resolve(t.Context(), s.image.Digest.String()); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Resolve after Delete = %v, want %v", err, errdef.ErrNotFound)
	}
	push(t, w, s.image.MediaType, sound)
	if _, err := w.Repository(shop).Resolve(t.Context(), s.image.Digest.String()); err != nil {
		t.Errorf("Resolve after the repair = %v", err)
	}
	if err := w.Damage(t.Context()); err != nil {
		t.Errorf("Damage after the repair = %v", err)
	}
}

func TestIngestCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	desc := describe("x/y", blob)
	ctx, cancel := context.WithCancel(t.Context())
	src := &source{content: blob, wrap: func(r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, 100), readerFunc(func([]byte) (int, error) { cancel(); return 0, nil }), r)
	}}
	if err := w.Ingest(ctx, desc, src.open); !errors.Is(err, context.Canceled) {
		t.Fatalf("Ingest = %v, want %v", err, context.Canceled)
	}
	src.wrap = nil
	if err := w.Ingest(t.Context(), desc, src.open); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{0, 100}, src.offsets); diff != "" {
		t.Errorf("offsets asked for (-want +got):\n%s", diff)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestIngestConcurrently(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	var opened atomic.Int64
	var wg sync.WaitGroup
	for i := range 32 {
		text := []byte(strings.Repeat(string(rune('a'+i%4)), 100_000))
		wg.Go(func() {
			err := w.Ingest(t.Context(), describe("x/y", text), func(context.Context, int64) (io.ReadCloser, error) {
				opened.Add(1)
				return io.NopCloser(bytes.NewReader(text)), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := opened.Load(); got != 4 {
		t.Errorf("content was opened %d times, want once for each of 4 blobs", got)
	}
	checkBlobs(t, dir)
	closeWriter(t, w)
	if _, err := os.Stat(dir + "/sealift/partial"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sealift/partial is left behind: %v", err)
	}
}

func BenchmarkIngest(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 20} {
		b.Run(byteSize(size), func(b *testing.B) {
			w, err := layout.OpenWriter(b.Context(), b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			data := bytes.Repeat([]byte{1}, size)
			desc := describe("x/y", data)
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := w.Push(b.Context(), desc, bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
				if err := os.Remove(w.BlobPath(desc.Digest)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func byteSize(n int) string {
	if n >= 1<<20 {
		return "64MiB"
	}
	return "4KiB"
}
