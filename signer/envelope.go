package signer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// MaxEnvelopeBytes is the size of the largest envelope that is looked at.
const MaxEnvelopeBytes = 32 << 20

// EnvelopeError is the error of [Open] and [OpenStatement].
type EnvelopeError struct {
	// Given are the fingerprints of the keys that were accepted, Claimed those
	// that the signatures claim to be by, which is not verified. Both are sorted.
	Given, Claimed []string
	// Err is ErrUnsigned, ErrNotAccepted or ErrInvalid, or wraps it.
	Err error
}

// Error says what is wrong and, where the keys are, which they are.
func (e *EnvelopeError) Error() string {
	if !errors.Is(e.Err, ErrNotAccepted) {
		return "envelope: " + e.Err.Error()
	}
	text := fmt.Sprintf("envelope is not signed by the key given (%s)", strings.Join(e.Given, ", "))
	if len(e.Claimed) > 0 {
		text += "; it claims to be signed by " + strings.Join(e.Claimed, ", ")
	}
	return text
}

// Unwrap returns Err.
func (e *EnvelopeError) Unwrap() error { return e.Err }

// Seal signs a document that stands alone, not in a registry or layout, and
// returns it inside a DSSE envelope, on one line
// (https://github.com/secure-systems-lab/dsse/blob/v1.0.2/envelope.md). The
// payload's media type is signed with it, so that one document cannot pass for
// another. The key is named by its fingerprint. With an ECDSA or Ed25519 key held
// in memory the same payload makes the same bytes.
func Seal(payloadType string, payload []byte, s *Signer) ([]byte, error) {
	sig, err := s.sign(dsse.PAE(payloadType, payload))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", payloadType, err)
	}
	raw, err := json.Marshal(dsse.Envelope{
		PayloadType: payloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []dsse.Signature{{KeyID: s.key.Fingerprint(), Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", payloadType, err)
	}
	if raw = append(raw, '\n'); len(raw) > MaxEnvelopeBytes {
		return nil, fmt.Errorf("seal %s: envelope of %d bytes, the limit is %d", payloadType, len(raw), MaxEnvelopeBytes)
	}
	return raw, nil
}

// Open returns the payload of a DSSE envelope that one of the keys signed, and
// that key. One sound signature suffices, whatever stands beside it; at most 64
// are looked at. The names that signatures give their keys count for nothing.
//
// The error is an *EnvelopeError: ErrUnsigned for an envelope without
// signatures; ErrInvalid for what is no envelope or holds another type than
// payloadType, and for a signature that cannot be read or claims a key given and
// does not verify; else ErrNotAccepted.
func Open(raw []byte, payloadType string, keys []*Key) ([]byte, *Key, error) {
	e, err := parseEnvelope(raw, payloadType)
	if err != nil {
		return nil, nil, &EnvelopeError{Err: err}
	}
	return e.open(keys)
}

// OpenUnverified returns the payload of a DSSE envelope, whoever wrote it, and
// the fingerprints of the keys that its signatures claim to be by, sorted.
// Nothing is verified: both may be anybody's. The error is ErrInvalid as of
// [Open]; an envelope without signatures is none.
func OpenUnverified(raw []byte, payloadType string) (payload []byte, claimed []string, err error) {
	e, err := parseEnvelope(raw, payloadType)
	if err != nil {
		return nil, nil, &EnvelopeError{Err: err}
	}
	return e.payload, e.claimed(), nil
}

// envelope is a parsed and unverified envelope.
type envelope struct {
	payloadType string
	payload     []byte
	signatures  []dsse.Signature // at most maxSignaturesPerLookup
}

func parseEnvelope(raw []byte, payloadType string) (*envelope, error) {
	if len(raw) > MaxEnvelopeBytes {
		return nil, fmt.Errorf("%w: envelope of %d bytes, the limit is %d", ErrInvalid, len(raw), MaxEnvelopeBytes)
	}
	var doc dsse.Envelope
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if doc.PayloadType != payloadType {
		return nil, fmt.Errorf("%w: payload is of type %q, want %q", ErrInvalid, doc.PayloadType, payloadType)
	}
	payload, err := decodeBase64(doc.Payload)
	if err != nil {
		return nil, fmt.Errorf("%w: payload is not base64", ErrInvalid)
	}
	return &envelope{payloadType, payload, doc.Signatures[:min(len(doc.Signatures), maxSignaturesPerLookup)]}, nil
}

// decodeBase64 takes both alphabets, as the specification asks of readers.
func decodeBase64(s string) ([]byte, error) {
	if b, err := base64.StdEncoding.DecodeString(s); err == nil {
		return b, nil
	}
	return base64.URLEncoding.DecodeString(s)
}

// claimed leaves out names that are no fingerprints: they say nothing, and may
// say it at length.
func (e *envelope) claimed() []string {
	var names []string
	for _, s := range e.signatures {
		if d := digest.Digest(s.KeyID); d.Validate() == nil && d.Algorithm() == digest.SHA256 {
			names = append(names, s.KeyID)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// open returns the payload and the key that signed it, or an *EnvelopeError.
func (e *envelope) open(keys []*Key) ([]byte, *Key, error) {
	key, err := e.verify(keys)
	if err != nil {
		failed := &EnvelopeError{Claimed: e.claimed(), Err: err}
		for _, k := range keys {
			failed.Given = append(failed.Given, k.Fingerprint())
		}
		slices.Sort(failed.Given)
		return nil, nil, failed
	}
	return e.payload, key, nil
}

// verify returns the key that signed, or why none did. Every key is tried on
// every signature, because the name a signature gives its key is not signed.
func (e *envelope) verify(keys []*Key) (*Key, error) {
	message := dsse.PAE(e.payloadType, e.payload)
	var broken error
	for _, s := range e.signatures {
		sig, err := decodeBase64(s.Sig)
		if err != nil || len(sig) == 0 {
			broken = fmt.Errorf("%w: signature is not base64", ErrInvalid)
			continue
		}
		for _, key := range keys {
			err := key.verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message))
			if err == nil {
				return key, nil
			}
			if s.KeyID == key.Fingerprint() {
				broken = fmt.Errorf("%w: claims to be by key %s: %w", ErrInvalid, key, err)
			}
		}
	}
	switch {
	case broken != nil:
		return nil, broken
	case len(e.signatures) == 0:
		return nil, ErrUnsigned
	}
	return nil, ErrNotAccepted
}
