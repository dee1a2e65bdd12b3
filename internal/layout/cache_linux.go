package layout

import (
	"errors"
	"fmt"
	"os"

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
