package mirror_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// randomSet is what fills several small volumes to the brim: images of many blobs with
// proofs, at times as a delta.
type randomSet struct {
	src   *store
	items []mirror.Item
	plan  mirror.PlanOptions
	opts  mirror.VolumeOptions
}

func newRandomSet(t *testing.T, seed uint64) randomSet {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	noise := rand.NewChaCha8([32]byte{byte(seed)})
	s := randomSet{src: newStore(t)}
	s.opts.Bytes = int64(4*mega + r.IntN(2*mega))
	s.opts.BlockBytes = []int64{0, 2048, 4096, 8192}[r.IntN(4)]
	s.opts.Extra = int64(r.IntN(2) * r.IntN(mega/2))
	layer := func(most int) ocispec.Descriptor {
		data := make([]byte, 8+r.IntN(most))
		_, _ = noise.Read(data) // never fails
		return s.src.layer(string(data))
	}
	var large []ocispec.Descriptor
	for range r.IntN(3) {
		large = append(large, layer(mega))
	}
	if r.IntN(3) == 0 {
		large = append(large, layer(9*mega)) // most often in segments
	}
	proofs, delta := r.IntN(3), r.IntN(2)
	var site mirror.Site
	roots := 1 + r.IntN(2)*r.IntN(40)
	for n := range roots {
		layers := large
		for range 900 / roots { // they fill what the others leave, to the last block
			layers = append(layers, layer(6000))
		}
		tag := fmt.Sprintf("1.0.%d", n)
		image := s.src.image(tag, nil, layers...)
		for range proofs {
			s.src.image("proof", &image, layer(8000))
		}
		s.src.tag(image, tag)
		s.items = append(s.items, item(s.src, tag))
		for i := range delta * 20 {
			base := fmt.Sprintf("%s-base-%d", tag, i)
			s.src.tag(s.src.image(base, nil, layers[len(layers)-1-i]), base)
			site.Items = append(site.Items, mirror.Item{Source: s.src, Reference: base, Name: "example.com/" + strings.Repeat("long/", 60) + "base:" + base})
		}
	}
	if delta > 0 {
		s.plan.Sites = append(s.plan.Sites, site)
	}
	return s
}

// However a set is made up, all files of a volume, each in whole blocks, leave the
// file system what it is promised: manifests and proofs, the label, the index and
// what is packed too have been counted.
func TestVolumesLeaveRoom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := newRandomSet(t, seed)
			p, err := mirror.NewPlan(t.Context(), mirror.Empty(), s.items, s.plan)
			if err != nil {
				t.Fatal(err)
			}
			set, err := p.Split(s.opts)
			if err != nil {
				t.Fatal(err)
			}
			checkRoom(t, s, p, set)
		})
	}
}

// A blob in thousands of segments has a label to match, which is counted.
func TestLabelOfSegmentsIsCounted(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	large := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("large"), Size: 6000 * mega}
	src.tag(src.image("image", nil, large), "1")
	set, err := plan(t, mirror.Empty(), item(src, "1")).Split(mirror.VolumeOptions{Bytes: 4000 * mega, FileBytes: mega})
	if err != nil {
		t.Fatal(err)
	}
	s := set.Segments[large.Digest]
	for i, v := range set.Volumes {
		label := layout.Label{Set: &layout.LabelSet{ID: "x", Volume: i + 1, Volumes: make([][]digest.Digest, len(set.Volumes))}}
		of := layout.LabelSegments{Bytes: s.Bytes, Volumes: s.Volumes, Digests: make([]digest.Digest, len(s.Volumes))}
		var content int64
		for n, on := range s.Volumes {
			if on == i+1 {
				content += s.Bytes
				of.Digests[n] = large.Digest
			}
		}
		label.Set.Segments = map[digest.Digest]layout.LabelSegments{large.Digest: of}
		raw, err := label.Format()
		if err != nil {
			t.Fatal(err)
		}
		if usable := set.Options.Bytes - set.Options.Bytes/100 - mega; v.Bytes > usable || content+int64(len(raw)) > v.Bytes {
			t.Errorf("volume %d: %d bytes in segments, a label of %d, %d counted, and %d usable", i+1, content, len(raw), v.Bytes, usable)
		}
	}
}

func checkRoom(t *testing.T, s randomSet, p *mirror.Plan, set *mirror.Set) {
	t.Helper()
	block := set.Options.BlockBytes
	// Of a few files that every volume has only the bytes are counted, or nothing.
	usable := set.Options.Bytes - set.Options.Bytes/100 - mega + 4*block
	for i, v := range set.Volumes {
		dir := inMemory(t)
		writeVolume(t, p, set, i+1, dir)
		if err := os.WriteFile(filepath.Join(dir, "START-HERE.txt"), make([]byte, s.opts.Extra), 0o600); err != nil {
			t.Fatal(err)
		}
		if size := allocated(t, dir, block); size > usable || size > v.Bytes+4*block {
			t.Errorf("volume %d of %d holds %d bytes, want at most %d, and %d as the set says: %+v", i+1, len(set.Volumes), size, usable, v.Bytes, set.Options)
		}
	}
}

// allocated is what the files below dir take in blocks.
func allocated(t *testing.T, dir string, block int64) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += (info.Size() + block - 1) / block * block
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// inMemory is a directory for many small files, where that can be had: a disk would
// add nothing but time.
func inMemory(t *testing.T) string {
	t.Helper()
	home := "/dev/shm"
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(home, "sealift-volume-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
