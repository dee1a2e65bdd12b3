package layout

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// lockName is the file that is flocked. It stays when the lock is released:
	// removing it would let two holders lock two files of one name.
	lockName = privateDir + "/lock"
	// heldName is made with O_EXCL where there is no flock, and removed at the
	// end.
	heldName = privateDir + "/lock.held"

	maxLockBytes = 1 << 10
	maxLockTries = 10 // while others make the file, or remove what was in its place
)

// errNoFlock says that the file system or platform has no flock.
var errNoFlock = errors.New("no flock")

// acquire takes the writer's lock and returns what releases it. It does not
// wait: who writes to one disc twice at a time wants to know.
func acquire(d *disk) (release func() error, err error) {
	f, err := openLock(d)
	if err != nil {
		return nil, err
	}
	err = flock(f.f)
	switch {
	case errors.Is(err, errNoFlock):
		return acquireExclusive(d, f.close())
	case err != nil:
		if errors.Is(err, ErrLocked) {
			err = lockedError(d.root, lockName)
		}
		return nil, errors.Join(err, f.close())
	}
	if err := writeHolder(f); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return func() error {
		// Emptied first, so that nobody reads a holder that is gone. Unlocked
		// before it is closed, since a process being forked at this moment has
		// a copy of the open file, and would keep the lock until its exec.
		return errors.Join(f.truncate(0), funlock(f.f), f.close())
	}, nil
}

// openLock opens the file that is flocked, and makes it where there is none. It is
// emptied and written to, so what else may have its name is removed, not opened: a
// link leads to somebody's content, and so does one more name of a file.
func openLock(d *disk) (*file, error) {
	for range maxLockTries {
		info, err := d.root.Lstat(lockName)
		switch {
		case absent(err):
			f, err := d.openFile(lockName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
			if !errors.Is(err, fs.ErrExist) {
				return f, err
			}
		case err != nil:
			return nil, err
		case ownFile(info) && info.Size() <= maxLockBytes:
			f, err := d.openOwn(lockName, os.O_RDWR)
			if !errors.Is(err, fs.ErrInvalid) {
				return f, err
			}
		default:
			if err := takeAside(d, lockName, info); err != nil {
				return nil, err
			}
		}
	}
	return nil, lockedError(d.root, lockName)
}

// takeAside removes what must not be a lock. It is renamed first and looked at
// again, so that of two processes finding it, the second does not remove the lock
// the first has just made. Nor is one that a program holds, which may have got
// another name from whoever makes backups by links. Errors: [ErrLocked].
func takeAside(d *disk, name string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		f, err := d.root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if errors.Is(flock(f), ErrLocked) {
			return lockedError(d.root, name)
		}
	}
	aside := path.Join(privateDir, "lock.stale-"+rand.Text())
	if err := d.move(name, aside); err != nil {
		if absent(err) {
			return nil
		}
		return err
	}
	if moved, err := d.root.Lstat(aside); err != nil || !os.SameFile(info, moved) {
		return errors.Join(err, d.move(aside, name)) // it was not that: put it back
	}
	return d.removeTree(aside)
}

func writeHolder(f *file) error {
	if err := f.truncate(0); err != nil {
		return err
	}
	_, err := f.Write([]byte(self().String()))
	return err
}

// acquireExclusive takes the lock by making a file that must not exist. One
// left behind by a process that is known to be gone is taken away.
func acquireExclusive(d *disk, err error) (func() error, error) {
	if err != nil {
		return nil, err
	}
	for range 2 {
		f, err := d.openFile(heldName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			_, err = f.Write([]byte(self().String()))
			if err = errors.Join(err, f.close()); err != nil {
				return nil, errors.Join(err, d.remove(heldName))
			}
			return func() error { return d.remove(heldName) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if !removeStale(d) {
			break
		}
	}
	return nil, lockedError(d.root, heldName)
}

// removeStale removes the lock file of a holder that is gone. It is renamed
// first and read again, so that of two processes finding it stale, the second
// does not remove the lock the first has just taken.
func removeStale(d *disk) bool {
	before, err := readFile(d.root, heldName, maxLockBytes)
	if err != nil || !parseHolder(string(before)).gone(self()) {
		return false
	}
	aside := path.Join(privateDir, "lock.stale-"+rand.Text())
	if err := d.move(heldName, aside); err != nil {
		return false
	}
	after, err := readFile(d.root, aside, maxLockBytes)
	if err != nil || string(after) != string(before) {
		_ = d.move(aside, heldName) // it was not the stale one: put it back
		return false
	}
	return d.remove(aside) == nil
}

// holder is who has a lock.
type holder struct {
	pid  int
	host string
	boot string // tells a restarted machine from the one that took the lock
}

func self() holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return holder{pid: os.Getpid(), host: host, boot: bootID()}
}

func (h holder) String() string {
	return fmt.Sprintf("pid %d\nhost %s\nboot %s\n", h.pid, h.host, h.boot)
}

// parseHolder is the inverse of String; what it does not understand stays zero.
func parseHolder(text string) holder {
	var h holder
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "pid":
			h.pid, _ = strconv.Atoi(value)
		case "host":
			h.host = value
		case "boot":
			h.boot = value
		}
	}
	return h
}

// gone reports whether the holder certainly no longer runs. Of another host
// nothing is certain.
func (h holder) gone(me holder) bool {
	if h.pid <= 0 || h.host != me.host {
		return false
	}
	if h.boot != "" && me.boot != "" && h.boot != me.boot {
		return true
	}
	return !alive(h.pid)
}

func lockedError(root *os.Root, name string) error {
	e := &LockedError{Path: filepath.Join(root.Name(), filepath.FromSlash(name))}
	raw, err := readFile(root, name, maxLockBytes)
	if err != nil {
		return e
	}
	if h := parseHolder(string(raw)); h.pid > 0 {
		e.Holder = fmt.Sprintf("pid %d on host %q", h.pid, h.host)
	}
	return e
}
