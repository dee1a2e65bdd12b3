package mirror_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/mirror"
)

func TestDelta(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	base, old, fresh, signed := src.layer("base"), src.layer("old"), src.layer("fresh"), src.layer("signature")
	one := src.image("one", nil, base, old)
	two := src.image("two", nil, base, old, fresh, signed)
	src.image("signature of two", &two, signed)
	src.tag(one, "1")
	src.tag(two, "2")
	src.tag(src.image("other", nil, base), "other")
	tests := []struct {
		name  string
		sites []mirror.Site
		left  []ocispec.Descriptor
		base  int
	}{
		{"nothing known", nil, nil, 0},
		{"one site", []mirror.Site{{Items: []mirror.Item{item(src, "1")}}}, []ocispec.Descriptor{base, old}, 1},
		{"several sites need what one lacks", []mirror.Site{{Items: []mirror.Item{item(src, "1")}}, {Items: []mirror.Item{item(src, "other")}}}, []ocispec.Descriptor{base}, 2},
		{"the one that lacks it comes first", []mirror.Site{{Items: []mirror.Item{item(src, "other")}}, {Items: []mirror.Item{item(src, "1")}}}, []ocispec.Descriptor{base}, 2},
		{"a site without anything comes first", []mirror.Site{{}, {Items: []mirror.Item{item(src, "1")}}}, nil, 0},
		{"a site with two releases, one accounts for all", []mirror.Site{{Items: []mirror.Item{item(src, "1"), item(src, "other")}}}, []ocispec.Descriptor{base, old}, 1},
		{"a site without anything", []mirror.Site{{Items: []mirror.Item{item(src, "1")}}, {}}, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{item(src, "2")}, mirror.PlanOptions{Sites: tt.sites})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range p.Blobs {
				want := slices.ContainsFunc(tt.left, func(d ocispec.Descriptor) bool { return d.Digest == s.Descriptor.Digest })
				if got := s.Left == mirror.LeftInBase; got != want {
					t.Errorf("%s: left = %q, want left %t", s.Descriptor.Digest, s.Left, want)
				}
			}
			if len(p.Roots[0].Base) != tt.base {
				t.Errorf("Base = %v, want %d roots", p.Roots[0].Base, tt.base)
			}
		})
	}
}

// What the destination has already needs no base, and what refers to a release is
// carried even where the base has it.
func TestDeltaKeepsProofs(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	layer, signature := src.layer("layer"), src.layer("signature")
	image := src.image("image", nil, layer)
	src.image("signature of it", &image, signature)
	src.tag(image, "1")
	dst, err := mirror.OpenMedia(t.Context(), t.TempDir(), mirror.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	p, err := mirror.NewPlan(t.Context(), dst, []mirror.Item{item(src, "1")}, mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(src, "1")}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[*ocispec.Descriptor]bool{&signature: true, &layer: false, &image: true} {
		if has, err := dst.Exists(t.Context(), *d); err != nil || has != want {
			t.Errorf("Exists(%s) = %t, %v, want %t", d.Digest, has, err, want)
		}
	}
}

// sparse is a source that lacks some blobs.
type sparse struct {
	*store
	lacks []ocispec.Descriptor
}

func (s sparse) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if slices.ContainsFunc(s.lacks, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
		return false, nil
	}
	return s.store.Exists(ctx, desc)
}

func TestSourceWithoutItsBase(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	base, fresh := src.layer("base"), src.layer("fresh")
	src.tag(src.image("two", nil, base, fresh), "2")
	delta := item(src, "2")
	delta.Source, delta.Sparse = sparse{src, []ocispec.Descriptor{base}}, true

	dst := newDestination(t)
	p := plan(t, dst, delta)
	if got := p.Absent(); len(got) != 1 || got[0].Digest != base.Digest {
		t.Fatalf("Absent = %v, want the layer of the base", got)
	}
	err := p.Execute(t.Context(), mirror.ExecuteOptions{})
	var absent *mirror.AbsentError
	if !errors.As(err, &absent) || !errors.Is(err, errdef.ErrNotFound) || len(absent.Content) != 1 {
		t.Errorf("Execute = %v, want an AbsentError of one", err)
	}
	if len(dst.pushed) != 0 {
		t.Errorf("pushed = %v, want nothing: it cannot become whole", dst.pushed)
	}

	// Piece by piece, as from volumes: what is there is copied, nothing is named.
	err = plan(t, dst, delta).Execute(t.Context(), mirror.ExecuteOptions{Piecemeal: true})
	if !errors.As(err, new(*mirror.IncompleteError)) || !errors.As(err, &absent) {
		t.Errorf("Execute = %v, want an IncompleteError of an AbsentError", err)
	}
	if dst.pushed[fresh.Digest] != 1 || len(dst.named) != 0 {
		t.Errorf("pushed = %v, named = %v, want the fresh layer, without a name", dst.pushed, dst.named)
	}

	// A destination that has the base can be completed.
	whole := plan(t, dst, item(src, "2"))
	if err := whole.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := plan(t, dst, delta).Absent(); got != nil {
		t.Errorf("Absent = %v, want none where the destination has it", got)
	}
}
