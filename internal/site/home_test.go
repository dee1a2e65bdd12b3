//go:build unix && !real

package site_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
)

func TestHomeOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	h := open(t, dir, newHost())
	_, err := h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{})
	var refused *site.RefusedError
	if !errors.As(err, &refused) || refused.Reason != site.RefusedHome {
		t.Errorf("Install into a home that everybody can change = %v, want it refused", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(victim, []byte("precious"), 0o600), os.Symlink(victim, filepath.Join(dir, "lock"))); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}); err == nil {
		t.Error("Install with a link for a lock = nil, want an error")
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
		t.Errorf("the link's target holds %q, %v, want it untouched", data, err)
	}
}

// TestOrphans kills sealift alone, in the middle of a change, while a program it
// started goes on. The next change waits for that program.
func TestOrphans(t *testing.T) {
	const variable = "SEALIFT_TEST_ORPHANS"
	if dir := os.Getenv(variable); dir != "" {
		place := newHost()
		place.fail = func(target.Deployment) error {
			err := exec.Command("sleep", "1").Start()
			return errors.Join(err, syscall.Kill(os.Getpid(), syscall.SIGKILL))
		}
		_, err := open(t, dir, place).Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{})
		t.Fatalf("Install = %v, want this process killed", err)
	}
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOrphans$")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended with %v\n%s", err, out)
	}
	h := open(t, dir, newHost())
	if got := status(t, h, "shop"); got.State != site.StateInterrupted {
		t.Errorf("Status() = %s, want interrupted", got.State)
	}
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	if took := time.Since(start); took < time.Second {
		t.Errorf("the next change began after %s, while the program was at work", took)
	}
}
