package delivery

import (
	"context"
	"errors"
	"os"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/signer"
)

// PackTool puts the programs of opts, nil for none, on the media in dir. They come
// before what is copied, so that a disk that is pulled too early explains itself. It
// fails as [tool.Pack] does.
func PackTool(ctx context.Context, dst tool.FileWriter, dir string, opts *tool.Options) error {
	if opts == nil {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // was only read
	with := *opts
	with.Media = root.FS()
	_, err = tool.Pack(ctx, dst, with)
	return err
}

// PackStart writes START-HERE.txt, for what the media in dir holds now, with or
// without a program. It is called when all else is there. A page that is wrong is
// worse than none: one that stands there is renewed when it is not wanted too.
func PackStart(ctx context.Context, dst tool.FileWriter, dir string, wanted bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // was only read
	if _, err := root.Lstat(tool.StartName); err != nil && !wanted {
		return nil //nolint:nilerr // there is none
	}
	list, err := FindMedia(ctx, artifact.Location{Place: artifact.PlaceMedia, Path: dir})
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	contents, err := Contents(ctx, list)
	if err != nil {
		return err
	}
	var label layout.Label
	if len(list) > 0 {
		label, _ = list[0].Media.Label() // advice: without it the text says less
	}
	return tool.PackStart(ctx, dst, root.FS(), label, contents)
}

// Contents describes what a location on media names, damaged artifacts left out.
func Contents(ctx context.Context, list []Found) ([]tool.Content, error) {
	var out []tool.Content
	for _, f := range list {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if f.Damage != nil {
			continue
		}
		m, _, err := artifact.FetchManifest(ctx, f.Store, f.Descriptor)
		if err != nil {
			continue // verify finds it
		}
		c := tool.Content{Name: f.Name, Alias: aliasOf(f), Digest: f.Descriptor.Digest}
		if m.ArtifactType == artifact.TypeRelease {
			c.ID, c.Version, c.Title = m.Annotations[artifact.AnnotationID], m.Annotations[ocispec.AnnotationVersion], m.Annotations[ocispec.AnnotationTitle]
		} else {
			c.Image = isImage(m)
		}
		found, _ := signer.Signatures(ctx, f.Store, f.Descriptor) // what cannot be read does not count
		c.Signed = len(found) > 0
		out = append(out, c)
	}
	return out, nil
}

// isImage reports whether a manifest is an image, or an index of some.
func isImage(m *artifact.Manifest) bool {
	if slices.Contains([]string{ocispec.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json"}, m.ArtifactType) {
		return true
	}
	return m.ArtifactType == "" && slices.ContainsFunc(m.Manifests, func(d ocispec.Descriptor) bool { return d.Platform != nil && d.Platform.OS != "unknown" })
}

func aliasOf(f Found) string {
	if f.Media == nil {
		return ""
	}
	for _, e := range f.Media.Entries() {
		if e.Annotations[layout.AnnotationAliasOf] == f.Name && e.Digest == f.Descriptor.Digest {
			return e.Annotations[ocispec.AnnotationRefName]
		}
	}
	return ""
}
