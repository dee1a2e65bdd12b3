package layout_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// signed makes a layout of an image with a list of signatures, which differ in nothing
// but their annotations.
func signed(t *testing.T, suffix string, signatures ...string) (dir string, subject, list ocispec.Descriptor) {
	t.Helper()
	w := writer(t, t.TempDir())
	subject = image(t, w, "signed")
	payload := push(t, w, "application/vnd.dev.cosign.simplesigning.v1+json", []byte("payload"))
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: push(t, w, ocispec.MediaTypeImageConfig, []byte(`{"n":`+strconv.Itoa(len(signatures))+`}`)),
	}
	for _, s := range signatures {
		layer := payload
		layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": s}
		manifest.Layers = append(manifest.Layers, layer)
	}
	list = pushJSON(t, w, ocispec.MediaTypeImageManifest, manifest)
	tag := artifact.SignatureTag(subject.Digest, suffix)
	setRoot(t, w, shop+":1.0.0", "shop-1.0.0", subject)
	setRoot(t, w, shop+":"+tag, tag, list)
	commit(t, w)
	closeWriter(t, w)
	return w.Dir(), subject, list
}

func TestJoinListsThatGrow(t *testing.T) {
	t.Parallel()
	damage := func(t *testing.T, dir string, d digest.Digest) {
		path := open(t, dir).BlobPath(d)
		raw := read(t, path)
		raw[len(raw)/2] ^= 1
		remove(t, path)
		write(t, raw, path)
	}
	tests := []struct {
		name       string
		suffix     string
		signatures [][]string
		damaged    int // of signatures, -1 for none
		want       int
		left       []int
	}{
		{"one more", ".sig", [][]string{{"a"}, {"a", "b"}}, -1, 1, nil},
		{"three", ".att", [][]string{{"a"}, {"b", "a", "c"}, {"c", "a"}}, -1, 1, nil},
		{"neither has all", ".sig", [][]string{{"a", "b", "c"}, {"a", "x"}}, -1, 0, []int{1}},
		{"the longest lacks one of three", ".sig", [][]string{{"a", "b", "c"}, {"a", "b"}, {"x"}}, -1, 0, []int{2}},
		{"the longer is damaged", ".sig", [][]string{{"a"}, {"a", "b"}}, 1, 0, []int{1}},
		{"the shorter is damaged", ".sig", [][]string{{"a"}, {"a", "b"}}, 0, 1, []int{0}},
		{"one says the same twice", ".sbom", [][]string{{"a", "a", "a"}, {"a", "b"}}, -1, 1, nil},
		{"one has nothing", ".sig", [][]string{{}, {"a"}}, -1, 1, []int{0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var dirs []string
			var lists []ocispec.Descriptor
			var subject ocispec.Descriptor
			for i, s := range tt.signatures {
				dir, of, list := signed(t, tt.suffix, s...)
				if subject = of; i == tt.damaged {
					damage(t, dir, list.Digest)
				}
				dirs, lists = append(dirs, dir), append(lists, list)
			}
			tag := artifact.SignatureTag(subject.Digest, tt.suffix)
			var left []digest.Digest
			for _, i := range tt.left {
				left = append(left, lists[i].Digest)
			}
			for range 2 {
				slices.Reverse(dirs) // in any order
				l := join(t, dirs...)
				for _, resolve := range []func() (ocispec.Descriptor, error){
					func() (ocispec.Descriptor, error) { return l.Repository(shop).Resolve(t.Context(), tag) },
					func() (ocispec.Descriptor, error) { return l.Resolve(t.Context(), shop+":"+tag) },
					func() (ocispec.Descriptor, error) { return l.Resolve(t.Context(), tag) },
				} {
					if got, err := resolve(); err != nil || got.Digest != lists[tt.want].Digest {
						t.Errorf("Resolve = %v, %v, want %s", got.Digest, err, lists[tt.want].Digest)
					}
				}
				forks, err := l.Forks(t.Context())
				if err != nil || len(forks) != min(1, len(left)) {
					t.Fatalf("Forks = %v, %v, want %d", forks, err, min(1, len(left)))
				}
				for _, f := range forks {
					if f.Chosen != lists[tt.want].Digest || !slices.Equal(f.Left, left) || !strings.HasPrefix(f.Conflict.Name, shop+":") {
						t.Errorf("Forks = %+v, want %s and %v left", f, lists[tt.want].Digest, left)
					}
				}
				for i, list := range lists {
					if _, err := l.Repository(shop).Resolve(t.Context(), list.Digest.String()); (err != nil) != (i == tt.damaged) {
						t.Errorf("Resolve(%s) = %v", list.Digest, err)
					}
				}
			}
		})
	}
}

// What is no list that grows is contested as before; so is a list when there is too much
// to compare, or nothing that can be read.
func TestJoinListsThatDoNot(t *testing.T) {
	t.Parallel()
	contested := func(t *testing.T, l *layout.Layout, tag string) {
		t.Helper()
		if _, err := l.Repository(shop).Resolve(t.Context(), tag); !errors.As(err, new(*layout.ConflictError)) {
			t.Errorf("Resolve(%s) = %v, want a ConflictError", tag, err)
		}
	}
	for _, suffix := range []string{"", ".other"} {
		one, subject, _ := signed(t, suffix, "a")
		two, _, _ := signed(t, suffix, "a", "b")
		contested(t, join(t, one, two), artifact.SignatureTag(subject.Digest, suffix))
	}
	one, subject, first := signed(t, ".sig", "a")
	two, _, second := signed(t, ".sig", "a", "b")
	long := join(t, one, two)
	if err := long.SettleWithin(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	contested(t, long, artifact.SignatureTag(subject.Digest, ".sig"))
	write(t, []byte("cut"), open(t, one).BlobPath(first.Digest))
	write(t, []byte("cut"), open(t, two).BlobPath(second.Digest))
	contested(t, join(t, one, two), artifact.SignatureTag(subject.Digest, ".sig"))
}
