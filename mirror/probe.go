package mirror

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// probe finds out what the destination has, and how much of it is sound.
func (p *Plan) probe(ctx context.Context, opts PlanOptions) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(opts.Concurrency)
	for i := range p.Manifests {
		g.Go(func() error { return p.probeManifest(gctx, &p.Manifests[i]) })
	}
	for i := range p.Blobs {
		g.Go(func() error { return p.probeBlob(gctx, &p.Blobs[i]) })
	}
	if err := g.Wait(); err != nil || !opts.Check {
		return err
	}
	return p.checkBlobs(ctx, opts.Progress)
}

// probeManifest reads a manifest at the destination: what a name leads to must be
// sound, and it is small.
func (p *Plan) probeManifest(ctx context.Context, s *Step) error {
	_, err := artifact.Fetch(ctx, p.dst, s.Descriptor, artifact.MaxManifestBytes)
	switch {
	case err == nil:
		s.Stored, s.doc = true, &document{behind: s.doc.behind}
		return nil
	case errors.Is(err, errdef.ErrNotFound):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	// A destination that says that it has it and cannot give it: whatever the
	// reason, it has to be written again.
	if s.Damaged, err = p.dst.Exists(ctx, s.Descriptor); err != nil {
		return &CopyError{"destination", "look for", s.Descriptor, err}
	}
	return nil
}

func (p *Plan) probeBlob(ctx context.Context, s *Step) (err error) {
	s.Stored, err = p.dst.Exists(ctx, s.Descriptor)
	if err == nil && s.Missing() {
		s.Partial, s.Stored, err = s.partialAt(ctx, p.dst)
	}
	if err != nil {
		return &CopyError{"destination", "look for", s.Descriptor, err}
	}
	return nil
}

// partialAt returns how much dst has of content that is not whole there, in what an
// interrupted copy has left and in segments. Where those are all that it is to have,
// all is true, and nothing is partial.
func (s *Step) partialAt(ctx context.Context, dst Destination) (n int64, all bool, err error) {
	var here int64
	if s.spread != nil {
		here, all, err = s.spread.stored(ctx, dst, s.Descriptor)
	}
	c, ok := dst.(Continuer)
	if err != nil || all || !ok {
		return 0, all, err
	}
	n, err = c.Partial(ctx, s.Descriptor)
	return n + here, false, err
}

// checkBlobs reads the blobs the destination has.
func (p *Plan) checkBlobs(ctx context.Context, progress Progress) error {
	if progress == nil {
		progress = silent{}
	}
	var total Amount
	for _, s := range p.Blobs {
		if s.Stored {
			total.add(s.Descriptor.Size)
		}
	}
	progress.Begin(total, total)
	defer progress.End()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers())
	for i := range p.Blobs {
		s := &p.Blobs[i]
		if !s.Stored {
			continue
		}
		g.Go(func() error {
			progress.Start(s.Descriptor)
			_, err := readWhole(ctx, p.dst, s.Descriptor, progress)
			if err == nil {
				progress.Stored(s.Descriptor)
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			progress.Failed(s.Descriptor, err)
			switch {
			case errors.Is(err, errdef.ErrNotFound):
				s.Stored = false
			case spoilt(err):
				s.Stored, s.Damaged = false, true
			default:
				return &CopyError{"destination", "read", s.Descriptor, err}
			}
			return nil
		})
	}
	return g.Wait()
}

// readers is how many blobs are read and hashed at once.
func readers() int { return max(2, runtime.GOMAXPROCS(0)) }

// spoilt reports whether err, met while reading content, means that the store has
// it and cannot give it as it was.
func spoilt(err error) bool {
	return artifact.IsDamage(err) || artifact.IsUnreadable(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

const readBufferBytes = 1 << 20

// readBuffers are used again: making one for every small blob costs more than
// hashing it.
var readBuffers = sync.Pool{New: func() any { return new([readBufferBytes]byte) }}

// readWhole reads content and fails unless it has its size and digest. It returns how
// much it has read.
func readWhole(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, progress Progress) (int64, error) {
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	read := &advance{ctx: ctx, desc: desc, progress: progress}
	r := content.NewVerifyReader(io.TeeReader(rc, read), desc)
	buffer := readBuffers.Get().(*[readBufferBytes]byte)
	defer readBuffers.Put(buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buffer[:]); err != nil {
		return read.bytes, err
	}
	return read.bytes, r.Verify()
}

// advance counts bytes and ends the reading when ctx does.
type advance struct {
	ctx      context.Context //nolint:containedctx // lives for one read
	desc     ocispec.Descriptor
	progress Progress
	bytes    int64
}

func (a *advance) Write(b []byte) (int, error) {
	a.bytes += int64(len(b))
	a.progress.Advance(a.desc, int64(len(b)))
	return len(b), a.ctx.Err()
}
