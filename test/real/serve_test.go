//go:build real

package real

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// site is where the island's registry answers.
const site = "127.0.0.1:5050"

// TestPeersReadServe lets other tools read media through serve. The media is
// mounted read-only and holds one repository name of two vendors.
func TestPeersReadServe(t *testing.T) {
	needRoot(t, "docker-registry", "curl", "oras", "dockerd", "docker")
	v, other := newVendor(t, shell{}), newVendor(t, shell{})
	shop, digest := v.publish(t, "1.0.0")
	shop11, _ := v.publish(t, "1.1.0")
	web, webDigest := v.plain(t, "team/web:1.0.0", "shop-web-1.0.0", "1.0.0")
	web2, web2Digest := other.plain(t, "team/web:1.0.0", "shop-web-1.1.0", "1.1.0")
	single, singleDigest := v.plain(t, "redis:7.0", "redis-7.0", "7.0")
	media := v.mirror(t, shop, shop11, web, web2, single)
	images := componentImages(t, v.shell, shop)
	v.server.stop()
	other.server.stop()

	i := newIsland(t)
	i.startEngine(t)
	unchanged(t, media)
	served := i.serve(t, i.mountReadOnly(t, media), site)
	local, _ := newRegistry(t, i.shell)
	c := copies{i, local, digest, v.pub}

	t.Run("crane", func(t *testing.T) {
		c.crane(t, []string{urlName(shop), urlName(single), urlName(web), urlName(web2)}, images["web"])
	})
	t.Run("oras", c.oras)
	t.Run("regctl", c.regctl)
	t.Run("skopeo", func(t *testing.T) { c.skopeo(t, images["db"]) })
	t.Run("docker", func(t *testing.T) { c.docker(t, images["web"], singleDigest) })
	t.Run("containerd", func(t *testing.T) {
		c.containerd(t, images["db"], map[string]string{web: webDigest, web2: web2Digest})
	})
	served.stop()
	if said := served.log.String(); strings.Contains(said, "warning") || !strings.Contains(said, "stopped") {
		t.Errorf("serve says:\n%s", said)
	}
}

// urlName is how serve calls the repository of ref.
func urlName(ref string) string {
	host, path, _ := strings.Cut(ref, "/")
	path, _, _ = strings.Cut(path, ":")
	return strings.ReplaceAll(host, ":", "__") + "/" + path
}

// componentImages returns the digests of a release's images.
func componentImages(t testing.TB, s shell, ref string) map[string]string {
	t.Helper()
	index := decode[struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}](t, s.run(t, "oras", "manifest", "fetch", "--plain-http", ref))
	images := map[string]string{}
	for _, m := range index.Manifests {
		for key := range strings.SplitSeq(m.Annotations["dev.sealift.components"], ",") {
			images[key] = m.Digest
		}
	}
	return images
}

// copies lets each tool copy the shop from site to local.
type copies struct {
	*island
	local, digest, pub string
}

// signed fails unless ref is the shop, with a signature.
func (c copies) signed(t *testing.T, ref string) {
	t.Helper()
	if got := c.run(t, "oras", "resolve", "--plain-http", ref); got != c.digest {
		t.Errorf("%s is %s, want %s", ref, got, c.digest)
	}
	c.run(t, "sealift", "verify", "-q", ref, "--key", c.pub)
}

func (c copies) crane(t *testing.T, repositories []string, image string) {
	need(t, "crane")
	slices.Sort(repositories)
	if got := c.run(t, "crane", "catalog", site); got != strings.Join(repositories, "\n") {
		t.Errorf("catalog =\n%s\nwant\n%s", got, strings.Join(repositories, "\n"))
	}
	signature := strings.Replace(c.digest, ":", "-", 1) + ".sig"
	if tags := strings.Fields(c.run(t, "crane", "ls", site+"/shop")); len(tags) != 4 || !slices.Contains(tags, "1.0.0") || !slices.Contains(tags, "1.1.0") || !slices.Contains(tags, signature) {
		t.Errorf("tags = %v", tags)
	}
	if got := c.run(t, "crane", "digest", site+"/shop:1.0.0"); got != c.digest {
		t.Errorf("digest = %s, want %s", got, c.digest)
	}
	if !strings.Contains(c.run(t, "crane", "manifest", site+"/shop:1.0.0"), "application/vnd.sealift.release.v1") {
		t.Error("the manifest is not that of a release")
	}
	c.run(t, "crane", "validate", "--remote", site+"/shop@"+image)
	c.run(t, "crane", "pull", "--format", "oci", site+"/shop:1.0.0", filepath.Join(t.TempDir(), "oci"))
	// crane leaves referrers behind; the signature's tag is copied by itself.
	c.run(t, "crane", "copy", site+"/shop:1.0.0", c.local+"/crane/shop:1.0.0")
	c.fails(t, 15, []string{"sealift: hint:"}, "sealift", "verify", "-q", c.local+"/crane/shop:1.0.0", "--key", c.pub)
	c.run(t, "crane", "copy", site+"/shop:"+signature, c.local+"/crane/shop:"+signature)
	c.signed(t, c.local+"/crane/shop:1.0.0")
}

func (c copies) oras(t *testing.T) {
	if out := c.run(t, "oras", "discover", "--plain-http", site+"/shop:1.0.0"); !strings.Contains(out, "application/vnd.dev.sigstore.bundle") {
		t.Errorf("no signature is found:\n%s", out)
	}
	c.run(t, "oras", "copy", "--no-tty", "-r", "--from-plain-http", "--to-plain-http", site+"/shop:1.0.0", c.local+"/oras/shop:1.0.0")
	c.signed(t, c.local+"/oras/shop:1.0.0")
	files := t.TempDir()
	c.run(t, "oras", "pull", "--no-tty", "--plain-http", site+"/shop:1.0.0", "-o", files)
	checkFiles(t, files)
}

func (c copies) regctl(t *testing.T) {
	need(t, "regctl")
	c.run(t, "regctl", "--host", "reg="+site+",tls=disabled", "--host", "reg="+c.local+",tls=disabled",
		"image", "copy", "--referrers", "--digest-tags", site+"/shop:1.0.0", c.local+"/regctl/shop:1.0.0")
	c.signed(t, c.local+"/regctl/shop:1.0.0")
	tree := c.run(t, "regctl", "--host", "reg="+site+",tls=disabled", "artifact", "tree", site+"/shop:1.0.0")
	if !strings.Contains(tree, "application/vnd.sealift.app.v1") || !strings.Contains(tree, "application/vnd.dev.sigstore.bundle") {
		t.Errorf("the tree lacks the template or the signature:\n%s", tree)
	}
}

func (c copies) skopeo(t *testing.T, image string) {
	need(t, "skopeo")
	to := c.local + "/skopeo/redis:7.0"
	c.run(t, "skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false",
		"docker://"+site+"/shop@"+image, "docker://"+to)
	if got := c.run(t, "oras", "resolve", "--plain-http", to); got != image {
		t.Errorf("the copied image is %s, want %s", got, image)
	}
}

func (c copies) docker(t *testing.T, image, tagged string) {
	for ref, digest := range map[string]string{site + "/shop@" + image: image, site + "/redis:7.0": tagged} {
		c.run(t, "docker", "pull", "--quiet", ref)
		if got := c.run(t, "docker", "image", "inspect", "--format", "{{.RepoDigests}}", ref); !strings.Contains(got, digest) {
			t.Errorf("%s has digests %s, want %s", ref, got, digest)
		}
	}
	if out := c.run(t, "docker", "run", "--rm", "--network=none", site+"/redis:7.0", "--version"); !strings.Contains(out, "v=7.0") {
		t.Errorf("the pulled image says %q", out)
	}
	// A release is no image; a docker that takes one would run the wrong thing.
	c.fails(t, 1, []string{"no matching manifest"}, "docker", "pull", "--quiet", site+"/shop:1.0.0")
}

// containerd pulls an image from site as it stands, and images by the names they
// had, which containerd asks a mirror for.
func (c copies) containerd(t *testing.T, image string, named map[string]string) {
	need(t, "ctr")
	ctr := []string{"ctr", "--address", c.island.containerd(), "--namespace", "real", "images"}
	pulled := func(ref, digest string) {
		t.Helper()
		if out := c.run(t, append(ctr, "list", "name=="+ref)...); !strings.Contains(out, digest) {
			t.Errorf("%s is not %s:\n%s", ref, digest, out)
		}
	}
	byDigest := site + "/shop@" + image
	c.run(t, append(ctr, "pull", "--plain-http", byDigest)...)
	pulled(byDigest, image)
	hosts := t.TempDir()
	for ref, digest := range named {
		host, _, _ := strings.Cut(ref, "/")
		dir := filepath.Join(hosts, host)
		text := "server = \"http://" + site + "\"\n[host.\"http://" + site + "\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.run(t, append(ctr, "pull", "--hosts-dir", hosts, ref)...)
		pulled(ref, digest)
	}
}
