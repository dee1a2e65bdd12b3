//go:build real

package real

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// emptyRoot is a trusted root that trusts nobody. It keeps cosign from asking for
// the public one over the network; a key needs none.
const emptyRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// TestCosign lets sealift and stock cosign verify each other's signatures, on an
// island: nothing of it may need a network.
func TestCosign(t *testing.T) {
	needRoot(t, "docker-registry", "curl", "cosign", "crane", "oras")
	i := newIsland(t)
	v := newVendor(t, i.shell)
	shop, digest := v.publish(t, "1.0.0")
	images := componentImages(t, v.shell, shop)
	root := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(root, []byte(emptyRoot), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(key, ref string) []string {
		return []string{"cosign", "verify", "--key", key, "--insecure-ignore-tlog=true", "--trusted-root", root, ref}
	}
	third := filepath.Join(t.TempDir(), "third")
	v.run(t, "cosign", "generate-key-pair", "--output-key-prefix", third)
	sign := func(ref string, more ...string) []string {
		return append([]string{"cosign", "sign", "--key", third + ".key", "--tlog-upload=false", "--yes", ref}, more...)
	}
	tag := strings.Replace(digest, ":", "-", 1) + ".sig"

	t.Run("cosign verifies sealift", func(t *testing.T) {
		v.run(t, verify(v.pub, shop)...)
		v.fails(t, 1, nil, verify(third+".pub", shop)...)
		// Without the bundle, as after crane copy, the signature under the tag
		// has to do.
		v.run(t, "crane", "copy", shop, v.registry+"/legacy:1.0.0")
		v.run(t, "crane", "copy", v.registry+"/shop:"+tag, v.registry+"/legacy:"+tag)
		v.run(t, verify(v.pub, v.registry+"/legacy:1.0.0")...)
	})
	for name, flags := range map[string][]string{"legacy": nil, "bundle": {"--new-bundle-format"}} {
		t.Run("sealift verifies cosign "+name, func(t *testing.T) {
			ref := v.registry + "/" + name + "-third:1.0.0"
			v.run(t, "crane", "copy", shop, ref)
			v.run(t, sign(ref[:strings.LastIndex(ref, ":")]+"@"+digest, flags...)...)
			v.run(t, "sealift", "verify", "-q", ref, "--key", third+".pub")
			v.fails(t, 15, nil, "sealift", "verify", "-q", ref, "--key", v.pub)
			media := v.mirror(t, ref)
			v.run(t, "sealift", "verify", "-q", media, "--key", third+".pub")
		})
	}
	sbom := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(sbom, []byte(`{"spdxVersion": "SPDX-2.3", "name": "shop"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	attested := func(key, ref string) []string {
		return []string{"cosign", "verify-attestation", "--new-bundle-format", "--type", "spdxjson", "--key", key, "--insecure-ignore-tlog=true", "--trusted-root", root, ref}
	}
	t.Run("attestations", func(t *testing.T) {
		v.run(t, "sealift", "attest", "-q", shop, "--type", "spdxjson", "--predicate", sbom, "--key", v.key)
		v.run(t, attested(v.pub, v.registry+"/shop@"+digest)...)
		v.fails(t, 1, nil, attested(third+".pub", v.registry+"/shop@"+digest)...)
		v.run(t, "cosign", "attest", "--new-bundle-format", "--type", "vuln", "--predicate", sbom, "--key", third+".key", "--tlog-upload=false", "--yes", v.registry+"/shop@"+digest)
		if out := v.run(t, "sealift", "inspect", shop); strings.Count(out, "statement ") != 2 || !strings.Contains(out, "https://spdx.dev/Document, claims key") {
			t.Errorf("sealift lists the statements of both as:\n%s", out)
		}
	})
	t.Run("update of a policy", func(t *testing.T) {
		home, out := t.TempDir(), t.TempDir()
		for name, key := range map[string]string{"vendor": v.pub, "third": third + ".pub"} {
			v.run(t, "sealift", "policy", "add", "-q", "--home", home, "--key", key, "--for", "example.com/officers", "--name", name, "--yes")
		}
		present := filepath.Join(home, "policy.yaml")
		text, err := os.ReadFile(present)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, "updates: {keys: [vendor, third], threshold: all}\n"...)
		next := filepath.Join(out, "next.yaml")
		if err := errors.Join(os.WriteFile(present, text, 0o600), os.WriteFile(next, bytes.Replace(text, []byte("version: 2"), []byte("version: 3"), 1), 0o600)); err != nil {
			t.Fatal(err)
		}
		ref := v.registry + "/policy:3"
		v.run(t, "sealift", "policy", "publish", "-q", next, v.registry+"/policy", "--key", v.key)
		v.run(t, verify(v.pub, ref)...)
		v.run(t, "oras", "pull", "--plain-http", "-o", out, ref)
		v.run(t, "cmp", next, filepath.Join(out, "policy.yaml"))
		v.fails(t, 15, nil, "sealift", "policy", "update", "-q", "--home", home, ref, "--yes")
		v.run(t, sign(v.registry+"/policy@"+strings.TrimSpace(v.run(t, "crane", "digest", ref)))...)
		v.run(t, "sealift", "policy", "update", "-q", "--home", home, v.mirror(t, ref), "--yes")
		v.run(t, "cmp", next, present)
	})
	// A third party signs the release, and one image in it, after publish.
	v.run(t, sign(v.registry+"/shop@"+digest)...)
	v.run(t, sign(v.registry+"/shop@"+images["api"], "--new-bundle-format")...)
	media := v.mirror(t, shop)
	v.server.stop()
	i.serve(t, media, site)
	t.Run("over serve", func(t *testing.T) {
		v.run(t, verify(v.pub, site+"/shop:1.0.0")...)
		v.run(t, verify(v.pub, site+"/shop@"+digest)...)
		v.run(t, attested(v.pub, site+"/shop@"+digest)...)
	})
	t.Run("third party", func(t *testing.T) {
		for _, key := range []string{v.pub, third + ".pub"} {
			v.run(t, "sealift", "verify", "-q", media, "--key", key)
		}
		v.run(t, verify(third+".pub", site+"/shop@"+images["api"])...)
		v.fails(t, 1, nil, verify(v.pub, site+"/shop@"+images["api"])...)
	})
}
