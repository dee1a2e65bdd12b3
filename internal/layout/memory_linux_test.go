package layout_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
)

func init() { children["memory"] = memoryChild }

const maxReaderKiB = 128 << 10

// A reader of 100,000 blobs stays small.
func TestReaderMemory(t *testing.T) {
	t.Parallel()
	if race {
		t.Skip("the race detector takes many times the memory")
	}
	dir, err := os.MkdirTemp(inMemory(), "sealift-memory-") //nolint:usetesting // see inMemory
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := &crafted{dir: dir}
	write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
	for i := range 10_000 {
		var layers []string
		for n := range 9 {
			d := digest.FromString(fmt.Sprint(i, n))
			layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":123456,"annotations":{"org.example.note":"layer %d of image %d"}}`, ocispec.MediaTypeImageLayerGzip, d, n, i))
		}
		image := c.blob(t, ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s],"annotations":{"x":"%d"}}`,
			ocispec.MediaTypeImageManifest, layers[0], strings.Join(layers[1:], ","), i))
		c.name(image, fmt.Sprintf("registry.example.com/app/%d:1", i%100*1000+i))
	}
	c.open(t)
	out, err := child(t, "memory", c.dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// memoryChild reads all of a layout, and looks at every repository.
func memoryChild(dir string) error {
	l, err := layout.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := l.Damage(ctx); err != nil {
		return err
	}
	for _, name := range l.Repositories() {
		if _, err := l.Repository(name).Resolve(ctx, "1"); err != nil {
			return err
		}
	}
	status, err := os.ReadFile(filepath.FromSlash("/proc/self/status"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		var peak int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &peak); n == 1 {
			fmt.Printf("%d KiB at most", peak)
			if peak > maxReaderKiB {
				return fmt.Errorf("the reader took %d KiB, want at most %d", peak, maxReaderKiB)
			}
			return nil
		}
	}
	return fmt.Errorf("no peak in %s", status)
}
