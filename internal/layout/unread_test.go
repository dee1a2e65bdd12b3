package layout_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealift/sealift/internal/layout"
)

func TestUnread(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	check := func(l interface{ Unread() (bool, error) }, want bool) {
		t.Helper()
		if got, err := l.Unread(); err != nil || got != want {
			t.Errorf("Unread = %v, %v, want %v", got, err, want)
		}
	}
	w := writer(t, dir)
	commit(t, w)
	name := filepath.Join(dir, "sealift", "unread")
	set := func(unread bool) {
		t.Helper()
		if err := w.SetUnread(t.Context(), unread); err != nil {
			t.Fatalf("SetUnread(%v) = %v", unread, err)
		}
		check(w, unread)
		check(open(t, dir), unread)
	}
	check(w, false)
	for _, unread := range []bool{false, true, true, false, false} {
		set(unread)
	}
	// Whatever is there counts, be it torn, a directory, or a link that leads nowhere;
	// what it leads to stays.
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, []byte("outside"), outside)
	for _, plant := range []func() error{
		func() error { return os.WriteFile(name, nil, 0o644) },
		func() error { return os.MkdirAll(filepath.Join(name, "more"), 0o755) },
		func() error { return os.Symlink("nowhere", name) },
		func() error { return os.Symlink(outside, name) },
	} {
		for _, unread := range []bool{true, false} {
			if err := plant(); err != nil {
				t.Fatal(err)
			}
			check(w, true)
			set(unread)
			remove(t, name)
		}
	}
	if got := string(read(t, outside)); got != "outside" {
		t.Errorf("a file outside is %q", got)
	}
	other := writer(t, t.TempDir())
	commit(t, other)
	if err := other.SetUnread(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	joined, err := layout.Join(w.Layout, other.Layout)
	if err != nil {
		t.Fatal(err)
	}
	check(joined, true)
	closeWriter(t, w)
	for _, unread := range []bool{true, false} {
		if err := w.SetUnread(t.Context(), unread); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("SetUnread(%v) after Close = %v, want %v", unread, err, fs.ErrClosed)
		}
	}
}
