package layout_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
)

const sbomType = "application/spdx+json"

func writer(t *testing.T, dir string) *layout.Writer {
	t.Helper()
	w, err := layout.OpenWriter(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func closeWriter(t *testing.T, w *layout.Writer) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *layout.Layout {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func describe(mediaType string, content []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

func push(t *testing.T, w *layout.Writer, mediaType string, content []byte) ocispec.Descriptor {
	t.Helper()
	desc := describe(mediaType, content)
	if err := w.Push(t.Context(), desc, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return desc
}

func pushJSON(t *testing.T, w *layout.Writer, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return push(t, w, mediaType, raw)
}

// image pushes an image of one layer with the given text.
func image(t *testing.T, w *layout.Writer, text string) ocispec.Descriptor {
	t.Helper()
	config := push(t, w, ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","x":"`+text+`"}`))
	layer := push(t, w, ocispec.MediaTypeImageLayer, []byte("layer of "+text))
	return pushJSON(t, w, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer},
	})
}

func imageIndex(t *testing.T, w *layout.Writer, children ...ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	return pushJSON(t, w, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children,
	})
}

// referrer pushes an artifact about subject.
func referrer(t *testing.T, w *layout.Writer, subject ocispec.Descriptor, artifactType, text string) ocispec.Descriptor {
	t.Helper()
	empty := push(t, w, ocispec.MediaTypeEmptyJSON, []byte("{}"))
	layer := push(t, w, "text/plain", []byte(text))
	return pushJSON(t, w, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType, Config: empty, Layers: []ocispec.Descriptor{layer}, Subject: &subject,
		Annotations: map[string]string{"text": text},
	})
}

func setRoot(t *testing.T, w *layout.Writer, name, alias string, desc ocispec.Descriptor) {
	t.Helper()
	if err := w.SetRoot(name, alias, desc); err != nil {
		t.Fatal(err)
	}
}

func commit(t *testing.T, w *layout.Writer) {
	t.Helper()
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func write(t *testing.T, content []byte, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func partialPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, "sealift", "partial", d.Algorithm().String(), d.Encoded())
}

// slots lists the slot files, sorted.
func slots(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "sealift", "index.*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func rootNames(l *layout.Layout) string {
	var names []string
	for _, r := range l.Roots() {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}

// source serves content from an offset and remembers what it was asked for.
type source struct {
	content []byte
	offsets []int64
	wrap    func(io.Reader) io.Reader
}

func (s *source) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	s.offsets = append(s.offsets, offset)
	var r io.Reader = bytes.NewReader(s.content[offset:])
	if s.wrap != nil {
		r = s.wrap(r)
	}
	return io.NopCloser(r), nil
}

// checkBlobs fails for every file in blobs/ that is not what its name says.
func checkBlobs(t *testing.T, dir string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		alg := digest.Algorithm(filepath.Base(filepath.Dir(p)))
		if got := alg.FromBytes(read(t, p)); got.Encoded() != filepath.Base(p) {
			t.Errorf("blob %s has digest %s", p, got)
		}
	}
}
