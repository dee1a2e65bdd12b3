//go:build real

package real

import (
	"testing"
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
		v.fails(t, 11, nil, "sealift", "verify", "-q", media, "--key", v.pub)
	}
	v.run(t, mirror...)
	sameMedia(t, v.shell, want, media)
	v.run(t, "sealift", "verify", "-q", media, "--key", v.pub)
}
