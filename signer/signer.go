// Package signer signs OCI manifests and verifies their signatures, offline,
// in the formats of cosign.
//
// A signature binds the digest of one manifest, and through the digests in it
// everything below it. Two forms are written, because verifiers in the field
// read one or the other:
//
//   - a sigstore bundle (v0.3, a DSSE envelope around an in-toto statement) in
//     a manifest that refers to the subject, found by the referrers API:
//     https://github.com/sigstore/cosign/blob/v2.6.5/specs/BUNDLE_SPEC.md
//   - a simple signing payload in a manifest tagged sha256-<hex>.sig:
//     https://github.com/sigstore/cosign/blob/v2.6.5/specs/SIGNATURE_SPEC.md
//
// [Sign] writes them with a [Signer] and [Verify] checks them against the keys
// and identities one trusts. Neither prints, reads the environment or opens a connection: all
// content passes through the oras-go interfaces handed in, so that a registry
// and a layout on a disk are the same to them. Trust is in keys, and in identities
// that a certificate names, with the authorities and logs of a [Root] that comes with
// them; the clock plays no part in that.
//
// [Seal] and [Open] do the same for a document that travels by itself: it is
// carried inside a DSSE envelope, v1.0.2 (https://github.com/secure-systems-lab/dsse).
// [SealStatement] and [OpenStatement] do so for an in-toto statement, in a bundle.
//
// Whatever is read is bounded in size and number and checked against its
// digest before it is looked at. Only subjects with a sha256 digest are signed
// and verified: the names of the formats allow no other.
package signer

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
)

// Source is what [Verify] reads from: one repository of a registry or layout.
// *remote.Repository of oras-go is one.
type Source interface {
	content.Fetcher
	content.Resolver
	registry.ReferrerLister
}

// Target is what [Sign] writes to: one repository of a registry or layout.
// *remote.Repository of oras-go is one, and keeps the fallback tag of
// registries without a referrers API itself.
type Target interface {
	content.ReadOnlyStorage
	content.Pusher
	content.TagResolver
	registry.ReferrerLister
}

// Form names how a signature is stored.
type Form string

// The forms of signatures that are found and verified. Sign writes the first
// two.
const (
	// FormBundle is a sigstore bundle in a manifest that refers to the subject.
	FormBundle Form = "bundle"
	// FormTag is a simple signing payload in the manifest tagged
	// sha256-<hex>.sig.
	FormTag Form = "tag"
	// FormReferrer is a simple signing payload in a manifest that refers to
	// the subject, cosign's experimental form for OCI 1.1.
	FormReferrer Form = "referrer"
)

// Signature says where a signature is stored and whose it is.
type Signature struct {
	Form Form `json:"form"`
	// Manifest carries the signature. Several signatures of FormTag share one.
	Manifest ocispec.Descriptor `json:"manifest"`
	// Layer is the bundle or payload itself.
	Layer ocispec.Descriptor `json:"layer"`
	// Key is the fingerprint of the key, as of [Key.Fingerprint]. In Evidence
	// it is the key that verified; from Signatures and in Rejected it is what
	// the signature claims, empty when it claims nothing.
	Key string `json:"key,omitempty"`
	// Certificate says who signed without a key of their own, nil for a signature by
	// a key. In Evidence it is verified; else it is what the signature claims.
	Certificate *Certificate `json:"certificate,omitempty"`
}

// Signer returns the key, or whose certificate it is, "" where neither is known.
func (s Signature) Signer() string {
	if s.Certificate != nil {
		return s.Certificate.String()
	}
	return s.Key
}

// TrustedRoot returns the one-line trusted root that contains nothing. Stock
// cosign verifies offline with a key only when it is given such a file:
//
//	cosign verify --key cosign.pub --insecure-ignore-tlog=true --trusted-root FILE IMAGE@DIGEST
func TrustedRoot() []byte {
	return []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}` + "\n")
}

const (
	mediaTypeBundle        = "application/vnd.dev.sigstore.bundle.v0.3+json"
	mediaTypeBundlePrefix  = "application/vnd.dev.sigstore.bundle"
	mediaTypeOCI11Sig      = "application/vnd.dev.cosign.artifact.sig.v1+json"
	annotationContent      = "dev.sigstore.bundle.content"
	annotationPredicate    = "dev.sigstore.bundle.predicateType"
	contentDSSE            = "dsse-envelope"
	signatureTagSuffix     = ".sig"
	maxPayloadBytes        = 1 << 20
	maxBundleBytes         = 1 << 20
	maxSignaturesPerLookup = 64   // layers of the .sig manifest; and again manifests among the referrers
	maxReferrersListed     = 4096 // entries of the referrers list that are sorted at all
)

// signatureTag returns the tag under which cosign keeps the signatures of d.
func signatureTag(d digest.Digest) string {
	return artifact.SignatureTag(d, signatureTagSuffix)
}

func checkSubject(subject ocispec.Descriptor) error {
	if err := subject.Digest.Validate(); err != nil {
		return fmt.Errorf("subject %q: %w", subject.Digest, err)
	}
	if subject.Digest.Algorithm() != digest.SHA256 {
		return fmt.Errorf("subject %s: only sha256 digests can be signed", subject.Digest)
	}
	return nil
}

func isBundleType(mediaType string) bool {
	return strings.HasPrefix(mediaType, mediaTypeBundlePrefix)
}

func isImageManifest(mediaType string) bool {
	return artifact.IsManifest(mediaType) && !artifact.IsIndex(mediaType)
}

// plain keeps what identifies content and drops what a listing adds to it.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
