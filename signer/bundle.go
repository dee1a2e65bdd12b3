package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	cosignbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	"github.com/sigstore/cosign/v2/pkg/types"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sealift/sealift/internal/document"
)

const statementType = "https://in-toto.io/Statement/v1"

// errNotSignature marks a bundle that attests something else than that its
// subject is signed: an SBOM or a scan report by a vendor's key must not pass
// for the vendor's consent.
var errNotSignature = errors.New("attestation, not a signature")

// statement is the part of an in-toto statement that a signature uses.
type statement struct {
	Type          string             `json:"_type"`
	Subject       []statementSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     json.RawMessage    `json:"predicate,omitempty"`
}

type statementSubject struct {
	Digest map[string]string `json:"digest"`
}

func (s statement) names(d digest.Digest) bool {
	for _, subject := range s.Subject {
		if subject.Digest[d.Algorithm().String()] == d.Encoded() {
			return true
		}
	}
	return false
}

// newBundle returns the sigstore bundle that states the predicate, nil for none, about
// d.
func newBundle(d digest.Digest, predicateType string, predicate []byte, s *Signer) ([]byte, error) {
	payload, err := json.Marshal(statement{
		Type:          statementType,
		Subject:       []statementSubject{{Digest: map[string]string{d.Algorithm().String(): d.Encoded()}}},
		PredicateType: predicateType,
		Predicate:     predicate,
	})
	if err != nil {
		return nil, fmt.Errorf("encode statement: %w", err)
	}
	envelope, err := dsse.WrapSigner(messageSigner{s}, types.IntotoPayloadType).SignMessage(bytes.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	raw, err := cosignbundle.MakeNewBundle(s.private.Public(), nil, payload, envelope, s.key.pem, nil)
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	// The JSON of protocol buffers has white space that differs from build to
	// build, on purpose.
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	return b.Bytes(), nil
}

// parseBundle returns the bundle that signs something and its statement, neither of
// them verified. The error is ErrInvalid, ErrNotAccepted or errNotSignature.
func parseBundle(raw []byte) (*bundle.Bundle, statement, error) {
	b, st, err := parseStatement(raw)
	if err == nil && st.PredicateType != types.CosignSignPredicateType {
		err = errNotSignature
	}
	if err == nil {
		if twice := document.UniqueKeys(b.GetDsseEnvelope().GetPayload()); twice != nil {
			err = fmt.Errorf("%w: statement: %w", ErrInvalid, twice)
		}
	}
	return b, st, err
}

// decodeBundle reads a bundle, and checks that it is one.
func decodeBundle(raw []byte) (*bundle.Bundle, error) {
	b := new(protobundle.Bundle)
	if err := protojson.Unmarshal(raw, b); err != nil {
		return nil, err
	}
	return newCheckedBundle(b)
}

// newCheckedBundle is bundle.NewBundle for what anybody wrote. The library knows log
// entries by kind and version, and prints those that are none on the terminal, with what
// stands in them.
func newCheckedBundle(b *protobundle.Bundle) (*bundle.Bundle, error) {
	for i, entry := range b.GetVerificationMaterial().GetTlogEntries() {
		var body struct {
			Kind       string `json:"kind"`
			APIVersion string `json:"apiVersion"`
		}
		if err := json.Unmarshal(entry.GetCanonicalizedBody(), &body); err != nil {
			return nil, fmt.Errorf("log entry %d: %w", i+1, err)
		}
		if !entryKind.MatchString(body.Kind) || !entryVersion.MatchString(body.APIVersion) {
			return nil, fmt.Errorf("log entry %d is of kind %.40q, version %.40q", i+1, body.Kind, body.APIVersion)
		}
	}
	return bundle.NewBundle(b)
}

var (
	entryKind    = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)
	entryVersion = regexp.MustCompile(`^(0|[1-9][0-9]{0,3})(\.(0|[1-9][0-9]{0,3})){2}$`)
)

// parseStatement returns the bundle and the statement in its envelope, neither of
// them verified. The error is ErrInvalid, ErrNotAccepted, or errNotSignature for what
// is no statement.
func parseStatement(raw []byte) (*bundle.Bundle, statement, error) {
	var st statement
	b, err := decodeBundle(raw)
	if err != nil {
		return nil, st, fmt.Errorf("%w: bundle: %w", ErrInvalid, err)
	}
	envelope := b.GetDsseEnvelope()
	if envelope == nil {
		return nil, st, fmt.Errorf("%w: bundle without a DSSE envelope", ErrNotAccepted)
	}
	if envelope.GetPayloadType() != types.IntotoPayloadType {
		return nil, st, errNotSignature
	}
	if err := json.Unmarshal(envelope.GetPayload(), &st); err != nil {
		return nil, st, fmt.Errorf("%w: statement: %w", ErrInvalid, err)
	}
	return b, st, nil
}

// verifyBundle returns the key, or else the certificate, by which a bundle about d is
// signed.
func verifyBundle(ctx context.Context, b *bundle.Bundle, d digest.Digest, by *accepted) (*Key, *Certificate, error) {
	if b.GetVerificationMaterial().GetPublicKey() == nil {
		c, err := verifyCertified(b, signedDigest(d), by)
		return nil, c, err
	}
	key, err := verifyKeyed(ctx, b, d, by.keys)
	return key, nil, err
}

// verifyKeyed returns the key by which a bundle about d is signed.
func verifyKeyed(ctx context.Context, b *bundle.Bundle, d digest.Digest, keys []*Key) (*Key, error) {
	claimed := b.GetVerificationMaterial().GetPublicKey()
	sum, err := hex.DecodeString(d.Encoded())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	policy := verify.WithArtifactDigest(d.Algorithm().String(), sum)
	var broken error
	for _, key := range keys {
		_, err := cosign.VerifyNewBundle(ctx, key.checkOpts(), policy, b)
		if err == nil {
			return key, nil
		}
		// The hint is unsigned and says only whom to blame: every key is tried.
		if hintFingerprint(claimed.GetHint()) == key.Fingerprint() {
			broken = fmt.Errorf("%w: claims to be by key %s: %w", ErrInvalid, key, err)
		}
	}
	if broken != nil {
		return nil, broken
	}
	return nil, fmt.Errorf("%w: verifies by none of the %d keys given", ErrNotAccepted, len(keys))
}

// bundleKey returns the fingerprint of the key that a bundle claims to be by.
func bundleKey(b *bundle.Bundle) string {
	return hintFingerprint(b.GetVerificationMaterial().GetPublicKey().GetHint())
}

// emptyRoot trusts nothing; the library asks for one even where only a key
// counts.
var emptyRoot = sync.OnceValue(func() root.TrustedMaterial {
	material, err := root.NewTrustedRootFromJSON(TrustedRoot())
	if err != nil {
		panic("signer: the empty trusted root does not parse: " + err.Error())
	}
	return material
})

// checkOpts verifies by this key only, without a transparency log.
func (k *Key) checkOpts() *cosign.CheckOpts {
	return &cosign.CheckOpts{
		SigVerifier:     k.verifier,
		IgnoreTlog:      true,
		Offline:         true,
		ClaimVerifier:   cosign.SimpleClaimVerifier,
		TrustedMaterial: emptyRoot(),
	}
}
