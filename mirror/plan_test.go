package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

func TestRootsShareContent(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	shared := src.layer("shared")
	one, two := src.image("one", nil, shared), src.image("two", nil, shared, src.layer("own"))
	src.tag(one, "1")
	src.tag(two, "2")
	p := plan(t, dst, item(src, "1"), item(src, "2"), mirror.Item{Source: src, Reference: "1", Name: "example.com/shop:latest"})
	if len(p.Blobs) != 4 || len(p.Manifests) != 2 || len(p.Roots) != 3 {
		t.Errorf("plan has %d blobs, %d manifests, %d roots, want 4, 2, 3", len(p.Blobs), len(p.Manifests), len(p.Roots))
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{Concurrency: 1}); err == nil {
		if got := []string{dst.named[0].Name, dst.named[1].Name, dst.named[2].Name}; !slices.Equal(got, []string{"example.com/shop:1", "example.com/shop:2", "example.com/shop:latest"}) {
			t.Errorf("named = %q, want the order asked for", got)
		}
		if dst.committed != 1 {
			t.Errorf("committed %d times, want once for all roots", dst.committed)
		}
	} else {
		t.Fatal(err)
	}
}

// The same image stands in two repositories, and only the second has a signature
// of it: the signature must be carried, for Name will list it.
func TestReferrersOfSharedManifests(t *testing.T) {
	t.Parallel()
	first, second, dst := newStore(t), newStore(t), newDestination(t)
	var image ocispec.Descriptor
	for _, s := range []*store{first, second} {
		image = s.image("image", nil, s.layer("layer"))
		s.tag(s.index(nil, image), "1")
		s.tag(image, "image")
	}
	signature := second.image("signature", &image, second.layer("signature"))
	p := plan(t, dst, item(first, "1"), mirror.Item{Source: second, Reference: "image", Name: "example.com/image:1"})
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if dst.pushed[signature.Digest] != 1 {
		t.Errorf("the signature was pushed %d times, want once", dst.pushed[signature.Digest])
	}
}

// A referrer may be an index that holds its own subject.
func TestReferrerNamesItsSubject(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	child := src.image("child", nil, src.layer("layer"))
	root := src.index(nil, child)
	around := src.index(&root, root, child)
	above := src.index(&child, root)
	src.tag(root, "1")
	if err := plan(t, dst, item(src, "1")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if dst.pushed[around.Digest] != 1 || dst.pushed[above.Digest] != 1 {
		t.Errorf("pushed = %v, want both referrers", dst.pushed)
	}
}

// One digest as a layer of one image and as a child of the root must arrive as
// both, for a registry keeps them apart.
func TestLayerThatIsAManifest(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	child := src.image("child", nil)
	raw, err := content.FetchAll(t.Context(), src, child)
	if err != nil {
		t.Fatal(err)
	}
	asLayer := src.layer(string(raw))
	root := src.index(nil, src.image("holder", nil, asLayer), child)
	src.tag(root, "1")
	if err := plan(t, dst, item(src, "1")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []ocispec.Descriptor{child, asLayer} {
		if ok, err := dst.Exists(t.Context(), d); err != nil || !ok {
			t.Errorf("Exists(%s as %s) = %t, %v, want true", d.Digest, d.MediaType, ok, err)
		}
	}
}

// crowd is a source that answers a question about the root only once all four are
// asked.
type crowd struct {
	mirror.Source
	root    ocispec.Descriptor
	waiting *sync.WaitGroup
}

func (c crowd) Referrers(ctx context.Context, d ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	if d.Digest == c.root.Digest {
		c.waiting.Done()
		c.waiting.Wait()
	}
	return c.Source.Referrers(ctx, d, artifactType, fn)
}

func (c crowd) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	if strings.HasPrefix(ref, scheme(c.root, ".")) {
		c.waiting.Done()
		c.waiting.Wait()
	}
	return c.Source.Resolve(ctx, ref)
}

// What hangs on a manifest is asked for at once: over a network each question is a
// round trip.
func TestPlanAsksAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := newStore(t)
		f := newFixture(src)
		c := crowd{src, f.root, &sync.WaitGroup{}}
		c.waiting.Add(4)
		p := plan(t, newDestination(t), item(c, "1.0.0"))
		var tags []string
		for _, tag := range p.Roots[0].Tags[:3] {
			tags = append(tags, tag.Name)
		}
		if want := []string{scheme(f.root, ".sig"), scheme(f.root, ".att"), scheme(f.root, ".sbom")}; !slices.Equal(tags, want) {
			t.Errorf("Tags = %q, want %q first", tags, want)
		}
	})
}

// A few indexes can name more than fits into memory. Nothing of what they name is
// read.
func TestPlanIsBounded(t *testing.T) {
	t.Parallel()
	index := func(name string, n int, size int64) ocispec.Index {
		index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
		for i := range n {
			d := digest.FromString(fmt.Sprint(name, i))
			index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: size})
		}
		return index
	}
	for _, tt := range []struct {
		name string
		root func(bareSource) ocispec.Descriptor
		want string
	}{
		{"bytes", func(s bareSource) ocispec.Descriptor {
			return s.add(t, index("", 65, artifact.MaxManifestBytes))
		}, "are more than 256 MiB"},
		{"count", func(s bareSource) ocispec.Descriptor {
			root := index("", 0, 0)
			for i := range 6 {
				root.Manifests = append(root.Manifests, s.add(t, index(fmt.Sprint(i, "/"), 20_000, 1)))
			}
			return s.add(t, root)
		}, "more than 100000 manifests"},
		{"depth", func(s bareSource) ocispec.Descriptor {
			root := s.add(t, index("", 0, 0))
			for range 100 {
				above := index("", 0, 0)
				above.Manifests = []ocispec.Descriptor{root}
				root = s.add(t, above)
			}
			return root
		}, "more than 100 deep"},
		{"blobs", func(s bareSource) ocispec.Descriptor {
			root := index("", 0, 0)
			for i := range 26 {
				wide := index(fmt.Sprint(i, "/"), 20_000, 1)
				for j := range wide.Manifests {
					wide.Manifests[j].MediaType = "application/octet-stream"
				}
				root.Manifests = append(root.Manifests, s.add(t, wide))
			}
			return s.add(t, root)
		}, "more than 500000 blobs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := bareSource{}
			root := tt.root(src)
			_, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{item(src, root.Digest.String())}, mirror.PlanOptions{})
			if !errors.Is(err, errdef.ErrSizeExceedsLimit) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewPlan = %v, want %q", err, tt.want)
			}
			if tt.name == "count" || tt.name == "blobs" {
				return // slow enough once
			}
			if _, err := mirror.Verify(t.Context(), src, root, mirror.VerifyOptions{}); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
				t.Errorf("Verify = %v, want %v", err, errdef.ErrSizeExceedsLimit)
			}
		})
	}
}

// bareSource holds indexes by digest, without tags and referrers, and without
// looking at them.
type bareSource map[digest.Digest][]byte

func (b bareSource) add(t *testing.T, doc ocispec.Index) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	desc := artifact.Describe(ocispec.MediaTypeImageIndex, data)
	b[desc.Digest] = data
	return desc
}

func (b bareSource) Resolve(_ context.Context, ref string) (ocispec.Descriptor, error) {
	data, ok := b[digest.Digest(ref)]
	if !ok {
		return ocispec.Descriptor{}, errdef.ErrNotFound
	}
	return artifact.Describe(ocispec.MediaTypeImageIndex, data), nil
}

func (b bareSource) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := b[d.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (bareSource) Referrers(context.Context, ocispec.Descriptor, string, func([]ocispec.Descriptor) error) error {
	return nil
}

// broken is a source whose listings fail.
type broken struct {
	mirror.Source
	referrers, tags error
}

func (b broken) Referrers(ctx context.Context, d ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	if b.referrers != nil {
		return b.referrers
	}
	return b.Source.Referrers(ctx, d, artifactType, fn)
}

func (b broken) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	if b.tags != nil && len(ref) > 40 {
		return ocispec.Descriptor{}, b.tags
	}
	return b.Source.Resolve(ctx, ref)
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	src.tag(src.layer("blob"), "blob")
	denied := errors.New("denied")
	lying := src.layer("lying")
	larger := lying
	larger.Size++
	src.tag(src.index(nil, src.image("one size", nil, lying), src.image("another", nil, larger)), "two sizes")
	tests := []struct {
		name string
		item mirror.Item
		want error
	}{
		{"unknown tag", item(src, "2.0.0"), errdef.ErrNotFound},
		{"no manifest", item(src, "blob"), nil},
		{"a blob of two sizes", item(src, "two sizes"), mirror.ErrDamaged},
		{"missing child", item(&absent{Source: src, digest: f.arm64.Digest}, "1.0.0"), errdef.ErrNotFound},
		{"missing referrer", item(&absent{Source: src, digest: f.sbomSignature.Digest}, "1.0.0"), errdef.ErrNotFound},
		{"damaged child", item(&faulty{Source: src, digest: f.amd64.Digest, times: -1, after: 10, err: io.EOF}, "1.0.0"), io.ErrUnexpectedEOF},
		{"referrers cannot be listed", item(broken{Source: src, referrers: denied}, "1.0.0"), denied},
		{"signature tags cannot be read", item(broken{Source: src, tags: denied}, "1.0.0"), denied},
	}
	for _, tt := range tests {
		dst := newDestination(t)
		p, err := mirror.NewPlan(t.Context(), dst, []mirror.Item{tt.item}, mirror.PlanOptions{})
		if err == nil || p != nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: NewPlan = %v, %v, want error %v", tt.name, p, err, tt.want)
		}
	}
	p, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{item(broken{Source: src, referrers: errdef.ErrNotFound}, "1.0.0")}, mirror.PlanOptions{})
	if err != nil || len(p.Roots[0].Referrers) != 0 {
		t.Errorf("NewPlan from a source without referrers = %v, want a plan", err)
	}
}
