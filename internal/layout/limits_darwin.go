package layout

import (
	"os"

	"golang.org/x/sys/unix"
)

func statLimits(dir string) (Limits, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Limits{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Limits{
		FileSystem: unix.ByteSliceToString(st.Fstypename[:]),
		FreeBytes:  freeBytes(st.Bavail, uint64(st.Bsize)),
		ReadOnly:   st.Flags&unix.MNT_RDONLY != 0,
	}, nil
}
