package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Base is a root that a delta builds on.
type Base struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}

// holdings are what the sites of a delta have.
type holdings struct {
	bases []Base
	// held are the blobs that every site has, with one base for each site that
	// accounts for it: places in bases.
	held map[digest.Digest][]int
}

// expand finds the blobs of what each site has, and keeps those that all have.
func expand(ctx context.Context, opts PlanOptions) (*holdings, error) {
	h := &holdings{}
	for i, site := range opts.Sites {
		walks, err := walkAll(ctx, site.Items, opts.Concurrency, func(*walk) {})
		if err != nil {
			return nil, fmt.Errorf("base of the delta: %w", err)
		}
		has := map[digest.Digest][]int{}
		note := func(d digest.Digest, base int) {
			before, held := h.held[d]
			if has[d] == nil && (i == 0 || held) {
				has[d] = append(slices.Clip(before), base)
			}
		}
		first := -1 // a base of the site
		for _, w := range walks {
			base := h.place(Base{w.root.Name, w.root.Descriptor.Digest})
			first = max(first, base)
			for _, n := range w.nodes {
				for _, d := range n.blobs {
					note(d.Digest, base)
				}
			}
		}
		for _, known := range site.Known {
			first = max(first, h.place(known))
		}
		for _, d := range site.Blobs {
			if first >= 0 { // media has to say where the rest is
				note(d, first)
			}
		}
		h.held = has
	}
	return h, nil
}

// place returns the place of a base, which is listed once.
func (h *holdings) place(b Base) int {
	i := slices.IndexFunc(h.bases, func(r Base) bool { return r.Digest == b.Digest })
	if i < 0 {
		i = len(h.bases)
		h.bases = append(h.bases, b)
	}
	return i
}

// leave marks what the delta leaves, and notes with the roots which bases account for
// it. It comes behind the probing, for what the destination has already needs no
// reason.
func (h *holdings) leave(p *Plan) {
	type use struct{ root, base int }
	used := map[use]bool{}
	for i := range p.Blobs {
		s := &p.Blobs[i]
		bases, held := h.held[s.Descriptor.Digest]
		if s.vital || s.Stored || !held {
			continue
		}
		s.Left = LeftInBase
		for _, root := range append([]int{p.Parts[s.Part].Root}, s.also...) {
			r := &p.Roots[root]
			r.LeftBlobs = append(r.LeftBlobs, s.Descriptor.Digest)
			for _, base := range bases {
				if !used[use{root, base}] {
					used[use{root, base}] = true
					r.Base = append(r.Base, h.bases[base])
				}
			}
		}
	}
}

// askSources finds what is to be carried and is not there.
func (p *Plan) askSources(ctx context.Context, opts PlanOptions) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(opts.Concurrency)
	for i := range p.Blobs {
		s := &p.Blobs[i]
		src, ok := s.item.Source.(content.ReadOnlyStorage)
		if !s.item.Sparse || !s.Missing() || !ok {
			continue
		}
		g.Go(func() error {
			has, err := src.Exists(ctx, s.Descriptor)
			if err != nil {
				return &CopyError{"source", "look for", s.Descriptor, err}
			}
			s.Absent = !has
			return nil
		})
	}
	return g.Wait()
}

// AbsentError reports content that is to be carried and that the source lacks: it
// is a delta whose base is not at the destination, or one volume of several. It
// matches errdef.ErrNotFound.
type AbsentError struct {
	// Content is what is missing, at least one piece.
	Content []ocispec.Descriptor
}

// Error counts what is missing and names the first piece.
func (e *AbsentError) Error() string {
	var bytes int64
	for _, d := range e.Content {
		bytes += d.Size
	}
	return fmt.Sprintf("neither the source nor the destination has %d of the blobs (%d bytes), the first is %s", len(e.Content), bytes, e.Content[0].Digest)
}

// Is reports whether target is errdef.ErrNotFound.
func (e *AbsentError) Is(target error) bool { return target == errdef.ErrNotFound }

// Complete returns an [AbsentError], or nil when the sources and the destination
// together have everything.
func (p *Plan) Complete() error {
	if list := p.Absent(); len(list) > 0 {
		return &AbsentError{Content: list}
	}
	return nil
}
