package mirror

import (
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// MissingListed returns a [DamageError] with the manifests among entries, those that
// the index.json of media lists, that src lacks, and nil when it has all. A walk does
// not find them: a signature that is lost is to it one that never was.
func MissingListed(ctx context.Context, src content.ReadOnlyStorage, entries []ocispec.Descriptor) error {
	var damage DamageError
	for _, d := range listedManifests(entries) {
		if has, err := src.Exists(ctx, d); err != nil {
			return &CopyError{"source", "look for", d, err}
		} else if !has && state(ctx, src, d) == Missing {
			damage.Missing = append(damage.Missing, d)
		}
	}
	return damage.found()
}

// listedManifests returns those of the entries of an index.json that can be read, each once.
func listedManifests(entries []ocispec.Descriptor) []ocispec.Descriptor {
	readable := slices.DeleteFunc(plainAll(entries), func(d ocispec.Descriptor) bool {
		return !artifact.IsManifest(d.MediaType) || d.Size > artifact.MaxManifestBytes || artifact.CheckDescriptor(d) != nil
	})
	return appendNew(nil, readable, map[digest.Digest]bool{})
}

// state reads a manifest and returns what is wrong with it.
func state(ctx context.Context, src content.Fetcher, d ocispec.Descriptor) string {
	_, err := artifact.Fetch(ctx, src, d, artifact.MaxManifestBytes)
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return Missing
	case artifact.IsUnreadable(err):
		return Unreadable
	case err != nil && spoilt(err):
		return Corrupt
	}
	return ""
}
