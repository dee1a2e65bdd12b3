package layout_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

func TestIngestSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	blob := noise(2500)
	desc := describe("x/y", blob)
	ingest := func(content []byte, keep ...int) (*source, error) {
		src := &source{content: content}
		kept := map[int]bool{}
		for _, n := range keep {
			kept[n] = true
		}
		got, err := w.IngestSegments(t.Context(), desc, 1000, func(n int) bool { return kept[n] }, src.open)
		for n, d := range got { // of what is kept, and of nothing else
			want := digest.Digest("")
			if kept[n] {
				want = digest.FromBytes(blob[n*1000 : min(n*1000+1000, len(blob))])
			}
			if d != want {
				t.Errorf("digest of segment %d = %q, want %q", n, d, want)
			}
		}
		if err == nil && len(got) != 3 && (len(keep) < 3 || got != nil) {
			t.Errorf("%d digests, want those of 3 segments", len(got))
		}
		return src, err
	}
	check := func(want ...int) {
		t.Helper()
		got, err := w.Segments(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Segments (-want +got):\n%s", diff)
		}
		if ok, err := w.Exists(t.Context(), desc); err != nil || ok != (len(want) == 3) {
			t.Errorf("Exists = %v, %v with segments %v", ok, err, want)
		}
	}
	if _, err := ingest(bytes.ToUpper(append(blob[:2499:2499], 'x')), 0, 2); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Errorf("IngestSegments of other bytes = %v, want %v", err, content.ErrMismatchedDigest)
	}
	check()
	if _, err := ingest(blob[:2400], 0, 2); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("IngestSegments of a part = %v, want %v", err, io.ErrUnexpectedEOF)
	}
	check()
	src, err := ingest(blob, 2)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{0}, src.offsets); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	check(2)
	if _, err := w.Fetch(t.Context(), desc); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Fetch of one segment of three = %v, want %v", err, errdef.ErrNotFound)
	}
	if _, err := ingest(blob, 0); err != nil {
		t.Fatal(err)
	}
	check(0, 2)
	if src, err = ingest(blob, 0, 2); err != nil || !slices.Equal(src.offsets, []int64{1000}) { // for the digest of the last
		t.Errorf("IngestSegments of what is there = %v, asked for %v, want 1000", err, src.offsets)
	}
	check(0, 2)
	if src, err = ingest(blob, 1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1000}, src.offsets); diff != "" { // the first is hashed where it is
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	check(0, 1, 2)
	if !bytes.Equal(fetch(t, w, desc), blob) {
		t.Error("Fetch returns other bytes")
	}
	if src, err = ingest(blob, 0, 1, 2); err != nil || src.offsets != nil {
		t.Errorf("IngestSegments of a whole blob = %v, asked for %v", err, src.offsets)
	}
	closeWriter(t, w)
	if _, err := os.Stat(filepath.Join(dir, "sealift", "partial")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("sealift/partial is left behind: %v", err)
	}
}

// A damaged segment under its final name is found when the others are added,
// and mended if it is to be kept.
func TestIngestSegmentsOverDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	blob := noise(2500)
	desc := describe("x/y", blob)
	src := &source{content: blob}
	if _, err := w.IngestSegments(t.Context(), desc, 1000, func(n int) bool { return n == 0 }, src.open); err != nil {
		t.Fatal(err)
	}
	write(t, make([]byte, 1000), segmentPath(dir, desc.Digest, "000"))
	write(t, []byte("of another size"), segmentPath(dir, desc.Digest, "001"))
	write(t, []byte("of no number"), segmentPath(dir, desc.Digest, "1"))
	if _, err := w.IngestSegments(t.Context(), desc, 1000, func(int) bool { return true }, src.open); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{0, 1000, 0}, src.offsets); diff != "" {
		t.Errorf("asked for (-want +got):\n%s", diff)
	}
	if !bytes.Equal(fetch(t, w, desc), blob) {
		t.Error("Fetch returns other bytes")
	}
	if got := len(segmentFiles(t, dir, desc.Digest)); got != 3 {
		t.Errorf("%d files among the segments, want 3", got)
	}
}

func TestIngestSegmentsRefuses(t *testing.T) {
	t.Parallel()
	w := segmented(t, t.TempDir(), 1000)
	blob := noise(20_001)
	desc := describe("x/y", blob)
	for segment, want := range map[int64]error{0: os.ErrInvalid, -1: os.ErrInvalid, 1001: errdef.ErrSizeExceedsLimit, 2: errdef.ErrSizeExceedsLimit} {
		src := &source{content: blob}
		if _, err := w.IngestSegments(t.Context(), desc, segment, func(int) bool { return true }, src.open); !errors.Is(err, want) {
			t.Errorf("IngestSegments with segments of %d = %v, want %v", segment, err, want)
		}
		if src.offsets != nil {
			t.Errorf("segments of %d: content was asked for", segment)
		}
	}
	desc.Digest = "sha256:../../x"
	if _, err := w.Segments(t.Context(), desc); !errors.Is(err, errdef.ErrInvalidDigest) {
		t.Errorf("Segments = %v, want %v", err, errdef.ErrInvalidDigest)
	}
	if _, err := w.Partial(t.Context(), desc); !errors.Is(err, errdef.ErrInvalidDigest) {
		t.Errorf("Partial = %v, want %v", err, errdef.ErrInvalidDigest)
	}
}

// One segment that is the whole blob is a blob as any tool reads it.
func TestIngestSegmentsOfSmallBlob(t *testing.T) {
	t.Parallel()
	w := writer(t, t.TempDir())
	blob := noise(500)
	desc := describe("x/y", blob)
	src := &source{content: blob}
	if _, err := w.IngestSegments(t.Context(), desc, 1000, func(int) bool { return false }, src.open); err != nil || src.offsets != nil {
		t.Errorf("IngestSegments of nothing = %v, asked for %v", err, src.offsets)
	}
	if _, err := w.IngestSegments(t.Context(), desc, 1000, func(int) bool { return true }, src.open); err != nil {
		t.Fatal(err)
	}
	checkFetch(t, w.Layout, desc)
}
