//go:build !unix

package site

import (
	"errors"
	"os"
)

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }

// flock fails: instances run on unix hosts only.
func flock(*os.File) (bool, error) { return false, errors.ErrUnsupported }
