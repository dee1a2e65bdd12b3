package mirror

import (
	"context"
	"fmt"
	"io"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
)

// Repository is a destination in a registry.
type Repository struct {
	registry.Repository
}

// Name tags root and its signature tags at once; the root is tagged last, because
// its tag is what others wait for.
func (r Repository) Name(ctx context.Context, root Root) error {
	for _, t := range root.Tags {
		if err := r.tag(ctx, t.Descriptor, t.Name); err != nil {
			return err
		}
	}
	_, tag, tagged := cutTag(root.Name)
	if !tagged {
		return nil
	}
	return r.tag(ctx, root.Descriptor, tag)
}

// Commit has nothing to do.
func (Repository) Commit(context.Context) error { return nil }

// tag writes a tag unless it stands already: a registry whose tags are immutable
// refuses even the same again.
func (r Repository) tag(ctx context.Context, desc ocispec.Descriptor, name string) error {
	if have, err := r.Resolve(ctx, name); err == nil && have.Digest == desc.Digest {
		return nil
	}
	if err := r.Tag(ctx, desc, name); err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return nil
}

// Mount takes a blob from another repository of the same registry.
func (r Repository) Mount(ctx context.Context, desc ocispec.Descriptor, from string, get func() (io.ReadCloser, error)) error {
	m, ok := r.Repository.(registry.Mounter)
	if !ok {
		return errdef.ErrUnsupported
	}
	return m.Mount(ctx, desc, from, get)
}

var _ content.Pusher = Repository{}

// cutTag splits HOST/REPO:TAG; tagged is false for a name with a digest or
// without anything behind the repository.
func cutTag(name string) (repository, tag string, tagged bool) {
	if repository, _, ok := strings.Cut(name, "@"); ok {
		return repository, "", false
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:], true
	}
	return name, "", false
}
