package remote_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

func redirect(to string) http.HandlerFunc {
	return remotetest.Status(http.StatusTemporaryRedirect, "Location", to)
}

// The person's password goes to the registry and nowhere it redirects, be that
// only another port, nor back to the registry by way of another.
func TestCredentialsStayBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	write(t, filepath.Join(dir, "config.json"), `{"auths":{"`+host+`":{"auth":"Y291cmllcjpzM2NyZXQ="}}}`, 0o600)
	data := []byte("0123456789")
	get := blobPath(data)
	const basic = "Basic Y291cmllcjpzM2NyZXQ="
	none := map[string]string{"Authorization": "", "Cookie": "", "Referer": ""}
	for name, storage := range map[string]string{"another port": "127.0.0.1:6000", "another host": "storage.example:80"} {
		synctest.Test(t, func(t *testing.T) {
			net := remotetest.NewNetwork(t)
			net.Serve(host,
				exchange(get, map[string]string{"Authorization": ""}, 1, remotetest.Status(http.StatusUnauthorized, "WWW-Authenticate", `Basic realm="r"`)),
				exchange(get, map[string]string{"Authorization": basic}, 1, redirect("http://"+storage+"/one?sig=1")),
				exchange("GET /back", none, 1, redirect("http://"+storage+"/two?sig=1")))
			net.Serve(storage,
				exchange("GET /one?sig=1", none, 1, redirect("http://"+host+"/back")),
				exchange("GET /two?sig=1", none, 1, remotetest.Content(data)))
			got, err := readFrom(t, repository(t, net, remote.Options{DockerConfig: true}), describe(data), 0)
			if got != string(data) || err != nil {
				t.Errorf("%s: Fetch gives %q, %v", name, got, err)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	data := []byte("0123456789")
	get := blobPath(data)
	tests := []struct {
		name   string
		secure bool // the registry is reached by TLS
		plain  bool // plain HTTP was asked for
		serve  func(net *remotetest.Network)
		err    string // what the RedirectError says, "" for none
	}{
		{"to TLS", false, false, func(net *remotetest.Network) {
			net.Serve(host, exchange(get, nil, 1, redirect("https://storage.example/b")))
			net.Serve("storage.example:443", exchange("GET /b", nil, 1, remotetest.Content(data)))
		}, ""},
		{"from TLS to TLS", true, false, func(net *remotetest.Network) {
			net.Serve("registry.example:443", exchange(get, nil, 1, redirect("https://storage.example/b")))
			net.Serve("storage.example:443", exchange("GET /b", nil, 1, remotetest.Content(data)))
		}, ""},
		{"from TLS to none", true, false, func(net *remotetest.Network) {
			net.Serve("registry.example:443", exchange(get, nil, 1, redirect("http://storage.example/b?sig=s3cret")))
			net.Serve("storage.example:80")
		}, "the registry redirects to http://storage.example/b: from https to http"},
		{"from TLS to none on the same host", true, false, func(net *remotetest.Network) {
			net.Serve("registry.example:443", exchange(get, nil, 1, redirect("http://registry.example/b")))
			net.Serve("registry.example:80")
		}, "from https to http"},
		{"to TLS and back, by request", false, true, func(net *remotetest.Network) {
			net.Serve(host, exchange(get, nil, 1, redirect("https://storage.example/b")))
			net.Serve("storage.example:443", exchange("GET /b", nil, 1, redirect("http://storage.example/b")))
			net.Serve("storage.example:80", exchange("GET /b", nil, 1, remotetest.Content(data)))
		}, ""},
		{"to TLS and back", false, false, func(net *remotetest.Network) { // the registry itself is plain: what counts is the step
			net.Serve(host, exchange(get, nil, 1, redirect("https://storage.example/b")))
			net.Serve("storage.example:443", exchange("GET /b", nil, 1, redirect("http://storage.example/b")))
			net.Serve("storage.example:80")
		}, "the registry redirects to http://storage.example/b: from https to http"},
		{"loop", false, false, func(net *remotetest.Network) {
			net.Serve(host, exchange(get, nil, 1, redirect("/b")), exchange("GET /b", nil, 9, redirect("/b")))
		}, "more than 10 redirects in a row"},
		{"to a file", false, false, func(net *remotetest.Network) {
			net.Serve(host, exchange(get, nil, 1, redirect("file:///etc/passwd")))
		}, "the registry redirects to file:///etc/passwd: neither https nor http"},
		{"to FTP", false, false, func(net *remotetest.Network) {
			net.Serve(host, exchange(get, nil, 1, redirect("ftp://storage.example/b")))
		}, "neither https nor http"},
		{"to nonsense", false, false, func(net *remotetest.Network) {
			net.Serve(host, exchange(get, nil, 1, redirect("http://storage.example/%zz?sig=s3cret")))
		}, "its Location is no URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				tt.serve(net)
				name := host + "/shop"
				if tt.secure {
					name = "registry.example/shop"
				}
				repo, err := newClient(t, remote.Options{PlainHTTP: tt.plain, Transport: net.Transport()}).Repository(name)
				if err != nil {
					t.Fatal(err)
				}
				got, err := readFrom(t, repo, describe(data), 0)
				if tt.err == "" && (err != nil || got != string(data)) {
					t.Errorf("Fetch gives %q, %v, want the blob", got, err)
				}
				if tt.err == "" {
					return
				}
				if !errors.As(err, new(*remote.RedirectError)) || !strings.Contains(err.Error(), tt.err) || remote.IsTransient(err) {
					t.Errorf("Fetch = %v, want a RedirectError that will not pass: %s", err, tt.err)
				}
				if err != nil && strings.Contains(err.Error(), "s3cret") {
					t.Errorf("error shows the query: %v", err)
				}
			})
		})
	}
}
