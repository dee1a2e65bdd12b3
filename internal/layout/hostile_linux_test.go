package layout_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A pipe blocks whoever opens it, and a device has no end: neither is touched
// in place of a file or directory.
func TestPlantedPipesAndDevices(t *testing.T) {
	t.Parallel()
	const zero = 1<<8 | 5 // /dev/zero
	for kind, mode := range map[string]uint32{"pipe": syscall.S_IFIFO, "device": syscall.S_IFCHR} {
		for _, name := range append([]string{"blobs/sha256/x"}, planted...) {
			t.Run(kind+" "+filepath.Base(name), func(t *testing.T) {
				t.Parallel()
				s := newShop(t)
				path := filepath.Join(s.dir, name)
				if filepath.Base(name) == "x" {
					path = filepath.Join(filepath.Dir(path), s.image.Digest.Encoded())
				}
				remove(t, path)
				if err := syscall.Mknod(path, mode|0o666, zero); errors.Is(err, syscall.EPERM) {
					t.Skipf("a %s cannot be made here: %v", kind, err)
				} else if err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					abuse(t, s.dir)
				}()
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Fatal("blocked")
				}
			})
		}
	}
}
