package layout_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
)

// steps are those of a writer that matter for names: "slot" for the one that says what
// there is, and directories that are flushed. What a disk needs time for is left out.
type steps struct {
	mu     sync.Mutex
	list   []string
	on     bool
	before func(dir string) error // a directory is flushed; nil for nothing
}

func (s *steps) step(c layout.Change) error {
	s.mu.Lock()
	on, before := s.on, s.before
	if on && c.Op == "syncdir" && strings.HasPrefix(c.Name, "blobs/") {
		s.list = append(s.list, c.Name)
	} else if on && c.Op == "create" && strings.HasPrefix(c.Name, "sealift/index") {
		s.list = append(s.list, "slot")
	}
	s.mu.Unlock()
	switch {
	case !on:
		return nil
	case c.Op == "syncdir" && before != nil:
		return before(c.Name)
	case c.Op == "sync" || c.Op == "syncdir":
		return layout.ErrDone
	}
	return nil
}

func countedWriter(t *testing.T) (*layout.Writer, *steps) {
	t.Helper()
	s := &steps{}
	w, err := layout.OpenWriterBefore(t.Context(), t.TempDir(), layout.WriterOptions{}, s.step)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() }) // fails where the test has it fail
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = true
	return w, s
}

func numbered(n, size int) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(n)), make([]byte, size-4)...)
}

// Names are flushed together: once for a directory before the slot that needs them, and
// before, when there is much to lose, be it bytes or names.
func TestNamesAreFlushedTogether(t *testing.T) {
	t.Parallel()
	const dir = "blobs/sha256"
	for _, tt := range []struct {
		name        string
		count, size int
		early       int // flushes before the commit
		late        int // at the commit
	}{
		{"few small", 50, 10, 0, 1},
		{"more than 8 MiB", 20, 1 << 20, 2, 1},
		{"exactly 8 MiB", 7, 1 << 20, 0, 1}, // with the manifest
		{"one large", 1, 9 << 20, 1, 1},
		{"more than 4096", 4100, 4, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, s := countedWriter(t)
			for n := range tt.count {
				push(t, w, "x/y", numbered(n, tt.size))
			}
			if got := len(s.list); got != tt.early {
				t.Errorf("%d flushes before the commit, want %d: %v", got, tt.early, s.list)
			}
			s.list = nil
			root := pushJSON(t, w, ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest})
			if err := w.SetRoot("example.com/shop:1", "", root); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(s.list) < 2 || s.list[0] != dir || s.list[1] != "slot" {
				t.Errorf("commit flushes and writes %v, want %s once and the slot", s.list, dir)
			}
		})
	}
}

// While names are flushed, other blobs get theirs.
func TestFlushHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w, s := countedWriter(t)
	began, let := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	s.before = func(dir string) error {
		if strings.HasPrefix(dir, "blobs/") && first.CompareAndSwap(false, true) {
			close(began)
			<-let
		}
		return layout.ErrDone
	}
	done := make(chan error, 1)
	large := numbered(0, 9<<20)
	go func() { done <- w.Push(t.Context(), describe("x/y", large), bytes.NewReader(large)) }()
	<-began
	push(t, w, "x/y", numbered(1, 10))
	select {
	case err := <-done:
		t.Errorf("Push = %v while its name is flushed", err)
	default:
	}
	close(let)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A directory that could not be flushed once is not trusted when it can be again.
func TestFailedFlushStays(t *testing.T) {
	t.Parallel()
	w, s := countedWriter(t)
	root := pushJSON(t, w, ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest})
	if err := w.SetRoot("example.com/shop:1", "", root); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is broken")
	s.before = func(string) error { return broken }
	for range 3 {
		if err := w.Commit(t.Context()); !errors.Is(err, broken) {
			t.Errorf("Commit = %v, want %v", err, broken)
		}
		s.before = nil
	}
	if _, err := open(t, w.Dir()).Resolve(t.Context(), "example.com/shop:1"); err == nil {
		t.Error("a name is listed whose content may not be there")
	}
}
