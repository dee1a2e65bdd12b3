//go:build real

package real

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// faulty is a disk that can be broken and healed while it is mounted: then it
// answers what reaches it, past all caches, with an I/O error.
type faulty struct {
	*disk
	dir string // of the switches
}

const (
	reading = "pread"
	writing = "pwrite"
)

// newFaulty makes a file system on a disk that can be broken, and mounts it.
func (b *bench) newFaulty(t testing.TB, fs fileSystem) *faulty {
	t.Helper()
	need(t, "nbdkit", "nbdfuse", "dd", "fincore")
	f := &faulty{b.newImage(t, fs), t.TempDir()}
	device := t.TempDir()
	argv := []string{"nbdfuse", device, "--command", "nbdkit", "-s", "--exit-with-parent", "--filter=error", "file", f.from}
	for _, op := range []string{reading, writing} {
		argv = append(argv, "error-"+op+"=EIO", "error-"+op+"-rate=100%", "error-"+op+"-file="+filepath.Join(f.dir, op))
	}
	f.from = filepath.Join(device, "nbd")
	f.start(t, argv...).await(t, f.shell, "test", "-f", f.from)
	f.mount(t, false)
	t.Cleanup(func() { f.heal(t) }) // before it is unmounted
	return f
}

// fail breaks the disk for operations.
func (f *faulty) fail(t testing.TB, operations ...string) {
	t.Helper()
	for _, op := range operations {
		if err := os.WriteFile(filepath.Join(f.dir, op), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// heal makes the disk work again.
func (f *faulty) heal(t testing.TB) {
	t.Helper()
	for _, op := range []string{reading, writing} {
		if err := os.Remove(filepath.Join(f.dir, op)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// forget makes the kernel drop what it remembers of a file, from an offset in MiB
// on and as much as is read ahead, and of all the device below it. It may keep what is
// in use at the moment; then the disk is taken out and put in again.
func (f *faulty) forget(t testing.TB, path string, mebibytes int64) {
	t.Helper()
	drop := func() {
		f.run(t, "dd", "if="+f.from, "iflag=nocache", "count=0", "status=none")
	}
	for range 20 {
		f.run(t, "dd", "if="+path, "iflag=nocache", "bs=1M", fmt.Sprintf("skip=%d", mebibytes), "count=0", "status=none")
		drop()
		if f.cached(t, path) <= mebibytes<<20 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 5 {
		f.unmount(t)
		drop()
		f.mount(t, false)
		// All the rest is remembered again.
		f.run(t, "sh", "-c", `find "$0" -type f ! -path "$1" -exec cat {} + >/dev/null; stat "$1" >/dev/null`, f.media, path)
		f.run(t, "dd", "if="+path, "of=/dev/null", "bs=1M", fmt.Sprintf("count=%d", mebibytes), "status=none")
		if f.cached(t, path) <= (mebibytes+1)<<20 {
			return
		}
	}
	t.Fatalf("the kernel does not forget %s", path)
}

// cached returns how many bytes of a file are in memory.
func (f *faulty) cached(t testing.TB, path string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(f.run(t, "fincore", "--bytes", "--noheadings", "--output", "RES", path), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWriteErrors breaks each kind of disk in mid-copy, and puts it in again.
func TestWriteErrors(t *testing.T) {
	needRoot(t)
	d := newDelivery(t)
	for _, fs := range fileSystems {
		if fs.fresh {
			continue
		}
		t.Run(fs.name, func(t *testing.T) {
			f := d.newFaulty(t, fs)
			f.run(t, "sealift", "mirror", "-q", d.first, f.media)
			mirror := []string{"sealift", "mirror", "-q", d.second, d.web, f.media}
			limit := d.line.sent.Load() + 3<<20
			p := f.start(t, mirror...)
			for d.line.sent.Load() < limit {
				time.Sleep(time.Millisecond)
			}
			f.fail(t, reading, writing)
			select {
			case <-p.done:
			case <-time.After(patience):
				t.Fatalf("mirror does not end: %s", p.log)
			}
			said, code := p.log.String(), p.cmd.ProcessState.ExitCode()
			if code != 14 || !strings.Contains(said, "sealift: hint:") || strings.Contains(said, "do not use this copy") ||
				!strings.Contains(said, "input/output error") && !strings.Contains(said, "read-only file system") {
				t.Errorf("mirror to a broken disk: exit status %d, want 14, an error of the disk and a hint to go on:\n%s", code, said)
			}
			if r := f.try(t, mirror...); r.code == 0 {
				t.Errorf("%s: succeeds on a broken disk", r.command)
			}
			f.heal(t)
			f.remount(t, false)
			checkBlobs(t, f.seen(f.media))
			f.run(t, "sealift", "verify", "-q", f.media+"//"+d.line.address+"/shop:1.0.0", "--key", d.pub)
			f.run(t, mirror...)
			f.remount(t, true)
			d.verified(t, f.disk)
			d.same(t, d.copied, f.disk)
		})
	}
}

// TestReadErrors breaks a disk while it is read.
func TestReadErrors(t *testing.T) {
	needRoot(t)
	d := newDelivery(t)
	f := d.newFaulty(t, fileSystems[0])
	f.run(t, "sealift", "mirror", "-q", d.first, f.media)
	redis := readManifest(t, d.firstCopy, componentImages(t, d.vendor.shell, d.first)["db"])
	layer := readManifest(t, d.firstCopy, redis.Manifests[0].Digest).Layers[0].Digest
	verify := []string{"sealift", "verify", "-q", f.media, "--key", d.pub}

	t.Run("verify", func(t *testing.T) {
		for _, lost := range []string{layer, redis.Manifests[0].Digest, d.digest} {
			f.run(t, verify...)
			f.forget(t, blob(f.media, lost), 0)
			f.fail(t, reading)
			f.fails(t, 12, []string{lost, "sealift: hint:"}, verify...)
			f.heal(t)
			f.run(t, verify...)
		}
	})
	t.Run("index", func(t *testing.T) {
		// The slot is read in its place; other programs do not know of it.
		f.forget(t, f.media+"/index.json", 0)
		f.fail(t, reading)
		f.fails(t, 12, []string{"index.json of ", "sealift: hint: all else is sound"}, verify...)
		f.run(t, "sealift", "inspect", "-q", f.media)
		f.heal(t)
		f.run(t, verify...)
	})
	t.Run("serve", func(t *testing.T) { d.cut(t, f, layer) })
	t.Run("mend", func(t *testing.T) {
		// Sectors that cannot be read do not keep others from being written.
		f.run(t, verify...)
		f.forget(t, blob(f.media, layer), 0)
		f.fail(t, reading)
		f.fails(t, 12, []string{"1 unreadable", layer, "sealift verify DIR --repair SRC"}, verify...)
		mend := []string{"sealift", "mirror", "-q", "--check", d.first, f.media}
		// What was written cannot be read back either, and nobody is told that the
		// disk can go.
		f.fails(t, 12, []string{"read back: ", "1 unreadable", "take another one"}, mend...)
		f.run(t, append(mend, "--no-readback")...)
		f.heal(t)
		f.remount(t, false)
		f.run(t, mend...) // what was not read back is read back now
		f.remount(t, true)
		d.verified(t, f.disk)
		d.same(t, d.firstCopy, f.disk)
	})
}

// cut lets the disk fail below serve. A client must notice, and never be given
// wrong bytes; and what could not be read once is not held against the disk.
func (d *delivery) cut(t *testing.T, f *faulty, layer string) {
	want, err := os.ReadFile(blob(d.firstCopy, layer))
	if err != nil {
		t.Fatal(err)
	}
	const sound = 4 // MiB that are not forgotten
	if len(want) < (sound+2)<<20 {
		t.Fatalf("the layer has %d bytes, too few for this test", len(want))
	}
	address := freeAddress(t)
	p := f.start(t, "sealift", "serve", f.media, "--listen", address)
	defer p.stop()
	p.await(t, f.shell, "curl", "-fsS", "http://"+address+"/v2/")
	got := filepath.Join(t.TempDir(), "got")
	get := []string{"curl", "-sS", "-o", got, "-w", "%{http_code}", "http://" + address + "/v2/shop/blobs/" + layer}
	for _, known := range []bool{false, true} {
		f.run(t, "cat", blob(f.media, layer)) // into the cache
		f.forget(t, blob(f.media, layer), sound)
		f.fail(t, reading)
		// 18 is curl's word for a transfer that ended early.
		f.fails(t, 18, nil, get...)
		part, err := os.ReadFile(got)
		if err != nil || len(part) == 0 || len(part) >= len(want) || !bytes.Equal(part, want[:len(part)]) {
			t.Errorf("known good %t: %d bytes, %v, want a part of the %d", known, len(part), err, len(want))
		}
		if !known {
			// A part of what nobody has read is not sent at all.
			if code := f.run(t, append(get, "--range", "0-99")...); code != "500" {
				t.Errorf("a range of what cannot be read: status %s, want 500", code)
			}
		}
		f.heal(t)
		if code := f.run(t, get...); code != "200" {
			t.Errorf("after healing: status %s, want 200", code)
		}
		if whole, err := os.ReadFile(got); err != nil || !bytes.Equal(whole, want) {
			t.Errorf("after healing: %d bytes, %v, want the %d of the layer", len(whole), err, len(want))
		}
	}
	if said := p.log.String(); !strings.Contains(said, "input/output error") || !strings.Contains(said, layer) {
		t.Errorf("serve does not say what cannot be read:\n%s", said)
	}
}
