package layout_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sealift/sealift/internal/layout"
)

func init() {
	children["limits"] = limitsChild
	children["probe"] = probeChild
}

func TestLimitsOfMounts(t *testing.T) {
	t.Parallel()
	inNamespace(t, "limits")
}

// limitsChild looks at a small disk, then at the same one read-only.
func limitsChild(dir string) error {
	if err := mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	got, err := layout.LimitsOf(filepath.Join(dir, "not", "yet"))
	if err != nil {
		return err
	}
	if want := (layout.Limits{FileSystem: "tmpfs", FreeBytes: 1 << 20}); got != want {
		return fmt.Errorf("LimitsOf = %+v, want %+v", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, 512<<10), 0o600); err != nil {
		return err
	}
	if err := mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	if got, err = layout.LimitsOf(dir); err != nil {
		return err
	}
	if want := (layout.Limits{FileSystem: "tmpfs", FreeBytes: 512 << 10, ReadOnly: true}); got != want {
		return fmt.Errorf("LimitsOf = %+v, want %+v", got, want)
	}
	return nil
}

// A file system that hides its limit is asked, once, for a blob it may not
// hold, and leaves nothing behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	if out, err := child(t, "probe", t.TempDir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// probeChild is a process whose files end where FAT's do.
func probeChild(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	w, err := layout.OpenWriter(context.Background(), dir)
	if err != nil {
		return err
	}
	defer w.Close()
	const fat = 4<<30 - 1
	probe := func(size, want int64) error {
		got, err := layout.FileBytes(w, "hidden", size)
		if err == nil && got != want {
			err = fmt.Errorf("largest file for a blob of %d bytes is %d, want %d", size, got, want)
		}
		return err
	}
	err = errors.Join(probe(fat+1, 0))
	limit := syscall.Rlimit{Cur: fat, Max: fat}
	if err := errors.Join(err, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)); err != nil {
		return err
	}
	if w, err = layout.OpenWriter(context.Background(), dir+"/other"); err != nil {
		return err
	}
	defer w.Close()
	if err := errors.Join(probe(fat, 0), probe(fat+1, fat), probe(1, fat)); err != nil {
		return err
	}
	if got := w.Limits().FileBytes; got != fat {
		return fmt.Errorf("Limits has %d bytes after the probe, want %d", got, fat)
	}
	left, err := filepath.Glob(dir + "/*/sealift/*.new")
	if err != nil || len(left) > 0 {
		return fmt.Errorf("left behind: %v, %v", left, err)
	}
	return nil
}

// The table of mounts as Linux writes it, with the programs that were tried.
func TestFUSEName(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"42 27 0:39 / /media/a rw,nosuid,nodev,relatime - fuse.fusefat fusefat rw,user_id=0,group_id=0": "fuse.fusefat",
		"43 27 0:39 / /media/b rw - fuseblk /dev/loop0 rw,user_id=0,blksize=4096":                       "fuseblk",
		"44 27 0:39 / /media/c rw shared:1 master:2 - fuse fusefat rw":                                  "fuse.fusefat",
		"44 27 0:39 / /media/d rw - fuse /tmp/disk.img rw":                                              "fuse",
		"44 27 0:40 / /media/e rw - fuse.fusefat fusefat rw":                                            "",
		"": "", "x - y": "", "44 27 0:39 / /x rw": "", "44 27 0:39 / /x rw -": "", " - fuse fusefat": "",
	} {
		if got := layout.MountName(line, "0:39"); got != want {
			t.Errorf("type in %q = %q, want %q", line, got, want)
		}
	}
	if got := layout.MountName("1 2 0:39 / /"+strings.Repeat("x", 70_000)+" rw - ext4 /dev/a rw", "0:39"); got != "ext4" {
		t.Errorf("type in a long line = %q, want ext4", got)
	}
}
