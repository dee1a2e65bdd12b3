package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
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

// Lacks returns those of list that the repository does not have.
func (r Repository) Lacks(ctx context.Context, list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var lacks []ocispec.Descriptor
	for _, d := range list {
		has, err := r.Exists(ctx, d)
		if err != nil {
			return nil, &CopyError{"destination", "look for", d, err}
		}
		if !has {
			lacks = append(lacks, d)
		}
	}
	return lacks, nil
}

// annotationTrial marks an index that was pushed to see whether it is taken.
const annotationTrial = "dev.sealift.trial"

// TrySparse finds out whether the registry takes an index that names what it does
// not have, by pushing one of lacks, which must not be empty, without a tag. What
// it takes is deleted again where the registry allows that, and is garbage to be
// collected where not. The error is the registry's refusal.
func (r Repository) TrySparse(ctx context.Context, lacks []ocispec.Descriptor) error {
	raw, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: plainAll(lacks[:1]),
		// One of its own, or deleting it might take along somebody's.
		Annotations: map[string]string{annotationTrial: rand.Text()},
	})
	if err != nil {
		return err
	}
	desc := artifact.Describe(ocispec.MediaTypeImageIndex, raw)
	if err := r.Push(ctx, desc, bytes.NewReader(raw)); err != nil {
		return err
	}
	_ = r.Delete(ctx, desc) // a trial that stays is in nobody's way
	return nil
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
