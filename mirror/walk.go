package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unique"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// Bounds on one plan, whose manifests stand in memory until they are copied: a
// few indexes can name millions.
const (
	maxManifests     = 100_000
	maxManifestBytes = 256 << 20 // of all of them
	maxDepth         = 100       // manifests from the root, referrers included
	maxBlobs         = 500_000
	// maxListed bounds what lists of referrers name, counted anew for each
	// manifest: a few bytes that are well packed can be such a list.
	maxListed = 500_000
	// maxBlobBytes is the bound on all blobs together, and thereby on each. No sum
	// over a plan overflows: 2^60, 256 MiB of manifests, and 600,000 pieces rounded
	// up to blocks of less than 2^42 bytes are less than 2^63.
	maxBlobBytes  = 1 << 60
	maxLabelBytes = 200
)

// plain strips a descriptor to what identifies content, and the platform an
// index gives it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	// There are few media types, and as many strings as descriptors.
	return ocispec.Descriptor{MediaType: unique.Make(d.MediaType).Value(), Digest: d.Digest, Size: d.Size, ArtifactType: d.ArtifactType, Platform: d.Platform}
}

func plainAll(list []ocispec.Descriptor) []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, len(list))
	for i, d := range list {
		out[i] = plain(d)
	}
	return out
}

// walk is the closure of one item.
type walk struct {
	item  Item
	root  Root // once it was walked
	limit int
	// near has manifests too, closer by, nil for nothing.
	near content.Fetcher
	// keep holds on to the bytes of manifests.
	keep bool
	// known is what the plan has from other walks, which is not counted again.
	known *planned
	// onError decides about a manifest that cannot be read: nil goes on
	// without it. Without onError, such an error ends the walk.
	onError func(ocispec.Descriptor, error) error
	nodes   map[digest.Digest]*node
	// referring and left are what the root has of each already.
	referring, left map[digest.Digest]bool
}

func newWalk(item Item, known *planned) *walk {
	return &walk{item: item, limit: defaultReads, known: known, nodes: map[digest.Digest]*node{},
		referring: map[digest.Digest]bool{}, left: map[digest.Digest]bool{}}
}

// walksAtOnce bounds the closures that are walked at once; they share the reads.
const walksAtOnce = 4

// walkAll resolves items and walks their closures, several at once. Prepare may change
// each walk before.
func walkAll(ctx context.Context, items []Item, reads int, prepare func(*walk)) ([]*walk, error) {
	walks, known := make([]*walk, len(items)), newPlanned()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(walksAtOnce)
	for i, item := range items {
		w := newWalk(item, known)
		w.limit = max(1, reads/min(walksAtOnce, len(items)))
		prepare(w)
		walks[i] = w
		g.Go(func() error { return w.run(gctx) })
	}
	return walks, g.Wait()
}

// run finds the item's root and walks its closure.
func (w *walk) run(ctx context.Context) (err error) {
	desc := w.item.Descriptor
	if desc.Digest == "" {
		if desc, err = w.item.Source.Resolve(ctx, w.item.Reference); err != nil {
			return fmt.Errorf("resolve %s: %w", w.item.Name, err)
		}
	}
	if w.root, err = w.closure(ctx, plain(desc)); err != nil {
		return fmt.Errorf("plan %s: %w", w.item.Name, err)
	}
	w.root.Name = w.item.Name
	return nil
}

// near returns a destination that manifests can be read from without asking a
// registry, nil when there is none.
func near(dst Destination) content.Fetcher {
	switch d := dst.(type) {
	case *Media:
		return d
	case peek:
		return d
	}
	return nil
}

// node is a manifest of a closure with the manifests that must stand before it.
type node struct {
	desc      ocispec.Descriptor
	data      []byte
	subject   digest.Digest
	blobs     []ocispec.Descriptor
	children  []ocispec.Descriptor
	labels    []string             // of the children, see [Part]
	left      []ocispec.Descriptor // children for other platforms
	referrers []ocispec.Descriptor
	tags      []Tag
	// vital says that the blobs are carried in any case: they are small, and
	// what they prove or describe is to be looked at wherever the manifest is.
	vital bool
}

// visit is a manifest that a walk has to read.
type visit struct {
	desc ocispec.Descriptor
	// proof says that it hangs on the graph as a referrer or by a tag, which is
	// carried whole, whatever platforms are wanted.
	proof bool
}

// closure reads every manifest reachable from root, level by level, each level
// in parallel.
func (w *walk) closure(ctx context.Context, root ocispec.Descriptor) (Root, error) {
	if !artifact.IsManifest(root.MediaType) {
		return Root{}, fmt.Errorf("%s has media type %q, want a manifest or an index", root.Digest, root.MediaType)
	}
	out := Root{Descriptor: root, Platforms: w.item.Platforms}
	if err := w.claim(root); err != nil {
		return Root{}, err
	}
	depth := 0
	for level := []visit{{desc: root}}; len(level) > 0; depth++ {
		if depth == maxDepth {
			return Root{}, fmt.Errorf("manifests name each other more than %d deep: %w", maxDepth, errdef.ErrSizeExceedsLimit)
		}
		read, err := w.readAll(ctx, level)
		if err != nil {
			return Root{}, err
		}
		level, err = w.enter(read, &out)
		if err != nil {
			return Root{}, err
		}
	}
	return out, nil
}

// readAll reads the manifests of one level; one that cannot be read, and that onError
// lets pass, is nil.
func (w *walk) readAll(ctx context.Context, level []visit) ([]*node, error) {
	read := make([]*node, len(level))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.limit)
	for i, v := range level {
		g.Go(func() (err error) {
			read[i], err = w.read(gctx, v)
			if err != nil && w.onError != nil && gctx.Err() == nil {
				return w.onError(v.desc, err)
			}
			return err
		})
	}
	return read, g.Wait()
}

// enter notes what was read and returns the next level.
func (w *walk) enter(read []*node, out *Root) (next []visit, err error) {
	for _, n := range read {
		if n == nil {
			continue
		}
		w.nodes[n.desc.Digest] = n
		for _, v := range n.next() {
			if _, seen := w.nodes[v.desc.Digest]; seen {
				continue
			}
			if err := w.claim(v.desc); err != nil {
				return nil, err
			}
			next = append(next, v)
		}
		out.Referrers = appendNew(out.Referrers, n.referrers, w.referring)
		out.Tags = append(out.Tags, n.tags...)
		out.Left = appendNew(out.Left, n.left, w.left)
	}
	return next, nil
}

// appendNew appends what of list is not among seen, and notes it there.
func appendNew(to, list []ocispec.Descriptor, seen map[digest.Digest]bool) []ocispec.Descriptor {
	for _, d := range list {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			to = append(to, d)
		}
	}
	return to
}

// claim notes a manifest that is to be read.
func (w *walk) claim(d ocispec.Descriptor) error {
	w.nodes[d.Digest] = nil
	return w.known.claim(d)
}

// next returns every manifest that n leads to.
func (n *node) next() []visit {
	var list []visit
	for _, d := range n.children {
		list = append(list, visit{d, n.vital})
	}
	for _, d := range n.referrers {
		list = append(list, visit{d, true})
	}
	for _, t := range n.tags {
		list = append(list, visit{t.Descriptor, true})
	}
	return list
}

// fetch reads a manifest, from closer by where it is there and sound.
func (w *walk) fetch(ctx context.Context, d ocispec.Descriptor) (*artifact.Manifest, []byte, error) {
	if w.near != nil {
		if m, data, err := artifact.FetchManifest(ctx, w.near, d); err == nil {
			return m, data, nil
		}
	}
	return artifact.FetchManifest(ctx, w.item.Source, d)
}

// read fetches one manifest and what hangs on it.
func (w *walk) read(ctx context.Context, v visit) (*node, error) {
	m, data, err := w.fetch(ctx, v.desc)
	if err != nil {
		return nil, &CopyError{"source", "read manifest", v.desc, err}
	}
	n := &node{desc: v.desc, blobs: plainAll(m.Blobs), vital: v.proof || m.ArtifactType == artifact.TypeApp}
	if w.keep {
		n.data = data
	}
	if m.Subject != nil {
		n.subject = m.Subject.Digest
	}
	if err := n.addChildren(m.Manifests, w.item.Platforms, v.proof); err != nil {
		return nil, err
	}
	return n, w.ask(ctx, n)
}

// addChildren files the entries of an index. It may list content that is no
// manifest; that is carried like a layer.
func (n *node) addChildren(entries []ocispec.Descriptor, want []ocispec.Platform, proof bool) error {
	if proof {
		want = nil
	}
	kept, left, err := choose(n.desc, entries, want)
	if err != nil {
		return err
	}
	n.left = plainAll(left)
	for _, d := range kept {
		if artifact.IsManifest(d.MediaType) {
			n.children, n.labels = append(n.children, plain(d)), append(n.labels, label(d))
		} else {
			n.blobs = append(n.blobs, plain(d))
		}
	}
	return nil
}

// label is what people know an entry of an index by, "" for nothing in particular.
// It is for a line of a screen, and as long as the manifest makes it.
func label(d ocispec.Descriptor) string {
	if keys := d.Annotations[artifact.AnnotationComponents]; keys != "" {
		return strings.ToValidUTF8(keys[:min(len(keys), maxLabelBytes)], "")
	}
	if hasPlatform(d) {
		return FormatPlatform(*d.Platform)
	}
	return ""
}

// ask finds what hangs on a manifest: four questions that do not depend on each
// other; over a network each takes a round trip. A digest that is too long for a tag,
// as SHA-512's are, has no signatures by tag.
func (w *walk) ask(ctx context.Context, n *node) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if n.referrers, err = w.referrers(gctx, n.desc); err != nil {
			return &CopyError{"source", "list referrers of", n.desc, err}
		}
		return nil
	})
	suffixes := artifact.SignatureSuffixes()
	tags := make([]Tag, len(suffixes))
	for i, suffix := range suffixes {
		name := artifact.SignatureTag(n.desc.Digest, suffix)
		if !artifact.IsTag(name) {
			continue
		}
		g.Go(func() error {
			d, err := w.item.Source.Resolve(gctx, name)
			if err == nil {
				tags[i] = Tag{name, plain(d)}
			} else if !errors.Is(err, errdef.ErrNotFound) {
				return &CopyError{"source", "look for signatures of", n.desc, err}
			}
			return nil
		})
	}
	err := g.Wait()
	n.tags = slices.DeleteFunc(tags, func(t Tag) bool { return t.Name == "" })
	return err
}

// referrers lists the manifests that refer to desc, each once.
func (w *walk) referrers(ctx context.Context, desc ocispec.Descriptor) (found []ocispec.Descriptor, err error) {
	seen := map[digest.Digest]bool{}
	listed := 0
	err = w.item.Source.Referrers(ctx, desc, "", func(list []ocispec.Descriptor) error {
		if listed += len(list); listed > maxManifests {
			return fmt.Errorf("more than %d: %w", maxManifests, errdef.ErrSizeExceedsLimit)
		}
		before := len(found)
		for _, r := range list {
			if !artifact.IsManifest(r.MediaType) {
				return fmt.Errorf("referrer %s has media type %q", r.Digest, r.MediaType)
			}
			if !seen[r.Digest] {
				seen[r.Digest] = true
				found = append(found, plain(r))
			}
		}
		if w.known.listed.Add(int64(len(found)-before)) > maxListed {
			return fmt.Errorf("more than %d for what belongs together: %w", maxListed, errdef.ErrSizeExceedsLimit)
		}
		return nil
	})
	// A registry without an API for referrers has them by tags.
	tagless := !artifact.IsTag(artifact.SignatureTag(desc.Digest, ""))
	if errors.Is(err, errdef.ErrNotFound) || tagless && errors.Is(err, errdef.ErrInvalidReference) {
		return nil, nil
	}
	return found, err
}
