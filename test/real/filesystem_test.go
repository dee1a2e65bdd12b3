//go:build real

package real

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// delivery is what the disks of this file carry, and what media must look like
// that carry it.
type delivery struct {
	*vendor
	*bench
	line              *proxy // the vendor's registry, over a line that is not too fast
	first, second     string // references of the shop 1.0.0 and 1.1.0
	digest            string // of the first
	web, webDigest    string // an image by itself
	firstCopy, copied string // media with the first, and with everything
}

func newDelivery(t testing.TB) *delivery {
	t.Helper()
	need(t, "docker-registry", "curl", "oras", "crane", "regctl", "skopeo", "diff")
	b := newBench(t)
	d := &delivery{vendor: newVendor(t, shell{}), bench: b}
	d.line = newProxy(t, d.registry, 48<<20)
	var refs [3]string
	refs[0], d.digest = d.publish(t, "1.0.0")
	refs[1], _ = d.publish(t, "1.1.0")
	refs[2], d.webDigest = d.plain(t, "team/web:1.0.0", "shop-web-1.0.0", "1.0.0")
	for i, ref := range refs {
		refs[i] = strings.Replace(ref, d.registry, d.line.address, 1)
	}
	d.first, d.second, d.web = refs[0], refs[1], refs[2]
	d.firstCopy = d.vendor.mirror(t, d.first)
	d.copied = d.vendor.mirror(t, d.first)
	d.vendor.run(t, "sealift", "mirror", "-q", d.second, d.web, d.copied)
	return d
}

// TestFileSystems lets a delivery live on each kind of disk.
func TestFileSystems(t *testing.T) {
	needRoot(t)
	d := newDelivery(t)
	for _, fs := range fileSystems {
		t.Run(fs.name, func(t *testing.T) {
			t.Run("life", func(t *testing.T) { d.live(t, d.newDisk(t, fs)) })
			if !fs.fresh {
				t.Run("full", func(t *testing.T) { d.fill(t, d.newDisk(t, fs)) })
			}
		})
	}
}

// live mirrors a release to a disk, is killed and goes on, adds another, and
// takes the disk to where it can only be read.
func (d *delivery) live(t *testing.T, disk *disk) {
	if !disk.fresh {
		d.killAt(t, 5<<20, "sealift", "mirror", "-q", d.first, disk.media)
		checkBlobs(t, disk.seen(disk.media))
		disk.fails(t, 14, []string{"nothing finished is on"}, "sealift", "verify", "-q", disk.media, "--key", d.pub)
	}
	disk.run(t, "sealift", "mirror", "-q", d.first, disk.media)
	d.same(t, d.firstCopy, disk)

	if !disk.fresh {
		d.killAt(t, 3<<20, "sealift", "mirror", "-q", d.second, d.web, disk.media)
		checkBlobs(t, disk.seen(disk.media))
	}
	d.verified(t, disk)
	disk.run(t, "sealift", "mirror", "-q", d.second, d.web, disk.media)
	d.same(t, d.copied, disk)

	disk.remount(t, true)
	if r := disk.try(t, "touch", disk.at+"/written"); r.code == 0 {
		t.Fatalf("%s can be written to", disk.at)
	}
	d.same(t, d.copied, disk)
	d.carried(t, disk)
}

// killAt starts a program on the bench and kills it once so many bytes have come
// over the line.
func (d *delivery) killAt(t testing.TB, n int64, argv ...string) {
	t.Helper()
	limit := d.line.sent.Load() + n
	p := d.bench.start(t, argv...)
	for d.line.sent.Load() < limit {
		select {
		case <-p.done:
			t.Fatalf("%s: ended before it was killed\n%s", p.cmd, p.log)
		case <-time.After(time.Millisecond):
		}
	}
	p.kill()
}

// same fails unless the disk's media are like those in dir.
func (d *delivery) same(t testing.TB, dir string, disk *disk) {
	t.Helper()
	sameMedia(t, d.vendor.shell, dir, disk.seen(disk.media))
}

// sameMedia fails unless media are, byte for byte, like other media, with nothing
// left over in the program's own corner.
func sameMedia(t testing.TB, s shell, want, got string) {
	t.Helper()
	if r := s.try(t, "diff", "-r", "--exclude=sealift", want, got); r.code != 0 {
		t.Errorf("%s: exit status %d\n%s%s", r.command, r.code, r.stdout, r.stderr)
	}
	checkCorner(t, got)
}

// checkCorner fails unless what media hold beside the OCI layout is in order: the
// lock, and at most two slots, of which the newest is index.json.
func checkCorner(t testing.TB, media string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(media, "sealift"))
	if err != nil {
		t.Fatal(err)
	}
	slots, newest := 0, 0
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "index.%d.json", &n); err == nil {
			slots, newest = slots+1, max(newest, n)
		} else if e.Name() != "lock" && e.Name() != "media.json" {
			t.Errorf("%s is left in %s/sealift", e.Name(), media)
		}
	}
	if slots == 0 || slots > 2 {
		t.Fatalf("%d slots, want one or two", slots)
	}
	slot, err := os.ReadFile(filepath.Join(media, "sealift", fmt.Sprintf("index.%d.json", newest)))
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(media, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(slot, bytes.TrimSpace(index)) {
		t.Errorf("slot %d is not index.json:\n%s\n%s", newest, slot, index)
	}
}

// carried lets everybody read media that cannot be written to: sealift, what
// pulls from serve, and the tools that read a layout in place.
func (d *delivery) carried(t *testing.T, disk *disk) {
	d.verified(t, disk)
	t.Run("serve", func(t *testing.T) { d.served(t, disk) })
	shop, web := disk.media+":shop-1.0.0", disk.media+":web-1.0.0"
	copied := filepath.Join(t.TempDir(), "copied")
	t.Run("oras", func(t *testing.T) {
		if got := disk.run(t, "oras", "resolve", "--oci-layout", shop); got != d.digest {
			t.Errorf("%s is %s, want %s", shop, got, d.digest)
		}
		disk.run(t, "oras", "copy", "--no-tty", "-r", "--from-oci-layout", shop, "--to-oci-layout", copied+"/oras:1.0.0")
		disk.run(t, "sealift", "verify", "-q", copied+"/oras", "--key", d.pub)
	})
	t.Run("regctl", func(t *testing.T) {
		disk.run(t, "regctl", "image", "copy", "--referrers", "--digest-tags", "ocidir://"+shop, "ocidir://"+copied+"/regctl:1.0.0")
		disk.run(t, "sealift", "verify", "-q", copied+"/regctl", "--key", d.pub)
	})
	t.Run("skopeo", func(t *testing.T) {
		disk.run(t, "skopeo", "--insecure-policy", "copy", "--all", "oci:"+web, "oci:"+copied+"/skopeo:1.0.0")
		if got := disk.run(t, "oras", "resolve", "--oci-layout", copied+"/skopeo:1.0.0"); got != d.webDigest {
			t.Errorf("the copied image is %s, want %s", got, d.webDigest)
		}
	})
	t.Run("crane", func(t *testing.T) {
		to := d.registry + "/crane/" + strings.ToLower(strings.ReplaceAll(disk.name, " ", "-"))
		disk.cranePush(t, disk.media, to+":1")
		if got := disk.run(t, "crane", "digest", to+"@"+d.digest); got != d.digest {
			t.Errorf("the pushed release is %s, want %s", got, d.digest)
		}
	})
}

// served pulls through serve: a piece of a blob, and an image.
func (d *delivery) served(t *testing.T, disk *disk) {
	address := freeAddress(t)
	p := disk.start(t, "sealift", "serve", disk.media, "--listen", address)
	defer p.stop() // a disk in use cannot be taken out
	p.await(t, disk.shell, "curl", "-fsS", "http://"+address+"/v2/")
	m := readManifest(t, d.copied, readManifest(t, d.copied, d.webDigest).Manifests[0].Digest)
	layer := m.Layers[0].Digest
	want, err := os.ReadFile(blob(d.copied, layer))
	if err != nil {
		t.Fatal(err)
	}
	const from, to = 1000, 70000
	piece := filepath.Join(t.TempDir(), "piece")
	disk.run(t, "curl", "-fsS", "--range", fmt.Sprintf("%d-%d", from, to-1), "-o", piece, "http://"+address+"/v2/team/web/blobs/"+layer)
	if got, err := os.ReadFile(piece); err != nil || !bytes.Equal(got, want[from:to]) {
		t.Errorf("%d bytes came, %v, want the %d asked for", len(got), err, to-from)
	}
	disk.run(t, "crane", "validate", "--remote", address+"/team/web:1.0.0")
	disk.run(t, "crane", "pull", "--format", "oci", address+"/team/web:1.0.0", filepath.Join(t.TempDir(), "pulled"))
	disk.run(t, "oras", "copy", "--no-tty", "--from-plain-http", address+"/team/web:1.0.0", "--to-oci-layout", t.TempDir()+"/web:1.0.0")
}

// fill mirrors to a disk that is full but for 8 MiB, twice, and makes room.
func (d *delivery) fill(t *testing.T, disk *disk) {
	ballast, room := disk.at+"/ballast", disk.at+"/room"
	disk.run(t, "dd", "if=/dev/zero", "of="+room, "bs=1M", "count=8", "conv=fsync")
	if r := disk.try(t, "dd", "if=/dev/zero", "of="+ballast, "bs=256K", "conv=fsync"); r.code == 0 {
		t.Fatal("the disk has no end")
	}
	disk.run(t, "rm", room)
	disk.run(t, "sync", "-f", disk.at)
	mirror := []string{"sealift", "mirror", "-q", d.first, disk.media}
	disk.fails(t, 14, []string{"bytes are to be written and", "sealift: hint: make room"}, mirror...)
	for range 2 {
		disk.fails(t, 14, []string{"no space left on device", "sealift: hint: make room"}, append(mirror, "--no-space-check")...)
		disk.fails(t, 14, []string{"nothing finished is on"}, "sealift", "verify", "-q", disk.media, "--key", d.pub)
		checkBlobs(t, disk.seen(disk.media))
	}
	disk.run(t, "rm", ballast)
	disk.run(t, mirror...)
	d.verified(t, disk)
	d.same(t, d.firstCopy, disk)
}

// verified fails unless all that the disk names is whole, and the shop is signed.
func (d *delivery) verified(t testing.TB, disk *disk) {
	t.Helper()
	disk.run(t, "sealift", "verify", "-q", "--signatures=false", disk.media)
	disk.run(t, "sealift", "verify", "-q", disk.media+"//"+d.line.address+"/shop", "--key", d.pub)
}
