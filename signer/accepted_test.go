package signer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

const typeSPDX = "https://spdx.dev/Document"

// However many identities a certificate claims, it costs one verification by each root.
func TestCertificateChecks(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	root, other := parseRoot(t, sigstore.TrustedRoot(t, everything)), parseRoot(t, sigstoretest.New(t).TrustedRoot(t, everything))
	twin := parseRoot(t, root.JSON())
	among := func(roots ...*signer.Root) (all []signer.Identity) {
		for i := range 100 {
			all = append(all, signer.Identity{Issuer: issuer, SubjectRegexp: fmt.Sprintf("release@.*|%d", i), Root: roots[i%len(roots)]})
		}
		return all
	}
	stranger := accept(other)
	stranger.Subject = "mallory@acme.example"
	s := newScene(t)
	src := newMemory()
	const bundles = 5
	for range bundles {
		src.attach(t, s.index, sigstore.Bundle(t, release, s.index.Digest, sigstoretest.SignType, nil))
		src.attach(t, s.index, sigstore.Bundle(t, release, s.index.Digest, typeSPDX, []byte("{}")))
	}
	for _, tt := range []struct {
		name       string
		identities []signer.Identity
		left       int
		// checks are those made, and good is how many bundles were accepted.
		checks, good int
		more         bool // it is said that there are more
	}{
		{name: "one root", identities: among(root), left: 1000, checks: bundles, good: bundles},
		{name: "one root, read twice", identities: among(root, twin), left: 1000, checks: bundles, good: bundles},
		{name: "two roots", identities: among(other, root), left: 1000, checks: 2 * bundles, good: bundles},
		{name: "a root of somebody else", identities: append(among(root), stranger), left: 1000, checks: bundles, good: bundles},
		{name: "somebody else", identities: []signer.Identity{stranger}, left: 1000},
		{name: "a wrong root", identities: among(other), left: 1000, checks: bundles},
		{name: "just enough", identities: among(root), left: bundles, checks: bundles, good: bundles},
		{name: "too many", identities: among(root), left: 3, checks: 3, good: 3, more: true},
		{name: "too many that are wrong", identities: among(other), left: 3, checks: 3, more: true},
		{name: "none", identities: among(root), more: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := signer.Counted{Left: tt.left}
			evidence, err := c.Verify(t.Context(), src, s.index, tt.identities...)
			good, said := 0, ""
			if evidence != nil {
				good, said = len(evidence.Signatures), fmt.Sprint(evidence.Rejected)
			}
			if failed := (*signer.VerifyError)(nil); errors.As(err, &failed) {
				if said = fmt.Sprint(failed.Rejected); failed.More != tt.more {
					t.Errorf("Verify() = %v, More is %t", err, failed.More)
				}
			}
			if made := tt.left - c.Left; made != tt.checks || good != tt.good || strings.Contains(said, "certificates are verified") != tt.more {
				t.Errorf("Verify() made %d checks and accepted %d, want %d and %d: %s", made, good, tt.checks, tt.good, said)
			}
			c.Left, good = tt.left, 0
			list, errs := c.Attestations(t.Context(), src, s.index, tt.identities...)
			for _, a := range list {
				if a.Verified {
					good++
				}
			}
			said = fmt.Sprint(errs)
			if made := tt.left - c.Left; made != tt.checks || good != tt.good || strings.Contains(said, "certificates are verified") != tt.more {
				t.Errorf("Attestations() made %d checks and accepted %d, want %d and %d: %s", made, good, tt.checks, tt.good, said)
			}
		})
	}
}

// Where a manifest has many bundles no more are looked at than in many manifests.
func TestAttestationsInFewManifests(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	src := newMemory()
	desc := attachBundle(t, src, s.index, attestationOf(t, s, s.index, typeReport))
	var m ocispec.Manifest
	if err := json.Unmarshal(fetch(t, src, desc), &m); err != nil {
		t.Fatal(err)
	}
	bundle := m.Layers
	for _, n := range []int{150, 151} {
		m.Layers = slices.Repeat(bundle, n)
		desc = pushJSON(t, src, m.MediaType, m)
		desc.ArtifactType = typeBundle
		src.referrers = append(src.referrers, desc)
	}
	list, err := signer.Attestations(t.Context(), src, s.index, nil)
	if len(list) != 256 || !errors.Is(err, signer.ErrNotAccepted) || !strings.Contains(err.Error(), ": 45 more in manifest sha256:") {
		t.Errorf("Attestations() = %d, %v, want 256 of 301", len(list), err)
	}
}

// What two roots bear out counts for an identity by either: a root is followed by one
// that has an authority of it.
func TestPolicyRootsInCommon(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	s := newScene(t)
	attachBundle(t, s.repo, s.index, sigstore.Bundle(t, release, s.index.Digest, sigstoretest.SignType, nil))
	attachBundle(t, s.repo, s.index, sigstore.Bundle(t, release, s.index.Digest, typeSPDX, []byte("{}")))
	roots := rootsYAML(map[string][]byte{
		"old": sigstore.TrustedRoot(t, everything), "new": sigstore.TrustedRoot(t, sigstoretest.Parts{Log: true}),
		"foreign": sigstoretest.New(t).TrustedRoot(t, everything),
	})
	nobody := map[string]*signer.Key{"acme": newSigner(t).Key()}
	by := func(root string) string {
		return "{issuer: 'https://accounts.example.com', subject: release@acme.example, root: " + root + "}"
	}
	for _, tt := range []struct {
		rule, attestation string
		want              error
	}{
		{rule: "old", attestation: "new"},
		{rule: "new", attestation: "old"},
		{rule: "new", attestation: "new"},
		{rule: "old", attestation: "foreign", want: signer.ErrInvalid},
		{rule: "foreign", attestation: "old", want: signer.ErrInvalid},
	} {
		rule := func(attestations string) *signer.Policy {
			return parsePolicy(t, policyYAML(nobody, nil, roots+"rules: [{ids: ['**'], require: {identities: ["+by(tt.rule)+"], attestations: ["+
				attestations+"{type: spdxjson, identities: ["+by(tt.attestation)+"]}]}}]"))
		}
		if _, err := rule("").Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon); !errors.Is(err, tt.want) {
			t.Errorf("signed for %s and attested for %s: Verify() = %v, want %v", tt.rule, tt.attestation, err, tt.want)
		}
		// Where something is wanted by the other root first, that is asked first.
		_, err := rule("{type: vuln, identities: ["+by(tt.rule)+"]}, ").Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon)
		if err == nil || tt.want == nil && strings.Contains(err.Error(), typeSPDX) {
			t.Errorf("signed for %s and attested for %s: Verify() = %v, want only the scan missing", tt.rule, tt.attestation, err)
		}
	}
}

// Expressions are compiled with the policy, and one that is changed by hand is compiled
// anew.
func TestIdentityCompiled(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	raw := sigstore.TrustedRoot(t, everything)
	p := parsePolicy(t, policyYAML(map[string]*signer.Key{"acme": newSigner(t).Key()}, nil, rootsYAML(map[string][]byte{"public": raw})+
		"rules: [{ids: ['**'], require: {identities: [{issuerRegexp: 'https://.*', subjectRegexp: 'release@.*'}], attestations: [{type: spdx}]}}]"))
	id := p.Rules[0].Identities[0]
	if !id.AreCompiled() || !p.Rules[0].Attestations[0].Identities[0].AreCompiled() {
		t.Error("the expressions of a policy are not compiled")
	}
	src := newMemory()
	s := newScene(t)
	src.attach(t, s.index, sigstore.Bundle(t, release, s.index.Digest, sigstoretest.SignType, nil))
	for _, tt := range []struct {
		name   string
		change func(*signer.Identity)
		want   error
	}{
		{"as it was", func(*signer.Identity) {}, nil},
		{"another expression", func(id *signer.Identity) { id.SubjectRegexp = "qa@.*" }, signer.ErrNotAccepted},
		{"another issuer", func(id *signer.Identity) { id.IssuerRegexp = "http://.*" }, signer.ErrNotAccepted},
		{"a text in its place", func(id *signer.Identity) { id.SubjectRegexp, id.Subject = "", qaSubject }, signer.ErrNotAccepted},
		{"the right text in its place", func(id *signer.Identity) { id.SubjectRegexp, id.Subject = "", subject }, nil},
		{"nothing in its place", func(id *signer.Identity) { id.SubjectRegexp = "" }, signer.ErrNotAccepted},
		{"both", func(id *signer.Identity) { id.Subject = subject }, signer.ErrNotAccepted},
		{"no expression", func(id *signer.Identity) { id.SubjectRegexp = "(" }, signer.ErrNotAccepted},
		{"no root", func(id *signer.Identity) { id.Root = nil }, signer.ErrNotAccepted},
	} {
		changed := id
		tt.change(&changed)
		if _, err := signer.Verify(t.Context(), src, s.index, nil, changed); !errors.Is(err, tt.want) {
			t.Errorf("%s: Verify() = %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := signer.Verify(t.Context(), src, s.index, nil, signer.Identity{}); !errors.Is(err, signer.ErrNotAccepted) {
		t.Errorf("the zero value: Verify() = %v, want %v", err, signer.ErrNotAccepted)
	}
}
