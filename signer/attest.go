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
	// Key is the fingerprint of the key that verified it, or where none did the one it
	// claims to be by, "" for none; and Certificate says the same of who has no key.
	Key         string       `json:"key,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	// Verified says that it is by one of the keys or identities given.
	Verified bool `json:"verified,omitempty"`
}

// Signer returns the key, or whose certificate it is, "" where neither is known.
func (a Attestation) Signer() string {
	return Signature{Key: a.Key, Certificate: a.Certificate}.Signer()
}

// Attestations lists the attestations in bundles that refer to the subject, and
// verifies them with the keys and identities, of which there may be none. Those that
// verify come first; then by type and digest. What is damaged, or claims one of the keys
// and does not verify, is part of the error; what could be listed is returned with it.
// At most 256 are looked at, and about 44 MiB of them; certificates are verified as often
// as by [Verify].
func Attestations(ctx context.Context, src Source, subject ocispec.Descriptor, keys []*Key, identities ...Identity) ([]Attestation, error) {
	found, errs := listAttestations(ctx, src, subject, nil, newAccepted(keys, identities))
	if err := errors.Join(errs...); err != nil {
		return found, fmt.Errorf("list attestations of %s: %w", subject.Digest, err)
	}
	return found, nil
}

// listAttestations lists the attestations of some types, none for all, as Attestations
// does. Each error is of one that could not be looked at, or of a place.
func listAttestations(ctx context.Context, src Source, subject ocispec.Descriptor, types []string, by *accepted) (found []Attestation, errs []error) {
	if err := checkSubject(subject); err != nil {
		return nil, []error{err}
	}
	listed, err := listBundles(ctx, src, subject, types)
	if err != nil {
		return nil, []error{err}
	}
	r := attestationReader{src: src, subject: subject, types: types, by: by, bundles: maxAttestations, left: maxAttestedBytes}
	for _, desc := range listed[:min(len(listed), maxAttestations)] {
		list, failed := r.open(ctx, desc)
		found, errs = append(found, list...), append(errs, failed...)
	}
	if more := len(listed) - maxAttestations; more > 0 {
		errs = append(errs, fmt.Errorf("%w: %d more were not looked at", ErrNotAccepted, more))
	}
	slices.SortStableFunc(found, func(a, b Attestation) int {
		return cmp.Or(-cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Type, b.Type), cmp.Compare(a.Layer.Digest, b.Layer.Digest))
	})
	return found, errs
}

func rank(a Attestation) int {
	if a.Verified {
		return 1
	}
	return 0
}

// listBundles lists what refers to the subject and may hold a statement of one of the
// types, none for all, about it.
func listBundles(ctx context.Context, src Source, subject ocispec.Descriptor, wanted []string) ([]ocispec.Descriptor, error) {
	return listReferrersOf(ctx, src, subject, func(desc ocispec.Descriptor) int {
		switch predicate := desc.Annotations[annotationPredicate]; {
		case !isImageManifest(desc.MediaType), predicate == types.CosignSignPredicateType:
			return unlikely
		case predicate != "" && !isWanted(wanted, predicate):
			return unlikely
		case predicate != "":
			return surely
		case isBundleType(desc.ArtifactType):
			return likely
		}
		return unlikely
	})
}

// isWanted reports whether a type is one of those wanted, none for all.
func isWanted(wanted []string, predicateType string) bool {
	return len(wanted) == 0 || slices.Contains(wanted, predicateType)
}

// attestationReader reads the attestations of a subject, no more bundles and bytes than
// are left.
type attestationReader struct {
	src     Source
	subject ocispec.Descriptor
	types   []string
	by      *accepted
	bundles int
	left    int64
}

// open returns the statements in one referrer.
func (r *attestationReader) open(ctx context.Context, desc ocispec.Descriptor) (found []Attestation, errs []error) {
	manifest, err := readManifest(ctx, r.src, desc)
	if err != nil {
		return nil, []error{err}
	}
	if manifest.Subject == nil || manifest.Subject.Digest != r.subject.Digest {
		return nil, []error{fmt.Errorf("%w: manifest %s refers to another subject", ErrInvalid, desc.Digest)}
	}
	if predicate := manifest.Annotations[annotationPredicate]; predicate != "" && !isWanted(r.types, predicate) {
		return nil, nil
	}
	layers := bundleLayers(Signature{Manifest: plain(desc)}, manifest)
	if more := len(layers) - r.bundles; more > 0 {
		errs = append(errs, fmt.Errorf("%w: %d more in manifest %s were not looked at", ErrNotAccepted, more, desc.Digest))
		layers = layers[:r.bundles]
	}
	r.bundles -= len(layers)
	for _, c := range layers {
		a, err := r.layer(ctx, c)
		switch {
		case errors.Is(err, errNotSignature):
		case err != nil:
			errs = append(errs, fmt.Errorf("bundle %s: %w", c.Layer.Digest, err))
		default:
			found = append(found, a)
		}
	}
	return found, errs
}

// layer returns the statement in one bundle. It is errNotSignature for what else there
// may be.
func (r *attestationReader) layer(ctx context.Context, c candidate) (a Attestation, err error) {
	if c.Layer.Size > r.left {
		return a, fmt.Errorf("%w: it was not looked at: there is more than %d MiB in all", ErrNotAccepted, maxAttestedBytes>>20)
	}
	r.left -= max(0, c.Layer.Size)
	raw, err := read(ctx, r.src, c.Layer, maxAttestationBytes)
	if err != nil {
		return a, err
	}
	b, st, err := parseStatement(raw)
	switch {
	case err != nil:
		return a, err
	case st.PredicateType == types.CosignSignPredicateType, !isWanted(r.types, st.PredicateType):
		return a, errNotSignature
	case !st.names(r.subject.Digest):
		return a, fmt.Errorf("%w: it is about another subject", ErrInvalid)
	}
	a = Attestation{Type: st.PredicateType, Manifest: c.Manifest, Layer: c.Layer, Key: bundleKey(b)}
	a.Certificate, _ = claimOf(b) // a claim that cannot be read is none
	return a, a.verify(ctx, b, r.subject, r.by)
}

// verify notes whose the attestation is. It fails when it claims to be by one of the
// keys or identities and is not, and when that was not looked at.
func (a *Attestation) verify(ctx context.Context, b *bundle.Bundle, subject ocispec.Descriptor, by *accepted) error {
	if len(by.keys)+by.given == 0 {
		return nil
	}
	key, certificate, err := verifyBundle(ctx, b, subject.Digest, by)
	switch {
	case errors.Is(err, errMore):
		return err
	case errors.Is(err, ErrNotAccepted):
		return nil
	case err != nil:
		return err
	case key != nil:
		a.Key = key.Fingerprint()
	default:
		a.Certificate = certificate
	}
	a.Verified = true
	return nil
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
