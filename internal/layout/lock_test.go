package layout

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The lock for file systems without flock is not taken on the machines tests
// run on, so it is tried from inside the package.
func TestExclusiveLock(t *testing.T) {
	t.Parallel()
	me := self()
	gone := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		held *holder // nil when the lock is free
		free bool
	}{
		{"free", nil, true},
		{"held by this process", &me, false},
		{"held by a process that is gone", &holder{pid: gone.Process.Pid, host: me.host, boot: me.boot}, true},
		{"held on another host", &holder{pid: gone.Process.Pid, host: me.host + "x", boot: "b"}, false},
		{"unreadable", &holder{}, false},
	}
	if me.boot != "" {
		tests = append(tests, struct {
			name string
			held *holder
			free bool
		}{"held before the machine was restarted", &holder{pid: me.pid, host: me.host, boot: "other"}, true})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, privateDir), 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.held != nil {
				if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(heldName)), []byte(tt.held.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			d := &disk{root: root}
			release, err := acquireExclusive(d, nil)
			if !tt.free {
				if !errors.Is(err, ErrLocked) {
					t.Errorf("acquire = %v, want %v", err, ErrLocked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := acquireExclusive(d, nil); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "pid ") {
				t.Errorf("second acquire = %v, want %v and its holder", err, ErrLocked)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			if release, err = acquireExclusive(d, nil); err != nil {
				t.Fatal(err)
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
