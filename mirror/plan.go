package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	// Check reads whatever the destination has already, blobs too, and plans to
	// replace what is damaged. Without it only manifests are read there.
	Check bool
	// Progress is told of what Check reads; nil for nobody.
	Progress Progress
}

// Bounds on one plan, whose manifests stand in memory until they are copied: a
// few indexes can name millions.
const (
	maxManifests     = 100_000
	maxManifestBytes = 256 << 20 // of all of them
)

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
	// Damaged says that the destination has it and that it is not what its digest
	// says. It is not Stored then, and will be replaced.
	Damaged bool

	data   []byte          // a manifest's bytes, nil once it is known to be stored
	behind []digest.Digest // the manifests that one names
	item   Item
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
func (p *Plan) Missing() int { return p.count(func(s Step) bool { return !s.Stored }) }

// Damaged counts the pieces of content the destination has and will have replaced.
func (p *Plan) Damaged() int { return p.count(func(s Step) bool { return s.Damaged }) }

func (p *Plan) count(is func(Step) bool) int {
	n := 0
	for _, steps := range [][]Step{p.Manifests, p.Blobs} {
		for _, s := range steps {
			if is(s) {
				n++
			}
		}
	}
	return n
}

// NewPlan resolves items, walks their closures and asks dst what it has. Manifests
// that dst has are read there and verified, for a root must not be named while
// one is damaged; blobs only when the options say so. Nothing is written. It fails
// when an item cannot be resolved or when the source lacks any manifest of a
// closure, for what cannot be carried whole is not begun, and with
// errdef.ErrSizeExceedsLimit for a closure beyond all measure.
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
		w := &walk{item: item, nodes: map[digest.Digest]*node{}, limit: opts.Concurrency, keep: true, known: known}
		root, err := w.closure(ctx, plain(desc))
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", item.Name, err)
		}
		root.Name = item.Name
		p.Roots = append(p.Roots, root)
		w.appendSteps(p, root.Descriptor.Digest, known)
	}
	if err := p.probe(ctx, opts); err != nil {
		return nil, err
	}
	return p, nil
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
	// keep holds on to the bytes of manifests.
	keep bool
	// known is what the plan has from other walks, which is not counted again.
	known *planned
	// onError decides about a manifest that cannot be read: nil goes on
	// without it. Without onError, such an error ends the walk.
	onError func(ocispec.Descriptor, error) error
	nodes   map[digest.Digest]*node
	bytes   int64 // of the manifests in nodes, as their descriptors say
}

// node is a manifest of a closure with the manifests that must stand before it.
type node struct {
	desc      ocispec.Descriptor
	data      []byte
	subject   digest.Digest
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
	if err := w.claim(root); err != nil {
		return Root{}, err
	}
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
		level = nil
		for _, n := range read {
			if n == nil {
				continue
			}
			w.nodes[n.desc.Digest] = n
			for _, d := range n.next() {
				if _, seen := w.nodes[d.Digest]; seen {
					continue
				}
				if err := w.claim(d); err != nil {
					return Root{}, err
				}
				level = append(level, d)
			}
			out.Referrers = append(out.Referrers, n.referrers...)
			out.Tags = append(out.Tags, n.tags...)
		}
	}
	return out, nil
}

// claim makes room for a manifest before it is read.
func (w *walk) claim(d ocispec.Descriptor) error {
	w.nodes[d.Digest] = nil
	if w.known.manifests[d.Digest] {
		return nil
	}
	w.bytes += min(d.Size, artifact.MaxManifestBytes) // larger ones are refused when they are read
	if n := len(w.nodes) + len(w.known.manifests); n > maxManifests {
		return fmt.Errorf("more than %d manifests belong together: %w", maxManifests, errdef.ErrSizeExceedsLimit)
	}
	if w.known.bytes+w.bytes > maxManifestBytes {
		return fmt.Errorf("the manifests that belong together are more than %d MiB: %w", maxManifestBytes>>20, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

// next returns every manifest that n leads to.
func (n *node) next() []ocispec.Descriptor {
	list := slices.Concat(n.children, n.referrers)
	for _, t := range n.tags {
		list = append(list, t.Descriptor)
	}
	return list
}

// read fetches one manifest and what hangs on it.
func (w *walk) read(ctx context.Context, desc ocispec.Descriptor) (*node, error) {
	m, data, err := artifact.FetchManifest(ctx, w.item.Source, desc)
	if err != nil {
		return nil, &CopyError{"source", "read manifest", desc, err}
	}
	n := &node{desc: desc, blobs: m.Blobs}
	if w.keep {
		n.data = data
	}
	if m.Subject != nil {
		n.subject = m.Subject.Digest
	}
	for _, c := range m.Manifests {
		if artifact.IsManifest(c.MediaType) {
			n.children = append(n.children, plain(c))
		} else {
			// An index may list content that is no manifest; it is carried
			// like a layer.
			n.blobs = append(n.blobs, c)
		}
	}
	// Four questions that do not depend on each other; over a network each takes a
	// round trip.
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if n.referrers, err = w.referrers(gctx, desc); err != nil {
			return &CopyError{"source", "list referrers of", desc, err}
		}
		return nil
	})
	suffixes := artifact.SignatureSuffixes()
	tags := make([]Tag, len(suffixes))
	for i, suffix := range suffixes {
		g.Go(func() error {
			name := artifact.SignatureTag(desc.Digest, suffix)
			d, err := w.item.Source.Resolve(gctx, name)
			if err == nil {
				tags[i] = Tag{name, plain(d)}
			} else if !errors.Is(err, errdef.ErrNotFound) {
				return &CopyError{"source", "look for signatures of", desc, err}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	n.tags = slices.DeleteFunc(tags, func(t Tag) bool { return t.Name == "" })
	return n, nil
}

// referrers lists the manifests that refer to desc.
func (w *walk) referrers(ctx context.Context, desc ocispec.Descriptor) (found []ocispec.Descriptor, err error) {
	err = w.item.Source.Referrers(ctx, desc, "", func(list []ocispec.Descriptor) error {
		for _, r := range list {
			if !artifact.IsManifest(r.MediaType) {
				return fmt.Errorf("referrer %s has media type %q", r.Digest, r.MediaType)
			}
			found = append(found, plain(r))
		}
		if len(found) > maxManifests {
			return fmt.Errorf("more than %d: %w", maxManifests, errdef.ErrSizeExceedsLimit)
		}
		return nil
	})
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	}
	return found, err
}

// planned holds what a plan has already. One digest may be both a layer and a
// manifest, which go to different places of a registry.
type planned struct {
	manifests, blobs map[digest.Digest]bool
	bytes            int64 // of the manifests
}

func newPlanned() *planned {
	return &planned{manifests: map[digest.Digest]bool{}, blobs: map[digest.Digest]bool{}}
}

// appendSteps adds the closure of id to p, skipping what p has already. What
// refers to a manifest comes behind it, because it may name it as a child too.
func (w *walk) appendSteps(p *Plan, id digest.Digest, known *planned) {
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
func (w *walk) appendNamed(p *Plan, id digest.Digest, known *planned, done map[digest.Digest]bool, refers func(ocispec.Descriptor)) {
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
		known.bytes += n.desc.Size
		s := Step{Descriptor: n.desc, data: n.data, item: w.item}
		for _, d := range n.children {
			s.behind = append(s.behind, d.Digest)
		}
		if n.subject != "" {
			s.behind = append(s.behind, n.subject)
		}
		p.Manifests = append(p.Manifests, s)
	}
	for _, d := range n.referrers {
		refers(d)
	}
	for _, t := range n.tags {
		refers(t.Descriptor)
	}
}
