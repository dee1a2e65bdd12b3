//go:build real

package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// generated is a registry with one artifact, whose blobs are made when they are
// asked for: however large they are, nothing of them is stored.
type generated struct {
	ref  string
	size int64 // bytes of all blobs and manifests

	manifests map[string]manifest // by tag and digest
	blobs     map[digest.Digest]blob
	sent      atomic.Int64
	rate      int64 // bytes per second, 0 for no bound

	mu   sync.Mutex
	free time.Time // when the line is free for the next bytes
}

type manifest struct {
	desc ocispec.Descriptor
	raw  []byte
}

// blob is the content of a number.
type blob struct{ number, size int64 }

// block is what blobs are made of, each with its place in front.
var block = func() []byte {
	b := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}()

// writeTo writes the content from offset on, which is no cost beside what its
// readers do.
func (c blob) writeTo(w io.Writer, offset int64) error {
	piece := bytes.Clone(block)
	for offset < c.size {
		n := offset / int64(len(piece))
		binary.LittleEndian.PutUint64(piece, uint64(c.number))
		binary.LittleEndian.PutUint64(piece[8:], uint64(n))
		begin := offset - n*int64(len(piece))
		end := min(int64(len(piece)), c.size-n*int64(len(piece)))
		if _, err := w.Write(piece[begin:end]); err != nil {
			return err
		}
		offset += end - begin
	}
	return nil
}

func (c blob) describe(mediaType string) ocispec.Descriptor {
	h := sha256.New()
	_ = c.writeTo(h, 0) // never fails
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(h.Sum(nil))), Size: c.size}
}

// generate makes a registry with images of the given number of blobs each, all in
// one index.
func generate(b *testing.B, images, blobsEach int, blobBytes int64) *generated {
	b.Helper()
	g := &generated{manifests: map[string]manifest{}, blobs: map[digest.Digest]blob{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	next := int64(0)
	add := func(mediaType string, size int64) ocispec.Descriptor {
		next++
		c := blob{next, size}
		d := c.describe(mediaType)
		g.blobs[d.Digest] = c
		g.size += size
		return d
	}
	for range images {
		m := ocispec.Manifest{Versioned: index.Versioned, MediaType: ocispec.MediaTypeImageManifest, Config: add(ocispec.MediaTypeImageConfig, 100)}
		for range blobsEach - 1 {
			m.Layers = append(m.Layers, add(ocispec.MediaTypeImageLayer, blobBytes))
		}
		index.Manifests = append(index.Manifests, g.add(b, ocispec.MediaTypeImageManifest, m))
	}
	root := g.add(b, ocispec.MediaTypeImageIndex, index)
	g.manifests["1"] = g.manifests[root.Digest.String()]
	server := httptest.NewServer(g)
	b.Cleanup(server.Close)
	g.ref = strings.TrimPrefix(server.URL, "http://") + "/generated:1"
	return g
}

func (g *generated) add(b *testing.B, mediaType string, doc any) ocispec.Descriptor {
	b.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		b.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	g.manifests[d.Digest.String()] = manifest{d, raw}
	g.size += d.Size
	return d
}

// ServeHTTP answers what a copy asks for, and refuses the rest.
func (g *generated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/generated/")
	kind, name, _ := strings.Cut(rest, "/")
	switch {
	case !ok || r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.NotFound(w, r)
	case kind == "referrers":
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[]}`)
	case kind == "manifests":
		m, ok := g.manifests[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", m.desc.MediaType)
		w.Header().Set("Docker-Content-Digest", m.desc.Digest.String())
		w.Header().Set("Content-Length", fmt.Sprint(m.desc.Size))
		_, _ = w.Write(m.raw)
	case kind == "blobs":
		g.serveBlob(w, r, digest.Digest(name))
	default:
		http.NotFound(w, r)
	}
}

func (g *generated) serveBlob(w http.ResponseWriter, r *http.Request, d digest.Digest) {
	c, ok := g.blobs[d]
	if !ok {
		http.NotFound(w, r)
		return
	}
	offset := int64(0)
	status := http.StatusOK
	w.Header().Set("Accept-Ranges", "bytes")
	if spec := r.Header.Get("Range"); spec != "" {
		if _, err := fmt.Sscanf(spec, "bytes=%d-", &offset); err != nil || offset < 0 || offset >= c.size {
			http.Error(w, "range", http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, c.size-1, c.size))
		status = http.StatusPartialContent
	}
	w.Header().Set("Content-Length", fmt.Sprint(c.size-offset))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_ = c.writeTo(&line{w, g}, offset) // a client that was killed is gone
	}
}

// line counts what goes out and holds it back to the registry's rate, so that
// little is under way between it and its clients.
type line struct {
	io.Writer
	g *generated
}

func (l *line) Write(b []byte) (done int, err error) {
	for done < len(b) && err == nil {
		piece := b[done:min(len(b), done+64<<10)]
		time.Sleep(l.g.wait(len(piece)))
		var n int
		n, err = l.Writer.Write(piece)
		l.g.sent.Add(int64(n))
		done += n
	}
	return done, err
}

// wait takes the line for n bytes and returns how long it takes until they are
// through.
func (g *generated) wait(n int) time.Duration {
	if g.rate == 0 {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.free.Before(now) {
		g.free = now
	}
	g.free = g.free.Add(time.Duration(float64(n) / float64(g.rate) * float64(time.Second)))
	return g.free.Sub(now)
}
