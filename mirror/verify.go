package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// ErrDamaged is matched by every [DamageError]. It is artifact.ErrDamaged.
var ErrDamaged = artifact.ErrDamaged

// DamageError reports content that is not what its digest says, that the disk does
// not give back, or that is not there. Each list is sorted by digest; together they
// hold at least one.
type DamageError struct {
	Corrupt    []ocispec.Descriptor
	Unreadable []ocispec.Descriptor
	Missing    []ocispec.Descriptor
}

// Error counts the damage and names the first piece.
func (e *DamageError) Error() string {
	counts := fmt.Sprintf("%d corrupt", len(e.Corrupt))
	if len(e.Unreadable) > 0 {
		counts += fmt.Sprintf(", %d unreadable", len(e.Unreadable))
	}
	first := slices.Concat(e.Corrupt, e.Unreadable, e.Missing)[0]
	return fmt.Sprintf("damaged content: %s, %d missing, the first is %s", counts, len(e.Missing), first.Digest)
}

// Is reports whether target is [ErrDamaged].
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// found returns e, sorted, or nil when there is no damage.
func (e *DamageError) found() error {
	for _, list := range [][]ocispec.Descriptor{e.Corrupt, e.Unreadable, e.Missing} {
		slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	}
	if len(e.Corrupt)+len(e.Unreadable)+len(e.Missing) == 0 {
		return nil
	}
	return e
}

// Verified counts what [Verify] read.
type Verified struct {
	Manifests, Blobs int
	Bytes            int64
	// Absent is what is not there for a reason, sorted by digest.
	Absent []Absence
}

// Absence is content that is not there.
type Absence struct {
	Descriptor ocispec.Descriptor
	// Reason says why, as the options of [Verify] do.
	Reason string
}

// VerifyOptions configure [Verify]. The zero value wants everything.
type VerifyOptions struct {
	// Platforms are those whose content is to be there, none for all; what indexes
	// name for others is not looked at.
	Platforms []ocispec.Platform
	// Absent says why a blob need not be there, and "" of one that must. It is
	// called concurrently; nil means that all must. It is not asked about proofs and
	// what a release itself consists of, which are carried in any case.
	Absent func(desc ocispec.Descriptor) string
	// Segments reads what is there of a blob that is not whole or not sound, as
	// segments on some volumes of a set, and returns what is damaged of it,
	// [layout.PieceError]; nil reads nothing. It decides over nothing that is whole.
	Segments func(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error
	// Seen are the blobs that earlier verifications of the same store have read,
	// whatever they found, and that are not read again; nil for none.
	Seen *Checked
	// Progress is told what is read; nil for nobody.
	Progress Progress
}

// Verify reads every piece of content in the closure of desc and compares it
// with its digest, several at once, and goes on after a mismatch so that all
// damage is found: the error is then a [DamageError]. Where src is [Redundant], one
// sound copy is enough. Blobs that are absent for a
// reason are no damage; manifests always have to be there.
func Verify(ctx context.Context, src Source, desc ocispec.Descriptor, opts VerifyOptions) (Verified, error) {
	if opts.Progress == nil {
		opts.Progress = silent{}
	}
	if opts.Absent == nil {
		opts.Absent = nothingAbsent
	}
	progress := opts.Progress
	v := &verification{src: src, opts: opts}
	p := &Plan{}
	w := newWalk(Item{Source: src, Platforms: opts.Platforms}, newPlanned())
	w.onError = v.note
	root, err := w.closure(ctx, plain(desc))
	if err != nil {
		return Verified{}, err
	}
	p.Roots = append(p.Roots, root)
	if err := w.appendRoot(p, 0); err != nil {
		return Verified{}, err
	}
	progress.Begin(p.amounts())
	defer progress.End()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers())
	for _, s := range p.Blobs {
		g.Go(func() error { return v.blob(gctx, s.Descriptor, s.vital) })
	}
	if err := g.Wait(); err != nil {
		return Verified{}, err
	}
	total, _ := p.Size()
	for _, s := range p.Manifests {
		progress.Start(s.Descriptor)
		progress.Adjust(s.Descriptor, s.Descriptor.Size)
		progress.Stored(s.Descriptor)
	}
	if err := v.damage.found(); err != nil {
		return Verified{}, err
	}
	slices.SortFunc(v.absent, func(a, b Absence) int { return cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest) })
	for _, a := range v.absent {
		total -= a.Descriptor.Size
	}
	return Verified{Manifests: len(p.Manifests), Blobs: len(p.Blobs) - len(v.absent), Bytes: total, Absent: v.absent}, nil
}

type verification struct {
	src  content.Fetcher
	opts VerifyOptions

	mu     sync.Mutex
	damage DamageError
	absent []Absence
}

// note files err as damage of desc; whatever else went wrong ends the
// verification.
func (v *verification) note(desc ocispec.Descriptor, err error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		v.damage.Missing = append(v.damage.Missing, desc)
	case artifact.IsUnreadable(err):
		v.damage.Unreadable = append(v.damage.Unreadable, desc)
	case spoilt(err):
		v.damage.Corrupt = append(v.damage.Corrupt, desc)
	case errors.As(err, new(*CopyError)):
		return err
	default:
		return &CopyError{"source", "read", desc, err}
	}
	return nil
}

func (v *verification) blob(ctx context.Context, desc ocispec.Descriptor, vital bool) error {
	v.opts.Progress.Start(desc)
	err := v.read(ctx, desc)
	if err == nil {
		v.opts.Progress.Stored(desc)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !vital && errors.Is(err, errdef.ErrNotFound) && !errors.As(err, new(*layout.PieceError)) {
		if reason := v.opts.Absent(desc); reason != "" {
			v.miss(Absence{desc, reason})
			return nil
		}
	}
	v.opts.Progress.Failed(desc, err)
	return v.note(desc, err)
}

// miss files a blob that need not be there.
func (v *verification) miss(a Absence) {
	v.opts.Progress.Adjust(a.Descriptor, a.Descriptor.Size)
	v.opts.Progress.Absent(a.Descriptor, a.Reason)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.absent = append(v.absent, a)
}

// read reads a blob, or remembers what came of it.
func (v *verification) read(ctx context.Context, desc ocispec.Descriptor) error {
	seen, err := v.opts.Seen.verdict(desc)
	if !seen {
		var read int64
		read, err = readWhole(ctx, v.src, desc, v.opts.Progress)
		if findSound(ctx, v.src, desc, err) {
			v.opts.Progress.Adjust(desc, -read)
			_, err = readWhole(ctx, v.src, desc, v.opts.Progress)
		}
		if v.opts.Segments != nil && (errors.Is(err, errdef.ErrNotFound) || err != nil && spoilt(err)) {
			advance := func(n int64) { v.opts.Progress.Advance(desc, n) }
			err = cmp.Or(v.opts.Segments(ctx, desc, advance), err)
		}
		if ctx.Err() == nil {
			v.opts.Seen.remember(desc, err)
		}
	} else if err == nil {
		v.opts.Progress.Adjust(desc, desc.Size)
	}
	return err
}
