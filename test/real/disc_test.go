//go:build real

package real

import (
	"path/filepath"
	"testing"
)

// fuseiso takes the options of FUSE last.
var fuseiso = []string{"sh", "-c", `exec fuseiso -n "$@" -f`, "sh"}

// discs are made in one piece from a directory, the format's last argument but
// one being the image, and can only be read.
var discs = []fileSystem{
	{name: "squashfs", needs: []string{"mksquashfs"},
		format: []string{"sh", "-c", `exec mksquashfs "$2" "$1" -quiet -no-progress`, "sh"}},
	// fuseiso shows the names of Rock Ridge where a disc has them, else Joliet's.
	{name: "ISO 9660 with Rock Ridge and Joliet", needs: []string{"xorriso", "fuseiso"},
		format: []string{"xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o"}, read: fuseiso},
	{name: "ISO 9660 with Joliet", needs: []string{"xorriso", "fuseiso"},
		format: []string{"xorriso", "-as", "mkisofs", "-quiet", "-J", "-o"}, read: fuseiso},
}

// TestDiscs burns a delivery on discs and reads it there.
func TestDiscs(t *testing.T) {
	needRoot(t)
	d := newDelivery(t)
	for _, fs := range discs {
		t.Run(fs.name, func(t *testing.T) {
			need(t, append(fs.needs, "losetup", "mountpoint", "umount")...)
			image := filepath.Join(t.TempDir(), "disc.img")
			d.bench.run(t, append(fs.format[:len(fs.format):len(fs.format)], image, filepath.Dir(d.copied))...)
			disc := d.insert(t, fs, image)
			disc.mount(t, true)
			if r := disc.try(t, "touch", disc.at+"/written"); r.code == 0 {
				t.Fatalf("%s can be written to", disc.at)
			}
			d.same(t, d.copied, disc)
			d.carried(t, disc)
			// It cannot be mirrored to, and stays what it is.
			if r := disc.try(t, "sealift", "mirror", "-q", d.first, disc.media); r.code != 1 || r.stdout != "" {
				t.Errorf("%s: exit status %d, want 1\n%s%s", r.command, r.code, r.stdout, r.stderr)
			}
			d.same(t, d.copied, disc)
		})
	}
}
