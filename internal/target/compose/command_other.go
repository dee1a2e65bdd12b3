//go:build !unix

package compose

import "os/exec"

// ownGroup does nothing: without process groups only the command itself ends
// with its context.
func ownGroup(*exec.Cmd) (release func()) { return func() {} }
