//go:build real

package real

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/internal/sigstoretest"
)

// noServices is a signing config that names no service: cosign 3 asks for the public
// one over the network otherwise.
const noServices = `{"mediaType":"application/vnd.dev.sigstore.signingconfig.v0.2+json"}`

// cosigns are both versions that people have.
var cosigns = []string{"cosign", "cosign3"}

// emptyRoot is a trusted root that trusts nobody. It keeps cosign from asking for
// the public one over the network; a key needs none.
const emptyRoot = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// TestCosign lets sealift and stock cosign verify each other's signatures, on an
// island: nothing of it may need a network.
func TestCosign(t *testing.T) {
	needRoot(t, "docker-registry", "curl", "cosign", "cosign3", "crane", "oras")
	i := newIsland(t)
	v := newVendor(t, i.shell)
	shop, signed := v.publish(t, "1.0.0")
	images := componentImages(t, v.shell, shop)
	root := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(root, []byte(emptyRoot), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "signing_config.json")
	if err := os.WriteFile(config, []byte(noServices), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := func(cosign, key, ref string) []string {
		return []string{cosign, "verify", "--key", key, "--insecure-ignore-tlog=true", "--trusted-root", root, ref}
	}
	third := filepath.Join(t.TempDir(), "third")
	v.run(t, "cosign", "generate-key-pair", "--output-key-prefix", third)
	sign := func(ref string, more ...string) []string {
		return append([]string{"cosign", "sign", "--key", third + ".key", "--tlog-upload=false", "--yes", ref}, more...)
	}
	tag := strings.Replace(signed, ":", "-", 1) + ".sig"

	t.Run("cosign verifies sealift", func(t *testing.T) {
		for _, cosign := range cosigns {
			v.run(t, verify(cosign, v.pub, shop)...)
			v.fails(t, 1, nil, verify(cosign, third+".pub", shop)...)
		}
		// Without the bundle, as after crane copy, the signature under the tag
		// has to do.
		v.run(t, "crane", "copy", shop, v.registry+"/legacy:1.0.0")
		v.run(t, "crane", "copy", v.registry+"/shop:"+tag, v.registry+"/legacy:"+tag)
		for _, cosign := range cosigns {
			v.run(t, verify(cosign, v.pub, v.registry+"/legacy:1.0.0")...)
		}
	})
	// Each form that each version can write, told that there is no network.
	offline := []string{"--key", third + ".key", "--tlog-upload=false", "--yes"}
	three := append([]string{"cosign3", "sign", "--use-signing-config=false"}, offline...)
	for name, command := range map[string][]string{
		"bundle-2":   append([]string{"cosign", "sign", "--new-bundle-format"}, offline...),
		"tag-2":      append([]string{"cosign", "sign"}, offline...),
		"referrer-2": append([]string{"env", "COSIGN_EXPERIMENTAL=1", "cosign", "sign", "--registry-referrers-mode=oci-1-1"}, offline...),
		"bundle-3":   {"cosign3", "sign", "--key", third + ".key", "--signing-config", config, "--yes"},
		"tag-3":      append(three, "--new-bundle-format=false"),
		"referrer-3": append([]string{"env", "COSIGN_EXPERIMENTAL=1"}, append(three, "--new-bundle-format=false", "--registry-referrers-mode=oci-1-1")...),
	} {
		t.Run("sealift verifies cosign "+name, func(t *testing.T) {
			ref := v.registry + "/third-" + name + ":1.0.0"
			v.run(t, "crane", "copy", shop, ref)
			v.run(t, append(command, ref[:strings.LastIndex(ref, ":")]+"@"+signed)...)
			form, _, _ := strings.Cut(name, "-")
			if out := v.run(t, "sealift", "inspect", ref); strings.Count(out, "  signature   ") != 1 || !strings.Contains(out, "  signature   "+form+",") {
				t.Errorf("sealift finds, of one signature of form %s:\n%s", form, out)
			}
			v.run(t, "sealift", "verify", "-q", ref, "--key", third+".pub")
			v.fails(t, 15, nil, "sealift", "verify", "-q", ref, "--key", v.pub)
			media := v.mirror(t, ref)
			v.run(t, "sealift", "verify", "-q", media, "--key", third+".pub")
		})
	}
	// Somebody signs with a certificate of a sigstore that is nowhere on a network.
	sigstore := sigstoretest.New(t)
	public := filepath.Join(t.TempDir(), "public.json")
	if err := os.WriteFile(public, sigstore.TrustedRoot(t, sigstoretest.Parts{Log: true, Timestamps: true}), 0o600); err != nil {
		t.Fatal(err)
	}
	who := []string{"--certificate-identity", "release@acme.example", "--certificate-oidc-issuer", "https://accounts.example.com", "--trusted-root", public}
	keyless := v.registry + "/keyless:1.0.0"
	v.run(t, "crane", "copy", shop, keyless)
	bundle := filepath.Join(t.TempDir(), "bundle.json")
	by := sigstoretest.Signature{Issuer: "https://accounts.example.com", Subject: "release@acme.example", Log: true, Timestamp: true}
	if err := os.WriteFile(bundle, sigstore.Bundle(t, by, digest.Digest(signed), sigstoretest.SignType, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	const typeBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	v.run(t, "oras", "attach", "--no-tty", "--plain-http", "--disable-path-validation", "--artifact-type", typeBundle,
		"--annotation", "dev.sigstore.bundle.content=dsse-envelope", "--annotation", "dev.sigstore.bundle.predicateType="+sigstoretest.SignType, keyless, bundle+":"+typeBundle)
	sbom := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(sbom, []byte(`{"spdxVersion": "SPDX-2.3", "name": "shop"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	attested := func(key, ref string) []string {
		return []string{"cosign", "verify-attestation", "--new-bundle-format", "--type", "spdxjson", "--key", key, "--insecure-ignore-tlog=true", "--trusted-root", root, ref}
	}
	t.Run("attestations", func(t *testing.T) {
		v.run(t, "sealift", "attest", "-q", shop, "--type", "spdxjson", "--predicate", sbom, "--key", v.key)
		v.run(t, attested(v.pub, v.registry+"/shop@"+signed)...)
		v.fails(t, 1, nil, attested(third+".pub", v.registry+"/shop@"+signed)...)
		v.run(t, "cosign", "attest", "--new-bundle-format", "--type", "vuln", "--predicate", sbom, "--key", third+".key", "--tlog-upload=false", "--yes", v.registry+"/shop@"+signed)
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
		v.run(t, verify("cosign", v.pub, ref)...)
		v.run(t, verify("cosign3", v.pub, ref)...)
		v.run(t, "oras", "pull", "--plain-http", "-o", out, ref)
		v.run(t, "cmp", next, filepath.Join(out, "policy.yaml"))
		v.fails(t, 15, nil, "sealift", "policy", "update", "-q", "--home", home, ref, "--yes")
		v.run(t, sign(v.registry+"/policy@"+strings.TrimSpace(v.run(t, "crane", "digest", ref)))...)
		v.run(t, "sealift", "policy", "update", "-q", "--home", home, v.mirror(t, ref), "--yes")
		v.run(t, "cmp", next, present)
	})
	// A third party signs the release, and one image in it, after publish.
	v.run(t, sign(v.registry+"/shop@"+signed)...)
	v.run(t, sign(v.registry+"/shop@"+images["api"], "--new-bundle-format")...)
	media := v.mirror(t, shop, keyless)
	v.server.stop()
	i.serve(t, media, site)
	t.Run("over serve", func(t *testing.T) {
		for _, cosign := range cosigns {
			v.run(t, verify(cosign, v.pub, site+"/shop:1.0.0")...)
			v.run(t, verify(cosign, v.pub, site+"/shop@"+signed)...)
			// The authority here keeps no log of its certificates.
			v.run(t, append(append([]string{cosign, "verify", "--insecure-ignore-sct"}, who...), site+"/keyless@"+signed)...)
		}
		v.run(t, attested(v.pub, site+"/shop@"+signed)...)
	})
	t.Run("third party", func(t *testing.T) {
		for _, key := range []string{v.pub, third + ".pub"} {
			v.run(t, "sealift", "verify", "-q", media+"//"+shop, "--key", key)
		}
		v.run(t, append([]string{"sealift", "verify", "-q", media + "//" + keyless}, who...)...)
		v.fails(t, 15, nil, append([]string{"sealift", "verify", "-q", media + "//" + keyless}, "--certificate-identity", "qa@acme.example", who[2], who[3], who[4], who[5])...)
		v.run(t, verify("cosign", third+".pub", site+"/shop@"+images["api"])...)
		v.fails(t, 1, nil, verify("cosign", v.pub, site+"/shop@"+images["api"])...)
	})
}
