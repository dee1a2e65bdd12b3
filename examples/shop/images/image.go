package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const annotationRefName = "org.opencontainers.image.ref.name"

// image makes a single-layer image FROM scratch.
func image(t tree, config v1.Config, platform v1.Platform, epoch time.Time) (v1.Image, error) {
	l, err := layer(t, epoch)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(
		mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: l, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "examples/shop/images"}},
	)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.Created = v1.Time{Time: epoch}
	file.OS, file.Architecture = platform.OS, platform.Architecture
	file.Config = config
	return mutate.ConfigFile(img, file)
}

// plainImage is no artifact. Without it the index would give every image the
// media type of its config as artifactType, which container engines do not do.
type plainImage struct{ v1.Image }

// ArtifactType returns none.
func (plainImage) ArtifactType() (string, error) { return "", nil }

// multiPlatform builds one image for each platform and returns their index.
func multiPlatform(platforms []v1.Platform, build func(v1.Platform) (v1.Image, error)) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range platforms {
		img, err := build(platform)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: plainImage{img}, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return index, nil
}

// writeLayout writes index as the only root of a new layout at dir and returns
// the root's digest. It replaces a layout that is there, and nothing else.
func writeLayout(dir, tag string, index v1.ImageIndex) (v1.Hash, error) {
	if err := replaceable(dir); err != nil {
		return v1.Hash{}, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return v1.Hash{}, err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-")
	if err != nil {
		return v1.Hash{}, err
	}
	defer os.RemoveAll(temp)
	// MkdirTemp makes a private directory; a layout is for everybody to read.
	if err := os.Chmod(temp, 0o755); err != nil {
		return v1.Hash{}, err
	}
	l, err := layout.Write(temp, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{annotationRefName: tag})); err != nil {
		return v1.Hash{}, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return v1.Hash{}, err
	}
	if err := os.Rename(temp, dir); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

func replaceable(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
		return errors.New("exists and is not an image layout")
	}
	return nil
}

// pushLayout pushes the one root of the layout at dir to ref over plain HTTP.
func pushLayout(ctx context.Context, dir, ref string) (v1.Hash, error) {
	tag, err := name.NewTag(ref, name.Insecure, name.StrictValidation)
	if err != nil {
		return v1.Hash{}, err
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("not built yet: %w", err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return v1.Hash{}, err
	}
	if len(manifest.Manifests) != 1 {
		return v1.Hash{}, fmt.Errorf("has %d roots, want 1", len(manifest.Manifests))
	}
	digest := manifest.Manifests[0].Digest
	index, err := outer.ImageIndex(digest)
	if err != nil {
		return v1.Hash{}, err
	}
	return digest, remote.WriteIndex(tag, index, remote.WithContext(ctx))
}
