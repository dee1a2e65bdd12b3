package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// InventoryOptions configure [TakeInventory]. The zero value lists all roots.
type InventoryOptions struct {
	// For are the ids to list; none means all roots, those of no app too.
	For []artifact.IDGlob
	// Blobs lists the blobs of these roots too, also of roots that are not whole.
	Blobs bool
}

// LeftOut is a root that an inventory does not list because it is not held whole.
type LeftOut struct {
	// Name is the full reference it was found under.
	Name   string
	Digest digest.Digest
	// All is what belongs to it for the platforms carried, Lacks what is not there of
	// that, for Reason where the media says one.
	All, Lacks mirror.Amount
	Reason     string
	// Err says why nothing of this is known, and names the root; nil when it is.
	Err error
}

// TakeInventory lists what the media that list was found on hold together: each
// root all of whose content is there for the platforms that the media say they
// carry. Content is looked at by existence and size and not read; see
// [VerifyBytes]. Roots that are not whole are in the second result, in the order of
// list. It fails only when ctx ends.
func TakeInventory(ctx context.Context, list []Found, opts InventoryOptions) (Inventory, []LeftOut, error) {
	s := stock{opts: opts, shelf: shelfOf(list), roots: map[digest.Digest]InventoryRoot{}, blobs: map[digest.Digest]bool{}}
	for _, f := range list {
		err := s.count(ctx, f)
		if ctx.Err() != nil {
			return Inventory{}, nil, context.Cause(ctx)
		}
		if err != nil {
			s.leave(LeftOut{Name: f.Name, Digest: f.Descriptor.Digest, Err: err})
		}
	}
	// What one name lacks another may have.
	left := slices.DeleteFunc(s.left, func(l LeftOut) bool { _, whole := s.roots[l.Digest]; return whole })
	var inventory Inventory
	for _, d := range slices.Sorted(maps.Keys(s.roots)) {
		inventory.Roots = append(inventory.Roots, s.roots[d])
	}
	inventory.Blobs = slices.Sorted(maps.Keys(s.blobs))
	return inventory, left, nil
}

// stock is an inventory being taken.
type stock struct {
	opts  InventoryOptions
	shelf shelf
	roots map[digest.Digest]InventoryRoot
	blobs map[digest.Digest]bool
	left  []LeftOut
}

// count adds one root. The error says why nothing is known of it.
func (s *stock) count(ctx context.Context, f Found) error {
	if f.Damage != nil {
		return f.Damage
	}
	m, _, err := artifact.FetchManifest(ctx, f.Store, f.Descriptor)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	carried := CarriedOf(f)
	root := InventoryRoot{Digest: f.Descriptor.Digest, Platforms: carried.Platforms}
	if m.ArtifactType == artifact.TypeRelease {
		root.ID, root.Version = m.Annotations[artifact.AnnotationID], m.Annotations[ocispec.AnnotationVersion]
	}
	if err := root.check(); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	if !s.wanted(root) {
		return nil
	}
	d := root.Digest.String()
	item := mirror.Item{Source: f.Store, Reference: d, Name: d, Platforms: root.Platforms}
	plan, err := mirror.NewPlan(ctx, s.shelf, []mirror.Item{item}, mirror.PlanOptions{})
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	s.add(root, plan, f.Name, carried)
	return nil
}

func (s *stock) wanted(r InventoryRoot) bool {
	return len(s.opts.For) == 0 || r.ID != "" && slices.ContainsFunc(s.opts.For, func(g artifact.IDGlob) bool { return g.Match(r.ID) })
}

// add files a root as whole or as left out, by a plan that would make it whole.
func (s *stock) add(r InventoryRoot, plan *mirror.Plan, name string, carried Carried) {
	reason := ""
	for _, step := range plan.Blobs {
		if step.Stored && s.opts.Blobs {
			s.blobs[step.Descriptor.Digest] = true
		}
		if !step.Stored && reason == "" {
			reason = carried.Reason(step.Descriptor)
		}
	}
	sum := plan.Summary()
	if sum.Copied.Blobs > 0 {
		s.leave(LeftOut{Name: name, Digest: r.Digest, All: sum.All, Lacks: sum.Copied, Reason: reason})
		return
	}
	before, twice := s.roots[r.Digest]
	switch {
	case twice && len(before.Platforms) == 0:
		return
	case twice && len(r.Platforms) > 0:
		r.Platforms = append(slices.Clone(before.Platforms), r.Platforms...)
	}
	r.Platforms = sortPlatforms(r.Platforms)
	s.roots[r.Digest] = r
}

// leave tells of each root once, though several media have it in part.
func (s *stock) leave(l LeftOut) {
	if !slices.ContainsFunc(s.left, func(o LeftOut) bool { return o.Name == l.Name && o.Digest == l.Digest }) {
		s.left = append(s.left, l)
	}
}

// Lack is what media lacks of one artifact, for the platforms that it says it carries.
type Lack struct {
	Name string
	mirror.Amount
	// Reason says where the media says it is, "" when it does not.
	Reason string
	// Err says why nothing of this is known; nil when it is.
	Err error
}

// Holding is how much of one artifact is on media: All that belongs to it, for the
// platforms that the media says it carries, and what it lacks of that.
type Holding struct {
	All mirror.Amount
	Lack
}

// Lacking looks, for each artifact on media, at what is there of all that belongs to
// it, by existence and size. What is whole is not in the result.
func Lacking(ctx context.Context, list []Found) ([]Lack, error) {
	var lacks []Lack
	for _, f := range list {
		l := HoldingOf(ctx, f).Lack
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if l.Blobs > 0 || l.Err != nil {
			lacks = append(lacks, l)
		}
	}
	return lacks, nil
}

// HoldingOf looks at what is there of an artifact on media, by existence and size. It is
// of no use once ctx has ended.
func HoldingOf(ctx context.Context, f Found) Holding {
	h := Holding{Lack: Lack{Name: f.Name, Err: f.Damage}}
	if f.Damage != nil || f.Media == nil {
		return h
	}
	carried := CarriedOf(f)
	d := f.Descriptor.Digest.String()
	item := mirror.Item{Source: f.Store, Reference: d, Name: d, Platforms: carried.Platforms}
	plan, err := mirror.NewPlan(ctx, shelf{f.Media}, []mirror.Item{item}, mirror.PlanOptions{})
	if err != nil {
		h.Err = err
		return h
	}
	var lacking []ocispec.Descriptor
	for _, step := range plan.Blobs {
		if !step.Stored {
			lacking = append(lacking, step.Descriptor)
		}
	}
	sum := plan.Summary()
	h.All = sum.All
	if len(lacking) > 0 {
		h.Amount, h.Reason = sum.Copied, carried.Explain(lacking, nil)
	}
	return h
}

// sortPlatforms returns the platforms sorted as they are written, each once.
func sortPlatforms(list []ocispec.Platform) []ocispec.Platform {
	byName := map[string]ocispec.Platform{}
	for _, p := range list {
		byName[mirror.FormatPlatform(p)] = p
	}
	var out []ocispec.Platform
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out
}

// shelf is several layouts as one place that a plan is made for and never carried
// out.
type shelf []*layout.Layout

// shelfOf returns the media of list, joined, so that segments of one blob come
// together.
func shelfOf(list []Found) shelf {
	var s shelf
	for _, f := range list {
		if f.Media != nil && !slices.Contains(s, f.Media) {
			s = append(s, f.Media)
		}
	}
	if joined, err := layout.Join(s...); err == nil {
		return shelf{joined}
	}
	return s
}

// Exists reports whether one of the layouts has desc.
func (s shelf) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	var failed error
	for _, l := range s {
		ok, err := l.Exists(ctx, desc)
		if ok {
			return true, nil
		}
		failed = errors.Join(failed, err)
	}
	return false, failed
}

// Fetch opens desc in the first layout that gives it.
func (s shelf) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	failed := fmt.Errorf("%s: %w", desc.Digest, errdef.ErrNotFound)
	for _, l := range s {
		rc, err := l.Fetch(ctx, desc)
		if err == nil {
			return rc, nil
		}
		if !errors.Is(err, errdef.ErrNotFound) {
			failed = err
		}
	}
	return nil, failed
}

// Push fails: nothing is written.
func (shelf) Push(context.Context, ocispec.Descriptor, io.Reader) error { return errdef.ErrUnsupported }

// Name fails: nothing is written.
func (shelf) Name(context.Context, mirror.Root) error { return errdef.ErrUnsupported }

// Commit fails: nothing is written.
func (shelf) Commit(context.Context) error { return errdef.ErrUnsupported }
