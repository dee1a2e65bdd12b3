package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// Writer adds to a layout. It reads like a [Layout], its own uncommitted roots
// included. All methods may be called concurrently, but for [Writer.Close],
// which must be the last.
type Writer struct {
	*Layout
	disk    *disk
	release func() error

	mu       sync.Mutex
	space    Limits // of the file system
	probed   bool   // whether the file system was asked for a limit it does not tell
	state    state
	edits    []edit                   // since the last commit
	written  map[string]digest.Digest // index.json and the label, as this writer left them
	closed   bool
	inflight map[digest.Digest]chan struct{} // blobs being ingested
}

// OpenWriter opens the layout in dir for writing and makes it, and dir, when
// they are not there. A directory with other files in it is taken as it is. The
// layout is locked against other writers until [Writer.Close]; readers are not
// kept out. A commit that was cut off is completed. Errors: [*LockedError] at
// once when another process has the lock, those of [Open], and those of the
// file system (syscall.EROFS on read-only media).
func OpenWriter(ctx context.Context, dir string) (*Writer, error) {
	return OpenWriterOptions(ctx, dir, WriterOptions{})
}

// WriterOptions change how a writer writes. The zero value is right for most.
type WriterOptions struct {
	// MaxFileBytes is the largest file the writer makes. A blob with more bytes
	// is stored in segments, which only this program reads. At 0 and below it is
	// what the file system holds, and it is never more.
	MaxFileBytes int64

	weak bool // for tests: as on FAT, see disk
}

// OpenWriterOptions is [OpenWriter] with options.
func OpenWriterOptions(ctx context.Context, dir string, options WriterOptions) (*Writer, error) {
	w, err := openWriter(ctx, dir, options, nil)
	if err != nil {
		return nil, fmt.Errorf("open layout %s for writing: %w", dir, err)
	}
	return w, nil
}

func openWriter(ctx context.Context, dir string, options WriterOptions, before func(change) error) (_ *Writer, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w := &Writer{inflight: map[digest.Digest]chan struct{}{}, written: map[string]digest.Digest{}}
	if w.disk, err = openDisk(dir, options, before); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.space, err = writerLimits(dir, options); err != nil {
		return nil, err
	}
	if err := w.disk.mkdir(privateDir); err != nil {
		return nil, err
	}
	if w.release, err = acquire(w.disk); err != nil {
		return nil, err
	}
	if err := w.ownDirs(); err != nil {
		return nil, err
	}
	if err := w.settle(); err != nil {
		return nil, err
	}
	if err := w.prepare(); err != nil {
		return nil, err
	}
	if err := w.removeLeftovers(); err != nil {
		return nil, err
	}
	w.Layout = newLayout(w.state.index.Manifests, dir)
	return w, nil
}

// prepare makes what is missing of a layout, oci-layout last, so that no reader
// takes a half-made one for a layout, and completes a commit that was cut off.
func (w *Writer) prepare() error {
	root := w.disk.root
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	version = append(version, '\n')
	empty, err := formatIndex(ocispec.Index{})
	if err != nil {
		return err
	}
	err = checkLayoutFile(root)
	fresh := errors.Is(err, ErrNotLayout) && begun(root, ocispec.ImageLayoutFile, version)
	if err != nil && !fresh {
		return err
	}
	if err := w.disk.mkdir(path.Join(ocispec.ImageBlobsDir, digest.SHA256.String())); err != nil {
		return err
	}
	w.state, err = readState(root)
	if errors.Is(err, fs.ErrNotExist) || fresh && errors.Is(err, ErrCorruptIndex) && begun(root, ocispec.ImageIndexFile, empty) {
		w.state, err = state{}, nil
	}
	if err != nil {
		return err
	}
	if err := w.completeCommit(); err != nil {
		return err
	}
	if err := w.tidySlots(); err != nil {
		return err
	}
	if n := w.state.generation; n+1 >= maxGeneration {
		return fmt.Errorf("%s leaves no number for the next slot: when index.json is right, remove it: %w", slotName(n), errdef.ErrSizeExceedsLimit)
	}
	if !fresh {
		return nil
	}
	return w.disk.replace(ocispec.ImageLayoutFile, version)
}

// ownDirs removes what stands in the place of directories for what arrives and for
// segments. A link may lead to the blobs, where removing a partial would remove the
// blob of its digest.
func (w *Writer) ownDirs() error {
	for _, dir := range []string{partialDir, partsDir} {
		for _, name := range []string{dir, path.Join(dir, digest.SHA256.String()), path.Join(dir, digest.SHA384.String()), path.Join(dir, digest.SHA512.String())} {
			info, err := w.disk.root.Lstat(name)
			if absent(err) || err == nil && info.IsDir() {
				continue
			}
			if err != nil {
				return err
			}
			if err := w.disk.removeTree(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle makes the names of slots and blobs durable that a killed writer did not
// come to. They are taken for granted from now on.
func (w *Writer) settle() error {
	for _, dir := range []string{".", privateDir, ocispec.ImageBlobsDir, partsDir} {
		if info, err := w.disk.root.Lstat(dir); err != nil || !info.IsDir() {
			continue
		}
		if err := w.disk.syncDir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{ocispec.ImageBlobsDir, partsDir} {
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
			name := path.Join(dir, alg.String())
			if info, err := w.disk.root.Lstat(name); err != nil || !info.IsDir() {
				continue
			}
			if err := w.disk.syncDir(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeLeftovers removes files that were on their way to another name when a
// writer was killed.
func (w *Writer) removeLeftovers() error {
	dir, err := w.disk.root.Open(privateDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, newSuffix) {
			_ = w.disk.removeAny(path.Join(privateDir, name)) // a directory waits for who wants its name
		}
	}
	return nil
}

// begun reports whether a file is not there, or is what a power failure leaves of a
// file with the content whole that was being made: nothing, its beginning, zeros.
// Anything else is somebody's.
func begun(root *os.Root, name string, whole []byte) bool {
	raw, err := readFile(root, name, int64(len(whole)))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return bytes.HasPrefix(whole, raw) || len(bytes.Trim(raw, "\x00")) == 0
}

// completeCommit brings index.json to what the slot that counts says, or makes
// an empty one where there is none.
func (w *Writer) completeCommit() error {
	if w.state.onDisk != "" && w.state.carried == nil {
		return nil
	}
	var raw []byte
	if w.state.carried != nil {
		// Its writer may not have come to that.
		if err := w.disk.sync(slotName(w.state.carried.Generation)); err != nil {
			return err
		}
		raw = slices.Concat(w.state.carried.Index, []byte("\n"))
	} else {
		var err error
		if raw, err = formatIndex(w.state.index); err != nil {
			return err
		}
	}
	if err := w.disk.replace(ocispec.ImageIndexFile, raw); err != nil {
		return err
	}
	w.state.onDisk, w.state.carried = digest.FromBytes(raw), nil
	return nil
}

// SetRoot gives the manifest desc the full name HOST/REPOSITORY:TAG and, unless
// alias is "", a second entry under that tag-shaped name, for tools that take
// no others. What had the name or the alias before loses it. Readers see it
// after [Writer.Commit]. Only media type, digest and size of desc are kept.
// Errors: errdef.ErrInvalidReference, errdef.ErrInvalidDigest.
func (w *Writer) SetRoot(name, alias string, desc ocispec.Descriptor) error {
	if err := errors.Join(checkRoot(name, alias), checkDescriptor(desc)); err != nil {
		return fmt.Errorf("set root %s: %w", name, err)
	}
	return w.edit(edit{name: name, alias: alias, desc: plain(desc)})
}

// RemoveRoot takes the entry of a full name and its alias out of the index, at
// the next [Writer.Commit]. Blobs stay, see [Writer.RemoveGarbage]. A name that is not
// there is no error.
func (w *Writer) RemoveRoot(name string) error {
	if name == "" {
		return nil
	}
	return w.edit(edit{name: name})
}

// AddUntagged lists a manifest without a name, at the next [Writer.Commit].
// Every referrer must be listed so: other tools find referrers nowhere else.
// Only media type, digest and size of desc are kept. Errors:
// errdef.ErrInvalidDigest.
func (w *Writer) AddUntagged(desc ocispec.Descriptor) error {
	if err := checkDescriptor(desc); err != nil {
		return fmt.Errorf("add untagged manifest: %w", err)
	}
	return w.edit(edit{desc: plain(desc)})
}

func (w *Writer) edit(e edit) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	w.edits = append(w.edits, e)
	w.Layout.mu.Lock()
	defer w.Layout.mu.Unlock()
	w.Layout.entries.apply(e)
	w.Layout.view = nil
	return nil
}

// Commit makes the roots and untagged manifests set so far durable, and visible
// to readers, all or none. The same entries make the same bytes of index.json,
// in whatever order they were set; nothing is written when nothing changed.
// What another tool wrote to index.json since the writer was opened is kept,
// with this writer's changes on top. Errors: errdef.ErrNotFound when a manifest
// that was set is not in the layout. After an error the changes are still
// pending, and Commit may be called again.
func (w *Writer) Commit(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("commit layout: %w", fs.ErrClosed)
	}
	if err := w.commit(ctx); err != nil {
		return fmt.Errorf("commit layout %s: %w", w.Dir(), err)
	}
	return nil
}

func (w *Writer) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, e := range w.edits {
		if !e.needs() {
			continue
		}
		if ok, err := w.Exists(ctx, e.desc); err != nil {
			return err
		} else if !ok {
			return notFound("manifest " + e.desc.Digest.String())
		}
	}
	var err error
	if w.state, err = readState(w.disk.root); err != nil {
		return err
	}
	index, edited := w.state.index, newEntries(w.state.index.Manifests)
	for _, e := range w.edits {
		edited.apply(e)
	}
	index.Manifests = edited.manifests()
	raw, err := formatIndex(index)
	if err != nil {
		return err
	}
	if err := w.disk.flushNames(); err != nil {
		return err
	}
	if err := w.save(raw); err != nil {
		return err
	}
	w.edits = nil
	w.Layout.mu.Lock()
	defer w.Layout.mu.Unlock()
	if index, err = parseIndex(raw); err != nil {
		return err
	}
	w.Layout.entries, w.Layout.view = newEntries(index.Manifests), nil
	return nil
}

// save writes the slot, then index.json, then removes slots nobody needs: all
// but the new one and the newest valid one before it.
func (w *Writer) save(raw []byte) error {
	next := slot{Generation: w.state.generation + 1, Replaces: w.state.onDisk, Index: raw[:len(raw)-1]}
	next.Digest = digest.FromBytes(next.Index)
	w.written[ocispec.ImageIndexFile] = digest.FromBytes(raw)
	last := w.state.newest
	if last != nil && last.Digest == next.Digest && w.state.onDisk == digest.FromBytes(raw) {
		return nil
	}
	if next.Generation >= maxGeneration {
		return fmt.Errorf("slot %d: %w", w.state.generation, errdef.ErrSizeExceedsLimit)
	}
	if err := w.disk.write(slotName(next.Generation), 0o644, bytes.NewReader(formatSlot(next))); err != nil {
		return err
	}
	if err := w.disk.replace(ocispec.ImageIndexFile, raw); err != nil {
		return err
	}
	keep := map[uint64]bool{next.Generation: true}
	if last != nil {
		keep[last.Generation] = true
	}
	return w.removeSlots(func(n uint64) bool { return !keep[n] })
}

func (w *Writer) removeSlots(unneeded func(uint64) bool) error {
	generations, err := listSlots(w.disk.root)
	if err != nil {
		return err
	}
	for _, n := range generations {
		if unneeded(n) {
			if err := w.disk.removeTree(slotName(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// tidySlots removes what a commit left that was cut off in its slot, or before
// it removed older ones. The next commit then takes the number it would have
// had. index.json is what counts by now, and still does without the torn slots
// unless it is what the newest valid one replaced.
func (w *Writer) tidySlots() error {
	generations, err := listSlots(w.disk.root)
	if err != nil {
		return err
	}
	newest := w.state.newest
	if newest == nil {
		if len(generations) > maxSlots {
			return nil // not all were looked at
		}
		w.state.generation = 0
		return w.removeSlots(func(uint64) bool { return true })
	}
	without := w.state
	without.generation = newest.Generation
	if without.cutOff() {
		return nil
	}
	var before uint64
	for _, n := range generations {
		if n < newest.Generation {
			before = max(before, n)
		}
	}
	w.state.generation = newest.Generation
	return w.removeSlots(func(n uint64) bool { return n != newest.Generation && n != before })
}

// Close makes what was ingested durable and releases the lock. Changes that were not
// committed are lost; blobs and partial blobs stay. It may be called twice.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	if w.release == nil {
		return w.disk.root.Close()
	}
	err := w.disk.flushNames()
	w.removeEmptyDirs()
	return errors.Join(err, w.release(), w.disk.root.Close())
}

// removeEmptyDirs tidies up. Removing fails, as it should, where something is
// left.
func (w *Writer) removeEmptyDirs() {
	for _, dir := range []string{partialDir, partsDir} {
		if _, err := w.disk.root.Lstat(dir); err != nil {
			continue
		}
		for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
			w.removeEmpty(path.Join(dir, alg.String()))
		}
		_ = w.disk.removeAny(dir)
	}
}

// removeEmpty removes a directory, and empty ones in it that were made for
// segments.
func (w *Writer) removeEmpty(dir string) {
	if info, err := w.disk.root.Lstat(dir); err != nil || !info.IsDir() {
		return
	}
	names, err := readNames(w.disk.root, dir, maxSegmentNames)
	if err != nil {
		return
	}
	for _, name := range names {
		if strings.HasSuffix(name, partialSuffix) {
			_ = w.disk.removeAny(path.Join(dir, name))
		}
	}
	_ = w.disk.removeAny(dir)
}
