package signer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/cosign/v2/pkg/types"

	"github.com/sealift/sealift/internal/document"
)

const (
	maxPolicyRoots      = 16
	maxRuleIdentities   = 100
	maxRuleAttestations = 16
)

type fileRoot struct {
	JSON string `json:"json"`
}

type fileIdentity struct {
	Issuer        string `json:"issuer"`
	IssuerRegexp  string `json:"issuerRegexp"`
	Subject       string `json:"subject"`
	SubjectRegexp string `json:"subjectRegexp"`
	Root          string `json:"root"`
}

type fileAttestation struct {
	Type       string         `json:"type"`
	Keys       []string       `json:"keys"`
	Identities []fileIdentity `json:"identities"`
}

// RequiredAttestation is a statement about the root of a release that a rule wants.
type RequiredAttestation struct {
	// Type is the URI of its predicate.
	Type string
	// Keys and Identities are whose it may be: names of keys as in a rule, and at
	// least one of both.
	Keys       []string
	Identities []Identity
}

func (p *Policy) addRoots(f *document.Findings, roots map[string]fileRoot) {
	if len(roots) > maxPolicyRoots {
		f.Add("trustedRoots", "want at most %d trusted roots, got %d", maxPolicyRoots, len(roots))
		return
	}
	same := map[string]string{} // by fingerprint
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		field := document.Join("trustedRoots", name)
		if !isKeyName(name) {
			f.Add(field, "want a name of letters, digits, '.', '_' and '-', at most 64")
		}
		r, err := ParseRoot([]byte(roots[name].JSON))
		if err != nil {
			f.Add(document.Join(field, "json"), "%v", err)
			continue
		}
		if other, twice := same[r.Fingerprint()]; twice {
			f.Add(field, "is the same root as %s", other)
		}
		same[r.Fingerprint()] = name
		p.Roots[name] = r
	}
}

// identities checks the identities of a field. Known are the roots of the policy as
// they are written: one that could not be parsed is reported once.
func (p *Policy) identities(f *document.Findings, field string, list []fileIdentity, known map[string]fileRoot) (all []Identity) {
	if len(list) > maxRuleIdentities {
		f.Add(field, "want at most %d identities, got %d", maxRuleIdentities, len(list))
		return nil
	}
	seen := map[fileIdentity]bool{}
	for i, id := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		id.Root = p.rootName(f, at, id.Root, known)
		if seen[id] {
			f.Add(at, "is named twice")
		}
		seen[id] = true
		for _, m := range []struct{ name, text, expr string }{{"issuer", id.Issuer, id.IssuerRegexp}, {"subject", id.Subject, id.SubjectRegexp}} {
			if _, err := compileText(m.text, m.expr, nil); err != nil && m.expr != "" {
				f.Add(document.Join(at, m.name+"Regexp"), "%v", err)
			} else if err != nil {
				f.Add(document.Join(at, m.name), "%v", err)
			}
		}
		// What is wrong with it was said, and so for the whole policy.
		one, _ := Identity{Issuer: id.Issuer, IssuerRegexp: id.IssuerRegexp, Subject: id.Subject, SubjectRegexp: id.SubjectRegexp, Root: p.Roots[id.Root]}.compiled()
		all = append(all, one)
	}
	return all
}

// rootName returns the name of the root that an identity is believed by: where there
// is one root, nobody has to say which.
func (p *Policy) rootName(f *document.Findings, at, name string, known map[string]fileRoot) string {
	field := document.Join(at, "root")
	if _, is := known[name]; name != "" && !is {
		f.Add(field, "no root %q among the trusted roots of the policy%s", name, document.Suggest(f, name, known))
	}
	if name != "" {
		return name
	}
	if len(known) != 1 {
		f.Add(field, "say which of the %d trusted roots of the policy", len(known))
		return ""
	}
	return slices.Collect(maps.Keys(known))[0]
}

// attestations checks what a rule wants beside signatures. Whoever may sign under the
// rule may attest, unless the attestation says who.
func (p *Policy) attestations(f *document.Findings, field string, rule Rule, list []fileAttestation, file policyFile) (all []RequiredAttestation) {
	if len(list) > maxRuleAttestations {
		f.Add(field, "want at most %d attestations, got %d", maxRuleAttestations, len(list))
		return nil
	}
	for i, a := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		uri, err := PredicateType(a.Type)
		if err != nil {
			f.Add(document.Join(at, "type"), "%v", err)
		} else if uri == types.CosignSignPredicateType {
			f.Add(document.Join(at, "type"), "is that of signatures, which keys and identities ask for")
		}
		if slices.ContainsFunc(all, func(other RequiredAttestation) bool { return other.Type == uri }) {
			f.Add(document.Join(at, "type"), "is wanted twice")
		}
		wanted := RequiredAttestation{Type: uri, Keys: rule.Keys, Identities: rule.Identities}
		if len(a.Keys)+len(a.Identities) > 0 {
			wanted.Keys = keyNames(f, document.Join(at, "keys"), a.Keys, file.Keys)
			wanted.Identities = p.identities(f, document.Join(at, "identities"), a.Identities, file.TrustedRoots)
		}
		all = append(all, wanted)
	}
	return all
}

// keyNames checks names of keys.
func keyNames(f *document.Findings, field string, names []string, known map[string]fileKey) []string {
	var all []string
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch _, is := known[name]; {
		case !is:
			f.Add(at, "no key %q among the keys of the policy%s", name, document.Suggest(f, name, known))
		case slices.Contains(all, name):
			f.Add(at, "is named twice")
		}
		all = append(all, name)
	}
	return all
}

// identified returns the identities of a rule that the certificates in the evidence are
// of, as text, sorted. One stands for one signer, and a signer for one: a signature by
// one person does not make two where expressions overlap. Of the ways to have it so one
// is found in which as many count as can.
func (r Rule) identified(e *Evidence) (signed []string) {
	identities := compiled(r.Identities)
	holders := make([]*signerFit, len(identities))
	for _, c := range e.Certificates() {
		fit := &signerFit{identities: make([]bool, len(identities))}
		for i, id := range identities {
			fit.identities[i] = slices.ContainsFunc(e.Signatures, func(s Signature) bool {
				return s.Certificate != nil && sameSigner(c, *s.Certificate) == 0 && id.vouched(s.Certificate)
			})
		}
		if fit.place(holders, make([]bool, len(identities))) {
			signed = append(signed, c.String())
		}
	}
	return signed
}

// signerFit says which of the identities of a rule a signer can stand for.
type signerFit struct{ identities []bool }

// place has the signer stand for an identity, moving those who hold one to others where
// need be, and reports whether it could: an augmenting path of a bipartite matching.
// Nobody loses a place. Tried are the identities for which that was tried.
func (s *signerFit) place(holders []*signerFit, tried []bool) bool {
	for i, fits := range s.identities {
		if !fits || tried[i] {
			continue
		}
		tried[i] = true
		if holders[i] == nil || holders[i].place(holders, tried) {
			holders[i] = s
			return true
		}
	}
	return false
}

// vouched reports whether a verified certificate is that of the identity.
func (i Identity) vouched(c *Certificate) bool {
	return slices.Contains(c.roots, i.Root.Fingerprint()) && i.names(c)
}

// attested returns the attestations that a rule wants. Why one is not there is an error
// that is ErrNotAccepted, or says what was found wrong in its place.
func (p *Policy) attested(ctx context.Context, src Source, subject ocispec.Descriptor, rule Rule, now time.Time) ([]Attestation, []string, error) {
	if len(rule.Attestations) == 0 {
		return nil, nil, nil
	}
	var wanted []string
	var keys []*Key
	var identities []Identity
	for _, a := range rule.Attestations {
		wanted = append(wanted, a.Type)
		for _, name := range a.Keys {
			if why, _ := p.unusable(name, now); why == "" {
				keys = append(keys, p.Keys[name].Key)
			}
		}
		for _, id := range a.Identities { // many attestations are wanted of the same
			if !slices.Contains(identities, id) {
				identities = append(identities, id)
			}
		}
	}
	found, errs := listAttestations(ctx, src, subject, wanted, newAccepted(keys, identities))
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("verify attestations of %s: %w", subject.Digest, context.Cause(ctx))
	}
	var counted []Attestation
	var reasons []string
	verdict := ErrUnsigned
	for _, want := range rule.Attestations {
		want.Identities = compiled(want.Identities)
		i := slices.IndexFunc(found, func(a Attestation) bool { return a.Verified && a.Type == want.Type && p.by(want, a) })
		if i >= 0 {
			counted = append(counted, found[i])
			continue
		}
		verdict = worse(verdict, ErrNotAccepted)
		reasons = append(reasons, fmt.Sprintf("it wants an attestation of type %s by %s", want.Type, want.signers()))
	}
	if len(reasons) == 0 {
		return counted, nil, nil
	}
	for _, err := range errs {
		verdict = worse(verdict, err)
		reasons = append(reasons, err.Error())
	}
	return nil, reasons, verdict
}

// by reports whether a verified attestation is by one whose word is wanted.
func (p *Policy) by(want RequiredAttestation, a Attestation) bool {
	if a.Certificate != nil {
		return slices.ContainsFunc(want.Identities, func(id Identity) bool { return id.vouched(a.Certificate) })
	}
	return slices.ContainsFunc(want.Keys, func(name string) bool { return p.Keys[name].Fingerprint() == a.Key })
}

// sound reports whether an attestation is wanted of somebody.
func (a RequiredAttestation) sound(p *Policy) bool {
	unknown := func(name string) bool { return p.Keys[name].Key == nil }
	return a.Type != "" && len(a.Keys)+len(a.Identities) > 0 && !slices.ContainsFunc(a.Keys, unknown) && !slices.ContainsFunc(a.Identities, Identity.unsound)
}

func (i Identity) unsound() bool { return i.Check() != nil }

// signers names the keys and identities.
func (a RequiredAttestation) signers() string {
	return strings.Join(signerNames(a.Keys, a.Identities), " or ")
}

func signerNames(keys []string, identities []Identity) []string {
	all := slices.Clone(keys)
	for _, id := range identities {
		all = append(all, id.String())
	}
	return all
}

// unusable says why signatures by a key do not count at a time, "" where they do; clock
// is a *ClockError where that is why.
func (p *Policy) unusable(name string, now time.Time) (why string, clock error) {
	key := p.Keys[name]
	if reason, revoked := p.Revoked[key.Fingerprint()]; revoked {
		return fmt.Sprintf("key %s is revoked: %s", name, reason), nil
	}
	if clock = key.Window.check(now); clock != nil {
		why = fmt.Sprintf("key %s is %v", name, clock)
	}
	return why, clock
}
