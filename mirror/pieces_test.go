package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// pieces is a set with one layer in segments, and the volume of its second.
func pieces(t *testing.T) (src *store, p *mirror.Plan, set *mirror.Set, large ocispec.Descriptor, volume int) {
	t.Helper()
	src = newStore(t)
	large = lots(src, 11*mega)[0]
	p = plan(t, mirror.Empty(), item(src, "1"))
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	return src, p, set, large, set.Segments[large.Digest].Volumes[1]
}

func verifyAlone(t *testing.T, p *mirror.Plan, dir string) (*layout.Layout, error) {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = mirror.Verify(t.Context(), l.Repository("example.com/shop"), p.Roots[0].Descriptor, expected())
	return l, err
}

func expected() mirror.VerifyOptions {
	return mirror.VerifyOptions{Absent: func(ocispec.Descriptor) string { return "elsewhere" }}
}

func segmentFile(t *testing.T, dir string, d digest.Digest) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "sealift", "parts", "sha256", d.Encoded(), "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("segments in %s: %v, %v", dir, paths, err)
	}
	return paths[0]
}

// One volume alone tells that a segment on it is damaged, and is mended alone.
func TestVolumeAloneChecksItsSegments(t *testing.T) {
	t.Parallel()
	src, p, set, large, n := pieces(t)
	dir := t.TempDir()
	writeVolume(t, p, set, n, dir)
	if _, err := verifyAlone(t, p, dir); err != nil {
		t.Fatalf("Verify of a sound volume: %v", err)
	}
	label := readFile(t, filepath.Join(dir, "sealift", "media.json"))
	file := segmentFile(t, dir, large.Digest)
	sound := readFile(t, file)
	flipped := bytes.Clone(sound)
	flipped[len(flipped)/2] ^= 1
	for name, tt := range map[string]struct {
		harm func() error
		want mirror.DamageError
	}{
		"corrupt": {func() error { return os.WriteFile(file, flipped, 0o644) }, mirror.DamageError{Corrupt: []ocispec.Descriptor{large}}},
		"cut":     {func() error { return os.Truncate(file, 10) }, mirror.DamageError{Corrupt: []ocispec.Descriptor{large}}},
		"missing": {func() error { return os.Remove(file) }, mirror.DamageError{Missing: []ocispec.Descriptor{large}}},
	} {
		if err := tt.harm(); err != nil {
			t.Fatal(err)
		}
		l, err := verifyAlone(t, p, dir)
		var damage *mirror.DamageError
		if !errors.As(err, &damage) {
			t.Fatalf("%s: Verify = %v, want damage", name, err)
		}
		if diff := cmp.Diff(tt.want, *damage); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if flaws := l.Flaws(); len(flaws) != 1 || flaws[0].Volume != n || flaws[0].Segment != 1 {
			t.Errorf("%s: Flaws = %v, want segment 1 on volume %d", name, flaws, n)
		}
		items := []mirror.RepairItem{{Repository: "example.com/shop", Reference: "1", Damage: damage, Verify: expected()}}
		done, err := mirror.Repair(t.Context(), dir, items, []mirror.RepairSource{{Name: "hub", Store: src}}, mirror.RepairOptions{})
		if err != nil || len(done.Pieces) != 1 {
			t.Fatalf("%s: Repair = %+v, %v, want one piece", name, done, err)
		}
		if !bytes.Equal(readFile(t, segmentFile(t, dir, large.Digest)), sound) {
			t.Errorf("%s: the segment is not what it was", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "blobs", "sha256", large.Digest.Encoded())); !os.IsNotExist(err) {
			t.Errorf("%s: the volume holds the whole blob now: %v", name, err)
		}
		if again := readFile(t, filepath.Join(dir, "sealift", "media.json")); !bytes.Equal(label, again) {
			t.Errorf("%s: another label:\n%s\n%s", name, label, again)
		}
	}
}

// witness is a repository, and a progress, that counts what it is asked and told.
type witness struct {
	*layout.Repository
	mirror.Progress
	fetched, searched, segments, counted, total atomic.Int64
}

func (c *witness) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Size > mega {
		c.fetched.Add(1)
	}
	return c.Repository.Fetch(ctx, desc)
}

func (c *witness) FindSound(ctx context.Context, desc ocispec.Descriptor) error {
	c.searched.Add(1)
	return c.Repository.FindSound(ctx, desc)
}

func (c *witness) VerifySegments(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error {
	c.segments.Add(1)
	return c.Repository.VerifySegments(ctx, desc, advance)
}

func (c *witness) Begin(total, _ mirror.Amount)          { c.total.Store(total.Bytes) }
func (c *witness) Start(ocispec.Descriptor)              {}
func (c *witness) Advance(_ ocispec.Descriptor, n int64) { c.counted.Add(n) }
func (c *witness) Adjust(_ ocispec.Descriptor, n int64)  { c.counted.Add(n) }
func (c *witness) Stored(ocispec.Descriptor)             {}
func (c *witness) Failed(ocispec.Descriptor, error)      {}
func (c *witness) Absent(ocispec.Descriptor, string)     {}
func (c *witness) End()                                  {}

// Of volumes together a damaged segment is read twice, once with the whole and once to
// find it, and progress ends where it should; alone, what is there counts once.
func TestDamagedSegmentIsReadTwice(t *testing.T) {
	t.Parallel()
	_, p, set, large, n := pieces(t)
	var dirs []string
	for i := range set.Volumes {
		dirs = append(dirs, t.TempDir())
		writeVolume(t, p, set, i+1, dirs[i])
	}
	verify := func(l *layout.Layout) (*witness, error) {
		c := &witness{Repository: l.Repository("example.com/shop")}
		opts := expected()
		opts.Progress = c
		_, err := mirror.Verify(t.Context(), c, p.Roots[0].Descriptor, opts)
		if got, want := c.counted.Load(), c.total.Load(); got != want {
			t.Errorf("progress ends at %d of %d", got, want)
		}
		return c, err
	}
	if _, err := verify(joined(t, dirs[n-1:n])); err != nil {
		t.Errorf("Verify of a volume alone: %v", err)
	}
	file := segmentFile(t, dirs[n-1], large.Digest)
	if err := os.WriteFile(file, make([]byte, len(readFile(t, file))), 0o644); err != nil {
		t.Fatal(err)
	}
	l := joined(t, dirs)
	c, err := verify(l)
	var damage *mirror.DamageError
	if !errors.As(err, &damage) || len(damage.Corrupt) != 1 || len(damage.Missing) != 0 || len(l.Flaws()) != 1 {
		t.Errorf("Verify = %v with flaws %v, want one damaged segment", err, l.Flaws())
	}
	if c.fetched.Load() != 1 || c.searched.Load() != 1 || c.segments.Load() != 0 {
		t.Errorf("%d times fetched, %d searches, %d times its segments, want 1, 1 and 0", c.fetched.Load(), c.searched.Load(), c.segments.Load())
	}
}

// inPieces is a store with segments of a layer of 3000 bytes, of which one is damaged and one missing.
type inPieces struct{ *store }

func (p inPieces) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Size == 3000 {
		return nil, errdef.ErrNotFound
	}
	return p.store.Fetch(ctx, desc)
}

func (inPieces) VerifySegments(_ context.Context, desc ocispec.Descriptor, _ func(n int64)) error {
	if desc.Size != 3000 {
		return nil
	}
	return errors.Join(fmt.Errorf("segment 1: %w", errdef.ErrNotFound), fmt.Errorf("segment 2: %w", mirror.ErrDamaged))
}

func TestSegmentsDamagedInTwoWays(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	large := lots(src, 3000)[0]
	root, err := src.Resolve(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	var damage *mirror.DamageError
	if _, err := mirror.Verify(t.Context(), inPieces{src}, root, expected()); !errors.As(err, &damage) {
		t.Fatalf("Verify = %v, want damage", err)
	}
	if len(damage.Missing) != 1 || len(damage.Corrupt) != 1 || damage.Missing[0].Digest != large.Digest || damage.Corrupt[0].Digest != large.Digest {
		t.Errorf("Verify = %+v, want the layer as missing and as corrupt", damage)
	}
}

// Whoever writes a volume writes the same label, digests of segments too; what an
// interruption kept from it is made up for.
func TestVolumeStatesItsSegments(t *testing.T) {
	t.Parallel()
	_, p, set, large, n := pieces(t)
	dirs := []string{t.TempDir(), t.TempDir()}
	var labels [][]byte
	for _, dir := range dirs {
		writeVolume(t, p, set, n, dir)
		labels = append(labels, readFile(t, filepath.Join(dir, "sealift", "media.json")))
	}
	if !bytes.Equal(labels[0], labels[1]) {
		t.Errorf("a volume written again has another label:\n%s\n%s", labels[0], labels[1])
	}
	label, err := layout.ParseLabel(labels[0])
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range label.Set.Segments[large.Digest].Digests {
		if here := set.Segments[large.Digest].Volumes[i] == n; here != (d != "") {
			t.Errorf("digest of segment %d = %q, here: %t", i, d, here)
		}
	}
	without := label
	set2 := *label.Set
	set2.Segments = maps.Clone(set2.Segments)
	s := set2.Segments[large.Digest]
	s.Digests = nil
	set2.Segments[large.Digest] = s
	without.Set = &set2
	raw, err := without.Format()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dirs[0], "sealift", "media.json")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := verifyAlone(t, p, dirs[0]); err != nil {
		t.Errorf("Verify of a volume whose label states nothing: %v", err)
	}
	media, err := mirror.OpenMedia(t.Context(), dirs[0], mirror.MediaOptions{Set: set, Volume: n})
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.Volume(t.Context(), media, set, n, mirror.PlanOptions{})
	if err != nil || v.Missing() != 1 || v.Summary().Partial != v.Summary().Copied.Bytes {
		t.Errorf("plan = %+v, %v, want the layer, all of it there", v.Summary(), err)
	}
	if err := media.Close(); err != nil {
		t.Fatal(err)
	}
	writeVolume(t, p, set, n, dirs[0])
	if again := readFile(t, path); !bytes.Equal(labels[1], again) {
		t.Errorf("the label is not made good:\n%s\n%s", labels[1], again)
	}
	if media, err = mirror.OpenMedia(t.Context(), dirs[0], mirror.MediaOptions{Set: set, Volume: n}); err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	if v, err = p.Volume(t.Context(), media, set, n, mirror.PlanOptions{}); err != nil || v.Missing() != 0 {
		t.Errorf("plan of a volume that is whole = %+v, %v, want nothing missing", v.Summary(), err)
	}
}

// A copy that fails counts the segments that are there as a plan does.
func TestIncompleteCountsSegments(t *testing.T) {
	t.Parallel()
	src, p, set, large, n := pieces(t)
	dir := t.TempDir()
	writeVolume(t, p, set, n, dir)
	path := filepath.Join(dir, "sealift", "media.json")
	stripped := regexp.MustCompile(`,"digests":\[[^]]*\]`).ReplaceAll(readFile(t, path), nil)
	if err := os.WriteFile(path, stripped, 0o644); err != nil {
		t.Fatal(err)
	}
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Set: set, Volume: n})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	cut := &faulty{Source: src, digest: large.Digest, times: 10, err: errors.New("gone")}
	v, err := plan(t, mirror.Empty(), item(cut, "1")).Volume(t.Context(), media, set, n, mirror.PlanOptions{})
	if err != nil || v.Summary().Partial == 0 {
		t.Fatalf("plan = %+v, %v, want the layer there in part", v.Summary(), err)
	}
	incomplete := new(mirror.IncompleteError)
	if err := v.Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1}); !errors.As(err, &incomplete) || incomplete.Partial != v.Summary().Partial {
		t.Errorf("Execute = %v with %d bytes in part, want %d", err, incomplete.Partial, v.Summary().Partial)
	}
}

// A disc that does not give a segment back is found out before it is carried away.
func TestReadBackOfSegments(t *testing.T) {
	t.Parallel()
	_, p, set, large, n := pieces(t)
	dir := t.TempDir()
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Set: set, Volume: n})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	v, err := p.Volume(t.Context(), media, set, n, mirror.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	sum, err := media.ReadBack(t.Context(), v, nil)
	if err != nil || sum.Bytes != v.Summary().Copied.Bytes {
		t.Errorf("ReadBack = %+v, %v, want %d bytes", sum, err, v.Summary().Copied.Bytes)
	}
	file := segmentFile(t, dir, large.Digest)
	if err := os.WriteFile(file, make([]byte, len(readFile(t, file))), 0o644); err != nil {
		t.Fatal(err)
	}
	var damage *mirror.DamageError
	if _, err := media.ReadBack(t.Context(), v, nil); !errors.As(err, &damage) || !slices.EqualFunc(damage.Corrupt, []ocispec.Descriptor{large}, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }) {
		t.Errorf("ReadBack = %v, want damage of %s", err, large.Digest)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
