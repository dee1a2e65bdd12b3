package site

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lock makes the home this process's own until unlock is called; the kernel
// ends it with the process. It fails with a [*LockedError].
func (h *Home) lock(action string) (unlock func(), err error) {
	if err := makeDir(h.dir); err != nil {
		return nil, fmt.Errorf("lock site: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(h.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock site: %w", err)
	}
	mine, err := flock(f)
	for range 5 { // Status holds it for a blink
		if err != nil || mine {
			break
		}
		time.Sleep(20 * time.Millisecond)
		mine, err = flock(f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock site: %w", err)
	}
	if !mine {
		holder := readHolder(f)
		_ = f.Close()
		return nil, holder
	}
	// Who holds it is for people only; the lock is good without.
	if data, err := json.Marshal(h.self(action)); err == nil && f.Truncate(0) == nil {
		_, _ = f.WriteAt(data, 0)
	}
	return func() {
		_ = f.Truncate(0)
		_ = f.Close()
	}, nil
}

func readHolder(f *os.File) *LockedError {
	holder := &LockedError{}
	data := make([]byte, 4096)
	n, _ := f.ReadAt(data, 0)
	if json.Unmarshal(data[:n], holder) != nil {
		return &LockedError{}
	}
	return holder
}

// holder returns who is changing the home, nil for nobody.
func (h *Home) holder() *LockedError {
	f, err := os.Open(filepath.Join(h.dir, "lock"))
	if err != nil {
		return nil
	}
	defer f.Close() // and with it the lock, had it been free
	if mine, err := flock(f); err != nil || mine {
		return nil
	}
	return readHolder(f)
}

// self describes this process.
func (h *Home) self(action string) LockedError {
	host, _ := os.Hostname()
	return LockedError{PID: os.Getpid(), Host: host, Action: action, Since: h.opts.Now().UTC().Truncate(time.Second)}
}
