//go:build real

package real

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const page = "http://127.0.0.1:8080/"

// shop is the example on an island, with its media.
type shop struct {
	*island
	media, pub string
	roots      map[string]string // digest of each version's root
}

// TestSite lives through what a site does with media, without a network and long
// after the vendor has gone.
func TestSite(t *testing.T) {
	needRoot(t, "docker-registry", "curl", "dockerd", "docker", "docker-compose", "cosign", "openssl", "jq")
	v := newVendor(t, shell{})
	one, digest := v.publish(t, "1.0.0")
	two, digest11 := v.publish(t, "1.1.0")
	media := v.mirror(t, one, two)
	v.server.stop()
	unchanged(t, media)
	s := shop{newIsland(t), media, v.pub, map[string]string{"1.0.0": digest, "1.1.0": digest11}}

	t.Run("engine down", s.engineDown)
	s.startEngine(t)
	t.Run("verify", func(t *testing.T) { s.run(t, "sealift", "verify", "-q", media, "--key", v.pub) })
	t.Run("another key", s.anotherKey)
	t.Run("flipped byte", s.flippedByte)
	// Each of these needs the ones before.
	_ = t.Run("install", s.install) &&
		t.Run("kill", s.killUpgrade) &&
		t.Run("upgrade and rollback", s.upgradeAndRollback) &&
		t.Run("reboot", s.reboot) &&
		t.Run("receipt", s.receipt) &&
		t.Run("uninstall and install", s.uninstallAndInstall) &&
		t.Run("library", s.fromLibrary)
}

// installs is the command that installs 1.0.0 from media.
func (s shop) installs(media, key string) []string {
	return []string{"sealift", "install", media, "--key", key, "--version", "1.0.0", "--yes"}
}

// upgrades is the command that upgrades to the highest version, 1.1.0.
func (s shop) upgrades() []string {
	return []string{"sealift", "upgrade", "shop", s.media, "--key", s.pub, "--yes"}
}

// order places the order that must never get lost.
func (s shop) order(t *testing.T) {
	t.Helper()
	s.run(t, "curl", "-fsS", "-d", "item=a lighthouse", page+"orders")
}

// instance is what status tells of an instance.
type instance struct {
	Instance, State string
	Working         bool
	Current         *struct {
		App struct{ Version string }
	}
	Components []struct {
		Component, Container, State, Health string
		Working                             bool
	}
}

// status returns what status tells of the shop, nil when it knows of none.
func (s shop) status(t *testing.T) *instance {
	t.Helper()
	r := s.try(t, "sealift", "status", "-o", "json")
	list := decode[struct{ Instances []instance }](t, r.stdout).Instances
	if len(list) == 0 {
		return nil
	}
	if want := map[bool]int{true: 0, false: 1}[list[0].Working]; r.code != want {
		t.Errorf("status: exit status %d, want %d\n%s", r.code, want, r.stdout)
	}
	return &list[0]
}

// works fails unless the shop runs in the version, on the images its release
// names, and has the order.
func (s shop) works(t *testing.T, version string) {
	t.Helper()
	if html := s.run(t, "curl", "-fsS", page); !strings.Contains(html, "version "+version) || strings.Count(html, "a lighthouse") != 1 {
		t.Fatalf("the page of %s is\n%s", version, html)
	}
	i := s.status(t)
	if i == nil || !i.Working || i.State != "installed" || i.Current.App.Version != version || len(i.Components) != 3 {
		t.Fatalf("status of %s = %+v", version, i)
	}
	for _, c := range i.Components {
		if !c.Working || c.State != "running" || c.Health != "healthy" {
			t.Errorf("%s: %+v", c.Component, c)
		}
		s.engineAgrees(t, c.Container)
		image := s.run(t, "docker", "inspect", "--format", "{{.Image}}", c.Container)
		digests := strings.Fields(s.run(t, "docker", "image", "inspect", "--format", "{{join .RepoDigests \" \"}}", image))
		want := "@" + s.image(t, version, c.Component)
		if !slices.ContainsFunc(digests, func(d string) bool { return strings.HasSuffix(d, want) }) {
			t.Errorf("%s runs %v, the release has %s", c.Component, digests, want)
		}
	}
}

// engineAgrees fails unless the engine's own check, run inside the container by
// the program bound into it, comes to say that it is healthy.
func (s shop) engineAgrees(t *testing.T, container string) {
	t.Helper()
	for range 60 {
		if got := s.run(t, "docker", "inspect", "--format", "{{.State.Health.Status}}", container); got == "healthy" {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Errorf("container %s does not get healthy: %s", container, s.run(t, "docker", "inspect", "--format", "{{json .State.Health}}", container))
}

// image returns the digest of a component's image in a release on the media.
func (s shop) image(t *testing.T, version, component string) string {
	t.Helper()
	for _, child := range readManifest(t, s.media, s.roots[version]).Manifests {
		if child.Annotations["dev.sealift.components"] == component {
			return child.Digest
		}
	}
	t.Fatalf("%s has no image for %s", version, component)
	return ""
}

// nothing fails unless the engine and the site are as if nothing had happened.
func (s shop) nothing(t *testing.T) {
	t.Helper()
	if left := s.run(t, "docker", "ps", "-aq") + s.run(t, "docker", "volume", "ls", "-q") +
		s.run(t, "docker", "network", "ls", "-q", "--filter", "type=custom"); left != "" {
		t.Errorf("left: %s", left)
	}
	if i := s.status(t); i != nil {
		t.Errorf("status = %+v, want nothing installed", i)
	}
}

func (s shop) engineDown(t *testing.T) {
	s.fails(t, 1, []string{"Is the docker daemon running", "hint: ", "start the engine"}, s.installs(s.media, s.pub)...)
}

func (s shop) anotherKey(t *testing.T) {
	_, another := s.newKey(t)
	s.fails(t, 15, []string{"is not signed by the key given", "hint: compare fingerprints"}, s.installs(s.media, another)...)
	s.nothing(t)
}

func (s shop) flippedByte(t *testing.T) {
	damaged := t.TempDir() + "/media"
	s.run(t, "cp", "-r", s.media, damaged)
	layer := s.layer(t, "web")
	flip(t, damaged, layer)
	s.fails(t, 12, []string{layer, "hint: do not use this copy"}, s.installs(damaged, s.pub)...)
	s.nothing(t)
}

// layer returns the layer that this machine needs of a component of 1.0.0.
func (s shop) layer(t *testing.T, component string) string {
	t.Helper()
	for _, image := range readManifest(t, s.media, s.image(t, "1.0.0", component)).Manifests {
		if image.Platform.Architecture == runtime.GOARCH {
			return readManifest(t, s.media, image.Digest).Layers[0].Digest
		}
	}
	t.Fatalf("%s has no image for %s", component, runtime.GOARCH)
	return ""
}

func (s shop) install(t *testing.T) {
	s.run(t, s.installs(s.media, s.pub)...)
	s.order(t)
	s.works(t, "1.0.0")
}

// killUpgrade kills upgrades, though not the compose they started, as they pull,
// as they begin and as they change the last component, and then upgrades again
// or goes back.
func (s shop) killUpgrade(t *testing.T) {
	for _, tt := range []struct {
		moment, state string
		next          []string
		version       string
	}{
		{"web: pull", "", s.upgrades(), "1.1.0"},
		{"apply example.com/shop", "interrupted", s.upgrades(), "1.1.0"},
		{"api: start", "interrupted", []string{"sealift", "rollback", "shop", "1", "--yes"}, "1.0.0"},
		{"web: start", "interrupted", s.upgrades(), "1.1.0"},
	} {
		p := s.start(t, s.upgrades()...)
		for deadline := time.Now().Add(time.Minute); !strings.Contains(p.log.String(), tt.moment); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the upgrade never says %q:\n%s", tt.moment, p.log)
			}
		}
		p.kill()
		i := s.status(t)
		if i == nil || i.Current == nil || i.Current.App.Version != "1.0.0" || tt.state != "" && i.State != tt.state {
			t.Errorf("killed at %q: status = %+v, want 1.0.0 %s", tt.moment, i, tt.state)
		}
		s.run(t, tt.next...)
		s.works(t, tt.version)
		if tt.version != "1.0.0" {
			s.run(t, "sealift", "rollback", "shop", "1", "--yes")
			s.works(t, "1.0.0")
		}
	}
}

// upgradeAndRollback works with a registry that serves the media already, where
// the other steps let sealift run one for as long as they take.
func (s shop) upgradeAndRollback(t *testing.T) {
	s.serve(t, s.media, site)
	database := s.container(t, "db")
	s.run(t, s.upgrades()...)
	s.works(t, "1.1.0")
	if got := s.container(t, "db"); got != database {
		t.Errorf("the database's container is %s after the upgrade, was %s; nothing of it changed", got, database)
	}
	s.run(t, "sealift", "rollback", "shop", "--yes")
	s.works(t, "1.0.0")
}

// container returns the id of a component's container.
func (s shop) container(t *testing.T, component string) string {
	t.Helper()
	for _, c := range s.status(t).Components {
		if c.Component == component {
			return c.Container
		}
	}
	t.Fatalf("%s has no container", component)
	return ""
}

// reboot stops and starts the engine; what it ran comes back without the media.
func (s shop) reboot(t *testing.T) {
	s.engine.stop()
	s.startEngine(t)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if i := s.status(t); i != nil && i.Working {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status a minute after the reboot = %+v", s.status(t))
		}
	}
	s.works(t, "1.0.0")
}

func (s shop) uninstallAndInstall(t *testing.T) {
	s.run(t, "sealift", "uninstall", "shop", "--yes")
	if left := s.run(t, "docker", "ps", "-aq"); left != "" {
		t.Errorf("containers left: %s", left)
	}
	const volume = "sealift-shop_db_data"
	if got := s.run(t, "docker", "volume", "ls", "-q"); got != volume {
		t.Errorf("volumes = %q, want the data kept", got)
	}
	s.run(t, append(s.installs(s.media, s.pub), "--allow-downgrade")...) // 1.1.0 was accepted before
	s.works(t, "1.0.0")
	if log := s.run(t, "sealift", "audit", "show"); !strings.Contains(log, "install begun shop example.com/shop 1.0.0") || strings.Count(log, "install begun shop example.com/shop 1.0.0 revision 15 policy 1 by --allow-downgrade") != 1 {
		t.Errorf("the audit log does not tell of it:\n%s", log)
	}
	s.run(t, "sealift", "audit", "verify")
	s.run(t, "sealift", "uninstall", "shop", "--delete-data", volume, "--yes")
	s.nothing(t)
	if _, err := os.Stat(s.dir + "/home"); err != nil {
		t.Errorf("the site's records are gone: %v", err)
	}
}

// fromLibrary lives on without the media, and without the images that the engine had.
func (s shop) fromLibrary(t *testing.T) {
	s.run(t, "sealift", "import", s.media)
	away := s.media + ".away"
	if err := os.Rename(s.media, away); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(away, s.media); err != nil {
			t.Error(err)
		}
	}()
	s.run(t, "docker", "image", "prune", "-af")
	// works looks into the manifests of the media.
	held := s
	held.media = s.dir + "/home/layout"
	s.run(t, "sealift", "install", "shop:1.0.0", "--yes")
	s.order(t)
	held.works(t, "1.0.0")
	s.run(t, "sealift", "upgrade", "shop", "--yes")
	held.works(t, "1.1.0")
	s.run(t, "docker", "image", "prune", "-af")
	s.run(t, "sealift", "rollback", "shop", "--yes")
	held.works(t, "1.0.0")
	if list := s.run(t, "sealift", "list"); !strings.Contains(list, "installed as shop") {
		t.Errorf("list does not say what is installed:\n%s", list)
	}
	s.run(t, "sealift", "audit", "verify")
	s.run(t, "sealift", "uninstall", "shop", "--delete-data", "sealift-shop_db_data", "--yes")
}
