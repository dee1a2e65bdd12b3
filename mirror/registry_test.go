package mirror_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
	"github.com/sealift/sealift/mirror"
)

const (
	origin  = "127.0.0.1:5000"
	harbour = "127.0.0.1:5001"
)

// shelf is a registry with one image, 1 in the repository shop, that can be told
// to answer otherwise for its layer. It takes uploads too.
type shelf struct {
	t        *testing.T
	layer    []byte
	manifest []byte
	content  map[digest.Digest][]byte

	mu      sync.Mutex
	faults  []http.HandlerFunc // for the layer, one each time
	asked   []string           // the ranges of the layer
	uploads [][]byte           // of the layer, as far as they came
	failPut []int              // codes for them, one each time
}

func newShelf(t *testing.T, layer []byte, faults ...http.HandlerFunc) *shelf {
	t.Helper()
	config := []byte(`{"author":"shelf"}`)
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: artifact.Describe(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{artifact.Describe(ocispec.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{t: t, layer: layer, manifest: raw, faults: faults, content: map[digest.Digest][]byte{}}
	for _, data := range [][]byte{config, layer, raw} {
		s.content[digest.FromBytes(data)] = data
	}
	return s
}

// empty is a registry that has nothing of s.
func (s *shelf) empty() *shelf {
	return &shelf{t: s.t, layer: s.layer, content: map[digest.Digest][]byte{}}
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	ref, kind := parts[len(parts)-1], parts[len(parts)-2]
	d := digest.Digest(ref)
	if ref == "1" {
		d = digest.FromBytes(s.manifest)
	}
	s.mu.Lock()
	data, ok := s.content[d]
	s.mu.Unlock()
	switch {
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/upload/"+parts[2])
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut:
		s.put(w, r, kind == "manifests")
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case kind == "manifests":
		remotetest.Content(data, "Content-Type", ocispec.MediaTypeImageManifest, "Docker-Content-Digest", d.String())(w, r)
	case d == digest.FromBytes(s.layer) && r.Method == http.MethodGet:
		s.fault(r, data)(w, r)
	default:
		remotetest.Content(data)(w, r)
	}
}

// fault returns how the layer is answered this time.
func (s *shelf) fault(r *http.Request, data []byte) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Header.Get("Range"))
	if len(s.faults) == 0 {
		return remotetest.Content(data)
	}
	first := s.faults[0]
	s.faults = s.faults[1:]
	return first
}

func (s *shelf) put(w http.ResponseWriter, r *http.Request, manifest bool) {
	data, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	want := digest.Digest(r.URL.Query().Get("digest"))
	if want == digest.FromBytes(s.layer) {
		s.uploads = append(s.uploads, data)
		if len(s.failPut) > 0 {
			w.WriteHeader(s.failPut[0])
			s.failPut = s.failPut[1:]
			return
		}
	}
	if err != nil || !manifest && digest.FromBytes(data) != want {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.content[digest.FromBytes(data)] = data
	w.Header().Set("OCI-Subject", "none") // as one that keeps referrers itself
	w.WriteHeader(http.StatusCreated)
}

func noise(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*i>>8 ^ i)
	}
	return data
}

// open opens REPO at host in net.
func open(t *testing.T, client *remote.Client, name string) *remote.Repository {
	t.Helper()
	repo, err := client.Repository(name)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func newClient(t *testing.T, net *remotetest.Network, maxFetches int) *remote.Client {
	t.Helper()
	client, err := remote.NewClient(remote.Options{Transport: net.Transport(), MaxFetches: maxFetches})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Whatever a registry does to a layer, what arrives on the media is right, and is
// continued where it broke, or nothing is named.
func TestHostileRegistry(t *testing.T) {
	t.Parallel()
	data := noise(100_000)
	garbage := bytes.Repeat([]byte("x"), len(data))
	answer := remotetest.Content(data)
	tests := []struct {
		name   string
		faults []http.HandlerFunc
		asked  []string // the ranges
		err    error    // nil where the copy comes to its end
		min    time.Duration
	}{
		{"sound", nil, []string{""}, nil, 0},
		{"reset", []http.HandlerFunc{remotetest.Reset(30_000, answer)}, []string{"", "bytes=30000-"}, nil, 0},
		{"cut twice", []http.HandlerFunc{remotetest.Cut(30_000, answer), remotetest.Cut(20_000, answer)}, []string{"", "bytes=30000-", "bytes=50000-"}, nil, 0},
		{"cut before the last byte", []http.HandlerFunc{remotetest.Cut(99_999, answer)}, []string{"", "bytes=99999-"}, nil, 0},
		{"stalls", []http.HandlerFunc{remotetest.Stall(30_000, answer)}, []string{"", "bytes=30000-"}, nil, time.Minute},
		{"shorter than it says", []http.HandlerFunc{remotetest.Chunked(data[:30_000])}, []string{"", "bytes=30000-"}, nil, 0},
		{"busy in the middle", []http.HandlerFunc{remotetest.Cut(30_000, answer), remotetest.Status(503, "Retry-After", "20")},
			[]string{"", "bytes=30000-", "bytes=30000-"}, nil, 20 * time.Second},
		{"busy for long", append([]http.HandlerFunc{remotetest.Cut(30_000, answer)}, busy(6)...),
			[]string{"", "bytes=30000-", "bytes=30000-", "bytes=30000-", "bytes=30000-", "bytes=30000-", "bytes=30000-", "bytes=30000-"}, nil, 5 * time.Minute},
		{"no ranges", []http.HandlerFunc{remotetest.Cut(30_000, answer), remotetest.Whole(data)}, []string{"", "bytes=30000-"}, nil, 0},
		{"no such range", []http.HandlerFunc{remotetest.Cut(30_000, answer), remotetest.Status(416)}, []string{"", "bytes=30000-", ""}, nil, 0},
		{"wrong once", []http.HandlerFunc{remotetest.Content(garbage)}, []string{"", ""}, nil, 0},
		{"wrong from the middle on", []http.HandlerFunc{remotetest.Cut(30_000, answer), remotetest.Content(garbage)}, []string{"", "bytes=30000-", ""}, nil, 0},
		{"wrong", []http.HandlerFunc{remotetest.Content(garbage), remotetest.Content(garbage)}, []string{"", ""}, artifact.ErrDamaged, 0},
		{"longer", []http.HandlerFunc{remotetest.Chunked(append(data, 'x')), remotetest.Chunked(append(data, 'x'))}, []string{"", ""}, content.ErrTrailingData, 0},
		{"trickles", trickles(5, data), []string{"", "bytes=36-", "bytes=72-", "bytes=108-", "bytes=144-"}, errStall, 5 * time.Minute},
		{"gone in the middle", []http.HandlerFunc{remotetest.Cut(30_000, answer), remotetest.Status(403)}, []string{"", "bytes=30000-"}, errRefused, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				net, shop, w := remotetest.NewNetwork(t), newShelf(t, data, tt.faults...), &watcher{}
				net.Handle(origin, shop)
				media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer media.Close()
				start := time.Now()
				p := plan(t, media, item(open(t, newClient(t, net, 0), origin+"/shop"), "1"))
				err = p.Execute(t.Context(), mirror.ExecuteOptions{Progress: w})
				if !is(err, tt.err) {
					t.Errorf("Execute = %v, want %v", err, tt.err)
				}
				if diff := cmp.Diff(tt.asked, shop.asked); diff != "" {
					t.Errorf("ranges (-want +got):\n%s", diff)
				}
				if took := time.Since(start); took < tt.min || took > tt.min+2*time.Minute {
					t.Errorf("took %v, want %v and a little", took, tt.min)
				}
				layer := artifact.Describe(ocispec.MediaTypeImageLayer, data)
				got, fetchErr := content.FetchAll(t.Context(), media, layer)
				if tt.err == nil && (fetchErr != nil || !bytes.Equal(got, data)) || tt.err != nil && fetchErr == nil {
					t.Errorf("the layer on the media: %d bytes, %v", len(got), fetchErr)
				}
				if total, _ := p.Size(); tt.err == nil && w.advanced != total {
					t.Errorf("progress = %d bytes, want %d", w.advanced, total)
				}
			})
		})
	}
}

var errStall, errRefused = errors.New("a stall"), errors.New("a refusal")

// is is errors.Is, with two more kinds.
func is(err, want error) bool {
	switch want {
	case errStall:
		return errors.As(err, new(*remote.StallError))
	case errRefused:
		return remote.IsRefusal(err)
	}
	return errors.Is(err, want)
}

func busy(n int) (all []http.HandlerFunc) {
	for range n {
		all = append(all, remotetest.Status(503, "Retry-After", "3600"))
	}
	return all
}

func trickles(n int, data []byte) (all []http.HandlerFunc) {
	for range n {
		all = append(all, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" { // a byte at a time, of the right range
				w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "bytes=", "bytes ", 1)+"99999/100000")
				w.WriteHeader(http.StatusPartialContent)
			}
			remotetest.Trickle(data, 1700*time.Millisecond)(w, r)
		})
	}
	return all
}

// Between registries, a source that breaks off does not break the upload, and
// what is wrong never arrives whole.
func TestBetweenRegistries(t *testing.T) {
	t.Parallel()
	data := noise(3 << 20)
	answer := remotetest.Content(data)
	garbage := bytes.Repeat([]byte("x"), len(data))
	tests := []struct {
		name    string
		faults  []http.HandlerFunc
		failPut []int
		uploads int
		err     bool
	}{
		{"sound", nil, nil, 1, false},
		{"source resets", []http.HandlerFunc{remotetest.Reset(1_000_000, answer), remotetest.Reset(500_000, answer)}, nil, 1, false},
		{"source stalls", []http.HandlerFunc{remotetest.Stall(1_000_000, answer)}, nil, 1, false},
		{"source is wrong once", []http.HandlerFunc{remotetest.Content(garbage)}, nil, 2, false},
		{"source is wrong", []http.HandlerFunc{remotetest.Content(garbage), remotetest.Content(garbage)}, nil, 2, true},
		{"destination is busy", nil, []int{503, 429}, 3, false},
		{"destination is never ready", nil, []int{503, 503, 503, 503, 503, 503}, 5, true},
		{"destination refuses", nil, []int{403}, 1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net, shop := remotetest.NewNetwork(t), newShelf(t, data, tt.faults...)
				site := shop.empty()
				site.failPut = tt.failPut
				net.Handle(origin, shop)
				net.Handle(harbour, site)
				client := newClient(t, net, 0)
				dst := mirror.Repository{Repository: open(t, client, harbour+"/shop")}
				p := plan(t, dst, mirror.Item{Source: open(t, client, origin+"/shop"), Reference: "1", Name: harbour + "/shop:1"})
				err := p.Execute(t.Context(), mirror.ExecuteOptions{})
				synctest.Wait() // for a registry that is still at an upload that broke off
				if (err != nil) != tt.err || len(site.uploads) != tt.uploads {
					t.Errorf("Execute = %v after %d uploads, want an error: %t, and %d", err, len(site.uploads), tt.err, tt.uploads)
				}
				for _, got := range site.uploads {
					if bytes.Equal(got, garbage) {
						t.Error("wrong content arrived whole")
					}
				}
				if _, ok := site.content[digest.FromBytes(shop.manifest)]; ok == tt.err {
					t.Errorf("the manifest arrived: %t, want %t", ok, !tt.err)
				}
				var failed *mirror.CopyError
				if tt.faults != nil && err != nil && (!errors.As(err, &failed) || failed.Side != "source") {
					t.Errorf("Execute = %v, want the source to be named", err)
				}
			})
		})
	}
}

// A copy within one registry holds a blob open while it asks for a token to upload
// it: with room for one blob, and more copies than that, it must come to its end.
func TestCopyWithinRegistry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net, shop := remotetest.NewNetwork(t), newShelf(t, noise(1<<20))
		site := shop.empty()
		var mu sync.Mutex
		tokens := 0
		net.Handle(origin, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token":
				mu.Lock()
				tokens++
				mu.Unlock()
				time.Sleep(time.Second)
				io.WriteString(w, `{"token":"`+strings.Join(r.URL.Query()["scope"], " ")+`"}`)
			case !strings.HasPrefix(r.URL.Path, "/upload/") && !granted(r):
				scope := "repository:" + strings.Split(r.URL.Path, "/")[2] + ":pull,push"
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+origin+`/token",scope="`+scope+`"`)
				w.WriteHeader(http.StatusUnauthorized)
			case strings.HasPrefix(r.URL.Path, "/v2/site/"), strings.HasPrefix(r.URL.Path, "/upload/"):
				site.ServeHTTP(w, r)
			default:
				shop.ServeHTTP(w, r)
			}
		}))
		client := newClient(t, net, 1)
		dst := mirror.Repository{Repository: open(t, client, origin+"/site")}
		p := plan(t, dst, mirror.Item{Source: open(t, client, origin+"/shop"), Reference: "1", Name: origin + "/site:1"})
		if err := p.Execute(t.Context(), mirror.ExecuteOptions{Concurrency: 8}); err != nil {
			t.Errorf("Execute = %v", err)
		}
		if _, ok := site.content[digest.FromBytes(shop.manifest)]; !ok || tokens == 0 {
			t.Errorf("the manifest arrived: %t, with %d tokens", ok, tokens)
		}
	})
}

// granted reports whether a request carries a token for its repository, with the
// right to push where it needs that.
func granted(r *http.Request) bool {
	token := r.Header.Get("Authorization")
	if !strings.Contains(token, "repository:"+strings.Split(r.URL.Path, "/")[2]+":") {
		return false
	}
	return r.Method == http.MethodGet || r.Method == http.MethodHead || strings.Contains(token, "push")
}
