package layout_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
)

func init() {
	children["memory"], children["garbage memory"], children["hostile memory"] = memoryChild, garbageChild, hostileChild
}

const (
	maxReaderKiB  = 128 << 10
	maxGarbageKiB = 48 << 10 // the program itself takes 15 MiB
)

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
	return checkPeak(maxReaderKiB)
}

// Who removes garbage keeps digests of what stays, and no manifests.
func TestGarbageMemory(t *testing.T) {
	t.Parallel()
	if race {
		t.Skip("the race detector takes many times the memory")
	}
	c := craft(t)
	for r := range 100 {
		var images []string
		for i := range 100 {
			var layers []string
			for n := range 10 {
				layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":123456}`, ocispec.MediaTypeImageLayerGzip, digest.FromString(fmt.Sprint(r, i, n))))
			}
			images = append(images, child1(c.blob(t, ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[%s]}`, layers[0], strings.Join(layers[1:], ",")))))
		}
		for i := range 20 {
			write(t, nil, c.dir, "blobs", "sha256", digest.FromString(fmt.Sprint("garbage", r, i)).Encoded())
		}
		c.name(c.index(t, images...), fmt.Sprintf("registry.example.com/app:%d", r))
	}
	c.open(t)
	out, err := child(t, "garbage memory", c.dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// garbageChild removes one of 100 releases, and what has no name.
func garbageChild(dir string) error {
	ctx := context.Background()
	w, err := layout.OpenWriter(ctx, dir)
	if err != nil {
		return err
	}
	g, err := prune(ctx, w, "registry.example.com/app:7")
	if err == nil && g.Blobs != 2_000+101 {
		err = fmt.Errorf("%d blobs removed, want 2,101", g.Blobs)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return checkPeak(maxGarbageKiB)
}

// checkPeak says how much memory the process took at most.
func checkPeak(limit int) error {
	status, err := os.ReadFile(filepath.FromSlash("/proc/self/status"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		var peak int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &peak); n == 1 {
			fmt.Printf("%d KiB at most", peak)
			if peak > limit {
				return fmt.Errorf("the process took %d KiB, want at most %d", peak, limit)
			}
			return nil
		}
	}
	return fmt.Errorf("no peak in %s", status)
}

// maxHostileKiB is what documents of 16 MiB may take: some times their bytes.
const maxHostileKiB = 256 << 10

// Documents that say nothing many times do not fill the memory.
func TestHostileMemory(t *testing.T) {
	t.Parallel()
	if race {
		t.Skip("the race detector takes many times the memory")
	}
	const size = 16 << 20
	many := func(head, element, tail string, size int) []byte {
		return []byte(head + strings.Repeat(element+",", (size-len(head)-len(tail))/(len(element)+1)-1) + element + tail)
	}
	words := func(head, tail string) []byte {
		var out strings.Builder
		out.WriteString(head)
		for i := 0; out.Len() < size-100; i++ {
			fmt.Fprintf(&out, `"%d":"",`, i)
		}
		return []byte(out.String() + `"x":""` + tail)
	}
	index := `{"schemaVersion":2,"manifests":[`
	label := `{"apiVersion":"sealift/v1","kind":"Media",`
	desc := fmt.Sprintf(`{"mediaType":"x","size":1,"digest":%q`, digest.FromString("x"))
	for _, tt := range []struct {
		name  string
		plant func(t *testing.T, c *crafted)
	}{
		{"entries", func(t *testing.T, c *crafted) { write(t, many(index, "{}", "]}", size), c.dir, "index.json") }},
		{"annotations", func(t *testing.T, c *crafted) {
			write(t, words(`{"schemaVersion":2,"annotations":{`, "}}"), c.dir, "index.json")
		}},
		{"annotations of an entry", func(t *testing.T, c *crafted) {
			write(t, words(index+desc+`,"annotations":{`, "}}]}"), c.dir, "index.json")
		}},
		{"addresses of an entry", func(t *testing.T, c *crafted) {
			write(t, many(index+desc+`,"urls":[`, `""`, "]}]}", size), c.dir, "index.json")
		}},
		{"slots", func(t *testing.T, c *crafted) {
			for i := range 8 {
				inner := many(index, "{}", "]}", size)
				write(t, fmt.Appendf(nil, `{"generation":%d,"digest":%q,"index":%s}`, i+1, digest.FromBytes(inner), inner), c.dir, fmt.Sprintf("sealift/index.%d.json", i+1))
			}
		}},
		{"roots of the label", func(t *testing.T, c *crafted) {
			write(t, many(label+`"roots":[`, "{}", "]}", size), c.dir, "sealift/media.json")
		}},
		{"base of a root", func(t *testing.T, c *crafted) {
			write(t, many(label+`"roots":[{"base":[`, "{}", "]}]}", size), c.dir, "sealift/media.json")
		}},
		{"platforms of a root", func(t *testing.T, c *crafted) {
			write(t, many(label+`"roots":[{"platforms":[`, `""`, "]}]}", size), c.dir, "sealift/media.json")
		}},
		{"volumes", func(t *testing.T, c *crafted) {
			write(t, many(label+`"set":{"volumes":[`, "[]", "]}}", size), c.dir, "sealift/media.json")
		}},
		{"layers", func(t *testing.T, c *crafted) {
			for i := range 10 {
				c.entries = append(c.entries, c.blob(t, ocispec.MediaTypeImageManifest, string(many(fmt.Sprintf(`{"schemaVersion":2,"x":%d,"layers":[`, i), "{}", "]}", 4<<20))))
			}
		}},
		{"names of one manifest", func(t *testing.T, c *crafted) {
			var layers strings.Builder
			for i := range 35_000 {
				fmt.Fprintf(&layers, `{"mediaType":"x","digest":%q,"size":1},`, digest.FromString(fmt.Sprint(i)))
			}
			desc := c.blob(t, ocispec.MediaTypeImageManifest, `{"schemaVersion":2,"layers":[`+strings.TrimSuffix(layers.String(), ",")+`]}`)
			for i := range 200 {
				c.name(desc, fmt.Sprintf("registry.example.com/%d:1", i))
			}
		}},
		{"annotations of referrers", func(t *testing.T, c *crafted) {
			for i := range 6 {
				raw := words(fmt.Sprintf(`{"schemaVersion":2,"x":%d,"subject":%s},"annotations":{`, i, desc), "}}")[:4<<20-100]
				raw = append(raw[:strings.LastIndexByte(string(raw), ',')], "}}"...)
				c.entries = append(c.entries, c.blob(t, ocispec.MediaTypeImageManifest, string(raw)))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := os.MkdirTemp(inMemory(), "sealift-memory-") //nolint:usetesting // see inMemory
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			c := &crafted{dir: dir}
			write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
			write(t, []byte(`{"schemaVersion":2}`), dir, "index.json")
			if tt.plant(t, c); c.entries != nil {
				c.open(t)
			}
			out, err := child(t, "hostile memory", dir).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// hostileChild reads all of a layout whatever it says.
func hostileChild(dir string) error {
	ctx := context.Background()
	l, err := layout.Open(dir)
	fmt.Printf("Open: %.200v\n", err)
	if err == nil {
		fmt.Printf("Damage: %.200v\n", l.Damage(ctx))
		_, err = l.Label()
		fmt.Printf("Label: %.200v\n", err)
		for _, name := range l.Repositories() {
			_, _ = l.Repository(name).Blob(ctx, digest.FromString("1"))
		}
	}
	return checkPeak(maxHostileKiB)
}
