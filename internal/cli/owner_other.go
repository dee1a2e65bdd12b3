//go:build !unix

package cli

import "io/fs"

func foreign(fs.FileInfo) bool { return false }

// readableByOthers is unknown where modes do not say.
func readableByOthers(fs.FileInfo) bool { return false }
