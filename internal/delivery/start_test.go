package delivery_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/layout"
)

func TestContents(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	m.release("registry.example.com/shop:1.0.0", "shop", "1.0.0", newSigner(t))
	m.release("registry.example.com/chat:2.0.0", "chat", "2.0.0", nil)
	gone := m.release("registry.example.com/gone:1.0.0", "gone", "1.0.0", nil)
	m.flip(gone)
	config := artifact.Describe(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux"}`))
	raw := []byte(`{"schemaVersion":2,"config":{"mediaType":"` + config.MediaType + `","digest":"` + config.Digest.String() + `","size":14},"layers":[]}`)
	image := artifact.Describe(ocispec.MediaTypeImageManifest, raw)
	got, err := contents(t, m, image, raw)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Digest = ""
	}
	want := []tool.Content{
		{Name: "registry.example.com/chat:2.0.0", ID: "example.com/chat", Version: "2.0.0", Title: "chat"},
		{Name: "registry.example.com/shop:1.0.0", ID: "example.com/shop", Version: "1.0.0", Title: "shop", Signed: true},
		{Name: "registry.example.com/web:1", Alias: "web-1", Image: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Contents (-want +got):\n%s", diff)
	}
	w, err := layout.OpenWriter(t.Context(), m.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	bin := filepath.Join(m.dir, "sealift/bin")
	if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(bin+"/sealift-linux-arm64", nil, 0o755), os.WriteFile(bin+"/sealift-of-somebody", nil, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := delivery.PackStart(t.Context(), w, m.dir, true); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(m.dir, "START-HERE.txt")
	text, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(text, []byte("image registry.example.com/web:1\r\n")) || !bytes.Contains(text, []byte("bin/sealift-linux-arm64 ")) || bytes.Contains(text, []byte("somebody")) {
		t.Errorf("START-HERE.txt = %q, %v", text, err)
	}
	if err := os.Chmod(file, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := delivery.PackStart(t.Context(), w, m.dir, true); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the same text again: %v, %v, want the old file", info, err)
	}
}

// contents adds an image and describes the media.
func contents(t *testing.T, m media, image ocispec.Descriptor, raw []byte) ([]tool.Content, error) {
	t.Helper()
	w, err := layout.OpenWriter(t.Context(), m.dir)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(w.Push(t.Context(), image, bytes.NewReader(raw)), w.SetRoot("registry.example.com/web:1", "web-1", image), w.Commit(t.Context()), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	return delivery.Contents(t.Context(), m.find(""))
}

// Media on which nothing has a name gets a text too.
func TestPackStartEmpty(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "m")
	w, err := layout.OpenWriter(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := errors.Join(w.Commit(t.Context()), delivery.PackStart(t.Context(), w, dir, true)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "START-HERE.txt")); err != nil {
		t.Error(err)
	}
}
