//go:build real

package real

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stick is the file of a USB stick with FAT32, looked into from outside of the
// machine.
type stick struct {
	*vendor
	file string
	ref  string // of the shop, without a tag
}

func newStick(t testing.TB, v *vendor, size string) stick {
	t.Helper()
	s := stick{v, filepath.Join(t.TempDir(), "usb.img"), v.registry + "/shop"}
	s.run(t, "truncate", "-s", size, s.file)
	s.run(t, "mkfs.vfat", "-F", "32", "-s", "2", s.file)
	return s
}

// reached is how many bytes have reached the stick since it was made, the empty
// file system included.
func (s stick) reached(t testing.TB) int64 {
	t.Helper()
	info, err := os.Stat(s.file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// look copies what is on the stick, but for what has only begun to arrive there,
// and returns where its media are then. Every blob is whole, whatever happened to
// the stick.
func (s stick) look(t testing.TB) (media string) {
	t.Helper()
	media = filepath.Join(t.TempDir(), "media")
	s.run(t, "mkdir", "-p", media+"/sealift")
	for part, to := range map[string]string{"oci-layout": "", "index.json": "", "blobs": "", "sealift/index.*": "sealift"} {
		r := s.try(t, "mcopy", "-s", "-i", s.file, "::/media/"+part, filepath.Join(media, to))
		if r.code != 0 && !strings.Contains(r.stderr, "not found") && !strings.Contains(r.stderr, "No match") {
			t.Errorf("%s: exit status %d\n%s", r.command, r.code, r.stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(media, "blobs")); err == nil {
		checkBlobs(t, media)
	}
	return media
}

// carrying is what the sticks of this file carry, and the machine they do it with.
type carrying struct {
	*vendor
	kernel, initrd string
	want           string // media that hold what the machine mirrors
}

func newCarrying(t testing.TB) *carrying {
	t.Helper()
	needRoot(t, "docker-registry", "curl", "diff")
	kernel := needMachine(t)
	c := &carrying{vendor: newVendor(t, shell{}), kernel: kernel}
	shop, _ := c.publish(t, "1.0.0")
	shop11, _ := c.publish(t, "1.1.0")
	first, second := c.mirror(t, shop), c.mirror(t, shop, shop11)
	c.want = c.mirror(t, first)
	c.run(t, "sealift", "mirror", "-q", second, c.want)
	c.initrd = newInitrd(t, kernel, map[string]string{"first": first, "second": second})
	return c
}

// complete fails unless the stick carries everything, and nothing else.
func (c *carrying) complete(t testing.TB, s stick) {
	t.Helper()
	media := s.look(t)
	sameMedia(t, c.shell, c.want, media)
	c.run(t, "sealift", "verify", "-q", media, "--key", c.pub)
}

// TestStickFull mirrors to a real stick without the room for it, and makes room.
func TestStickFull(t *testing.T) {
	c := newCarrying(t)
	usb := newStick(t, c.vendor, "80M")
	c.run(t, "sh", "-c", `head -c 56M /dev/zero | mcopy -i "$0" - ::/ballast`, usb.file)
	m := newMachine(t, c.kernel, c.initrd, map[string]string{"usb": usb.file})
	m.plug(t, "usb")
	m.waitFor(t, "stick: unmounted", 1)
	m.pull(t)
	if m.said("/first: exit 14") != 1 || m.said("no space left on device") != 1 || m.said("sealift: hint: make room") != 1 {
		t.Errorf("the machine does not say what is wrong with the full stick:\n%s", m.log)
	}
	c.fails(t, 11, nil, "sealift", "verify", "-q", usb.look(t), "--key", c.pub)
	c.run(t, "mdel", "-i", usb.file, "::/ballast")
	m.plug(t, "usb")
	m.waitFor(t, "stick: unmounted", 2)
	m.pull(t)
	c.complete(t, usb)
	if out := c.run(t, "mdir", "-b", "-/", "-i", usb.file, "::/media/sealift"); strings.Contains(out, "partial") {
		t.Errorf("left after the last run:\n%s", out)
	}
	t.Logf("the machine says:\n%s", m.log)
}
