package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// disk makes every change to a layout's directory, and makes it survive a power
// failure. Nothing else in the package changes a file, so that tests can count
// the steps of a writer, and fail or undo each.
//
// FAT and exFAT are weak: a file's size and place stand in its directory entry, and
// nothing ties the entries of a rename together. Linux makes the new one an empty
// one, which only a flush of the file itself fills; until the old entry is gone
// from the disk too, both names share one content, and removing one frees that of
// the other. There, files that others can replace are written in place – index.json
// has its slots – and a blob's rename is flushed at both ends.
type disk struct {
	root   *os.Root
	before func(change) error // called ahead of each step; nil outside tests
	weak   bool

	flushing sync.Mutex   // held while names are made durable
	moving   sync.RWMutex // held by who moves a file and notes its name

	mu      sync.Mutex
	renamed map[string]bool // directories with names that are not durable yet
	names   int             // how many they are
	pending int64           // bytes of content under them
	failed  error           // of a flush of names, for good
}

// change is one step a writer is about to take.
type change struct {
	op   string   // create, write, truncate, sync, rename, remove, mkdir or syncdir
	name string   // slash-separated below the layout, or absolute above it
	to   string   // of a rename
	file *os.File // of a write, truncate or sync
	data []byte   // of a write
}

// errDone is what a test says that took a step itself.
var errDone = errors.New("done")

// step takes a step, unless a test has something else in mind.
func (d *disk) step(c change, take func() error) error {
	if d.before != nil {
		switch err := d.before(c); {
		case errors.Is(err, errDone):
			return nil
		case err != nil:
			return err
		}
	}
	return take()
}

// openDisk makes dir and its parents where they are missing, each durably.
func openDisk(dir string, options WriterOptions, before func(change) error) (*disk, error) {
	limits, err := LimitsOf(dir)
	if err != nil {
		return nil, err
	}
	d := &disk{before: before, weak: options.weak || limits.weak()}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := d.mkdirAbove(abs); err != nil {
		return nil, err
	}
	if d.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *disk) mkdirAbove(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := d.mkdirAbove(parent); err != nil {
			return err
		}
	}
	err := d.step(change{op: "mkdir", name: dir}, func() error { return os.Mkdir(dir, 0o755) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = d.flushDir(parent, os.Open)
	if errors.Is(err, fs.ErrPermission) {
		return nil // somebody else's directory that may be written to and not read
	}
	return err
}

// syncDir makes renames and new files in a directory durable. Where the file
// system cannot flush a directory, a power failure may undo the latest blobs and
// commit, but not tear them: the slots are made for that.
func (d *disk) syncDir(name string) error { return d.flushDir(name, d.root.Open) }

func (d *disk) flushDir(name string, open func(string) (*os.File, error)) error {
	if !canSyncDir {
		return nil
	}
	err := d.step(change{op: "syncdir", name: name}, func() error {
		f, err := open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// mkdir makes a directory and its parents, each durably.
func (d *disk) mkdir(name string) error {
	if info, err := d.root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if parent := path.Dir(name); parent != "." {
		if err := d.mkdir(parent); err != nil {
			return err
		}
	}
	err := d.step(change{op: "mkdir", name: name}, func() error { return d.root.Mkdir(name, 0o755) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(path.Dir(name))
}

// openFile opens a file for writing.
func (d *disk) openFile(name string, flag int, mode fs.FileMode) (*file, error) {
	opened := &file{disk: d, name: name}
	open := func() (err error) {
		opened.f, err = d.root.OpenFile(name, flag, mode)
		return err
	}
	var err error
	if flag&os.O_CREATE == 0 {
		err = open()
	} else {
		err = d.step(change{op: "create", name: name}, open)
	}
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// openOwn opens a file that is there for writing in place. Nothing may be reached
// that has another name: a link, or one more name of a file, leads to other content.
// Errors: fs.ErrInvalid.
func (d *disk) openOwn(name string, flag int) (*file, error) {
	before, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !ownFile(before) { // opening a named pipe blocks
		return nil, fmt.Errorf("%s is no file of its own: %w", name, fs.ErrInvalid)
	}
	f, err := d.openFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.f.Stat()
	if err == nil && (!os.SameFile(before, after) || !ownFile(after)) {
		err = fmt.Errorf("%s changed while it was opened: %w", name, fs.ErrInvalid)
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// ownFile reports whether a file has one name and no other.
func ownFile(info fs.FileInfo) bool { return info.Mode().IsRegular() && linkCount(info) <= 1 }

// create makes a new file. What has its name is removed first, not opened: it
// may be anything. A directory with something in it is removed where the name is
// the layout's own.
func (d *disk) create(name string, mode fs.FileMode) (*file, error) {
	removeOld := d.removeAny
	if isPrivate(name) {
		removeOld = d.removeTree
	}
	if err := removeOld(name); err != nil {
		return nil, err
	}
	return d.openFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

// write makes a new file durable under its final name.
func (d *disk) write(name string, mode fs.FileMode, r io.Reader) error {
	f, err := d.create(name, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.sync()
	}
	if err = errors.Join(err, f.close()); err != nil {
		return err
	}
	return d.syncDir(path.Dir(name))
}

// replace puts a file in another's place, as one step where the file system
// can. The temporary file is in the private directory, out of the way of other
// tools, should it be left behind.
func (d *disk) replace(name string, content []byte) error {
	if d.weak {
		return d.write(name, 0o644, bytes.NewReader(content))
	}
	temp := path.Join(privateDir, name+newSuffix)
	if err := d.write(temp, 0o644, bytes.NewReader(content)); err != nil {
		return err
	}
	return d.supplant(temp, name)
}

// rename moves a file or directory whose content is on the disk, durably.
func (d *disk) rename(from, to string) error {
	if err := d.move(from, to); err != nil {
		return err
	}
	// The new name first: with neither, what was moved would be lost.
	if err := d.syncDir(path.Dir(to)); err != nil || !d.weak || path.Dir(from) == path.Dir(to) {
		return err
	}
	return d.syncDir(path.Dir(from))
}

// supplant is rename to a name that is the layout's own: a directory that has it is
// in the way, and is removed.
func (d *disk) supplant(from, to string) error {
	if err := d.clear(to); err != nil {
		return err
	}
	return d.rename(from, to)
}

// supplantSoon is supplant for a file of so many bytes, whose name is durable behind
// the next flushNames, which is called here when there is much to lose: flushing a
// directory for each of many small files takes as long as flushing the files.
func (d *disk) supplantSoon(from, to string, size int64) error {
	if d.weak {
		return d.supplant(from, to)
	}
	if err := d.clear(to); err != nil {
		return err
	}
	much, err := d.moveSoon(from, to, size)
	if err == nil && much {
		err = d.flushNames()
	}
	return err
}

// moveSoon moves a file and notes its name. Nothing flushes in between: who sees the
// name has it flushed.
func (d *disk) moveSoon(from, to string, size int64) (much bool, err error) {
	d.moving.RLock()
	defer d.moving.RUnlock()
	if err := d.move(from, to); err != nil {
		return false, err
	}
	return d.await(path.Dir(to), size), nil
}

// await notes a name in a directory that is not durable yet, and reports whether there
// is much to lose.
func (d *disk) await(dir string, size int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.renamed == nil {
		d.renamed = map[string]bool{}
	}
	d.renamed[dir] = true
	d.names++
	d.pending += size
	return d.pending >= flushBytes || d.names >= maxNames
}

// flushNames makes every name durable that supplantSoon gave, and waits for those that
// are on their way. Names that come meanwhile wait for the next. Once it failed it
// always does: a file system tells of a failure once, and the next flush of the same
// directory may succeed without the names.
func (d *disk) flushNames() error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.moving.Lock()
	d.mu.Lock()
	dirs, err := d.renamed, d.failed
	d.renamed, d.names, d.pending = nil, 0, 0
	d.mu.Unlock()
	d.moving.Unlock()
	if err != nil {
		return err
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := d.syncDir(dir); err != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.failed = fmt.Errorf("make the names in %s durable: %w", dir, err)
			return d.failed
		}
	}
	return nil
}

// clear removes a directory that has a name of the layout's own.
func (d *disk) clear(name string) error {
	if info, err := d.root.Lstat(name); err == nil && info.IsDir() {
		return d.removeTree(name)
	}
	return nil
}

// move is rename without making the names durable.
func (d *disk) move(from, to string) error {
	err := d.step(change{op: "rename", name: from, to: to}, func() error { return d.root.Rename(from, to) })
	if err != nil || !d.weak {
		return err
	}
	if info, err := d.root.Lstat(to); err != nil || info.IsDir() {
		return errors.Join(err, d.syncDir(to))
	}
	return d.sync(to)
}

// sync makes the content of a file durable that somebody else wrote.
func (d *disk) sync(name string) error {
	f, err := d.openFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.sync(), f.close())
}

func (d *disk) remove(name string) error {
	return d.step(change{op: "remove", name: name}, func() error { return d.root.Remove(name) })
}

// removeAny removes a file that need not be there.
func (d *disk) removeAny(name string) error {
	if _, err := d.root.Lstat(name); absent(err) {
		return nil
	}
	if err := d.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeTree removes whatever has a name: a file, a link, or a directory with
// all that is in it.
func (d *disk) removeTree(name string) error {
	info, err := d.root.Lstat(name)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return d.step(change{op: "remove", name: name}, func() error { return d.root.RemoveAll(name) })
	}
	return d.removeAny(name)
}

// file is a file that is being written.
type file struct {
	disk    *disk
	name    string
	f       *os.File
	pending int64 // bytes since the last flush
}

const (
	// flushBytes is how much of a file the power may take along, or of files by their
	// names, while others may be on their way.
	flushBytes = 8 << 20
	// maxNames is how many names wait at most, however small what they stand for.
	maxNames = 4096
)

// Write implements io.Writer. What was written is on its way to the disk soon, so
// that the last flush is short and a power failure finds most of a blob there. On
// a weak file system a file that was never flushed is empty.
func (f *file) Write(p []byte) (n int, err error) {
	err = f.disk.step(change{op: "write", name: f.name, file: f.f, data: p}, func() (err error) {
		n, err = f.f.Write(p)
		return err
	})
	if f.pending += int64(n); err != nil || f.pending < flushBytes {
		return n, err
	}
	f.pending = 0
	if f.disk.weak {
		return n, f.sync()
	}
	beginWriting(f.f)
	return n, nil
}

func (f *file) truncate(size int64) error {
	return f.disk.step(change{op: "truncate", name: f.name, file: f.f}, func() error { return f.f.Truncate(size) })
}

func (f *file) sync() error {
	return f.disk.step(change{op: "sync", name: f.name, file: f.f}, f.f.Sync)
}

func (f *file) close() error { return f.f.Close() }

// absent reports whether an error says that there is nothing of a name, be it that
// something else is on the way to it.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
