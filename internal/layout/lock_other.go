//go:build !unix || aix || solaris

package layout

import "os"

// flock is not there on this platform.
func flock(*os.File) error { return errNoFlock }

func funlock(*os.File) error { return nil }

// alive reports whether a process runs, as far as looking it up tells.
func alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}

// bootID is not known on this platform.
func bootID() string { return "" }
