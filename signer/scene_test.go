package signer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sealift/sealift/signer"
)

var errSource = errors.New("stick pulled out")

// scene is a release with one accepted key, and sound signatures by that key
// that are attached nowhere yet.
type scene struct {
	repo          *remote.Repository
	index, image  ocispec.Descriptor
	accepted      *signer.Signer
	private       *ecdsa.PrivateKey // of accepted
	sound         payload
	bundle        []byte
	foreign       payload // of another release, by the accepted key
	foreignBundle []byte
}

func newScene(t testing.TB) *scene {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{repo: newRepository(t, true), private: private, accepted: wrap(t, private)}
	s.index, s.image = pushRelease(t, s.repo, "1.0.0")
	elsewhere := newRepository(t, true)
	same, _ := pushRelease(t, elsewhere, "1.0.0")
	s.sound, s.bundle = parts(t, elsewhere, same, s.accepted)
	other, _ := pushRelease(t, elsewhere, "6.6.6")
	s.foreign, s.foreignBundle = parts(t, elsewhere, other, s.accepted)
	return s
}

// sign makes a payload that is signed by the accepted key, whatever it says.
func (s *scene) sign(t testing.TB, raw []byte) payload {
	t.Helper()
	sum := sha256.Sum256(raw)
	sig, err := ecdsa.SignASN1(rand.Reader, s.private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return payload{raw: raw, sig: base64.StdEncoding.EncodeToString(sig)}
}

// flipSignature changes one bit of a base64 signature.
func flipSignature(t testing.TB, sig string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(sig)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	return base64.StdEncoding.EncodeToString(raw)
}

// editBundle changes the envelope of a bundle.
func editBundle(t testing.TB, raw []byte, edit func(bundle, envelope map[string]any)) []byte {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	edit(b, b["dsseEnvelope"].(map[string]any))
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func flipBundleSignature(t testing.TB, raw []byte) []byte {
	return editBundle(t, raw, func(_, envelope map[string]any) {
		first := envelope["signatures"].([]any)[0].(map[string]any)
		first["sig"] = flipSignature(t, first["sig"].(string))
	})
}

func checkRefused(t *testing.T, err, want error, subject ocispec.Descriptor, rejected int, reason string) {
	t.Helper()
	for _, sentinel := range []error{signer.ErrUnsigned, signer.ErrNotAccepted, signer.ErrInvalid, errSource} {
		if got := errors.Is(err, sentinel); got != errors.Is(want, sentinel) {
			t.Errorf("Verify() = %v, is %q: %v", err, sentinel, got)
		}
	}
	var verifyErr *signer.VerifyError
	if !errors.As(err, &verifyErr) {
		t.Fatalf("Verify() = %v, want a *VerifyError", err)
	}
	if got := len(verifyErr.Rejected); got != rejected {
		t.Errorf("Verify() rejected %d, want %d: %v", got, rejected, err)
	}
	for _, part := range []string{subject.Digest.String(), reason} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("Verify() = %v, want it to say %q", err, part)
		}
	}
}

func checkAccepted(t *testing.T, evidence *signer.Evidence, s *scene, forms []signer.Form, rejected int) {
	t.Helper()
	var got []signer.Form
	for _, sig := range evidence.Signatures {
		got = append(got, sig.Form)
		if sig.Key != s.accepted.Key().Fingerprint() {
			t.Errorf("key = %s, want %s", sig.Key, s.accepted.Key())
		}
		if ok, err := s.repo.Exists(t.Context(), sig.Manifest); !ok {
			t.Errorf("manifest %v of the evidence is not there: %v", sig.Manifest, err)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(forms) {
		t.Errorf("accepted %v, want %v", got, forms)
	}
	if len(evidence.Rejected) != rejected {
		t.Errorf("rejected %+v, want %d", evidence.Rejected, rejected)
	}
	if evidence.Subject.Digest != s.index.Digest {
		t.Errorf("subject = %s, want %s", evidence.Subject.Digest, s.index.Digest)
	}
	if keys := evidence.Keys(); len(keys) != 1 || keys[0] != s.accepted.Key().Fingerprint() {
		t.Errorf("Keys() = %v, want the accepted key once", keys)
	}
}
