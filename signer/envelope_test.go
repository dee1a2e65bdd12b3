package signer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/signer"
)

const noteType = "application/vnd.example.note.v1"

// sealed is an envelope as the specification writes it, to be changed.
type sealed struct {
	PayloadType string       `json:"payloadType"`
	Payload     string       `json:"payload"`
	Signatures  []sealedSign `json:"signatures"`
}

type sealedSign struct {
	KeyID string `json:"keyid,omitempty"`
	Sig   string `json:"sig"`
}

func seal(t testing.TB, payload string, s *signer.Signer) []byte {
	t.Helper()
	raw, err := signer.Seal(noteType, []byte(payload), s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// editEnvelope changes an envelope that keeps its signatures.
func editEnvelope(t testing.TB, raw []byte, edit func(*sealed)) []byte {
	t.Helper()
	var e sealed
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	edit(&e)
	out, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is signed is the encoding of the specification, put together here by hand
// and checked without this package.
func TestSealIsDSSE(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := wrap(t, private)
	raw := seal(t, "hello ⛵\n", s)
	if again := seal(t, "hello ⛵\n", s); !bytes.Equal(raw, again) {
		t.Errorf("Seal made %s and then %s, want the same", raw, again)
	}
	if bytes.Count(raw, []byte("\n")) != 1 || raw[len(raw)-1] != '\n' {
		t.Errorf("Seal = %q, want one line", raw)
	}
	var e sealed
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	if want := base64.StdEncoding.EncodeToString([]byte("hello ⛵\n")); e.Payload != want || e.PayloadType != noteType {
		t.Errorf("Seal made an envelope of %s %q, want %s %q", e.PayloadType, e.Payload, noteType, want)
	}
	if len(e.Signatures) != 1 || e.Signatures[0].KeyID != s.Key().Fingerprint() {
		t.Fatalf("signatures = %+v, want one by %s", e.Signatures, s.Key())
	}
	sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("DSSEv1 31 application/vnd.example.note.v1 10 hello ⛵\n"))
	if !ecdsa.VerifyASN1(&private.PublicKey, sum[:], sig) {
		t.Error("the signature is not of the pre-authentication encoding")
	}
	if _, err := signer.Seal(noteType, make([]byte, signer.MaxEnvelopeBytes*3/4), s); err == nil {
		t.Error("Seal made an envelope that Open refuses")
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	accepted, other := newSigner(t), newSigner(t)
	good := seal(t, "good", accepted)
	edited := func(edit func(*sealed)) []byte { return editEnvelope(t, good, edit) }
	theirs := func(keyID string) sealedSign {
		var sig sealedSign
		editEnvelope(t, seal(t, "good", other), func(e *sealed) { sig = e.Signatures[0] })
		sig.KeyID = keyID
		return sig
	}
	tests := []struct {
		name string
		raw  []byte
		want error
		says string
	}{
		{"sealed", good, nil, ""},
		{"without a name for the key", edited(func(e *sealed) { e.Signatures[0].KeyID = "" }), nil, ""},
		{"with another name for the key", edited(func(e *sealed) { e.Signatures[0].KeyID = "SHA256:abc" }), nil, ""},
		{"in the other base64", edited(func(e *sealed) {
			sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
			if err != nil {
				t.Fatal(err)
			}
			e.Signatures[0].Sig, e.Payload = base64.URLEncoding.EncodeToString(sig), base64.URLEncoding.EncodeToString([]byte("good"))
		}), nil, ""},
		{"behind another's signature", edited(func(e *sealed) { e.Signatures = slices.Insert(e.Signatures, 0, theirs("")) }), nil, ""},
		{"behind a broken signature", edited(func(e *sealed) { e.Signatures = slices.Insert(e.Signatures, 0, sealedSign{"", "%"}) }), nil, ""},
		{"with fields to come", bytes.Replace(good, []byte("{"), []byte(`{"new":[1],`), 1), nil, ""},
		{"unsigned", edited(func(e *sealed) { e.Signatures = nil }), signer.ErrUnsigned, "envelope: not signed"},
		{"by another key", seal(t, "good", other), signer.ErrNotAccepted,
			"envelope is not signed by the key given (" + accepted.Key().Fingerprint() + "); it claims to be signed by " + other.Key().Fingerprint()},
		{"by a key without a name", edited(func(e *sealed) { e.Signatures = []sealedSign{theirs("")} }), signer.ErrNotAccepted,
			"envelope is not signed by the key given (" + accepted.Key().Fingerprint() + ")"},
		{"by a key with a false name", edited(func(e *sealed) { e.Signatures = []sealedSign{theirs(accepted.Key().Fingerprint())} }), signer.ErrInvalid, "claims to be by key"},
		{"payload changed", edited(func(e *sealed) { e.Payload = "Z29vZQ==" }), signer.ErrInvalid, "claims to be by key"},
		{"payload not base64", edited(func(e *sealed) { e.Payload = "%" }), signer.ErrInvalid, "payload is not base64"},
		{"signature flipped", edited(func(e *sealed) { e.Signatures[0].Sig = flipSignature(t, e.Signatures[0].Sig) }), signer.ErrInvalid, "claims to be by key"},
		{"signature empty", edited(func(e *sealed) { e.Signatures[0].Sig = "" }), signer.ErrInvalid, "signature is not base64"},
		{"type changed", edited(func(e *sealed) { e.PayloadType = "text/plain" }), signer.ErrInvalid, `payload is of type "text/plain", want "` + noteType + `"`},
		{"beyond the number looked at", edited(func(e *sealed) { e.Signatures = append(slices.Repeat([]sealedSign{theirs("")}, 64), e.Signatures...) }), signer.ErrNotAccepted, ""},
		{"no JSON", []byte("good"), signer.ErrInvalid, ""},
		{"cut off", good[:len(good)/2], signer.ErrInvalid, ""},
		{"two envelopes", append(bytes.Clone(good), good...), signer.ErrInvalid, ""},
		{"a bundle's words", []byte(`{"payloadType":1,"signatures":{}}`), signer.ErrInvalid, ""},
		{"empty", nil, signer.ErrInvalid, ""},
		{"too large", append(bytes.Clone(good), bytes.Repeat([]byte(" "), signer.MaxEnvelopeBytes)...), signer.ErrInvalid, "the limit is 33554432"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			payload, key, err := signer.Open(tt.raw, noteType, []*signer.Key{accepted.Key()})
			if tt.want == nil {
				if err != nil || string(payload) != "good" || key.Fingerprint() != accepted.Key().Fingerprint() {
					t.Errorf("Open = %q, %v, %v, want the payload and the accepted key", payload, key, err)
				}
				return
			}
			if payload != nil || key != nil || !errors.As(err, new(*signer.EnvelopeError)) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Open = %q, %v, %v, want an *EnvelopeError alone that says %q", payload, key, err, tt.says)
			}
			for _, verdict := range []error{signer.ErrUnsigned, signer.ErrNotAccepted, signer.ErrInvalid} {
				if errors.Is(err, verdict) != (verdict == tt.want) {
					t.Errorf("Open = %v, want %v", err, tt.want)
				}
			}
		})
	}
	if _, _, err := signer.Open(good, noteType, nil); !errors.Is(err, signer.ErrNotAccepted) {
		t.Errorf("Open without keys = %v, want %v", err, signer.ErrNotAccepted)
	}
}

// Every kind of key signs and verifies, and the key returned is the one that did.
func TestOpenSaysWhichKey(t *testing.T) {
	t.Parallel()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rivest, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var keys []*signer.Key
	var signers []*signer.Signer
	for _, private := range []crypto.Signer{edwards, rivest, large} {
		s := wrap(t, private)
		keys, signers = append(keys, s.Key()), append(signers, s)
	}
	for _, s := range signers {
		if _, key, err := signer.Open(seal(t, "note", s), noteType, keys); err != nil || key != s.Key() {
			t.Errorf("Open = %v, %v, want %s", key, err, s.Key())
		}
	}
}

func TestOpenUnverified(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t), newSigner(t)
	raw := editEnvelope(t, seal(t, "note", one), func(e *sealed) {
		e.Payload = base64.StdEncoding.EncodeToString([]byte("changed"))
		e.Signatures = append(e.Signatures, sealedSign{two.Key().Fingerprint(), "AAAA"}, sealedSign{two.Key().Fingerprint(), "AAAA"},
			sealedSign{"\x1b[2J", "AAAA"}, sealedSign{"sha512:" + strings.Repeat("0", 128), "AAAA"})
	})
	want := []string{one.Key().Fingerprint(), two.Key().Fingerprint()}
	slices.Sort(want)
	payload, claimed, err := signer.OpenUnverified(raw, noteType)
	if err != nil || string(payload) != "changed" || cmp.Diff(want, claimed) != "" {
		t.Errorf("OpenUnverified = %q, %q, %v, want the changed payload and %q", payload, claimed, err, want)
	}
	if payload, _, err := signer.OpenUnverified(raw, "text/plain"); payload != nil || !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("OpenUnverified of another type = %q, %v, want %v", payload, err, signer.ErrInvalid)
	}
}

// FuzzOpen must never open anything but what was sealed.
func FuzzOpen(f *testing.F) {
	s := newSigner(f)
	good := seal(f, "note", s)
	f.Add(good)
	f.Add(editEnvelope(f, good, func(e *sealed) { e.Payload = "" }))
	f.Add(editEnvelope(f, good, func(e *sealed) { e.Signatures = append(e.Signatures, e.Signatures...) }))
	f.Add([]byte(fmt.Sprintf(`{"payloadType":%q,"payload":"","signatures":[null,{"sig":null}]}`, noteType)))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		payload, key, err := signer.Open(raw, noteType, []*signer.Key{s.Key()})
		if err != nil {
			if !isVerdict(err) || payload != nil || key != nil {
				t.Errorf("Open(%q) = %q, %v, %v, want a verdict alone", raw, payload, key, err)
			}
			return
		}
		if string(payload) != "note" {
			t.Errorf("Open(%q) = %q, which was never sealed", raw, payload)
		}
		if again, _, err := signer.OpenUnverified(raw, noteType); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("OpenUnverified(%q) = %q, %v, want what Open gives", raw, again, err)
		}
	})
}
