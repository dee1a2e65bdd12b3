package remote_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/remote"
)

// newClient returns a client that takes no credentials.
func newClient(t *testing.T, opts remote.Options) *remote.Client {
	t.Helper()
	c, err := remote.NewClient(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		plain bool
		want  bool
	}{
		{"registry.example.com/shop", false, false},
		{"registry.example.com/shop", true, true},
		{"127.0.0.1:5000/shop", false, true},
		{"127.5.5.5/shop", false, true},
		{"localhost:5000/shop", false, true},
		{"localhost/shop", false, true},
		{"[::1]:5000/shop", false, true},
		{"10.0.0.1:5000/shop", false, false},
		{"localhost.example.com/shop", false, false},
		{"127.0.0.1.example.com/shop", false, false},
	}
	for _, tt := range tests {
		repo, err := newClient(t, remote.Options{PlainHTTP: tt.plain}).Repository(tt.name)
		if err != nil {
			t.Errorf("Repository(%s) = %v", tt.name, err)
			continue
		}
		if repo.PlainHTTP != tt.want {
			t.Errorf("Repository(%s).PlainHTTP = %v, want %v", tt.name, repo.PlainHTTP, tt.want)
		}
	}
	for _, bad := range []string{"", "shop", "127.0.0.1:5000/UPPER", "a b/c"} {
		if _, err := newClient(t, remote.Options{}).Repository(bad); err == nil {
			t.Errorf("Repository(%q) = nil, want an error", bad)
		}
	}
}

// protected answers as a registry that wants the user "courier" with the
// password "s3cret", and knows no content.
func protected(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "courier" || password != "s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !strings.HasPrefix(r.UserAgent(), "sealift/test") {
			t.Errorf("User-Agent = %q, want sealift/test", r.UserAgent())
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func TestCredentials(t *testing.T) {
	host := protected(t)
	for _, tt := range []struct {
		name, config string
		unauthorized bool
	}{
		{"none", `{}`, true},
		{"wrong", `{"auths":{"HOST":{"auth":"Y291cmllcjp3cm9uZw=="}}}`, true},
		{"right", `{"auths":{"HOST":{"auth":"Y291cmllcjpzM2NyZXQ="}}}`, false},
		{"helper", `{"credHelpers":{"HOST":"sealift-test"}}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("DOCKER_CONFIG", dir)
			t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			write(t, filepath.Join(dir, "config.json"), strings.ReplaceAll(tt.config, "HOST", host), 0o600)
			write(t, filepath.Join(dir, "docker-credential-sealift-test"),
				"#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"courier\",\"Secret\":\"s3cret\"}'\n", 0o755)
			repo, err := newClient(t, remote.Options{DockerConfig: true, UserAgent: "sealift/test"}).Repository(host + "/shop")
			if err != nil {
				t.Fatal(err)
			}
			_, err = repo.Resolve(t.Context(), "1.0.0")
			if got := remote.IsUnauthorized(err); got != tt.unauthorized {
				t.Errorf("IsUnauthorized(%v) = %v, want %v", err, got, tt.unauthorized)
			}
			if !tt.unauthorized && !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("Resolve = %v, want %v", err, errdef.ErrNotFound)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error shows the password: %v", err)
			}
		})
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenDockerConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	write(t, filepath.Join(dir, "config.json"), "{", 0o600)
	if _, err := remote.NewClient(remote.Options{DockerConfig: true}); err == nil {
		t.Error("NewClient with a broken Docker configuration = nil, want an error")
	}
}

func TestIsUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	repo, err := newClient(t, remote.Options{}).Repository(address + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = repo.Resolve(t.Context(), "1"); !remote.IsUnreachable(err) {
		t.Errorf("IsUnreachable(%v) = false, want true", err)
	}
	if remote.IsUnreachable(errdef.ErrNotFound) || remote.IsUnauthorized(errdef.ErrNotFound) {
		t.Error("a missing tag counts as unreachable or unauthorized")
	}
}

// A plan asks a registry many questions at once, again and again; net/http alone
// keeps only two of the connections.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	const atOnce = 12
	var opened atomic.Int32
	var waiting atomic.Pointer[sync.WaitGroup]
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		waiting.Load().Done()
		waiting.Load().Wait()
		w.WriteHeader(http.StatusNotFound)
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	repo, err := newClient(t, remote.Options{}).Repository(strings.TrimPrefix(srv.URL, "http://") + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		all := &sync.WaitGroup{}
		all.Add(atOnce)
		waiting.Store(all)
		var done sync.WaitGroup
		for range atOnce {
			done.Go(func() { _, _ = repo.Resolve(t.Context(), "1") })
		}
		done.Wait()
	}
	if n := opened.Load(); n > 2*atOnce { // some may not be back in time
		t.Errorf("%d connections for 5 times %d requests, want about %d", n, atOnce, atOnce)
	}
}
