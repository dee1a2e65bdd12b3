package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// ErrDamaged is matched by every [DamageError]. It is artifact.ErrDamaged.
var ErrDamaged = artifact.ErrDamaged

// DamageError reports content that is not what its digest says, that the disk does
// not give back, or that is not there. Each list is sorted by digest; together they
// hold at least one. A blob in several files may be in several lists.
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
	// Seen are the blobs that earlier verifications of the same store have read,
	// whatever they found, and that are not read again; nil for none.
	Seen *Checked
	// Progress is told what is read; nil for nobody.
	Progress Progress
}

// Verify reads every piece of content in the closure of desc and compares it
// with its digest, several at once, and goes on after a mismatch so that all
// damage is found: the error is then a [DamageError]. Where src is [Redundant], one
// sound copy is enough; where it is a [SegmentVerifier], what is there of a blob that is
// not whole is read too. Blobs that are absent for a reason are no damage; manifests
// always have to be there.
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
	case errors.As(err, new(*partsError)) && v.noteParts(desc, err):
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

// noteParts files a blob of which one file may be damaged in one way and one in another,
// under each of them, and reports whether there is any.
func (v *verification) noteParts(desc ocispec.Descriptor, err error) (filed bool) {
	for _, way := range []struct {
		is   bool
		list *[]ocispec.Descriptor
	}{
		{errors.Is(err, errdef.ErrNotFound), &v.damage.Missing},
		{artifact.IsUnreadable(err), &v.damage.Unreadable},
		{artifact.IsDamage(err) || errors.Is(err, io.ErrUnexpectedEOF), &v.damage.Corrupt},
	} {
		if way.is {
			*way.list = append(*way.list, desc)
			filed = true
		}
	}
	return filed
}

func (v *verification) blob(ctx context.Context, desc ocispec.Descriptor, vital bool) error {
	v.opts.Progress.Start(desc)
	read, err := v.read(ctx, desc)
	if err == nil {
		v.opts.Progress.Stored(desc)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !vital && errors.Is(err, errdef.ErrNotFound) && !errors.As(err, new(*partsError)) {
		if reason := v.opts.Absent(desc); reason != "" {
			v.miss(Absence{desc, reason}, read)
			return nil
		}
	}
	v.opts.Progress.Failed(desc, err)
	return v.note(desc, err)
}

// miss files a blob that need not be there, of which so many bytes were read.
func (v *verification) miss(a Absence, read int64) {
	v.opts.Progress.Adjust(a.Descriptor, a.Descriptor.Size-read)
	v.opts.Progress.Absent(a.Descriptor, a.Reason)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.absent = append(v.absent, a)
}

// partsError is what is wrong with the segments of a blob, or with all copies of it.
type partsError struct{ error }

func (e *partsError) Unwrap() error { return e.error }

// read reads a blob, or remembers what came of it. It returns how many bytes of it are
// counted as read.
func (v *verification) read(ctx context.Context, desc ocispec.Descriptor) (int64, error) {
	seen, err := v.opts.Seen.verdict(desc)
	if seen {
		if err == nil {
			v.opts.Progress.Adjust(desc, desc.Size)
		}
		return 0, err
	}
	read, err := v.readAny(ctx, desc)
	if ctx.Err() == nil {
		v.opts.Seen.remember(desc, err)
	}
	return read, err
}

// readAny reads a blob; where it is damaged, another copy of it; and where it is not
// whole, what is there of it. What is read again is not counted again.
func (v *verification) readAny(ctx context.Context, desc ocispec.Descriptor) (int64, error) {
	read, err := readWhole(ctx, v.src, desc, v.opts.Progress)
	found := findSound(ctx, v.src, desc, err)
	if found == nil {
		v.opts.Progress.Adjust(desc, -read)
		read, err = readWhole(ctx, v.src, desc, v.opts.Progress)
	} else if spoilt(found) {
		return read, &partsError{found} // each segment was looked at
	}
	parts, ok := v.src.(SegmentVerifier)
	if !ok || err == nil || !errors.Is(err, errdef.ErrNotFound) && !spoilt(err) {
		return read, err
	}
	v.opts.Progress.Adjust(desc, -read)
	read = 0
	damage := parts.VerifySegments(ctx, desc, func(n int64) {
		read += n
		v.opts.Progress.Advance(desc, n)
	})
	if damage != nil {
		err = &partsError{damage}
	}
	return read, err
}
