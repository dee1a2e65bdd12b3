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
	roots []Base
	// held are the blobs that every site has.
	held map[digest.Digest]bool
}

// expand finds the blobs of what each site has, and keeps those that all have.
func expand(ctx context.Context, opts PlanOptions) (*holdings, error) {
	b := &holdings{}
	for i, site := range opts.Sites {
		known := newPlanned()
		has := map[digest.Digest]bool{}
		for _, item := range site.Items {
			w := newWalk(item, known)
			w.limit = opts.Concurrency
			root, err := w.resolve(ctx)
			if err != nil {
				return nil, fmt.Errorf("base of the delta: %w", err)
			}
			for _, n := range w.nodes {
				for _, d := range n.blobs {
					has[d.Digest] = i == 0 || b.held[d.Digest]
				}
			}
			b.list(Base{root.Name, root.Descriptor.Digest})
		}
		for _, root := range site.Known {
			b.list(root)
		}
		for _, d := range site.Blobs {
			has[d] = i == 0 || b.held[d]
		}
		b.held = has
	}
	return b, nil
}

// list notes a root, each once.
func (b *holdings) list(root Base) {
	if !slices.ContainsFunc(b.roots, func(r Base) bool { return r.Digest == root.Digest }) {
		b.roots = append(b.roots, root)
	}
}

// leave marks what the delta leaves. It comes behind the probing, for what the
// destination has already needs no reason.
//
// Media has to say where the rest is, so that nothing is left to sites that have
// blobs and nothing whole.
func (b *holdings) leave(p *Plan) {
	if len(b.roots) == 0 {
		return
	}
	for i := range p.Blobs {
		if s := &p.Blobs[i]; !s.vital && !s.Stored && b.held[s.Descriptor.Digest] {
			s.Left = LeftInBase
			for _, root := range append([]int{p.Parts[s.Part].Root}, s.also...) {
				p.Roots[root].Base = b.roots
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
