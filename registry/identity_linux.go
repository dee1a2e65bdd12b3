package registry

import (
	"io/fs"
	"syscall"
)

// fileIDOf includes the time of the last status change, which no program can
// set back: a file rewritten in place under its old mtime is another one.
func fileIDOf(info fs.FileInfo) fileID {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{
		device:  uint64(st.Dev),
		inode:   st.Ino,
		size:    st.Size,
		mtime:   st.Mtim.Nano(),
		changed: st.Ctim.Nano(),
	}
}
