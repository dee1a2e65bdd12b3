package layout

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Repository is one repository of a layout, as a registry would show it: its
// tags, everything they lead to, and the referrers of all of that. The first
// call that needs them reads the layout's manifests; nothing is read twice, so
// a view is cheap to get and to throw away. All methods may be called
// concurrently.
type Repository struct {
	layout *Layout
	name   string
}

// Name returns the repository's name, HOST/REPOSITORY.
func (r *Repository) Name() string { return r.name }

func (r *Repository) load(ctx context.Context) (*graph, *closure, error) {
	g, err := r.layout.graph(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read repository %s: %w", r.name, err)
	}
	return g, g.closure(r.name), nil
}

// has reports whether a manifest or blob belongs to the repository.
func (r *Repository) has(ctx context.Context, d digest.Digest) (bool, error) {
	g, c, err := r.load(ctx)
	if err != nil {
		return false, err
	}
	return c.manifests[d] || g.blob(c, d) != nil, nil
}

// Fetch is [Layout.Fetch] for what belongs to the repository; the rest of the
// layout is errdef.ErrNotFound.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ok, err := r.has(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(r.name + "@" + desc.Digest.String())
	}
	return r.layout.Fetch(ctx, desc)
}

// Exists is [Layout.Exists] for what belongs to the repository.
func (r *Repository) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	ok, err := r.has(ctx, desc.Digest)
	if err != nil || !ok {
		return false, err
	}
	return r.layout.Exists(ctx, desc)
}

// Resolve finds a manifest of the repository by tag or digest. Blobs are not
// found, see [Repository.Blob]. The descriptor has the manifest's own media
// type and its size on the disk. Errors: errdef.ErrNotFound, also when the
// layout lacks the manifest; [*ManifestError] when it is there and damaged;
// [*ConflictError].
func (r *Repository) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	g, c, err := r.load(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := digest.Digest(reference)
	if desc, ok := c.tags[reference]; ok {
		d = desc.Digest
	}
	if name, contested := g.view.contestedName(r.name, reference); contested {
		if d, err = g.decide(name); err != nil {
			return ocispec.Descriptor{}, err
		}
	}
	if !c.manifests[d] {
		return ocispec.Descriptor{}, notFound(r.name + ": " + reference)
	}
	return g.manifest(d)
}

// Entry returns what index.json lists under a tag, damaged or not there as it may be;
// false where it lists nothing, or several things.
func (r *Repository) Entry(ctx context.Context, tag string) (ocispec.Descriptor, bool) {
	g, c, err := r.load(ctx)
	if err != nil {
		return ocispec.Descriptor{}, false
	}
	if _, contested := g.view.contestedName(r.name, tag); contested {
		return ocispec.Descriptor{}, false
	}
	desc, ok := c.tags[tag]
	return plain(desc), ok
}

// Blob describes a blob of the repository, a config or a layer, as the manifest
// that names it does. Whether the layout holds its bytes is not looked at.
// Errors: errdef.ErrNotFound.
func (r *Repository) Blob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	g, c, err := r.load(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	blob := g.blob(c, d)
	if blob == nil {
		return ocispec.Descriptor{}, notFound(r.name + "@" + d.String())
	}
	return blob.descriptor(), nil
}

// Tags calls fn once with the sorted tags after last, not at all when there are
// none. Tags of the tag scheme (sha256-<hex>.sig) are among them.
func (r *Repository) Tags(ctx context.Context, last string, fn func(tags []string) error) error {
	_, c, err := r.load(ctx)
	if err != nil {
		return err
	}
	at, found := slices.BinarySearch(c.tagNames, last)
	if found {
		at++
	}
	if at == len(c.tagNames) {
		return nil
	}
	return fn(slices.Clone(c.tagNames[at:]))
}

// Referrers calls fn once with the manifests of the repository whose subject is
// desc, sorted by digest, and not at all when there are none. An artifactType
// other than "" keeps only those of that type. The descriptors carry artifact
// type and annotations as the distribution specification v1.1 asks. The subject
// itself need not be in the layout.
func (r *Repository) Referrers(ctx context.Context, desc ocispec.Descriptor, artifactType string, fn func(referrers []ocispec.Descriptor) error) error {
	g, c, err := r.load(ctx)
	if err != nil {
		return err
	}
	var found []ocispec.Descriptor
	for _, n := range g.referrers[desc.Digest] {
		if c.manifests[n.desc.Digest] && (artifactType == "" || artifactType == n.desc.ArtifactType) {
			found = append(found, n.desc)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return fn(found)
}
