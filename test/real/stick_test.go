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
		if r.code != 0 && !strings.Contains(r.stderr, `"::/media/`+part+`" not found`) {
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
	c.fails(t, 14, []string{"nothing finished is on"}, "sealift", "verify", "-q", usb.look(t), "--key", c.pub)
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

// repair does what a computer offers to do when a stick is put in that was pulled.
// FAT has no journal: without it what is written next may land in what is there.
func (s stick) repair(t testing.TB) {
	t.Helper()
	// 1 is fsck's word for what it has mended.
	if r := s.try(t, "fsck.vfat", "-a", s.file); r.code > 1 {
		t.Fatalf("%s: exit status %d\n%s%s", r.command, r.code, r.stdout, r.stderr)
	}
}

// TestStickPulled pulls a stick in mid-write, again and again, turns the machine
// off in mid-write too, and lets the next one finish.
func TestStickPulled(t *testing.T) {
	c := newCarrying(t)
	usb := newStick(t, c.vendor, "128M")
	first := []string{"sealift", "verify", "-q", "", "--key", c.pub}
	m := newMachine(t, c.kernel, c.initrd, map[string]string{"usb": usb.file})
	empty := usb.reached(t)
	for _, mebibytes := range []int64{2, 11, 19} {
		m.plug(t, "usb")
		m.until(t, "bytes on the stick", func() bool { return usb.reached(t)-empty >= mebibytes<<20 })
		m.pull(t)
		if m.said("/first: exit 0") > 0 {
			t.Fatalf("the stick was pulled too late:\n%s", m.log)
		}
		// What has arrived of it may be known to the stick or not; nothing of it is named.
		if r := c.try(t, "sealift", "verify", "-q", usb.look(t), "--key", c.pub); r.code != 11 && r.code != 14 || !strings.Contains(r.stderr, "nothing ") {
			t.Errorf("%s: exit status %d\n%s%s", r.command, r.code, r.stdout, r.stderr)
		}
		usb.repair(t)
	}
	m.plug(t, "usb")
	m.waitFor(t, "/first: exit 0", 1)
	complete := usb.reached(t)
	m.until(t, "bytes of the second release", func() bool { return usb.reached(t)-complete >= 1<<20 })
	m.pull(t)
	first[3] = usb.look(t) + "//" + usb.ref + ":1.0.0"
	c.run(t, first...)
	usb.repair(t)

	m.plug(t, "usb")
	m.waitFor(t, "/first: exit 0", 2)
	m.until(t, "more of the second release", func() bool { return usb.reached(t)-complete >= 3<<20 })
	m.kill()
	first[3] = usb.look(t) + "//" + usb.ref + ":1.0.0"
	c.run(t, first...)
	if m.said("/second: exit 0") > 0 || m.said("stick: in") != 5 {
		t.Errorf("the machine was not interrupted five times:\n%s", m.log)
	}
	t.Logf("the first machine says:\n%s", m.log)
	usb.repair(t)

	m = newMachine(t, c.kernel, c.initrd, map[string]string{"usb": usb.file})
	m.plug(t, "usb")
	m.waitFor(t, "stick: unmounted", 1)
	m.pull(t)
	t.Logf("the second machine says:\n%s", m.log)
	c.complete(t, usb)
}
