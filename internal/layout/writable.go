package layout

import (
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// WritableRepository is one repository of a layout that can be pushed to, as a
// registry's can. What it is given is committed by [Writer.Commit].
type WritableRepository struct {
	*Repository
	writer *Writer
}

// WritableRepository returns the repository HOST/REPOSITORY for reading and
// writing. It comes to be with its first tag.
func (w *Writer) WritableRepository(name string) *WritableRepository {
	return &WritableRepository{Repository: w.Repository(name), writer: w}
}

// Push is [Writer.Push]. As in a registry, a manifest with a subject becomes a
// referrer of it by being pushed.
func (r *WritableRepository) Push(ctx context.Context, desc ocispec.Descriptor, content io.Reader) error {
	if err := r.writer.Push(ctx, desc, content); err != nil {
		return err
	}
	if !isManifest(desc.MediaType) {
		return nil
	}
	n, err := r.layout.node(ctx, desc)
	if err != nil {
		return fmt.Errorf("push to %s: %w", r.name, &ManifestError{Digest: desc.Digest, Err: err})
	}
	if n.subject == "" {
		return nil
	}
	return r.writer.AddUntagged(desc)
}

// Tag gives a manifest of the layout a tag in this repository. A tag of the tag
// scheme (sha256-<hex>.sig) is also set as the bare alias. Errors:
// errdef.ErrNotFound when the layout lacks the manifest,
// errdef.ErrInvalidReference.
func (r *WritableRepository) Tag(ctx context.Context, desc ocispec.Descriptor, reference string) error {
	ok, err := r.layout.Exists(ctx, desc)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("tag %s:%s: manifest %s: %w", r.name, reference, desc.Digest, errdef.ErrNotFound)
	}
	alias := ""
	if _, _, ok := artifact.ParseSignatureTag(reference); ok {
		alias = reference
	}
	return r.writer.SetRoot(r.name+":"+reference, alias, desc)
}
