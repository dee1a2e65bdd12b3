package layout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

// crafted makes a layout of given manifests, by whatever names, with an index
// of the given entries.
type crafted struct {
	dir     string
	entries []ocispec.Descriptor
}

func craft(t *testing.T) *crafted {
	t.Helper()
	c := &crafted{dir: t.TempDir()}
	write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), c.dir, "oci-layout")
	return c
}

func (c *crafted) blob(t *testing.T, mediaType, raw string) ocispec.Descriptor {
	t.Helper()
	desc := describe(mediaType, []byte(raw))
	write(t, []byte(raw), c.dir, "blobs", "sha256", desc.Digest.Encoded())
	return desc
}

// index makes an index of children that are given as JSON.
func (c *crafted) index(t *testing.T, children ...string) ocispec.Descriptor {
	t.Helper()
	return c.blob(t, ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":[`+strings.Join(children, ",")+`]}`)
}

func (c *crafted) name(desc ocispec.Descriptor, name string) {
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	c.entries = append(c.entries, desc)
}

func (c *crafted) open(t *testing.T) *layout.Layout {
	t.Helper()
	write(t, toJSON(t, map[string]any{"schemaVersion": 2, "manifests": c.entries}), c.dir, "index.json")
	return open(t, c.dir)
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func child1(desc ocispec.Descriptor) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, desc.MediaType, desc.Digest, desc.Size)
}

// However deep, a graph is walked without recursion.
func TestDeepGraph(t *testing.T) {
	t.Parallel()
	c := craft(t)
	bottom := c.index(t)
	top := bottom
	for range 3_000 {
		top = c.index(t, child1(top))
	}
	c.name(top, oneName)
	l := c.open(t)
	if err := l.Damage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := l.Repository("registry.example.com/a/one").Resolve(t.Context(), bottom.Digest.String()); err != nil || got.Digest != bottom.Digest {
		t.Errorf("Resolve of the deepest = %v, %v", got.Digest, err)
	}
}

// Manifests and what they name are counted before they fill the memory.
func TestBroadGraph(t *testing.T) {
	t.Parallel()
	c := craft(t)
	var children []string
	for i := range 20 {
		layer := describe(ocispec.MediaTypeImageLayer, fmt.Append(nil, i))
		children = append(children, child1(c.index(t, child1(layer), child1(layer))))
	}
	top := c.index(t, children...)
	c.name(top, oneName)
	for _, tt := range []struct {
		name             string
		manifests, links int
		bytes            int64
		want             error
	}{
		{"all", 21, 60, 1 << 20, nil},
		{"manifests", 20, 60, 1 << 20, errdef.ErrSizeExceedsLimit},
		{"links", 21, 59, 1 << 20, errdef.ErrSizeExceedsLimit},
		{"bytes", 21, 60, 4_000, errdef.ErrSizeExceedsLimit},
	} {
		l := c.open(t)
		layout.SetGraphLimits(l, tt.manifests, tt.links, tt.bytes)
		if err := l.Damage(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("%s: Damage = %v, want %v", tt.name, err, tt.want)
		}
		_, err := l.Repository("registry.example.com/a/one").Resolve(t.Context(), "1.0.0")
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Resolve = %v, want %v", tt.name, err, tt.want)
		}
	}
}

// Digests cannot make a ring; tags of signatures can.
func TestRings(t *testing.T) {
	t.Parallel()
	c := craft(t)
	one, two := c.index(t), c.index(t, child1(c.index(t)))
	tag := func(d ocispec.Descriptor) string { return "sha256-" + d.Digest.Encoded() + ".sig" }
	c.name(one, oneName)
	c.name(one, tag(two))
	c.name(two, tag(one))
	c.name(two, tag(two))
	l := c.open(t)
	want := []string{"1.0.0", tag(one), tag(two)}
	slices.Sort(want)
	if diff := cmp.Diff(want, tags(t, l.Repository("registry.example.com/a/one"), "")); diff != "" {
		t.Errorf("Tags (-want +got):\n%s", diff)
	}
}

// A descriptor that must not become a path is nobody's, and hides nothing
// beside it.
func TestHostileDigests(t *testing.T) {
	t.Parallel()
	c := craft(t)
	sound := c.index(t)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, []byte("{}"), secret)
	hex := sound.Digest.Encoded()
	bad := []digest.Digest{
		"sha256:../../../secret", "sha256:" + digest.Digest(strings.ToUpper(hex)), "SHA256:" + digest.Digest(hex), "sha256:" + digest.Digest(hex[:63]),
		"sha256:" + digest.Digest(hex+"0"), "sha256:" + digest.Digest(hex[:63]+"/"), "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:" + digest.Digest(hex), "sha256", ":", "",
		"sha256+b64:" + digest.Digest(hex), "../sha256:" + digest.Digest(hex), digest.Digest("sha256:" + hex + "\x00"),
	}
	children := []string{child1(sound)}
	for _, d := range bad {
		children = append(children, string(toJSON(t, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: d, Size: 2})))
	}
	c.name(c.index(t, children...), oneName)
	l := c.open(t)
	r := l.Repository("registry.example.com/a/one")
	if _, err := r.Resolve(t.Context(), sound.Digest.String()); err != nil {
		t.Errorf("Resolve of the sound child: %v", err)
	}
	if err := l.Damage(t.Context()); err != nil {
		t.Errorf("Damage = %v", err)
	}
	for _, d := range bad {
		desc := ocispec.Descriptor{Digest: d, Size: 2}
		if _, err := l.Fetch(t.Context(), desc); !errors.Is(err, errdef.ErrInvalidDigest) {
			t.Errorf("Fetch(%q) = %v, want %v", d, err, errdef.ErrInvalidDigest)
		}
		if rc, err := r.Fetch(t.Context(), desc); err == nil {
			rc.Close()
			t.Errorf("Fetch(%q) from the repository = nil", d)
		}
		if _, err := r.Resolve(t.Context(), string(d)); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("Resolve(%q) = %v, want %v", d, err, errdef.ErrNotFound)
		}
		if got := l.BlobPath(d); got != "" {
			t.Errorf("BlobPath(%q) = %q", d, got)
		}
	}
}

// What a descriptor says of size and type is checked or not believed.
func TestLyingDescriptors(t *testing.T) {
	t.Parallel()
	c := craft(t)
	inner := c.index(t)
	short, long, huge, image, negative := inner, inner, inner, inner, inner
	short.Size--
	long.Size++
	huge.Size = 1 << 62
	negative.Size = -1
	image.MediaType = ocispec.MediaTypeImageManifest
	for _, tt := range []struct {
		name string
		desc ocispec.Descriptor
		want error
	}{
		{"sound", inner, nil},
		{"too short", short, content.ErrInvalidDescriptorSize},
		{"too long", long, content.ErrInvalidDescriptorSize},
		{"huge", huge, errdef.ErrSizeExceedsLimit},
		{"negative", negative, errdef.ErrNotFound},
		{"other type", image, nil},
	} {
		c := &crafted{dir: c.dir}
		c.name(c.index(t, child1(tt.desc)), oneName)
		l := c.open(t)
		got, err := l.Repository("registry.example.com/a/one").Resolve(t.Context(), inner.Digest.String())
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Resolve = %v, want %v", tt.name, err, tt.want)
		}
		if err == nil && cmp.Diff(inner, got) != "" {
			t.Errorf("%s: Resolve = %+v, want its own type", tt.name, got)
		}
		if err := l.Damage(t.Context()); (err == nil) != (tt.want == nil || tt.want == errdef.ErrNotFound) {
			t.Errorf("%s: Damage = %v", tt.name, err)
		}
	}
	// One liar does not take away what another says rightly.
	both := &crafted{dir: c.dir}
	both.name(c.index(t, child1(short), child1(inner), child1(long)), oneName)
	if err := both.open(t).Damage(t.Context()); err != nil {
		t.Errorf("Damage beside a right descriptor = %v", err)
	}
}

// Entries that repeat or contradict each other: the last counts, and a writer
// keeps one of its own.
func TestConflictingEntries(t *testing.T) {
	t.Parallel()
	c := craft(t)
	one, two := c.index(t), c.index(t, child1(c.index(t)))
	for _, desc := range []ocispec.Descriptor{one, two, one, two} {
		c.name(desc, oneName)
		c.name(desc, "alias")
		c.entries = append(c.entries, desc)
	}
	l := c.open(t)
	for _, name := range []string{oneName, "alias"} {
		if got, err := l.Resolve(t.Context(), name); err != nil || got.Digest != two.Digest {
			t.Errorf("Resolve(%s) = %v, %v, want the last", name, got.Digest, err)
		}
	}
	if n := len(l.Roots()); n != 1 {
		t.Errorf("%d roots, want 1", n)
	}
	w := writer(t, c.dir)
	setRoot(t, w, oneName, "alias", one)
	commit(t, w)
	var named int
	for _, e := range w.Entries() {
		if e.Annotations[ocispec.AnnotationRefName] != "" {
			named++
		}
	}
	if got, err := w.Resolve(t.Context(), oneName); err != nil || got.Digest != one.Digest || named != 2 {
		t.Errorf("after SetRoot: %v, %v and %d entries with a name, want %s and 2", got.Digest, err, named, one.Digest)
	}
}

// Names are shown, become URLs and end up in paths.
func TestEscapingNames(t *testing.T) {
	t.Parallel()
	c := craft(t)
	desc := c.index(t)
	for _, name := range []string{
		"../../etc:1", "registry.example.com/../../x:1", "registry.example.com//x:1", "/x:1", "registry.example.com/x:../1", "registry.example.com/x\x1b[2J:1",
		"registry.example.com/x:1\n", "-rf/x:1", "registry.example.com:99999999/x:1", "reg%2e/x:1", "a/" + strings.Repeat("b", 300) + ":1", ".", "..", "a:b:c",
	} {
		c.name(desc, name)
	}
	l := c.open(t)
	if got := l.Roots(); len(got) > 0 {
		t.Errorf("Roots = %v, want none", got)
	}
	if diff := cmp.Diff([]string{layout.LocalName(c.dir)}, l.Repositories()); diff != "" {
		t.Errorf("Repositories (-want +got):\n%s", diff)
	}
	for _, tag := range tags(t, l.Repository(layout.LocalName(c.dir)), "") {
		t.Errorf("%q is a tag", tag)
	}
}

// Links planted anywhere in a layout lead nobody out of it: nothing outside is
// read as if it were inside, or changed.
func TestPlantedLinks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("making symbolic links needs a privilege on Windows")
	}
	for _, name := range planted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := newShop(t).dir
			write(t, []byte("x"), outside, "sealift", "partial", "sha256", "x")
			write(t, []byte("x"), outside, "sealift", "parts", "sha256", "x")
			write(t, []byte("x"), outside, "sealift", "bin", "tool")
			dir := newShop(t).dir
			remove(t, dir, name)
			link(t, filepath.Join(outside, name), dir, name)
			before := tree(t, outside)
			abuse(t, dir)
			if diff := cmp.Diff(before, tree(t, outside)); diff != "" {
				t.Errorf("outside changed:\n%s", diff)
			}
		})
	}
}

// planted are the names under which something may lie in wait.
var planted = []string{
	"oci-layout", "index.json", "blobs", "blobs/sha256", "sealift", "sealift/partial", "sealift/parts", "sealift/lock", "sealift/index.1.json",
	"sealift/index.2.json", "sealift/index.json.new", "sealift/oci-layout.new", "sealift/bin",
}

// abuse does everything with a layout, whose errors are its own business, and
// ends in a while.
func abuse(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if l, err := layout.Open(dir); err == nil {
		_ = l.Damage(ctx)
		for _, e := range l.Entries() {
			if rc, err := l.Fetch(ctx, e); err == nil {
				rc.Close()
			}
			_, _ = l.Partial(ctx, e)
			_, _ = l.Segments(ctx, e)
		}
		_, _ = l.ReadFile("sealift/bin/tool", 10)
	}
	w, err := layout.OpenWriterOptions(ctx, dir, layout.WriterOptions{MaxFileBytes: 1000})
	if err != nil {
		t.Logf("OpenWriter: %v", err)
		return
	}
	for _, size := range []int{500, 2500} {
		blob := noise(size)
		desc := describe("x/y", blob)
		if err := w.Ingest(ctx, desc, (&source{content: blob[:size/2]}).open); err == nil {
			t.Error("Ingest of half a blob = nil")
		}
		if err := w.Ingest(ctx, desc, (&source{content: blob}).open); err != nil {
			t.Logf("Ingest: %v", err)
			continue
		}
		if ok, err := w.Exists(ctx, desc); err != nil || !ok {
			t.Errorf("Exists after Ingest = %v, %v, want true", ok, err)
		}
		if err := w.AddUntagged(desc); err != nil {
			t.Error(err)
		}
	}
	if err := w.WriteFile(ctx, "sealift/bin/tool", 0o755, strings.NewReader("tool")); err != nil {
		t.Logf("WriteFile: %v", err)
	}
	if err := w.Commit(ctx); err != nil {
		t.Logf("Commit: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Logf("Close: %v", err)
	}
}

func TestHugeIndex(t *testing.T) {
	t.Parallel()
	c := craft(t)
	f, err := os.Create(filepath.Join(c.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(64<<20+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Open(c.dir); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("Open = %v, want %v", err, errdef.ErrSizeExceedsLimit)
	}
	if _, err := layout.OpenWriter(t.Context(), c.dir); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("OpenWriter = %v, want %v", err, errdef.ErrSizeExceedsLimit)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:../x","size":-1},"layers":[{}],"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json"}],"subject":{}}`))
	f.Add([]byte(`{"manifests":null,"layers":null,"config":null,"subject":null,"annotations":{"":""}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{"size":1e99}]}`))
	f.Add([]byte(`[[[[[[`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		children, blobs, err := layout.ManifestLinks(raw)
		if err == nil && children+blobs > len(raw) {
			t.Errorf("%d children and %d blobs of %d bytes", children, blobs, len(raw))
		}
	})
}

func FuzzSplitName(f *testing.F) {
	for _, name := range []string{oneName, "localhost:5000/a:1", "[::1]:5000/a:1", "a:b", "/:", "registry.example.com/../x:1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		repository, tag, ok := layout.SplitName(name)
		if ok && (repository+":"+tag != name || strings.Contains(name, "..") && strings.Contains(name, "/..") || strings.ContainsAny(name, "\x00\n\x1b\\ ")) {
			t.Errorf("SplitName(%q) = %q, %q", name, repository, tag)
		}
	})
}

func FuzzParseHolder(f *testing.F) {
	f.Add("pid 12\nhost a\nboot b\n")
	f.Add("pid -1\npid 99999999999999999999\nhost\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if once := layout.Holder(text); layout.Holder(once) != once {
			t.Errorf("not stable: %q becomes %q", once, layout.Holder(once))
		}
	})
}

// Another tool may have a file of the private directory's name: such a layout
// is read like any other.
func TestFileNamedLikeThePrivateDirectory(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sealift", "sealift/parts", "sealift/partial"} {
		s := newShop(t)
		remove(t, s.dir, name)
		write(t, []byte("ours"), s.dir, name)
		l := open(t, s.dir)
		if err := l.Damage(t.Context()); err != nil {
			t.Errorf("%s: Damage = %v", name, err)
		}
		if ok, err := l.Exists(t.Context(), s.missing); err != nil || ok {
			t.Errorf("%s: Exists = %v, %v, want false", name, ok, err)
		}
		if n, err := l.Partial(t.Context(), s.missing); err != nil || n != 0 {
			t.Errorf("%s: Partial = %d, %v, want 0", name, n, err)
		}
		if n, err := l.Segments(t.Context(), s.missing); err != nil || n != nil {
			t.Errorf("%s: Segments = %v, %v, want none", name, n, err)
		}
		fetch(t, l, s.image)
	}
}
