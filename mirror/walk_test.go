package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// listing is a source that has the same list of referrers for every image.
type listing struct {
	mirror.Source
	list []ocispec.Descriptor
}

func (l listing) Referrers(_ context.Context, d ocispec.Descriptor, _ string, fn func([]ocispec.Descriptor) error) error {
	if d.MediaType == ocispec.MediaTypeImageIndex {
		return nil
	}
	return fn(l.list)
}

// A list that is a few bytes on the wire must not be one of many in memory.
func TestReferrersRepeat(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	var images []ocispec.Descriptor
	for i := range 40 {
		images = append(images, src.image(fmt.Sprint(i), nil))
	}
	signature := src.image("signature", nil)
	src.tag(src.index(nil, images...), "1")
	p := plan(t, newDestination(t), item(listing{src, slices.Repeat([]ocispec.Descriptor{signature}, 20_000)}, "1"))
	if got := digests(p.Roots[0].Referrers); len(got) != 1 || got[0] != signature.Digest.String() {
		t.Errorf("%d referrers, want the signature once", len(got))
	}
}

// Lists of others for each manifest are bounded together. What they name is not read.
func TestReferrersAreBounded(t *testing.T) {
	t.Parallel()
	var list []ocispec.Descriptor
	for i := range 20_000 {
		list = append(list, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	src := newStore(t)
	var images []ocispec.Descriptor
	for i := range 30 {
		images = append(images, src.image(fmt.Sprint(i), nil))
	}
	src.tag(src.index(nil, images...), "1")
	for name, list := range map[string][]ocispec.Descriptor{
		"of one manifest": slices.Repeat(list[:1], 100_001),
		"of many":         list,
	} {
		_, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{item(listing{src, list}, "1")}, mirror.PlanOptions{})
		if !errors.Is(err, errdef.ErrSizeExceedsLimit) {
			t.Errorf("%s: NewPlan = %v, want %v", name, err, errdef.ErrSizeExceedsLimit)
		}
	}
}

// An index may name one thing often, and at length.
func TestRepeatedEntries(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	image, other := src.image("image", nil), on(t, "linux/arm64", src.image("other", nil))
	named := on(t, "linux/amd64", image)
	named.Annotations = map[string]string{artifact.AnnotationComponents: strings.Repeat("ä", 1000)}
	src.tag(src.index(nil, named, named, other, other), "1")
	it := item(src, "1")
	it.Platforms = []ocispec.Platform{*platformOf(t, "linux/amd64")}
	p := plan(t, newDestination(t), it)
	if got := len(p.Roots[0].Left); got != 1 {
		t.Errorf("%d manifests are left, want 1", got)
	}
	if got := len(p.Parts); got != 3 { // with the root's and the referrers'
		t.Fatalf("%d parts, want 3: %+v", got, p.Parts)
	}
	if got, want := p.Parts[1].Label, strings.Repeat("ä", 100); got != want {
		t.Errorf("label = %q, want %q", got, want)
	}
}

// strict is a source that takes legal tags only, as a registry does.
type strict struct{ mirror.Source }

func (s strict) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	if !artifact.IsTag(ref) {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", ref, errdef.ErrInvalidReference)
	}
	return s.Source.Resolve(ctx, ref)
}

// Referrers are found by tag where there is no API for them.
func (s strict) Referrers(ctx context.Context, d ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	if _, err := s.Resolve(ctx, scheme(d, "")); err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return s.Source.Referrers(ctx, d, artifactType, fn)
}

func TestManifestOfSHA512(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	raw, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}})
	if err != nil {
		t.Fatal(err)
	}
	child := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.SHA512.FromBytes(raw), Size: int64(len(raw))}
	if err := src.Push(t.Context(), child, strings.NewReader(string(raw))); err != nil {
		t.Fatal(err)
	}
	src.tag(src.index(nil, child), "1")
	if p := plan(t, newDestination(t), item(strict{src}, "1")); len(p.Manifests) != 2 {
		t.Errorf("%d manifests, want 2", len(p.Manifests))
	}
}

// Sizes are what a manifest says, and sums of them must stay numbers.
func TestHugeSizes(t *testing.T) {
	t.Parallel()
	for name, sizes := range map[string][]int64{
		"one":      {math.MaxInt64},
		"two":      {math.MaxInt64, math.MaxInt64},
		"together": {1 << 59, 1 << 59, 1},
	} {
		src := newStore(t)
		var layers []ocispec.Descriptor
		for i, size := range sizes {
			layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(fmt.Sprint(i)), Size: size})
		}
		src.tag(src.huge(layers...), "1")
		_, err := mirror.NewPlan(t.Context(), mirror.Empty(), []mirror.Item{item(src, "1")}, mirror.PlanOptions{})
		if !errors.Is(err, errdef.ErrSizeExceedsLimit) {
			t.Errorf("%s: NewPlan = %v, want %v", name, err, errdef.ErrSizeExceedsLimit)
		}
	}
}

// huge stores a manifest of layers that are not there.
func (s *store) huge(layers ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	raw, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: s.add(ocispec.MediaTypeImageConfig, []byte(`{}`)), Layers: layers})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.add(ocispec.MediaTypeImageManifest, raw)
}
