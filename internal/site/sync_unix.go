//go:build unix

package site

import (
	"errors"
	"os"
	"syscall"
)

// syncDir makes the names in dir durable. A file system that cannot is let be.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// flock takes the lock on f, or reports false when another process has it.
func flock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// unlockFile gives the lock on f back, whoever else has f open.
func unlockFile(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// inherit lets programs started from now on hold f open too.
func inherit(f *os.File) error {
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETFD, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// noFollow makes opening a symbolic link fail.
const noFollow = syscall.O_NOFOLLOW

// alive reports whether a process of this host runs.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// checkOwner fails unless only root and this user can change the home or a file in it:
// whoever else could would choose what is installed, and read its secrets.
func checkOwner(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return refuse("", RefusedHome, "%s belongs to another user", path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return refuse("", RefusedHome, "%s can be changed by other users (mode %04o)", path, info.Mode().Perm())
	}
	return nil
}
