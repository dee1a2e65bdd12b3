package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// FindSound looks for a copy of a blob that has its digest, where volumes that are
// read as one may hold it more than once, and has [Layout.Fetch] give that one from
// then on. It is for who read what Fetch gave and found it damaged; each copy is read
// once, until one is right, and those that are not are among [Layout.Flaws]. That none
// is right is remembered: nobody reads them again to find out. It returns what is
// wrong with them, and errdef.ErrNotFound for a layout in one directory, which has no
// other.
func (l *Layout) FindSound(ctx context.Context, desc ocispec.Descriptor) error {
	if len(l.dirs) == 1 {
		return notFound("another copy of blob " + desc.Digest.String())
	}
	if err := l.unsoundBlob(desc); err != nil {
		return err
	}
	select { // one search at a time: who comes second finds it done
	case l.searching <- struct{}{}:
		defer func() { <-l.searching }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := l.unsoundBlob(desc); err != nil {
		return err
	}
	s := &soundSearch{layout: l, desc: desc}
	err := s.run(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if flaws := l.flawsOf(desc.Digest); len(flaws) > 0 {
		err = errors.Join(flaws...)
	}
	err = fmt.Errorf("no copy of blob %s is sound: %w", desc.Digest, err)
	if isDamage(err) || unusable(err) { // what else went wrong may pass
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.unsound == nil {
			l.unsound = map[blobClaim]error{}
		}
		l.unsound[blobClaim{desc.Digest, desc.Size}] = err
	}
	return err
}

// blobClaim is what a verdict on a blob is about: another size is another claim.
type blobClaim struct {
	digest digest.Digest
	size   int64
}

// unsoundBlob returns what was wrong with all copies of a blob, nil where nobody knows.
func (l *Layout) unsoundBlob(desc ocispec.Descriptor) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsound[blobClaim{desc.Digest, desc.Size}]
}

// soundSearch is one search for a copy of a blob that is sound.
type soundSearch struct {
	layout *Layout
	desc   ocispec.Descriptor
	tried  [][]piece // that are not
	looked bool      // at each segment, which is done once
}

func (s *soundSearch) run(ctx context.Context) (last error) {
	for ctx.Err() == nil {
		pieces, err := s.layout.locate(s.desc)
		if err != nil {
			return cmp.Or(last, err)
		}
		if s.isTried(pieces) {
			break
		}
		// Who asks has read the segments as one. Which of them it is comes first then,
		// as far as the labels tell.
		segments := !s.isWhole(pieces)
		if segments && len(s.layout.flawsOf(s.desc.Digest)) == 0 {
			s.look(ctx)
			if slices.ContainsFunc(pieces, func(p piece) bool { return s.layout.flawed(p.dir, p.name) }) {
				s.tried = append(s.tried, pieces)
				continue
			}
		}
		last = verifyPieces(ctx, pieces, s.desc.Size, s.desc.Digest, false, s.layout.reading)
		if last == nil || ctx.Err() != nil {
			return last
		}
		s.tried = append(s.tried, pieces)
		if segments {
			s.look(ctx)
		} else {
			_ = s.layout.flaw(pieces[0], &PieceError{Blob: s.desc, Dir: pieces[0].dir, Segment: -1, Err: last})
		}
	}
	s.look(ctx) // for who wants to know all that is damaged
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return cmp.Or(last, notFound("a sound copy of blob "+s.desc.Digest.String()))
}

func (s *soundSearch) isTried(pieces []piece) bool {
	return slices.ContainsFunc(s.tried, func(other []piece) bool { return slices.Equal(pieces, other) })
}

func (s *soundSearch) isWhole(pieces []piece) bool {
	return len(pieces) == 1 && pieces[0].name == blobName(s.desc.Digest)
}

// look reads each segment that a label tells of. What labels say only decides which
// files are tried next.
func (s *soundSearch) look(ctx context.Context) {
	if s.looked {
		return
	}
	s.looked = true
	_ = s.layout.verifySegments(ctx, s.desc, false, s.layout.reading) // it notes what it finds
}

// FindSound is [Layout.FindSound] for what belongs to the repository.
func (r *Repository) FindSound(ctx context.Context, desc ocispec.Descriptor) error {
	ok, err := r.has(ctx, desc.Digest)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s@%s: %w", r.name, desc.Digest, errdef.ErrNotFound)
	}
	return r.layout.FindSound(ctx, desc)
}
