//go:build real

package real

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds every program that runs in the foreground.
	patience = 2 * time.Minute
	// password is that of every key the tests make.
	password = "real"
	// epoch dates the releases, so that they have the same digest in each run.
	epoch = "1700000000"
)

// build holds the binary and the example's images; "" when it is not given.
var build string

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (code int, err error) {
	// The tools must neither find nor leave anything in the user's home.
	home, err := os.MkdirTemp("", "sealift-real-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	// runc keeps a file there for each program it runs in a container.
	if err := os.Mkdir(filepath.Join(home, "run"), 0o700); err != nil {
		return 0, err
	}
	if dir := os.Getenv("SEALIFT_BUILD"); dir != "" {
		if build, err = filepath.Abs(dir); err != nil {
			return 0, err
		}
	}
	for key, value := range map[string]string{
		"HOME":              home,
		"DOCKER_CONFIG":     filepath.Join(home, "docker"),
		"REGCTL_CONFIG":     filepath.Join(home, "regctl.json"),
		"XDG_RUNTIME_DIR":   filepath.Join(home, "run"),
		"SEALIFT_HOME":      filepath.Join(home, "site"),
		"COSIGN_PASSWORD":   password,
		"SOURCE_DATE_EPOCH": epoch,
		"PATH":              build + ":" + os.Getenv("PATH"),
	} {
		if err := os.Setenv(key, value); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// need skips the test unless the programs are there, or fails it in CI, where
// they have to be.
func need(t testing.TB, programs ...string) {
	t.Helper()
	missing := ""
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			missing += " " + name
		}
	}
	if _, err := os.Stat(filepath.Join(build, "images", "redis-7.0")); build == "" || err != nil {
		missing += fmt.Sprintf(" images in SEALIFT_BUILD=%q (run make build images)", build)
	}
	switch {
	case missing == "":
	case os.Getenv("CI") == "true":
		t.Fatalf("missing:%s", missing)
	default:
		t.Skipf("missing:%s", missing)
	}
}

// needRoot is need for tests that make namespaces and mounts.
func needRoot(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, to make namespaces")
		}
		t.Skip("needs root, to make namespaces")
	}
	need(t, append(programs, "unshare", "nsenter", "ip", "mount")...)
}

// shell runs programs, on this machine or in the namespaces of another process.
type shell struct {
	env []string // added to this process's environment
	pid int      // whose network and mounts the programs see; 0 for this process's
}

// result is what a program left.
type result struct {
	command        string
	code           int
	stdout, stderr string
}

func (s shell) command(ctx context.Context, argv []string) *exec.Cmd {
	if s.pid != 0 {
		argv = append([]string{"nsenter", "--net", "--mount", "--target", strconv.Itoa(s.pid), "--"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// try runs a program to its end, whatever that is.
func (s shell) try(t testing.TB, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	cmd := s.command(ctx, argv)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s: not done after %v\n%s", strings.Join(argv, " "), patience, stderr.String())
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return result{strings.Join(argv, " "), cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// run runs a program that must succeed and returns what it printed.
func (s shell) run(t testing.TB, argv ...string) string {
	t.Helper()
	r := s.try(t, argv...)
	if r.code != 0 {
		t.Fatalf("%s: exit status %d\n%s%s", r.command, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// cranePush pushes all of a layout with crane. It uploads the blobs that manifests have in
// common, as the empty config, once for each of them and at the same time, and now and
// then the registry is shown a manifest before its config, or takes half an upload.
func (s shell) cranePush(t testing.TB, layout, to string) {
	t.Helper()
	push := []string{"crane", "push", "--index", layout, to}
	for range 3 {
		r := s.try(t, push...)
		if r.code == 0 {
			return
		}
		if !strings.Contains(r.stderr, "MANIFEST_BLOB_UNKNOWN") && !strings.Contains(r.stderr, "DIGEST_INVALID") {
			t.Fatalf("%s: exit status %d\n%s", r.command, r.code, r.stderr)
		}
	}
	s.run(t, push...)
}

// fails runs a program that must end with the given exit status and say each of
// the texts.
func (s shell) fails(t testing.TB, code int, texts []string, argv ...string) {
	t.Helper()
	r := s.try(t, argv...)
	if r.code != code {
		t.Errorf("%s: exit status %d, want %d\n%s%s", r.command, r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("%s: stderr lacks %q:\n%s", r.command, text, r.stderr)
		}
	}
}

// process is a program in the background.
type process struct {
	cmd  *exec.Cmd
	log  *transcript
	done chan struct{}
}

// transcript collects what a program in the background says.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *transcript) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs a program in the background until it is stopped or the test ends.
func (s shell) start(t testing.TB, argv ...string) *process {
	t.Helper()
	p := &process{cmd: s.command(context.WithoutCancel(t.Context()), argv), log: &transcript{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// Nothing is left behind when the test itself is killed.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ends is told by what it says
		close(p.done)
	}()
	t.Cleanup(p.stop)
	return p
}

// stop ends the program, at first gently.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.kill()
	}
}

// kill ends the program at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails when it has ended
	<-p.done
}

// await waits until the program answers to probe, which is another command.
func (p *process) await(t testing.TB, s shell, probe ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); s.try(t, probe...).code != 0; time.Sleep(50 * time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("%s: ended\n%s", p.cmd, p.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: does not answer\n%s", p.cmd, p.log)
		}
	}
}

// decode reads a JSON document a program printed.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
