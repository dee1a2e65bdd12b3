package signer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/cosign/v2/pkg/types"
	"github.com/sigstore/sigstore-go/pkg/bundle"
)

// MaxPredicateBytes bounds the predicate of an attestation: an SBOM of a large image
// is a few MiB.
const MaxPredicateBytes = 16 << 20

const (
	maxAttestationBytes = MaxPredicateBytes*4/3 + maxBundleBytes // base64 in its envelope
	maxAttestations     = 256                                    // of one subject that are listed
	maxAttestedBytes    = 2 * maxAttestationBytes                // of all of them that are read: many manifests can name one bundle
)

// predicateTypes are cosign's short names.
var predicateTypes = map[string]string{
	"spdx":            "https://spdx.dev/Document",
	"spdxjson":        "https://spdx.dev/Document",
	"cyclonedx":       "https://cyclonedx.org/bom",
	"slsaprovenance":  "https://slsa.dev/provenance/v0.2",
	"slsaprovenance1": "https://slsa.dev/provenance/v1",
	"vuln":            "https://cosign.sigstore.dev/attestation/vuln/v1",
	"openvex":         "https://openvex.dev/ns",
}

// PredicateTypes returns the short names of types of predicates, sorted.
func PredicateTypes() []string {
	var names []string
	for name := range predicateTypes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// PredicateType returns the URI of a type of predicates, which may be given by its
// short name or as a URI.
func PredicateType(name string) (string, error) {
	if uri, ok := predicateTypes[name]; ok {
		return uri, nil
	}
	if strings.Contains(name, "://") && !strings.ContainsAny(name, " \t\r\n") && len(name) <= 500 {
		return name, nil
	}
	return "", fmt.Errorf("%q is no type of predicates: want %s, or a URI", name, strings.Join(PredicateTypes(), ", "))
}

// Attest says something about the subject, which must be in dst, in the name of the
// signer's key: an in-toto statement with the predicate, JSON, of the type, a URI, in a
// sigstore bundle that refers to the subject
// (https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/README.md). It returns the
// manifest that carries it. The same again, by a key that signs the same bytes the same
// way, is the same manifest. An attestation is no signature: [Verify] passes it over.
func Attest(ctx context.Context, dst Target, subject ocispec.Descriptor, predicateType string, predicate []byte, s *Signer, opts SignOptions) (ocispec.Descriptor, error) {
	subject, err := signable(ctx, dst, subject)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("attest: %w", err)
	}
	if len(predicate) > MaxPredicateBytes {
		return ocispec.Descriptor{}, fmt.Errorf("attest %s: a predicate of %d bytes, the limit is %d", subject.Digest, len(predicate), MaxPredicateBytes)
	}
	if predicateType == types.CosignSignPredicateType {
		return ocispec.Descriptor{}, fmt.Errorf("attest %s: a predicate of type %s is a signature", subject.Digest, predicateType)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(predicate, &object); err != nil || object == nil {
		return ocispec.Descriptor{}, fmt.Errorf("attest %s: the predicate is no JSON object: %w", subject.Digest, cmp.Or(err, errors.New("it is null")))
	}
	raw, err := newBundle(subject.Digest, predicateType, predicate, s)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("attest %s: %w", subject.Digest, err)
	}
	desc, err := pushBundle(ctx, dst, subject, predicateType, raw, opts.Time)
	if err != nil {
		return desc, fmt.Errorf("attest %s: %w", subject.Digest, err)
	}
	return desc, nil
}

// Attestation is a statement about a subject that is no signature of it.
type Attestation struct {
	// Type is the URI of its predicate.
	Type string `json:"type"`
	// Manifest carries it, and Layer is the bundle itself.
	Manifest ocispec.Descriptor `json:"manifest"`
	Layer    ocispec.Descriptor `json:"layer"`
	// Key is the fingerprint of the key that verified it, or where none was given the
	// one it claims to be by, "" for none.
	Key string `json:"key,omitempty"`
	// Verified says that one of the keys given verified it.
	Verified bool `json:"verified,omitempty"`
}

// Attestations lists the attestations in bundles that refer to the subject, and
// verifies them with the keys, of which there may be none. Those that verify come
// first; then by type and digest. What is damaged, or claims one of the keys and does
// not verify, is part of the error; what could be listed is returned with it. At most
// 256 are looked at, and about 44 MiB of them.
func Attestations(ctx context.Context, src Source, subject ocispec.Descriptor, keys []*Key) ([]Attestation, error) {
	if err := checkSubject(subject); err != nil {
		return nil, fmt.Errorf("list attestations: %w", err)
	}
	listed, err := listBundles(ctx, src, subject)
	if err != nil {
		return nil, fmt.Errorf("list attestations of %s: %w", subject.Digest, err)
	}
	var found []Attestation
	var errs []error
	left := int64(maxAttestedBytes)
	for _, desc := range listed[:min(len(listed), maxAttestations)] {
		list, err := openAttestations(ctx, src, subject, desc, keys, &left)
		found, errs = append(found, list...), append(errs, err)
	}
	if more := len(listed) - maxAttestations; more > 0 {
		errs = append(errs, fmt.Errorf("%d more were not looked at", more))
	}
	slices.SortStableFunc(found, func(a, b Attestation) int {
		return cmp.Or(-cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Layer.Digest, b.Layer.Digest))
	})
	if err := errors.Join(errs...); err != nil {
		return found, fmt.Errorf("list attestations of %s: %w", subject.Digest, err)
	}
	return found, nil
}

func rank(a Attestation) int {
	if a.Verified {
		return 1
	}
	return 0
}

// listBundles lists what refers to the subject and may hold a statement about it.
func listBundles(ctx context.Context, src Source, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	return listReferrersOf(ctx, src, subject, func(desc ocispec.Descriptor) int {
		switch predicate := desc.Annotations[annotationPredicate]; {
		case !isImageManifest(desc.MediaType), predicate == types.CosignSignPredicateType:
			return unlikely
		case predicate != "":
			return surely
		case isBundleType(desc.ArtifactType):
			return likely
		}
		return unlikely
	})
}

// openAttestations returns the statements in one referrer, of which no more bytes are
// read than are left.
func openAttestations(ctx context.Context, src Source, subject, desc ocispec.Descriptor, keys []*Key, left *int64) (found []Attestation, err error) {
	manifest, err := readManifest(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	if manifest.Subject == nil || manifest.Subject.Digest != subject.Digest {
		return nil, fmt.Errorf("%w: manifest %s refers to another subject", ErrInvalid, desc.Digest)
	}
	var errs []error
	for _, c := range bundleLayers(Signature{Manifest: plain(desc)}, manifest) {
		if c.Layer.Size > *left {
			errs = append(errs, fmt.Errorf("bundle %s was not looked at: there is more than %d MiB in all", c.Layer.Digest, maxAttestedBytes>>20))
			continue
		}
		*left -= max(0, c.Layer.Size)
		raw, err := read(ctx, src, c.Layer, maxAttestationBytes)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b, st, err := parseStatement(raw)
		if errors.Is(err, errNotSignature) || err == nil && st.PredicateType == types.CosignSignPredicateType {
			continue // something else in a bundle, or a signature
		}
		if err == nil && !st.names(subject.Digest) {
			err = fmt.Errorf("%w: bundle %s is about another subject", ErrInvalid, c.Layer.Digest)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a := Attestation{Type: st.PredicateType, Manifest: c.Manifest, Layer: c.Layer, Key: bundleKey(b)}
		if err := a.verify(ctx, b, subject, keys); err != nil {
			errs = append(errs, fmt.Errorf("bundle %s: %w", c.Layer.Digest, err))
			continue
		}
		found = append(found, a)
	}
	return found, errors.Join(errs...)
}

// verify notes which of the keys made the attestation. It fails when it claims to be
// by one of them and is not.
func (a *Attestation) verify(ctx context.Context, b *bundle.Bundle, subject ocispec.Descriptor, keys []*Key) error {
	if len(keys) == 0 {
		return nil
	}
	key, err := verifyParsed(ctx, b, subject.Digest, keys)
	if err == nil {
		a.Key, a.Verified = key.Fingerprint(), true
	} else if errors.Is(err, ErrNotAccepted) {
		err = nil
	}
	return err
}

// signable returns the subject as dst has it.
func signable(ctx context.Context, dst Target, subject ocispec.Descriptor) (ocispec.Descriptor, error) {
	if err := checkSubject(subject); err != nil {
		return subject, err
	}
	resolved, err := dst.Resolve(ctx, subject.Digest.String())
	if err != nil {
		return subject, fmt.Errorf("%s: %w", subject.Digest, err)
	}
	if resolved.Digest != subject.Digest {
		return subject, fmt.Errorf("%s: resolved to %s", subject.Digest, resolved.Digest)
	}
	return plain(resolved), nil
}
