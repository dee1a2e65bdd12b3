package layout

import (
	"context"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// FindSound looks for a copy of a blob that has its digest, where volumes that are
// read as one may hold it more than once, and has [Layout.Fetch] give that one from
// then on. It is for who read what Fetch gave and found it damaged; each copy is read
// until one is right, and those that are not are among [Layout.Flaws]. It returns what
// is wrong with the last, and errdef.ErrNotFound for a layout in one directory, which
// has no other.
func (l *Layout) FindSound(ctx context.Context, desc ocispec.Descriptor) error {
	if len(l.dirs) == 1 {
		return notFound("another copy of blob " + desc.Digest.String())
	}
	select { // one search at a time: who comes second finds it done
	case l.searching <- struct{}{}:
		defer func() { <-l.searching }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		pieces, err := l.locate(desc)
		if err != nil {
			return err
		}
		err = verifyPieces(ctx, pieces, desc.Size, desc.Digest, false, nil)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !l.blame(ctx, desc, pieces, err) {
			return fmt.Errorf("no copy of blob %s is sound: %w", desc.Digest, err)
		}
	}
}

// blame finds out which of the files of a blob is damaged, and reports whether that was
// not known yet. Of segments the labels tell; what they say only decides which files are
// tried next.
func (l *Layout) blame(ctx context.Context, desc ocispec.Descriptor, pieces []piece, err error) bool {
	before := l.countFlaws()
	if len(pieces) == 1 && pieces[0].name == blobName(desc.Digest) {
		_ = l.flaw(pieces[0], &PieceError{Blob: desc, Dir: pieces[0].dir, Segment: -1, Err: err})
	} else {
		_ = l.VerifySegments(ctx, desc, nil) // it notes what it finds
	}
	return l.countFlaws() > before
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
