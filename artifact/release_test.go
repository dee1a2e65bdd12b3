package artifact_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

var buildDate = time.Date(2025, 3, 4, 5, 6, 7, 800, time.FixedZone("CET", 3600))

// image is a descriptor of some image that nothing reads.
func image(name string) artifact.Image {
	return artifact.Image{Descriptor: artifact.Describe(ocispec.MediaTypeImageManifest, []byte(name)), Source: name}
}

func shopImages() map[string]artifact.Image {
	return map[string]artifact.Image{"db": image("docker.io/library/redis:7.2"), "web": image("registry.example.com/shop/web:1.0.0")}
}

func parse(t *testing.T, doc string, files fstest.MapFS) *artifact.App {
	t.Helper()
	app, err := artifact.ParseTemplate("app.yaml", []byte(doc), files)
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func build(t *testing.T, app *artifact.App, images map[string]artifact.Image, created time.Time) ([]artifact.Blob, artifact.Blob) {
	t.Helper()
	parts, root, err := artifact.BuildRelease(app, images, created)
	if err != nil {
		t.Fatalf("BuildRelease = %v", err)
	}
	return parts, root
}

func TestBuildRelease(t *testing.T) {
	t.Parallel()
	app := shop(t)
	parts, root := build(t, app, shopImages(), buildDate)
	var types []string
	for _, p := range parts {
		types = append(types, p.Descriptor.MediaType)
		if got := artifact.Describe(p.Descriptor.MediaType, p.Data); got.Digest != p.Descriptor.Digest || got.Size != p.Descriptor.Size {
			t.Errorf("part %s is described as %s", got.Digest, p.Descriptor.Digest)
		}
	}
	wantTypes := []string{artifact.MediaTypeConfig, artifact.MediaTypeFile, artifact.MediaTypeFile, ocispec.MediaTypeImageManifest}
	if !slices.Equal(types, wantTypes) {
		t.Errorf("media types of the parts = %q, want %q", types, wantTypes)
	}
	var index ocispec.Index
	if err := json.Unmarshal(root.Data, &index); err != nil {
		t.Fatal(err)
	}
	appDesc := parts[3].Descriptor
	appDesc.ArtifactType = artifact.TypeApp
	db, web := shopImages()["db"], shopImages()["web"]
	db.Descriptor.Annotations = map[string]string{artifact.AnnotationComponents: "db", artifact.AnnotationSource: db.Source}
	web.Descriptor.Annotations = map[string]string{artifact.AnnotationComponents: "web", artifact.AnnotationSource: web.Source}
	want := ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageIndex,
		ArtifactType: artifact.TypeRelease,
		Manifests:    []ocispec.Descriptor{appDesc, db.Descriptor, web.Descriptor},
		Annotations: map[string]string{
			artifact.AnnotationID: "example.com/shop", ocispec.AnnotationTitle: "Shop", ocispec.AnnotationVersion: "1.0.0",
			ocispec.AnnotationVendor: "Example Ltd", ocispec.AnnotationCreated: "2025-03-04T04:06:07Z",
		},
	}
	if diff := cmp.Diff(want, index); diff != "" {
		t.Errorf("root index (-want +got):\n%s", diff)
	}
	if canonical, err := jsoncanonicalizer.Transform(root.Data); err != nil || !bytes.Equal(canonical, root.Data) {
		t.Errorf("root index is not canonical JSON: %s", root.Data)
	}
	wantRoot := artifact.Describe(ocispec.MediaTypeImageIndex, root.Data)
	wantRoot.ArtifactType = artifact.TypeRelease
	if diff := cmp.Diff(wantRoot, root.Descriptor); diff != "" {
		t.Errorf("root descriptor (-want +got):\n%s", diff)
	}
	for range 10 {
		if _, again := build(t, shop(t), shopImages(), buildDate); !bytes.Equal(again.Data, root.Data) {
			t.Fatalf("BuildRelease gave\n%s\nand then\n%s", root.Data, again.Data)
		}
	}
	if _, other := build(t, app, shopImages(), time.Time{}); strings.Contains(string(other.Data), "created") {
		t.Errorf("BuildRelease without a date wrote one: %s", other.Data)
	}
}

func TestBuildReleaseChildren(t *testing.T) {
	t.Parallel()
	app := parse(t, head+"components:\n  z: {image: a}\n  a: {image: b}\n  m: {image: a}\n  b: {image: c}\n", nil)
	shared, single := image("shared"), image("single")
	single.Descriptor.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	single.Descriptor.Annotations = map[string]string{artifact.AnnotationSynthesised: "docker-archive", "other": "dropped", artifact.AnnotationComponents: "forged"}
	other := shared
	other.Source = "another name"
	_, root := build(t, app, map[string]artifact.Image{"a": image("first"), "b": shared, "m": single, "z": other, "unused": image("x")}, time.Time{})
	index, err := artifact.ParseManifest(ocispec.MediaTypeImageIndex, root.Data)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]string
	for _, d := range index.Manifests[1:] {
		got = append(got, d.Annotations)
	}
	want := []map[string]string{
		{artifact.AnnotationComponents: "a", artifact.AnnotationSource: "first"},
		{artifact.AnnotationComponents: "b,z", artifact.AnnotationSource: "shared"},
		{artifact.AnnotationComponents: "m", artifact.AnnotationSource: "single", artifact.AnnotationSynthesised: "docker-archive"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("annotations of the images (-want +got):\n%s", diff)
	}
	if p := index.Manifests[3].Platform; p == nil || p.Architecture != "arm64" {
		t.Errorf("platform = %v, want linux/arm64", p)
	}
	if got, want := index.Annotations[ocispec.AnnotationTitle], "shop"; got != want {
		t.Errorf("title without one = %q, want %q", got, want)
	}
	if _, _, err := artifact.BuildRelease(app, map[string]artifact.Image{"a": shared}, time.Time{}); err == nil {
		t.Error("BuildRelease without an image for a component = nil, want an error")
	}
}

// The app manifest must be what other tools make of the same parts: docs/format.md
// has the recipe with `oras push`, which packs as oras-go does.
func TestAppManifestIsWhatORASPacks(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"a & <b>.conf": {Data: []byte("x")}, "dir/ü.conf": {Data: []byte("y")}}
	tests := map[string]*artifact.App{
		"shop":     shop(t),
		"no files": parse(t, head+"components:\n  a: {image: a}\n", nil),
		"odd names": parse(t, head+"components:\n  a: {image: a, files: {/a: {source: 'a & <b>.conf'}, /b: {source: dir/ü.conf}}}\n",
			files),
	}
	for name, app := range tests {
		images := map[string]artifact.Image{"a": image("a"), "db": image("db"), "web": image("web")}
		parts, _ := build(t, app, images, buildDate)
		manifest := parts[len(parts)-1]
		var layers []ocispec.Descriptor
		for _, source := range sorted(app.Files) {
			d := content.NewDescriptorFromBytes(artifact.MediaTypeFile, app.Files[source])
			d.Annotations = map[string]string{ocispec.AnnotationTitle: source}
			layers = append(layers, d)
		}
		config := content.NewDescriptorFromBytes(artifact.MediaTypeConfig, app.Config)
		store := memory.New()
		desc, err := oras.PackManifest(t.Context(), store, oras.PackManifestVersion1_1, artifact.TypeApp, oras.PackManifestOptions{
			ConfigDescriptor: &config, Layers: layers,
			ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: "2025-03-04T04:06:07Z"},
		})
		if err != nil {
			t.Fatal(err)
		}
		want, err := content.FetchAll(t.Context(), store, desc)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(manifest.Data)); diff != "" {
			t.Errorf("%s: app manifest (-packed by oras +built):\n%s", name, diff)
		}
	}
}

func sorted(files map[string][]byte) []string {
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func push(t *testing.T, store *memory.Store, blobs ...artifact.Blob) {
	t.Helper()
	for _, b := range blobs {
		if err := store.Push(t.Context(), b.Descriptor, bytes.NewReader(b.Data)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
			t.Fatalf("push %s: %v", b.Descriptor.MediaType, err)
		}
	}
}

func TestReadRelease(t *testing.T) {
	t.Parallel()
	app := shop(t)
	images := shopImages()
	parts, root := build(t, app, images, buildDate)
	store := memory.New()
	push(t, store, append(parts, root)...)
	desc := root.Descriptor
	desc.ArtifactType = "" // as it comes from resolving a tag
	got, err := artifact.ReadRelease(t.Context(), store, desc)
	if err != nil {
		t.Fatalf("ReadRelease = %v", err)
	}
	if diff := cmp.Diff(app, got.App, everything); diff != "" {
		t.Errorf("App (-published +read):\n%s", diff)
	}
	if diff := cmp.Diff(root.Descriptor, got.Root); diff != "" {
		t.Errorf("Root (-want +got):\n%s", diff)
	}
	for key, image := range images {
		if got.Images[key].Digest != image.Descriptor.Digest {
			t.Errorf("Images[%q] = %s, want %s", key, got.Images[key].Digest, image.Descriptor.Digest)
		}
	}
	if len(got.Images) != len(images) {
		t.Errorf("Images = %v, want %d", got.Images, len(images))
	}
}

// forged is a release whose documents can be changed before they are stored.
type forged struct {
	config   []byte
	manifest ocispec.Manifest
	appType  string // media type of the first child
	index    ocispec.Index
	rootType string
	files    []artifact.Blob
}

// byDigest serves content as registries and layouts do: by digest alone, whatever
// else its descriptor claims.
type byDigest map[digest.Digest][]byte

func (m byDigest) add(t *testing.T, mediaType string, doc any) ocispec.Descriptor {
	t.Helper()
	data, ok := doc.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
	}
	d := artifact.Describe(mediaType, data)
	m[d.Digest] = data
	return d
}

func (m byDigest) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := m[d.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func forge(t *testing.T, change func(*forged)) (byDigest, ocispec.Descriptor) {
	t.Helper()
	app := shop(t)
	parts, root := build(t, app, shopImages(), time.Time{})
	f := &forged{config: app.Config, appType: ocispec.MediaTypeImageManifest, rootType: ocispec.MediaTypeImageIndex}
	f.files = slices.Clone(parts[1:3])
	if err := json.Unmarshal(parts[3].Data, &f.manifest); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(root.Data, &f.index); err != nil {
		t.Fatal(err)
	}
	change(f)
	store := byDigest{}
	for _, b := range f.files {
		store.add(t, b.Descriptor.MediaType, b.Data)
	}
	config := store.add(t, artifact.MediaTypeConfig, f.config)
	f.manifest.Config.Digest, f.manifest.Config.Size = config.Digest, config.Size
	first := store.add(t, f.appType, f.manifest)
	first.ArtifactType = artifact.TypeApp
	if len(f.index.Manifests) > 0 {
		f.index.Manifests[0] = first
	}
	return store, store.add(t, f.rootType, f.index)
}

func TestReadReleaseRefuses(t *testing.T) {
	t.Parallel()
	const components = artifact.AnnotationComponents
	replace := func(old, to string) func(*forged) {
		return func(f *forged) { f.config = bytes.Replace(f.config, []byte(old), []byte(to), 1) }
	}
	tests := []struct {
		name   string
		change func(*forged)
		want   string // "" for success
		is     error
	}{
		{"unchanged", func(*forged) {}, "", nil},
		{"another artifact", func(f *forged) { f.index.ArtifactType = "a/b" }, "", artifact.ErrNotRelease},
		{"no artifact type", func(f *forged) { f.index.ArtifactType = "" }, "", artifact.ErrNotRelease},
		{"docker list", func(f *forged) { f.rootType, f.index.MediaType = dockerList, dockerList }, "", artifact.ErrNotRelease},
		{"no children", func(f *forged) { f.index.Manifests = nil }, "", artifact.ErrNotRelease},
		{"wrong app type", func(f *forged) { f.manifest.ArtifactType = "a/b" }, "", artifact.ErrNotRelease},
		{"wrong config type", func(f *forged) { f.manifest.Config.MediaType = "a/b" }, "", artifact.ErrNotRelease},
		{"app under an index's type", func(f *forged) { f.appType = ocispec.MediaTypeImageIndex }, "declares media type", nil},
		{"app under an index's type, undeclared", func(f *forged) { f.appType, f.manifest.MediaType = ocispec.MediaTypeImageIndex, "" }, "fields of both", nil},
		{"relabelled id", func(f *forged) { f.index.Annotations[artifact.AnnotationID] = "example.com/other" }, "calls itself example.com/other 1.0.0, its template says example.com/shop 1.0.0", nil},
		{"relabelled version", func(f *forged) { f.index.Annotations[ocispec.AnnotationVersion] = "2.0.0" }, "calls itself example.com/shop 2.0.0", nil},
		{"no id", func(f *forged) { f.index.Annotations = nil }, "calls itself", nil},
		{"missing component", func(f *forged) { f.index.Manifests = f.index.Manifests[:2] }, "has no image for component web", nil},
		{"two images", func(f *forged) { f.index.Manifests[2].Annotations[components] = "web,db" }, "gives component db two images", nil},
		{"one image twice", func(f *forged) { f.index.Manifests[2].Annotations[components] = "web,web" }, "gives component web two images", nil},
		{"unknown component", func(f *forged) { f.index.Manifests[2].Annotations[components] = "web,backdoor" }, `has an image for component "backdoor", which the template lacks`, nil},
		{"empty component", func(f *forged) { f.index.Manifests[2].Annotations[components] = "" }, `has an image for component "", which the template lacks`, nil},
		{"image is a blob", func(f *forged) { f.index.Manifests[1].MediaType = "text/plain" }, `the image of db has media type "text/plain"`, nil},
		{"additions are allowed", func(f *forged) {
			f.index.Manifests = append(f.index.Manifests, artifact.Describe(ocispec.MediaTypeImageManifest, []byte("compose")), artifact.Describe("a/b", []byte("more")))
		}, "", nil},
		{"invalid template", replace(`"kind":"App"`, `"kind":"Pod"`), `template: kind: want App, got "Pod"`, nil},
		{"no template", func(f *forged) { f.config = []byte("null") }, "want a JSON object", nil},
		{"missing file", func(f *forged) { f.manifest.Layers = f.manifest.Layers[1:] }, "component db: file /etc/redis/redis.conf is not carried by the release (redis.conf)", nil},
		{"file of another type", func(f *forged) { f.manifest.Layers[0].MediaType = "a/b" }, "is not carried by the release (redis.conf)", nil},
		{"file with a bad title", func(f *forged) { f.manifest.Layers[0].Annotations[ocispec.AnnotationTitle] = "../../etc/passwd" }, `bad or repeated title, "../../etc/passwd"`, nil},
		{"file without a title", func(f *forged) { f.manifest.Layers[0].Annotations = nil }, `bad or repeated title, ""`, nil},
		{"file given twice", func(f *forged) { f.manifest.Layers[1].Annotations[ocispec.AnnotationTitle] = "redis.conf" }, `bad or repeated title, "redis.conf"`, nil},
		{"file not there", func(f *forged) { f.files = nil }, "", errdef.ErrNotFound},
		{"file too large", func(f *forged) { f.manifest.Layers[0].Size = artifact.MaxFileBytes + 1 }, "more than the 16777216 accepted", nil},
		{"file of another size", func(f *forged) { f.manifest.Layers[0].Size-- }, "", content.ErrTrailingData},
		{"file of a negative size", func(f *forged) { f.manifest.Layers[0].Size = -1 }, "has size -1", nil},
		{"unknown feature", func(f *forged) {
			replace(`"requires":[]`, `"requires":["warp"]`)(f)
			f.index.Manifests[2].Annotations[components] = "web,future"
		}, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store, desc := forge(t, tt.change)
			got, err := artifact.ReadRelease(t.Context(), store, desc)
			if tt.want == "" && tt.is == nil {
				if err != nil {
					t.Errorf("ReadRelease = %v, want success", err)
				}
				return
			}
			if err == nil || got != nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("ReadRelease = %v, %v, want error %q %v", got, err, tt.want, tt.is)
			}
			// What is wrong, other than absent or damaged, is the release's own fault.
			if got := errors.Is(err, artifact.ErrInvalidRelease); got != (tt.is == nil) {
				t.Errorf("ReadRelease = %v, an ErrInvalidRelease: %t, want %t", err, got, tt.is == nil)
			}
			if tt.is != artifact.ErrNotRelease && errors.Is(err, artifact.ErrNotRelease) {
				t.Errorf("ReadRelease = %v, which is %v", err, artifact.ErrNotRelease)
			}
		})
	}
}

// flip serves one piece of content with one bit changed.
type flip struct {
	content.Fetcher
	digest string
}

func (f flip) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, err := content.FetchAll(ctx, f.Fetcher, d)
	if err != nil {
		return nil, err
	}
	if d.Digest.String() == f.digest {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// A flipped bit anywhere must be found, whichever document it is in.
func TestReadReleaseFlippedBit(t *testing.T) {
	t.Parallel()
	parts, root := build(t, shop(t), shopImages(), time.Time{})
	store := memory.New()
	all := append(parts, root)
	push(t, store, all...)
	for _, b := range all {
		_, err := artifact.ReadRelease(t.Context(), flip{store, b.Descriptor.Digest.String()}, root.Descriptor)
		if !errors.Is(err, content.ErrMismatchedDigest) {
			t.Errorf("ReadRelease with a bit flipped in %s = %v, want %v", b.Descriptor.MediaType, err, content.ErrMismatchedDigest)
		}
	}
}

// Many small descriptors of one large file must not fill the memory.
func TestReadReleaseTooManyFiles(t *testing.T) {
	t.Parallel()
	data := make([]byte, artifact.MaxFileBytes)
	store, desc := forge(t, func(f *forged) {
		d := artifact.Describe(artifact.MediaTypeFile, data)
		f.files = append(f.files, artifact.Blob{Descriptor: d, Data: data})
		for _, name := range strings.Split("abcdef", "") {
			d.Annotations = map[string]string{ocispec.AnnotationTitle: name}
			f.manifest.Layers = append(f.manifest.Layers, d)
		}
	})
	_, err := artifact.ReadRelease(t.Context(), store, desc)
	if err == nil || !strings.Contains(err.Error(), "more than the 67108864 bytes accepted") {
		t.Errorf("ReadRelease = %v, want the files refused", err)
	}
}
