//go:build unix

package layout_test

import (
	"syscall"
	"testing"
)

func namedPipe(t *testing.T, _, name string) {
	t.Helper()
	if err := syscall.Mkfifo(name, 0o644); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
}
