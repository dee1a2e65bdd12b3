package signer

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// mediaTypeChainBundle is that of the bundles which are made of the annotations of a
// simple signing payload: like them it wants no proof beside a log's promise.
const mediaTypeChainBundle = "application/vnd.dev.sigstore.bundle+json;version=0.1"

// claimOf returns what the certificate in a bundle says, nil where there is none. The
// error is ErrInvalid.
func claimOf(b *bundle.Bundle) (*Certificate, error) {
	if b.GetVerificationMaterial().GetPublicKey() != nil {
		return nil, nil
	}
	content, err := b.VerificationContent()
	if err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", ErrInvalid, err)
	}
	summary, err := certificate.SummarizeCertificate(content.Certificate())
	if err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", ErrInvalid, err)
	}
	if len(summary.Issuer) > maxIdentityBytes || len(summary.SubjectAlternativeName) > maxIdentityBytes {
		return nil, fmt.Errorf("%w: certificate: more than %d bytes of issuer or subject", ErrInvalid, maxIdentityBytes)
	}
	return &Certificate{Issuer: summary.Issuer, Subject: summary.SubjectAlternativeName}, nil
}

// verifyCertified returns the certificate, verified, by which a bundle is signed, with
// every root that bears it out: what wants it by one is not to depend on which of them,
// where two have an authority in common, came first. What is signed is made anew for
// each attempt, for it may be a reader.
func verifyCertified(b *bundle.Bundle, signed func() verify.ArtifactPolicyOption, by *accepted) (*Certificate, error) {
	if by.given == 0 {
		return nil, fmt.Errorf("%w: signed with a certificate, not a key", ErrNotAccepted)
	}
	claim, err := claimOf(b)
	if err != nil {
		return nil, err
	}
	roots := by.roots(claim)
	if len(roots) == 0 {
		return nil, fmt.Errorf("%w: signed by %s, who is none of the %d identities given", ErrNotAccepted, claim, by.given)
	}
	var verified *Certificate
	var broken error
	for _, r := range roots {
		if by.left == 0 {
			broken = fmt.Errorf("%w: no more than %d certificates are verified", errMore, maxCertificateChecks)
			break
		}
		by.left--
		c, err := r.verify(b, signed(), claim)
		switch {
		case err != nil:
			broken = fmt.Errorf("%w: claims to be by %s: %s", ErrInvalid, claim, plainSpaces(err))
			continue
		case verified == nil:
			verified = c
		}
		verified.roots = append(verified.roots, c.Root)
	}
	if verified == nil {
		return nil, broken
	}
	return verified, nil
}

// verify returns the claim with what the root knows of it. It has the certificate be
// that of the claim: nothing else was compared with an identity.
func (r *Root) verify(b *bundle.Bundle, signed verify.ArtifactPolicyOption, claim *Certificate) (*Certificate, error) {
	exactly, err := verify.NewShortCertificateIdentity(claim.Issuer, "", claim.Subject, "")
	if err != nil {
		return nil, err
	}
	result, err := r.verifier.Verify(b, verify.NewPolicy(signed, verify.WithCertificateIdentity(exactly)))
	if err != nil {
		return nil, err
	}
	c := Certificate{Issuer: claim.Issuer, Subject: claim.Subject, Root: r.Fingerprint()}
	for _, t := range result.VerifiedTimestamps {
		if c.Time.IsZero() || t.Timestamp.Before(c.Time) {
			c.Time, c.TimeFrom = t.Timestamp.UTC(), t.URI
		}
	}
	return &c, nil
}

// signedDigest is what a bundle signs with a statement about d.
func signedDigest(d digest.Digest) func() verify.ArtifactPolicyOption {
	return func() verify.ArtifactPolicyOption {
		sum, _ := hex.DecodeString(d.Encoded()) // was validated; nothing is signed by none
		return verify.WithArtifactDigest(d.Algorithm().String(), sum)
	}
}

// signedBytes is what a simple signing payload's signature signs.
func signedBytes(raw []byte) func() verify.ArtifactPolicyOption {
	return func() verify.ArtifactPolicyOption { return verify.WithArtifact(bytes.NewReader(raw)) }
}

// hasCertificate reports whether the layer of a payload comes with one.
func (c *candidate) hasCertificate() bool {
	return c.annotations[static.CertificateAnnotationKey] != ""
}

// payloadBundle makes a bundle of a simple signing payload and of what the annotations
// of its layer have: the certificate, the promise of a log, and a timestamp
// (https://github.com/sigstore/cosign/blob/v2.6.5/specs/SIGNATURE_SPEC.md). So there
// is one way in which certificates are verified. A chain in them is passed over: the
// root has the authorities. The error is ErrInvalid.
func (c *candidate) payloadBundle(raw []byte) (*bundle.Bundle, error) {
	sig, err := base64.StdEncoding.DecodeString(c.annotations[static.SignatureAnnotationKey])
	if err != nil || len(sig) == 0 {
		return nil, fmt.Errorf("%w: signature is not base64", ErrInvalid)
	}
	block, _ := pem.Decode([]byte(c.annotations[static.CertificateAnnotationKey]))
	if block == nil {
		return nil, fmt.Errorf("%w: certificate is not PEM", ErrInvalid)
	}
	material := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_Certificate{
		Certificate: &protocommon.X509Certificate{RawBytes: block.Bytes},
	}}
	if text := c.annotations[static.BundleAnnotationKey]; text != "" {
		entry, err := promisedEntry(text)
		if err != nil {
			return nil, err
		}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if text := c.annotations[static.RFC3161TimestampAnnotationKey]; text != "" {
		var stamp struct{ SignedRFC3161Timestamp []byte }
		if err := json.Unmarshal([]byte(text), &stamp); err != nil {
			return nil, fmt.Errorf("%w: timestamp: %w", ErrInvalid, err)
		}
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp.SignedRFC3161Timestamp}},
		}
	}
	sum := sha256.Sum256(raw)
	b, err := newCheckedBundle(&protobundle.Bundle{
		MediaType:            mediaTypeChainBundle,
		VerificationMaterial: material,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]},
			Signature:     sig,
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, plainSpaces(err))
	}
	return b, nil
}

// promisedEntry reads the entry of a transparency log, Rekor v1, that cosign writes
// into an annotation. The error is ErrInvalid.
func promisedEntry(text string) (*protorekor.TransparencyLogEntry, error) {
	var entry struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal([]byte(text), &entry); err != nil {
		return nil, fmt.Errorf("%w: log entry: %w", ErrInvalid, err)
	}
	var body struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	if err := json.Unmarshal(entry.Payload.Body, &body); err != nil {
		return nil, fmt.Errorf("%w: log entry: %w", ErrInvalid, err)
	}
	id, err := hex.DecodeString(entry.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("%w: log entry: %w", ErrInvalid, err)
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          entry.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		KindVersion:       &protorekor.KindVersion{Kind: body.Kind, Version: body.APIVersion},
		IntegratedTime:    entry.Payload.IntegratedTime,
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: entry.SignedEntryTimestamp},
		CanonicalizedBody: entry.Payload.Body,
	}, nil
}
