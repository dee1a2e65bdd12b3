package layout_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sealift/sealift/internal/layout"
)

// cachedPages asks the kernel how many of a file's pages are in memory.
func cachedPages(t *testing.T, name string) (cached, all int) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	pages := make([]byte, (len(mapped)+os.Getpagesize()-1)/os.Getpagesize())
	_, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(len(mapped)), uintptr(unsafe.Pointer(&pages[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		cached += int(p & 1)
	}
	return cached, len(pages)
}

// What is read back after it was written comes from the device, and leaves
// nothing in memory.
func TestFetchUncached(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int64{"one file": 0, "segments": 10 << 20} {
		dir := t.TempDir()
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Type == unix.TMPFS_MAGIC {
			t.Skipf("%s is on tmpfs, which is memory: there is no device to read from", dir)
		}
		w := segmented(t, dir, limit)
		blob := noise(32 << 20)
		desc := push(t, w, "x/y", blob)
		files, err := filepath.Glob(filepath.Join(dir, "sealift", "parts", "*", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		if limit == 0 {
			files = []string{w.BlobPath(desc.Digest)}
		}
		fetch(t, w, desc)
		cached, all := cachedPages(t, files[0])
		if cached < all/2 {
			t.Skipf("%d of %d pages are cached after reading: the machine is short of memory", cached, all)
		}
		rc, err := w.FetchUncached(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		if cached, _ := cachedPages(t, files[0]); cached > all/100 {
			t.Errorf("%s: %d of %d pages are cached after FetchUncached, want none", name, cached, all)
		}
		// What was read is gone again; what the kernel read ahead may be there.
		if _, err := io.CopyN(io.Discard, rc, 8<<20); err != nil {
			t.Fatal(err)
		}
		if cached, _ := cachedPages(t, files[0]); cached > all*6/8 {
			t.Errorf("%s: %d of %d pages are cached after reading 8 MiB", name, cached, all)
		}
		n, err := io.Copy(io.Discard, rc)
		if err = errors.Join(err, rc.Close()); err != nil || n != 24<<20 {
			t.Errorf("%s: read %d bytes more, %v", name, n, err)
		}
		for _, f := range files {
			if cached, all := cachedPages(t, f); cached > all/100 {
				t.Errorf("%s: %d of %d pages of %s are cached at the end", name, cached, all, filepath.Base(f))
			}
		}
	}
}

// What says which content there is comes from the device too.
func TestOpenUncached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		t.Skipf("%s is on tmpfs, which is memory: there is no device to read from", dir)
	}
	w := writer(t, dir)
	desc := push(t, w, ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	err := errors.Join(w.SetRoot("registry.example.com/app:1", "app-1", desc), w.SetLabel(t.Context(), layout.Label{Tool: "x"}), w.Commit(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	slots, err := filepath.Glob(filepath.Join(dir, "sealift", "index.*.json"))
	if err != nil || len(slots) == 0 {
		t.Fatalf("slots: %v, %v", slots, err)
	}
	names := append(slots, filepath.Join(dir, "index.json"), filepath.Join(dir, "oci-layout"), filepath.Join(dir, "sealift", "media.json"))
	for _, name := range names {
		read(t, name)
	}
	if err := layout.DropIndex(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if cached, _ := cachedPages(t, name); cached > 0 {
			t.Errorf("%d pages of %s are in memory", cached, filepath.Base(name))
		}
	}
	l, err := layout.OpenUncached(dir)
	if err != nil || len(l.Roots()) != 1 {
		t.Errorf("OpenUncached: %v", err)
	}
}
