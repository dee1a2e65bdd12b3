// Package publish makes releases: it pins every image a template names by its
// digest, builds the release's documents and pushes the whole into one
// repository, the images' bytes unchanged.
//
// [Prepare] resolves and checks without writing anything; [Release.Push] writes.
package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// ErrVersionTaken reports that the repository holds other content under the
// version. A published version never changes.
var ErrVersionTaken = errors.New("the version is published with other content")

// ErrRaced reports that another publisher moved the tag while this one wrote it: it
// names their release now. It is [ErrVersionTaken] too, and what publishing again
// would say.
var ErrRaced = fmt.Errorf("another publisher wrote it at the same time: %w", ErrVersionTaken)

// Image says where the image of one component comes from.
type Image struct {
	Source mirror.Source
	// Reference is the tag or digest to resolve at Source.
	Reference string
	// Name is the reference recorded in the release as the image's origin.
	Name string
	// MountFrom is the repository on the destination's registry that holds the
	// image already, "" when it is elsewhere.
	MountFrom string
}

// Release is a release ready to be pushed.
type Release struct {
	App    *artifact.App
	Root   artifact.Blob
	Images map[string]artifact.Image

	parts   []artifact.Blob
	sources map[string]Image
}

// ImageError says for which component, and from where, an image could not be
// had.
type ImageError struct {
	Component, Name string
	Err             error
}

// Error names the component and the image.
func (e *ImageError) Error() string {
	return fmt.Sprintf("component %s: image %s: %v", e.Component, e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *ImageError) Unwrap() error { return e.Err }

// Prepare resolves the image of every component, checks that it offers the
// platforms the template promises, and builds the release. images has one entry
// for each component key; created is zero for a release without a date. Every
// image is tried, and all that fail are reported together.
func Prepare(ctx context.Context, app *artifact.App, images map[string]Image, created time.Time) (*Release, error) {
	r := &Release{App: app, Images: map[string]artifact.Image{}, sources: images}
	keys := app.Template.Keys()
	found := make([]ocispec.Descriptor, len(keys))
	failed := make([]error, len(keys))
	var g errgroup.Group
	g.SetLimit(4)
	for i, key := range keys {
		g.Go(func() error {
			image, ok := images[key]
			if !ok {
				failed[i] = &ImageError{key, app.Template.Components[key].Image, errors.New("has no source")}
				return nil
			}
			desc, err := resolve(ctx, image, app.Template.Platforms)
			if err != nil {
				failed[i] = &ImageError{key, image.Name, err}
			}
			found[i] = desc
			return nil
		})
	}
	_ = g.Wait() // failures are in failed, so that one does not hide the others
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	for i, key := range keys {
		r.Images[key] = artifact.Image{Descriptor: found[i], Source: images[key].Name}
	}
	var err error
	r.parts, r.Root, err = artifact.BuildRelease(app, r.Images, created)
	return r, err
}

// resolve pins an image and checks its platforms.
func resolve(ctx context.Context, image Image, want []string) (ocispec.Descriptor, error) {
	desc, err := image.Source.Resolve(ctx, image.Reference)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	m, _, err := artifact.FetchManifest(ctx, image.Source, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	have, own, err := platforms(ctx, image.Source, desc, m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	// What a store says of an image beside its digest differs from store to
	// store; the release must not.
	desc = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: own, Annotations: desc.Annotations}
	for _, p := range want {
		if !slices.Contains(have, p) {
			return ocispec.Descriptor{}, fmt.Errorf("offers %v, the template promises %s too", have, p)
		}
	}
	return desc, nil
}

// platforms lists what an image runs on, and, for an image of one platform, that
// one as its config has it.
func platforms(ctx context.Context, src mirror.Source, desc ocispec.Descriptor, m *artifact.Manifest) ([]string, *ocispec.Platform, error) {
	var list []string
	add := func(p *ocispec.Platform) {
		if p == nil || p.OS == "unknown" || p.OS == "" {
			return // attestations stand in indexes as images of no platform
		}
		list = append(list, p.OS+"/"+p.Architecture)
		if p.Variant != "" {
			list = append(list, p.OS+"/"+p.Architecture+"/"+p.Variant)
		}
	}
	if artifact.IsIndex(desc.MediaType) {
		for _, d := range m.Manifests {
			add(d.Platform)
		}
		return list, nil, nil
	}
	if len(m.Blobs) == 0 {
		return nil, nil, errors.New("has no config")
	}
	config, err := artifact.Fetch(ctx, src, m.Blobs[0], artifact.MaxConfigBytes)
	if err != nil {
		return nil, nil, err
	}
	var p ocispec.Platform
	if err := json.Unmarshal(config, &p); err != nil {
		return nil, nil, fmt.Errorf("parse config: %w", err)
	}
	add(&p)
	return list, &p, nil
}

// Plan works out what the repository lacks of the release's images.
func (r *Release) Plan(ctx context.Context, repo registry.Repository) (*mirror.Plan, error) {
	var items []mirror.Item
	for _, key := range r.App.Template.Keys() {
		src := r.sources[key]
		items = append(items, mirror.Item{
			Source:    src.Source,
			Reference: r.Images[key].Descriptor.Digest.String(),
			Name:      src.Name + "@" + r.Images[key].Descriptor.Digest.String(),
			MountFrom: src.MountFrom,
		})
	}
	return mirror.NewPlan(ctx, mirror.Repository{Repository: repo}, items, mirror.PlanOptions{})
}

// Check fails with [ErrVersionTaken] when repo holds other content under the
// release's version, and reports whether it holds this very release.
func (r *Release) Check(ctx context.Context, repo registry.Repository) (published bool, err error) {
	return check(ctx, repo, r.App.Template.Version, r.Root.Descriptor)
}

// check fails with [ErrVersionTaken] when repo has another root under the version, and
// reports whether it has this one.
func check(ctx context.Context, repo content.Resolver, version string, root ocispec.Descriptor) (published bool, err error) {
	desc, err := repo.Resolve(ctx, version)
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("resolve version %s: %w", version, err)
	case desc.Digest != root.Digest:
		return false, fmt.Errorf("%s is %s there, this one is %s: %w", version, desc.Digest, root.Digest, ErrVersionTaken)
	}
	return true, nil
}

// PushOptions configure [Release.Push]. The zero value is a good default.
type PushOptions struct {
	// Execute configures the copy of the images.
	Execute mirror.ExecuteOptions
	// BeforeTag is called when everything stands but the version's tag, to sign
	// root: nobody who finds the version finds it unsigned. It is called for a
	// release that is published already too, and may be nil.
	BeforeTag func(ctx context.Context, root ocispec.Descriptor) error
}

// Push copies the images of plan, then the template and its files, then the root
// and, once everything stands and is signed, the version's tag. Afterwards it reads
// the tag back, because two publishers may write one tag at once. Pushing the same
// release again changes nothing and repairs what is missing.
//
// It fails with [ErrVersionTaken] when the version has other content by now.
// Anything else that fails is a [*mirror.IncompleteError]: pushing again goes on
// there.
func (r *Release) Push(ctx context.Context, repo registry.Repository, plan *mirror.Plan, opts PushOptions) error {
	if err := plan.Execute(ctx, opts.Execute); err != nil {
		return err
	}
	stored, _ := plan.Size()
	total := stored
	documents := append(slices.Clone(r.parts), r.Root)
	for _, b := range documents {
		total += b.Descriptor.Size
	}
	err := func() error {
		for _, b := range documents {
			if err := push(ctx, repo, b); err != nil {
				return err
			}
			stored += b.Descriptor.Size
		}
		return r.name(ctx, repo, opts.BeforeTag)
	}()
	if err == nil || errors.Is(err, ErrVersionTaken) {
		return err
	}
	return &mirror.IncompleteError{Stored: stored, Total: total, Err: err}
}

// name gives the root its tag once it is signed.
func (r *Release) name(ctx context.Context, repo registry.Repository, sign func(context.Context, ocispec.Descriptor) error) error {
	version := r.App.Template.Version
	if sign != nil {
		// What is taken needs no signature.
		if _, err := r.Check(ctx, repo); err != nil {
			return err
		}
		if err := sign(ctx, r.Root.Descriptor); err != nil {
			return err
		}
	}
	return tag(ctx, repo, version, r.Root.Descriptor)
}

// tag gives a root its version and reads it back.
func tag(ctx context.Context, repo content.TagResolver, version string, root ocispec.Descriptor) error {
	if published, err := check(ctx, repo, version, root); err != nil || published {
		return err
	}
	if err := repo.Tag(ctx, root, version); err != nil {
		return fmt.Errorf("tag %s: %w", version, err)
	}
	desc, err := repo.Resolve(ctx, version)
	if err != nil {
		return fmt.Errorf("read tag %s back: %w", version, err)
	}
	if desc.Digest != root.Digest {
		return fmt.Errorf("tag %s names %s after this publish wrote %s: %w", version, desc.Digest, root.Digest, ErrRaced)
	}
	return nil
}

func push(ctx context.Context, repo content.Storage, b artifact.Blob) error {
	if ok, err := repo.Exists(ctx, b.Descriptor); err != nil {
		return fmt.Errorf("look for %s: %w", b.Descriptor.Digest, err)
	} else if ok {
		return nil
	}
	if err := repo.Push(ctx, b.Descriptor, bytes.NewReader(b.Data)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		return fmt.Errorf("push %s: %w", b.Descriptor.Digest, err)
	}
	return nil
}
