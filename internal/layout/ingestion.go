package layout

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// partialDir holds blobs that are still arriving: a file, or a directory of
// segments.
const partialDir = privateDir + "/partial"

func partialName(d digest.Digest) string {
	return path.Join(partialDir, d.Algorithm().String(), d.Encoded())
}

// partialSuffix ends the name of a directory of segments that arrive.
const partialSuffix = ".parts"

func partialSegments(d digest.Digest) string { return partialName(d) + partialSuffix }

// span is a part of a blob that is stored in one file, or not at all.
type span struct {
	partial string // the file while it arrives
	final   string
	size    int64
	keep    bool
	here    bool // under its final name, with its size
}

// ingestion is one blob on its way in.
type ingestion struct {
	disk  *disk
	desc  ocispec.Descriptor
	spans []span
	// The directories of the segments; both are "" for a blob in one file.
	partialDir, finalDir string
	digests              []digest.Digest // of the segments that are kept; nil when nobody wants them
}

// hash returns what the bytes of the blob go through.
func (in *ingestion) hash() hash.Hash {
	whole := in.desc.Digest.Algorithm().Hash()
	if in.digests == nil {
		return whole
	}
	return &segmentHash{Hash: whole, in: in}
}

// shape is how a blob is stored: in one file when segment is 0, else in segments
// of that many bytes.
type shape struct {
	segment int64
	keep    func(n int) bool // nil for all
	sum     bool             // the digests of those that are kept are wanted
}

func (s shape) keeps(n int) bool { return s.keep == nil || s.keep(n) }

// newIngestion plans where a blob is stored.
func newIngestion(d *disk, desc ocispec.Descriptor, s shape) (*ingestion, error) {
	in := &ingestion{disk: d, desc: desc}
	if s.segment == 0 || desc.Size == 0 {
		in.spans = []span{{partial: partialName(desc.Digest), final: blobName(desc.Digest), size: desc.Size, keep: s.keeps(0)}}
		return in, nil
	}
	count, err := segmentCount(desc.Size, s.segment)
	if err != nil {
		return nil, err
	}
	in.partialDir, in.finalDir = partialSegments(desc.Digest), segmentsDir(desc.Digest)
	in.spans = make([]span, count)
	for n := range in.spans {
		in.spans[n] = span{
			partial: segmentName(in.partialDir, n), final: segmentName(in.finalDir, n),
			size: segmentSize(desc.Size, s.segment, n), keep: s.keeps(n),
		}
	}
	if s.sum {
		in.digests = make([]digest.Digest, count)
	}
	return in, nil
}

// stored reports whether all that is to be stored of the blob is there.
func (in *ingestion) stored() (bool, error) {
	if in.finalDir == "" {
		return !in.spans[0].keep, nil
	}
	sizes, err := listSegments(in.disk.root, in.finalDir)
	if err != nil && !errors.Is(err, fs.ErrInvalid) {
		return false, err
	}
	all := true
	for n := range in.spans {
		s := &in.spans[n]
		s.here = sizes[n] == s.size
		all = all && (s.here || !s.keep)
	}
	for n, size := range sizes { // what does not belong there is removed behind the rest
		all = all && n < len(in.spans) && size == in.spans[n].size
	}
	return all, nil
}

// prepare makes the directories, and removes what cannot be continued: what
// arrived of the blob in another form, or of segments that are not kept.
func (in *ingestion) prepare() error {
	other := partialSegments(in.desc.Digest)
	final := in.spans[0].final
	if in.finalDir != "" {
		other, final = partialName(in.desc.Digest), in.finalDir
		if err := in.tidy(in.partialDir, func(s span, size int64) bool { return s.keep && size <= s.size }); err != nil {
			return err
		}
	}
	if err := in.disk.removeTree(other); err != nil {
		return err
	}
	if err := in.disk.mkdir(path.Dir(other)); err != nil {
		return err
	}
	return in.disk.mkdir(path.Dir(final))
}

// tidy removes from a directory of segments whatever is none that belongs
// there: a name, a kind of file, a size.
func (in *ingestion) tidy(dir string, belongs func(s span, size int64) bool) error {
	info, err := in.disk.root.Lstat(dir)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return in.disk.removeTree(dir)
	}
	names, err := readNames(in.disk.root, dir, maxSegmentNames)
	if errors.Is(err, fs.ErrInvalid) {
		return in.disk.removeTree(dir)
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := in.disk.root.Lstat(path.Join(dir, name))
		if err != nil {
			return err
		}
		n, ok := parseSegment(name)
		if ok && n < len(in.spans) && info.Mode().IsRegular() && belongs(in.spans[n], info.Size()) {
			continue
		}
		if err := in.disk.removeTree(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// run continues the blob to its end and moves it into place. What is on the
// disk is continued when it is to be trusted so far, else overwritten; resumed
// tells whether there was any.
func (in *ingestion) run(ctx context.Context, trust bool, open func(context.Context, int64) (io.ReadCloser, error)) (resumed bool, err error) {
	h := in.hash()
	var offset int64
	if trust {
		if offset, err = in.rehash(ctx, h); err != nil {
			return false, err
		}
	} else {
		in.distrust()
	}
	if offset < in.desc.Size || offset == 0 {
		err = in.fill(ctx, h, offset, open)
	}
	if spoilt(err) {
		err = errors.Join(err, in.discard())
	}
	if err != nil {
		return offset > 0, err
	}
	return offset > 0, in.finish()
}

// distrust makes what is under its final name be written again.
func (in *ingestion) distrust() {
	for n := range in.spans {
		in.spans[n].here = false
	}
}

// syncError says that bytes were written and did not reach the disk. The kernel
// may still show them to a reader and call them clean, so hashing them again
// would prove nothing.
type syncError struct{ error }

func (e *syncError) Unwrap() error { return e.error }

// spoilt reports whether an error leaves a partial not worth continuing.
func spoilt(err error) bool {
	var wrong *DigestError
	var lost *syncError
	return errors.As(err, &wrong) || errors.As(err, &lost) || errors.Is(err, content.ErrTrailingData)
}

// rehash hashes what is on the disk from the blob's beginning on and returns
// its length. Where that is not the beginning of this blob, it is removed. What
// a killed process wrote is made durable, since it may not have come to that.
func (in *ingestion) rehash(ctx context.Context, h hash.Hash) (int64, error) {
	var offset int64
	for i := range in.spans {
		s := &in.spans[i]
		n, err := in.rehashSpan(ctx, s, h)
		if err != nil {
			return 0, err
		}
		offset += n
		if n < s.size {
			break
		}
	}
	if offset == in.desc.Size && in.verify(h) != nil {
		h.Reset()
		in.distrust()
		return 0, in.discard()
	}
	return offset, nil
}

func (in *ingestion) rehashSpan(ctx context.Context, s *span, h hash.Hash) (int64, error) {
	name := s.partial
	info, err := in.disk.root.Lstat(name)
	if absent(err) && s.here {
		name = s.final
		info, err = in.disk.root.Lstat(name)
	}
	if absent(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > s.size || name == s.partial && !ownFile(info) {
		return 0, in.disk.removeTree(name)
	}
	s.here = s.here && name == s.final // what arrived takes the place of what was there
	f, err := in.disk.root.Open(name)
	if err != nil {
		return 0, err
	}
	n, err := copyBytes(ctx, h, f, info.Size())
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("read partial: %w", err)
	}
	if n == s.size && name == s.partial {
		err = in.disk.sync(name)
	}
	return n, err
}

// fill appends the rest of the blob, and makes it durable when it is right.
func (in *ingestion) fill(ctx context.Context, h hash.Hash, offset int64, open func(context.Context, int64) (io.ReadCloser, error)) error {
	if in.partialDir != "" {
		if err := in.disk.mkdir(in.partialDir); err != nil {
			return err
		}
	}
	w := &spanWriter{disk: in.disk, spans: in.spans}
	if err := w.seek(offset); err != nil {
		return errors.Join(err, w.close(false))
	}
	err := in.copy(ctx, io.MultiWriter(w, h), offset, open)
	if err == nil {
		err = in.verify(h)
	}
	return errors.Join(err, w.close(err == nil))
}

func (in *ingestion) copy(ctx context.Context, w io.Writer, offset int64, open func(context.Context, int64) (io.ReadCloser, error)) error {
	r, err := open(ctx, offset)
	if err != nil {
		return fmt.Errorf("open content at %d: %w", offset, err)
	}
	defer r.Close()
	n, err := copyBytes(ctx, w, r, in.desc.Size-offset)
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", offset+n, in.desc.Size, err)
	}
	return checkEnd(r)
}

// checkEnd reads on after the last byte.
func checkEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return content.ErrTrailingData
	case errors.Is(err, io.EOF):
		return nil
	default:
		return fmt.Errorf("after the last byte: %w", err)
	}
}

func (in *ingestion) verify(h hash.Hash) error {
	if got := digest.NewDigest(in.desc.Digest.Algorithm(), h); got != in.desc.Digest {
		return &DigestError{Want: in.desc.Digest, Got: got}
	}
	return nil
}

// finish moves the blob into place, and removes what there is of it in the
// other form. A blob in one file takes the place of a damaged one.
func (in *ingestion) finish() error {
	if in.finalDir == "" {
		if err := in.disk.removeTree(segmentsDir(in.desc.Digest)); err != nil {
			return err
		}
		return in.disk.supplantSoon(in.spans[0].partial, in.spans[0].final, in.desc.Size)
	}
	if err := in.disk.removeTree(blobName(in.desc.Digest)); err != nil {
		return err
	}
	if err := in.tidy(in.finalDir, func(s span, size int64) bool { return size == s.size }); err != nil {
		return err
	}
	if _, err := in.disk.root.Lstat(in.finalDir); absent(err) {
		if err := in.disk.syncDir(in.partialDir); err != nil {
			return err
		}
		return in.disk.rename(in.partialDir, in.finalDir)
	}
	return in.merge()
}

// merge moves segments to those that are there already, one by one: each is
// known to be right, and a reader wants all of them or none.
func (in *ingestion) merge() error {
	for _, s := range in.spans {
		if !s.keep || s.here {
			continue
		}
		if err := in.disk.move(s.partial, s.final); err != nil {
			return err
		}
	}
	if err := in.disk.syncDir(in.finalDir); err != nil {
		return err
	}
	return in.disk.removeTree(in.partialDir)
}

// discardPartial removes what arrived of a blob that is there. There is some
// only when the power failed before its removal was durable. On a weak file system
// it may share its content with the blob, and stays.
func (d *disk) discardPartial(blob digest.Digest) error {
	if d.weak {
		return nil
	}
	if _, err := d.root.Lstat(path.Dir(partialName(blob))); absent(err) {
		return nil
	}
	return errors.Join(d.removeTree(partialName(blob)), d.removeTree(partialSegments(blob)))
}

// discard removes what arrived.
func (in *ingestion) discard() error {
	if in.partialDir == "" {
		return in.disk.removeTree(in.spans[0].partial)
	}
	return in.disk.removeTree(in.partialDir)
}

// spanWriter writes a blob to the files of its spans, one after the other.
type spanWriter struct {
	disk  *disk
	spans []span
	n     int   // the span that is written
	done  int64 // bytes of it
	file  *file // nil when the span is not stored, or not begun
}

// seek goes to a byte of the blob, where writing begins.
func (w *spanWriter) seek(offset int64) error {
	for w.n < len(w.spans)-1 && offset >= w.spans[w.n].size {
		offset -= w.spans[w.n].size
		w.n++
	}
	w.done = offset
	return w.begin()
}

// begin opens the file of the span.
func (w *spanWriter) begin() (err error) {
	s := w.spans[w.n]
	if !s.keep || s.here {
		return nil
	}
	if w.done == 0 {
		w.file, err = w.disk.create(s.partial, 0o644)
		return err
	}
	if w.file, err = w.disk.openOwn(s.partial, os.O_WRONLY); err != nil {
		return err
	}
	_, err = w.file.f.Seek(w.done, io.SeekStart)
	return err
}

// Write implements io.Writer.
func (w *spanWriter) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		if w.done == w.spans[w.n].size {
			if err := w.next(); err != nil {
				return written, err
			}
		}
		chunk := p[written:min(int64(len(p)), int64(written)+w.spans[w.n].size-w.done)]
		n := len(chunk)
		if w.file != nil {
			var err error
			if n, err = w.file.Write(chunk); err != nil {
				return written + n, err
			}
		}
		written += n
		w.done += int64(n)
	}
	return written, nil
}

func (w *spanWriter) next() error {
	if err := w.close(true); err != nil {
		return err
	}
	w.n++
	w.done = 0
	return w.begin()
}

// close ends a file, durably when its content counts.
func (w *spanWriter) close(keep bool) error {
	if w.file == nil {
		return nil
	}
	var err error
	if keep {
		if err = w.file.sync(); err != nil {
			err = &syncError{err}
		}
	}
	err = errors.Join(err, w.file.close())
	w.file = nil
	return err
}
