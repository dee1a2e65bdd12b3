package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// Item is one artifact to copy.
type Item struct {
	Source Source
	// Reference is the tag or digest to resolve at the source.
	Reference string
	// Name is the full reference the artifact gets at the destination.
	Name string
	// MountFrom is the repository a destination in the same registry may take
	// blobs from without copying, "" when there is none.
	MountFrom string
}

// PlanOptions configure planning. The zero value is a good default.
type PlanOptions struct {
	// Concurrency bounds the manifests read at once; ≤ 0 means 8.
	Concurrency int
}

// Plan is what a copy will do: a snapshot of the closure and of what the
// destination lacks.
type Plan struct {
	// Roots are the artifacts, in the order asked for.
	Roots []Root
	// Manifests and Blobs are the distinct content of the closure; a manifest
	// stands behind everything it names.
	Manifests []Step
	Blobs     []Step

	dst Destination
}

// Step is one piece of content of a plan.
type Step struct {
	Descriptor ocispec.Descriptor
	// Stored says that the destination has it already.
	Stored bool

	data []byte // a manifest's bytes
	item Item
}

// Size returns the bytes of the whole closure and how many of them the
// destination lacks.
func (p *Plan) Size() (total, missing int64) {
	for _, steps := range [][]Step{p.Manifests, p.Blobs} {
		for _, s := range steps {
			total += s.Descriptor.Size
			if !s.Stored {
				missing += s.Descriptor.Size
			}
		}
	}
	return total, missing
}

// Missing counts the pieces of content the destination lacks.
func (p *Plan) Missing() int {
	n := 0
	for _, steps := range [][]Step{p.Manifests, p.Blobs} {
		for _, s := range steps {
			if !s.Stored {
				n++
			}
		}
	}
	return n
}

// NewPlan resolves items, walks their closures and asks dst what it has. Only
// manifests are read, nothing is written. It fails when an item cannot be
// resolved or when the source lacks any manifest of a closure: what cannot be
// carried whole is not begun.
func NewPlan(ctx context.Context, dst Destination, items []Item, opts PlanOptions) (*Plan, error) {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 8
	}
	p := &Plan{dst: dst}
	known := newPlanned()
	for _, item := range items {
		desc, err := item.Source.Resolve(ctx, item.Reference)
		if err != nil {
			return nil, fmt.Errorf("resolve %s: %w", item.Name, err)
		}
		w := &walk{item: item, nodes: map[digest.Digest]*node{}, limit: opts.Concurrency}
		root, err := w.closure(ctx, plain(desc))
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", item.Name, err)
		}
		root.Name = item.Name
		p.Roots = append(p.Roots, root)
		w.appendSteps(p, root.Descriptor.Digest, known)
	}
	if err := p.probe(ctx, opts.Concurrency); err != nil {
		return nil, err
	}
	return p, nil
}

// probe asks the destination for everything once.
func (p *Plan) probe(ctx context.Context, limit int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for _, steps := range [][]Step{p.Manifests, p.Blobs} {
		for i := range steps {
			s := &steps[i]
			g.Go(func() (err error) {
				if s.Stored, err = p.dst.Exists(ctx, s.Descriptor); err != nil {
					return &CopyError{"destination", "look for", s.Descriptor, err}
				}
				return nil
			})
		}
	}
	return g.Wait()
}

// plain strips a descriptor to what identifies content, and the platform an
// index gives it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType, Platform: d.Platform}
}

// walk is the closure of one item.
type walk struct {
	item  Item
	limit int
	// onError decides about a manifest that cannot be read: nil goes on
	// without it. Without onError, such an error ends the walk.
	onError func(ocispec.Descriptor, error) error
	nodes   map[digest.Digest]*node
}

// node is a manifest of a closure with the manifests that must stand before it.
type node struct {
	desc      ocispec.Descriptor
	data      []byte
	blobs     []ocispec.Descriptor
	children  []ocispec.Descriptor
	referrers []ocispec.Descriptor
	tags      []Tag
}

// closure reads every manifest reachable from root, level by level, each level
// in parallel.
func (w *walk) closure(ctx context.Context, root ocispec.Descriptor) (Root, error) {
	if !artifact.IsManifest(root.MediaType) {
		return Root{}, fmt.Errorf("%s has media type %q, want a manifest or an index", root.Digest, root.MediaType)
	}
	out := Root{Descriptor: root}
	w.nodes[root.Digest] = nil
	for level := []ocispec.Descriptor{root}; len(level) > 0; {
		read := make([]*node, len(level))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(w.limit)
		for i, d := range level {
			g.Go(func() (err error) {
				read[i], err = w.read(gctx, d)
				if err != nil && w.onError != nil && gctx.Err() == nil {
					return w.onError(d, err)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return Root{}, err
		}
		var next []ocispec.Descriptor
		enqueue := func(d ocispec.Descriptor) {
			if _, seen := w.nodes[d.Digest]; !seen {
				w.nodes[d.Digest] = nil
				next = append(next, d)
			}
		}
		for _, n := range read {
			if n == nil {
				continue
			}
			w.nodes[n.desc.Digest] = n
			for _, d := range n.children {
				enqueue(d)
			}
			for _, d := range n.referrers {
				enqueue(d)
			}
			for _, t := range n.tags {
				enqueue(t.Descriptor)
			}
			out.Referrers = append(out.Referrers, n.referrers...)
			out.Tags = append(out.Tags, n.tags...)
		}
		level = next
	}
	return out, nil
}

// read fetches one manifest and what hangs on it.
func (w *walk) read(ctx context.Context, desc ocispec.Descriptor) (*node, error) {
	m, data, err := artifact.FetchManifest(ctx, w.item.Source, desc)
	if err != nil {
		return nil, &CopyError{"source", "read manifest", desc, err}
	}
	n := &node{desc: desc, data: data, blobs: m.Blobs}
	for _, c := range m.Manifests {
		if artifact.IsManifest(c.MediaType) {
			n.children = append(n.children, plain(c))
		} else {
			// An index may list content that is no manifest; it is carried
			// like a layer.
			n.blobs = append(n.blobs, c)
		}
	}
	err = w.item.Source.Referrers(ctx, desc, "", func(list []ocispec.Descriptor) error {
		for _, r := range list {
			if !artifact.IsManifest(r.MediaType) {
				return fmt.Errorf("referrer %s has media type %q", r.Digest, r.MediaType)
			}
			n.referrers = append(n.referrers, plain(r))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return nil, &CopyError{"source", "list referrers of", desc, err}
	}
	n.tags, err = w.signatureTags(ctx, desc.Digest)
	if err != nil {
		return nil, &CopyError{"source", "look for signatures of", desc, err}
	}
	return n, nil
}

// signatureTags finds the manifests that belong to subject by their tag.
func (w *walk) signatureTags(ctx context.Context, subject digest.Digest) ([]Tag, error) {
	base := strings.Replace(subject.String(), ":", "-", 1)
	var tags []Tag
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		d, err := w.item.Source.Resolve(ctx, base+suffix)
		if errors.Is(err, errdef.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		tags = append(tags, Tag{base + suffix, plain(d)})
	}
	return tags, nil
}

// planned holds what a plan has already. One digest may be both a layer and a
// manifest, which go to different places of a registry.
type planned struct{ manifests, blobs map[digest.Digest]bool }

func newPlanned() planned {
	return planned{map[digest.Digest]bool{}, map[digest.Digest]bool{}}
}

// appendSteps adds the closure of id to p, skipping what p has already. What
// refers to a manifest comes behind it, because it may name it as a child too.
func (w *walk) appendSteps(p *Plan, id digest.Digest, known planned) {
	done := map[digest.Digest]bool{}
	for waiting := []digest.Digest{id}; len(waiting) > 0; waiting = waiting[1:] {
		w.appendNamed(p, waiting[0], known, done, func(d ocispec.Descriptor) {
			waiting = append(waiting, d.Digest)
		})
	}
}

// appendNamed adds id behind everything it names, and hands on what refers to
// any of it. What another root brought is walked again: the source of this one
// may know more referrers.
func (w *walk) appendNamed(p *Plan, id digest.Digest, known planned, done map[digest.Digest]bool, refers func(ocispec.Descriptor)) {
	n := w.nodes[id]
	if done[id] || n == nil {
		return
	}
	done[id] = true
	for _, d := range n.children {
		w.appendNamed(p, d.Digest, known, done, refers)
	}
	for _, d := range n.blobs {
		if !known.blobs[d.Digest] {
			known.blobs[d.Digest] = true
			p.Blobs = append(p.Blobs, Step{Descriptor: plain(d), item: w.item})
		}
	}
	if !known.manifests[id] {
		known.manifests[id] = true
		p.Manifests = append(p.Manifests, Step{Descriptor: n.desc, data: n.data, item: w.item})
	}
	for _, d := range n.referrers {
		refers(d)
	}
	for _, t := range n.tags {
		refers(t.Descriptor)
	}
}
