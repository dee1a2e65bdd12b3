//go:build unix

package compose_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
)

// running is what docker inspect says of components that run since started.
func running(started time.Time, keys ...string) string {
	var list []string
	for _, key := range keys {
		list = append(list, fmt.Sprintf(`{"Id":%q,"Name":%q,"State":{"Status":"running","StartedAt":%q},"Config":{"Labels":{"dev.sealift.component":%q,"dev.sealift.definition":"same"}}}`,
			key, key, started.UTC().Format(time.RFC3339Nano), key))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// inspecting returns an engine whose containers are what inspect says; each time
// they are listed, a line goes to the file returned.
func inspecting(t *testing.T, inspect string, opts func(*compose.Options)) (e *compose.Engine, listed string) {
	t.Helper()
	listed = filepath.Join(t.TempDir(), "listed")
	o := programs(t, map[string]string{"docker": dockerServer + dockerCompose +
		`case "$1 $2" in "ps "*) echo 1 >> ` + listed + `; echo 1;; "inspect "*) cat <<'END'` + "\n" + inspect + "\nEND\n" + `;; "image inspect") echo '[]';; "compose "*) ;; *) ` + unknown + `;; esac`})
	if opts != nil {
		opts(&o)
	}
	e, err := compose.Detect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e, listed
}

// TestApplyCostsNothingUnchanged holds that components that have run all along
// are not waited for, however many there are: the engine is asked as often as for
// one of them.
func TestApplyCostsNothingUnchanged(t *testing.T) {
	t.Parallel()
	keys := []string{"a", "b", "c", "d"}
	e, listed := inspecting(t, running(time.Now().Add(-2*time.Hour), keys...), func(o *compose.Options) { o.Settle = time.Hour })
	d := target.Deployment{
		Instance: "x", Template: &artifact.Template{Components: map[string]artifact.Component{}},
		Images: map[string]string{}, Definitions: map[string]string{},
	}
	for _, key := range keys {
		d.Template.Components[key], d.Images[key], d.Definitions[key] = artifact.Component{}, "image", "same"
	}
	var ready []string
	err := e.Apply(t.Context(), d, func(ev target.Event) {
		if ev.Type == target.EventReady {
			ready = append(ready, ev.Component)
		}
	})
	if got := strings.Join(ready, " "); err != nil || got != "a b c d" {
		t.Errorf("Apply() = %v with %s ready, want all", err, got)
	}
	data, err := os.ReadFile(listed)
	if got, want := strings.Count(string(data), "\n"), 4; err != nil || got != want {
		t.Errorf("Apply() listed containers %d times (%v), want %d: before, at the one start, once to wait, and at the end", got, err, want)
	}
}

// TestApplySettles holds that a component without a check must run on, also where
// the engine's clock is ahead.
func TestApplySettles(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			t.Parallel()
			const settle = 50 * time.Millisecond
			start := time.Now()
			e, _ := inspecting(t, running(start.Add(ahead), "a"), func(o *compose.Options) { o.Settle = settle })
			if err := e.Apply(t.Context(), one(artifact.Component{}), nil); err != nil || time.Since(start) < settle {
				t.Errorf("Apply() = %v after %v, want it to wait %v", err, time.Since(start), settle)
			}
		})
	}
}

// TestProbeEndsWithItsCaller holds that a health check at a published port, the
// second address tried, ends when its caller does.
func TestProbeEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	defer server.CloseClientConnections() // Close waits for them
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	inspect := strings.TrimSuffix(running(time.Now(), "a"), "}]") + `,"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"` + port + `"}]}}}]`
	e, _ := inspecting(t, inspect, nil)
	d := one(artifact.Component{
		Ports:  map[string]artifact.Port{"http": {Port: 80}},
		Health: &artifact.Health{HTTP: &artifact.HTTPCheck{Port: "http"}, Timeout: "1h", Interval: "1h"},
	})
	done := make(chan error)
	go func() { done <- e.Apply(ctx, d, nil) }()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Apply() = %v, want it cancelled", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Apply() waits for a health check after its context ended")
	}
}
