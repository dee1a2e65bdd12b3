package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

// ErrDamaged is matched by every [DamageError].
var ErrDamaged = errors.New("damaged")

// DamageError reports content that is not what its digest says, or that is not
// there.
type DamageError struct {
	Corrupt []ocispec.Descriptor
	Missing []ocispec.Descriptor
}

// Error counts the damage and names the first piece.
func (e *DamageError) Error() string {
	first := append(append([]ocispec.Descriptor(nil), e.Corrupt...), e.Missing...)[0]
	return fmt.Sprintf("damaged content: %d corrupt, %d missing, the first is %s", len(e.Corrupt), len(e.Missing), first.Digest)
}

// Is reports whether target is [ErrDamaged].
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// Verified counts what [Verify] read.
type Verified struct {
	Manifests, Blobs int
	Bytes            int64
}

// Verify reads every piece of content in the closure of desc and compares it
// with its digest, several at once, and goes on after a mismatch so that all
// damage is found: the error is then a [DamageError]. progress may be nil.
func Verify(ctx context.Context, src Source, desc ocispec.Descriptor, progress Progress) (Verified, error) {
	if progress == nil {
		progress = silent{}
	}
	v := &verification{src: src, progress: progress}
	p := &Plan{}
	w := &walk{item: Item{Source: src}, nodes: map[digest.Digest]*node{}, limit: 8, onError: v.manifestError}
	if _, err := w.closure(ctx, plain(desc)); err != nil {
		return Verified{}, err
	}
	w.appendSteps(p, desc.Digest, newPlanned())
	progress.Begin(p)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	for _, s := range p.Blobs {
		g.Go(func() error { return v.blob(gctx, s.Descriptor) })
	}
	if err := g.Wait(); err != nil {
		return Verified{}, err
	}
	total, _ := p.Size()
	for _, s := range p.Manifests {
		progress.Advance(s.Descriptor.Size)
		progress.Stored(s.Descriptor)
	}
	if len(v.damage.Corrupt)+len(v.damage.Missing) > 0 {
		return Verified{}, &v.damage
	}
	return Verified{Manifests: len(p.Manifests), Blobs: len(p.Blobs), Bytes: total}, nil
}

type verification struct {
	src      Source
	progress Progress

	mu     sync.Mutex
	damage DamageError
}

// manifestError notes a manifest that cannot be read as damage; whatever else
// went wrong ends the verification.
func (v *verification) manifestError(desc ocispec.Descriptor, err error) error {
	return v.note(desc, err)
}

func (v *verification) note(desc ocispec.Descriptor, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		v.damage.Missing = append(v.damage.Missing, desc)
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrInvalidDescriptorSize),
		errors.Is(err, content.ErrTrailingData), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, new(*layout.SizeError)), errors.As(err, new(*layout.ManifestError)):
		v.damage.Corrupt = append(v.damage.Corrupt, desc)
	default:
		return &CopyError{"source", "read", desc, err}
	}
	return nil
}

func (v *verification) blob(ctx context.Context, desc ocispec.Descriptor) error {
	err := v.read(ctx, desc)
	if err == nil {
		v.progress.Stored(desc)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return v.note(desc, err)
}

func (v *verification) read(ctx context.Context, desc ocispec.Descriptor) error {
	rc, err := v.src.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	r := content.NewVerifyReader(io.TeeReader(rc, advance{ctx, v.progress}), desc)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 1<<20)); err != nil {
		return err
	}
	return r.Verify()
}

// advance counts bytes and ends the reading when ctx does.
type advance struct {
	ctx      context.Context //nolint:containedctx // lives for one read
	progress Progress
}

func (a advance) Write(b []byte) (int, error) {
	a.progress.Advance(int64(len(b)))
	return len(b), a.ctx.Err()
}
