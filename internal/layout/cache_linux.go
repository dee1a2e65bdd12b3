package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// dropCache drops the clean pages of a part of a file from memory, of all of
// it from offset on when length is 0.
func dropCache(f *os.File, offset, length int64) error {
	err := unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("drop the cache of %s: %w", f.Name(), err)
	}
	return nil
}

// beginWriting has the kernel begin to write what a file has in memory. It is no
// promise, and whatever fails shows at the flush.
func beginWriting(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
}

// settle has the file system that dir is on write what it holds back. dir need not
// be there.
func settle(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		if parent := filepath.Dir(dir); errors.Is(err, os.ErrNotExist) && parent != dir {
			settle(parent)
		}
		return
	}
	defer f.Close()
	_ = unix.Syncfs(int(f.Fd())) // what cannot be written shows elsewhere
}
