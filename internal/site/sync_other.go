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

func unlockFile(*os.File) {}

func inherit(*os.File) error { return nil }

const noFollow = 0

func alive(int) bool { return true }

func checkOwner(string) error { return nil }
