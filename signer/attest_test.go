package signer_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/signer"
)

const typeReport = "https://example.com/report"

func attest(t testing.TB, s *scene, subject ocispec.Descriptor, by *signer.Signer, kind, predicate string) ocispec.Descriptor {
	t.Helper()
	desc, err := signer.Attest(t.Context(), s.repo, subject, kind, []byte(predicate), by, signer.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestAttest(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	other := newSigner(t)
	parts(t, s.repo, s.index, s.accepted)
	first := attest(t, s, s.index, s.accepted, typeReport, `{"passed": true}`)
	if again := attest(t, s, s.index, s.accepted, typeReport, `{"passed": true}`); again.Digest != first.Digest {
		t.Errorf("the same again is %s, before %s", again.Digest, first.Digest)
	}
	attest(t, s, s.index, other, typeReport, `{"passed": false}`)
	attest(t, s, s.image, other, typeReport, `{}`)
	all, err := signer.Attestations(t.Context(), s.repo, s.index, []*signer.Key{s.accepted.Key()})
	if err != nil || len(all) != 2 {
		t.Fatalf("Attestations() = %+v, %v, want two", all, err)
	}
	if a := all[0]; !a.Verified || a.Key != s.accepted.Key().Fingerprint() || a.Manifest.Digest != first.Digest || a.Type != typeReport {
		t.Errorf("the first is %+v, want that of the key given", a)
	}
	if a := all[1]; a.Verified || a.Key != other.Key().Fingerprint() {
		t.Errorf("the second is %+v, want one that only claims its key", a)
	}
	// It is no signature: what is not signed stays so.
	if _, err := signer.Verify(t.Context(), s.repo, s.index, []*signer.Key{other.Key()}); !errors.Is(err, signer.ErrNotAccepted) {
		t.Errorf("Verify() = %v, want that the key did not sign", err)
	}
	if _, err := signer.Verify(t.Context(), s.repo, s.image, []*signer.Key{other.Key()}); !errors.Is(err, signer.ErrUnsigned) {
		t.Errorf("Verify() = %v, want it unsigned", err)
	}
}

func TestAttestRefuses(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	absent := s.index
	absent.Digest = "sha256:" + "0000000000000000000000000000000000000000000000000000000000000000"
	tests := []struct {
		name            string
		subject         ocispec.Descriptor
		kind, predicate string
		want            error
	}{
		{"nothing there", absent, typeReport, `{}`, errdef.ErrNotFound},
		{"a signature", s.index, "https://sigstore.dev/cosign/sign/v1", `{}`, nil},
		{"no JSON", s.index, typeReport, `passed`, nil},
		{"a list", s.index, typeReport, `[]`, nil},
		{"null", s.index, typeReport, `null`, nil},
		{"too large", s.index, typeReport, `{"x":"` + strings.Repeat("x", signer.MaxPredicateBytes) + `"}`, nil},
	}
	for _, tt := range tests {
		_, err := signer.Attest(t.Context(), s.repo, tt.subject, tt.kind, []byte(tt.predicate), s.accepted, signer.SignOptions{})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: Attest() = %v", tt.name, err)
		}
	}
	if list, err := signer.Attestations(t.Context(), s.repo, s.index, nil); err != nil || len(list) != 0 {
		t.Errorf("Attestations() = %+v, %v, want none", list, err)
	}
}

// A statement about something else, one that was changed, and what is none at all are
// told of, and do not hide a sound one.
func TestAttestationsHostile(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	src := newMemory()
	sound := attestationOf(t, s, s.index, typeReport)
	src.attach(t, s.index, sound)
	src.attach(t, s.index, attestationOf(t, s, s.image, typeReport))
	src.attach(t, s.index, flipBundleSignature(t, attestationOf(t, s, s.index, "https://example.com/other")))
	src.attach(t, s.index, []byte(`{"mediaType":"x"}`))
	list, err := signer.Attestations(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()})
	if len(list) != 1 || !list[0].Verified || !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Attestations() = %+v, %v, want the sound one, and what is wrong", list, err)
	}
	for _, text := range []string{"about another subject", "claims to be by key"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("Attestations() = %v, want it to say %q", err, text)
		}
	}
}

// Many manifests that name one large bundle cost no more than a few of its readings.
func TestAttestationsAreBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	src := newMemory()
	large := append(attestationOf(t, s, s.index, typeReport), make([]byte, 15<<20)...)
	for range 5 {
		desc := attachBundle(t, src, s.index, large)
		desc.ArtifactType = typeBundle
		src.referrers = append(src.referrers, desc)
		large = append(large, ' ') // another manifest
	}
	_, err := signer.Attestations(t.Context(), src, s.index, nil)
	if got := strings.Count(err.Error(), "was not looked at"); got != 3 {
		t.Errorf("Attestations() = %.500v, want 3 of 5 not looked at", err)
	}
}

// attestationOf makes the bundle of an attestation that is attached nowhere.
func attestationOf(t testing.TB, s *scene, subject ocispec.Descriptor, kind string) []byte {
	t.Helper()
	elsewhere := newRepository(t, true)
	pushRelease(t, elsewhere, "1.0.0")
	desc, err := signer.Attest(t.Context(), elsewhere, subject, kind, []byte(`{"passed": true}`), s.accepted, signer.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := content.FetchAll(t.Context(), elsewhere, desc)
	if err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	if raw, err = content.FetchAll(t.Context(), elsewhere, manifest.Layers[0]); err != nil {
		t.Fatal(err)
	}
	return raw
}
