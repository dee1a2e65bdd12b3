package site

import (
	"bytes"
	"os"
	"path/filepath"
)

// probePath is where the home keeps the program that is bound into containers.
// The path never changes, so that another version of it restarts nothing: what
// runs keeps the file it was started with.
func (h *Home) probePath() string { return filepath.Join(h.dir, "bin", "probe") }

// placeProbe copies the program into the home unless it is there.
func (h *Home) placeProbe() error {
	if h.opts.Probe == "" {
		return nil
	}
	data, err := os.ReadFile(h.opts.Probe)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(h.probePath()); err == nil && bytes.Equal(have, data) {
		return nil
	}
	if err := makeDir(filepath.Dir(h.probePath())); err != nil {
		return err
	}
	// Whatever user a container has must be able to run it.
	return writeFile(h.probePath(), data, func(f *os.File) error { return f.Chmod(0o555) })
}
