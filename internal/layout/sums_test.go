package layout_test

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

// labelled are two volumes with segments of one blob, 0 and 2 on the first and 1 on
// the second, whose labels state their digests.
func labelled(t *testing.T) (dirs []string, desc ocispec.Descriptor, blob []byte) {
	t.Helper()
	blob = noise(2500)
	desc = describe(ocispec.MediaTypeImageLayer, blob)
	for volume := range 2 {
		w := writer(t, t.TempDir())
		src := &source{content: blob}
		digests, err := w.IngestSegments(t.Context(), desc, 1000, func(n int) bool { return n%2 == volume }, src.open)
		if err != nil {
			t.Fatal(err)
		}
		setDigests(t, w, volume+1, desc, digests)
		dirs = append(dirs, w.Dir())
		closeWriter(t, w)
	}
	return dirs, desc, blob
}

func setDigests(t *testing.T, w *layout.Writer, volume int, desc ocispec.Descriptor, digests []digest.Digest) {
	t.Helper()
	label := layout.Label{Set: &layout.LabelSet{
		ID: "x", Volume: volume, Volumes: [][]digest.Digest{{}, {}},
		Segments: map[digest.Digest]layout.LabelSegments{desc.Digest: {Bytes: 1000, Volumes: []int{1, 2, 1}, Digests: digests}},
	}}
	if err := w.SetLabel(t.Context(), label); err != nil {
		t.Fatal(err)
	}
}

func TestVerifySegments(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, path string) // of segment 2
		want   error                           // nil for none
	}{
		{"sound", func(*testing.T, string) {}, nil},
		{"other bytes", func(t *testing.T, path string) { write(t, make([]byte, 500), path) }, content.ErrMismatchedDigest},
		{"cut", func(t *testing.T, path string) { write(t, make([]byte, 499), path) }, content.ErrInvalidDescriptorSize},
		{"gone", func(t *testing.T, path string) { remove(t, path) }, errdef.ErrNotFound},
		{"a link", func(t *testing.T, path string) {
			remove(t, path)
			if err := os.Symlink("000", path); err != nil {
				t.Skip(err)
			}
		}, fs.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dirs, desc, _ := labelled(t)
			tt.damage(t, segmentPath(dirs[0], desc.Digest, "002"))
			for _, l := range []*layout.Layout{open(t, dirs[0]), join(t, dirs[1], dirs[0])} {
				var read int64
				err := l.VerifySegments(t.Context(), desc, func(n int64) { read += n })
				if tt.want == nil {
					if err != nil || len(l.Flaws()) > 0 || read < 1500 {
						t.Errorf("VerifySegments = %v, %v after %d bytes, want none", err, l.Flaws(), read)
					}
					continue
				}
				var flaw *layout.PieceError
				if !errors.Is(err, tt.want) || !errors.As(err, &flaw) || flaw.Segment != 2 || flaw.Volume != 1 || flaw.Dir != dirs[0] {
					t.Errorf("VerifySegments = %v, want segment 2 on volume 1: %v", err, tt.want)
				}
				if flaws := l.Flaws(); len(flaws) != 1 || flaws[0] != flaw {
					t.Errorf("Flaws = %v, want %v", flaws, flaw)
				}
				if err := l.VerifySegmentsUncached(t.Context(), desc, nil); !errors.Is(err, tt.want) {
					t.Errorf("VerifySegmentsUncached = %v, want %v", err, tt.want)
				}
			}
		})
	}
}

// What a label says decides nothing: wrong bytes that it calls right are refused with
// the whole, and right ones that it calls wrong are not.
func TestSegmentDigestsAreAdvice(t *testing.T) {
	t.Parallel()
	dirs, desc, blob := labelled(t)
	lie := func(content []byte) {
		w := writer(t, dirs[1])
		setDigests(t, w, 2, desc, []digest.Digest{"", digest.FromBytes(content), ""})
		closeWriter(t, w)
	}
	lie([]byte("something else"))
	if err := open(t, dirs[1]).VerifySegments(t.Context(), desc, nil); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Errorf("VerifySegments = %v, want %v", err, content.ErrMismatchedDigest)
	}
	if got := fetch(t, join(t, dirs...), desc); !slices.Equal(got, blob) {
		t.Error("a label that lies makes sound segments unreadable")
	}
	write(t, make([]byte, 1000), segmentPath(dirs[1], desc.Digest, "001"))
	lie(make([]byte, 1000))
	if err := open(t, dirs[1]).VerifySegments(t.Context(), desc, nil); err != nil {
		t.Errorf("VerifySegments = %v: the label says that this is right", err)
	}
	rc, err := join(t, dirs...).Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := content.ReadAll(rc, desc); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Errorf("reading the whole = %v, want %v", err, content.ErrMismatchedDigest)
	}
}

// Tables that do not add up, and labels without digests, state nothing.
func TestLabelPieces(t *testing.T) {
	t.Parallel()
	d := digest.FromString("blob")
	desc := ocispec.Descriptor{Digest: d, Size: 2500}
	on := func(s layout.LabelSegments) *layout.LabelSet {
		return &layout.LabelSet{ID: "x", Volume: 1, Volumes: [][]digest.Digest{{}, {}}, Segments: map[digest.Digest]layout.LabelSegments{d: s}}
	}
	one := digest.FromString("one")
	for _, tt := range []struct {
		name string
		set  *layout.LabelSet
		want []layout.LabelPiece
	}{
		{"no set", nil, nil},
		{"another blob", &layout.LabelSet{Volume: 1}, nil},
		{"stated", on(layout.LabelSegments{Bytes: 1000, Volumes: []int{1, 2, 1}, Digests: []digest.Digest{one, "", ""}}),
			[]layout.LabelPiece{{Segment: 0, Bytes: 1000, Digest: one}, {Segment: 2, Bytes: 500}}},
		{"not stated", on(layout.LabelSegments{Bytes: 1000, Volumes: []int{2, 2, 1}}), []layout.LabelPiece{{Segment: 2, Bytes: 500}}},
		{"too few", on(layout.LabelSegments{Bytes: 1000, Volumes: []int{1, 1}}), nil},
		{"too many", on(layout.LabelSegments{Bytes: 1000, Volumes: []int{1, 1, 1, 1}}), nil},
		{"of a huge size", on(layout.LabelSegments{Bytes: 1<<63 - 1, Volumes: []int{1, 1, 1}}), nil},
	} {
		if got := tt.set.Pieces(desc); !slices.Equal(got, tt.want) {
			t.Errorf("%s: Pieces = %v, want %v", tt.name, got, tt.want)
		}
	}
}
