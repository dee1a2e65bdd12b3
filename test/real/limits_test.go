//go:build real

package real

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFileTooLarge mirrors where no file may be larger than a limit that nobody
// can know beforehand, and then where there is none.
func TestFileTooLarge(t *testing.T) {
	need(t, "docker-registry", "curl", "oras", "prlimit", "diff")
	v := newVendor(t, shell{})
	shop, _ := v.publish(t, "1.0.0")
	want, media := v.mirror(t, shop), t.TempDir()
	mirror := []string{"sealift", "mirror", "-q", shop, media}
	for range 2 {
		v.fails(t, 14, []string{"file too large", "sealift: hint:"}, append([]string{"prlimit", "--fsize=2000000"}, mirror...)...)
		checkBlobs(t, media)
		v.fails(t, 14, []string{"nothing finished is on"}, "sealift", "verify", "-q", media, "--key", v.pub)
	}
	v.run(t, mirror...)
	sameMedia(t, v.shell, want, media)
	v.run(t, "sealift", "verify", "-q", media, "--key", v.pub)
}

// zeros is content without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func digestOf(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// newZeros makes a layout of one artifact, big:1, whose layer is zeros, which
// take no room.
func newZeros(t testing.TB, size int64) (layout, layer string) {
	t.Helper()
	h := sha256.New()
	if _, err := io.CopyN(h, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	layout, layer = filepath.Join(t.TempDir(), "zeros"), digestOf(h)
	if err := os.MkdirAll(filepath.Join(layout, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(text string) (digest string) {
		h := sha256.New()
		_, _ = io.WriteString(h, text) // a hash takes everything
		digest = digestOf(h)
		if err := os.WriteFile(blob(layout, digest), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return digest
	}
	shell{}.run(t, "truncate", "-s", fmt.Sprint(size), blob(layout, layer))
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x-zeros",`+
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},`+
		`"layers":[{"mediaType":"application/octet-stream","digest":%q,"size":%d}]}`, write("{}"), layer, size)
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,`+
		`"annotations":{"org.opencontainers.image.ref.name":"1"}}]}`, write(manifest), len(manifest))
	for name, text := range map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": index} {
		if err := os.WriteFile(filepath.Join(layout, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return layout, layer
}

// TestSegments mirrors a layer that is too large for a file: it is carried in
// segments, which verify and serve see as one.
func TestSegments(t *testing.T) {
	if os.Getenv("SEALIFT_LARGE") == "" && os.Getenv("CI") != "true" {
		t.Skip("reads and writes 4 GiB several times: set SEALIFT_LARGE=1")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < 6<<30 { //nolint:gosec // no block has a size below 0
		t.Skipf("takes 4 GiB of disk and leaves 2: %d bytes are free (set TMPDIR)", free)
	}
	needRoot(t, "curl", "sha256sum", "bindfs", "prlimit")
	const size, segment = 4<<30 + 1<<20, 4095 << 20
	layout, layer := newZeros(t, size)
	// fusefat ends at 2 GiB. This is a directory in which files end where those of
	// FAT do; of the signal that says so, the program must not die.
	mount := []string{"sh", "-c", `trap "" XFSZ; exec prlimit --fsize=4294967295 bindfs -f "$@"`, "sh"}
	disk := newBench(t).insert(t, fileSystem{name: "4 GiB - 1", write: mount, read: mount}, t.TempDir())
	disk.mount(t, false)
	disk.run(t, "sealift", "mirror", "-q", layout, disk.media)
	if out := disk.try(t, "test", "-e", blob(disk.media, layer)); out.code == 0 {
		t.Error("the layer is in one file")
	}
	sizes := disk.run(t, "sh", "-c", `cd "$0" && stat -c "%n %s" *`, disk.media+"/sealift/parts/sha256/"+strings.TrimPrefix(layer, "sha256:"))
	if want := fmt.Sprintf("000 %d\n001 %d", int64(segment), int64(size-segment)); sizes != want {
		t.Errorf("segments:\n%s\nwant\n%s", sizes, want)
	}
	disk.run(t, "sealift", "verify", "-q", "--signatures=false", disk.media)

	address := freeAddress(t)
	p := disk.start(t, "sealift", "serve", disk.media, "--listen", address)
	defer p.stop()
	p.await(t, disk.shell, "curl", "-fsS", "http://"+address+"/v2/")
	url := "http://" + address + "/v2/zeros/blobs/" + layer
	if got := disk.run(t, "sh", "-c", `curl -fsS "$0" | sha256sum`, url); got != strings.TrimPrefix(layer, "sha256:")+"  -" {
		t.Errorf("the layer that came has digest %s", got)
	}
	if n := disk.run(t, "sh", "-c", `curl -fsS --range "$1" "$0" | tr -d '\0' | wc -c; curl -fsS --range "$1" "$0" | wc -c`,
		url, fmt.Sprintf("%d-%d", int64(segment-1000), int64(segment+999))); n != "0\n2000" {
		t.Errorf("across two segments came, other than zeros and in all: %s, want 0 and 2000", n)
	}
}
