package test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
)

// testImage is a small image. The same name, tag, platforms and size always make
// the same bytes, whatever it is put into.
type testImage struct {
	blobs  map[digest.Digest][]byte
	order  []ocispec.Descriptor // of blobs: what is named stands before what names it
	root   ocispec.Descriptor
	config ocispec.Descriptor // of the last platform
	layers [][]byte           // of the last platform
}

// makeImage makes an image of two layers for each platform: the lower is the same
// in every image, the upper its own. Of several platforms it is an index.
func makeImage(name string, platforms []string, size int) *testImage {
	img := &testImage{blobs: map[digest.Digest][]byte{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, platform := range platforms {
		system, architecture, _ := strings.Cut(platform, "/")
		img.layers = [][]byte{makeLayer("base", 4<<10), makeLayer(name+" "+platform, size)}
		manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
		config := ocispec.Image{Platform: ocispec.Platform{OS: system, Architecture: architecture}, RootFS: ocispec.RootFS{Type: "layers"}}
		for _, layer := range img.layers {
			d := img.add(ocispec.MediaTypeImageLayer, layer)
			manifest.Layers = append(manifest.Layers, d)
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		}
		img.config = img.add(ocispec.MediaTypeImageConfig, encode(config))
		manifest.Config = img.config
		img.root = img.add(ocispec.MediaTypeImageManifest, encode(manifest))
		child := img.root
		child.Platform = &config.Platform
		index.Manifests = append(index.Manifests, child)
	}
	if len(platforms) > 1 {
		img.root = img.add(ocispec.MediaTypeImageIndex, encode(index))
	}
	return img
}

func (img *testImage) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if _, ok := img.blobs[d.Digest]; !ok {
		img.blobs[d.Digest] = data
		img.order = append(img.order, d)
	}
	return d
}

// makeLayer makes a tar with one file of noise that follows from its name.
func makeLayer(name string, size int) []byte {
	noise := make([]byte, size)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(name))).Read(noise) // never fails
	return tarOf(map[string][]byte{"noise": noise}, "noise")
}

func tarOf(files map[string][]byte, order ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range order {
		must(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}))
		_, err := w.Write(files[name])
		must(err)
	}
	must(w.Close())
	return b.Bytes()
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	must(err)
	return data
}

// must is for what cannot fail in memory.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// imageFlags takes -platforms and -size off args.
func imageFlags(ts *testscript.TestScript, args []string) (platforms []string, size int, rest []string) {
	platforms, size = []string{"linux/amd64"}, 2<<10
	for len(args) > 2 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-platforms":
			platforms = strings.Split(args[1], ",")
		case "-size":
			n, err := strconv.Atoi(args[1])
			ts.Check(err)
			size = n
		default:
			ts.Fatalf("no such flag: %s", args[0])
		}
		args = args[2:]
	}
	return platforms, size, args
}

// cmdImage adds an image to an OCI image layout as a plain tool would: under a
// bare tag. The directory's name goes into its bytes.
func cmdImage(ts *testscript.TestScript, neg bool, args []string) {
	platforms, size, args := imageFlags(ts, args)
	need(ts, !neg && len(args) == 2, "image [-platforms OS/ARCH,...] [-size N] LAYOUT_DIR TAG")
	ts.Check(addImage(ts.MkAbs(args[0]), args[1], platforms, size))
}

// addImage adds an image to an OCI image layout.
func addImage(dir, tag string, platforms []string, size int) error {
	img := makeImage(filepath.Base(dir)+":"+tag, platforms, size)
	var failed error
	write := func(name string, data []byte) {
		name = filepath.Join(dir, name)
		failed = errors.Join(failed, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644))
	}
	for d, data := range img.blobs {
		write(filepath.Join("blobs", string(d.Algorithm()), d.Encoded()), data)
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	if data, err := os.ReadFile(filepath.Join(dir, "index.json")); err == nil {
		failed = errors.Join(failed, json.Unmarshal(data, &index))
	}
	root := img.root
	root.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	index.Manifests = append(index.Manifests, root)
	write("index.json", encode(index))
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return failed
}

func writeFile(ts *testscript.TestScript, name string, data []byte) {
	ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
	ts.Check(os.WriteFile(name, data, 0o644))
}

// cmdPushImage pushes the image that "image REPO_BASE TAG" would make.
func cmdPushImage(ts *testscript.TestScript, neg bool, args []string) {
	platforms, size, args := imageFlags(ts, args)
	need(ts, !neg && len(args) == 1, "pushimage [-platforms OS/ARCH,...] [-size N] HOST/REPO:TAG")
	name, tag := splitTag(args[0])
	repo := openRepository(ts, name)
	img := makeImage(path.Base(name)+":"+tag, platforms, size)
	for _, d := range img.order {
		ts.Check(repo.Push(context.Background(), d, bytes.NewReader(img.blobs[d.Digest])))
	}
	ts.Check(repo.Tag(context.Background(), img.root, tag))
}

// cmdDockerSave writes what docker save writes for each image.
func cmdDockerSave(ts *testscript.TestScript, neg bool, args []string) {
	platforms, size, args := imageFlags(ts, args)
	need(ts, !neg && len(args) >= 2 && len(platforms) == 1, "dockersave [-platforms OS/ARCH] [-size N] FILE NAME:TAG...")
	type saved struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var list []saved
	var order []string
	files := map[string][]byte{}
	add := func(name string, data []byte) string {
		if files[name] == nil {
			order = append(order, name)
		}
		files[name] = data
		return name
	}
	for _, ref := range args[1:] {
		img := makeImage(path.Base(ref), platforms, size)
		s := saved{Config: add(img.config.Digest.Encoded()+".json", img.blobs[img.config.Digest]), RepoTags: []string{ref}}
		for _, layer := range img.layers {
			s.Layers = append(s.Layers, add(digest.FromBytes(layer).Encoded()+"/layer.tar", layer))
		}
		list = append(list, s)
	}
	add("manifest.json", encode(list))
	writeFile(ts, ts.MkAbs(args[0]), tarOf(files, order...))
}
