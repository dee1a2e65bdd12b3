//go:build real

// Package composetest gives tests a host of their own: a network namespace cut
// off from everything, with a Docker daemon on private directories and a
// registry, both gone afterwards. It needs root, dockerd, docker-compose and
// iptables, and is built with the tag real only.
package composetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sealift/sealift/internal/target/compose"
)

// inside marks the process that runs in the namespace.
const inside = "SEALIFT_COMPOSETEST_DIR"

// Host is the host all tests of a package share.
type Host struct {
	// Env is the environment that leads to its daemon.
	Env []string
	// Registry is HOST:PORT of its registry.
	Registry string
	dir      string
	server   *http.Server
}

// Shared is the host, for tests of a package whose TestMain calls Main.
var Shared *Host

// Main runs the tests of a package in a namespace with a host. It ends the
// process.
func Main(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(reenter())
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "composetest:", err)
		code = 1
	}
	os.Exit(code)
}

// reenter runs this test again in namespaces of its own.
func reenter() int {
	dir, err := os.MkdirTemp("", "composetest-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("unshare", append([]string{"--net", "--mount", os.Args[0]}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "composetest:", err)
		return 1
	}
	return 0
}

func run(m *testing.M) (code int, err error) {
	dir := os.Getenv(inside)
	for _, argv := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"mount", "-t", "tmpfs", "tmpfs", "/run"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return 1, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	stop, err := startDaemon(dir)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	Shared = &Host{dir: dir, Env: append(os.Environ(), "DOCKER_HOST=unix://"+dir+"/d.sock")}
	if err := Shared.StartRegistry(); err != nil {
		return 1, err
	}
	defer Shared.StopRegistry()
	return m.Run(), nil
}

func startDaemon(dir string) (stop func() error, err error) {
	logFile, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec",
		"--pidfile", dir+"/pid", "--host", "unix://"+dir+"/d.sock")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		return logFile.Close()
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", dir+"/d.sock")
	}}}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if resp, err := client.Get("http://d/_ping"); err == nil {
			_ = resp.Body.Close()
			return stop, nil
		}
	}
	_ = stop()
	said, _ := os.ReadFile(logFile.Name())
	return nil, fmt.Errorf("dockerd does not answer: %s", said)
}

// StartRegistry starts the registry, at the same address and with the same
// content each time.
func (h *Host) StartRegistry() error {
	if h.Registry == "" {
		h.Registry = "127.0.0.1:5050"
	}
	if handler == nil {
		handler = registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	}
	l, err := net.Listen("tcp", h.Registry)
	if err != nil {
		return err
	}
	h.server = &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func(s *http.Server) { _ = s.Serve(l) }(h.server)
	return nil
}

var handler http.Handler

// StopRegistry takes the registry off the network.
func (h *Host) StopRegistry() { _ = h.server.Close() }

// Engine returns the host's engine.
func (h *Host) Engine(t testing.TB) *compose.Engine {
	t.Helper()
	e, err := compose.Detect(t.Context(), compose.Options{Env: h.Env, Settle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(e.Info())
	return e
}

// Docker runs a docker command and returns what it printed.
func (h *Host) Docker(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSpace(h.docker(t, nil, args...))
}

func (h *Host) docker(t testing.TB, in io.Reader, args ...string) string {
	t.Helper()
	cmd := exec.Command("docker", args...)
	cmd.Env, cmd.Stdin = h.Env, in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// Image builds the test program at source into an image with ENV BUILD=build,
// pushes it and returns its reference by digest. The engine does not keep it.
func (h *Host) Image(t testing.TB, source, build string) string {
	t.Helper()
	root := t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(root, "app"), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", source, err, out)
	}
	if err := os.Mkdir(filepath.Join(root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	archive, err := exec.Command("tar", "-C", root, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	tag := h.Registry + "/test/app:" + build
	h.docker(t, bytes.NewReader(archive), "import", "-c", `ENTRYPOINT ["/app"]`, "-c", "ENV BUILD="+build, "-", tag)
	h.Docker(t, "push", "--quiet", tag)
	ref := h.Docker(t, "image", "inspect", "--format", "{{index .RepoDigests 0}}", tag)
	h.Docker(t, "image", "rm", "--force", tag, ref)
	return ref
}

// Clean removes everything the daemon has of an instance, volumes too.
func (h *Host) Clean(t testing.TB, instance string) {
	filter := "label=" + compose.LabelInstance + "=" + instance
	for _, step := range []struct{ list, remove []string }{
		{[]string{"ps", "-aq", "--filter", filter}, []string{"rm", "--force", "--volumes"}},
		{[]string{"volume", "ls", "-q", "--filter", filter}, []string{"volume", "rm"}},
		{[]string{"network", "ls", "-q", "--filter", "name=" + compose.ProjectName(instance) + "_"}, []string{"network", "rm"}},
	} {
		if ids := strings.Fields(h.Docker(t, step.list...)); len(ids) > 0 {
			h.Docker(t, append(step.remove, ids...)...)
		}
	}
}
