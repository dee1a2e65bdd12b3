package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
)

// PieceError says that a file which holds a blob, or a segment of one, is damaged.
type PieceError struct {
	// Blob is whose it is.
	Blob ocispec.Descriptor
	// Dir is the directory of the layout, or of the volume, that the file is in.
	Dir string
	// Segment counts from 0; −1 is the whole blob.
	Segment int
	// Volume is the number of the volume a segment is on, 0 for a whole blob.
	Volume int
	Err    error
}

// Error names the file's place and what is wrong.
func (e *PieceError) Error() string { return e.Place() + ": " + e.Err.Error() }

// Place says which file it is, for people.
func (e *PieceError) Place() string {
	switch {
	case e.Segment < 0:
		return "the copy in " + e.Dir
	case e.Volume == 0:
		return fmt.Sprintf("segment %03d in %s", e.Segment, e.Dir)
	}
	return fmt.Sprintf("segment %03d on volume %d, in %s", e.Segment, e.Volume, e.Dir)
}

// Unwrap returns what is wrong.
func (e *PieceError) Unwrap() error { return e.Err }

// segmentHash hashes a blob and, on the way, each of its segments that is kept.
type segmentHash struct {
	hash.Hash // of the whole
	in        *ingestion

	n       int // the segment that is hashed
	done    int64
	segment hash.Hash
}

// Write implements io.Writer. It never fails.
func (h *segmentHash) Write(p []byte) (int, error) {
	_, _ = h.Hash.Write(p)
	for rest := p; len(rest) > 0 && h.n < len(h.in.spans); {
		s := h.in.spans[h.n]
		chunk := rest[:min(int64(len(rest)), s.size-h.done)]
		if s.keep {
			if h.segment == nil {
				h.segment = h.in.desc.Digest.Algorithm().Hash()
			}
			_, _ = h.segment.Write(chunk)
		}
		rest = rest[len(chunk):]
		if h.done += int64(len(chunk)); h.done == s.size {
			h.end()
		}
	}
	return len(p), nil
}

// end files the digest of a segment and goes to the next.
func (h *segmentHash) end() {
	if h.segment != nil {
		h.in.digests[h.n] = digest.NewDigest(h.in.desc.Digest.Algorithm(), h.segment)
	}
	h.n, h.done, h.segment = h.n+1, 0, nil
}

// Reset implements hash.Hash.
func (h *segmentHash) Reset() {
	h.Hash.Reset()
	h.n, h.done, h.segment = 0, 0, nil
}

// VerifySegments reads those segments of a blob that the labels of the volumes state
// digests for, each label for its own volume, and compares them. It is for a blob
// that is not whole here: a label is advice, and what it calls good is proved by the
// digest of the whole only. advance, unless nil, is told of the bytes read. Errors:
// a [*PieceError] for each segment that is damaged or missing, joined; [Layout.Flaws]
// has them too. What no label tells of is not read.
func (l *Layout) VerifySegments(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error {
	return l.verifySegments(ctx, desc, false, advance)
}

// VerifySegmentsUncached is [Layout.VerifySegments] from the device, as
// [Layout.FetchUncached] reads.
func (l *Layout) VerifySegmentsUncached(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error {
	return l.verifySegments(ctx, desc, true, advance)
}

func (l *Layout) verifySegments(ctx context.Context, desc ocispec.Descriptor, uncached bool, advance func(n int64)) error {
	if err := checkDescriptor(desc); err != nil {
		return err
	}
	var damage []error
	for i, dir := range l.dirs {
		label, err := l.label(i)
		if err != nil {
			continue // a label that cannot be read states nothing
		}
		for _, p := range label.Set.Pieces(desc) {
			if p.Digest == "" {
				continue
			}
			file := piece{dir: dir, name: segmentName(segmentsDir(desc.Digest), p.Segment), size: p.Bytes}
			err := file.verify(ctx, p.Digest, uncached, advance)
			switch {
			case err == nil:
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case unusable(err) || isDamage(err):
				damage = append(damage, l.flaw(file, &PieceError{desc, dir, p.Segment, label.Set.Volume, err}))
			default:
				return fmt.Errorf("read segment %03d of blob %s in %s: %w", p.Segment, desc.Digest, dir, err)
			}
		}
	}
	return errors.Join(damage...)
}

// VerifySegments is [Layout.VerifySegments] for what belongs to the repository; of
// anything else nothing is read.
func (r *Repository) VerifySegments(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error {
	ok, err := r.has(ctx, desc.Digest)
	if err != nil || !ok {
		return err
	}
	return r.layout.VerifySegments(ctx, desc, advance)
}

// isDamage reports whether an error of reading a file says that it is not what it
// should be, or that the device does not give it back.
func isDamage(err error) bool {
	return artifact.IsDamage(err) || artifact.IsUnreadable(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// verify reads a file and compares it with a digest.
func (p piece) verify(ctx context.Context, want digest.Digest, uncached bool, advance func(n int64)) error {
	if err := p.check(want); err != nil {
		return err
	}
	return verifyPieces(ctx, []piece{p}, p.size, want, uncached, advance)
}

// check fails unless the file is a regular one of its size; a link is none.
func (p piece) check(want digest.Digest) error {
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(p.name)
	switch {
	case absent(err):
		return notFound(p.name)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return misplaced("%s is no regular file", path.Base(p.name))
	case info.Size() != p.size:
		return &SizeError{Digest: want, Want: p.size, Got: info.Size()}
	}
	return nil
}

// verifyPieces reads files as one and compares them with a digest.
func verifyPieces(ctx context.Context, pieces []piece, size int64, want digest.Digest, uncached bool, advance func(n int64)) error {
	r := &blobReader{pieces: pieces, size: size, uncached: uncached}
	defer func() { _ = r.Close() }() // was only read
	h := want.Algorithm().Hash()
	w := io.Writer(h)
	if advance != nil {
		w = io.MultiWriter(h, advancing(advance))
	}
	if _, err := copyBytes(ctx, w, r, size); err != nil {
		return err
	}
	if got := digest.NewDigest(want.Algorithm(), h); got != want {
		return &DigestError{Want: want, Got: got}
	}
	return nil
}

// advancing is a writer that only counts.
type advancing func(n int64)

func (a advancing) Write(p []byte) (int, error) {
	a(int64(len(p)))
	return len(p), nil
}

// pieceKey is the place of a file.
type pieceKey struct{ dir, name string }

// flaw remembers that a file is damaged.
func (l *Layout) flaw(p piece, err *PieceError) *PieceError {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flaws == nil {
		l.flaws = map[pieceKey]*PieceError{}
	}
	l.flaws[pieceKey{p.dir, p.name}] = err
	return err
}

// flawed reports whether a file was found to be damaged.
func (l *Layout) flawed(dir, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flaws[pieceKey{dir, name}] != nil
}

// flawsOf returns the files of a blob that were found to be damaged, sorted.
func (l *Layout) flawsOf(d digest.Digest) (list []error) {
	for _, flaw := range l.Flaws() {
		if flaw.Blob.Digest == d {
			list = append(list, flaw)
		}
	}
	return list
}

// forgetFlaws forgets what was found of a blob, which was removed or written anew.
func (l *Layout) forgetFlaws(d digest.Digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.flaws, func(_ pieceKey, err *PieceError) bool { return err.Blob.Digest == d })
	maps.DeleteFunc(l.unsound, func(claim blobClaim, _ error) bool { return claim.digest == d })
}

// countFlaws returns how many files were found to be damaged.
func (l *Layout) countFlaws() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flaws)
}

// Flaws returns the files that were found to be damaged so far, sorted by blob,
// directory and segment. What nobody has read, or nothing was compared with, is not
// among them.
func (l *Layout) Flaws() []*PieceError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.SortedFunc(maps.Values(l.flaws), func(a, b *PieceError) int {
		return cmp.Or(cmp.Compare(a.Blob.Digest, b.Blob.Digest), cmp.Compare(a.Dir, b.Dir), cmp.Compare(a.Segment, b.Segment))
	})
}
