package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
)

// ExecuteOptions configure a copy. The zero value is a good default.
type ExecuteOptions struct {
	// Concurrency bounds what is copied at once; ≤ 0 means 4.
	Concurrency int
	// Attempts bounds the tries in a row for one piece of content that bring less
	// than 1 MiB each; ≤ 0 means 5. Requests that failed before any content moved
	// are the transport's to repeat.
	Attempts int
	// RateLimit bounds what is read from all sources together, in bytes a second;
	// ≤ 0 means no limit.
	RateLimit int64
	// Piecemeal copies what the source has even where it lacks some, as one volume
	// of several does. The copy is an [IncompleteError] then, and names nothing.
	Piecemeal bool
	// Progress is told what happens; nil for nobody.
	Progress Progress
}

// Execute copies what the destination lacks and then records the roots. Blobs go
// in parallel, the largest first; manifests follow, also in parallel, each behind
// what it names. A failure is an [IncompleteError]: running the copy again continues
// where it stopped. Where a source is [Redundant], content that is damaged comes from
// another of its copies. Where the source is known to lack content nothing is begun,
// with [AbsentError].
func (p *Plan) Execute(ctx context.Context, opts ExecuteOptions) error {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 4
	}
	if opts.Attempts <= 0 {
		opts.Attempts = 5
	}
	if opts.Progress == nil {
		opts.Progress = silent{}
	}
	absent := p.Complete()
	if absent != nil && !opts.Piecemeal {
		return absent
	}
	total, missing := p.amounts()
	x := &execution{plan: p, opts: opts, pace: newPace(opts.RateLimit)}
	for s := range p.steps() {
		if s.Stored {
			x.stored.Add(s.Descriptor.Size)
		} else {
			x.partial.Add(s.Partial)
		}
	}
	opts.Progress.Begin(total, missing)
	defer opts.Progress.End()
	err := x.run(ctx, absent)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return &IncompleteError{Stored: x.stored.Load(), Total: total.Bytes, Partial: x.partial.Load(), Err: err}
	}
	return nil
}

type execution struct {
	plan   *Plan
	opts   ExecuteOptions
	pace   *pace
	stored atomic.Int64
	// partial are bytes of what is not stored.
	partial atomic.Int64
}

// run ends with absent, when there is such an error, before anything is named.
func (x *execution) run(ctx context.Context, absent error) error {
	if err := x.storeAll(ctx, largestFirst(x.plan.Blobs)); err != nil {
		return err
	}
	if absent != nil {
		return absent
	}
	for _, steps := range levels(x.plan.Manifests) {
		if err := x.storeAll(ctx, steps); err != nil {
			return err
		}
	}
	for _, root := range x.plan.Roots {
		if err := x.plan.dst.Name(ctx, root); err != nil {
			return &CopyError{"destination", "record " + root.Name + " as", root.Descriptor, err}
		}
	}
	if err := x.plan.dst.Commit(ctx); err != nil {
		return fmt.Errorf("record the names at the destination: %w", err)
	}
	return nil
}

// largestFirst sorts steps, of which there may be many, by reference.
func largestFirst(steps []Step) []*Step {
	sorted := make([]*Step, len(steps))
	for i := range steps {
		sorted[i] = &steps[i]
	}
	slices.SortStableFunc(sorted, func(a, b *Step) int { return cmp.Compare(b.Descriptor.Size, a.Descriptor.Size) })
	return sorted
}

// levels sorts manifests into groups that name only what is in groups before
// theirs. A digest cannot be part of what it is the digest of, so there are no
// rings.
func levels(manifests []Step) [][]*Step {
	at := make(map[digest.Digest]int, len(manifests)) // places in manifests
	for i, s := range manifests {
		at[s.Descriptor.Digest] = i
	}
	level := make([]int, len(manifests)) // counted from 1, 0 for not known yet
	var find func(i int) int
	find = func(i int) int {
		if level[i] > 0 {
			return level[i]
		}
		n := 1
		for _, d := range manifests[i].doc.behind {
			if j, planned := at[d]; planned {
				n = max(n, find(j)+1)
			}
		}
		level[i] = n
		return n
	}
	var out [][]*Step
	for i := range manifests {
		n := find(i)
		for len(out) < n {
			out = append(out, nil)
		}
		out[n-1] = append(out[n-1], &manifests[i])
	}
	return out
}

// storeAll copies, in parallel, what is not stored.
func (x *execution) storeAll(ctx context.Context, steps []*Step) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(x.opts.Concurrency)
	for _, s := range steps {
		if !s.Missing() || s.Absent {
			continue
		}
		g.Go(func() error {
			// A slot may come free after another copy failed.
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return x.store(ctx, s)
		})
	}
	return g.Wait()
}

// store copies one piece of content, trying again what may pass.
func (x *execution) store(ctx context.Context, s *Step) error {
	if d, ok := x.plan.dst.(Discarder); ok && s.Damaged {
		if err := d.Discard(ctx, s.Descriptor); err != nil {
			return &CopyError{"destination", "remove damaged", s.Descriptor, err}
		}
	}
	x.opts.Progress.Start(s.Descriptor)
	t := &tries{desc: s.Descriptor, limit: x.opts.Attempts, progress: x.opts.Progress}
	searched := false
	for {
		begun, err := x.attempt(ctx, s, t)
		if err == nil {
			x.stored.Add(s.Descriptor.Size)
			x.partial.Add(-s.Partial)
			x.opts.Progress.Stored(s.Descriptor)
			return nil
		}
		// What came before may have passed: only damage is a reason to search, once.
		if side := new(CopyError); !searched && errors.As(err, &side) && side.Side == "source" && spoilt(side.Err) {
			searched = true
			if findSound(ctx, s.item.Source, s.Descriptor, side.Err) == nil {
				continue
			}
		}
		if !t.again(ctx, err, begun) {
			x.partial.Add(x.left(ctx, s) - s.Partial)
			if ctx.Err() == nil {
				x.opts.Progress.Failed(s.Descriptor, err)
			}
			return err
		}
	}
}

// left returns what an attempt that failed has left at the destination, and what was
// there, as far as it tells.
func (x *execution) left(ctx context.Context, s *Step) int64 {
	n, _, err := s.partialAt(context.WithoutCancel(ctx), x.plan.dst) // which was ended, maybe
	if err != nil {
		return 0
	}
	return n
}

// attempt copies one piece of content once; begun reports whether any of it was
// read.
func (x *execution) attempt(ctx context.Context, s *Step, t *tries) (begun bool, err error) {
	src := &source{fetch: fetchFrom(s.item.Source), desc: s.Descriptor, progress: x.opts.Progress, tries: t, pace: x.pace}
	if s.doc != nil && s.doc.data != nil {
		src.pace = nil
		src.fetch = func(_ context.Context, _ ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(s.doc.data[min(offset, int64(len(s.doc.data))):])), nil
		}
	}
	err = x.write(ctx, s, src)
	delivered, cause := src.stop()
	if err == nil || errors.Is(err, errdef.ErrAlreadyExists) {
		// Content that was there already, or mounted, was not read.
		x.opts.Progress.Adjust(s.Descriptor, s.Descriptor.Size-delivered)
		return true, nil
	}
	x.opts.Progress.Adjust(s.Descriptor, -delivered)
	switch {
	case cause != nil:
		return delivered > 0, cause
	case isWrong(err):
		// The destination notices, but it is the source that is wrong.
		return delivered > 0, &CopyError{"source", "verify", s.Descriptor, err}
	}
	return delivered > 0, &CopyError{"destination", "write", s.Descriptor, err}
}

// write hands the content to the destination in the best way it offers.
func (x *execution) write(ctx context.Context, s *Step, src *source) error {
	dst := x.plan.dst
	if in, ok := dst.(SegmentIngester); ok && s.spread != nil {
		return in.IngestSegments(ctx, s.Descriptor, s.spread.Bytes, s.spread.keep, src.open)
	}
	if in, ok := dst.(Ingester); ok {
		return in.Ingest(ctx, s.Descriptor, src.open)
	}
	if s.doc != nil && s.doc.data != nil {
		// A reader that an HTTP client knows how to rewind.
		return dst.Push(ctx, s.Descriptor, bytes.NewReader(s.doc.data))
	}
	push := func() error {
		rc, err := src.openVerified(ctx)
		if err != nil {
			return err
		}
		defer rc.Close()
		return dst.Push(ctx, s.Descriptor, rc)
	}
	m, ok := dst.(registry.Mounter)
	if !ok || s.item.MountFrom == "" {
		return push()
	}
	pushed := false
	err := m.Mount(ctx, s.Descriptor, s.item.MountFrom, func() (io.ReadCloser, error) {
		pushed = true
		return src.openVerified(ctx)
	})
	if err != nil && !pushed && ctx.Err() == nil {
		return push() // a mount only saves work, nothing depends on it
	}
	return err
}

type silent struct{}

func (silent) Begin(_, _ Amount)                                 {}
func (silent) Start(ocispec.Descriptor)                          {}
func (silent) Advance(ocispec.Descriptor, int64)                 {}
func (silent) Adjust(ocispec.Descriptor, int64)                  {}
func (silent) Retrying(ocispec.Descriptor, error, time.Duration) {}
func (silent) Stored(ocispec.Descriptor)                         {}
func (silent) Failed(ocispec.Descriptor, error)                  {}
func (silent) Absent(ocispec.Descriptor, string)                 {}
func (silent) End()                                              {}
