package signer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/cosign/v2/pkg/types"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// candidate is something that claims to be a signature of the subject.
type candidate struct {
	Signature
	annotations map[string]string // of the layer of a payload: the signature, and a certificate
	err         error             // why the layer is not to be read; the other fields may be empty
}

// find returns what claims to sign the subject. A place that cannot be read is
// a candidate with an error, so that damage or malice in one place does not
// hide a good signature in another.
func find(ctx context.Context, src Source, subject ocispec.Descriptor) []candidate {
	return append(findReferrers(ctx, src, subject), findTag(ctx, src, subject)...)
}

func findTag(ctx context.Context, src Source, subject ocispec.Descriptor) (found []candidate) {
	desc, err := src.Resolve(ctx, signatureTag(subject.Digest))
	if errors.Is(err, errdef.ErrNotFound) {
		return nil
	}
	at := Signature{Form: FormTag, Manifest: plain(desc)}
	if err != nil {
		return []candidate{{Signature: at, err: fmt.Errorf("resolve %s: %w", signatureTag(subject.Digest), ifDamaged(err))}}
	}
	manifest, err := readManifest(ctx, src, desc)
	if err != nil {
		return []candidate{{Signature: at, err: err}}
	}
	if found = payloadLayers(at, manifest); len(found) > maxSignaturesPerLookup {
		return append([]candidate{tooMany(FormTag)}, found[:maxSignaturesPerLookup]...)
	}
	return found
}

func findReferrers(ctx context.Context, src Source, subject ocispec.Descriptor) []candidate {
	listed, err := listReferrers(ctx, src, subject)
	if err != nil {
		return []candidate{{Signature: Signature{Form: FormReferrer}, err: fmt.Errorf("list referrers: %w", err)}}
	}
	var found []candidate
	opened := listed[:min(len(listed), maxSignaturesPerLookup)]
	for _, desc := range opened {
		found = append(found, openReferrer(ctx, src, subject, desc)...)
	}
	if len(opened) < len(listed) || len(found) > maxSignaturesPerLookup {
		return append([]candidate{tooMany(FormReferrer)}, found[:min(len(found), maxSignaturesPerLookup)]...)
	}
	return found
}

// tooMany stands for the signatures that were not looked at. They may be
// sound, so it must not be told as damage. It comes first, lest it be the reason that
// is left out where there are many.
func tooMany(form Form) candidate {
	err := fmt.Errorf("%w: only the first %d were looked at", errMore, maxSignaturesPerLookup)
	return candidate{Signature: Signature{Form: form}, err: err}
}

// listReferrers returns the referrers that may be signatures, the likeliest
// first and otherwise by digest.
func listReferrers(ctx context.Context, src Source, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return listReferrersOf(ctx, src, subject, likelihood)
}

// listReferrersOf returns the referrers that may be what is looked for, the likeliest
// first and otherwise by digest.
func listReferrersOf(ctx context.Context, src Source, subject ocispec.Descriptor, likelihood func(ocispec.Descriptor) int) ([]ocispec.Descriptor, error) {
	enough := errors.New("enough")
	var listed []ocispec.Descriptor
	err := src.Referrers(ctx, plain(subject), "", func(page []ocispec.Descriptor) error {
		for _, desc := range page {
			if len(listed) == maxReferrersListed {
				return enough
			}
			if likelihood(desc) < unlikely {
				listed = append(listed, desc)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) && !errors.Is(err, errdef.ErrNotFound) && !errors.Is(err, errdef.ErrUnsupported) {
		return nil, err
	}
	slices.SortFunc(listed, func(a, b ocispec.Descriptor) int {
		return cmp.Or(likelihood(a)-likelihood(b), cmp.Compare(a.Digest, b.Digest))
	})
	return slices.CompactFunc(listed, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest }), nil
}

const (
	surely = iota
	likely
	possibly
	unlikely
)

// likelihood ranks an entry of the referrers list by what it says of itself.
// Some registries and clients fill in the media type of the config, or
// nothing, where the artifact type belongs: those have to be opened.
func likelihood(desc ocispec.Descriptor) int {
	if !isImageManifest(desc.MediaType) {
		return unlikely
	}
	predicate := desc.Annotations[annotationPredicate]
	switch kind := desc.ArtifactType; {
	case predicate != "" && predicate != types.CosignSignPredicateType:
		return unlikely
	case kind == mediaTypeOCI11Sig, predicate != "":
		return surely
	case isBundleType(kind):
		return likely
	case slices.Contains([]string{"", ocispec.MediaTypeEmptyJSON, ocispec.MediaTypeImageConfig}, kind):
		return possibly
	}
	return unlikely
}

// openReferrer returns the signatures in one referrer.
func openReferrer(ctx context.Context, src Source, subject, desc ocispec.Descriptor) []candidate {
	at := Signature{Form: FormReferrer, Manifest: plain(desc)}
	if isBundleType(desc.ArtifactType) {
		at.Form = FormBundle
	}
	manifest, err := readManifest(ctx, src, desc)
	if err != nil {
		return []candidate{{Signature: at, err: err}}
	}
	kind := cmp.Or(manifest.ArtifactType, manifest.Config.MediaType)
	predicate := manifest.Annotations[annotationPredicate]
	var found []candidate
	switch {
	case predicate != "" && predicate != types.CosignSignPredicateType:
		return nil
	case isBundleType(kind):
		found = bundleLayers(at, manifest)
	case kind == mediaTypeOCI11Sig:
		found = payloadLayers(at, manifest)
	default:
		return nil
	}
	if manifest.Subject == nil || manifest.Subject.Digest != subject.Digest {
		return []candidate{{Signature: at, err: fmt.Errorf("%w: its manifest refers to another subject", ErrInvalid)}}
	}
	if len(found) == 0 {
		return []candidate{{Signature: at, err: fmt.Errorf("%w: its manifest holds no signature", ErrInvalid)}}
	}
	return found
}

func bundleLayers(at Signature, manifest *ocispec.Manifest) (found []candidate) {
	at.Form = FormBundle
	for _, layer := range manifest.Layers {
		if isBundleType(layer.MediaType) {
			at.Layer = plain(layer)
			found = append(found, candidate{Signature: at})
		}
	}
	return found
}

func payloadLayers(at Signature, manifest *ocispec.Manifest) (found []candidate) {
	for _, layer := range manifest.Layers {
		if layer.MediaType == types.SimpleSigningMediaType {
			at.Layer = plain(layer)
			found = append(found, candidate{Signature: at, annotations: layer.Annotations})
		}
	}
	return found
}

// layer reads the bundle or payload of the candidate.
func (c candidate) layer(ctx context.Context, src Source) ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	limit := int64(maxPayloadBytes)
	if c.Form == FormBundle {
		limit = maxBundleBytes
	}
	return read(ctx, src, c.Layer, limit)
}

func readManifest(ctx context.Context, src Source, desc ocispec.Descriptor) (*ocispec.Manifest, error) {
	if !isImageManifest(desc.MediaType) {
		return nil, fmt.Errorf("%w: %s is a %q, not an image manifest", ErrInvalid, desc.Digest, desc.MediaType)
	}
	raw, err := read(ctx, src, desc, artifact.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	if _, err := artifact.ParseManifest(desc.MediaType, raw); err != nil {
		return nil, fmt.Errorf("%w: manifest %s: %w", ErrInvalid, desc.Digest, err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return nil, fmt.Errorf("%w: manifest %s: %w", ErrInvalid, desc.Digest, err)
	}
	return &manifest, nil
}

// read returns content that is no larger than limit and has its digest. Content
// that is absent, damaged, unreadable or not what the descriptor says is
// ErrInvalid: trying again does not help. Other errors are those of the source.
func read(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%w: digest %q: %w", ErrInvalid, desc.Digest, err)
	}
	if desc.Size < 0 || desc.Size > limit {
		return nil, fmt.Errorf("%w: %s is %d bytes, the limit is %d", ErrInvalid, desc.Digest, desc.Size, limit)
	}
	raw, err := content.FetchAll(ctx, src, desc)
	switch {
	case err == nil:
		return raw, nil
	case errors.Is(err, errdef.ErrNotFound):
		return nil, fmt.Errorf("%w: fetch %s: %w", ErrInvalid, desc.Digest, err)
	}
	return nil, fmt.Errorf("fetch %s: %w", desc.Digest, ifDamaged(err))
}

// ifDamaged marks err as ErrInvalid where it tells of damage.
func ifDamaged(err error) error {
	if artifact.IsDamage(err) || artifact.IsUnreadable(err) {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}
