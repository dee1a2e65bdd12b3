//go:build real

package real

import (
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	// workers is how many blobs mirror copies at once.
	workers = 4
	// refetched bounds what each of them may have to fetch again after a kill.
	refetched = 8 << 20
)

// TestKillMirror kills mirror again and again while four large layers arrive,
// onto media that hold a release already.
func TestKillMirror(t *testing.T) {
	need(t, "docker-registry", "curl", "oras")
	v := newVendor(t, shell{})
	shop, _ := v.publish(t, "1.0.0")
	media := v.mirror(t, shop)
	ref, content := v.pushRandom(t, "big:1", workers, 80<<20)
	slow := newProxy(t, v.registry, 160<<20)
	ref = strings.Replace(ref, v.registry, slow.address, 1)
	mirror := []string{"sealift", "mirror", "-q", ref, media}

	const kills = 5
	for n := range int64(kills) {
		p := v.start(t, mirror...)
		for limit := slow.sent.Load() + content/6 + n<<20; slow.sent.Load() < limit; time.Sleep(time.Millisecond) {
			select {
			case <-p.done:
				t.Fatalf("mirror ended before kill %d:\n%s", n, p.log)
			default:
			}
		}
		p.kill()
		// The release is as sound as before, and what has its final name is
		// whole.
		v.run(t, "sealift", "verify", "-q", media, "--key", v.pub)
		checkBlobs(t, media)
	}
	v.run(t, mirror...)
	v.run(t, "sealift", "verify", "-q", "--signatures=false", media)
	checkBlobs(t, media)
	if left, err := filepath.Glob(filepath.Join(media, "sealift", "partial", "*", "*")); err != nil || len(left) > 0 {
		t.Errorf("left after the last run: %v, %v", left, err)
	}
	again := slow.sent.Load() - content
	t.Logf("%d bytes of content, %d more sent over %d kills", content, again, kills)
	if most := int64(kills * workers * refetched); again > most {
		t.Errorf("%d bytes were sent again, want at most %d", again, most)
	}
}

// pushRandom pushes an artifact of layers of the given size with random content
// and returns its size too.
func (v *vendor) pushRandom(t testing.TB, name string, layers int, size int64) (ref string, content int64) {
	t.Helper()
	dir := t.TempDir()
	ref = v.registry + "/" + name
	argv := []string{"oras", "push", "--no-tty", "--plain-http", "--disable-path-validation", ref}
	for n := range layers {
		path := filepath.Join(dir, string(rune('a'+n)))
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{byte(n)}), size); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		argv = append(argv, path+":application/octet-stream")
	}
	v.run(t, argv...)
	return ref, int64(layers) * size
}

// proxy stands before a registry, counts what it sends and holds it back to a
// rate, so that little is under way between it and its clients.
type proxy struct {
	address string
	sent    atomic.Int64
	rate    int64 // bytes per second, of all connections together

	mu   sync.Mutex
	free time.Time // when the line is free for the next bytes
}

func newProxy(t testing.TB, registry string, rate int64) *proxy {
	t.Helper()
	p := &proxy{rate: rate}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	forward.ErrorLog = log.New(io.Discard, "", 0) // clients are killed here
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { _ = recover() }() // the reverse proxy panics when its client is killed
			forward.ServeHTTP(&throttled{w, p}, r)
		}),
		ReadHeaderTimeout: time.Minute,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return p
}

// wait takes the line for n bytes and returns how long it takes until they are
// through. Time in which nothing is sent is not made up for.
func (p *proxy) wait(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return p.free.Sub(now)
}

// throttled is a response that counts and waits.
type throttled struct {
	http.ResponseWriter
	proxy *proxy
}

func (w *throttled) Write(b []byte) (int, error) {
	time.Sleep(w.proxy.wait(len(b)))
	n, err := w.ResponseWriter.Write(b)
	w.proxy.sent.Add(int64(n))
	return n, err
}

// Unwrap lets the reverse proxy find the flusher below.
func (w *throttled) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestENOSPC fills a disk with mirror and makes room afterwards.
func TestENOSPC(t *testing.T) {
	needRoot(t, "docker-registry", "curl")
	i := newIsland(t)
	v := newVendor(t, i.shell)
	shop, _ := v.publish(t, "1.0.0")
	disk := t.TempDir()
	v.run(t, "mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk)
	media := filepath.Join(disk, "media")
	mirror := []string{"sealift", "mirror", "-q", shop, media}
	hint := []string{"no space left on device", "sealift: hint: make room"}
	v.fails(t, 14, []string{"bytes are to be written and", hint[1]}, mirror...)
	blind := append(slices.Clone(mirror), "--no-space-check")
	v.fails(t, 14, hint, blind...)
	// Nothing on the full disk is taken for a release.
	v.fails(t, 14, []string{"nothing finished is on"}, "sealift", "verify", "-q", media, "--key", v.pub)
	before := v.run(t, "du", "-sk", media)
	v.fails(t, 14, hint, blind...)
	t.Logf("on the full disk: %s, after another try: %s", before, v.run(t, "du", "-sk", media))
	v.run(t, "mount", "-o", "remount,size=64m", disk)
	v.run(t, mirror...)
	v.run(t, "sealift", "verify", "-q", media, "--key", v.pub)
	if left := v.run(t, "find", media+"/sealift", "-path", "*/partial/*/*"); left != "" {
		t.Errorf("left after the last run:\n%s", left)
	}
}
