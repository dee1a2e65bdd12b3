//go:build unix

package compose

import (
	"os/exec"
	"syscall"
	"time"
)

// ownGroup puts cmd into a process group of its own, which is ended as a whole
// when the command's context ends. Call release after the command has ended.
func ownGroup(cmd *exec.Cmd) (release func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var kill *time.Timer
	cmd.Cancel = func() error {
		pid := cmd.Process.Pid
		kill = time.AfterFunc(killGrace, func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })
		return syscall.Kill(-pid, syscall.SIGTERM)
	}
	return func() {
		if kill != nil {
			kill.Stop()
		}
	}
}
