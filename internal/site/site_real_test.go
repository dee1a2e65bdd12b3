//go:build real

package site_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
	"github.com/sealift/sealift/internal/target/compose/composetest"
)

const app = "../target/compose/testdata/app"

func TestMain(m *testing.M) {
	if dir := os.Getenv("SEALIFT_TEST_UPGRADE"); dir != "" {
		upgradeChild(dir)
		return
	}
	composetest.Main(m)
}

// real returns a delivery of a database that stays and a page that changes.
func real(t testing.TB, version, db, web, extra string) site.Delivery {
	t.Helper()
	d := delivery(t, `
apiVersion: sealift/v1
kind: App
id: example.com/real
version: `+version+`
platforms: [linux/amd64, linux/arm64]
parameters:
  port: {type: integer, default: 18081}
  password: {type: string, secret: true, generate: {length: 20}}
components:
  db:
    image: x
    ports: {http: 8080}
    volumes: {data: {path: /data}}
    files: {/etc/db.conf: {source: db.conf, template: true, mode: "0400"}}
    health: {http: {port: http, path: /healthz}, interval: 1s}
    exports: {URL: "http://${self.host}:${self.ports.http}"}
  web:
    image: x
    env: {DB: "${components.db.exports.URL}", VERSION: "${app.version}", `+extra+`}
    ports: {http: {port: 8080, publish: "${parameters.port}"}}
    health: {http: {port: http, path: /healthz}, interval: 1s, retries: 5}
    dependsOn: {db: healthy}
`, map[string]string{"db.conf": "password ${parameters.password}\n"})
	d.Images = map[string]string{"db": db, "web": web}
	return d
}

func ask(t testing.TB, method, url, body string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v: %s", method, url, resp.Status, err, data)
	}
	return string(data)
}

// addressOf returns the URL of a component's container.
func addressOf(t testing.TB, s site.InstanceStatus, component string) string {
	t.Helper()
	id := s.Components[slices.IndexFunc(s.Components, func(c target.ComponentStatus) bool { return c.Component == component })].Container
	return "http://" + composetest.Shared.Docker(t, "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id) + ":8080"
}

func containerOf(s site.InstanceStatus, component string) string {
	for _, c := range s.Components {
		if c.Component == component {
			return c.Container
		}
	}
	return ""
}

func TestRealLife(t *testing.T) {
	ctx, engine := t.Context(), composetest.Shared.Engine(t)
	one, two := composetest.Shared.Image(t, app, "one"), composetest.Shared.Image(t, app, "two")
	h := open(t, t.TempDir(), engine)
	t.Cleanup(func() { composetest.Shared.Clean(t, "real") })
	const page = "http://127.0.0.1:18081"

	r := must(h.Install(ctx, real(t, "1.0.0", one, one, "A: b"), site.InstallOptions{}))(t)
	first := status(t, h, "real")
	if !first.Working || r.Number != 1 {
		t.Fatalf("Status() = %+v after revision %d, want it working", first, r.Number)
	}
	_, wanted, _ := strings.Cut(one, "@")
	for _, c := range first.Components {
		if c.Image != one || !slices.Contains(c.Digests, wanted) {
			t.Errorf("%s runs %s as %v, want %s", c.Component, c.Image, c.Digests, one)
		}
	}
	ask(t, "POST", addressOf(t, first, "db")+"/data", "precious")
	if got := ask(t, "GET", page+"/peer?url=http://db:8080/data", ""); got != "precious" {
		t.Errorf("web reads %q from db, want precious", got)
	}
	if got, want := ask(t, "GET", addressOf(t, first, "db")+"/file?path=/etc/db.conf", ""), "password "+password(t, h, "real")+"\n"; got != want {
		t.Errorf("db.conf = %q, want %q", got, want)
	}

	// A port that is taken is found before anything is written.
	_, err := h.Install(ctx, real(t, "1.0.0", one, one, "A: b"), site.InstallOptions{Instance: "second"})
	var ports *target.PortsError
	if !errors.As(err, &ports) || ports.Taken[0].HostPort != 18081 {
		t.Errorf("Install() over a taken port = %v, want a PortsError", err)
	}

	// The upgrade changes web and leaves db alone.
	must(h.Upgrade(ctx, real(t, "1.1.0", one, two, "A: b"), site.InstallOptions{}))(t)
	second := status(t, h, "real")
	if !second.Working || containerOf(first, "db") != containerOf(second, "db") || containerOf(first, "web") == containerOf(second, "web") {
		t.Errorf("containers before %+v and after %+v, want another web only", first.Components, second.Components)
	}
	if got := ask(t, "GET", page+"/self", ""); !strings.Contains(got, "BUILD=two") || !strings.Contains(got, "VERSION=1.1.0") {
		t.Errorf("web = %s, want build two", got)
	}

	// Back, without the registry.
	composetest.Shared.StopRegistry()
	must(h.Rollback(ctx, "real", site.RollbackOptions{}))(t)
	if got := ask(t, "GET", page+"/self", ""); !strings.Contains(got, "BUILD=one") || !strings.Contains(got, "VERSION=1.0.0") {
		t.Errorf("web = %s, want build one", got)
	}
	if got := ask(t, "GET", page+"/peer?url=http://db:8080/data", ""); got != "precious" {
		t.Errorf("data = %q after the rollback, want precious", got)
	}

	// Forward with an image the engine has lost: a clear error, nothing touched.
	composetest.Shared.Docker(t, "image", "rm", "--force", two)
	_, err = h.Rollback(ctx, "real", site.RollbackOptions{Revision: 2})
	var pull *target.PullError
	if !errors.As(err, &pull) || pull.Component != "web" || pull.Reference != two {
		t.Errorf("Rollback() without registry and image = %v, want a PullError", err)
	}
	if got := status(t, h, "real"); !got.Working || got.State != site.StateInstalled {
		t.Errorf("Status() = %+v, want it untouched", got)
	}
	if err := composetest.Shared.StartRegistry(); err != nil {
		t.Fatal(err)
	}
	must(h.Rollback(ctx, "real", site.RollbackOptions{Revision: 2}))(t)

	out := must(h.Uninstall(ctx, "real", site.UninstallOptions{}))(t)
	if !slices.Equal(out.Kept, []string{"sealift-real_db_data"}) {
		t.Errorf("Uninstall() = %+v, want the volume kept", out)
	}
	if left := composetest.Shared.Docker(t, "ps", "-aq") + composetest.Shared.Docker(t, "network", "ls", "-q", "--filter", "name=sealift"); left != "" {
		t.Errorf("left after Uninstall: %s", left)
	}
	must(h.Install(ctx, real(t, "1.1.0", one, two, "A: b"), site.InstallOptions{}))(t)
	if got := ask(t, "GET", page+"/peer?url=http://db:8080/data", ""); got != "precious" {
		t.Errorf("data = %q after installing again, want precious", got)
	}
	out = must(h.Uninstall(ctx, "real", site.UninstallOptions{DeleteData: []string{"sealift-real_db_data"}}))(t)
	if len(out.Kept) != 0 || composetest.Shared.Docker(t, "volume", "ls", "-q") != "" {
		t.Errorf("Uninstall() with data = %+v, want the volume gone", out)
	}
}

func TestRealFailedUpgrade(t *testing.T) {
	ctx, engine := t.Context(), composetest.Shared.Engine(t)
	one := composetest.Shared.Image(t, app, "one")
	h := open(t, t.TempDir(), engine)
	t.Cleanup(func() { composetest.Shared.Clean(t, "real") })
	must(h.Install(ctx, real(t, "1.0.0", one, one, "A: b"), site.InstallOptions{}))(t)
	ask(t, "POST", addressOf(t, status(t, h, "real"), "db")+"/data", "precious")

	_, err := h.Upgrade(ctx, real(t, "1.1.0", one, one, "CRASH: no config"), site.InstallOptions{})
	var unhealthy *target.UnhealthyError
	if !errors.As(err, &unhealthy) || unhealthy.Component != "web" || !strings.Contains(strings.Join(unhealthy.LastLogs, "\n"), "cannot start: no config") {
		t.Fatalf("Upgrade() = %v, want web unhealthy with its last words", err)
	}
	if got := status(t, h, "real"); got.State != site.StateFailed || got.Current.Number != 1 || got.Working {
		t.Errorf("Status() = %+v, want a failed upgrade over revision 1", got)
	}
	must(h.Rollback(ctx, "real", site.RollbackOptions{}))(t)
	if got := status(t, h, "real"); got.State != site.StateInstalled || !got.Working {
		t.Errorf("Status() = %+v, want it working", got)
	}

	_, err = h.Upgrade(ctx, real(t, "1.1.1", one, one, `BROKEN: "1"`), site.InstallOptions{Atomic: true})
	var failed *site.FailedError
	if !errors.As(err, &failed) || failed.Restored == nil || failed.Restored.App.Version != "1.0.0" {
		t.Fatalf("Upgrade() = %v, want 1.0.0 restored", err)
	}
	if got := status(t, h, "real"); got.State != site.StateInstalled || !got.Working || got.Current.Number != 5 {
		t.Errorf("Status() = %+v, want revision 5 working", got)
	}
	if got := ask(t, "GET", "http://127.0.0.1:18081/peer?url=http://db:8080/data", ""); got != "precious" {
		t.Errorf("data = %q, want precious", got)
	}
}

// TestRealKill kills an upgrade at several moments, with everything it started,
// and goes on by upgrading again and by rolling back.
func TestRealKill(t *testing.T) {
	engine := composetest.Shared.Engine(t)
	one, two := composetest.Shared.Image(t, app, "one"), composetest.Shared.Image(t, app, "two")
	dir := t.TempDir()
	h := open(t, dir, engine)
	t.Cleanup(func() { composetest.Shared.Clean(t, "real") })
	must(h.Install(t.Context(), real(t, "1.0.0", one, one, "A: b"), site.InstallOptions{}))(t)
	ask(t, "POST", addressOf(t, status(t, h, "real"), "db")+"/data", "precious")

	interrupted := 0
	for i, delay := range []time.Duration{300, 600, 900, 1200, 1500, 1900, 2300, 2800} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(composetest.Shared.Env, "SEALIFT_TEST_UPGRADE="+dir, "ONE="+two, "TWO="+two)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay * time.Millisecond)
		killTree(t, cmd.Process.Pid)
		_ = cmd.Wait()
		s := status(t, h, "real")
		t.Logf("killed after %v: %s %s; %s", delay*time.Millisecond, s.State, s.Message, said.String())
		if s.State == site.StateInterrupted {
			interrupted++
		}
		if i%2 == 0 {
			must(h.Upgrade(t.Context(), real(t, "1.1.0", two, two, "A: b"), site.InstallOptions{}))(t)
		} else {
			must(h.Rollback(t.Context(), "real", site.RollbackOptions{Revision: 1}))(t)
		}
		s = status(t, h, "real")
		if s.State != site.StateInstalled || !s.Working || len(s.Components) != 2 {
			t.Fatalf("Status() = %+v, want it working", s)
		}
		if got := ask(t, "GET", "http://127.0.0.1:18081/peer?url=http://db:8080/data", ""); got != "precious" {
			t.Fatalf("data = %q, want precious", got)
		}
		if i%2 == 0 {
			must(h.Rollback(t.Context(), "real", site.RollbackOptions{Revision: 1}))(t)
		}
	}
	if interrupted < 3 {
		t.Errorf("only %d kills hit an upgrade", interrupted)
	}
}

// killTree kills a process with its children, which are in groups of their own.
func killTree(t *testing.T, pid int) {
	t.Helper()
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range children {
		data, _ := os.ReadFile(name)
		for _, child := range strings.Fields(string(data)) {
			var n int
			if _, err := fmt.Sscan(child, &n); err == nil {
				killTree(t, n)
			}
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// upgradeChild is the process TestRealKill kills.
func upgradeChild(dir string) {
	ctx := context.Background()
	engine, err := compose.Detect(ctx, compose.Options{})
	if err == nil {
		var h *site.Home
		if h, err = site.Open(dir, site.Options{Target: engine}); err == nil {
			_, err = h.Upgrade(ctx, real(&testing.B{}, "1.1.0", os.Getenv("ONE"), os.Getenv("TWO"), "A: b"), site.InstallOptions{})
		}
	}
	fmt.Println(err)
}
