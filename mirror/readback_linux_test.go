package mirror_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/sealift/sealift/mirror"
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

// looking counts the pages that are in memory of what is read, at the first bytes.
type looking struct {
	watcher
	t    *testing.T
	dir  string
	once sync.Map // by digest
	most float64  // of large content, as a share
}

func (l *looking) Advance(desc ocispec.Descriptor, n int64) {
	l.watcher.Advance(desc, n)
	if _, seen := l.once.LoadOrStore(desc.Digest, true); seen || desc.Size < 16*mega {
		return
	}
	cached, all := cachedPages(l.t, blobPath(l.dir, desc.Digest))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = max(l.most, float64(cached)/float64(all))
}

// What is read back has left the memory it was written from before it is read, and
// is not there afterwards: the next who asks has it from the device too.
func TestReadBackIsOfTheDevice(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.TMPFS_MAGIC {
		t.Skipf("%s is on tmpfs, which is memory: there is no device to read from", dir)
	}
	lots(src, 16*mega, 24*mega, 100)
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	p := plan(t, media, item(src, "1"))
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, steps := range [][]mirror.Step{p.Blobs, p.Manifests} {
		for _, s := range steps {
			path := blobPath(dir, s.Descriptor.Digest)
			if _, err := os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
			cached, all := cachedPages(t, path)
			if cached < (all+1)/2 {
				t.Skipf("%d of %d pages are in memory after reading: the machine is short of it", cached, all)
			}
			files = append(files, path)
		}
	}
	look := &looking{t: t, dir: dir}
	if _, err := media.ReadBack(t.Context(), p, look); err != nil {
		t.Fatal(err)
	}
	// The kernel reads ahead, but not all of it.
	if look.most == 0 || look.most > 0.75 {
		t.Errorf("%.0f %% of a layer are in memory when it begins to be read, want what was read ahead", 100*look.most)
	}
	for _, path := range files {
		if cached, all := cachedPages(t, path); cached > all/100 {
			t.Errorf("%d of %d pages of %s are in memory afterwards, want none", cached, all, path)
		}
	}
}

// dying kills its own process when a reading back begins.
type dying struct{ watcher }

func (*dying) Begin(_, _ mirror.Amount) { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// A copy that is killed as it begins to read back leaves media that says so, and the
// next reads all of it; then it has the very same files as media that nobody killed.
func TestKilledWhileReadingBack(t *testing.T) {
	src := newStore(t)
	src.tag(src.image("image", nil, src.layer("one"), src.layer("two")), "1")
	if dir := os.Getenv("SEALIFT_TEST_KILLED"); dir != "" {
		media := openMedia(t, dir)
		_, err := media.ReadBack(t.Context(), copyUnread(t, media, src, "1"), &dying{})
		t.Fatalf("ReadBack = %v, want to be killed", err)
	}
	dir, sound := t.TempDir(), t.TempDir()
	media := openMedia(t, sound)
	if _, err := media.ReadBack(t.Context(), copyUnread(t, media, src, "1"), nil); err != nil {
		t.Fatal(err)
	}
	closeMedia(t, media)

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), "SEALIFT_TEST_KILLED="+dir)
	out, err := child.CombinedOutput()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ends with %v, want to be killed\n%s", err, out)
	}
	if !noted(t, dir) {
		t.Error("media does not say that nobody has read it back")
	}
	media = openMedia(t, dir)
	p := plan(t, media, item(src, "1"))
	if sum := p.Summary(); sum.Copied.Blobs != 0 {
		t.Errorf("the next copies %d blobs, want none", sum.Copied.Blobs)
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if read, err := media.ReadBack(t.Context(), p, nil); err != nil || read.Blobs != 4 {
		t.Errorf("ReadBack = %+v, %v, want all 4", read, err)
	}
	closeMedia(t, media)
	diff, err := exec.CommandContext(t.Context(), "diff", "-r", sound, dir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(diff)) != "" {
		t.Errorf("the media differ from media that nobody killed: %v\n%s", err, diff)
	}
}
