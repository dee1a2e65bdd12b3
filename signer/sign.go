package signer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	"github.com/sigstore/cosign/v2/pkg/types"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// ErrConflict is returned by [Sign] when somebody else kept writing the
// signature tag at the same time. Signing again is safe.
var ErrConflict = errors.New("signature tag changed by another writer")

const maxTagAttempts = 3

// SignOptions are the options of [Sign].
type SignOptions struct {
	// Time is recorded in the manifest of the bundle as its creation. Zero, the
	// default, records none, and the same signature has the same bytes whenever
	// it is made.
	Time time.Time
}

// Sign signs the subject, which must be in dst, in the two forms of the package
// comment, and returns the descriptors of the manifests that now carry the
// signatures: first the bundle's, then the tag's. The repository, HOST/PATH, is
// recorded as the claimed identity, as cosign does.
//
// Signatures by others at the tag are kept. A form in which the key has signed
// already is left alone, so that signing again writes nothing. The bundle is
// written first and a manifest after what it refers to: interrupted anywhere,
// Sign leaves nothing wrong and can be run again.
//
// Sign returns errdef.ErrNotFound for a subject that dst does not have and
// ErrConflict when others write the tag at the same time.
func Sign(ctx context.Context, dst Target, subject ocispec.Descriptor, repository string, s *Signer, opts SignOptions) ([]ocispec.Descriptor, error) {
	resolved, err := signable(ctx, dst, subject)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	bundle, err := signBundle(ctx, dst, resolved, s, opts.Time)
	if err != nil {
		return nil, fmt.Errorf("sign %s with a bundle: %w", subject.Digest, err)
	}
	tagged, err := signTag(ctx, dst, resolved, repository, s)
	if err != nil {
		return nil, fmt.Errorf("sign %s at its tag: %w", subject.Digest, err)
	}
	return []ocispec.Descriptor{bundle, tagged}, nil
}

// signedBy returns the manifest of a sound signature by the key. What cannot
// be read or is wrong is not a signature by the key: it is signed anew.
func signedBy(ctx context.Context, src Source, subject ocispec.Descriptor, key *Key, form Form, among []candidate) (ocispec.Descriptor, bool) {
	for _, c := range among {
		if c.Form != form {
			continue
		}
		if err := c.verify(ctx, src, subject, newAccepted([]*Key{key}, nil)); err == nil {
			return c.Manifest, true
		}
	}
	return ocispec.Descriptor{}, false
}

func signBundle(ctx context.Context, dst Target, subject ocispec.Descriptor, s *Signer, created time.Time) (ocispec.Descriptor, error) {
	if desc, ok := signedBy(ctx, dst, subject, s.key, FormBundle, findReferrers(ctx, dst, subject)); ok {
		return desc, nil
	}
	raw, err := newBundle(subject.Digest, types.CosignSignPredicateType, nil, s)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return pushBundle(ctx, dst, subject, types.CosignSignPredicateType, raw, created)
}

// pushBundle pushes a bundle and the manifest by which it refers to the subject.
func pushBundle(ctx context.Context, dst Target, subject ocispec.Descriptor, predicateType string, raw []byte, created time.Time) (ocispec.Descriptor, error) {
	layer, err := pushBlob(ctx, dst, mediaTypeBundle, raw)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := pushBlob(ctx, dst, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	annotations := map[string]string{
		annotationContent:   contentDSSE,
		annotationPredicate: predicateType,
	}
	if !created.IsZero() {
		annotations[ocispec.AnnotationCreated] = created.UTC().Format(time.RFC3339)
	}
	return pushManifest(ctx, dst, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: mediaTypeBundle,
		Config:       config,
		Layers:       []ocispec.Descriptor{layer},
		Subject:      &subject,
		Annotations:  annotations,
	})
}

func signTag(ctx context.Context, dst Target, subject ocispec.Descriptor, repository string, s *Signer) (ocispec.Descriptor, error) {
	payload, sig, err := newPayload(subject.Digest, repository, s)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	tag := signatureTag(subject.Digest)
	for range maxTagAttempts {
		before, manifest, err := taggedManifest(ctx, dst, tag)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		present := payloadLayers(Signature{Form: FormTag, Manifest: before}, &manifest)
		if _, ok := signedBy(ctx, dst, subject, s.key, FormTag, present); ok {
			return before, nil
		}
		layer, err := pushBlob(ctx, dst, types.SimpleSigningMediaType, payload)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		layer.Annotations = map[string]string{static.SignatureAnnotationKey: sig}
		after, err := appendLayer(ctx, dst, manifest, layer)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		switch done, err := moveTag(ctx, dst, tag, before, after); {
		case err != nil:
			return ocispec.Descriptor{}, err
		case done:
			return after, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s: %w", tag, ErrConflict)
}

// taggedManifest returns the manifest at the tag, or an empty one for a tag
// that does not exist yet. One that cannot be read is an error: replacing it
// would destroy the signatures of others.
func taggedManifest(ctx context.Context, src Source, tag string) (ocispec.Descriptor, ocispec.Manifest, error) {
	empty := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig},
	}
	desc, err := src.Resolve(ctx, tag)
	if errors.Is(err, errdef.ErrNotFound) {
		return ocispec.Descriptor{}, empty, nil
	}
	if err != nil {
		return ocispec.Descriptor{}, empty, fmt.Errorf("resolve %s: %w", tag, err)
	}
	manifest, err := readManifest(ctx, src, desc)
	if err != nil {
		return ocispec.Descriptor{}, empty, fmt.Errorf("read %s: %w", tag, err)
	}
	manifest.MediaType = desc.MediaType
	return plain(desc), *manifest, nil
}

// appendLayer pushes the manifest with one layer more. Its config repeats the
// layers, as tools that take signatures for images expect.
func appendLayer(ctx context.Context, dst Target, manifest ocispec.Manifest, layer ocispec.Descriptor) (ocispec.Descriptor, error) {
	manifest.Layers = append(manifest.Layers, layer)
	config := ocispec.Image{RootFS: ocispec.RootFS{Type: "layers"}}
	for _, l := range manifest.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode config: %w", err)
	}
	if manifest.Config, err = pushBlob(ctx, dst, manifest.Config.MediaType, raw); err != nil {
		return ocispec.Descriptor{}, err
	}
	return pushManifest(ctx, dst, manifest)
}

// moveTag moves the tag from one manifest to the next and says whether it
// stands there. OCI has no conditional write: looking before and after finds
// another writer in all but the shortest races, and the loser appends anew.
func moveTag(ctx context.Context, dst content.TagResolver, tag string, before, after ocispec.Descriptor) (bool, error) {
	now, err := dst.Resolve(ctx, tag)
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return false, fmt.Errorf("resolve %s: %w", tag, err)
	}
	if now.Digest != before.Digest {
		return false, nil
	}
	if err := dst.Tag(ctx, after, tag); err != nil {
		return false, fmt.Errorf("tag %s: %w", tag, err)
	}
	if now, err = dst.Resolve(ctx, tag); err != nil {
		return false, fmt.Errorf("resolve %s: %w", tag, err)
	}
	return now.Digest == after.Digest, nil
}

func pushBlob(ctx context.Context, dst Target, mediaType string, raw []byte) (ocispec.Descriptor, error) {
	desc := artifact.Describe(mediaType, raw)
	if exists, err := dst.Exists(ctx, desc); err != nil {
		return desc, fmt.Errorf("look for blob %s: %w", desc.Digest, err)
	} else if exists {
		return desc, nil
	}
	if err := dst.Push(ctx, desc, bytes.NewReader(raw)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		return desc, fmt.Errorf("push blob %s: %w", desc.Digest, err)
	}
	return desc, nil
}

// pushManifest pushes even what is there already: a client that crashed between
// a manifest and the fallback tag that lists it is healed only by pushing again.
func pushManifest(ctx context.Context, dst content.Pusher, manifest ocispec.Manifest) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(manifest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode manifest: %w", err)
	}
	desc := artifact.Describe(manifest.MediaType, raw)
	if len(raw) > artifact.MaxManifestBytes {
		return desc, fmt.Errorf("manifest %s is %d bytes, the limit is %d", desc.Digest, len(raw), artifact.MaxManifestBytes)
	}
	err = dst.Push(ctx, desc, bytes.NewReader(raw))
	// oras-go has written all it should and only could not delete the list of
	// referrers before this one: many registries forbid that.
	var stale interface{ IsReferrersIndexDelete() bool }
	if errors.As(err, &stale) && stale.IsReferrersIndexDelete() {
		err = nil
	}
	if err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		return desc, fmt.Errorf("push manifest %s: %w", desc.Digest, err)
	}
	return desc, nil
}
