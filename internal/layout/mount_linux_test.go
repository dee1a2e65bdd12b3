package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
)

func init() {
	children["full"] = fullDiskChild
	children["read-only"] = readOnlyChild
	children["fifo"] = fifoChild
}

// inNamespace runs a child that may mount what it likes, unseen by others.
func inNamespace(t *testing.T, name string) {
	t.Helper()
	cmd := child(t, name, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	switch {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EINVAL):
		t.Skipf("no user namespaces here: %v", err)
	case strings.Contains(text, errMount.Error()):
		t.Skipf("a small disk cannot be mounted here: %s", text)
	case err != nil:
		t.Fatalf("%v: %s", err, text)
	}
}

var errMount = errors.New("cannot mount")

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("%w: %w", errMount, err)
	}
	return nil
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	inNamespace(t, "full")
}

// fullDiskChild fills a disk of 1 MiB, finds what fits kept, and goes on from
// there when there is room.
func fullDiskChild(dir string) error {
	if err := mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return err
	}
	ctx := context.Background()
	w, err := layout.OpenWriter(ctx, dir)
	if err != nil {
		return err
	}
	desc := describe("x/y", blob)
	src := &source{content: blob}
	if err := w.Ingest(ctx, desc, src.open); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("Ingest = %v, want %v", err, syscall.ENOSPC)
	}
	if _, err := layout.Open(dir); err != nil {
		return fmt.Errorf("Open of a full disk: %w", err)
	}
	if err := w.AddUntagged(desc); err != nil {
		return err
	}
	if err := mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m"); err != nil {
		return err
	}
	if err := w.Ingest(ctx, desc, src.open); err != nil {
		return err
	}
	if len(src.offsets) != 2 || src.offsets[1] < 512<<10 {
		return fmt.Errorf("content asked for from %v, want the second time from where the disk was full", src.offsets)
	}
	if ok, err := w.Exists(ctx, desc); err != nil || !ok {
		return fmt.Errorf("Exists = %v, %v, want true", ok, err)
	}
	return errors.Join(w.Commit(ctx), w.Close())
}

func TestReadOnlyMedia(t *testing.T) {
	t.Parallel()
	inNamespace(t, "read-only")
}

func readOnlyChild(dir string) error {
	if err := mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		return err
	}
	ctx := context.Background()
	w, err := layout.OpenWriter(ctx, dir)
	if err != nil {
		return err
	}
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	desc := describe("application/vnd.oci.image.index.v1+json", raw)
	if err := errors.Join(w.Push(ctx, desc, bytes.NewReader(raw)), w.SetRoot(oneName, "", desc), w.Commit(ctx), w.Close()); err != nil {
		return err
	}
	if err := mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	l, err := layout.Open(dir)
	if err != nil {
		return err
	}
	if _, err := l.Repository("registry.example.com/a/one").Resolve(ctx, "1.0.0"); err != nil {
		return err
	}
	if _, err := layout.OpenWriter(ctx, dir); !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("OpenWriter = %v, want %v", err, syscall.EROFS)
	}
	return nil
}

// A named pipe in place of a file would block whoever opens it for ever.
func TestNamedPipes(t *testing.T) {
	t.Parallel()
	if out, err := child(t, "fifo", t.TempDir()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func fifoChild(dir string) error {
	ctx := context.Background()
	w, err := layout.OpenWriter(ctx, dir)
	if err != nil {
		return err
	}
	desc := describe("x/y", blob)
	if err := os.MkdirAll(dir+"/sealift/partial/sha256", 0o755); err != nil {
		return err
	}
	empty := describe("x/y", nil) // a pipe has the size of an empty blob
	for _, name := range []string{w.BlobPath(empty.Digest), w.BlobPath(desc.Digest), partialPath(dir, desc.Digest), dir + "/sealift/index.7.json", dir + "/sealift/index.json.new"} {
		if err := syscall.Mkfifo(name, 0o644); err != nil {
			return err
		}
	}
	for _, d := range []ocispec.Descriptor{empty, desc} {
		if rc, err := w.Fetch(ctx, d); err == nil {
			return errors.Join(errors.New("Fetch opened a named pipe"), rc.Close())
		}
	}
	if err := w.Ingest(ctx, desc, (&source{content: blob}).open); err != nil {
		return err
	}
	if err := errors.Join(w.AddUntagged(desc), w.Commit(ctx), w.Close()); err != nil {
		return err
	}
	_, err = layout.Open(dir)
	return err
}
