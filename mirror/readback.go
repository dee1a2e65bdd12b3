package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/sealift/sealift/internal/layout"
)

// ReadBack reads what p has copied to the media once more, from the device and not
// from memory, and compares it with its digests; then it opens the media anew and
// looks for the roots. On Linux the page cache is dropped before a file is read; what
// a device keeps in a memory of its own is not in anybody's hands. Segments of blobs
// that are spread over volumes are not read: only the whole has a digest. It fails
// with [DamageError] for what the device does not give back. progress may be nil.
func (m *Media) ReadBack(ctx context.Context, p *Plan, progress Progress) (Amount, error) {
	if progress == nil {
		progress = silent{}
	}
	var sum Amount
	for s := range p.steps() {
		if s.written() {
			sum.add(s.Descriptor.Size)
		}
	}
	v := &verification{src: uncached{m.w.Layout}, opts: VerifyOptions{Progress: progress}}
	progress.Begin(sum, sum)
	defer progress.End()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers())
	for s := range p.steps() {
		if s.written() {
			g.Go(func() error { return v.blob(gctx, s.Descriptor, true) })
		}
	}
	if err := g.Wait(); err != nil {
		return Amount{}, fmt.Errorf("read back: %w", err)
	}
	if err := v.damage.found(); err != nil {
		return Amount{}, fmt.Errorf("read back: %w", err)
	}
	return sum, m.findAgain(ctx, p)
}

// written reports whether a copy has written the step whole.
func (s *Step) written() bool { return s.Missing() && !s.Absent && s.spread == nil }

// findAgain opens the media as its next reader will.
func (m *Media) findAgain(ctx context.Context, p *Plan) error {
	l, err := layout.Open(m.w.Dir())
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	for _, r := range p.Roots {
		d, err := l.Resolve(ctx, rootName(r))
		if err == nil && d.Digest != r.Descriptor.Digest {
			err = errors.New("is " + d.Digest.String())
		}
		if err != nil {
			return fmt.Errorf("read back: %s: %w", rootName(r), err)
		}
	}
	return nil
}

func nothingAbsent(ocispec.Descriptor) string { return "" }

// uncached is a layout that is read from its device.
type uncached struct{ *layout.Layout }

func (u uncached) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return u.FetchUncached(ctx, desc)
}
