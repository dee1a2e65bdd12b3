package layout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"unique"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// mediaTypeArtifactManifest is that of the artifact manifest, which was dropped
// before OCI 1.1 and still is in the world.
const mediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

func isManifest(mediaType string) bool {
	return artifact.IsManifest(mediaType) || mediaType == mediaTypeArtifactManifest
}

// graphLimits bound what is read of hostile media. Depth needs no bound: the
// walk does not recurse.
type graphLimits struct {
	manifests int   // in the layout
	links     int   // from all of them to others and to blobs, and annotations that are kept
	bytes     int64 // of all of them
}

// A manifest of a large image has about 2 KiB and 20 links.
var defaultGraphLimits = graphLimits{manifests: 250_000, links: 2_000_000, bytes: 512 << 20}

// maxClosure is how many manifests and tags are kept of the closures of
// repositories. On hostile media each of thousands may hold everything.
const maxClosure = 2_000_000

// link is a descriptor less what nothing here asks for. There may be a million
// of them.
type link struct {
	mediaType string
	digest    digest.Digest
	size      int64
}

func (k link) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: k.mediaType, Digest: k.digest, Size: k.size}
}

func newLink(desc ocispec.Descriptor) link {
	// There are few media types, and each would be kept once for each link.
	return link{mediaType: unique.Make(desc.MediaType).Value(), digest: desc.Digest, size: desc.Size}
}

// linkList is a list of descriptors in a manifest. Odd ones are kept, and nobody
// follows them; one that says nothing has no place in a manifest.
type linkList []link

// UnmarshalJSON implements json.Unmarshaler.
func (l *linkList) UnmarshalJSON(raw []byte) error {
	*l = nil
	return decodeList(raw, artifact.MaxManifestBytes, func(desc ocispec.Descriptor) error {
		if desc.Digest == "" && desc.MediaType == "" {
			return fmt.Errorf("descriptor without media type and digest: %w", errdef.ErrInvalidDigest)
		}
		*l = append(*l, newLink(desc))
		return nil
	})
}

// node is one manifest, reduced to what leads on from it.
type node struct {
	desc     ocispec.Descriptor // as a referrer: with artifact type and annotations
	children []link
	blobs    []link
	subject  digest.Digest
}

// parseManifest reads any of the manifest types. It is laxer than artifact's
// parser, since a layout of any tool must open, and a bad descriptor in one
// manifest must not hide the rest; whoever carries or installs reads again.
func parseManifest(desc ocispec.Descriptor, raw []byte) (*node, error) {
	var m struct {
		MediaType    string              `json:"mediaType"`
		ArtifactType string              `json:"artifactType"`
		Config       *ocispec.Descriptor `json:"config"`
		Layers       linkList            `json:"layers"`
		Blobs        linkList            `json:"blobs"`
		Manifests    linkList            `json:"manifests"`
		Subject      *ocispec.Descriptor `json:"subject"`
		Annotations  map[string]string   `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	n := &node{desc: plain(desc)}
	n.desc.ArtifactType = m.ArtifactType
	if m.Subject != nil { // only referrers are shown with them
		n.subject, n.desc.Annotations = m.Subject.Digest, m.Annotations
	}
	if isManifest(m.MediaType) {
		// A parent may claim any media type; a registry answers the manifest's own.
		n.desc.MediaType = m.MediaType
	}
	if m.Config != nil {
		if n.desc.ArtifactType == "" {
			n.desc.ArtifactType = m.Config.MediaType
		}
		n.blobs = append(n.blobs, newLink(*m.Config))
	}
	n.blobs = slices.Concat(n.blobs, m.Layers, m.Blobs)
	for _, child := range m.Manifests {
		if isManifest(child.mediaType) {
			n.children = append(n.children, child)
		} else {
			n.blobs = append(n.blobs, child)
		}
	}
	n.children, n.blobs = slices.Clip(n.children), slices.Clip(n.blobs)
	return n, nil
}

// use is a blob as one manifest names it.
type use struct {
	blob *link
	by   *node
}

// graph is every manifest index.json leads to.
type graph struct {
	view      *view
	nodes     map[digest.Digest]*node
	damaged   map[digest.Digest]error
	referrers map[digest.Digest][]*node // by subject, sorted by digest

	limits, read graphLimits // what may be read, and what was

	settled map[string]digest.Digest // what names of lists that grow stand for, see Fork
	forks   []Fork

	uses []use // of all blobs, sorted by their digests and those of the manifests

	mu       sync.Mutex
	closures map[string]*closure
	kept     int // manifests and tags in closures
}

// graph reads the manifests of the current view. A cancelled reading leaves
// nothing behind but the manifests it got to, so the next call goes on. Errors:
// errdef.ErrSizeExceedsLimit when there are more than a layout has.
func (l *Layout) graph(ctx context.Context) (*graph, error) {
	v := l.current()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.graph != nil {
		return v.graph, nil
	}
	g := &graph{
		view:      v,
		nodes:     map[digest.Digest]*node{},
		damaged:   map[digest.Digest]error{},
		referrers: map[digest.Digest][]*node{},
		closures:  map[string]*closure{},
		settled:   map[string]digest.Digest{},
		limits:    l.limits,
	}
	if err := g.walk(ctx, l); err != nil {
		return nil, err
	}
	if err := g.settle(ctx, l, maxCompared); err != nil {
		return nil, err
	}
	for _, n := range g.nodes {
		if n.subject != "" {
			g.referrers[n.subject] = append(g.referrers[n.subject], n)
		}
		for i := range n.blobs {
			g.uses = append(g.uses, use{&n.blobs[i], n})
		}
	}
	slices.SortFunc(g.uses, func(a, b use) int {
		return cmp.Or(cmp.Compare(a.blob.digest, b.blob.digest), cmp.Compare(a.by.desc.Digest, b.by.desc.Digest))
	})
	for _, ns := range g.referrers {
		slices.SortFunc(ns, func(a, b *node) int { return cmp.Compare(a.desc.Digest, b.desc.Digest) })
	}
	v.graph = g
	return g, nil
}

// walk reads every manifest that index.json leads to, each once.
func (g *graph) walk(ctx context.Context, l *Layout) error {
	queue := make([]link, 0, len(g.view.entries))
	for _, e := range g.view.entries {
		queue = append(queue, newLink(e))
	}
	absent := map[link]bool{} // or damaged; those with another size may not be
	for len(queue) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !isManifest(next.mediaType) || g.nodes[next.digest] != nil || absent[next] || checkDescriptor(next.descriptor()) != nil {
			continue
		}
		n := g.add(ctx, l, next)
		if n == nil {
			absent[next] = true
			continue
		}
		if err := g.limits.count(&g.read, n); err != nil {
			return err
		}
		queue = append(queue, n.children...)
	}
	return ctx.Err() // or a manifest would count as damaged that nobody had the time to look for elsewhere
}

// add reads one manifest. One that is not there is passed over: the layout is
// sparse.
func (g *graph) add(ctx context.Context, l *Layout, k link) *node {
	n, err := l.node(ctx, k.descriptor())
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		g.damaged[k.digest] = &ManifestError{Digest: k.digest, Err: err}
		return nil
	}
	g.nodes[k.digest] = n
	delete(g.damaged, k.digest) // another parent has its right size
	return n
}

// count adds a manifest to what was read. Errors: errdef.ErrSizeExceedsLimit.
func (limits graphLimits) count(read *graphLimits, n *node) error {
	read.manifests++
	read.links += len(n.children) + len(n.blobs) + len(n.desc.Annotations)
	read.bytes += n.desc.Size
	if read.manifests <= limits.manifests && read.links <= limits.links && read.bytes <= limits.bytes {
		return nil
	}
	return fmt.Errorf("index.json leads to more than the %d manifests, %d descriptors in them and %d bytes of them that are read: %w",
		limits.manifests, limits.links, limits.bytes, errdef.ErrSizeExceedsLimit)
}

// node reads and parses one manifest, once: what a digest names cannot change.
func (l *Layout) node(ctx context.Context, desc ocispec.Descriptor) (*node, error) {
	l.mu.Lock()
	n := l.nodes[desc.Digest]
	l.mu.Unlock()
	if n != nil && n.desc.Size == desc.Size {
		return n, nil
	}
	raw, err := l.readManifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	if n, err = parseManifest(desc, raw); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.nodes[desc.Digest] = n
	l.mu.Unlock()
	return n, nil
}

// manifest describes a manifest that is in the layout.
func (g *graph) manifest(d digest.Digest) (ocispec.Descriptor, error) {
	if n := g.nodes[d]; n != nil {
		return plain(n.desc), nil
	}
	if err := g.damaged[d]; err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{}, notFound("manifest " + d.String())
}

// decide returns what a contested name stands for. Errors: [*ConflictError] where that
// is not decided.
func (g *graph) decide(name string) (digest.Digest, error) {
	if d, ok := g.settled[name]; ok {
		return d, nil
	}
	return "", fmt.Errorf("resolve: %w", g.view.conflicts[name].err)
}

func (g *graph) damage() error {
	var errs []error
	for _, d := range slices.Sorted(maps.Keys(g.damaged)) {
		errs = append(errs, g.damaged[d])
	}
	return errors.Join(errs...)
}

// closure is what belongs to one repository.
type closure struct {
	tags      map[string]ocispec.Descriptor
	tagNames  []string // sorted
	manifests map[digest.Digest]bool
}

// blob finds a blob that a manifest of the closure names, nil when none does. Many
// repositories may share many blobs, so closures hold none.
func (g *graph) blob(c *closure, d digest.Digest) *link {
	i, _ := slices.BinarySearchFunc(g.uses, d, func(u use, d digest.Digest) int { return cmp.Compare(u.blob.digest, d) })
	for ; i < len(g.uses) && g.uses[i].blob.digest == d; i++ {
		if c.manifests[g.uses[i].by.desc.Digest] {
			return g.uses[i].blob
		}
	}
	return nil
}

// closure walks from the repository's roots to children, to referrers of all
// it meets, and to manifests tagged with the digest of one it met.
func (g *graph) closure(repository string) *closure {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.closures[repository]; c != nil {
		return c
	}
	c := &closure{
		tags:      map[string]ocispec.Descriptor{},
		manifests: map[digest.Digest]bool{},
	}
	roots, ok := g.view.tags[repository]
	if !ok {
		return c // not kept: names come from outside, and are without end
	}
	maps.Copy(c.tags, roots)
	var queue []digest.Digest
	for _, desc := range roots {
		queue = append(queue, desc.Digest)
	}
	queue = append(queue, g.view.contested[repository]...)
	if repository == g.view.local {
		for _, desc := range g.view.untagged {
			queue = append(queue, desc.Digest)
		}
	}
	for len(queue) > 0 {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !c.manifests[d] {
			c.manifests[d] = true
			queue = append(queue, g.expand(c, d)...)
		}
	}
	c.tagNames = slices.Sorted(maps.Keys(c.tags))
	if g.kept += len(c.manifests) + len(c.tags); g.kept > maxClosure {
		clear(g.closures)
		g.kept = len(c.manifests) + len(c.tags)
	}
	g.closures[repository] = c
	return c
}

// expand returns the manifests next to one, and files the tags among them.
func (g *graph) expand(c *closure, d digest.Digest) []digest.Digest {
	var next []digest.Digest
	if n := g.nodes[d]; n != nil {
		for _, child := range n.children {
			next = append(next, child.digest)
		}
	}
	for _, r := range g.referrers[d] {
		next = append(next, r.desc.Digest)
	}
	for _, s := range g.view.scheme[d] {
		if _, ok := c.tags[s.tag]; !ok {
			c.tags[s.tag] = s.desc
		}
		next = append(next, s.desc.Digest)
	}
	return next
}
