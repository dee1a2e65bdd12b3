package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// Ingest writes one blob: when it returns nil, the blob has the descriptor's size and
// digest, and its bytes have reached the disk. Its name is durable behind the next
// [Writer.Commit] or [Writer.Close]; before, a power failure takes the names of the
// latest 8 MiB, or 4,096 blobs, at most, of as much again that is just being made
// durable, and of what other calls are just renaming. When names cannot be made durable,
// no Commit of this writer succeeds any more.
//
// It goes on where an interrupted Ingest stopped. The bytes on the disk are
// hashed again, since after a power failure they may not be those that were
// written, and open is asked for the rest from offset on; the reader it returns
// is closed. open is not called when nothing is missing. When the rest of a
// resumed blob does not add up to the digest, the bytes on the disk are
// suspected first, and the blob is fetched once more from offset 0.
//
// A blob too large for one file is written in segments, of the largest whole
// number of MiB that fits, and becomes visible with the last of them.
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
	_, err := w.ingest(ctx, desc, shape{}, open)
	return err
}

// IngestSegments is [Writer.Ingest] for a blob that is larger than a volume:
// all of it is read and hashed, and of its segments of segmentBytes those are
// stored that keep answers for, by their numbers from 0. None of them becomes
// visible before the whole had the digest; they are then beside those that are
// there already, which are hashed in their places as far as there is none missing
// before them. What segments of another size were there is removed.
//
// It returns the digest of each segment that is kept, by its number, "" for the
// rest, and nil when the blob is whole here. Errors, besides those of Ingest:
// errdef.ErrSizeExceedsLimit when a segment is larger than a file may be, or the
// blob has more than 10,000 of them.
func (w *Writer) IngestSegments(ctx context.Context, desc ocispec.Descriptor, segmentBytes int64, keep func(n int) bool, open func(ctx context.Context, offset int64) (io.ReadCloser, error)) ([]digest.Digest, error) {
	if segmentBytes <= 0 {
		return nil, fmt.Errorf("ingest blob %s: segments of %d bytes: %w", desc.Digest, segmentBytes, fs.ErrInvalid)
	}
	return w.ingest(ctx, desc, shape{segmentBytes, keep, true}, open)
}

// Push writes one blob from its beginning, as [Writer.Ingest] does. What an
// interrupted Ingest left of it is overwritten. r is not read when the blob is
// there.
func (w *Writer) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	return w.store(ctx, desc, shape{}, func(ctx context.Context, in *ingestion) error {
		if err := in.discard(); err != nil {
			return err
		}
		_, err := in.run(ctx, false, func(context.Context, int64) (io.ReadCloser, error) { return io.NopCloser(r), nil })
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
	here := false
	for _, name := range []string{blobName(d), segmentsDir(d)} {
		if _, err := w.disk.root.Lstat(name); absent(err) {
			continue
		}
		here = true
		if err := w.disk.removeTree(name); err != nil {
			return err
		}
		if err := w.disk.syncDir(path.Dir(name)); err != nil {
			return err
		}
	}
	if !here {
		return errdef.ErrNotFound
	}
	w.forgetFlaws(d)
	w.Layout.mu.Lock()
	defer w.Layout.mu.Unlock()
	delete(w.Layout.nodes, d)
	w.Layout.view = nil
	return nil
}

func (w *Writer) ingest(ctx context.Context, desc ocispec.Descriptor, s shape, open func(context.Context, int64) (io.ReadCloser, error)) (digests []digest.Digest, err error) {
	err = w.store(ctx, desc, s, func(ctx context.Context, in *ingestion) error {
		resumed, err := in.run(ctx, true, open)
		if wrong := (*DigestError)(nil); resumed && errors.As(err, &wrong) {
			_, err = in.run(ctx, false, open)
		}
		digests = in.digests
		return err
	})
	if err != nil {
		return nil, err
	}
	return digests, nil
}

// store runs write for a blob that is missing, with no other of its digest
// beside it.
func (w *Writer) store(ctx context.Context, desc ocispec.Descriptor, s shape, write func(context.Context, *ingestion) error) error {
	err := checkDescriptor(desc)
	if err == nil {
		err = w.storeAlone(ctx, desc, s, write)
	}
	if err != nil {
		return fmt.Errorf("ingest blob %s: %w", desc.Digest, err)
	}
	return nil
}

func (w *Writer) storeAlone(ctx context.Context, desc ocispec.Descriptor, s shape, write func(context.Context, *ingestion) error) error {
	release, err := w.claim(ctx, desc.Digest)
	if err != nil {
		return err
	}
	defer release()
	if ok, err := w.Exists(ctx, desc); err != nil {
		return err
	} else if ok {
		return w.disk.discardPartial(desc.Digest)
	}
	if s.segment, err = w.segmentBytes(desc.Size, s.segment); err != nil {
		return err
	}
	in, err := newIngestion(w.disk, desc, s)
	if err != nil {
		return err
	}
	if done, err := in.stored(); err != nil {
		return err
	} else if done && in.digests == nil {
		return w.disk.discardPartial(desc.Digest)
	}
	if err := in.prepare(); err != nil {
		return err
	}
	if err := write(ctx, in); err != nil {
		return err
	}
	w.forgetFlaws(desc.Digest)
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
