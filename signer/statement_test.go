package signer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/sealift/sealift/signer"
)

const stated = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"x","digest":{"sha256":"` +
	`e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}],"predicateType":"https://example.com/x/v1","predicate":{}}`

// What is sealed is what cosign's own library verifies, and what can be checked by hand.
func TestSealStatement(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := wrap(t, private)
	raw, err := signer.SealStatement([]byte(stated), s)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := signer.SealStatement([]byte(stated), s); err != nil || !bytes.Equal(raw, again) {
		t.Errorf("SealStatement made %s and then %s, %v, want the same", raw, again, err)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	verifier, err := signature.LoadECDSAVerifier(&private.PublicKey, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := root.NewTrustedRootFromJSON(signer.TrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hex.DecodeString("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if err != nil {
		t.Fatal(err)
	}
	opts := &cosign.CheckOpts{SigVerifier: verifier, IgnoreTlog: true, Offline: true, TrustedMaterial: nobody}
	if _, err := cosign.VerifyNewBundle(t.Context(), opts, verify.WithArtifactDigest("sha256", sum), &b); err != nil {
		t.Errorf("cosign does not verify it: %v", err)
	}
	sig := b.GetDsseEnvelope().GetSignatures()[0].GetSig()
	hash := sha256.Sum256([]byte("DSSEv1 28 application/vnd.in-toto+json 213 " + stated))
	if len(stated) != 213 || !ecdsa.VerifyASN1(&private.PublicKey, hash[:], sig) {
		t.Errorf("the signature is not of the pre-authentication encoding of %d bytes", len(stated))
	}
	if _, err := signer.SealStatement(make([]byte, signer.MaxEnvelopeBytes*3/4), s); err == nil {
		t.Error("SealStatement made a bundle that OpenStatement refuses")
	}
}

func TestOpenStatement(t *testing.T) {
	t.Parallel()
	accepted, other := newSigner(t), newSigner(t)
	sealed := func(s *signer.Signer) string {
		raw, err := signer.SealStatement([]byte(stated), s)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	good := sealed(accepted)
	edited := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	payload := base64.StdEncoding.EncodeToString([]byte(stated))
	forged := base64.StdEncoding.EncodeToString([]byte(strings.Replace(stated, `"x"`, `"y"`, 1)))
	var parts struct {
		Material struct {
			PublicKey struct{ Hint string }
		} `json:"verificationMaterial"`
		Envelope struct{ Signatures []struct{ Sig string } } `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal([]byte(good), &parts); err != nil {
		t.Fatal(err)
	}
	sig := parts.Envelope.Signatures[0].Sig
	tests := []struct {
		name, raw string
		want      error
		says      string
	}{
		{"sealed", good, nil, ""},
		{"without a hint", edited(parts.Material.PublicKey.Hint, ""), nil, ""},
		{"by another key", sealed(other), signer.ErrNotAccepted, "it claims to be signed by " + other.Key().Fingerprint()},
		{"a statement forged after signing", edited(payload, forged), signer.ErrInvalid, "claims to be by key"},
		{"a forged one that claims nobody", strings.Replace(edited(payload, forged), parts.Material.PublicKey.Hint, "", 1), signer.ErrNotAccepted, "not signed by the key given"},
		{"signature flipped", edited(sig, flipSignature(t, sig)), signer.ErrInvalid, "claims to be by key"},
		{"another type of payload", edited("application/vnd.in-toto+json", "text/plain"), signer.ErrInvalid, `payload is of type "text/plain"`},
		{"another type of bundle", edited("v0.3", "v0.2"), signer.ErrInvalid, "bundle is of type"},
		{"a field twice", edited(`"dsseEnvelope":{`, `"dsseEnvelope":{"payload":"AAAA",`), signer.ErrInvalid, "not written as it is signed"},
		{"an object twice", edited(`"dsseEnvelope":`, `"dsseEnvelope":{},"dsseEnvelope":`), signer.ErrInvalid, "not written as it is signed"},
		{"a field by another case", edited(`"payload":`, `"PAYLOAD":`), signer.ErrInvalid, "not written as it is signed"},
		{"an unknown field", edited(`{"mediaType"`, `{"new":1,"mediaType"`), signer.ErrInvalid, `unknown field "new"`},
		{"more behind its end", good + good, signer.ErrInvalid, "not written as it is signed"},
		{"a blank more", edited(`{"mediaType"`, `{ "mediaType"`), signer.ErrInvalid, "not written as it is signed"},
		{"base64 with an end of line in it", edited(payload, payload[:8]+`\n`+payload[8:]), signer.ErrInvalid, "payload is not base64"},
		{"two signatures", edited(`[{"sig":`, `[{"sig":"AAAA"},{"sig":`), signer.ErrInvalid, "with 2 signatures"},
		{"no signature", edited(`{"sig":"`+sig+`"}`, ""), signer.ErrInvalid, "with 0 signatures"},
		{"cut off", good[:len(good)/2], signer.ErrInvalid, "unexpected EOF"},
		{"too large", good + strings.Repeat(" ", signer.MaxEnvelopeBytes), signer.ErrInvalid, "the limit is 33554432"},
		{"empty", "", signer.ErrInvalid, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			statement, key, err := signer.OpenStatement([]byte(tt.raw), []*signer.Key{accepted.Key()})
			if tt.want == nil {
				if err != nil || string(statement) != stated || key.Fingerprint() != accepted.Key().Fingerprint() {
					t.Errorf("OpenStatement = %q, %v, %v, want the statement and the accepted key", statement, key, err)
				}
				return
			}
			if statement != nil || key != nil || !errors.As(err, new(*signer.EnvelopeError)) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("OpenStatement = %q, %v, %v, want an *EnvelopeError alone that says %q", statement, key, err, tt.says)
			}
			for _, verdict := range []error{signer.ErrUnsigned, signer.ErrNotAccepted, signer.ErrInvalid} {
				if errors.Is(err, verdict) != (verdict == tt.want) {
					t.Errorf("OpenStatement = %v, want %v", err, tt.want)
				}
			}
		})
	}
	statement, claimed, err := signer.OpenStatementUnverified([]byte(edited(payload, forged)))
	if err != nil || !strings.Contains(string(statement), `"y"`) || claimed != accepted.Key().Fingerprint() {
		t.Errorf("OpenStatementUnverified = %q, %q, %v, want what is there", statement, claimed, err)
	}
	if statement, claimed, err := signer.OpenStatementUnverified([]byte(good + "x")); statement != nil || claimed != "" || !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("OpenStatementUnverified = %q, %q, %v, want %v alone", statement, claimed, err, signer.ErrInvalid)
	}
}

// A key that signs the message itself, and not its hash, does too.
func TestSealStatementEd25519(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := wrap(t, private)
	raw, err := signer.SealStatement([]byte(stated), s)
	if err != nil {
		t.Fatal(err)
	}
	if statement, _, err := signer.OpenStatement(raw, []*signer.Key{s.Key()}); err != nil || string(statement) != stated {
		t.Errorf("OpenStatement = %q, %v", statement, err)
	}
}

// FuzzOpenStatement must never open anything but what was sealed, byte for byte.
func FuzzOpenStatement(f *testing.F) {
	s := newSigner(f)
	good, err := signer.SealStatement([]byte(stated), s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"payload"`), []byte(`"payload":"","payload"`), 1))
	f.Add(bytes.Replace(good, []byte(`"hint":"`), []byte(`"hint":"\u0041`), 1))
	f.Add([]byte(`{"mediaType":"` + typeBundle + `","dsseEnvelope":{"signatures":[null]}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		statement, key, err := signer.OpenStatement(raw, []*signer.Key{s.Key()})
		if err != nil {
			if !isVerdict(err) || statement != nil || key != nil {
				t.Errorf("OpenStatement(%q) = %q, %v, %v, want a verdict alone", raw, statement, key, err)
			}
			return
		}
		if string(statement) != stated {
			t.Errorf("OpenStatement(%q) = %q, which was never sealed", raw, statement)
		}
	})
}
