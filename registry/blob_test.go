package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/registry"
)

// sizes lie around the 128 KiB unit of reading and the 64 KiB promised to be
// held back.
var sizes = []int{0, 1, 64 << 10, 128<<10 - 1, 128 << 10, 128<<10 + 1, 256 << 10, 256<<10 + 1, 1<<20 + 17}

var readers = map[string]func(t testing.TB) *repository{
	"stream": func(testing.TB) *repository { return newRepository() },
	"seeker": func(testing.TB) *repository { return newRepository().seekers() },
	"file":   func(t testing.TB) *repository { return newRepository().files(t) },
}

func TestBlob(t *testing.T) {
	t.Parallel()
	for name, newRepo := range readers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepo(t)
			base := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/"
			for _, size := range sizes {
				content := random(size)
				url := base + repo.blob(t, "", content).Digest.String()
				// HEAD before anybody read it; then the first read and later ones.
				for i, method := range []string{"HEAD", "GET", "GET", "HEAD"} {
					a := request(t, method, url)
					if a.StatusCode != http.StatusOK || a.err != nil {
						t.Fatalf("%d bytes, %s %d: status %d, %v", size, method, i, a.StatusCode, a.err)
					}
					if method == "GET" && !bytes.Equal(a.body, content) {
						t.Errorf("%d bytes, %s %d: other bytes", size, method, i)
					}
					// Nothing knows a stream's size before its first byte is sent.
					if a.ContentLength != int64(size) && (name != "stream" || method == "HEAD") {
						t.Errorf("%d bytes, %s %d: Content-Length %d", size, method, i, a.ContentLength)
					}
					checkBlobHeaders(t, a, name != "stream")
				}
			}
		})
	}
}

func checkBlobHeaders(t *testing.T, a answer, ranges bool) {
	t.Helper()
	d := digest.FromBytes(a.body)
	if a.Request.Method == http.MethodHead {
		d = digest.Digest(a.Header.Get("Docker-Content-Digest"))
	}
	accept := "none"
	if ranges {
		accept = "bytes"
	}
	for key, want := range map[string]string{
		"Content-Type":          "application/octet-stream",
		"Docker-Content-Digest": d.String(),
		"ETag":                  `"` + d.String() + `"`,
		"Accept-Ranges":         accept,
	} {
		if got := a.Header.Get(key); got != want {
			t.Errorf("%s: %s: %q, want %q", a.Request.Method, key, got, want)
		}
	}
}

func TestBlobErrors(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	d := repo.blob(t, "", []byte("content")).Digest
	url := serve(t, catalog{"h/r": repo, "h/other": newRepository()}, registry.Options{})
	for _, test := range []struct {
		path, code string
		status     int
	}{
		{"/v2/h/r/blobs/" + absent.String(), "BLOB_UNKNOWN", 404},
		{"/v2/h/other/blobs/" + d.String(), "BLOB_UNKNOWN", 404},
		{"/v2/h/r/blobs/latest", "DIGEST_INVALID", 400},
		{"/v2/h/r/blobs/sha256:ABC", "DIGEST_INVALID", 400},
		{"/v2/h/r/blobs/uploads/1", "BLOB_UPLOAD_UNKNOWN", 404},
		{"/v2/h/none/blobs/" + d.String(), "NAME_UNKNOWN", 404},
	} {
		request(t, http.MethodGet, url+test.path).wantError(t, test.status, test.code)
		request(t, http.MethodHead, url+test.path).wantError(t, test.status, test.code)
	}
	a := request(t, http.MethodGet, url+"/v2/h/r/blobs/"+d.String(), `If-None-Match: W/"x", "`+d.String()+`"`)
	if a.StatusCode != http.StatusNotModified {
		t.Errorf("If-None-Match: status %d, want 304", a.StatusCode)
	}
}

func TestBlobRange(t *testing.T) {
	t.Parallel()
	const size = 300 << 10
	content := random(size)
	tag := `"` + digest.FromBytes(content).String() + `"`
	tests := []struct {
		name    string
		headers []string
		status  int
		from    int
		to      int // exclusive
	}{
		{"middle", []string{"Range: bytes=1000-1999"}, 206, 1000, 2000},
		{"to the end", []string{"Range: bytes=300000-"}, 206, 300000, size},
		{"from the start", []string{"Range: bytes=0-"}, 206, 0, size},
		{"suffix", []string{"Range: bytes=-10"}, 206, size - 10, size},
		{"suffix longer than the blob", []string{"Range: bytes=-999999999"}, 206, 0, size},
		{"end behind the end", []string{"Range: bytes=10-999999999"}, 206, 10, size},
		{"behind the end", []string{"Range: bytes=307200-"}, 416, 0, 0},
		{"empty suffix", []string{"Range: bytes=-0"}, 416, 0, 0},
		{"backwards", []string{"Range: bytes=20-10"}, 200, 0, size},
		{"several", []string{"Range: bytes=0-1,5-6"}, 200, 0, size},
		{"other unit", []string{"Range: lines=0-1"}, 200, 0, size},
		{"nonsense", []string{"Range: bytes=x-y"}, 200, 0, size},
		{"huge", []string{"Range: bytes=99999999999999999999-"}, 200, 0, size},
		{"same entity", []string{"Range: bytes=5-9", "If-Range: " + tag}, 206, 5, 10},
		{"other entity", []string{"Range: bytes=5-9", `If-Range: "other"`}, 200, 0, size},
	}
	for _, test := range tests {
		for _, reader := range []string{"file", "seeker"} {
			t.Run(reader+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				// A repository of its own: the range is the first read of the blob.
				repo := readers[reader](t)
				url := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/" + repo.blob(t, "", content).Digest.String()
				for range 2 {
					a := request(t, http.MethodGet, url, test.headers...)
					if test.status == 416 {
						a.wantError(t, 416, "RANGE_INVALID")
						continue
					}
					if a.StatusCode != test.status || !bytes.Equal(a.body, content[test.from:test.to]) {
						t.Errorf("status %d with %d bytes, want %d with %d", a.StatusCode, len(a.body), test.status, test.to-test.from)
					}
					if want := fmt.Sprintf("bytes %d-%d/%d", test.from, test.to-1, size); test.status == 206 && a.Header.Get("Content-Range") != want {
						t.Errorf("Content-Range %q, want %q", a.Header.Get("Content-Range"), want)
					}
				}
			})
		}
	}
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		repo := newRepository()
		url := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/" + repo.blob(t, "", content).Digest.String()
		if a := request(t, http.MethodGet, url, "Range: bytes=5-9"); a.StatusCode != 200 || !bytes.Equal(a.body, content) {
			t.Errorf("status %d with %d bytes, want the whole blob", a.StatusCode, len(a.body))
		}
	})
}

// TestBlobCorrupt flips a byte: the first client must be cut off or refused,
// every later one refused, whatever it asks for.
func TestBlobCorrupt(t *testing.T) {
	t.Parallel()
	for name, newRepo := range readers {
		for _, size := range sizes[1:] {
			for _, at := range []int{0, size / 2, size - 1} {
				for _, first := range []string{"", "Range: bytes=0-0"} {
					t.Run(fmt.Sprintf("%s/%d/%d/%s", name, size, at, first), func(t *testing.T) {
						t.Parallel()
						testBlobCorrupt(t, newRepo(t), size, at, first)
					})
				}
			}
		}
	}
}

func testBlobCorrupt(t *testing.T, repo *repository, size, at int, first string) {
	var log syncBuffer
	content := random(size)
	d := digest.FromBytes(content)
	flipped := bytes.Clone(content)
	flipped[at] ^= 0x10
	repo.store(t, d, flipped)
	url := serve(t, catalog{"h/r": repo}, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}) + "/v2/h/r/blobs/" + d.String()

	var headers []string
	if first != "" {
		headers = []string{first}
	}
	switch a := request(t, http.MethodGet, url, headers...); {
	case a.StatusCode != http.StatusOK:
		a.wantError(t, http.StatusInternalServerError, "UNKNOWN")
	case a.err == nil:
		t.Errorf("the corrupt blob was sent as a complete answer of %d bytes", len(a.body))
	case len(a.body) > size-64<<10:
		t.Errorf("%d of %d bytes were sent before the hash was known", len(a.body), size)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), d.String()) {
		t.Errorf("log %q, want an error naming the digest", log.String())
	}

	for range 2 {
		message := request(t, http.MethodGet, url).wantError(t, http.StatusInternalServerError, "UNKNOWN")
		if !strings.Contains(message, d.String()) || !strings.Contains(message, "whoever runs this registry") || strings.Contains(message, "sealift") {
			t.Errorf("message %q, want the digest and what to do", message)
		}
		request(t, http.MethodGet, url, "Range: bytes=0-0").wantError(t, http.StatusInternalServerError, "UNKNOWN")
	}

	repo.store(t, d, content)
	if a := request(t, http.MethodGet, url); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, content) {
		t.Errorf("repaired: status %d with %d bytes, want all %d", a.StatusCode, len(a.body), size)
	}
}

// TestBlobCorruptedLater changes a file that was known to be good.
func TestBlobCorruptedLater(t *testing.T) {
	t.Parallel()
	repo := newRepository().files(t)
	content := random(1 << 20)
	d := repo.blob(t, "", content).Digest
	url := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/" + d.String()
	if a := request(t, http.MethodGet, url); a.StatusCode != http.StatusOK {
		t.Fatalf("status %d, want 200", a.StatusCode)
	}
	content[77] ^= 1
	repo.store(t, d, content)
	request(t, http.MethodGet, url, "Range: bytes=0-10").wantError(t, http.StatusInternalServerError, "UNKNOWN")
	request(t, http.MethodHead, url).wantError(t, http.StatusInternalServerError, "UNKNOWN")
}

// countingFile counts the bytes read from a file and keeps its identity.
type countingFile struct {
	*os.File
	read *atomic.Int64
}

func (f countingFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.read.Add(int64(n))
	return n, err
}

// TestBlobRangesShareOnePass asks for many ranges of an unverified blob at once.
func TestBlobRangesShareOnePass(t *testing.T) {
	t.Parallel()
	const size, length, clients = 2 << 20, 1000, 20
	var read atomic.Int64
	repo := newRepository().files(t)
	content := random(size)
	url := "/v2/h/r/blobs/" + repo.blob(t, "", content).Digest.String()
	inner := repo.open
	repo.open = func(d digest.Digest) (io.ReadCloser, error) {
		rc, err := inner(d)
		if err != nil {
			return nil, err
		}
		return countingFile{rc.(*os.File), &read}, nil
	}
	url = serve(t, catalog{"h/r": repo}, registry.Options{}) + url
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			a := request(t, http.MethodGet, url, fmt.Sprintf("Range: bytes=%d-%d", i, i+length-1))
			if !bytes.Equal(a.body, content[i:i+length]) {
				t.Errorf("client %d: status %d with %d bytes, want %d", i, a.StatusCode, len(a.body), length)
			}
		})
	}
	group.Wait()
	// The ranges themselves may go past Read, by sendfile.
	if got := read.Load(); got < size || got > size+clients*length {
		t.Errorf("%d bytes read, want the %d of the blob once, and each range", got, size)
	}
}

// slowReader yields a byte, then waits to be let go.
type slowReader struct {
	first sync.Once
	began chan struct{}
	*os.File
}

func (r *slowReader) Read(p []byte) (int, error) {
	r.first.Do(func() { close(r.began) })
	return r.File.Read(p[:1])
}

// TestBlobRangeAbandoned leaves while a blob is being hashed: the pass must end
// with its last waiter and not spoil the next one.
func TestBlobRangeAbandoned(t *testing.T) {
	t.Parallel()
	repo := newRepository().files(t)
	content := random(4 << 20)
	d := repo.blob(t, "", content).Digest
	began := make(chan struct{})
	var opened atomic.Int32
	inner := repo.open
	repo.open = func(d digest.Digest) (io.ReadCloser, error) {
		rc, err := inner(d)
		if err != nil || opened.Add(1) != 2 { // the second is the pass's own
			return rc, err
		}
		return &slowReader{File: rc.(*os.File), began: began}, nil
	}
	url := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/" + d.String()

	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=0-0")
	go func() { <-began; cancel() }()
	if resp, err := client.Do(req); !errors.Is(err, context.Canceled) {
		_ = resp.Body.Close()
		t.Fatalf("abandoned request: %v, want context.Canceled", err)
	}
	if a := request(t, http.MethodGet, url, "Range: bytes=5-9"); !bytes.Equal(a.body, content[5:10]) {
		t.Errorf("next request: status %d, %q", a.StatusCode, a.body)
	}
}

// failingReader breaks off like a stick that is pulled.
type failingReader struct{ io.Reader }

func (r failingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("input/output error")
	}
	return n, err
}

func TestBlobReadError(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 1 << 20} {
		repo := newRepository()
		content := random(size)
		d := digest.FromBytes(content)
		broken := true
		repo.open = func(digest.Digest) (io.ReadCloser, error) {
			if broken {
				return io.NopCloser(failingReader{bytes.NewReader(content[:size-1])}), nil
			}
			return io.NopCloser(bytes.NewReader(content)), nil
		}
		url := serve(t, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/" + d.String()
		a := request(t, http.MethodGet, url)
		if a.StatusCode == http.StatusOK && a.err == nil {
			t.Errorf("%d bytes: a half-read blob was sent as a complete answer", size)
		}
		request(t, http.MethodHead, url).wantError(t, http.StatusInternalServerError, "UNKNOWN")
		// That the media could not be read says nothing about the content.
		broken = false
		if a := request(t, http.MethodGet, url); !bytes.Equal(a.body, content) {
			t.Errorf("%d bytes, readable again: status %d, %v", size, a.StatusCode, a.err)
		}
	}
}

// resolving is a repository that knows the sizes of its blobs, and insists.
type resolving struct {
	*repository
	sizes map[digest.Digest]int64
}

func (r resolving) Blob(_ context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	size, ok := r.sizes[d]
	if !ok {
		return ocispec.Descriptor{}, errdef.ErrNotFound
	}
	return ocispec.Descriptor{Digest: d, Size: size}, nil
}

func TestBlobResolver(t *testing.T) {
	t.Parallel()
	for name, newRepo := range readers {
		repo := newRepo(t)
		content := random(200 << 10)
		whole := repo.blob(t, "", content).Digest
		short := digest.FromString("short")
		repo.store(t, short, []byte("shor"))
		hidden := repo.blob(t, "", []byte("hidden")).Digest
		manifest := repo.image(t, nil, "").Digest
		r := resolving{repo, map[digest.Digest]int64{whole: int64(len(content)), short: 5}}
		url := serve(t, catalog{"h/r": r}, registry.Options{}) + "/v2/h/r/blobs/"

		a := request(t, http.MethodGet, url+whole.String())
		if !bytes.Equal(a.body, content) || a.ContentLength != int64(len(content)) {
			t.Errorf("%s: status %d, Content-Length %d, want 200, %d", name, a.StatusCode, a.ContentLength, len(content))
		}
		request(t, http.MethodGet, url+short.String()).wantError(t, http.StatusInternalServerError, "UNKNOWN")
		request(t, http.MethodGet, url+hidden.String()).wantError(t, http.StatusNotFound, "BLOB_UNKNOWN")
		if a := request(t, http.MethodGet, url+manifest.String()); a.StatusCode != http.StatusOK {
			t.Errorf("%s: a manifest among the blobs: status %d, want 200", name, a.StatusCode)
		}
	}
}

// redundant is a repository with a second copy of a blob.
type redundant struct {
	*repository
	find func(context.Context) error
}

func (r redundant) FindSound(ctx context.Context, _ ocispec.Descriptor) error { return r.find(ctx) }

// Where there is another copy, who comes back after the damaged one was cut gets that,
// and so does who has not been sent any of it.
func TestBlobOfTwoCopies(t *testing.T) {
	t.Parallel()
	for name, newRepo := range readers {
		for _, size := range []int{200 << 10, 1 << 20} {
			for _, first := range []string{"", "Range: bytes=0-0"} {
				repo := newRepo(t)
				content := random(size)
				d := digest.FromBytes(content)
				repo.store(t, d, make([]byte, len(content)))
				searches := 0
				r := redundant{repo, func(context.Context) error {
					searches++
					repo.store(t, d, content)
					return nil
				}}
				url := serve(t, catalog{"h/r": r}, registry.Options{}) + "/v2/h/r/blobs/" + d.String()
				var headers []string
				if first != "" {
					headers = []string{first}
				}
				if a := request(t, http.MethodGet, url, headers...); a.StatusCode == http.StatusOK && a.err == nil && !bytes.Equal(a.body, content) {
					t.Errorf("%s: the damaged blob was sent as %d bytes", name, len(a.body))
				}
				for range 2 {
					if a := request(t, http.MethodGet, url); a.StatusCode != http.StatusOK || !bytes.Equal(a.body, content) {
						t.Errorf("%s: status %d with %d bytes, want the other copy", name, a.StatusCode, len(a.body))
					}
				}
				if searches != 1 {
					t.Errorf("%s: %d searches, want 1", name, searches)
				}
			}
		}
	}
}

// A response is cut before anybody searches; those who come back then share a search,
// and it ends with the last of them.
func TestBlobSearchIsShared(t *testing.T) {
	t.Parallel()
	const clients = 5
	repo := newRepository().files(t)
	content := random(1 << 20)
	d := digest.FromBytes(content)
	repo.store(t, d, make([]byte, len(content)))
	var searches atomic.Int32
	began, ended := make(chan struct{}, clients), make(chan struct{}, clients)
	r := redundant{repo, func(ctx context.Context) error {
		searches.Add(1)
		began <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return ctx.Err()
	}}
	var log syncBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	url := serve(t, catalog{"h/r": &r}, registry.Options{Logger: logger}) + "/v2/h/r/blobs/" + d.String()
	if a := request(t, http.MethodGet, url); a.err == nil || searches.Load() != 0 {
		t.Fatalf("status %d with %d bytes, %v, after %d searches: want it cut, and none", a.StatusCode, len(a.body), a.err, searches.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := client.Do(req); err == nil {
				_ = resp.Body.Close()
				t.Errorf("status %d while a search is under way", resp.StatusCode)
			}
		})
	}
	<-began
	cancel()
	group.Wait()
	<-ended

	r.find = func(context.Context) error { return errors.New("none is sound") }
	request(t, http.MethodGet, url).wantError(t, http.StatusInternalServerError, "UNKNOWN")
	if !strings.Contains(log.String(), "level=DEBUG") || !strings.Contains(log.String(), "none is sound") {
		t.Errorf("log %q, want why no other copy is served", log.String())
	}
}

// Only damage is a reason to search: not a stick that was pulled, but a sector that
// cannot be read, which says nothing of the content.
func TestBlobSearchIsForDamage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want int // searches
	}{{errors.New("unplugged"), 0}, {syscall.EIO, 1}} {
		repo := newRepository()
		content := random(1 << 20)
		d := digest.FromBytes(content)
		broken := true
		repo.open = func(digest.Digest) (io.ReadCloser, error) {
			if broken {
				return io.NopCloser(io.MultiReader(bytes.NewReader(content[:len(content)-1]), iotest.ErrReader(tt.err))), nil
			}
			return io.NopCloser(bytes.NewReader(content)), nil
		}
		searches := 0
		r := redundant{repo, func(context.Context) error {
			searches++
			broken = false
			return nil
		}}
		url := serve(t, catalog{"h/r": r}, registry.Options{}) + "/v2/h/r/blobs/" + d.String()
		if a := request(t, http.MethodGet, url); a.err == nil {
			t.Errorf("%v: a half-read blob was sent as a complete answer", tt.err)
		}
		if a := request(t, http.MethodGet, url); (a.err == nil && bytes.Equal(a.body, content)) != (tt.want > 0) {
			t.Errorf("%v: status %d with %d bytes, %v", tt.err, a.StatusCode, len(a.body), a.err)
		}
		if searches != tt.want {
			t.Errorf("%v: %d searches, want %d", tt.err, searches, tt.want)
		}
	}
}

// syncBuffer is a bytes.Buffer for concurrent writers.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func BenchmarkBlob(b *testing.B) {
	repo := newRepository().files(b)
	content := random(64 << 20)
	d := repo.blob(b, "", content).Digest
	for _, bench := range []struct {
		name  string
		again bool
	}{{"first", false}, {"known", true}} {
		b.Run(bench.name, func(b *testing.B) {
			url := serve(b, catalog{"h/r": repo}, registry.Options{}) + "/v2/h/r/blobs/" + d.String()
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if !bench.again {
					now := time.Now()
					if err := os.Chtimes(repo.path(d), now, now); err != nil {
						b.Fatal(err)
					}
				}
				resp, err := http.Get(url)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(content)) {
					b.Fatal(n, err)
				}
				_ = resp.Body.Close()
			}
		})
	}
	b.Run("hash alone", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			digest.FromBytes(content)
		}
	})
}
