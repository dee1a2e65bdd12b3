//go:build unix

package compose_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
)

// Answers of programs, as scripts.
const (
	dockerServer  = `[ "$1 $2" = "version --format" ] && echo '{"Version":"28.1.0","Os":"linux","Arch":"amd64"}' && exit 0; `
	dockerCompose = `[ "$1 $2" = "compose version" ] && echo 2.40.3 && exit 0; `
	dockerDead    = `[ "$1 $2" = "version --format" ] && echo 'Cannot connect to the Docker daemon' >&2 && echo null && exit 1; `
	podmanInfo    = `[ "$1" = "info" ] && echo '{"version":{"Version":"4.3.1","OsArch":"linux/arm64"}}' && exit 0; `
	unknown       = `echo "unknown command: $*" >&2; exit 1`
)

// programs writes scripts by name and returns options that find nothing else.
func programs(t *testing.T, scripts map[string]string) compose.Options {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return compose.Options{LookPath: func(name string) (string, error) {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return "", exec.ErrNotFound
		}
		return path, nil
	}}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		scripts map[string]string
		want    string
	}{
		{"docker compose", map[string]string{"docker": dockerServer + dockerCompose + unknown, "docker-compose": "echo 1.29.2"},
			"docker 28.1.0 (linux/amd64) with docker compose 2.40.3"},
		{"docker-compose", map[string]string{"docker": dockerServer + unknown, "docker-compose": "echo 1.29.2"},
			"docker 28.1.0 (linux/amd64) with docker-compose 1.29.2"},
		{"dead docker, podman", map[string]string{
			"docker": dockerDead + dockerCompose + unknown, "podman": podmanInfo + unknown,
			"podman-compose": `[ "$2" = --short ] && exit 2; echo "podman-compose version: 1.0.3"; echo "using podman version: 4.3.1"`,
		}, "podman 4.3.1 (linux/arm64) with podman-compose 1.0.3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := compose.Detect(t.Context(), programs(t, tt.scripts))
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Info().String(); got != tt.want {
				t.Errorf("Detect() = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDetectNothing(t *testing.T) {
	t.Parallel()
	_, err := compose.Detect(t.Context(), programs(t, map[string]string{"docker": dockerDead + dockerCompose + unknown}))
	var none *target.NoEngineError
	if !errors.Is(err, target.ErrNoEngine) || !errors.As(err, &none) || len(none.Tried) != 4 {
		t.Fatalf("Detect() = %v, want ErrNoEngine after four attempts", err)
	}
	for i, want := range []string{"docker compose: no answer", "docker-compose: docker-compose not found", "podman compose: podman not found", "podman-compose: podman not found"} {
		if !strings.Contains(none.Tried[i], want) {
			t.Errorf("tried %q, want %q", none.Tried[i], want)
		}
	}
	if !strings.Contains(none.Tried[0], "Cannot connect to the Docker daemon") {
		t.Errorf("tried %q, want what docker said", none.Tried[0])
	}
}

// one is a deployment of one component.
func one(component artifact.Component) target.Deployment {
	return target.Deployment{
		Instance: "x", Images: map[string]string{"a": "image"}, Definitions: map[string]string{"a": "same"},
		Template: &artifact.Template{Components: map[string]artifact.Component{"a": component}},
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		want         []target.Event
		fails        bool
	}{
		{"there", `echo sha256:1; exit 0`, nil, false},
		{"not there", `[ "$1" = pull ] && exit 0; echo 'Error: No such image: x' >&2; exit 1`, []target.Event{{Type: target.EventPull, Component: "a", Message: "image"}}, false},
		{"not with podman", `[ "$1" = pull ] && exit 0; echo 'Error: inspecting object: x: image not known' >&2; exit 125`, []target.Event{{Type: target.EventPull, Component: "a", Message: "image"}}, false},
		{"no answer", `echo 'Cannot connect to the Docker daemon' >&2; exit 1`, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e, err := compose.Detect(t.Context(), programs(t, map[string]string{"docker": dockerServer + dockerCompose + tt.script}))
			if err != nil {
				t.Fatal(err)
			}
			var got []target.Event
			err = e.Fetch(t.Context(), one(artifact.Component{}), func(ev target.Event) { got = append(got, ev) })
			if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.fails {
				t.Errorf("Fetch() = %v, want failure %v; events (-want +got):\n%s", err, tt.fails, diff)
			}
			var failed *compose.CommandError
			if tt.fails && (!errors.As(err, &failed) || !strings.Contains(failed.Stderr, "Cannot connect")) {
				t.Errorf("Fetch() = %v, want a CommandError with what was said", err)
			}
		})
	}
}

// TestCheckPlatform holds that a template for other machines is refused.
func TestCheckPlatform(t *testing.T) {
	t.Parallel()
	e, err := compose.Detect(t.Context(), programs(t, map[string]string{"docker": dockerServer + dockerCompose + `[ "$1" = ps ] && exit 0; ` + unknown}))
	if err != nil {
		t.Fatal(err)
	}
	for platform, fits := range map[string]bool{"linux/amd64": true, "linux/amd64/v3": true, "linux/arm64": false, "linux/amd": false} {
		d := one(artifact.Component{})
		d.Template.Platforms = []string{platform}
		var other *target.PlatformError
		if err := e.Check(t.Context(), d); errors.As(err, &other) == fits || fits && err != nil {
			t.Errorf("Check() of an app for %s = %v, want it refused: %v", platform, err, !fits)
		}
	}
}

// TestCancelEndsChildren holds that nothing a command started lives on after
// its context: the sleeping child would keep the pipe open for a minute.
func TestCancelEndsChildren(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	e, err := compose.Detect(t.Context(), programs(t, map[string]string{
		"docker": dockerServer + dockerCompose + `sleep 60 & echo $! > ` + pidFile + `.tmp; mv ` + pidFile + `.tmp ` + pidFile + `; wait`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Fetch(ctx, one(artifact.Component{}), nil) }()
	for {
		if _, err := os.Stat(pidFile); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Fetch() = %v, want it cancelled", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Fetch() waits for the child of a cancelled command")
	}
}

// TestReplaceBeforeUp holds the way around docker-compose 1 with Docker 25 and
// newer, which cannot replace a container: it goes first. The container of the
// component that did not change stays.
func TestReplaceBeforeUp(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	const list = `[{"Id":"aaa","State":{"Status":"running"},"Config":{"Labels":{"dev.sealift.component":"a","dev.sealift.definition":"old"}}},` +
		`{"Id":"bbb","State":{"Status":"running"},"Config":{"Labels":{"dev.sealift.component":"b","dev.sealift.definition":"same"}}},` +
		`{"Id":"ccc","Mounts":[{"Type":"volume","Name":"sealift-x_old-a_data"}],"State":{"Status":"running"},"Config":{"Labels":{"dev.sealift.component":"old-a","dev.sealift.definition":"x"}}}]`
	for _, tt := range []struct {
		name, composeVersion string
		want                 []string
	}{
		{"docker-compose 1", "1.29.2", []string{"stop aaa ccc", "rm aaa ccc"}},
		{"docker-compose 2", "2.40.3", []string{"stop ccc", "rm ccc"}}, // its data may be a's now
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := log + tt.composeVersion
			e, err := compose.Detect(t.Context(), programs(t, map[string]string{
				"docker":         dockerServer + `case $1 in ps) echo aaa bbb ccc;; inspect) echo '` + list + `';; image) echo 1;; stop|rm) echo "$@" >> ` + log + `;; *) ` + unknown + `;; esac`,
				"docker-compose": `case "$*" in version*) echo ` + tt.composeVersion + `;; *) echo stopped here >&2; exit 1;; esac`,
			}))
			if err != nil {
				t.Fatal(err)
			}
			d := target.Deployment{
				Instance: "x", Images: map[string]string{"a": "i", "b": "i"}, Definitions: map[string]string{"a": "new", "b": "same"},
				Template: &artifact.Template{Components: map[string]artifact.Component{"a": {}, "b": {}}},
			}
			if err := e.Apply(t.Context(), d, nil); err == nil || !strings.Contains(err.Error(), "stopped here") {
				t.Fatalf("Apply() = %v, want the failure of docker-compose up", err)
			}
			data, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.Split(strings.TrimSpace(string(data)), "\n")); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}
