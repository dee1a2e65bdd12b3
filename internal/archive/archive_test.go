package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/archive"
)

// file is one entry of a tar under test.
type file struct {
	name, data string
	link       string // a symbolic link when set
	kind       byte   // 0 for a regular file or, with link, a symbolic link
}

func tarOf(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Linkname: f.link, Typeflag: f.kind}
		if f.kind == 0 {
			h.Typeflag = tar.TypeReg
			if f.link != "" {
				h.Typeflag = tar.TypeSymlink
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// open writes data to a file and opens it as an archive.
func open(t *testing.T, data []byte) (*archive.Archive, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(path)
	if err == nil {
		t.Cleanup(func() { _ = a.Close() })
	}
	return a, err
}

func mustOpen(t *testing.T, files ...file) *archive.Archive {
	t.Helper()
	a, err := open(t, tarOf(t, files...))
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	return a
}

func zip(t *testing.T, data string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// config returns an image config for uncompressed layers.
func config(t *testing.T, layers ...string) string {
	t.Helper()
	c := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromString(l))
	}
	return encode(t, c)
}

type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// blobs names the files of a layout's blobs.
func blobs(contents ...string) []file {
	var files []file
	for _, c := range contents {
		files = append(files, file{name: "blobs/sha256/" + digest.FromString(c).Encoded(), data: c})
	}
	return files
}

// readAll reads everything an image is made of and returns its manifest.
func readAll(t *testing.T, a *archive.Archive, desc ocispec.Descriptor) ocispec.Manifest {
	t.Helper()
	raw, err := content.FetchAll(t.Context(), a, desc)
	if err != nil {
		t.Fatalf("fetch manifest: %v", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, err := content.FetchAll(t.Context(), a, d); err != nil {
			t.Errorf("fetch %s %s: %v", d.MediaType, d.Digest, err)
		}
		if ok, err := a.Exists(t.Context(), d); err != nil || !ok {
			t.Errorf("Exists(%s) = %t, %v, want true", d.Digest, ok, err)
		}
	}
	return m
}

func TestDockerArchives(t *testing.T) {
	t.Parallel()
	const base, top = "base layer", "top layer"
	cfg := config(t, base, top, base)
	zippedBase, zippedTop := zip(t, base), zip(t, top)
	tests := []struct {
		name   string
		files  []file
		layers []string // as they stand in the archive
		media  string
	}{
		{"legacy with linked duplicates", []file{
			{name: "aaa/layer.tar", data: base}, {name: "bbb/layer.tar", data: top}, {name: "ccc/layer.tar", link: "../aaa/layer.tar"},
			{name: "cfg.json", data: cfg},
			{name: "manifest.json", data: encode(t, []saved{{"cfg.json", []string{"shop/web:1.0.0"}, []string{"aaa/layer.tar", "bbb/layer.tar", "ccc/layer.tar"}}})},
		}, []string{base, top, base}, ocispec.MediaTypeImageLayer},
		{"hard links and unclean names", []file{
			{name: "./aaa/layer.tar", data: base}, {name: "./bbb/layer.tar", data: top}, {name: "./ccc/layer.tar", link: "./aaa/layer.tar", kind: tar.TypeLink},
			{name: "./cfg.json", data: cfg},
			{name: "./manifest.json", data: encode(t, []saved{{"cfg.json", []string{"shop/web:1.0.0"}, []string{"aaa/layer.tar", "./bbb/layer.tar", "ccc//layer.tar"}}})},
		}, []string{base, top, base}, ocispec.MediaTypeImageLayer},
		{"compressed layers", []file{
			{name: "sha256:cfg", data: cfg}, {name: "1.tar.gz", data: zippedBase}, {name: "2.tar.gz", data: zippedTop},
			{name: "manifest.json", data: encode(t, []saved{{"sha256:cfg", []string{"shop/web:1.0.0"}, []string{"1.tar.gz", "2.tar.gz", "1.tar.gz"}}})},
		}, []string{zippedBase, zippedTop, zippedBase}, ocispec.MediaTypeImageLayerGzip},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := mustOpen(t, tt.files...)
			desc, err := a.Resolve(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			want := ocispec.Manifest{
				Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
				Config: artifact.Describe(ocispec.MediaTypeImageConfig, []byte(cfg)),
			}
			for _, l := range tt.layers {
				want.Layers = append(want.Layers, artifact.Describe(tt.media, []byte(l)))
			}
			if diff := cmp.Diff(want, readAll(t, a, desc)); diff != "" {
				t.Errorf("manifest (-want +got):\n%s", diff)
			}
			if got := desc.Annotations[artifact.AnnotationSynthesised]; got != "docker-archive" {
				t.Errorf("annotation %s = %q, want docker-archive", artifact.AnnotationSynthesised, got)
			}
			if diff := cmp.Diff(&ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, desc.Platform); diff != "" {
				t.Errorf("platform (-want +got):\n%s", diff)
			}
			for _, ref := range []string{"shop/web:1.0.0", "1.0.0", desc.Digest.String()} {
				if got, err := a.Resolve(t.Context(), ref); err != nil || got.Digest != desc.Digest {
					t.Errorf("Resolve(%q) = %s, %v, want %s", ref, got.Digest, err, desc.Digest)
				}
			}
			again, err := mustOpen(t, tt.files...).Resolve(t.Context(), "")
			if err != nil || again.Digest != desc.Digest {
				t.Errorf("digest the second time = %s, %v, want %s", again.Digest, err, desc.Digest)
			}
		})
	}
}

// ociArchive returns a layout of one image with the names an engine gives it.
func ociArchive(t *testing.T) (files []file, manifest string) {
	t.Helper()
	const layer = "layer"
	cfg := config(t, layer)
	// Written by hand: its bytes must come through, however unlike ours.
	manifest = `{ "schemaVersion": 2, "mediaType": "` + ocispec.MediaTypeImageManifest + `",
 "config": ` + encode(t, artifact.Describe(ocispec.MediaTypeImageConfig, []byte(cfg))) + `,
 "layers": [ ` + encode(t, artifact.Describe(ocispec.MediaTypeImageLayer, []byte(layer))) + ` ] }`
	desc := artifact.Describe(ocispec.MediaTypeImageManifest, []byte(manifest))
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	desc.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/redis:7.2", ocispec.AnnotationRefName: "7.2"}
	files = append(blobs(cfg, layer, manifest),
		file{name: "oci-layout", data: `{"imageLayoutVersion":"1.0.0"}`},
		file{name: "index.json", data: encode(t, ocispec.Index{Manifests: []ocispec.Descriptor{desc}})})
	return files, manifest
}

func TestOCIArchives(t *testing.T) {
	t.Parallel()
	files, manifest := ociArchive(t)
	modern := append(files[:len(files):len(files)], // as engines since 25 write it: both forms
		file{name: "manifest.json", data: encode(t, []saved{{strings.TrimPrefix(files[0].name, "./"), []string{"redis:7.2"}, []string{files[1].name}}})})
	for name, files := range map[string][]file{"layout": files, "both forms": modern} {
		a := mustOpen(t, files...)
		want := digest.FromString(manifest)
		for _, ref := range []string{"", "7.2", "docker.io/library/redis:7.2", want.String()} {
			got, err := a.Resolve(t.Context(), ref)
			if err != nil || got.Digest != want {
				t.Fatalf("%s: Resolve(%q) = %s, %v, want %s", name, ref, got.Digest, err, want)
			}
			if got.Annotations != nil || got.Platform == nil {
				t.Errorf("%s: Resolve(%q) = %+v, want its platform and no annotation", name, ref, got)
			}
		}
		desc, err := a.Resolve(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, a, desc)
		for _, ref := range []string{"7", "latest", "sha256-" + want.Encoded() + ".sig"} {
			if _, err := a.Resolve(t.Context(), ref); !errors.Is(err, errdef.ErrNotFound) {
				t.Errorf("%s: Resolve(%q) = %v, want %v", name, ref, err, errdef.ErrNotFound)
			}
		}
		absent := artifact.Describe("a/b", []byte("absent"))
		if ok, err := a.Exists(t.Context(), absent); ok || err != nil {
			t.Errorf("%s: Exists(absent) = %t, %v, want false", name, ok, err)
		}
		if _, err := a.Fetch(t.Context(), absent); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("%s: Fetch(absent) = %v, want %v", name, err, errdef.ErrNotFound)
		}
	}
}

func TestSeveralImages(t *testing.T) {
	t.Parallel()
	one, two := config(t, "1"), config(t, "2")
	a := mustOpen(t,
		file{name: "1", data: "1"}, file{name: "2", data: "2"}, file{name: "1.json", data: one}, file{name: "2.json", data: two},
		file{name: "manifest.json", data: encode(t, []saved{{"1.json", []string{"a:1", "a:latest"}, []string{"1"}}, {"2.json", []string{"b:2"}, []string{"2"}}})})
	if _, err := a.Resolve(t.Context(), ""); err == nil || !strings.HasSuffix(err.Error(), "holds several images, name one as PATH:TAG: a:latest, b:2") {
		t.Errorf(`Resolve("") = %v, want the names`, err)
	}
	first, err := a.Resolve(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	for ref, same := range map[string]bool{"1": true, "latest": true, "a:latest": true, "b:2": false, "2": false} {
		if got, err := a.Resolve(t.Context(), ref); err != nil || (got.Digest == first.Digest) != same {
			t.Errorf("Resolve(%q) = %s, %v, want the image of a:1: %t", ref, got.Digest, err, same)
		}
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	files, manifest := ociArchive(t)
	subject := artifact.Describe(ocispec.MediaTypeImageManifest, []byte(manifest))
	signature := encode(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "a/signature",
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{ocispec.DescriptorEmptyJSON}, Subject: &subject, Annotations: map[string]string{"k": "v"},
	})
	desc := artifact.Describe(ocispec.MediaTypeImageManifest, []byte(signature))
	files = append(files[:len(files)-1], append(blobs(signature, "{}"),
		file{name: "index.json", data: encode(t, ocispec.Index{Manifests: []ocispec.Descriptor{subject, desc}})})...)
	a := mustOpen(t, files...)
	for artifactType, want := range map[string]int{"": 1, "a/signature": 1, "a/other": 0} {
		var got []ocispec.Descriptor
		err := a.Referrers(t.Context(), subject, artifactType, func(list []ocispec.Descriptor) error {
			got = append(got, list...)
			return nil
		})
		if err != nil || len(got) != want {
			t.Errorf("Referrers(%q) = %v, %v, want %d", artifactType, got, err, want)
		} else if want == 1 && (got[0].Digest != desc.Digest || got[0].ArtifactType != "a/signature" || got[0].Annotations["k"] != "v") {
			t.Errorf("Referrers(%q) = %+v, want %s with its type and annotations", artifactType, got[0], desc.Digest)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	const layer = "a layer of some length"
	cfg := config(t, layer)
	docker := func(layer, config string, more ...file) []byte {
		return tarOf(t, append(more, file{name: "layer", data: layer}, file{name: "cfg", data: config},
			file{name: "manifest.json", data: encode(t, []saved{{"cfg", nil, []string{"layer"}}})})...)
	}
	manifest := func(s ...saved) file { return file{name: "manifest.json", data: encode(t, s)} }
	damaged := []byte(zip(t, layer))
	damaged[len(damaged)-9] ^= 1
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "read: EOF"},
		{"three bytes", []byte("abc"), "read: unexpected EOF"},
		{"gzip", []byte(zip(t, string(docker(layer, cfg)))), "is compressed and cannot be read in place; decompress it first"},
		{"zstd", []byte("\x28\xb5\x2f\xfd and so on"), "is compressed and cannot be read in place; decompress it first"},
		{"no tar", bytes.Repeat([]byte("no tar at all "), 100), "read tar: "},
		{"other content", tarOf(t, file{name: "readme", data: "x"}), "holds neither an OCI layout (index.json) nor a saved image (manifest.json)"},
		{"damaged layer", docker(strings.ToUpper(layer), cfg), "layer layer has digest " + digest.FromString(strings.ToUpper(layer)).String() + ", the config says " + digest.FromString(layer).String() + ": the archive is damaged"},
		{"damaged compressed layer", docker(string(damaged), cfg), ": the archive is damaged"},
		{"another compressed layer", docker(zip(t, "other"), cfg), "layer layer has digest " + digest.FromString("other").String() + ", the config says " + digest.FromString(layer).String() + ": the archive is damaged"},
		{"cut compressed layer", docker(zip(t, layer)[:20], cfg), "layer layer: unexpected EOF: the archive is damaged"},
		{"truncated", docker(layer, cfg)[:520], "read tar: unexpected EOF"},
		{"truncated between entries", docker(layer, cfg)[:1024], "holds neither"},
		{"no images", tarOf(t, manifest()), "holds no image"},
		{"bad manifest", tarOf(t, file{name: "manifest.json", data: "{"}), "parse manifest.json: "},
		{"bad index", tarOf(t, file{name: "index.json", data: "["}), "parse index.json: "},
		{"bad digest in the index", tarOf(t, file{name: "index.json", data: `{"manifests":[{"digest":"sha256:../../x","size":1}]}`}), "index.json: descriptor with digest"},
		{"no config", tarOf(t, manifest(saved{"cfg", nil, nil})), "config: cfg: not found"},
		{"bad config", docker(layer, "{"), "parse config cfg: "},
		{"too few layers", docker(layer, config(t)), "config cfg names 0 layers, manifest.json 1"},
		{"missing layer", tarOf(t, file{name: "cfg", data: cfg}, manifest(saved{"cfg", nil, []string{"gone"}})), "layer: gone: not found"},
		{"layer outside", tarOf(t, file{name: "cfg", data: cfg}, manifest(saved{"cfg", nil, []string{"../../../../etc/hostname"}})), "not found"},
		{"link outside", tarOf(t, file{name: "cfg", data: cfg}, file{name: "l", link: "../../../../etc/hostname"}, manifest(saved{"cfg", nil, []string{"l"}})), "not found"},
		{"absolute link", tarOf(t, file{name: "cfg", data: cfg}, file{name: "l", link: "/etc/hostname"}, manifest(saved{"cfg", nil, []string{"l"}})), "not found"},
		{"link to itself", tarOf(t, file{name: "cfg", data: cfg}, file{name: "l", link: "l"}, manifest(saved{"cfg", nil, []string{"l"}})), "too many links"},
		{"links in a ring", tarOf(t, file{name: "cfg", data: cfg}, file{name: "a/l", link: "../b/l"}, file{name: "b/l", link: "../a/l"}, manifest(saved{"cfg", nil, []string{"a/l"}})), "too many links"},
		{"huge config", docker(layer, strings.Repeat(" ", artifact.MaxManifestBytes+1)), "config: cfg is 4194305 bytes, more than the 4194304 accepted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := open(t, tt.data)
			if err == nil || a != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open = %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := archive.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open(none) = %v, want %v", err, os.ErrNotExist)
	}
}

// Names that climb out of the archive are only names: nothing is ever unpacked.
func TestClimbingNames(t *testing.T) {
	t.Parallel()
	const layer = "x"
	a := mustOpen(t, file{name: "../../layer", data: layer}, file{name: "/cfg", data: config(t, layer)},
		file{name: "manifest.json", data: encode(t, []saved{{"/cfg", nil, []string{"../../layer"}}})})
	desc, err := a.Resolve(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, a, desc)
}

// A blob whose bytes are not those of its name must fail when it is read.
func TestDamagedBlob(t *testing.T) {
	t.Parallel()
	files, manifest := ociArchive(t)
	files[1].data = "Layer"
	a := mustOpen(t, files...)
	d := artifact.Describe(ocispec.MediaTypeImageLayer, []byte("layer"))
	if _, err := artifact.Fetch(t.Context(), a, d, 100); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Errorf("Fetch = %v, want %v", err, content.ErrMismatchedDigest)
	}
	if _, err := a.Resolve(t.Context(), digest.FromString(manifest).String()); err != nil {
		t.Errorf("Resolve = %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	t := &testing.T{} // the seeds cannot fail
	f.Add(tarOf(t, file{name: "manifest.json", data: `[{"Config":"c","Layers":["l"]}]`}, file{name: "c", data: `{"rootfs":{"diff_ids":["x"]}}`}, file{name: "l", link: "l"}))
	f.Add(tarOf(t, file{name: "index.json", data: `{"manifests":[]}`}, file{name: "blobs/sha256/x", data: "x"}))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := open(t, data)
		if err != nil {
			return
		}
		if desc, err := a.Resolve(t.Context(), ""); err == nil {
			_, _, _ = artifact.FetchManifest(t.Context(), a, desc)
		}
	})
}
