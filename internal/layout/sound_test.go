package layout_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// A damaged copy of the right size gives way to one that is sound, once somebody
// found out.
func TestFindSound(t *testing.T) {
	t.Parallel()
	blob := noise(3000)
	desc := describe("x/y", blob)
	var dirs []string
	for range 3 {
		w := writer(t, t.TempDir())
		push(t, w, "x/y", blob)
		closeWriter(t, w)
		dirs = append(dirs, w.Dir())
	}
	file := func(dir string) string { return open(t, dir).BlobPath(desc.Digest) }
	for _, dir := range dirs[:2] {
		write(t, bytes.ToUpper(append(blob[:2999:2999], 'x')), file(dir))
	}
	if err := open(t, dirs[2]).FindSound(t.Context(), desc); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("FindSound in one directory = %v, want %v", err, errdef.ErrNotFound)
	}

	l := join(t, dirs...)
	var wg sync.WaitGroup
	for range 8 { // all find the same
		wg.Go(func() {
			if err := l.FindSound(t.Context(), desc); err != nil {
				t.Errorf("FindSound = %v", err)
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(fetch(t, l, desc), blob) {
		t.Error("Fetch gives other bytes")
	}
	var flawed []string
	for _, flaw := range l.Flaws() {
		flawed = append(flawed, flaw.Dir)
		if flaw.Segment != -1 || flaw.Blob.Digest != desc.Digest || !errors.Is(flaw, content.ErrMismatchedDigest) {
			t.Errorf("flaw = %+v, want the whole blob", flaw)
		}
	}
	slices.Sort(flawed)
	want := slices.Sorted(slices.Values(dirs[:2]))
	if !slices.Equal(flawed, want) {
		t.Errorf("flaws are in %v, want %v", flawed, want)
	}

	write(t, make([]byte, 3000), file(dirs[2]))
	l = join(t, dirs...)
	for range 2 {
		if err := l.FindSound(t.Context(), desc); !errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("FindSound where none is sound = %v, want %v", err, artifact.ErrDamaged)
		}
	}
	if ok, err := l.Exists(t.Context(), desc); err != nil || !ok {
		t.Errorf("Exists = %v, %v: damaged is not absent", ok, err)
	}
	if _, err := l.Fetch(t.Context(), desc); err != nil {
		t.Errorf("Fetch = %v: damaged is not absent", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := join(t, dirs...).FindSound(ctx, desc); !errors.Is(err, context.Canceled) {
		t.Errorf("FindSound = %v, want %v", err, context.Canceled)
	}
}

// Of two copies of a volume, the segment is taken from the sound one.
func TestFindSoundSegment(t *testing.T) {
	t.Parallel()
	dirs, desc, blob := labelled(t)
	again, _, _ := labelled(t)
	write(t, make([]byte, 1000), segmentPath(dirs[1], desc.Digest, "001"))
	l := join(t, dirs[0], dirs[1], again[1])
	if err := l.FindSound(t.Context(), desc); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(fetch(t, l, desc), blob) {
		t.Error("Fetch gives other bytes")
	}
	if flaws := l.Flaws(); len(flaws) != 1 || flaws[0].Segment != 1 || flaws[0].Volume != 2 || flaws[0].Dir != dirs[1] {
		t.Errorf("Flaws = %v, want segment 1 on volume 2", flaws)
	}
	l = join(t, dirs...)
	if err := l.FindSound(t.Context(), desc); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Errorf("FindSound without the copy = %v, want %v", err, content.ErrMismatchedDigest)
	}
	w := writer(t, t.TempDir())
	push(t, w, "x/y", blob)
	for _, l := range []*layout.Layout{join(t, dirs[0], dirs[1], w.Dir()), join(t, w.Dir(), dirs[0], dirs[1])} {
		if !bytes.Equal(fetch(t, l, desc), blob) {
			t.Error("a blob that is whole somewhere does not count before its segments")
		}
	}
	// A label that lies about a sound segment hides nothing.
	liar := writer(t, again[1])
	setDigests(t, liar, 2, desc, []digest.Digest{"", digest.FromString("a lie"), ""})
	closeWriter(t, liar)
	l = join(t, dirs[0], again[1])
	if err := l.VerifySegments(t.Context(), desc, nil); err == nil {
		t.Error("VerifySegments believes the label no more")
	}
	if !bytes.Equal(fetch(t, l, desc), blob) {
		t.Error("a label that lies hides a sound segment")
	}
}

// A search reads each file once, however many ask and however often.
func TestFindSoundReadsOnce(t *testing.T) {
	t.Parallel()
	dirs, desc, _ := labelled(t)
	again, _, _ := labelled(t)
	write(t, make([]byte, 1000), segmentPath(dirs[1], desc.Digest, "001"))
	unlabelled, _, _ := labelled(t)
	for volume, dir := range unlabelled {
		w := writer(t, dir)
		setDigests(t, w, volume+1, desc, nil)
		closeWriter(t, w)
	}
	write(t, make([]byte, 1000), segmentPath(unlabelled[1], desc.Digest, "001"))
	var whole []string // copies, both damaged
	for range 2 {
		w := writer(t, t.TempDir())
		push(t, w, desc.MediaType, noise(2500))
		closeWriter(t, w)
		write(t, make([]byte, 2500), w.BlobPath(desc.Digest))
		whole = append(whole, w.Dir())
	}
	for _, tt := range []struct {
		name  string
		dirs  []string
		sound bool
		first int64 // bytes, of one search
		later int64 // of each later one
	}{
		{"one copy", dirs, false, 2500, 0},
		{"labels state nothing", unlabelled, false, 2500, 0},
		{"nothing is wrong with the first", append([]string{again[1]}, dirs...), true, 2500 + 1000 + 2500, 2500},
		{"a copy of a volume", []string{dirs[0], dirs[1], again[1]}, true, 2500 + 1000 + 2500, 2500},
		{"whole copies", whole, false, 5000, 0},
		{"whole copies and segments", append(slices.Clone(whole), dirs...), false, 5000 + 2500 + 2500, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := join(t, tt.dirs...)
			var read atomic.Int64
			layout.CountReading(l, &read)
			var wg sync.WaitGroup
			const callers = 4
			for range callers {
				wg.Go(func() {
					if err := l.FindSound(t.Context(), desc); (err == nil) != tt.sound || err != nil && !errors.Is(err, artifact.ErrDamaged) {
						t.Errorf("FindSound = %v, want sound: %t", err, tt.sound)
					}
				})
			}
			wg.Wait()
			if got, want := read.Load(), tt.first+(callers-1)*tt.later; got != want {
				t.Errorf("read %d bytes, want %d", got, want)
			}
		})
	}
}

// Where a label lies about the only copy of a segment, that one counts in spite of it,
// and the damaged copy of another does not.
func TestFallBackForEachSegment(t *testing.T) {
	t.Parallel()
	dirs, desc, blob := labelled(t)
	again, _, _ := labelled(t)
	write(t, make([]byte, 1000), segmentPath(dirs[0], desc.Digest, "000"))
	liar := writer(t, dirs[1])
	setDigests(t, liar, 2, desc, []digest.Digest{"", digest.FromString("a lie"), ""})
	closeWriter(t, liar)
	l := join(t, dirs[0], dirs[1], again[0])
	if err := l.VerifySegments(t.Context(), desc, nil); err == nil || len(l.Flaws()) != 2 {
		t.Fatalf("VerifySegments = %v, want two flaws", err)
	}
	if !bytes.Equal(fetch(t, l, desc), blob) {
		t.Error("Fetch gives a segment that is known to be damaged and is sound elsewhere")
	}
	if err := join(t, dirs[0], dirs[1], again[0]).FindSound(t.Context(), desc); err != nil {
		t.Errorf("FindSound = %v", err)
	}
}

// What was removed or written anew is damaged no more.
func TestFlawsAreForgotten(t *testing.T) {
	t.Parallel()
	dirs, desc, blob := labelled(t)
	for _, mend := range []func(w *layout.Writer) error{
		func(w *layout.Writer) error { return w.Delete(t.Context(), desc) },
		func(w *layout.Writer) error {
			_, err := w.IngestSegments(t.Context(), desc, 1000, func(n int) bool { return n == 1 }, (&source{content: blob}).open)
			return err
		},
	} {
		w := writer(t, dirs[1])
		write(t, make([]byte, 999), segmentPath(dirs[1], desc.Digest, "001"))
		if err := w.VerifySegments(t.Context(), desc, nil); err == nil || len(w.Flaws()) != 1 {
			t.Fatalf("VerifySegments = %v, want one flaw", err)
		}
		if err := mend(w); err != nil {
			t.Fatal(err)
		}
		if flaws := w.Flaws(); len(flaws) > 0 {
			t.Errorf("Flaws = %v, want none", flaws)
		}
		closeWriter(t, w)
		if err := os.MkdirAll(filepath.Dir(segmentPath(dirs[1], desc.Digest, "001")), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
