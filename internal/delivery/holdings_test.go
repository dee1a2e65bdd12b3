package delivery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

func blobOf(mediaType, text string) artifact.Blob {
	return artifact.Blob{Descriptor: artifact.Describe(mediaType, []byte(text)), Data: []byte(text)}
}

func documentOf(t *testing.T, mediaType string, doc any) artifact.Blob {
	t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return blobOf(mediaType, string(raw))
}

// image makes an image for linux/amd64 and linux/arm64, which have one layer in
// common with every other image and one that is their own. The index is last.
func image(t *testing.T, name string) []artifact.Blob {
	t.Helper()
	base := blobOf(ocispec.MediaTypeImageLayer, "base")
	parts := []artifact.Blob{base}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, architecture := range []string{"amd64", "arm64"} {
		platform := ocispec.Platform{OS: "linux", Architecture: architecture}
		config := documentOf(t, ocispec.MediaTypeImageConfig, platform)
		layer := blobOf(ocispec.MediaTypeImageLayer, name+" for "+architecture)
		manifest := documentOf(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: index.Versioned, MediaType: ocispec.MediaTypeImageManifest,
			Config: config.Descriptor, Layers: []ocispec.Descriptor{base.Descriptor, layer.Descriptor}})
		parts = append(parts, config, layer, manifest)
		child := manifest.Descriptor
		child.Platform = &platform
		index.Manifests = append(index.Manifests, child)
	}
	return append(parts, documentOf(t, ocispec.MediaTypeImageIndex, index))
}

// put adds content under a name whose root is the last of it.
func (m media) put(name string, parts []artifact.Blob) ocispec.Descriptor {
	m.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	root := parts[len(parts)-1].Descriptor
	m.write(func(ctx context.Context, w *layout.Writer) error {
		repo := w.WritableRepository(repository)
		for _, b := range parts {
			if err := repo.Push(ctx, b.Descriptor, bytes.NewReader(b.Data)); err != nil {
				return err
			}
		}
		return repo.Tag(ctx, root, tag)
	})
	return root
}

// app adds a release of example.com/ID whose image is for two platforms.
func (m media) app(id, version string) ocispec.Descriptor {
	m.Helper()
	app, err := artifact.ParseTemplate("app.yaml", []byte("apiVersion: sealift/v1\nkind: App\nid: example.com/"+id+"\nversion: "+version+
		"\nplatforms: [linux/amd64, linux/arm64]\ncomponents:\n  web: {image: example.com/web:1}\n"), os.DirFS(m.TempDir()))
	if err != nil {
		m.Fatal(err)
	}
	parts := image(m.T, id+" "+version)
	web := artifact.Image{Descriptor: parts[len(parts)-1].Descriptor, Source: "example.com/web:1"}
	documents, root, err := artifact.BuildRelease(app, map[string]artifact.Image{"web": web}, time.Time{})
	if err != nil {
		m.Fatal(err)
	}
	return m.put("r.example/"+id+":"+version, slices.Concat(parts, documents, []artifact.Blob{root}))
}

// carry mirrors what is called name to other media.
func (m media) carry(to media, name string, sites []mirror.Site, platforms ...ocispec.Platform) {
	m.Helper()
	dst, err := mirror.OpenMedia(m.Context(), to.dir, mirror.MediaOptions{Tool: "test"})
	if err != nil {
		m.Fatal(err)
	}
	plan, err := mirror.NewPlan(m.Context(), dst, []mirror.Item{m.item(name, platforms...)}, mirror.PlanOptions{Sites: sites})
	if err == nil {
		err = plan.Execute(m.Context(), mirror.ExecuteOptions{})
	}
	if err := errors.Join(err, dst.Close()); err != nil {
		m.Fatal(err)
	}
}

func (m media) item(name string, platforms ...ocispec.Platform) mirror.Item {
	m.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	src, err := mirror.OpenSource(m.dir, repository)
	if err != nil {
		m.Fatal(err)
	}
	return mirror.Item{Source: src, Reference: tag, Name: name, Platforms: platforms}
}

// inventory takes one and returns its text and the names of what was left out.
func inventory(t *testing.T, opts delivery.InventoryOptions, all ...media) (text string, left []delivery.LeftOut) {
	t.Helper()
	var list []delivery.Found
	for _, m := range all {
		list = append(list, m.find("")...)
	}
	inv, left, err := delivery.TakeInventory(t.Context(), list, opts)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := inv.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), left
}

func (m media) remove(d ocispec.Descriptor) {
	m.Helper()
	l, err := layout.Open(m.dir)
	if err != nil {
		m.Fatal(err)
	}
	if err := os.Remove(l.BlobPath(d.Digest)); err != nil {
		m.Fatal(err)
	}
}

var amd64, arm64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}

func line(d ocispec.Descriptor, rest string) string {
	return "root " + d.Digest.String() + " " + rest + "\n"
}

func TestTakeInventory(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	shop, till := m.app("shop", "1.0.0"), m.app("team/till", "2.0.0")
	plain := m.put("r.example/redis:7", image(t, "redis"))
	lines := []string{line(shop, "example.com/shop 1.0.0 *"), line(till, "example.com/team/till 2.0.0 *"), line(plain, "- - *")}
	slices.Sort(lines)
	text, left := inventory(t, delivery.InventoryOptions{}, m)
	if want := head + strings.Join(lines, ""); text != want || len(left) > 0 {
		t.Errorf("TakeInventory = %s, %v, want %s", text, left, want)
	}
	// The same media again, and again: one site.
	if again, _ := inventory(t, delivery.InventoryOptions{}, m, m); again != text {
		t.Errorf("TakeInventory of the same twice = %s, want %s", again, text)
	}
	for glob, want := range map[string]string{"example.com/*": line(shop, "example.com/shop 1.0.0 *"), "example.com/**/till": line(till, "example.com/team/till 2.0.0 *"), "example.org/**": ""} {
		g, err := artifact.ParseIDGlob(glob)
		if err != nil {
			t.Fatal(err)
		}
		if text, left := inventory(t, delivery.InventoryOptions{For: []artifact.IDGlob{g}}, m); text != head+want || len(left) > 0 {
			t.Errorf("TakeInventory for %s = %s, %v, want %s", glob, text, left, want)
		}
	}
}

// With blobs, whatever of the roots is held is listed, and nothing of others.
func TestTakeInventoryBlobs(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	m.app("shop", "1.0.0")
	m.app("till", "1.0.0")
	gone := blobOf(ocispec.MediaTypeImageLayer, "shop 1.0.0 for arm64").Descriptor
	m.remove(gone)
	glob, err := artifact.ParseIDGlob("example.com/shop")
	if err != nil {
		t.Fatal(err)
	}
	text, left := inventory(t, delivery.InventoryOptions{For: []artifact.IDGlob{glob}, Blobs: true}, m)
	if len(left) != 1 || left[0].Lacks != (mirror.Amount{Blobs: 1, Bytes: gone.Size}) || strings.Contains(text, "root ") {
		t.Errorf("TakeInventory = %s, %+v, want the shop left out for one blob", text, left)
	}
	for _, name := range []string{"base", "shop 1.0.0 for amd64", "shop 1.0.0 for arm64", "till 1.0.0 for amd64"} {
		d := blobOf("", name).Descriptor.Digest
		if got, want := strings.Contains(text, "blob "+d.String()+"\n"), name == "base" || name == "shop 1.0.0 for amd64"; got != want {
			t.Errorf("the layer %q is listed: %t, want %t, in %s", name, got, want, text)
		}
	}
}

// What media carries of some platforms only is whole for these.
func TestTakeInventoryPlatforms(t *testing.T) {
	t.Parallel()
	vendor, amd, arm, both := newMedia(t), newMedia(t), newMedia(t), newMedia(t)
	shop := vendor.app("shop", "1.0.0")
	vendor.carry(amd, "r.example/shop:1.0.0", nil, amd64)
	vendor.carry(arm, "r.example/shop:1.0.0", nil, arm64)
	vendor.carry(both, "r.example/shop:1.0.0", nil, arm64, amd64)
	for _, tt := range []struct {
		name string
		all  []media
		want string
	}{
		{"one", []media{amd}, "linux/amd64"},
		{"two at once", []media{both}, "linux/amd64,linux/arm64"},
		{"one each", []media{arm, amd}, "linux/amd64,linux/arm64"},
		{"one and both", []media{arm, both}, "linux/amd64,linux/arm64"},
		{"one and all", []media{amd, vendor}, "*"},
		{"all and one", []media{vendor, amd}, "*"},
	} {
		text, left := inventory(t, delivery.InventoryOptions{}, tt.all...)
		if want := head + line(shop, "example.com/shop 1.0.0 "+tt.want); text != want || len(left) > 0 {
			t.Errorf("%s: TakeInventory = %s, %v, want %s", tt.name, text, left, want)
		}
	}
}

// A delta is whole together with its base, and not alone.
func TestTakeInventoryDelta(t *testing.T) {
	t.Parallel()
	vendor, base, delta := newMedia(t), newMedia(t), newMedia(t)
	first, second := vendor.app("shop", "1.0.0"), vendor.app("shop", "1.1.0")
	vendor.carry(base, "r.example/shop:1.0.0", nil)
	vendor.carry(delta, "r.example/shop:1.1.0", []mirror.Site{{Items: []mirror.Item{vendor.item("r.example/shop:1.0.0")}}})
	text, left := inventory(t, delivery.InventoryOptions{}, delta)
	if text != head || len(left) != 1 || left[0].Name != "r.example/shop:1.1.0" || left[0].Digest != second.Digest ||
		left[0].Lacks.Blobs == 0 || left[0].Lacks.Blobs >= left[0].All.Blobs || left[0].Reason != "in r.example/shop:1.0.0" {
		t.Errorf("TakeInventory of a delta = %s, %+v, want it left out for what is in its base", text, left)
	}
	lines := []string{line(first, "example.com/shop 1.0.0 *"), line(second, "example.com/shop 1.1.0 *")}
	slices.Sort(lines)
	for _, all := range [][]media{{base, delta}, {delta, base}} {
		if text, left := inventory(t, delivery.InventoryOptions{}, all...); text != head+strings.Join(lines, "") || len(left) > 0 {
			t.Errorf("TakeInventory of a delta and its base = %s, %+v, want both", text, left)
		}
	}
	// What is missing on both is told once.
	base.remove(blobOf("", "base").Descriptor)
	if _, left := inventory(t, delivery.InventoryOptions{}, base, delta, delta); len(left) != 2 {
		t.Errorf("TakeInventory without the base layer left out %+v, want each release once", left)
	}
}

// Media lies, or is damaged. What is left out is told, and hides nothing beside it.
func TestTakeInventoryHostile(t *testing.T) {
	t.Parallel()
	label := func(platforms ...string) func(media, ocispec.Descriptor) {
		return func(m media, d ocispec.Descriptor) {
			m.write(func(ctx context.Context, w *layout.Writer) error {
				return w.SetLabel(ctx, layout.Label{Roots: []layout.LabelRoot{{Name: "r.example/shop:1.0.0", Digest: d.Digest, Platforms: platforms}}})
			})
		}
	}
	release := func(annotations map[string]string) func(media, ocispec.Descriptor) {
		return func(m media, _ ocispec.Descriptor) {
			m.put("r.example/shop:1.0.0", []artifact.Blob{documentOf(m.T, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2},
				MediaType: ocispec.MediaTypeImageIndex, ArtifactType: artifact.TypeRelease, Manifests: []ocispec.Descriptor{}, Annotations: annotations})})
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(media, ocispec.Descriptor)
		says  string
	}{
		{"layer gone", func(m media, _ ocispec.Descriptor) { m.remove(blobOf("", "shop 1.0.0 for amd64").Descriptor) }, ""},
		{"layer cut", func(m media, _ ocispec.Descriptor) {
			l, err := layout.Open(m.dir)
			path := l.BlobPath(blobOf("", "shop 1.0.0 for amd64").Descriptor.Digest)
			if err := errors.Join(err, os.Chmod(path, 0o644), os.Truncate(path, 3)); err != nil {
				m.Fatal(err)
			}
		}, ""},
		{"layer is a link out", func(m media, _ ocispec.Descriptor) {
			l, err := layout.Open(m.dir)
			path := l.BlobPath(blobOf("", "shop 1.0.0 for amd64").Descriptor.Digest)
			if err := errors.Join(err, os.Remove(path), os.Symlink("/etc/hostname", path)); err != nil {
				m.Fatal(err)
			}
		}, ""},
		{"root damaged", func(m media, d ocispec.Descriptor) { m.flip(d) }, "content has digest"},
		{"root gone", func(m media, d ocispec.Descriptor) { m.remove(d) }, "not found"},
		{"manifest gone", func(m media, _ ocispec.Descriptor) { parts := image(m.T, "shop 1.0.0"); m.remove(parts[3].Descriptor) }, "not found"},
		{"platforms it never had", label("linux/s390x"), "nothing for linux/s390x"},
		{"platforms again and again", label(strings.Fields(strings.Repeat("linux/a ", 100))...), "nothing for linux/a"},
		{"id that is none", release(map[string]string{artifact.AnnotationID: "shop\x1b[2J", ocispec.AnnotationVersion: "1.0.0"}), "id: "},
		{"id with a line", release(map[string]string{artifact.AnnotationID: "a.b/c 1.0.0 *\nroot " + digestA + " a.b/c", ocispec.AnnotationVersion: "1.0.0"}), "id: "},
		{"version that is none", release(map[string]string{artifact.AnnotationID: "example.com/shop", ocispec.AnnotationVersion: "*"}), "version: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMedia(t)
			shop, till := m.app("shop", "1.0.0"), m.app("till", "1.0.0")
			tt.spoil(m, shop)
			text, left := inventory(t, delivery.InventoryOptions{}, m)
			if want := head + line(till, "example.com/till 1.0.0 *"); text != want {
				t.Errorf("TakeInventory = %s, want %s", text, want)
			}
			if len(left) != 1 || left[0].Name != "r.example/shop:1.0.0" || (left[0].Err == nil) != (tt.says == "") {
				t.Fatalf("TakeInventory left out %+v, want the shop", left)
			}
			if err := left[0].Err; err != nil && (!strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), left[0].Name)) {
				t.Errorf("the shop is left out because of %v, want the name and %q", err, tt.says)
			}
			if left[0].Err == nil && left[0].Lacks.Blobs != 1 {
				t.Errorf("the shop lacks %+v, want one blob", left[0].Lacks)
			}
		})
	}
}

// The vendor makes a delta of an inventory. A true one leads to media that is whole
// beside what the site has; one that lies to media that lacks something and says so,
// with all that is signed on it as it was.
func TestInventoryMakesDelta(t *testing.T) {
	t.Parallel()
	vendor, site, s := newMedia(t), newMedia(t), newSigner(t)
	vendor.app("shop", "1.0.0")
	next := vendor.app("shop", "1.2.0")
	vendor.write(func(ctx context.Context, w *layout.Writer) error {
		_, err := signer.Sign(ctx, w.WritableRepository("r.example/shop"), next, "r.example/shop", s, signer.SignOptions{})
		return err
	})
	vendor.carry(site, "r.example/shop:1.0.0", nil, amd64)
	truth, _ := inventory(t, delivery.InventoryOptions{}, site)
	said, err := delivery.ParseInventory([]byte(truth))
	if err != nil {
		t.Fatal(err)
	}
	said.Roots[0].Platforms = nil
	said.Roots = append(said.Roots, delivery.InventoryRoot{Digest: next.Digest, ID: "example.com/shop", Version: "1.2.0"})
	lie, err := said.Format()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text string
		whole      bool
	}{{"true", truth, true}, {"lying", string(lie), false}} {
		inv, _, err := delivery.ReadInventory([]byte(tt.text), nil)
		if err != nil {
			t.Fatal(err)
		}
		var held mirror.Site
		for _, r := range inv.Roots {
			item := vendor.item("r.example/shop:"+r.Version, r.Platforms...)
			item.Reference = r.Digest.String()
			held.Items = append(held.Items, item)
		}
		delta := newMedia(t)
		vendor.carry(delta, "r.example/shop:1.2.0", []mirror.Site{held})
		text, left := inventory(t, delivery.InventoryOptions{}, site, delta)
		if got := strings.Contains(text, next.Digest.String()); got != tt.whole || len(left) == 0 != tt.whole {
			t.Errorf("%s: 1.2.0 is whole: %t, want %t, in %s, %+v", tt.name, got, tt.whole, text, left)
		}
		found := delta.find(":1.2.0")[0]
		if _, err := delivery.Verify(t.Context(), found, delivery.Trust{Keys: []*signer.Key{s.Key()}}); err != nil || found.Descriptor.Digest != next.Digest {
			t.Errorf("%s: the delta has %s, %v, want what was signed", tt.name, found.Descriptor.Digest, err)
		}
		if sum, err := delivery.VerifyBytes(t.Context(), found, delivery.CarriedOf(found).Expected(nil)); err != nil || len(sum.Absent) == 0 {
			t.Errorf("%s: VerifyBytes = %+v, %v, want a sound delta that says what it left", tt.name, sum, err)
		}
	}
}

// One name stands for two manifests on two media, which cannot be joined: both
// manifests are held.
func TestTakeInventoryOfTwoStates(t *testing.T) {
	t.Parallel()
	before, after := newMedia(t), newMedia(t)
	lines := []string{line(before.put("r.example/shop:latest", image(t, "before")), "- - *"), line(after.put("r.example/shop:latest", image(t, "after")), "- - *")}
	slices.Sort(lines)
	if text, left := inventory(t, delivery.InventoryOptions{}, before, after); text != head+strings.Join(lines, "") || len(left) > 0 {
		t.Errorf("TakeInventory = %s, %+v, want both", text, left)
	}
}

func TestTakeInventoryEnds(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	m.app("shop", "1.0.0")
	list := m.find("")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fs.ErrClosed)
	if _, _, err := delivery.TakeInventory(ctx, list, delivery.InventoryOptions{}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("TakeInventory = %v, want %v", err, fs.ErrClosed)
	}
}
