package signer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/cosign/v2/pkg/types"
)

// statementBundle is a sigstore bundle of a DSSE envelope with one signature by a key,
// field by field in the order in which it is written.
type statementBundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		PublicKey struct {
			Hint string `json:"hint"`
		} `json:"publicKey"`
	} `json:"verificationMaterial"`
	Envelope struct {
		Payload     string               `json:"payload"`
		PayloadType string               `json:"payloadType"`
		Signatures  []statementSignature `json:"signatures"`
	} `json:"dsseEnvelope"`
}

type statementSignature struct {
	Sig string `json:"sig"`
}

func (b *statementBundle) format() ([]byte, error) {
	raw, err := json.Marshal(b)
	return append(raw, '\n'), err
}

// SealStatement signs an in-toto statement that travels by itself, and returns it in a
// sigstore bundle on one line, as [Attest] attaches them, for cosign's
// verify-blob-attestation (https://github.com/sigstore/cosign/blob/v2.6.5/specs/BUNDLE_SPEC.md).
// What the statement says is the caller's. With an ECDSA or Ed25519 key held in memory
// the same statement makes the same bytes.
func SealStatement(statement []byte, s *Signer) ([]byte, error) {
	sig, err := s.sign(dsse.PAE(types.IntotoPayloadType, statement))
	if err != nil {
		return nil, fmt.Errorf("seal statement: %w", err)
	}
	b := statementBundle{MediaType: mediaTypeBundle}
	b.Material.PublicKey.Hint = base64.StdEncoding.EncodeToString(s.key.sum[:])
	b.Envelope.Payload = base64.StdEncoding.EncodeToString(statement)
	b.Envelope.PayloadType = types.IntotoPayloadType
	b.Envelope.Signatures = []statementSignature{{base64.StdEncoding.EncodeToString(sig)}}
	raw, err := b.format()
	if err == nil && len(raw) > MaxEnvelopeBytes {
		err = fmt.Errorf("bundle of %d bytes, the limit is %d", len(raw), MaxEnvelopeBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("seal statement: %w", err)
	}
	return raw, nil
}

// OpenStatement returns the statement in a bundle that one of the keys signed, and that
// key. It takes nothing but what [SealStatement] writes, byte for byte, the signature and
// the hint at a key apart; the hint counts for nothing.
//
// The error is an *EnvelopeError: ErrInvalid for any other bytes, and for a signature
// that claims a key given and does not verify; else ErrNotAccepted.
func OpenStatement(raw []byte, keys []*Key) (statement []byte, key *Key, err error) {
	e, err := parseSealed(raw)
	if err != nil {
		return nil, nil, &EnvelopeError{Err: err}
	}
	return e.open(keys)
}

// OpenStatementUnverified returns the statement in a bundle, whoever wrote it, and the
// fingerprint of the key that it claims to be signed by, "" for none. Nothing is
// verified: both may be anybody's. The error is ErrInvalid as of [OpenStatement].
func OpenStatementUnverified(raw []byte) (statement []byte, claimed string, err error) {
	e, err := parseSealed(raw)
	if err != nil {
		return nil, "", &EnvelopeError{Err: err}
	}
	return e.payload, e.signatures[0].KeyID, nil
}

// parseSealed reads a bundle as an envelope whose signature names the key that the
// bundle hints at. That it is written as this program writes it leaves no room for a
// field that is there twice, or for one that another program would read otherwise.
func parseSealed(raw []byte) (*envelope, error) {
	if len(raw) > MaxEnvelopeBytes {
		return nil, fmt.Errorf("%w: bundle of %d bytes, the limit is %d", ErrInvalid, len(raw), MaxEnvelopeBytes)
	}
	var b statementBundle
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return nil, fmt.Errorf("%w: bundle: %w", ErrInvalid, err)
	}
	switch again, err := b.format(); {
	case err != nil:
		return nil, fmt.Errorf("%w: bundle: %w", ErrInvalid, err)
	case b.MediaType != mediaTypeBundle:
		return nil, fmt.Errorf("%w: bundle is of type %.80q, want %q", ErrInvalid, b.MediaType, mediaTypeBundle)
	case b.Envelope.PayloadType != types.IntotoPayloadType:
		return nil, fmt.Errorf("%w: payload is of type %.80q, want %q", ErrInvalid, b.Envelope.PayloadType, types.IntotoPayloadType)
	case len(b.Envelope.Signatures) != 1:
		return nil, fmt.Errorf("%w: bundle with %d signatures, want one", ErrInvalid, len(b.Envelope.Signatures))
	case !bytes.Equal(raw, again):
		return nil, fmt.Errorf("%w: bundle is not written as it is signed: a field twice, out of its place, or more behind its end", ErrInvalid)
	}
	payload, err := base64.StdEncoding.DecodeString(b.Envelope.Payload)
	if err != nil || base64.StdEncoding.EncodeToString(payload) != b.Envelope.Payload {
		return nil, fmt.Errorf("%w: payload is not base64", ErrInvalid)
	}
	return &envelope{b.Envelope.PayloadType, payload, []dsse.Signature{{
		KeyID: hintFingerprint(b.Material.PublicKey.Hint), Sig: b.Envelope.Signatures[0].Sig,
	}}}, nil
}
