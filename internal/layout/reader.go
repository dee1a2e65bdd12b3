package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dropBytes is how far uncached reading goes before it drops what it read.
const dropBytes = 4 << 20

// blobReader reads the files of a blob as one, with at most one open at a
// time.
type blobReader struct {
	pieces   []piece
	size     int64
	uncached bool

	offset  int64    // of the next byte in the blob
	file    *os.File // that holds it, nil when it is not open
	left    int64    // bytes in file from offset on
	dropped int64    // bytes from the beginning of file that left the cache
	closed  bool
}

// FetchUncached is [Layout.Fetch] for reading back what was written: the bytes
// come from the device and not from memory, and do not stay there. On Linux the
// file's pages are dropped from the page cache before it is read, and again
// behind the reader. Pages not yet written to the device cannot be dropped;
// those of a blob are on it before its name is. Of a FUSE file system only the
// kernel's own copy is dropped, not what its program or the device below it
// keeps. On other platforms it is Fetch.
func (l *Layout) FetchUncached(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	pieces, err := l.locate(desc)
	if err != nil {
		return nil, err
	}
	r := &blobReader{pieces: pieces, size: desc.Size, uncached: true}
	if err := r.openAt(0); err != nil {
		return nil, err
	}
	return r, nil
}

// OpenUncached is [Open] for reading back what was written: index.json, its slots and
// the label come from the device, as the bytes of [Layout.FetchUncached] do.
func OpenUncached(dir string) (*Layout, error) {
	if err := dropIndex(dir); err != nil {
		return nil, fmt.Errorf("open layout %s: %w", dir, err)
	}
	return Open(dir)
}

// CheckWritten compares index.json, its newest slot and the label with what this writer
// has written of them, as the device has them: on Linux they are dropped from memory
// before. What it has not written is not looked at. Errors: [ErrCorruptIndex] for what
// is another, and those of reading.
func (w *Writer) CheckWritten() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := dropIndex(w.Dir()); err != nil {
		return fmt.Errorf("read back %s: %w", w.Dir(), err)
	}
	for name, limit := range map[string]int64{ocispec.ImageIndexFile: maxIndexBytes, labelName: maxLabelBytes} {
		want, ok := w.written[name]
		if !ok {
			continue
		}
		raw, err := readFile(w.disk.root, name, limit)
		if err == nil && digest.FromBytes(raw) != want {
			err = fmt.Errorf("is not what was written: %w", ErrCorruptIndex)
		} else if absent(err) {
			err = fmt.Errorf("is not there: %w", ErrCorruptIndex)
		}
		if err != nil {
			return fmt.Errorf("read back %s of %s: %w", name, w.Dir(), err)
		}
	}
	want, ok := w.written[ocispec.ImageIndexFile]
	st, err := readState(w.disk.root)
	if err == nil && ok && (st.newest == nil || st.newest.indexFile() != want) {
		err = fmt.Errorf("its newest slot is not what was written: %w", ErrCorruptIndex)
	}
	if err != nil {
		return fmt.Errorf("read back %s of %s: %w", ocispec.ImageIndexFile, w.Dir(), err)
	}
	return nil
}

// dropIndex drops from memory the files that say what a layout holds.
func dropIndex(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	names := []string{ocispec.ImageLayoutFile, ocispec.ImageIndexFile, labelName}
	slots, err := listSlots(root)
	if err != nil {
		return err
	}
	for _, n := range slots {
		names = append(names, slotName(n))
	}
	for _, name := range names {
		if err := dropFile(root, name); err != nil && !absent(err) {
			return err
		}
	}
	return nil
}

func dropFile(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() { // opening a named pipe blocks
		return err
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dropCache(f, 0, 0), f.Close())
}

// Read implements io.Reader.
func (r *blobReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, fs.ErrClosed
	}
	if r.offset >= r.size {
		return 0, io.EOF
	}
	if r.file == nil {
		if err := r.openAt(r.offset); err != nil {
			return 0, err
		}
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.offset += int64(n)
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && r.left > 0 {
		return n, fmt.Errorf("%s: %w", r.file.Name(), io.ErrUnexpectedEOF) // it was cut since it was opened
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, errors.Join(err, r.leave())
}

// leave closes a file that is read, and drops what was read of one that is
// not.
func (r *blobReader) leave() error {
	if r.left == 0 {
		return r.closeFile()
	}
	if !r.uncached {
		return nil
	}
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err == nil && at-r.dropped >= dropBytes {
		err = dropCache(r.file, r.dropped, at-r.dropped)
		r.dropped = at
	}
	return err
}

// openAt opens the file that holds a byte of the blob. A blob without bytes
// has one too.
func (r *blobReader) openAt(offset int64) error {
	segment := r.pieces[0].size
	n := 0
	if segment > 0 {
		n = min(int(offset/segment), len(r.pieces)-1)
	}
	within := offset - int64(n)*segment
	f, err := r.pieces[n].open()
	if err == nil && r.uncached {
		err = dropCache(f, 0, 0)
	}
	if err == nil {
		_, err = f.Seek(within, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, closeFile(f))
	}
	r.file, r.left, r.dropped = f, r.pieces[n].size-within, 0
	return nil
}

// Seek implements io.Seeker. Nothing is opened before the next Read.
func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
	if r.closed {
		return 0, fs.ErrClosed
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	default:
		return 0, fmt.Errorf("seek whence %d: %w", whence, fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d: %w", offset, fs.ErrInvalid)
	}
	if offset == r.offset {
		return offset, nil
	}
	r.offset = offset
	return offset, r.closeFile()
}

// Close implements io.Closer. It may be called twice.
func (r *blobReader) Close() error {
	r.closed = true
	return r.closeFile()
}

func (r *blobReader) closeFile() error {
	f := r.file
	r.file = nil
	if f == nil {
		return nil
	}
	var err error
	if r.uncached {
		err = dropCache(f, 0, 0)
	}
	return errors.Join(err, f.Close())
}

func closeFile(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}
