package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// Item is one artifact to copy.
type Item struct {
	Source Source
	// Reference is the tag or digest to resolve at the source.
	Reference string
	// Descriptor is what Reference stands for, where that was resolved before; the
	// zero value has it resolved.
	Descriptor ocispec.Descriptor
	// Name is the full reference the artifact gets at the destination.
	Name string
	// Platforms are those that are carried of each index the root reaches by its
	// children; none means all. Indexes keep their bytes: what they name for
	// other platforms is left. Referrers are carried whole.
	Platforms []ocispec.Platform
	// MountFrom is the repository a destination in the same registry may take
	// blobs from without copying, "" when there is none.
	MountFrom string
	// Sparse says that the source may lack blobs, as media of a delta or of a
	// volume set do, so that planning has to ask it for each.
	Sparse bool
}

// PlanOptions configure planning. The zero value is a good default.
type PlanOptions struct {
	// Concurrency bounds the manifests read at once; ≤ 0 means 8.
	Concurrency int
	// Check reads whatever the destination has already, blobs too, and plans to
	// replace what is damaged. Without it only manifests are read there.
	Check bool
	// Sites are the places the copy is for, which makes it a delta: layers and
	// image configs that every site has already are left. No site means that
	// nothing is known of where it goes, and everything is carried.
	Sites []Site
	// Progress is told of what Check reads; nil for nobody.
	Progress Progress
}

// Site is what one site is known to have.
type Site struct {
	// Items are roots that it has whole.
	Items []Item
	// Blobs it has, whatever they belong to; Known are roots that need not be
	// looked up, because what they name is among Blobs.
	Blobs []digest.Digest
	Known []Base
}

const defaultReads = 8

// Plan is what a copy will do: a snapshot of the closure and of what the
// destination lacks.
type Plan struct {
	// Roots are the artifacts, in the order asked for.
	Roots []Root
	// Parts are what people tell the roots apart by: the root's own documents,
	// each image, and the referrers, in order; each step belongs to one.
	Parts []Part
	// Manifests and Blobs are the distinct content of the closure; a manifest
	// stands behind everything it names.
	Manifests []Step
	Blobs     []Step

	dst Destination
}

// Part is a piece of a root that has a name of its own.
type Part struct {
	// Root is the index in [Plan.Roots].
	Root int
	// Label is the components of an image of a release, the platform of an image
	// of an index, [LabelReferrers], or "" for the root itself.
	Label      string
	Descriptor ocispec.Descriptor
}

// LabelReferrers is the label of what refers to a root or to anything it reaches:
// signatures, SBOMs and attestations.
const LabelReferrers = "referrers"

// Step is one piece of content of a plan.
type Step struct {
	Descriptor ocispec.Descriptor
	// Part is the index in [Plan.Parts] of the first that has the content.
	Part int
	// Stored says that the destination has it already.
	Stored bool
	// Damaged says that the destination has it and that it is not what its digest
	// says. It is not Stored then, and will be replaced.
	Damaged bool
	// Left says why the content is not carried though the destination lacks it:
	// [LeftInBase], or the volume it is on. It is "" for all else.
	Left string
	// Absent says that it is to be carried and that the source lacks it.
	Absent bool
	// Partial is how many bytes of it an interrupted copy has left at the
	// destination; they are read again before they count.
	Partial int64

	vital  bool      // never left
	also   []int     // roots of the plan that reach a blob, beside its part's
	spread *spread   // of a blob in segments on several volumes, else nil
	doc    *document // of a manifest, else nil
	item   *Item
}

// document is what a step has to know of a manifest.
type document struct {
	data   []byte          // nil once it is known to be stored
	behind []digest.Digest // the manifests that it names
}

// LeftInBase is why a delta leaves content: every site has it.
const LeftInBase = "base"

// Missing reports whether the step is to be carried and not yet stored.
func (s *Step) Missing() bool { return !s.Stored && s.Left == "" }

// Summary sorts content by what becomes of it; every piece is in one of Copied,
// Stored and Left. The bytes of segments that are on other volumes are left.
type Summary struct {
	All, Copied, Stored, Left Amount
	// Damaged and Absent are among Copied.
	Damaged, Absent Amount
	// Partial counts bytes of Copied that are at the destination.
	Partial int64
}

func (s *Summary) add(step *Step) {
	n := step.here()
	s.All.add(step.Descriptor.Size)
	s.Left.Bytes += step.Descriptor.Size - n
	switch {
	case step.Stored:
		s.Stored.add(n)
	case step.Left != "":
		s.Left.add(n)
	default:
		s.Copied.add(n)
		s.Partial += min(step.Partial, n)
	}
	if step.Damaged {
		s.Damaged.add(n)
	}
	if step.Absent {
		s.Absent.add(n)
	}
}

// here returns the bytes of the step that are for the destination: of a blob in
// segments those of one volume.
func (s *Step) here() int64 {
	if s.spread == nil || s.Left != "" {
		return s.Descriptor.Size
	}
	return s.spread.bytes(s.Descriptor.Size)
}

// Summary counts the whole plan.
func (p *Plan) Summary() Summary {
	var sum Summary
	for s := range p.steps() {
		sum.add(s)
	}
	return sum
}

// PartSummaries count the content of each part, in the order of [Plan.Parts].
func (p *Plan) PartSummaries() []Summary {
	sums := make([]Summary, len(p.Parts))
	for s := range p.steps() {
		sums[s.Part].add(s)
	}
	return sums
}

// steps yields blobs, then manifests.
func (p *Plan) steps() func(yield func(*Step) bool) {
	return func(yield func(*Step) bool) {
		for _, list := range [][]Step{p.Blobs, p.Manifests} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// Size returns the bytes that are carried and how many of them the destination
// lacks.
func (p *Plan) Size() (total, missing int64) {
	sum := p.Summary()
	return sum.All.Bytes - sum.Left.Bytes, sum.Copied.Bytes
}

// amounts measure what is carried, and what of it is to be copied and can be, as it
// is read: a blob in segments whole.
func (p *Plan) amounts() (total, missing Amount) {
	for s := range p.steps() {
		if s.Stored || s.Left == "" {
			total.add(s.Descriptor.Size)
		}
		if s.Missing() && !s.Absent {
			missing.add(s.Descriptor.Size)
		}
	}
	return total, missing
}

// Missing counts the pieces of content that are to be copied.
func (p *Plan) Missing() int { return p.Summary().Copied.Blobs }

// Damaged counts the pieces of content the destination has and will have replaced.
func (p *Plan) Damaged() int { return p.Summary().Damaged.Blobs }

// Absent returns what is to be carried and what the source lacks.
func (p *Plan) Absent() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for s := range p.steps() {
		if s.Absent {
			list = append(list, s.Descriptor)
		}
	}
	return list
}

// Platforms returns the platforms of the images that are carried, as far as indexes
// name them, each once, sorted.
func (p *Plan) Platforms() []ocispec.Platform {
	by := map[string]ocispec.Platform{}
	for _, s := range p.Manifests {
		if hasPlatform(s.Descriptor) {
			by[FormatPlatform(*s.Descriptor.Platform)] = *s.Descriptor.Platform
		}
	}
	var list []ocispec.Platform
	for _, name := range slices.Sorted(maps.Keys(by)) {
		list = append(list, by[name])
	}
	return list
}

// LeftPlatforms returns the manifests that the indexes of the closure name and
// that are left because they are for other platforms, each once.
func (p *Plan) LeftPlatforms() []ocispec.Descriptor {
	var list []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, s := range p.Manifests {
		seen[s.Descriptor.Digest] = true // another root carries it
	}
	for _, r := range p.Roots {
		for _, d := range r.Left {
			if !seen[d.Digest] {
				seen[d.Digest] = true
				list = append(list, d)
			}
		}
	}
	return list
}

// NewPlan resolves items, walks their closures and asks dst what it has. Manifests
// that dst has are read there and verified, for a root must not be named while
// one is damaged; blobs only when the options say so. Nothing is written. It fails
// when an item cannot be resolved or when the source lacks any manifest of a
// closure, for what cannot be carried whole is not begun, with [PlatformError], and
// with errdef.ErrSizeExceedsLimit for a closure beyond all measure, or for more roots
// than media can tell of. That a source lacks blobs is no failure of the plan: see
// [Plan.Absent].
func NewPlan(ctx context.Context, dst Destination, items []Item, opts PlanOptions) (*Plan, error) {
	if opts.Concurrency <= 0 {
		opts.Concurrency = defaultReads
	}
	if near(dst) != nil && len(items) > layout.MaxLabelRoots {
		return nil, fmt.Errorf("%d roots, and media can tell of %d: %w", len(items), layout.MaxLabelRoots, errdef.ErrSizeExceedsLimit)
	}
	p := &Plan{dst: dst}
	walks, err := walkAll(ctx, items, opts.Concurrency, func(w *walk) { w.keep, w.near = true, near(dst) })
	if err != nil {
		return nil, err
	}
	for i, w := range walks {
		p.Roots = append(p.Roots, w.root)
		if err := w.appendRoot(p, i); err != nil {
			return nil, fmt.Errorf("plan %s: %w", w.item.Name, err)
		}
		walks[i] = nil // its nodes stand in the plan
	}
	sites, err := expand(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := p.probe(ctx, opts); err != nil {
		return nil, err
	}
	sites.leave(p)
	if err := p.fits(); err != nil {
		return nil, err
	}
	return p, p.askSources(ctx, opts)
}

// planned holds where a plan has what already. One digest may be both a layer
// and a manifest, which go to different places of a registry.
type planned struct {
	manifests, blobs map[digest.Digest]int // places in the plan's lists
	blobBytes        int64
	listed           atomic.Int64 // by all lists of referrers

	mu      sync.Mutex // guards what walks claim at the same time
	claimed map[digest.Digest]bool
	bytes   int64 // of what is claimed, as descriptors say
}

func newPlanned() *planned {
	return &planned{manifests: map[digest.Digest]int{}, blobs: map[digest.Digest]int{}, claimed: map[digest.Digest]bool{}}
}

// claim makes room for a manifest before it is read, once for all walks.
func (p *planned) claim(d ocispec.Descriptor) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.claimed[d.Digest] {
		return nil
	}
	p.claimed[d.Digest] = true
	p.bytes += min(d.Size, artifact.MaxManifestBytes) // larger ones are refused when they are read
	if len(p.claimed) > maxManifests {
		return fmt.Errorf("more than %d manifests belong together: %w", maxManifests, errdef.ErrSizeExceedsLimit)
	}
	if p.bytes > maxManifestBytes {
		return fmt.Errorf("the manifests that belong together are more than %d MiB: %w", maxManifestBytes>>20, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

// addition is the closure of one root on its way into a plan.
type addition struct {
	*walk
	plan  *Plan
	from  *Item // of the walk, which is not to live as long as its steps
	done  map[digest.Digest]bool
	parts map[digest.Digest]int // of the root's children
	refer []ocispec.Descriptor  // what refers to anything of it, not yet added
}

// appendRoot adds the closure of a root to p, skipping what p has already. What
// refers to a manifest comes behind it, because it may name it as a child too.
func (w *walk) appendRoot(p *Plan, root int) error {
	blobs := 0
	for _, n := range w.nodes {
		if n != nil {
			blobs += len(n.blobs)
		}
	}
	p.Manifests = slices.Grow(p.Manifests, len(w.nodes))
	p.Blobs = slices.Grow(p.Blobs, min(blobs, maxBlobs-len(p.Blobs))) // growing step by step takes three times the memory
	from := w.item
	a := &addition{walk: w, from: &from, plan: p, done: map[digest.Digest]bool{}, parts: map[digest.Digest]int{}}
	desc := p.Roots[root].Descriptor
	own := a.addPart(Part{Root: root, Descriptor: desc})
	if n := w.nodes[desc.Digest]; n != nil {
		for i, d := range n.children {
			if _, twice := a.parts[d.Digest]; !twice && n.labels[i] != "" {
				a.parts[d.Digest] = a.addPart(Part{Root: root, Label: n.labels[i], Descriptor: d})
			}
		}
	}
	if err := a.add(desc.Digest, own); err != nil {
		return err
	}
	proofs := a.addPart(Part{Root: root, Label: LabelReferrers})
	for len(a.refer) > 0 {
		next := a.refer[0]
		a.refer = a.refer[1:]
		if err := a.add(next.Digest, proofs); err != nil {
			return err
		}
	}
	return nil
}

func (a *addition) addPart(part Part) int {
	a.plan.Parts = append(a.plan.Parts, part)
	return len(a.plan.Parts) - 1
}

// add adds id behind everything it names. What another root brought is walked
// again: the source of this one may know more referrers.
func (a *addition) add(id digest.Digest, part int) error {
	n := a.nodes[id]
	if a.done[id] || n == nil {
		return nil
	}
	a.done[id] = true
	if own, ok := a.parts[id]; ok {
		part = own
	}
	for _, d := range n.children {
		if err := a.add(d.Digest, part); err != nil {
			return err
		}
	}
	for _, d := range n.blobs {
		if err := a.addBlob(n, d, part); err != nil {
			return err
		}
	}
	n.blobs = nil // they stand in the plan, and may be many
	a.addManifest(n, part)
	a.refer = append(a.refer, n.referrers...)
	for _, t := range n.tags {
		a.refer = append(a.refer, t.Descriptor)
	}
	return nil
}

func (a *addition) addBlob(n *node, d ocispec.Descriptor, part int) error {
	at, ok := a.known.blobs[d.Digest]
	if !ok && len(a.plan.Blobs) == maxBlobs {
		return fmt.Errorf("more than %d blobs belong together: %w", maxBlobs, errdef.ErrSizeExceedsLimit)
	}
	if !ok {
		if a.known.blobBytes += d.Size; a.known.blobBytes > maxBlobBytes || a.known.blobBytes < 0 {
			return fmt.Errorf("the blobs that belong together are said to be more than 1 EiB, %s %d bytes: %w", d.Digest, d.Size, errdef.ErrSizeExceedsLimit)
		}
		a.known.blobs[d.Digest] = len(a.plan.Blobs)
		a.plan.Blobs = append(a.plan.Blobs, Step{Descriptor: d, Part: part, vital: n.vital, item: a.from})
		return nil
	}
	known := &a.plan.Blobs[at]
	if root := a.plan.Parts[part].Root; a.plan.Parts[known.Part].Root != root && (len(known.also) == 0 || known.also[len(known.also)-1] != root) {
		known.also = append(known.also, root)
	}
	if known.Descriptor.Size != d.Size {
		return fmt.Errorf("blob %s is said to have %d bytes, and %d in manifest %s: %w", d.Digest, known.Descriptor.Size, d.Size, n.desc.Digest, ErrDamaged)
	}
	known.vital = known.vital || n.vital
	return nil
}

func (a *addition) addManifest(n *node, part int) {
	var behind []digest.Digest
	for _, d := range n.children {
		behind = append(behind, d.Digest)
	}
	if n.subject != "" {
		behind = append(behind, n.subject)
	}
	if at, ok := a.known.manifests[n.desc.Digest]; ok {
		// Another root may have left children that this one carries.
		doc := a.plan.Manifests[at].doc
		doc.behind = append(doc.behind, behind...)
		return
	}
	a.known.manifests[n.desc.Digest] = len(a.plan.Manifests)
	a.plan.Manifests = append(a.plan.Manifests, Step{Descriptor: n.desc, Part: part, vital: true, doc: &document{n.data, behind}, item: a.from})
}
