package layout

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// disk makes changes to a layout's directory survive a power failure.
type disk struct{ root *os.Root }

// syncDir makes renames and new files in a directory durable. Where the file
// system cannot flush a directory, a power failure may undo the latest blobs and
// commit, but not tear them: the slots are made for that.
func (d *disk) syncDir(name string) error {
	if !canSyncDir {
		return nil
	}
	f, err := d.root.Open(name)
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
	if err := d.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncDir(path.Dir(name))
}

// write makes a new file durable under its final name. What is left of an
// earlier attempt is removed first, not opened: it may be anything.
func (d *disk) write(name string, mode fs.FileMode, r io.Reader) error {
	if err := d.removeAny(name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
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

// rename moves a file durably.
func (d *disk) rename(from, to string) error {
	if err := d.root.Rename(from, to); err != nil {
		return err
	}
	return d.syncDir(path.Dir(to))
}

// removeAny removes a file that need not be there.
func (d *disk) removeAny(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
