package site

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sealift/sealift/internal/target"
)

// Holder describes the process that changes a home.
type Holder struct {
	PID    int       `json:"pid"`
	Host   string    `json:"host"`
	Action Action    `json:"action"`
	Since  time.Time `json:"since"`
}

// lock makes the home this process's own until unlock is called; the kernel
// ends it with the process. It fails with a [*LockedError].
func (h *Home) lock(ctx context.Context, action Action) (unlock func(), err error) {
	if err := makeDir(h.dir); err != nil {
		return nil, fmt.Errorf("lock site: %w", err)
	}
	if err := checkOwner(h.dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(h.dir, "lock"), os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock site: %w", err)
	}
	mine, err := patiently(ctx, f)
	if err == nil && !mine && h.orphaned(readHolder(f)) {
		h.opts.Report(target.Event{Type: target.EventNote, Message: "waiting for what an interrupted sealift started"})
		mine, err = outlast(ctx, f)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock site: %w", err)
	}
	if !mine {
		holder := readHolder(f)
		_ = f.Close()
		return nil, &LockedError{holder}
	}
	// The programs started from here hold the lock with this process: killed
	// alone, it must not leave them at work beside the next change.
	if err := inherit(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock site: %w", err)
	}
	// Who holds it is for people only; the lock is good without.
	if data, err := json.Marshal(h.self(action)); err == nil && f.Truncate(0) == nil {
		_, _ = f.WriteAt(data, 0)
	}
	return func() {
		_ = f.Truncate(0)
		unlockFile(f)
		_ = f.Close()
	}, nil
}

// orphaned reports whether holder is a process of this host that has ended, so
// that only what it started can hold the lock still.
func (h *Home) orphaned(holder Holder) bool {
	host, err := os.Hostname()
	return err == nil && holder.PID > 0 && holder.Host == host && !alive(holder.PID)
}

// outlast waits up to two minutes for the lock on f.
func outlast(ctx context.Context, f *os.File) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		if mine, err := patiently(ctx, f); mine || err != nil {
			if ctx.Err() == context.DeadlineExceeded {
				return false, nil
			}
			return mine, err
		}
	}
}

// patiently takes the lock on f, trying again for a moment: Status holds it for a
// blink.
func patiently(ctx context.Context, f *os.File) (bool, error) {
	const tries, pause = 5, 20 * time.Millisecond
	for range tries {
		if mine, err := flock(f); mine || err != nil {
			return mine, err
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	return flock(f)
}

// readHolder returns what the holder of f wrote there, nothing when it has not.
func readHolder(f *os.File) Holder {
	var holder Holder
	data := make([]byte, 4096)
	n, _ := f.ReadAt(data, 0)
	if json.Unmarshal(data[:n], &holder) != nil {
		return Holder{}
	}
	return holder
}

// holder returns who is changing the home; held is false for nobody.
func (h *Home) holder() (holder Holder, held bool) {
	f, err := os.Open(filepath.Join(h.dir, "lock"))
	if err != nil {
		return Holder{}, false
	}
	defer f.Close() // and with it the lock, had it been free
	if mine, err := flock(f); err != nil || mine {
		return Holder{}, false
	}
	holder = readHolder(f)
	return holder, !h.orphaned(holder)
}

// self describes this process.
func (h *Home) self(action Action) Holder {
	host, _ := os.Hostname()
	return Holder{PID: os.Getpid(), Host: host, Action: action, Since: h.opts.Now().UTC().Truncate(time.Second)}
}
