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
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

const (
	copyBufferBytes = 1 << 20
	maxEmptyReads   = 100 // in a row, before a reader counts as stuck
)

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferBytes]byte) }}

// Ingest writes one blob, durably: when it returns nil, the blob has the
// descriptor's size and digest and survives a power failure.
//
// It goes on where an interrupted Ingest stopped. The bytes on the disk are
// hashed again, since after a power failure they may not be those that were
// written, and open is asked for the rest from offset on; the reader it returns
// is closed. open is not called when nothing is missing. When the rest of a
// resumed blob does not add up to the digest, the bytes on the disk are
// suspected first, and the blob is fetched once more from offset 0.
//
// A blob that is there with the right size is not written again. Other blobs
// may be ingested at the same time; of the same blob, the second call waits for
// the first and finds it done.
//
// What arrived stays to be continued when open or its reader fails, when ctx
// ends, and when the disk is full (errors.Is syscall.ENOSPC). It is removed
// when it is wrong: [*DigestError], or content.ErrTrailingData when the reader
// goes on after the blob's end. A reader that ends early is
// io.ErrUnexpectedEOF.
func (w *Writer) Ingest(ctx context.Context, desc ocispec.Descriptor, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) error {
	return w.ingest(ctx, desc, func(ctx context.Context, in *ingestion) error {
		resumed, err := in.run(ctx, open)
		if wrong := (*DigestError)(nil); resumed && errors.As(err, &wrong) {
			_, err = in.run(ctx, open)
		}
		return err
	})
}

// Push writes one blob from its beginning, as [Writer.Ingest] does. What an
// interrupted Ingest left of it is overwritten. r is not read when the blob is
// there.
func (w *Writer) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	return w.ingest(ctx, desc, func(ctx context.Context, in *ingestion) error {
		if err := in.remove(); err != nil {
			return err
		}
		_, err := in.run(ctx, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(r), nil })
		return err
	})
}

// Delete removes a blob, whatever its size, so that a damaged one of the right
// size can be ingested again. It does not look whether anything needs the blob.
// Errors: errdef.ErrNotFound.
func (w *Writer) Delete(ctx context.Context, desc ocispec.Descriptor) error {
	err := checkDigest(desc.Digest)
	if err == nil {
		err = w.deleteAlone(ctx, desc.Digest)
	}
	if err != nil {
		return fmt.Errorf("delete blob %s: %w", desc.Digest, err)
	}
	return nil
}

func (w *Writer) deleteAlone(ctx context.Context, d digest.Digest) error {
	release, err := w.claim(ctx, d)
	if err != nil {
		return err
	}
	defer release()
	name := blobName(d)
	if err := w.disk.root.Remove(name); errors.Is(err, fs.ErrNotExist) {
		return errdef.ErrNotFound
	} else if err != nil {
		return err
	}
	w.Layout.mu.Lock()
	delete(w.Layout.nodes, d)
	w.Layout.view = nil
	w.Layout.mu.Unlock()
	return w.disk.syncDir(path.Dir(name))
}

// ingest runs write for a blob that is missing, with no other of its digest
// beside it.
func (w *Writer) ingest(ctx context.Context, desc ocispec.Descriptor, write func(context.Context, *ingestion) error) error {
	err := checkDescriptor(desc)
	if err == nil {
		err = w.ingestAlone(ctx, desc, write)
	}
	if err != nil {
		return fmt.Errorf("ingest blob %s: %w", desc.Digest, err)
	}
	return nil
}

func (w *Writer) ingestAlone(ctx context.Context, desc ocispec.Descriptor, write func(context.Context, *ingestion) error) error {
	release, err := w.claim(ctx, desc.Digest)
	if err != nil {
		return err
	}
	defer release()
	if ok, err := blobExists(w.disk.root, desc); err != nil || ok {
		return err
	}
	partial := path.Join(partialDir, desc.Digest.Algorithm().String(), desc.Digest.Encoded())
	for _, dir := range []string{path.Dir(partial), path.Dir(blobName(desc.Digest))} {
		if err := w.disk.mkdir(dir); err != nil {
			return err
		}
	}
	if err := write(ctx, &ingestion{disk: &w.disk, desc: desc, partial: partial}); err != nil {
		return err
	}
	if isManifest(desc.MediaType) {
		w.forgetView()
	}
	return nil
}

// forgetView makes the next reader look again for a manifest that was missing.
func (w *Writer) forgetView() {
	w.Layout.mu.Lock()
	defer w.Layout.mu.Unlock()
	w.Layout.view = nil
}

// claim waits until nobody else ingests the digest.
func (w *Writer) claim(ctx context.Context, d digest.Digest) (release func(), err error) {
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return nil, fs.ErrClosed
		}
		other, busy := w.inflight[d]
		if !busy {
			done := make(chan struct{})
			w.inflight[d] = done
			w.mu.Unlock()
			return func() {
				w.mu.Lock()
				delete(w.inflight, d)
				w.mu.Unlock()
				close(done)
			}, nil
		}
		w.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ingestion is one blob on its way in.
type ingestion struct {
	disk    *disk
	desc    ocispec.Descriptor
	partial string
}

// run continues the partial blob to its end and moves it into place. resumed
// tells whether any bytes were there before.
func (in *ingestion) run(ctx context.Context, open func(context.Context, int64) (io.ReadCloser, error)) (resumed bool, err error) {
	h := in.desc.Digest.Algorithm().Hash()
	offset, err := in.rehash(ctx, h)
	if err != nil {
		return false, err
	}
	f, err := in.disk.root.OpenFile(in.partial, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return false, err
	}
	if offset < in.desc.Size || offset == 0 {
		err = in.fill(ctx, f, h, offset, open)
	}
	if err == nil {
		err = in.verify(h)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = &syncError{err}
		}
	}
	err = errors.Join(err, f.Close())
	if spoilt(err) {
		err = errors.Join(err, in.remove())
	}
	if err != nil {
		return offset > 0, err
	}
	return offset > 0, in.finish()
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

// rehash hashes what is on the disk and returns its length. Where that is not
// the beginning of this blob, it is removed.
func (in *ingestion) rehash(ctx context.Context, h hash.Hash) (int64, error) {
	info, err := in.disk.root.Lstat(in.partial)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > in.desc.Size {
		return 0, in.remove()
	}
	f, err := in.disk.root.Open(in.partial)
	if err != nil {
		return 0, err
	}
	n, err := copyBytes(ctx, h, f, info.Size())
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("read partial: %w", err)
	}
	if n == in.desc.Size && in.verify(h) != nil {
		h.Reset()
		return 0, in.remove()
	}
	return n, nil
}

// fill appends the rest of the blob to the partial file.
func (in *ingestion) fill(ctx context.Context, f *os.File, h hash.Hash, offset int64, open func(context.Context, int64) (io.ReadCloser, error)) error {
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	r, err := open(ctx, offset)
	if err != nil {
		return fmt.Errorf("open content at %d: %w", offset, err)
	}
	defer r.Close()
	n, err := copyBytes(ctx, io.MultiWriter(f, h), r, in.desc.Size-offset)
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

// finish moves the blob into place, over a damaged one if there is one.
func (in *ingestion) finish() error {
	name := blobName(in.desc.Digest)
	if err := in.disk.root.Rename(in.partial, name); err != nil {
		return err
	}
	return in.disk.syncDir(path.Dir(name))
}

func (in *ingestion) remove() error {
	err := in.disk.root.Remove(in.partial)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copyBytes copies exactly size bytes and writes each as soon as it is read, so
// that a killed process on a slow line loses nothing that arrived.
func copyBytes(ctx context.Context, w io.Writer, r io.Reader, size int64) (int64, error) {
	buffer := copyBuffers.Get().(*[copyBufferBytes]byte)
	defer copyBuffers.Put(buffer)
	var done int64
	for empty := 0; done < size; {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		n, err := r.Read(buffer[:min(copyBufferBytes, size-done)])
		if n > 0 {
			empty = 0
			if _, err := w.Write(buffer[:n]); err != nil {
				return done, err
			}
			done += int64(n)
		} else if empty++; empty > maxEmptyReads {
			return done, io.ErrNoProgress
		}
		switch {
		case done == size:
			return done, nil // whatever came with the last byte shows up again
		case errors.Is(err, io.EOF):
			return done, io.ErrUnexpectedEOF
		case err != nil:
			return done, err
		}
	}
	return done, nil
}
