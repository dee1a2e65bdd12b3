package archive

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
)

// synthesised is the value of [artifact.AnnotationSynthesised] for the manifests
// made here.
const synthesised = "docker-archive"

// loadDocker makes a manifest for each image of a `docker save` archive. The
// layers keep their bytes, compressed or not, so that the result depends on the
// archive alone and not on how some library compresses.
func (a *Archive) loadDocker() error {
	data, err := a.read("manifest.json")
	if err != nil {
		return err
	}
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(data, &saved); err != nil {
		return fmt.Errorf("parse manifest.json: %w", err)
	}
	if len(saved) == 0 {
		return errors.New("holds no image")
	}
	for _, s := range saved {
		desc, err := a.synthesise(s.Config, s.Layers)
		if err != nil {
			return err
		}
		a.images = append(a.images, image{desc, append([]string{desc.Digest.String()}, s.RepoTags...)})
	}
	return nil
}

func (a *Archive) synthesise(configName string, layerNames []string) (ocispec.Descriptor, error) {
	config, err := a.read(configName)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("config: %w", err)
	}
	var c ocispec.Image
	if err := json.Unmarshal(config, &c); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("parse config %s: %w", configName, err)
	}
	if len(c.RootFS.DiffIDs) != len(layerNames) {
		return ocispec.Descriptor{}, fmt.Errorf("config %s names %d layers, manifest.json %d", configName, len(c.RootFS.DiffIDs), len(layerNames))
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    artifact.Describe(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{},
	}
	a.blobs[m.Config.Digest] = configName
	for i, name := range layerNames {
		d, err := a.layer(name, c.RootFS.DiffIDs[i])
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		a.blobs[d.Digest] = name
		m.Layers = append(m.Layers, d)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := artifact.Describe(ocispec.MediaTypeImageManifest, raw)
	a.made[desc.Digest] = raw
	desc.Annotations = map[string]string{artifact.AnnotationSynthesised: synthesised}
	if c.Architecture != "" && c.OS != "" {
		desc.Platform = &ocispec.Platform{Architecture: c.Architecture, OS: c.OS, Variant: c.Variant}
	}
	return desc, nil
}

// layer describes one layer. Uncompressed it must have the digest that the config
// gives: a release would pin a damaged layer for ever.
func (a *Archive) layer(name string, diffID digest.Digest) (ocispec.Descriptor, error) {
	r, err := a.section(name)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer: %w", err)
	}
	var magic [2]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", name, err)
	}
	got, err := digest.FromReader(r)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w", name, err)
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: got, Size: r.Size()}
	if got != diffID && magic == [2]byte{0x1f, 0x8b} {
		d.MediaType = ocispec.MediaTypeImageLayerGzip
		if got, err = unzippedDigest(r); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %s: %w: the archive is damaged", name, err)
		}
	}
	if got != diffID {
		return ocispec.Descriptor{}, fmt.Errorf("layer %s has digest %s, the config says %s: the archive is damaged", name, got, diffID)
	}
	return d, nil
}

// unzippedDigest returns the digest of what r holds compressed.
func unzippedDigest(r io.ReadSeeker) (digest.Digest, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	zr, err := gzip.NewReader(r)
	if err != nil {
		return "", err
	}
	return digest.FromReader(zr)
}
