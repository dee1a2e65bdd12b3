//go:build real

package compose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
	"github.com/sealift/sealift/internal/target/compose/composetest"
)

func TestMain(m *testing.M) { composetest.Main(m) }

// write puts a project on the disk as the site does, and returns it deployed.
func write(t *testing.T, in target.RenderInput) target.Deployment {
	t.Helper()
	project, err := compose.Renderer{}.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range project.Files {
		path := filepath.Join(in.Dir, f.Path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.Data, os.FileMode(f.Mode)), os.Chown(path, f.UID, f.GID)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(in.Dir, compose.File), project.Documents[compose.File], 0o600); err != nil {
		t.Fatal(err)
	}
	return target.Deployment{
		Instance: in.Instance, Template: in.App.Template, Images: in.Images, Definitions: project.Definitions,
		Addresses: project.Addresses, Rendered: in.Dir,
	}
}

// up brings a template up under an instance name of its own and takes it down
// when the test ends.
func up(t *testing.T, e *compose.Engine, instance, template string, values map[string]any, ref string) (target.Deployment, error) {
	t.Helper()
	in := input(parse(t, template, map[string]string{"f": "content"}), values)
	in.Instance, in.Dir = instance, t.TempDir()
	for key := range in.Images {
		in.Images[key] = ref
	}
	d := write(t, in)
	t.Cleanup(func() { composetest.Shared.Clean(t, instance) })
	return d, e.Apply(t.Context(), d, func(ev target.Event) { t.Log(ev.Type, ev.Component, ev.Message) })
}

func TestValuesArriveUnchanged(t *testing.T) {
	e := composetest.Shared.Engine(t)
	ref := composetest.Shared.Image(t, "./testdata/app", "values")
	var b strings.Builder
	b.WriteString("parameters:\n")
	values := map[string]any{}
	for i, v := range hostile {
		fmt.Fprintf(&b, "  p%d: {type: string}\n", i)
		values[fmt.Sprintf("p%d", i)] = v
	}
	b.WriteString("components:\n  on:\n    image: x\n    env:\n")
	for i := range hostile {
		fmt.Fprintf(&b, "      V%d: '${parameters.p%d}'\n", i, i)
	}
	b.WriteString("      NO: plain\n    args:\n")
	for i := range hostile {
		fmt.Fprintf(&b, "      - '${parameters.p%d}'\n", i)
	}
	d, err := up(t, e, "values", b.String(), values, ref)
	if err != nil {
		t.Fatal(err)
	}
	status, err := e.Status(t.Context(), d)
	if err != nil || len(status) != 1 {
		t.Fatalf("Status() = %v, %v", status, err)
	}
	var config struct{ Env, Cmd []string }
	if err := json.Unmarshal([]byte(composetest.Shared.Docker(t, "inspect", "--format", "{{json .Config}}", status[0].Container)), &config); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hostile, config.Cmd); diff != "" {
		t.Errorf("args (-want +got):\n%s", diff)
	}
	for i, v := range hostile {
		if want := fmt.Sprintf("V%d=%s", i, v); !slices.Contains(config.Env, want) {
			t.Errorf("env lacks %q", want)
		}
	}
}

func TestUpWaitsForConditions(t *testing.T) {
	e := composetest.Shared.Engine(t)
	ref := composetest.Shared.Image(t, "./testdata/app", "waits")
	const template = `
components:
  db: {image: x, ports: {http: 8080}, volumes: {data: {path: /data}}, health: {tcp: http}, files: {/etc/f: {source: f, mode: "0400", uid: 7}}}
  init: {image: x, kind: job, args: [job, "0"], dependsOn: {db: healthy}}
  api: {image: x, ports: {http: 8080}, health: {http: {port: http, path: /healthz}}, dependsOn: {init: completed}, replicas: 2}
  web: {image: x, ports: {http: {port: 8080, publish: 18080}}, health: {exec: [/app, check], interval: 1s}, dependsOn: {api: healthy}, resources: {cpu: 250m, memory: 64Mi}}
  side: {image: x, kind: daemon, dependsOn: {web: started}}
`
	d, err := up(t, e, "waits", template, nil, ref)
	if err != nil {
		t.Fatal(err)
	}
	started := map[string]time.Time{}
	status, err := e.Status(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status {
		if !s.Working {
			t.Errorf("component %s does not work: %+v", s.Component, s)
		}
		at, err := time.Parse(time.RFC3339Nano, composetest.Shared.Docker(t, "inspect", "--format", "{{.State.StartedAt}}", s.Container))
		if err != nil {
			t.Fatal(err)
		}
		if at.After(started[s.Component]) {
			started[s.Component] = at
		}
	}
	for _, pair := range [][2]string{{"db", "init"}, {"init", "api"}, {"api", "web"}, {"web", "side"}} {
		if !started[pair[0]].Before(started[pair[1]]) {
			t.Errorf("%s started at %v, not before %s at %v", pair[0], started[pair[0]], pair[1], started[pair[1]])
		}
	}
	if got := len(status); got != 6 {
		t.Errorf("%d containers, want 6", got)
	}
	var limits struct{ Memory, NanoCpus int64 }
	id := status[slices.IndexFunc(status, func(s target.ComponentStatus) bool { return s.Component == "web" })].Container
	if err := json.Unmarshal([]byte(composetest.Shared.Docker(t, "inspect", "--format", "{{json .HostConfig}}", id)), &limits); err != nil {
		t.Fatal(err)
	}
	if limits.Memory != 64<<20 || limits.NanoCpus != 250_000_000 {
		t.Errorf("limits = %+v, want 64Mi and 0.25 cores", limits)
	}

	// The same again touches nothing, and the job is not run again.
	before := composetest.Shared.Docker(t, "ps", "-aq", "--no-trunc", "--format", "{{.ID}} {{.CreatedAt}}")
	job := status[slices.IndexFunc(status, func(s target.ComponentStatus) bool { return s.Component == "init" })].Container
	jobEnded := composetest.Shared.Docker(t, "inspect", "--format", "{{.State.FinishedAt}}", job)
	if err := e.Apply(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, composetest.Shared.Docker(t, "ps", "-aq", "--no-trunc", "--format", "{{.ID}} {{.CreatedAt}}")); diff != "" {
		t.Errorf("a second Apply changes containers (-before +after):\n%s", diff)
	}
	if got := composetest.Shared.Docker(t, "inspect", "--format", "{{.State.FinishedAt}}", job); got != jobEnded {
		t.Errorf("the job ran again: finished at %s, before at %s", got, jobEnded)
	}

	if err := e.Remove(t.Context(), d, nil); err != nil {
		t.Fatal(err)
	}
	if got := composetest.Shared.Docker(t, "ps", "-aq", "--filter", "label=dev.sealift.instance=waits"); got != "" {
		t.Errorf("containers left after Remove: %s", got)
	}
	if got, err := e.Volumes(t.Context(), "waits"); err != nil || !slices.Equal(got, []string{"sealift-waits_db_data"}) {
		t.Errorf("Volumes() = %v, %v after Remove, want the one data volume", got, err)
	}
}

func TestUnhealthy(t *testing.T) {
	e := composetest.Shared.Engine(t)
	ref := composetest.Shared.Image(t, "./testdata/app", "unhealthy")
	tests := []struct{ name, template, reason, log string }{
		{"http", `components: {a: {image: x, env: {BROKEN: "1"}, ports: {http: 8080}, health: {http: {port: http, path: /healthz}, interval: 1s, retries: 2}}}`, "503", "listening"},
		{"exec", `components: {a: {image: x, env: {BROKEN: "1"}, health: {exec: [/app, check], interval: 1s, retries: 2}}}`, "not healthy", "listening"},
		{"tcp", `components: {a: {image: x, env: {PORT: "81"}, ports: {http: 8080}, health: {tcp: http, interval: 1s, retries: 2}}}`, "refused", "listening"},
		{"job", `components: {a: {image: x, kind: job, args: [job, "7"]}}`, "exit status was 7", "the job ran"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := up(t, e, "unhealthy-"+tt.name, tt.template, nil, ref)
			var unhealthy *target.UnhealthyError
			if !errors.As(err, &unhealthy) {
				t.Fatalf("Apply() = %v, want an UnhealthyError", err)
			}
			if unhealthy.Component != "a" || !strings.Contains(unhealthy.Reason, tt.reason) || !strings.Contains(strings.Join(unhealthy.LastLogs, "\n"), tt.log) {
				t.Errorf("Apply() = %+v, want reason with %q and logs with %q", unhealthy, tt.reason, tt.log)
			}
		})
	}
}

func TestPullError(t *testing.T) {
	e := composetest.Shared.Engine(t)
	absent := composetest.Shared.Registry + "/test/app@sha256:" + strings.Repeat("0", 64)
	_, err := up(t, e, "absent", "components: {a: {image: x}}", nil, absent)
	var pull *target.PullError
	if !errors.As(err, &pull) || pull.Component != "a" || pull.Reference != absent {
		t.Errorf("Apply() = %v, want a PullError for a", err)
	}
}

// TestMoves brings up a version in which a component has a new key and another a
// port that belonged to a third, and goes back again.
func TestMoves(t *testing.T) {
	e := composetest.Shared.Engine(t)
	ref := composetest.Shared.Image(t, "./testdata/app", "moves")
	const before = `
components:
  db: {image: x, volumes: {data: {path: /data}}}
  web: {image: x, ports: {http: {port: 8080, publish: 18082}}, dependsOn: {db: started}}
`
	const after = `
components:
  database: {image: x, aliases: [db], volumes: {data: {path: /data}}}
  proxy: {image: x, ports: {http: {port: 8080, publish: 18082}}}
  web: {image: x, ports: {http: 8080}, dependsOn: {database: started}}
`
	dir := t.TempDir()
	deploy := func(template string, volumes []string) target.Deployment {
		in := input(parse(t, template, nil), nil)
		in.Instance, in.Dir, in.Volumes = "moves", dir, volumes
		for key := range in.Images {
			in.Images[key] = ref
		}
		return write(t, in)
	}
	t.Cleanup(func() { composetest.Shared.Clean(t, "moves") })
	for i, template := range []string{before, after, before} {
		d := deploy(template, []string{"sealift-moves_db_data"})
		if err := e.Apply(t.Context(), d, nil); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		status, err := e.Status(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if len(status) != len(d.Template.Components) {
			t.Errorf("step %d: %d containers, want %d: %+v", i, len(status), len(d.Template.Components), status)
		}
		for _, s := range status {
			if !s.Working {
				t.Errorf("step %d: %s does not work: %+v", i, s.Component, s)
			}
		}
	}
	if got, err := e.Volumes(t.Context(), "moves"); err != nil || len(got) != 1 {
		t.Errorf("Volumes() = %v, %v, want one that moved along", got, err)
	}
}
