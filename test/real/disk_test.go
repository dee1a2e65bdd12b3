//go:build real

package real

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// bench is where disks are mounted: nobody else sees its mounts, and they vanish
// with the last process on it. Its network is the machine's.
type bench struct{ shell }

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{}
	b.pid = hold(t, "--mount", "sh", "-c", ready)
	return b
}

// seen is where this process sees a path of the bench.
func (b *bench) seen(path string) string {
	return filepath.Join("/proc", strconv.Itoa(b.pid), "root", path)
}

// fileSystem is one that people carry things on.
type fileSystem struct {
	name   string
	needs  []string // programs
	size   string   // of the file it is made in
	format []string // makes it, with that file as a further argument
	// write and read are the FUSE programs that mount it, in the foreground, where
	// the kernel does not. They take what is mounted and the place. nil: mount(8).
	write, read []string
	// fresh says that files are only ever written from their beginning there:
	// fusefat breaks one that is continued behind a whole cluster. What a FAT
	// really does with an interrupted copy is TestStick's part.
	fresh bool
	// device says that the FUSE program wants a block device.
	device bool
}

// fileSystems can be written to. The sizes are the smallest that mkfs takes, or
// leave room for the shop.
var fileSystems = []fileSystem{
	{name: "ext4", needs: []string{"mkfs.ext4"}, size: "128M", format: []string{"mkfs.ext4", "-q"}},
	{name: "xfs", needs: []string{"mkfs.xfs"}, size: "300M", format: []string{"mkfs.xfs", "-q"}},
	{name: "btrfs", needs: []string{"mkfs.btrfs"}, size: "192M", format: []string{"mkfs.btrfs", "-q"}},
	{name: "FAT32", needs: []string{"mkfs.vfat", "fusefat"}, size: "128M", format: []string{"mkfs.vfat", "-F", "32"}, fresh: true,
		write: []string{"fusefat", "-f", "-s", "-o", "rw+"}, read: []string{"fusefat", "-f", "-s", "-o", "ro"}},
	// mount.exfat-fuse stays in the foreground only to tell each of its steps.
	{name: "exFAT", needs: []string{"mkfs.exfat", "mount.exfat-fuse"}, size: "128M", format: []string{"mkfs.exfat"}, device: true,
		write: []string{"sh", "-c", `exec mount.exfat-fuse -d "$@" >/dev/null 2>&1`, "sh"},
		read:  []string{"sh", "-c", `exec mount.exfat-fuse -d -o ro "$@" >/dev/null 2>&1`, "sh"}},
}

// disk is a file system in a file, or on something that can be broken.
type disk struct {
	fileSystem
	*bench
	from   string // what is mounted
	at     string // where, on the bench
	media  string // a directory on it
	server *process
	whole  testing.TB // the test that it lasts for, whichever part of it takes it out
}

// newDisk makes a file system and mounts it.
func (b *bench) newDisk(t testing.TB, fs fileSystem) *disk {
	t.Helper()
	d := b.newImage(t, fs)
	d.mount(t, false)
	return d
}

// newImage makes a file system that is not mounted yet.
func (b *bench) newImage(t testing.TB, fs fileSystem) *disk {
	t.Helper()
	need(t, append(fs.needs, "truncate", "losetup", "mountpoint", "umount")...)
	image := filepath.Join(t.TempDir(), "disk.img")
	b.run(t, "truncate", "-s", fs.size, image)
	b.run(t, append(fs.format[:len(fs.format):len(fs.format)], image)...)
	return b.insert(t, fs, image)
}

// insert returns the disk in an image that is there.
func (b *bench) insert(t testing.TB, fs fileSystem, image string) *disk {
	t.Helper()
	at := t.TempDir()
	return &disk{fileSystem: fs, bench: b, from: image, at: at, media: filepath.Join(at, "media"), whole: t}
}

// mount mounts the disk until it is unmounted or the test that made it ends.
func (d *disk) mount(t testing.TB, readOnly bool) {
	t.Helper()
	if d.write == nil && d.read == nil {
		options := "loop"
		if readOnly {
			options += ",ro"
		}
		d.run(t, "mount", "-o", options, d.from, d.at)
	} else {
		d.serve(t, readOnly)
	}
	d.whole.Cleanup(func() { d.try(d.whole, "umount", d.at) }) // fails when it is unmounted
}

// serve mounts the disk by FUSE.
func (d *disk) serve(t testing.TB, readOnly bool) {
	t.Helper()
	from, argv := d.from, d.write
	if readOnly {
		argv = d.read
	}
	if d.device {
		from = d.run(t, "losetup", "-f", "--show", d.from)
		// Detached now, it goes when the file system's program closes it, however
		// that ends.
		defer d.run(t, "losetup", "-d", from)
	}
	d.server = d.start(d.whole, append(argv[:len(argv):len(argv)], from, d.at)...)
	d.server.await(t, d.shell, "mountpoint", "-q", d.at)
}

// unmount takes the disk out; everything has reached it then.
func (d *disk) unmount(t testing.TB) {
	t.Helper()
	d.run(t, "umount", d.at)
	if d.server == nil {
		return
	}
	select {
	case <-d.server.done:
	case <-time.After(patience):
		t.Fatalf("%s: does not end\n%s", d.server.cmd, d.server.log)
	}
	d.server = nil
}

// remount takes the disk out and puts it in again.
func (d *disk) remount(t testing.TB, readOnly bool) {
	t.Helper()
	d.unmount(t)
	d.mount(t, readOnly)
}
