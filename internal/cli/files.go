package cli

import (
	"fmt"
	"io"
	"os"
)

// readFile reads a file that a person named, at most limit bytes of it: it may
// be the wrong one, and it may have no end.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, usagef("%s is a directory, want a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, usagef("%s is larger than the %d bytes accepted; is it the right file?", path, limit)
	}
	return data, nil
}

// startsWith reports whether the first byte of a file is b.
func startsWith(path string, b byte) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var first [1]byte
	_, err = io.ReadFull(f, first[:])
	return err == nil && first[0] == b
}
