package layout_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"oras.land/oras-go/v2/errdef"
)

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	for _, name := range []string{"START-HERE.txt", "sealift/media.json", "sealift/bin/linux-amd64/sealift"} {
		for _, content := range []string{"long content of " + name, "short", ""} {
			if err := w.WriteFile(t.Context(), name, 0o755, strings.NewReader(content)); err != nil {
				t.Fatal(err)
			}
			got, err := w.ReadFile(name, 1<<10)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(content, string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	info, err := os.Stat(filepath.Join(dir, "sealift", "bin", "linux-amd64", "sealift"))
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o100 == 0 {
		t.Errorf("mode is %v, want an executable file", info.Mode())
	}
	checkNoLeftovers(t, dir)
}

func checkNoLeftovers(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "sealift", "*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A file that could not be written whole leaves the one before.
func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	const name = "sealift/media.json"
	if err := w.WriteFile(t.Context(), name, 0o644, strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	cut := errors.New("cable pulled")
	err := w.WriteFile(t.Context(), name, 0o644, io.MultiReader(strings.NewReader("new"), iotest.ErrReader(cut)))
	if !errors.Is(err, cut) {
		t.Errorf("WriteFile = %v, want %v", err, cut)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.WriteFile(ctx, name, 0o644, strings.NewReader("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteFile = %v, want %v", err, context.Canceled)
	}
	if got := read(t, dir, name); string(got) != "old" {
		t.Errorf("%s is %q, want %q", name, got, "old")
	}
	checkNoLeftovers(t, dir)
	closeWriter(t, w)
	if err := w.WriteFile(t.Context(), name, 0o644, strings.NewReader("new")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("WriteFile after Close = %v, want %v", err, fs.ErrClosed)
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	w := writer(t, t.TempDir())
	for _, name := range []string{
		"", ".", "..", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", `a\b`, "c:x", "a\x00b", "a.", "a /b", "a/..", "sealift/..",
	} {
		if err := w.WriteFile(t.Context(), name, 0o644, strings.NewReader("x")); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("WriteFile(%q) = %v, want %v", name, err, fs.ErrInvalid)
		}
		if _, err := w.ReadFile(name, 10); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("ReadFile(%q) = %v, want %v", name, err, fs.ErrInvalid)
		}
	}
	for _, name := range []string{
		"oci-layout", "index.json", "INDEX.json", "oci-layout/x", "blobs", "blobs/sha256/x", "Blobs/x", "sealift", "Sealift/lock",
		"sealift/index.1.json", "sealift/index.json", "sealift/lock", "sealift/lock.held", "sealift/lock.stale-1", "sealift/unread", "sealift/partial",
		"sealift/partial/x", "sealift/parts/sha256/x", "sealift/x.new", "sealift/x.new/y",
	} {
		if err := w.WriteFile(t.Context(), name, 0o644, strings.NewReader("x")); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("WriteFile(%q) = %v, want %v", name, err, fs.ErrInvalid)
		}
	}
	for _, name := range []string{"sealift/media.json", "sealift/locks", "sealift/partialx", "blobs.txt", "index.json.txt", ".hidden"} {
		if err := w.WriteFile(t.Context(), name, 0o644, strings.NewReader("x")); err != nil {
			t.Errorf("WriteFile(%q) = %v", name, err)
		}
	}
}

func TestReadFileErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	write(t, []byte("0123456789"), dir, "ten")
	if got, err := w.ReadFile("ten", 10); err != nil || len(got) != 10 {
		t.Errorf("ReadFile of 10 bytes = %q, %v", got, err)
	}
	if _, err := w.ReadFile("ten", 9); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("ReadFile over the limit = %v, want %v", err, errdef.ErrSizeExceedsLimit)
	}
	if _, err := w.ReadFile("none", 9); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile = %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := w.ReadFile("sealift", 9); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadFile of a directory = %v, want %v", err, fs.ErrInvalid)
	}
	if runtime.GOOS == "windows" {
		return // making symbolic links needs a privilege there
	}
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, []byte("secret"), secret)
	if err := errors.Join(os.Symlink(secret, filepath.Join(dir, "link")), os.Symlink(filepath.Dir(secret), filepath.Join(dir, "dir"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dir/secret"} {
		if got, err := w.ReadFile(name, 10); err == nil {
			t.Errorf("ReadFile(%s) = %q, it followed a link out of the layout", name, got)
		}
	}
	if err := w.WriteFile(t.Context(), "dir/x", 0o644, strings.NewReader("x")); err == nil {
		t.Error("WriteFile followed a link out of the layout")
	}
	if err := w.WriteFile(t.Context(), "link", 0o644, strings.NewReader("mine")); err != nil {
		t.Errorf("WriteFile over a link: %v", err)
	}
	if got := read(t, secret); string(got) != "secret" {
		t.Errorf("the file a link led to holds %q", got)
	}
}

func TestWriteFileConcurrently(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			content := strings.Repeat(string(rune('a'+i)), 100_000)
			if err := w.WriteFile(t.Context(), "sealift/media.json", 0o644, iotest.HalfReader(strings.NewReader(content))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := read(t, dir, "sealift", "media.json")
	if len(got) != 100_000 || strings.Trim(string(got), string(got[:1])) != "" {
		t.Errorf("the file is a mixture: %.20q…, %d bytes", got, len(got))
	}
}

func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	closeWriter(t, writer(t, dir))
	write(t, []byte("half"), dir, "sealift", "0123456789abcdef.new")
	write(t, []byte("x"), dir, "sealift", "full.new", "x") // no file of ours: it stays
	closeWriter(t, writer(t, dir))
	left, err := filepath.Glob(filepath.Join(dir, "sealift", "*.new"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "sealift", "full.new")}, left); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
}
