package layout

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// disk makes every change to a layout's directory, and makes it survive a power
// failure. Nothing else in the package changes a file, so that tests can count
// the steps of a writer, and fail or undo each.
type disk struct {
	root   *os.Root
	before func(change) error // called ahead of each change; nil outside tests
}

// change is one step a writer is about to take. An error from disk.before takes
// its place.
type change struct {
	op   string   // create, write, truncate, sync, rename, remove, mkdir or syncdir
	name string   // slash-separated below the layout, or absolute above it
	to   string   // of a rename
	file *os.File // of a write, truncate or sync
	data []byte   // of a write
}

func (d *disk) announce(c change) error {
	if d.before == nil {
		return nil
	}
	return d.before(c)
}

// openDisk makes dir and its parents where they are missing, each durably.
func openDisk(dir string, before func(change) error) (*disk, error) {
	d := &disk{before: before}
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
	if err := d.announce(change{op: "mkdir", name: dir}); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncOpened(parent, os.Open)
}

// syncDir makes renames and new files in a directory durable. Where the file
// system cannot flush a directory, a power failure may undo the latest blobs and
// commit, but not tear them: the slots are made for that.
func (d *disk) syncDir(name string) error { return d.syncOpened(name, d.root.Open) }

func (d *disk) syncOpened(name string, open func(string) (*os.File, error)) error {
	if !canSyncDir {
		return nil
	}
	if err := d.announce(change{op: "syncdir", name: name}); err != nil {
		return err
	}
	f, err := open(name)
	if errors.Is(err, fs.ErrPermission) && filepath.IsAbs(name) {
		return nil // somebody else's directory that may be written to and not read
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.Sync()
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
	if err := d.announce(change{op: "mkdir", name: name}); err != nil {
		return err
	}
	if err := d.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(path.Dir(name))
}

// openFile opens a file for writing.
func (d *disk) openFile(name string, flag int, mode fs.FileMode) (*file, error) {
	if flag&os.O_CREATE != 0 {
		if err := d.announce(change{op: "create", name: name}); err != nil {
			return nil, err
		}
	}
	f, err := d.root.OpenFile(name, flag, mode)
	if err != nil {
		return nil, err
	}
	return &file{disk: d, name: name, f: f}, nil
}

// create makes a new file. What has its name is removed first, not opened: it
// may be anything.
func (d *disk) create(name string, mode fs.FileMode) (*file, error) {
	if err := d.removeAny(name); err != nil {
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
	temp := path.Join(privateDir, name+newSuffix)
	if err := d.write(temp, 0o644, bytes.NewReader(content)); err != nil {
		return err
	}
	return d.rename(temp, name)
}

// rename moves a file or directory durably.
func (d *disk) rename(from, to string) error {
	if err := d.move(from, to); err != nil {
		return err
	}
	return d.syncDir(path.Dir(to))
}

// move is rename without making it durable.
func (d *disk) move(from, to string) error {
	if err := d.announce(change{op: "rename", name: from, to: to}); err != nil {
		return err
	}
	return d.root.Rename(from, to)
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
	if err := d.announce(change{op: "remove", name: name}); err != nil {
		return err
	}
	return d.root.Remove(name)
}

// removeAny removes a file that need not be there.
func (d *disk) removeAny(name string) error {
	if _, err := d.root.Lstat(name); errors.Is(err, fs.ErrNotExist) {
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
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := d.announce(change{op: "remove", name: name}); err != nil {
			return err
		}
		return d.root.RemoveAll(name)
	}
	return d.removeAny(name)
}

// file is a file that is being written.
type file struct {
	disk *disk
	name string
	f    *os.File
}

// Write implements io.Writer.
func (f *file) Write(p []byte) (int, error) {
	if err := f.disk.announce(change{op: "write", name: f.name, file: f.f, data: p}); err != nil {
		return 0, err
	}
	return f.f.Write(p)
}

func (f *file) truncate(size int64) error {
	if err := f.disk.announce(change{op: "truncate", name: f.name, file: f.f}); err != nil {
		return err
	}
	return f.f.Truncate(size)
}

func (f *file) sync() error {
	if err := f.disk.announce(change{op: "sync", name: f.name, file: f.f}); err != nil {
		return err
	}
	return f.f.Sync()
}

func (f *file) close() error { return f.f.Close() }
