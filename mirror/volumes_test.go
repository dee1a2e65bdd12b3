package mirror_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// lots is an image of layers of the sizes given, and a signature.
func lots(src *store, sizes ...int) (layers []ocispec.Descriptor) {
	noise := rand.NewChaCha8([32]byte{1})
	for _, size := range sizes {
		data := make([]byte, size)
		_, _ = noise.Read(data) // never fails
		layers = append(layers, src.layer(string(data)))
	}
	image := src.image("lots", nil, layers...)
	src.image("signature", &image, src.layer("signature"))
	src.tag(image, "1")
	return layers
}

const mega = 1 << 20

func TestSplit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		sizes   []int
		opts    mirror.VolumeOptions
		volumes int
		pieces  int // of blobs in segments
	}{
		{"one is enough", []int{mega, mega}, mirror.VolumeOptions{Bytes: 10 * mega}, 1, 0},
		{"two by two", []int{3 * mega, 3 * mega, 3 * mega, 3 * mega}, mirror.VolumeOptions{Bytes: 8 * mega}, 2, 0},
		{"small ones fill up", []int{5 * mega, 100, 5 * mega, 100, 100}, mirror.VolumeOptions{Bytes: 7 * mega}, 2, 0},
		{"larger than a volume", []int{11 * mega}, mirror.VolumeOptions{Bytes: 6 * mega}, 3, 3},
		{"a file at a time", []int{10, 20, 30, 40}, mirror.VolumeOptions{Bytes: 6 * mega, Entries: 7}, 2, 0},
		{"nothing to spread", nil, mirror.VolumeOptions{Bytes: 6 * mega}, 1, 0},
		{"less room for files that are packed too", []int{3 * mega, 3 * mega}, mirror.VolumeOptions{Bytes: 8 * mega, Extra: 2 * mega}, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := newStore(t)
			lots(src, tt.sizes...)
			p := plan(t, mirror.Empty(), item(src, "1"))
			set, err := p.Split(tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if len(set.Volumes) != tt.volumes {
				t.Errorf("%d volumes, want %d: %+v", len(set.Volumes), tt.volumes, set)
			}
			checkSet(t, p, set)
			pieces := 0
			for _, s := range set.Segments {
				pieces += len(s.Volumes)
			}
			if pieces != tt.pieces {
				t.Errorf("%d segments, want %d", pieces, tt.pieces)
			}
			again, err := plan(t, mirror.Empty(), item(src, "1")).Split(tt.opts)
			if diff := cmp.Diff(set, again); err != nil || diff != "" {
				t.Errorf("the same plan makes another set, %v (-first +second):\n%s", err, diff)
			}
		})
	}
}

// checkSet fails unless every layer and config is on exactly one volume, and no
// volume is too full.
func checkSet(t *testing.T, p *mirror.Plan, set *mirror.Set) {
	t.Helper()
	on := map[digest.Digest]int{}
	for i, v := range set.Volumes {
		if v.Bytes > set.Options.Bytes {
			t.Errorf("volume %d holds %d of %d bytes", i+1, v.Bytes, set.Options.Bytes)
		}
		for _, d := range v.Blobs {
			on[d]++
		}
	}
	if most := set.Options.Entries; most > 0 {
		for i, v := range set.Volumes { // none of them is in segments here
			if n := len(p.Manifests) + 2 + len(v.Blobs); n > most {
				t.Errorf("volume %d has %d blobs, want at most %d", i+1, n, most)
			}
		}
	}
	for d, s := range set.Segments {
		if on[d] > 0 {
			t.Errorf("%s is whole on a volume, and in segments", d)
		}
		on[d]++
		if slices.Contains(s.Volumes, 0) {
			t.Errorf("a segment of %s is nowhere: %v", d, s.Volumes)
		}
	}
	spread := 0
	for _, s := range p.Blobs {
		if n := on[s.Descriptor.Digest]; n > 1 {
			t.Errorf("%s is on %d volumes", s.Descriptor.Digest, n)
		} else {
			spread += n
		}
	}
	if vital := 2; spread != len(p.Blobs)-vital { // config and layer of the signature
		t.Errorf("%d of %d blobs are on one volume, want all but %d", spread, len(p.Blobs), vital)
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	lots(src, mega)
	long := artifactSHA512(t, src)
	src.tag(src.image("long", nil, long), "long")
	for name, tt := range map[string]struct {
		ref  string
		opts mirror.VolumeOptions
	}{
		"no room":           {"1", mirror.VolumeOptions{Bytes: mega}},
		"no capacity":       {"1", mirror.VolumeOptions{}},
		"too few entries":   {"1", mirror.VolumeOptions{Bytes: 100 * mega, Entries: 3}},
		"names too long":    {"long", mirror.VolumeOptions{Bytes: 100 * mega, NameBytes: 64}},
		"filled by a tool":  {"1", mirror.VolumeOptions{Bytes: 20 * mega, Extra: 19 * mega}},
		"negative capacity": {"1", mirror.VolumeOptions{Bytes: -1}},
	} {
		if set, err := plan(t, mirror.Empty(), item(src, tt.ref)).Split(tt.opts); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
			t.Errorf("%s: Split = %+v, %v, want %v", name, set, err, errdef.ErrSizeExceedsLimit)
		}
	}
}

// A size that no disk has must not be cut into pieces one by one.
func TestSplitHuge(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	src.tag(src.huge(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("huge"), Size: 1 << 59}), "1")
	if set, err := plan(t, mirror.Empty(), item(src, "1")).Split(mirror.VolumeOptions{Bytes: 100 * mega}); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("Split = %v, %v, want %v", set, err, errdef.ErrSizeExceedsLimit)
	}
}

func artifactSHA512(t *testing.T, src *store) ocispec.Descriptor {
	t.Helper()
	data := []byte("long")
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.SHA512.FromBytes(data), Size: int64(len(data))}
	if err := src.Push(t.Context(), d, strings.NewReader(string(data))); err != nil {
		t.Fatal(err)
	}
	return d
}

// Thousands of small blobs fill volumes with more than their bytes: entries of the
// label, and blocks.
func TestVolumesOfSmallBlobs(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	sizes := make([]int, 3000)
	for i := range sizes {
		sizes[i] = 100 + i
	}
	lots(src, sizes...)
	p := plan(t, mirror.Empty(), item(src, "1"))
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Volumes) < 3 {
		t.Fatalf("%d volumes, want several", len(set.Volumes))
	}
	var dirs []string
	for n := range set.Volumes {
		dirs = append(dirs, t.TempDir())
		writeVolume(t, p, set, n+1, dirs[n])
	}
	checkVolumes(t, p, set, dirs)
}

// Every volume is written by itself, verifies by itself, and all together are what
// one copy would be.
func TestVolumes(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	lots(src, 3*mega, 11*mega, 2*mega, 1000, 4*mega)
	p := plan(t, mirror.Empty(), item(src, "1"))
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for n := len(set.Volumes); n > 0; n-- { // in any order
		dir := t.TempDir()
		dirs = append(dirs, dir)
		writeVolume(t, p, set, n, dir)
		writeVolume(t, p, set, n, dir) // again: there is nothing left to do
		read, volume, err := mirror.ReadSet(dir)
		if err != nil || volume != n {
			t.Fatalf("ReadSet = volume %d, %v, want %d", volume, err, n)
		}
		if diff := cmp.Diff(set.Segments, read.Segments); diff != "" || read.ID != set.ID || len(read.Volumes) != len(set.Volumes) {
			t.Errorf("ReadSet = %+v, want %+v", read, set)
		}
	}
	checkVolumes(t, p, set, dirs)
	var other *mirror.VolumeError
	if _, err := mirror.OpenMedia(t.Context(), dirs[0], mirror.MediaOptions{Set: set, Volume: 1}); !errors.As(err, &other) || other.Volume != len(set.Volumes) {
		t.Errorf("OpenMedia of the last volume as the first = %v, want a VolumeError", err)
	}
	if _, err := p.Volume(t.Context(), mirror.Empty(), set, len(set.Volumes)+1, mirror.PlanOptions{}); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Volume beyond the last = %v, want %v", err, errdef.ErrNotFound)
	}
	src.tag(src.image("other", nil, src.layer("not in the set")), "2")
	if _, err := plan(t, mirror.Empty(), item(src, "2")).Volume(t.Context(), mirror.Empty(), set, 1, mirror.PlanOptions{}); !errors.Is(err, mirror.ErrMoved) {
		t.Errorf("Volume of another plan = %v, want %v", err, mirror.ErrMoved)
	}
}

// Media that is something else does not become a volume.
func TestOpenMediaRefusesVolumes(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	lots(src, mega)
	p := plan(t, mirror.Empty(), item(src, "1"))
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.Split(mirror.VolumeOptions{Bytes: 7 * mega})
	if err != nil {
		t.Fatal(err)
	}
	whole, volume := t.TempDir(), t.TempDir()
	copyItem(t, whole, item(src, "1"), mirror.PlanOptions{})
	writeVolume(t, p, other, 1, volume)
	for dir, want := range map[string]mirror.VolumeError{whole: {Dir: whole}, volume: {Dir: volume, Volume: 1, Of: 1, Other: true}} {
		before := snapshot(t, dir)
		_, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Set: set, Volume: 1})
		var refused *mirror.VolumeError
		if !errors.As(err, &refused) || *refused != want {
			t.Errorf("OpenMedia = %v, want %v", err, &want)
		}
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Errorf("media that was refused has changed (-before +after):\n%s", diff)
		}
	}
}

// What one destination has says nothing of what is on a volume.
func TestVolumeOfACopiedPlan(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	lots(src, 2*mega)
	for range 2 {
		media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := plan(t, media, item(src, "1"))
		if err := errors.Join(p.Execute(t.Context(), mirror.ExecuteOptions{}), media.Close()); err != nil {
			t.Fatal(err)
		}
		set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Volume(t.Context(), mirror.Empty(), set, 1, mirror.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if sum := v.Summary(); sum.Copied != sum.All {
			t.Errorf("%+v of %+v is copied onto an empty volume, want all", sum.Copied, sum.All)
		}
		writeVolume(t, p, set, 1, t.TempDir())
	}
}

// What a delta leaves is on no volume, and each of them says why.
func TestVolumesOfADelta(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	layers := lots(src, 3*mega, 3*mega, 2*mega, 11*mega)
	src.tag(src.image("base", nil, layers[0], layers[3]), "base")
	p, err := mirror.NewPlan(t.Context(), mirror.Empty(), []mirror.Item{item(src, "1")}, mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(src, "base")}}}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil || len(set.Volumes) != 2 || len(set.Segments) != 0 {
		t.Fatalf("Split = %+v, %v, want two volumes of what is not left", set, err)
	}
	for n := range set.Volumes {
		v, err := p.Volume(t.Context(), mirror.Empty(), set, n+1, mirror.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range v.Blobs {
			base := s.Descriptor.Digest == layers[0].Digest || s.Descriptor.Digest == layers[3].Digest
			if (s.Left == mirror.LeftInBase) != base || s.Left == "volume 0" {
				t.Errorf("volume %d: %s is left as %q, want as in the base: %t", n+1, s.Descriptor.Digest, s.Left, base)
			}
		}
	}
}

// A set that was read from media may say anything.
func TestVolumeRefusesSets(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	layers := lots(src, 11*mega, 2*mega, 4*mega)
	large, small := layers[0].Digest, layers[1].Digest
	src.tag(src.image("other", nil, src.layer("other")), "2")
	p := plan(t, mirror.Empty(), item(src, "1"))
	whole := func(set *mirror.Set, d digest.Digest) *mirror.Volume {
		return &set.Volumes[slices.IndexFunc(set.Volumes, func(v mirror.Volume) bool { return slices.Contains(v.Blobs, d) })]
	}
	for _, tt := range []struct {
		name string
		lie  func(*mirror.Set)
		want error
	}{
		{"the truth", func(*mirror.Set) {}, nil},
		{"a segment less", func(set *mirror.Set) {
			s := set.Segments[large]
			set.Segments[large] = mirror.Segments{Bytes: s.Bytes, Volumes: s.Volumes[1:]}
		}, mirror.ErrDamaged},
		{"no segment", func(set *mirror.Set) { set.Segments[large] = mirror.Segments{Bytes: mega} }, mirror.ErrDamaged},
		{"segments of nothing", func(set *mirror.Set) { set.Segments[large] = mirror.Segments{Volumes: []int{1}} }, mirror.ErrDamaged},
		{"a segment nowhere", func(set *mirror.Set) { set.Segments[large].Volumes[0] = 0 }, mirror.ErrDamaged},
		{"a segment beyond the last volume", func(set *mirror.Set) { set.Segments[large].Volumes[0] = len(set.Volumes) + 1 }, mirror.ErrDamaged},
		{"whole and in segments", func(set *mirror.Set) { whole(set, small).Blobs = append(whole(set, small).Blobs, large) }, mirror.ErrDamaged},
		{"on two volumes", func(set *mirror.Set) {
			set.Volumes = append(set.Volumes, mirror.Volume{Blobs: []digest.Digest{small}})
		}, mirror.ErrDamaged},
		{"nowhere", func(set *mirror.Set) {
			v := whole(set, small)
			v.Blobs = slices.DeleteFunc(v.Blobs, func(d digest.Digest) bool { return d == small })
		}, mirror.ErrMoved},
	} {
		set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
		if err != nil {
			t.Fatal(err)
		}
		tt.lie(set)
		set.Identify(p)
		if _, err := p.Volume(t.Context(), mirror.Empty(), set, 1, mirror.PlanOptions{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: Volume = %v, want %v", tt.name, err, tt.want)
		}
	}
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	set.Options.Bytes *= 2
	if err := set.Check(p); !errors.Is(err, mirror.ErrMoved) {
		t.Errorf("Check of a set of another ID = %v, want %v", err, mirror.ErrMoved)
	}
	var moved *mirror.MovedError
	if err := set.Check(plan(t, mirror.Empty(), item(src, "2"))); !errors.As(err, &moved) || len(moved.Source) != 1 || !strings.Contains(moved.Source[0], "the set is of example.com/shop:1 ") {
		t.Errorf("Check with another release = %v, want what the set is of", err)
	}
}

// The plan of a volume counts what is on it.
func TestVolumeSummary(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	lots(src, 11*mega, 2*mega)
	p := plan(t, mirror.Empty(), item(src, "1"))
	set, err := p.Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	all, vital := p.Summary(), int64(0)
	for _, s := range p.Manifests {
		vital += s.Descriptor.Size
	}
	var copied int64
	for n := range set.Volumes {
		v, err := p.Volume(t.Context(), mirror.Empty(), set, n+1, mirror.PlanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sum := v.Summary()
		if got := sum.Copied.Bytes + sum.Stored.Bytes + sum.Left.Bytes; got != all.All.Bytes || sum.All != all.All {
			t.Errorf("volume %d: %+v is not all of %+v", n+1, sum, all.All)
		}
		if sum.Copied.Bytes > set.Options.Bytes {
			t.Errorf("volume %d: %d bytes are copied onto %d", n+1, sum.Copied.Bytes, set.Options.Bytes)
		}
		copied += sum.Copied.Bytes
	}
	// Manifests, and the config and layer of the signature, are on every volume.
	if over, most := copied-all.All.Bytes, int64(len(set.Volumes)-1)*(vital+1000); over <= 0 || over > most {
		t.Errorf("%d bytes are copied of %d, want the manifests and proofs more, at most %d", copied, all.All.Bytes, most)
	}
}

// checkVolumes fails unless no volume is larger than it may be, each has all that
// is to be looked at, and together they are whole.
func checkVolumes(t *testing.T, p *mirror.Plan, set *mirror.Set, dirs []string) {
	t.Helper()
	var volumes []*layout.Layout
	for _, dir := range dirs {
		if size := treeSize(t, dir); size > set.Options.Bytes {
			t.Errorf("%s holds %d bytes, want at most %d", dir, size, set.Options.Bytes)
		}
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Manifests {
			if has, err := l.Exists(t.Context(), s.Descriptor); err != nil || !has {
				t.Errorf("%s lacks manifest %s, %v", dir, s.Descriptor.Digest, err)
			}
		}
		volumes = append(volumes, l)
	}
	joined, err := layout.Join(volumes...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := mirror.Verify(t.Context(), joined.Repository("example.com/shop"), p.Roots[0].Descriptor, mirror.VerifyOptions{})
	if err != nil || got.Blobs != len(p.Blobs) || got.Manifests != len(p.Manifests) {
		t.Errorf("Verify of all volumes = %+v, %v, want %d blobs and %d manifests", got, err, len(p.Blobs), len(p.Manifests))
	}
}

// treeSize is what files take in blocks of 4 KiB.
func treeSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += (info.Size() + 4095) / 4096 * 4096
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func writeVolume(t *testing.T, p *mirror.Plan, set *mirror.Set, n int, dir string) {
	t.Helper()
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
		t.Fatal(fmt.Errorf("volume %d: %w", n, err))
	}
}

// A size that is too small is told the least that is not.
func TestSplitLeast(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	newFixture(src)
	p := plan(t, mirror.Empty(), item(src, "1.0.0"))
	var small *mirror.VolumeSizeError
	if _, err := p.Split(mirror.VolumeOptions{Bytes: 1}); !errors.As(err, &small) {
		t.Fatalf("Split of 1 byte = %v, want a VolumeSizeError", err)
	}
	if _, err := p.Split(mirror.VolumeOptions{Bytes: small.Least}); err != nil {
		t.Errorf("Split of the least, %d bytes = %v", small.Least, err)
	}
	if _, err := p.Split(mirror.VolumeOptions{Bytes: small.Least - 1}); !errors.As(err, &small) {
		t.Errorf("Split of one byte less = %v, want a VolumeSizeError", err)
	}
}
