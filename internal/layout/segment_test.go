package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

// segmented is a writer that makes no file of more than limit bytes of a blob.
func segmented(t *testing.T, dir string, limit int64) *layout.Writer {
	t.Helper()
	w, err := layout.OpenWriterOptions(t.Context(), dir, layout.WriterOptions{MaxFileBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func segmentPath(dir string, d digest.Digest, name string) string {
	return filepath.Join(dir, "sealift", "parts", d.Algorithm().String(), d.Encoded(), name)
}

// segmentFiles returns the names and sizes of a blob's segments on the disk.
func segmentFiles(t *testing.T, dir string, d digest.Digest) map[string]int64 {
	t.Helper()
	files := map[string]int64{}
	list, err := os.ReadDir(segmentPath(dir, d, ""))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = info.Size()
	}
	return files
}

// noise is content in which no two places are alike.
func noise(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = append(b, fmt.Sprintf("%07d,", i)...)
	}
	return b[:n]
}

func fetch(t *testing.T, l interface {
	Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error)
}, desc ocispec.Descriptor) []byte {
	t.Helper()
	rc, err := l.Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	raw, err := content.ReadAll(rc, desc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestSegmentedBlob(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		size int
		want map[string]int64
	}{
		{1000, map[string]int64{}},
		{1001, map[string]int64{"000": 1000, "001": 1}},
		{2000, map[string]int64{"000": 1000, "001": 1000}},
		{2500, map[string]int64{"000": 1000, "001": 1000, "002": 500}},
	} {
		t.Run(strconv.Itoa(tt.size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := segmented(t, dir, 1000)
			blob := noise(tt.size)
			desc := describe("x/y", blob)
			src := &source{content: blob}
			for range 2 {
				if err := w.Ingest(t.Context(), desc, src.open); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]int64{0}, src.offsets); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.want, segmentFiles(t, dir, desc.Digest)); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			l := open(t, dir)
			if ok, err := l.Exists(t.Context(), desc); err != nil || !ok {
				t.Errorf("Exists = %v, %v, want true", ok, err)
			}
			if n, err := l.Partial(t.Context(), desc); err != nil || n != 0 {
				t.Errorf("Partial = %d, %v, want 0", n, err)
			}
			numbers, err := l.Segments(t.Context(), desc)
			if err != nil || len(numbers) != len(tt.want) {
				t.Errorf("Segments = %v, %v, want %d of them", numbers, err, len(tt.want))
			}
			if !bytes.Equal(fetch(t, l, desc), blob) {
				t.Error("Fetch returns other bytes")
			}
			if err := w.Delete(t.Context(), desc); err != nil {
				t.Fatal(err)
			}
			if err := w.Delete(t.Context(), desc); !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("second Delete = %v, want %v", err, errdef.ErrNotFound)
			}
			if _, err := l.Fetch(t.Context(), desc); !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("Fetch after Delete = %v, want %v", err, errdef.ErrNotFound)
			}
			closeWriter(t, w)
			if _, err := os.Stat(filepath.Join(dir, "sealift", "parts")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("empty directories are left: %v", err)
			}
		})
	}
}

// A reader over segments is as good as a file: it seeks, and reads bit by bit.
func TestSegmentReader(t *testing.T) {
	t.Parallel()
	w := segmented(t, t.TempDir(), 100)
	blob := noise(1234)
	desc := push(t, w, "x/y", blob)
	for name, open := range map[string]func() (io.ReadCloser, error){
		"Fetch":         func() (io.ReadCloser, error) { return w.Fetch(t.Context(), desc) },
		"FetchUncached": func() (io.ReadCloser, error) { return w.FetchUncached(t.Context(), desc) },
	} {
		rc, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(rc, blob); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		seeker := rc.(io.ReadSeekCloser)
		for _, at := range []int64{1234, 0, 99, 100, 101, 1233, 2000, 700} {
			if got, err := seeker.Seek(at, io.SeekStart); err != nil || got != at {
				t.Errorf("%s: Seek(%d) = %d, %v", name, at, got, err)
			}
			got, err := io.ReadAll(seeker)
			if err != nil || !bytes.Equal(got, blob[min(at, 1234):]) {
				t.Errorf("%s: %d bytes from %d on: %v", name, len(got), at, err)
			}
		}
		if _, err := seeker.Seek(-1, io.SeekStart); err == nil {
			t.Errorf("%s: Seek(-1) = nil", name)
		}
		if err := errors.Join(rc.Close(), rc.Close()); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
		if _, err := rc.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: Read after Close = %v, want %v", name, err, os.ErrClosed)
		}
	}
}

// A segment that is cut or taken away while a reader is between two of them is
// an error and not the end.
func TestSegmentChangesUnderReader(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(string) error{
		"cut":     func(name string) error { return os.Truncate(name, 10) },
		"removed": os.Remove,
	} {
		dir := t.TempDir()
		w := segmented(t, dir, 100)
		desc := push(t, w, "x/y", noise(300))
		rc, err := w.Fetch(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err := io.ReadFull(rc, make([]byte, 150)); err != nil {
			t.Fatal(err)
		}
		if err := change(segmentPath(dir, desc.Digest, "002")); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, rc); err == nil {
			t.Errorf("%s: read %d bytes more and no error", name, n)
		}
	}
}

// Whatever arrived is continued, in the middle of a segment too.
func TestSegmentsResume(t *testing.T) {
	t.Parallel()
	blob := noise(2500)
	desc := describe("x/y", blob)
	for _, at := range []int{0, 1, 999, 1000, 1001, 1999, 2000, 2001, 2499} {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := segmented(t, dir, 1000)
			if err := w.Ingest(t.Context(), desc, (&source{content: blob[:at]}).open); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("Ingest of a part = %v, want %v", err, io.ErrUnexpectedEOF)
			}
			if n, err := w.Partial(t.Context(), desc); err != nil || n != int64(at) {
				t.Errorf("Partial = %d, %v, want %d", n, err, at)
			}
			if ok, err := w.Exists(t.Context(), desc); err != nil || ok {
				t.Errorf("Exists = %v, %v, want false", ok, err)
			}
			src := &source{content: blob}
			if err := w.Ingest(t.Context(), desc, src.open); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int64{int64(at)}, src.offsets); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			if !bytes.Equal(fetch(t, w, desc), blob) {
				t.Error("Fetch returns other bytes")
			}
			closeWriter(t, w)
			if _, err := os.Stat(filepath.Join(dir, "sealift", "partial")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("sealift/partial is left behind: %v", err)
			}
		})
	}
}

// What a power failure or somebody else did to the segments that arrived costs
// the bytes, and nothing else.
func TestSegmentsResumeOverDamage(t *testing.T) {
	t.Parallel()
	blob := noise(2500)
	desc := describe("x/y", blob)
	for name, tt := range map[string]struct {
		damage  func(t *testing.T, partial string)
		offsets []int64
	}{
		"zeros":            {func(t *testing.T, p string) { write(t, make([]byte, 1000), p, "000") }, []int64{2300, 0}},
		"too long":         {func(t *testing.T, p string) { write(t, noise(1001), p, "000") }, []int64{0}},
		"short":            {func(t *testing.T, p string) { write(t, blob[:500], p, "000") }, []int64{500}},
		"one is gone":      {func(t *testing.T, p string) { remove(t, p, "001") }, []int64{1000}},
		"other segments":   {func(t *testing.T, p string) { write(t, nil, p, "003"); write(t, nil, p, "0"); write(t, nil, p, "x") }, []int64{2300}},
		"directory inside": {func(t *testing.T, p string) { remove(t, p, "001"); write(t, nil, p, "001", "x") }, []int64{1000}},
		"file instead":     {func(t *testing.T, p string) { remove(t, p); write(t, nil, p) }, []int64{0}},
		"in one file":      {func(t *testing.T, p string) { write(t, blob[:2400], p[:len(p)-len(".parts")]) }, []int64{2300}},
		"all and wrong": {func(t *testing.T, p string) {
			write(t, append(make([]byte, 499), 1), p, "002")
		}, []int64{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := segmented(t, dir, 1000)
			if err := w.Ingest(t.Context(), desc, (&source{content: blob[:2300]}).open); err == nil {
				t.Fatal("Ingest of a part = nil")
			}
			tt.damage(t, partialPath(dir, desc.Digest)+".parts")
			src := &source{content: blob}
			if err := w.Ingest(t.Context(), desc, src.open); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.offsets, src.offsets); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			want := map[string]int64{"000": 1000, "001": 1000, "002": 500}
			if diff := cmp.Diff(want, segmentFiles(t, dir, desc.Digest)); diff != "" {
				t.Errorf("segments (-want +got):\n%s", diff)
			}
			if !bytes.Equal(fetch(t, w, desc), blob) {
				t.Error("Fetch returns other bytes")
			}
			closeWriter(t, w)
			if _, err := os.Stat(filepath.Join(dir, "sealift", "partial")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("sealift/partial is left behind: %v", err)
			}
		})
	}
}

func remove(t *testing.T, path ...string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

// A blob changes its form with the limit, and is there in one only.
func TestBlobChangesForm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blob := noise(2500)
	desc := describe("x/y", blob)
	w := segmented(t, dir, 1000)
	push(t, w, "x/y", blob)
	remove(t, segmentPath(dir, desc.Digest, "001"))
	closeWriter(t, w)
	w = writer(t, dir)
	push(t, w, "x/y", blob)
	if got := segmentFiles(t, dir, desc.Digest); len(got) > 0 {
		t.Errorf("segments beside the whole blob: %v", got)
	}
	checkFetch(t, w.Layout, desc)
	if err := os.Truncate(w.BlobPath(desc.Digest), 7); err != nil {
		t.Fatal(err)
	}
	closeWriter(t, w)
	w = segmented(t, dir, 1000)
	push(t, w, "x/y", blob)
	if _, err := os.Stat(w.BlobPath(desc.Digest)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a damaged blob is left beside its segments: %v", err)
	}
	if !bytes.Equal(fetch(t, w, desc), blob) {
		t.Error("Fetch returns other bytes")
	}
}

func link(t *testing.T, target string, path ...string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("making symbolic links needs a privilege on Windows")
	}
	if err := os.Symlink(target, filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

// A repository serves what its blobs are, in whatever form.
func TestRepositoryOfSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := segmented(t, dir, 64)
	setRoot(t, w, oneName, "", image(t, w, "one"))
	commit(t, w)
	closeWriter(t, w)
	l := open(t, dir)
	if err := l.Damage(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := l.Repository("registry.example.com/a/one")
	desc, err := r.Resolve(t.Context(), "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if numbers, err := l.Segments(t.Context(), desc); err != nil || len(numbers) < 2 {
		t.Fatalf("Segments of the manifest = %v, %v, want several", numbers, err)
	}
	fetch(t, r, desc)
	if ok, err := r.Exists(t.Context(), desc); err != nil || !ok {
		t.Errorf("Exists = %v, %v, want true", ok, err)
	}
}

func TestPartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeWriter(t, writer(t, dir))
	l := open(t, dir)
	blob := noise(100)
	desc := describe("x/y", blob)
	for size, want := range map[int]int64{0: 0, 1: 1, 100: 100, 101: 0} {
		write(t, make([]byte, size), partialPath(dir, desc.Digest))
		if got, err := l.Partial(t.Context(), desc); err != nil || got != want {
			t.Errorf("Partial of %d bytes = %d, %v, want %d", size, got, err, want)
		}
	}
	remove(t, partialPath(dir, desc.Digest))
	for n, size := range []int{40, 40, 30} {
		if got, err := l.Partial(t.Context(), desc); err != nil || got != int64(40*n) {
			t.Errorf("Partial with %d segments = %d, %v, want %d", n, got, err, 40*n)
		}
		write(t, make([]byte, size), partialPath(dir, desc.Digest)+".parts", fmt.Sprintf("%03d", n))
	}
	remove(t, partialPath(dir, desc.Digest)+".parts", "001")
	if got, err := l.Partial(t.Context(), desc); err != nil || got != 40 {
		t.Errorf("Partial with a hole = %d, %v, want what is before it", got, err)
	}
	write(t, make([]byte, 40), partialPath(dir, desc.Digest)+".parts", "001")
	if got, err := l.Partial(t.Context(), desc); err != nil || got != 0 {
		t.Errorf("Partial of segments longer than the blob = %d, %v, want 0", got, err)
	}
}

func FuzzParseSegment(f *testing.F) {
	for _, name := range []string{"000", "001", "999", "1000", "9999", "10000", "0", "0001", "-01", "+01", "1_0", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := layout.ParseSegment(name)
		if ok && (n < 0 || n >= 10_000 || layout.SegmentName("", n) != name) {
			t.Errorf("ParseSegment(%q) = %d, whose name is %q", name, n, layout.SegmentName("", n))
		}
	})
}
