package compose_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
)

// shop returns the input for the application in testdata/shop.
func shop(t *testing.T) target.RenderInput {
	t.Helper()
	data, err := os.ReadFile("testdata/shop/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	app, err := artifact.ParseTemplate("app.yaml", data, os.DirFS("testdata/shop"))
	if err != nil {
		t.Fatal(err)
	}
	return input(app, map[string]any{
		"httpPort": int64(8080), "greeting": `Grüezi: it's #1, 100% "free" $HOME ${X}`, "dbPassword": "s3cret$value",
	})
}

// input returns an input with made-up images for an instance called test.
func input(app *artifact.App, values map[string]any) target.RenderInput {
	in := target.RenderInput{App: app, Instance: "test", Images: map[string]string{}, Values: values, Dir: "/site/instances/test"}
	for i, key := range app.Template.Keys() {
		in.Images[key] = fmt.Sprintf("127.0.0.1:5050/%s@sha256:%064d", key, i)
	}
	return in
}

// parse reads a template given inline; files are its carried files.
func parse(t *testing.T, text string, files map[string]string) *artifact.App {
	t.Helper()
	dir := fstest.MapFS{}
	for name, data := range files {
		dir[name] = &fstest.MapFile{Data: []byte(data)}
	}
	head := "apiVersion: sealift/v1\nkind: App\nid: example.com/a\nversion: 1.0.0\nplatforms: [linux/amd64]\n"
	app, err := artifact.ParseTemplate("app.yaml", []byte(head+text), dir)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func TestRenderGolden(t *testing.T) {
	t.Parallel()
	project, err := compose.Renderer{}.Render(shop(t))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", project.Documents[compose.File])
	for _, f := range project.Files {
		fmt.Fprintf(&b, "-- %s %04o %d:%d\n%q\n", f.Path, f.Mode, f.UID, f.GID, f.Data)
	}
	fmt.Fprintf(&b, "-- addresses\n%v\n-- volumes\n%v\n-- losses\n%s\n", project.Addresses, project.Volumes, strings.Join(project.Losses, "\n"))
	golden(t, "testdata/shop.golden", b.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestRenderProbe gives the engine every check, where there is a program to run.
func TestRenderProbe(t *testing.T) {
	t.Parallel()
	in := shop(t)
	in.Probe = "/home/of/site/bin/probe"
	project, err := compose.Renderer{}.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	text := string(project.Documents[compose.File])
	checks := 0
	for _, c := range in.App.Template.Components {
		if c.Health != nil {
			checks++
		}
	}
	if got := strings.Count(text, "healthcheck:"); got != checks {
		t.Errorf("%d components have a check the engine runs, want %d:\n%s", got, checks, text)
	}
	if !strings.Contains(text, "/.sealift/probe") || !strings.Contains(text, in.Probe) {
		t.Errorf("the program is not bound into any container:\n%s", text)
	}
	for _, l := range project.Losses {
		if strings.Contains(l, "not by the engine") {
			t.Errorf("a loss is left: %s", l)
		}
	}
}

func TestRenderIsDeterministic(t *testing.T) {
	t.Parallel()
	first, err := compose.Renderer{}.Render(shop(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := compose.Renderer{}.Render(shop(t))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Fatalf("the same input gives another project (-first +again):\n%s", diff)
		}
	}
}

// TestRenderTouchesOnlyWhatChanged holds the promise that an upgrade restarts
// nothing that stayed the same.
func TestRenderTouchesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*target.RenderInput)
		want   []string
	}{
		{"nothing", func(*target.RenderInput) {}, nil},
		{"title", func(in *target.RenderInput) { in.App.Template.Title = "Laden" }, nil},
		{"version", func(in *target.RenderInput) { in.App.Template.Version = "1.0.1" }, []string{"migrate"}},
		{"one image", func(in *target.RenderInput) {
			in.Images["web"] = "127.0.0.1:5050/web@sha256:" + strings.Repeat("f", 64)
		}, []string{"web"}},
		{"a file", func(in *target.RenderInput) { in.App.Files["logo.bin"] = []byte("new") }, []string{"web"}},
		{"a secret", func(in *target.RenderInput) { in.Values["dbPassword"] = "another" }, []string{"db", "migrate", "web"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before, err := compose.Renderer{}.Render(shop(t))
			if err != nil {
				t.Fatal(err)
			}
			in := shop(t)
			tt.change(&in)
			after, err := compose.Renderer{}.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			var changed []string
			for _, key := range in.App.Template.Keys() {
				if before.Definitions[key] != after.Definitions[key] {
					changed = append(changed, key)
				}
			}
			if diff := cmp.Diff(tt.want, changed); diff != "" {
				t.Errorf("changed components (-want +got):\n%s", diff)
			}
		})
	}
}

// hostile are values that mean something to YAML, to Compose or to a shell.
var hostile = []string{
	"", " ", "plain", "$", "$$", "${X}", "$${X}", "a$b", "${X:-y}", "%s", "#", "a #b", "a: b", "- a", "? a", "&a", "*a", "!a", "|", ">", "%a",
	"@a", "`a`", "{a: b}", "[a, b]", "yes", "no", "on", "off", "y", "n", "null", "~", "true", "1", "01", "0o7", "1_000", "1e3", ".5", "0x1f", "12:30:45",
	"2001-01-01", "=", "<<", "'", `"`, `\`, `\n`, "a\nb", "a\n", "\n", "\r\n", "a\tb", "\x01\x1b\x7f", "Grüße 你好 🚀", "\u0085\u2028\u2029\ufeff", "\ufffe",
	strings.Repeat("long words ", 200), "--", "...", "a\n---\nb", "trailing ", " leading",
}

func TestRenderKeepsValues(t *testing.T) {
	t.Parallel()
	for i, value := range hostile {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			app := parse(t, `
parameters: {p: {type: string}}
components:
  on:
    image: a
    env: {NO: "${parameters.p}"}
    args: ["${parameters.p}"]
    entrypoint: [/a, "${parameters.p}x"]
    files: {/f: {source: f, template: true}}
`, map[string]string{"f": "${parameters.p}"})
			project, err := compose.Renderer{}.Render(input(app, map[string]any{"p": value}))
			if err != nil {
				t.Fatal(err)
			}
			var doc struct {
				Services map[string]struct {
					Environment map[string]string
					Command     []string
					Entrypoint  []string
				}
			}
			if err := yaml.Unmarshal(project.Documents[compose.File], &doc); err != nil {
				t.Fatal(err)
			}
			s := doc.Services["on"]
			for what, got := range map[string]string{
				"env": interpolate(t, s.Environment["NO"]), "arg": interpolate(t, s.Command[0]),
				"entrypoint": strings.TrimSuffix(interpolate(t, s.Entrypoint[1]), "x"), "file": string(project.Files[0].Data),
			} {
				if got != value {
					t.Errorf("%s = %q, want %q", what, got, value)
				}
			}
		})
	}
}

// interpolate does what Compose does to a value, and fails on a substitution.
func interpolate(t *testing.T, s string) string {
	t.Helper()
	if strings.Contains(strings.ReplaceAll(s, "$$", ""), "$") {
		t.Errorf("%q has a $ that Compose would substitute", s)
	}
	return strings.ReplaceAll(s, "$$", "$")
}

func TestRenderErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, template string
		values         map[string]any
		want           string
	}{
		{"cron", "components: {a: {image: x, kind: cron}}", nil, "components.a.kind: not possible with compose"},
		{"missing value", "parameters: {p: {type: string}}\ncomponents: {a: {image: x, env: {A: '${parameters.p}'}}}", nil, "components.a.env.A: ${parameters.p}: no value given"},
		{"NUL", "parameters: {p: {type: string}}\ncomponents: {a: {image: x, args: ['${parameters.p}']}}", map[string]any{"p": "a\x00b"}, "components.a.args[0]: holds a NUL byte"},
		{"port out of range", "parameters: {p: {type: integer}}\ncomponents: {a: {image: x, ports: {http: {port: 80, publish: '${parameters.p}'}}}}", map[string]any{"p": int64(70000)}, "want a port from 1 to 65535"},
		{"port twice", "parameters: {p: {type: integer}}\ncomponents: {a: {image: x, ports: {http: {port: 80, publish: '${parameters.p}'}}}, b: {image: x, ports: {http: {port: 80, publish: 8080}}}}",
			map[string]any{"p": int64(8080)}, "components.b.ports.http.publish: port 8080/tcp of the host is taken by components.a.ports.http"},
		{"too much text", exponential(), map[string]any{}, "expands to too much text"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := compose.Renderer{}.Render(input(parse(t, tt.template, nil), tt.values))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Render() error = %v, want one with %q", err, tt.want)
			}
			var unsupported *compose.UnsupportedError
			if got := errors.As(err, &unsupported); got != (tt.name == "cron") {
				t.Errorf("error is an UnsupportedError: %v", got)
			}
		})
	}
}

// exponential returns a template of a few lines whose exports double 40 times.
func exponential() string {
	var b strings.Builder
	b.WriteString("components:\n  a:\n    image: x\n    env: {A: '${self.exports.X0}'}\n    exports:\n")
	for i := range 40 {
		fmt.Fprintf(&b, "      X%d: '${self.exports.X%d}${self.exports.X%d}'\n", i, i+1, i+1)
	}
	b.WriteString("      X40: aaaa\n")
	return b.String()
}

// TestRenderRenamedComponent shows that data follows a component to its new key.
func TestRenderRenamedComponent(t *testing.T) {
	t.Parallel()
	app := parse(t, "components: {database: {image: x, aliases: [db], volumes: {data: {path: /data}}}}", nil)
	for _, tt := range []struct {
		name  string
		there []string
		want  []string
	}{
		{"first install", nil, []string{"sealift-test_database_data"}},
		{"renamed", []string{"sealift-test_db_data"}, []string{"sealift-test_db_data"}},
		{"installed under the new key", []string{"sealift-test_database_data"}, []string{"sealift-test_database_data"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := input(app, nil)
			in.Volumes = tt.there
			project, err := compose.Renderer{}.Render(in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, project.Volumes); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
		})
	}
}
