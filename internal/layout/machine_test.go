package layout_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealift/sealift/internal/layout"
)

var errCrash = errors.New("crash")

// machine is a computer that fails: from one step of a writer on nothing
// reaches the disk any more, and when the power is gone, what was not synced is
// not sure either.
type machine struct {
	weak    bool // as FAT is
	dir     string
	crashAt int        // the step that fails first, 0 for none
	half    bool       // of a write, half is done
	power   *rand.Rand // decides what a power failure leaves, nil for a kill
	twice   bool       // the power fails later, while the killed writer runs again

	steps   int
	ops     []string          // what each step was
	last    string            // the step that failed
	durable map[string][]byte // what files had at their last sync, of those written since
	pending []pending         // changes of directories that were not synced, in order
}

// pending is a change of a directory, and how to undo it.
type pending struct {
	dir  string
	undo func()
}

func (m *machine) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(m.dir, filepath.FromSlash(name))
}

// before counts a step, fails it, or remembers what it takes to undo it.
func (m *machine) before(c layout.Change) error {
	m.steps++
	m.ops = append(m.ops, c.Op)
	if m.crashAt > 0 && m.steps >= m.crashAt {
		if m.steps == m.crashAt {
			m.last = c.Op + " " + c.Name
			if m.half && c.Op == "write" {
				m.note(c)
				_, err := c.File.Write(c.Data[:len(c.Data)/2])
				return errors.Join(errCrash, err)
			}
		}
		return errCrash
	}
	m.note(c)
	if c.Op == "sync" || c.Op == "syncdir" {
		return layout.ErrDone // the disk of a test need not be safe
	}
	return nil
}

func (m *machine) note(c layout.Change) {
	if m.power == nil {
		return
	}
	name := m.path(c.Name)
	_, err := os.Lstat(name)
	there := err == nil
	switch c.Op {
	case "create":
		if !there {
			m.durable[name] = nil
			m.later(name, func() { os.Remove(name) })
		}
	case "mkdir":
		if !there {
			m.later(name, func() { os.RemoveAll(name) })
		}
	case "write", "truncate":
		if _, ok := m.durable[name]; !ok {
			m.durable[name], _ = os.ReadFile(name)
		}
	case "sync":
		delete(m.durable, name)
	case "remove":
		m.later(name, save(name))
	case "rename":
		to := m.path(c.To)
		restore := save(to)
		m.later(to, func() {
			if os.Rename(to, name) == nil {
				restore()
			}
		})
		for old, content := range m.durable {
			if rest, ok := strings.CutPrefix(old, name); ok {
				delete(m.durable, old)
				m.durable[to+rest] = content
			}
		}
	case "syncdir":
		m.pending = slices.DeleteFunc(m.pending, func(p pending) bool { return p.dir == name })
	}
}

func (m *machine) later(name string, undo func()) {
	m.pending = append(m.pending, pending{dir: filepath.Dir(name), undo: undo})
}

// save remembers a file or directory, and returns what brings it back if it is
// gone.
func save(name string) func() {
	tree := map[string][]byte{}
	_ = filepath.WalkDir(name, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		tree[file], err = os.ReadFile(file)
		return err
	})
	return func() {
		if _, err := os.Lstat(name); err == nil {
			return
		}
		for file, content := range tree {
			_ = os.MkdirAll(filepath.Dir(file), 0o755)
			_ = os.WriteFile(file, content, 0o644)
		}
	}
}

// fail is the power failure: files end early, in zeros or as they were before,
// and changes of directories did not happen, in part or at all.
func (m *machine) fail(t *testing.T) {
	if m.power == nil {
		return
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range m.durable {
			if !yield(name) {
				return
			}
		}
	}) {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // it was removed since
		}
		cut := m.power.IntN(len(content) + 1)
		switch m.power.IntN(4) {
		case 0:
			content = content[:cut]
		case 1:
			clear(content[cut:])
		case 2:
			content = m.durable[name]
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	chance := []int{0, 1, 2}[m.power.IntN(3)] // nothing, half or all of it is undone
	for _, p := range slices.Backward(m.pending) {
		if m.power.IntN(2) < chance {
			p.undo()
		}
	}
}
