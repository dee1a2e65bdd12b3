//go:build unix

package cli

import (
	"io/fs"
	"os"
	"syscall"
)

// foreign reports whether a file is neither this user's nor root's.
func foreign(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid()
}

func readableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o044 != 0 }
