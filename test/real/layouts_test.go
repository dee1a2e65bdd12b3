//go:build real

package real

import (
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// TestPeersWriteMedia mirrors layouts that other tools wrote, and mirrors into
// them.
func TestPeersWriteMedia(t *testing.T) {
	need(t, "docker-registry", "curl", "oras", "crane", "regctl", "skopeo")
	v := newVendor(t, shell{})
	shop, digest := v.publish(t, "1.0.0")
	web, webDigest := v.plain(t, "team/web:1.0.0", "shop-web-1.0.0", "1.0.0")
	regctl := []string{"regctl", "--host", "reg=" + v.registry + ",tls=disabled", "image", "copy"}
	tests := []struct {
		name   string
		from   string
		digest string
		signed bool     // the signature travels too
		write  []string // ends with where from it takes it; the layout's name follows
		prefix string   // of the layout's name
		tag    string   // of the entry, with what parts it from the name
	}{
		{"oras", shop, digest, true, []string{"oras", "copy", "--no-tty", "-r", "--from-plain-http", shop, "--to-oci-layout"}, "", ":1.0.0"},
		{"oras image", web, webDigest, false, []string{"oras", "copy", "--no-tty", "--from-plain-http", web, "--to-oci-layout"}, "", ":1.0.0"},
		{"crane", shop, digest, false, []string{"crane", "pull", "--format", "oci", shop}, "", ""},
		{"crane image", web, webDigest, false, []string{"crane", "pull", "--format", "oci", web}, "", ""},
		{"regctl", shop, digest, true, append(regctl, "--referrers", "--digest-tags", shop), "ocidir://", ":1.0.0"},
		{"regctl image", web, webDigest, false, append(regctl[:len(regctl):len(regctl)], web), "ocidir://", ":1.0.0"},
		{"skopeo image", web, webDigest, false, []string{"skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false", "docker://" + web}, "oci:", ":1.0.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			layout := filepath.Join(t.TempDir(), "layout")
			v.run(t, append(tt.write[:len(tt.write):len(tt.write)], tt.prefix+layout+tt.tag)...)
			unchanged(t, layout)
			media := v.mirror(t, layout)
			v.run(t, "sealift", "verify", "-q", "--signatures=false", media+"@"+tt.digest)
			if tt.signed {
				v.run(t, "sealift", "verify", "-q", media+"@"+tt.digest, "--key", v.pub)
			}
			to := v.registry + "/from/" + strings.ReplaceAll(tt.name, " ", "-")
			v.run(t, "sealift", "mirror", "-q", layout, to)
			if got := v.run(t, "oras", "resolve", "--plain-http", to+"@"+tt.digest); got != tt.digest {
				t.Errorf("%s has %s, want %s", to, got, tt.digest)
			}
		})
	}
}

// TestMirrorInto mirrors into layouts that other tools wrote, and lets them write
// to it again: nobody loses anything.
func TestMirrorInto(t *testing.T) {
	need(t, "docker-registry", "curl", "oras", "regctl", "skopeo")
	v := newVendor(t, shell{})
	shop, digest := v.publish(t, "1.0.0")
	web, webDigest := v.plain(t, "team/web:1.0.0", "shop-web-1.0.0", "1.0.0")
	for name, write := range map[string]func(layout, tag string) []string{
		"oras": func(layout, tag string) []string {
			return []string{"oras", "copy", "--no-tty", "--from-plain-http", web, "--to-oci-layout", layout + ":" + tag}
		},
		"regctl": func(layout, tag string) []string {
			return []string{"regctl", "--host", "reg=" + v.registry + ",tls=disabled", "image", "copy", web, "ocidir://" + layout + ":" + tag}
		},
		"skopeo": func(layout, tag string) []string {
			return []string{"skopeo", "--insecure-policy", "copy", "--all", "--src-tls-verify=false", "docker://" + web, "oci:" + layout + ":" + tag}
		},
	} {
		t.Run(name, func(t *testing.T) {
			layout := filepath.Join(t.TempDir(), "layout")
			v.run(t, write(layout, "before")...)
			v.run(t, "sealift", "mirror", "-q", shop, layout)
			v.run(t, write(layout, "after")...)
			for tag, want := range map[string]string{"before": webDigest, "after": webDigest, "shop-1.0.0": digest} {
				if got := v.run(t, "oras", "resolve", "--oci-layout", layout+":"+tag); got != want {
					t.Errorf("%s is %s, want %s", tag, got, want)
				}
			}
			v.run(t, "sealift", "verify", "-q", layout+"//"+v.registry+"/shop", "--key", v.pub)
			v.run(t, "sealift", "verify", "-q", "--signatures=false", layout)
			// Another commit carries on what both have written.
			v.run(t, "sealift", "mirror", "-q", web, layout)
			v.run(t, "sealift", "verify", "-q", layout+"//"+v.registry+"/shop", "--key", v.pub)
			if got := v.run(t, "oras", "resolve", "--oci-layout", layout+":after"); got != webDigest {
				t.Errorf("after is %s, want %s", got, webDigest)
			}
		})
	}
}

// TestPush mirrors media into the registries a site may have already.
func TestPush(t *testing.T) {
	need(t, "docker-registry", "registry", "curl", "oras", "crane")
	v := newVendor(t, shell{})
	shop, digest := v.publish(t, "1.0.0")
	shop11, digest11 := v.publish(t, "1.1.0")
	media := v.mirror(t, shop, shop11)
	unchanged(t, media)
	image := componentImages(t, v.shell, shop)["web"]
	v.server.stop() // all comes from the media
	for name, start := range map[string]func(t *testing.T) string{
		"docker-registry 2.8.2": func(t *testing.T) string {
			address, _ := newRegistry(t, v.shell)
			return address
		},
		"distribution 3.1.2": func(t *testing.T) string {
			address, _ := newDistribution(t, v.shell, "registry")
			return address
		},
		"olareg": newOlareg,
	} {
		t.Run(name, func(t *testing.T) {
			to := start(t) + "/site/shop"
			push := []string{"sealift", "mirror", "-q", "-o", "json", media + "//" + v.registry + "/shop", to}
			type pushed struct{ Blobs, Copied int }
			if n := decode[pushed](t, v.run(t, push...)); n.Copied != n.Blobs || n.Blobs == 0 {
				t.Errorf("%d of %d blobs were copied, want all", n.Copied, n.Blobs)
			}
			if n := decode[pushed](t, v.run(t, push...)); n.Copied != 0 {
				t.Errorf("%d of %d blobs were copied again", n.Copied, n.Blobs)
			}
			for tag, want := range map[string]string{"1.0.0": digest, "1.1.0": digest11} {
				if got := v.run(t, "oras", "resolve", "--plain-http", to+":"+tag); got != want {
					t.Errorf("%s is %s, want %s", tag, got, want)
				}
				v.run(t, "sealift", "verify", "-q", to+":"+tag, "--key", v.pub)
				if out := v.run(t, "oras", "discover", "--plain-http", to+":"+tag); !strings.Contains(out, "application/vnd.dev.sigstore.bundle") {
					t.Errorf("no signature is found:\n%s", out)
				}
			}
			v.run(t, "crane", "validate", "--remote", to+"@"+image)
			back := v.mirror(t, to+":1.0.0")
			v.run(t, "sealift", "verify", "-q", back, "--key", v.pub)
		})
	}
}

// newOlareg starts olareg, which knows the referrers API, with an empty store.
func newOlareg(t *testing.T) (address string) {
	store := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		Log:     slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(store)
	t.Cleanup(func() {
		server.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(server.URL, "http://")
}
