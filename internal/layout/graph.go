package layout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"

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

// node is one manifest, reduced to what leads on from it.
type node struct {
	desc     ocispec.Descriptor // as a referrer: with artifact type and annotations
	children []ocispec.Descriptor
	blobs    []ocispec.Descriptor
	subject  digest.Digest
}

// parseManifest reads any of the manifest types. It is laxer than artifact's
// parser, since a layout of any tool must open, and a bad descriptor in one
// manifest must not hide the rest; whoever carries or installs reads again.
func parseManifest(desc ocispec.Descriptor, raw []byte) (*node, error) {
	var m struct {
		MediaType    string               `json:"mediaType"`
		ArtifactType string               `json:"artifactType"`
		Config       *ocispec.Descriptor  `json:"config"`
		Layers       []ocispec.Descriptor `json:"layers"`
		Blobs        []ocispec.Descriptor `json:"blobs"`
		Manifests    []ocispec.Descriptor `json:"manifests"`
		Subject      *ocispec.Descriptor  `json:"subject"`
		Annotations  map[string]string    `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	n := &node{desc: plain(desc)}
	n.desc.ArtifactType, n.desc.Annotations = m.ArtifactType, m.Annotations
	if isManifest(m.MediaType) {
		// A parent may claim any media type; a registry answers the manifest's own.
		n.desc.MediaType = m.MediaType
	}
	if m.Config != nil {
		if n.desc.ArtifactType == "" {
			n.desc.ArtifactType = m.Config.MediaType
		}
		n.blobs = append(n.blobs, *m.Config)
	}
	n.blobs = slices.Concat(n.blobs, m.Layers, m.Blobs)
	for _, child := range m.Manifests {
		if isManifest(child.MediaType) {
			n.children = append(n.children, child)
		} else {
			n.blobs = append(n.blobs, child)
		}
	}
	if m.Subject != nil {
		n.subject = m.Subject.Digest
	}
	return n, nil
}

// graph is every manifest index.json leads to.
type graph struct {
	view      *view
	nodes     map[digest.Digest]*node
	damaged   map[digest.Digest]error
	referrers map[digest.Digest][]*node // by subject, sorted by digest

	mu       sync.Mutex
	closures map[string]*closure
}

// graph reads the manifests of the current view. A cancelled reading leaves
// nothing behind but the manifests it got to, so the next call goes on.
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
	}
	queue := slices.Clone(v.entries)
	for len(queue) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		desc := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		queue = append(queue, g.visit(l, desc)...)
	}
	for _, n := range g.nodes {
		if n.subject != "" {
			g.referrers[n.subject] = append(g.referrers[n.subject], n)
		}
	}
	for _, ns := range g.referrers {
		slices.SortFunc(ns, func(a, b *node) int { return cmp.Compare(a.desc.Digest, b.desc.Digest) })
	}
	v.graph = g
	return g, nil
}

// visit reads one manifest and returns its children. A manifest that is not
// there is passed over: the layout is sparse.
func (g *graph) visit(l *Layout, desc ocispec.Descriptor) []ocispec.Descriptor {
	if !isManifest(desc.MediaType) || g.nodes[desc.Digest] != nil || checkDescriptor(desc) != nil {
		return nil
	}
	n, err := l.node(desc)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	if err != nil {
		g.damaged[desc.Digest] = &ManifestError{Digest: desc.Digest, Err: err}
		return nil
	}
	g.nodes[desc.Digest] = n
	delete(g.damaged, desc.Digest) // another parent has its right size
	return n.children
}

// node reads and parses one manifest, once: what a digest names cannot change.
func (l *Layout) node(desc ocispec.Descriptor) (*node, error) {
	l.mu.Lock()
	n := l.nodes[desc.Digest]
	l.mu.Unlock()
	if n != nil && n.desc.Size == desc.Size {
		return n, nil
	}
	raw, err := l.readManifest(desc)
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
	blobs     map[digest.Digest]ocispec.Descriptor
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
		blobs:     map[digest.Digest]ocispec.Descriptor{},
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
	g.closures[repository] = c
	return c
}

// expand files the blobs of a manifest and returns the manifests next to it.
func (g *graph) expand(c *closure, d digest.Digest) []digest.Digest {
	var next []digest.Digest
	if n := g.nodes[d]; n != nil {
		for _, child := range n.children {
			next = append(next, child.Digest)
		}
		for _, blob := range n.blobs {
			c.blobs[blob.Digest] = plain(blob)
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
