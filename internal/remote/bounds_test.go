package remote_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

// endless answers each question for a list with entries and says that there is
// more.
func endless(next func(page int64) string, body []byte, pages, sent *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next(pages.Add(1))))
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		n, _ := w.Write(body)
		sent.Add(int64(n))
	})
}

func page(t *testing.T, entries int, padding int) []byte {
	t.Helper()
	index := ocispec.Index{Manifests: []ocispec.Descriptor{}}
	for i := range entries {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 1,
			Annotations: map[string]string{"x": strings.Repeat("x", padding)}})
	}
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestListsEnd(t *testing.T) {
	t.Parallel()
	onward := func(page int64) string { return fmt.Sprintf("?page=%d", page) }
	same := func(int64) string { return "?page=1" }
	tags := []byte(`{"tags":["` + strings.Repeat(`a","`, 9999) + `a"]}`)
	tests := []struct {
		name     string
		next     func(int64) string
		referrer []byte // one page of referrers, nil for tags
		tags     []byte
		maxPages int64
		says     string
	}{
		{"empty pages", onward, page(t, 0, 0), nil, 1000, "more than 1000 pages"},
		{"the same page", same, page(t, 1, 0), nil, 1000, "more than 1000 pages"},
		{"entries", onward, page(t, 10_000, 0), nil, 6, "more than 50000"},
		{"a large page", onward, page(t, 1, 5<<20), nil, 1, "an answer of more than 4 MiB"},
		{"large pages", onward, page(t, 1, 3<<20), nil, 11, "answers of more than 32 MiB"},
		{"empty pages of tags", onward, nil, []byte(`{"tags":[]}`), 1000, "more than 1000 pages"},
		{"tags", same, nil, tags, 6, "more than 50000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				var pages, sent atomic.Int64
				net.Handle(host, endless(tt.next, append(tt.referrer, tt.tags...), &pages, &sent))
				repo := repository(t, net, remote.Options{})
				var err error
				if tt.tags != nil {
					err = repo.Tags(t.Context(), "", func([]string) error { return nil })
				} else {
					_, err = repo.Predecessors(t.Context(), describe([]byte("subject")))
				}
				if !errors.Is(err, errdef.ErrSizeExceedsLimit) || !strings.Contains(err.Error(), tt.says) || remote.IsTransient(err) {
					t.Errorf("list = %v, want %v: %s", err, errdef.ErrSizeExceedsLimit, tt.says)
				}
				if pages.Load() > tt.maxPages || sent.Load() > 40<<20 {
					t.Errorf("asked for %d pages and got %d bytes, want at most %d", pages.Load(), sent.Load(), tt.maxPages)
				}
			})
		})
	}
}

// A list that ends is listed whole.
func TestListIsWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := remotetest.NewNetwork(t)
		subject := describe([]byte("subject"))
		first := "GET /v2/shop/referrers/" + subject.Digest.String()
		send := func(header ...string) http.HandlerFunc {
			return remotetest.Content(page(t, 2, 0), append(header, "Content-Type", ocispec.MediaTypeImageIndex)...)
		}
		net.Serve(host, exchange(first, nil, 1, send("Link", `<?last=2>; rel="next"`)), exchange(first+"?last=2", nil, 1, send()))
		if all, err := repository(t, net, remote.Options{}).Predecessors(t.Context(), subject); err != nil || len(all) != 4 {
			t.Errorf("Predecessors = %d, %v, want 4", len(all), err)
		}
	})
}

// What is as large as it may be is taken.
func TestBoundsAreInclusive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := remotetest.NewNetwork(t)
		manifest := []byte(`{"schemaVersion":2` + strings.Repeat(" ", 4<<20-19) + `}`)
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: 4 << 20}
		script := []remotetest.Exchange{exchange("GET /v2/shop/manifests/"+desc.Digest.String(), nil, 1, remotetest.Content(manifest, "Content-Type", desc.MediaType))}
		tags := []byte(`{"tags":["` + strings.Repeat(`a","`, 9999) + `a"]}`)
		for n := range 5 {
			var header []string
			query := ""
			if n > 0 {
				query = fmt.Sprintf("?page=%d", n)
			}
			if n < 4 {
				header = []string{"Link", fmt.Sprintf(`<?page=%d>; rel="next"`, n+1)}
			}
			script = append(script, exchange("GET /v2/shop/tags/list"+query, nil, 1, remotetest.Content(tags, header...)))
		}
		net.Serve(host, script...)
		repo := repository(t, net, remote.Options{})
		if got, err := content.FetchAll(t.Context(), repo, desc); err != nil || len(got) != 4<<20 {
			t.Errorf("Fetch of a manifest of 4 MiB = %d bytes, %v", len(got), err)
		}
		listed := 0
		err := repo.Tags(t.Context(), "", func(page []string) error {
			listed += len(page)
			return nil
		})
		if err != nil || listed != 50_000 {
			t.Errorf("Tags = %d, %v, want 50000", listed, err)
		}
	})
}

// endlessly sends spaces until nobody listens.
func endlessly(sent *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		for spaces := bytes.Repeat([]byte(" "), 64<<10); ; {
			n, err := w.Write(spaces)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
}

// A manifest is not read beyond what one may have, whatever its descriptor says.
func TestManifestWithoutEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1 << 40}
		net := remotetest.NewNetwork(t)
		var sent atomic.Int64
		net.Serve(host, exchange("GET /v2/shop/manifests/"+desc.Digest.String(), nil, 1, endlessly(&sent)))
		rc, err := repository(t, net, remote.Options{}).Fetch(t.Context(), desc)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, rc)
		if !errors.Is(err, errdef.ErrSizeExceedsLimit) || n > 4<<20 {
			t.Errorf("read %d bytes, %v, want at most 4 MiB and %v", n, err, errdef.ErrSizeExceedsLimit)
		}
		if err := rc.Close(); err != nil || sent.Load() > 5<<20 {
			t.Errorf("Close = %v after %d bytes were sent", err, sent.Load())
		}
	})
}

// What a registry says of a manifest and what it sends must agree with what was
// asked for.
func TestManifestLies(t *testing.T) {
	t.Parallel()
	manifest := []byte(`{"schemaVersion":2}`)
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	other := bytes.Replace(manifest, []byte("2"), []byte("3"), 1)
	kind := []string{"Content-Type", ocispec.MediaTypeImageManifest}
	digestHeader := func(d digest.Digest) []string { return append(kind, "Docker-Content-Digest", d.String()) }
	tests := []struct {
		name      string
		head, get http.HandlerFunc
		resolved  bool // the HEAD is believed, the GET is not
	}{
		{"HEAD with another digest", remotetest.Content(manifest, digestHeader(digest.FromString("x"))...), nil, false},
		{"HEAD with a digest that is none", remotetest.Content(manifest, digestHeader("sha256:../../x")...), nil, false},
		{"HEAD with another size", remotetest.Content(append(manifest, ' '), digestHeader(desc.Digest)...), remotetest.Content(manifest, kind...), true},
		{"HEAD with another size, GET without", remotetest.Content(append(manifest, ' '), digestHeader(desc.Digest)...), remotetest.Chunked(manifest, kind...), true},
		{"GET with another digest", remotetest.Content(manifest, kind...), remotetest.Content(manifest, digestHeader(digest.FromString("x"))...), true},
		{"another manifest", remotetest.Content(manifest, kind...), remotetest.Content(other, digestHeader(desc.Digest)...), true},
		{"a longer one", remotetest.Content(manifest, kind...), remotetest.Chunked(append(manifest, ' '), kind...), true},
		{"another type", remotetest.Content(manifest, kind...), remotetest.Content(manifest, "Content-Type", "text/html"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				path := " /v2/shop/manifests/" + desc.Digest.String()
				script := []remotetest.Exchange{exchange("HEAD"+path, nil, 1, tt.head)}
				if tt.get != nil {
					script = append(script, exchange("GET"+path, nil, 1, tt.get))
				}
				net.Serve(host, script...)
				repo := repository(t, net, remote.Options{})
				got, err := repo.Resolve(t.Context(), desc.Digest.String())
				if (err == nil) != tt.resolved {
					t.Fatalf("Resolve = %v, %v, want an error: %t", got, err, !tt.resolved)
				}
				if !tt.resolved {
					return
				}
				if data, err := content.FetchAll(t.Context(), repo, got); err == nil {
					t.Errorf("Fetch = %q, want an error", data)
				}
			})
		})
	}
}

// A token endpoint may answer anything.
func TestTokenNonsense(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	for name, answer := range map[string]http.HandlerFunc{
		"garbage":                   say("\x00\xff<html>"),
		"empty":                     say(""),
		"no token":                  say(`{"token":""}`),
		"megabytes":                 endlessly(&sent),
		"forbidden":                 remotetest.Status(http.StatusForbidden),
		"a token with a line break": say(`{"token":"a\r\nX-Injected: 1"}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				net.Serve(host,
					exchange("HEAD /v2/shop/manifests/1", map[string]string{"X-Injected": ""}, 1,
						remotetest.Status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer realm="http://`+host+`/token"`)),
					exchange("GET /token?scope=repository%3Ashop%3Apull", nil, 1, answer))
				if desc, err := repository(t, net, remote.Options{}).Resolve(t.Context(), "1"); err == nil {
					t.Errorf("Resolve = %v, want an error", desc)
				}
				if sent.Load() > 1<<20 {
					t.Errorf("%d bytes were sent for a token", sent.Load())
				}
			})
		})
	}
}
