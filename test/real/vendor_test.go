//go:build real

package real

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// example is the application the tests deliver. The path is absolute because
// programs on an island start in another directory.
var example = func() string {
	dir, err := filepath.Abs("../../examples/shop")
	if err != nil {
		panic(err) // without a working directory nothing here can run
	}
	return dir
}()

// shopImages lists the images of a version of the example, by component.
func shopImages(version string) map[string]string {
	images := filepath.Join(build, "images")
	return map[string]string{
		"db":  images + "/redis-7.0",
		"api": images + "/shop-api-" + version,
		"web": images + "/shop-web-" + version,
	}
}

// vendor is somebody with a key and a registry.
type vendor struct {
	shell
	registry string // HOST:PORT
	server   *process
	key, pub string
}

// newVendor starts a vendor's registry, in the namespaces s works in.
func newVendor(t testing.TB, s shell) *vendor {
	t.Helper()
	v := &vendor{shell: s}
	v.registry, v.server = newRegistry(t, s)
	v.key, v.pub = v.newKey(t)
	return v
}

// newKey makes a key pair with sealift.
func (s shell) newKey(t testing.TB) (key, pub string) {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "cosign")
	s.run(t, "sealift", "keygen", "--out", prefix)
	return prefix + ".key", prefix + ".pub"
}

// newRegistry starts Debian's docker-registry on a free port with a directory of
// its own.
func newRegistry(t testing.TB, s shell) (address string, server *process) {
	t.Helper()
	return newDistribution(t, s, "docker-registry")
}

// newDistribution is newRegistry for a program of any version of distribution.
func newDistribution(t testing.TB, s shell, program string) (address string, server *process) {
	t.Helper()
	dir := t.TempDir()
	address = freeAddress(t)
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"+
		"storage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %s}\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	server = s.start(t, "env", "OTEL_TRACES_EXPORTER=none", program, "serve", config)
	server.await(t, s, "curl", "-fsS", "http://"+address+"/v2/")
	return address, server
}

// freeAddress returns a loopback address nothing listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// publish publishes a version of the example and returns its reference and the
// root's digest.
func (v *vendor) publish(t testing.TB, version string) (ref, digest string) {
	t.Helper()
	argv := []string{"sealift", "publish", "-o", "json", "-q", filepath.Join(example, version, "app.yaml"), v.registry + "/shop", "--key", v.key}
	for key, image := range shopImages(version) {
		argv = append(argv, "--image", key+"="+image)
	}
	out := decode[struct{ Digest string }](t, v.run(t, argv...))
	return v.registry + "/shop:" + version, out.Digest
}

// mirror copies what refs name to media in a new directory.
func (v *vendor) mirror(t testing.TB, refs ...string) (media string) {
	t.Helper()
	media = filepath.Join(t.TempDir(), "media")
	v.run(t, append(append([]string{"sealift", "mirror", "-q"}, refs...), media)...)
	return media
}
