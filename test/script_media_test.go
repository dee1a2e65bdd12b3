package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealift/sealift/artifact"
)

// document is what the scripts look at in a manifest or an index.
type document struct {
	ArtifactType string
	Config       ocispec.Descriptor
	Layers       []ocispec.Descriptor
	Manifests    []ocispec.Descriptor
	Subject      *ocispec.Descriptor
}

func readDocument(ts *testscript.TestScript, file string) (d document) {
	data, err := os.ReadFile(file)
	ts.Check(err)
	ts.Check(json.Unmarshal(data, &d))
	return d
}

func blobFile(media string, d ocispec.Descriptor) string {
	return filepath.Join(media, "blobs", string(d.Digest.Algorithm()), d.Digest.Encoded())
}

// cmdBlob sets VAR to the file of one piece of what NAME, a ref.name or the end of
// one, names on the media.
func cmdBlob(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "blob VAR MEDIA NAME root|template|file|image|config|layer|bundle"
	need(ts, !neg && len(args) == 4, usage)
	media := ts.MkAbs(args[1])
	index := readDocument(ts, filepath.Join(media, "index.json"))
	root := named(ts, index, args[2])
	found := pieces(ts, media, root)
	for _, d := range index.Manifests {
		if m := readDocument(ts, blobFile(media, d)); m.Subject != nil && m.Subject.Digest == root.Digest {
			found["bundle"] = m.Layers[0]
		}
	}
	d, ok := found[args[3]]
	need(ts, ok, usage)
	ts.Setenv(args[0], blobFile(media, d))
}

func named(ts *testscript.TestScript, index document, name string) ocispec.Descriptor {
	for _, d := range index.Manifests {
		if strings.HasSuffix(d.Annotations[ocispec.AnnotationRefName], name) {
			return d
		}
	}
	ts.Fatalf("nothing on the media is called %s", name)
	return ocispec.Descriptor{}
}

// pieces finds the template of a release and its first file, and the first image
// below root with its config and its own layer.
func pieces(ts *testscript.TestScript, media string, root ocispec.Descriptor) map[string]ocispec.Descriptor {
	found := map[string]ocispec.Descriptor{"root": root}
	for todo := []ocispec.Descriptor{root}; len(todo) > 0; todo = todo[1:] {
		m := readDocument(ts, blobFile(media, todo[0]))
		todo = append(todo, m.Manifests...)
		_, done := found["image"]
		switch {
		case m.ArtifactType == artifact.TypeApp:
			found["template"] = m.Config
			if len(m.Layers) > 0 {
				found["file"] = m.Layers[0]
			}
		case m.ArtifactType == artifact.TypePolicy:
			found["file"] = m.Layers[0]
		case m.Config.MediaType == ocispec.MediaTypeImageConfig && !done:
			found["image"], found["config"], found["layer"] = todo[0], m.Config, m.Layers[len(m.Layers)-1]
		}
	}
	return found
}

// cmdFlip changes one bit in the middle of a file, as a failing disk may.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "flip FILE")
	file := ts.MkAbs(args[0])
	data, err := os.ReadFile(file)
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(file, data, 0o644))
}

// cmdTruncate cuts the second half off a file.
func cmdTruncate(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "truncate FILE")
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()/2))
}

// cmdRelabel makes every name that ends in OLD stand for what NEW names, as an
// attacker with the media in hand may.
func cmdRelabel(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 3, "relabel MEDIA OLD NEW")
	file := filepath.Join(ts.MkAbs(args[0]), "index.json")
	data, err := os.ReadFile(file)
	ts.Check(err)
	var index ocispec.Index
	ts.Check(json.Unmarshal(data, &index))
	to := named(ts, document{Manifests: index.Manifests}, args[2])
	changed := 0
	for i, d := range index.Manifests {
		if strings.HasSuffix(d.Annotations[ocispec.AnnotationRefName], args[1]) {
			to.Annotations = d.Annotations
			index.Manifests[i] = to
			changed++
		}
	}
	need(ts, changed > 0, "relabel MEDIA OLD NEW, with names that are there")
	ts.Check(os.WriteFile(file, encode(index), 0o644))
}
