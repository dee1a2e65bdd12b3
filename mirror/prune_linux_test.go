package mirror_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sealift/sealift/mirror"
)

// Of read-only media one can learn what pruning would free.
func TestPruneReadOnly(t *testing.T) {
	const key, unable = "SEALIFT_TEST_READ_ONLY", "cannot mount"
	dir := os.Getenv(key)
	if dir == "" {
		// The child may mount what it likes, unseen by others.
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		child.Env = append(os.Environ(), key+"="+t.TempDir())
		child.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := child.CombinedOutput()
		switch {
		case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
			t.Skipf("no user namespaces here: %v", err)
		case strings.Contains(string(out), unable):
			t.Skipf("no disk can be mounted here: %s", out)
		case err != nil:
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(unable, err)
	}
	r := newReleases(t)
	for _, it := range r.all("") {
		copyItem(t, dir, it, mirror.PlanOptions{})
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(unable, err)
	}
	if _, err := mirror.Prune(t.Context(), dir, []string{library1}, mirror.PruneOptions{}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Prune = %v, want %v", err, syscall.EROFS)
	}
	if got, err := mirror.Prune(t.Context(), dir, []string{library1}, mirror.PruneOptions{DryRun: true}); err != nil || got.Freed.Blobs != 10 {
		t.Errorf("a dry run = %+v, %v, want 10 blobs", got, err)
	}
}
