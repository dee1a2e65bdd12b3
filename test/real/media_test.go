//go:build real

package real

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// plain pushes an image of the example into a repository of its own, as images
// that are no part of any release.
func (v *vendor) plain(t testing.TB, name, source, tag string) (ref, digest string) {
	t.Helper()
	ref = v.registry + "/" + name
	v.run(t, "oras", "copy", "--no-tty", "--from-oci-layout", "--to-plain-http", filepath.Join(build, "images", source)+":"+tag, ref)
	return ref, v.run(t, "oras", "resolve", "--plain-http", ref)
}

// unchanged fails the test unless dir is as it was, once the test ends.
func unchanged(t testing.TB, dir string) {
	t.Helper()
	before := listing(t, dir)
	t.Cleanup(func() {
		if after := listing(t, dir); after != before {
			t.Errorf("%s was changed\nbefore:\n%s\nafter:\n%s", dir, before, after)
		}
	})
}

// checkFiles fails unless dir holds the files the shop 1.0.0 carries.
func checkFiles(t testing.TB, dir string) {
	t.Helper()
	for _, name := range []string{"redis.conf", "web.conf"} {
		want, err := os.ReadFile(filepath.Join(example, "1.0.0", name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
}

// mediaCopies lets each tool copy from media to the vendor's registry and to
// other layouts.
type mediaCopies struct {
	*vendor
	media      string
	repository string // of the shop on the media
	digest     string // of the shop 1.0.0
}

// TestPeersReadMedia lets other tools read what mirror wrote, in place.
func TestPeersReadMedia(t *testing.T) {
	need(t, "docker-registry", "curl", "oras")
	v := newVendor(t, shell{})
	shop, digest := v.publish(t, "1.0.0")
	shop11, digest11 := v.publish(t, "1.1.0")
	web, webDigest := v.plain(t, "team/web:1.0.0", "shop-web-1.0.0", "1.0.0")
	c := mediaCopies{v, v.mirror(t, shop, shop11, web), v.registry + "/shop", digest}
	unchanged(t, c.media)

	t.Run("aliases", func(t *testing.T) {
		for alias, want := range map[string]string{"shop-1.0.0": digest, "shop-1.1.0": digest11, "web-1.0.0": webDigest} {
			if got := v.run(t, "oras", "resolve", "--oci-layout", c.media+":"+alias); got != want {
				t.Errorf("%s is %s, want %s", alias, got, want)
			}
		}
	})
	t.Run("oras", c.oras)
	t.Run("oras to another layout", c.orasToLayout)
	t.Run("regctl", c.regctl)
	t.Run("sealift", c.sealift)
	t.Run("crane", c.crane)
	t.Run("skopeo", func(t *testing.T) { c.skopeo(t, webDigest) })
}

// verified fails unless ref, a copy, has the shop's digest and a signature.
func (c mediaCopies) verified(t *testing.T, ref string) {
	t.Helper()
	if got := c.run(t, "oras", "resolve", "--plain-http", ref); got != c.digest {
		t.Errorf("%s is %s, want %s", ref, got, c.digest)
	}
	c.run(t, "sealift", "verify", "-q", ref, "--key", c.pub)
}

func (c mediaCopies) oras(t *testing.T) {
	if out := c.run(t, "oras", "discover", "--oci-layout", c.media+":shop-1.0.0"); !strings.Contains(out, "application/vnd.dev.sigstore.bundle") {
		t.Errorf("no signature is found:\n%s", out)
	}
	to := c.registry + "/oras/shop:1.0.0"
	c.run(t, "oras", "copy", "--no-tty", "-r", "--from-oci-layout", c.media+":shop-1.0.0", "--to-plain-http", to)
	c.verified(t, to)
	files := t.TempDir()
	c.run(t, "oras", "pull", "--no-tty", "--oci-layout", c.media+":shop-1.0.0", "-o", files)
	checkFiles(t, files)
}

func (c mediaCopies) orasToLayout(t *testing.T) {
	other := filepath.Join(t.TempDir(), "layout")
	c.run(t, "oras", "copy", "--no-tty", "-r", "--from-oci-layout", c.media+":shop-1.0.0", "--to-oci-layout", other+":1.0.0")
	if got := c.run(t, "oras", "resolve", "--oci-layout", other+":1.0.0"); got != c.digest {
		t.Errorf("the copy is %s, want %s", got, c.digest)
	}
	c.run(t, "sealift", "verify", "-q", other, "--key", c.pub)
}

func (c mediaCopies) regctl(t *testing.T) {
	need(t, "regctl")
	from := "ocidir://" + c.media + ":shop-1.0.0"
	if out := c.run(t, "regctl", "artifact", "tree", "--digest-tags", from); !strings.Contains(out, "application/vnd.sealift.app.v1") || !strings.Contains(out, ".sig") {
		t.Errorf("the tree lacks the template or the signature:\n%s", out)
	}
	// In layouts regctl finds referrers by fallback tags only: of the two forms
	// of the signature, the one under a tag travels.
	to := c.registry + "/regctl/shop:1.0.0"
	c.run(t, "regctl", "--host", "reg="+c.registry+",tls=disabled", "image", "copy", "--referrers", "--digest-tags", from, to)
	c.verified(t, to)

	other := filepath.Join(t.TempDir(), "layout")
	c.run(t, "regctl", "image", "copy", "--referrers", "--digest-tags", from, "ocidir://"+other+":1.0.0")
	c.run(t, "sealift", "verify", "-q", other, "--key", c.pub)
	// What another tool copied goes on from there, to media as well.
	c.run(t, "sealift", "verify", "-q", c.mirror(t, other), "--key", c.pub)
}

// sealift copies from media to a registry, and to other media with the same
// index.
func (c mediaCopies) sealift(t *testing.T) {
	to := c.registry + "/sealift/shop"
	c.run(t, "sealift", "mirror", "-q", c.media+"//"+c.repository, to)
	c.verified(t, to+":1.0.0")
	var indexes []string
	for _, dir := range []string{c.media, c.mirror(t, c.media)} {
		data, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, string(data))
	}
	if indexes[0] != indexes[1] {
		t.Errorf("the index of a copy differs:\n%s\n%s", indexes[0], indexes[1])
	}
}

func (c mediaCopies) crane(t *testing.T) {
	need(t, "crane")
	// A layout is one image or one index to crane; it has no way to name an
	// entry. Pushing the whole index takes everything, names excepted.
	c.fails(t, 1, []string{"consider --index"}, "crane", "push", c.media, c.registry+"/crane/one:1")
	c.cranePush(t, c.media, c.registry+"/crane/all:1")
	if got := c.run(t, "crane", "digest", c.registry+"/crane/all@"+c.digest); got != c.digest {
		t.Errorf("the pushed release is %s, want %s", got, c.digest)
	}
}

func (c mediaCopies) skopeo(t *testing.T, image string) {
	need(t, "skopeo")
	to := c.registry + "/skopeo/web:1.0.0"
	c.run(t, "skopeo", "--insecure-policy", "copy", "--all", "--dest-tls-verify=false", "oci:"+c.media+":web-1.0.0", "docker://"+to)
	if got := c.run(t, "oras", "resolve", "--plain-http", to); got != image {
		t.Errorf("the copied image is %s, want %s", got, image)
	}
	// skopeo takes no index inside an index.
	c.fails(t, 1, []string{"manifest list instead of a manifest"},
		"skopeo", "--insecure-policy", "copy", "--all", "oci:"+c.media+":shop-1.0.0", "oci:"+t.TempDir()+":1")
}
