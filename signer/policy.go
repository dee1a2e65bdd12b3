package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
)

// Policy is a site's statement of whose signatures it accepts for which releases.
// [ParsePolicy] reads it; a rule that is none it would have read accepts nothing. It may
// be used concurrently while nobody changes it.
type Policy struct {
	// Version counts the policies of a site, from 1.
	Version int
	// Keys are those that rules name, by the name they have there.
	Keys map[string]PolicyKey
	// Roots are the trusted roots by which identities in rules are believed, by name.
	Roots map[string]*Root
	// Revoked are the fingerprints of keys that count nowhere, with the reason.
	Revoked map[string]string
	// Rules are in order: the first that is for the id of a release decides on it.
	Rules []Rule
	// Updates says who may replace the policy as a whole.
	Updates Updates
}

// PolicyKey is a key that a policy knows.
type PolicyKey struct {
	*Key
	// Window is when signatures by the key count.
	Window Window
}

// Rule says who must have signed the releases of some ids.
type Rule struct {
	IDs []artifact.IDGlob
	// Keys are names of keys, at least one of them and of Identities; Threshold is how
	// many of both must have signed.
	Keys       []string
	Identities []Identity
	Threshold  int
	// Attestations must be there beside signatures, each by one of its signers.
	Attestations []RequiredAttestation
	// Window is when the rule accepts anything.
	Window Window
}

// Window is a time from NotBefore on, and to NotAfter; zero means without end on
// that side.
type Window struct{ NotBefore, NotAfter time.Time }

// check says on which side of the window a time is.
func (w Window) check(now time.Time) error {
	switch {
	case !w.NotBefore.IsZero() && now.Before(w.NotBefore):
		return &ClockError{Now: now, Bound: w.NotBefore}
	case !w.NotAfter.IsZero() && now.After(w.NotAfter):
		return &ClockError{Now: now, Bound: w.NotAfter, After: true}
	}
	return nil
}

// ClockError says that something is not valid yet, or not any more. Where a clock is
// wrong the clock is to be mended, not the policy.
type ClockError struct {
	Now, Bound time.Time
	// After says that Bound was the end.
	After bool
}

// Error gives both times.
func (e *ClockError) Error() string {
	word := "valid from"
	if e.After {
		word = "valid until"
	}
	return fmt.Sprintf("%s %s, and the clock of this machine says %s", word, e.Bound.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// Decision says which rule of which policy accepted a release.
type Decision struct {
	// Policy is the version of the policy, Rule the number of the rule, from 1, and
	// ID the pattern in it that is for the release. Both are zero where an update of
	// the policy was accepted.
	Policy int    `json:"policy"`
	Rule   int    `json:"rule,omitempty"`
	ID     string `json:"id,omitempty"`
	// Keys are the names of the keys that signed, sorted, Identities are who signed
	// with a certificate, and Threshold is how many of both had to.
	Keys       []string `json:"keys"`
	Identities []string `json:"identities,omitempty"`
	Threshold  int      `json:"threshold"`
}

// Signers returns the names of the keys that signed, and behind them the identities.
func (d *Decision) Signers() []string { return slices.Concat(d.Keys, d.Identities) }

// PolicyError reports a release that a policy does not accept.
type PolicyError struct {
	ID, Version string
	// Rule is the number of the rule that decided, 0 when none is for the id, and
	// Pattern is what in it is for the id.
	Rule    int
	Pattern string
	// Reasons say why not, one sentence each.
	Reasons []string
	// Err is ErrUnsigned, ErrNotAccepted or ErrInvalid, or wraps one or an error of
	// the source.
	Err error
}

// Error names the release, the rule and the reasons.
func (e *PolicyError) Error() string {
	text := fmt.Sprintf("the policy does not accept %s %s: ", e.ID, e.Version)
	if e.Rule == 0 {
		return text + "no rule is for that id"
	}
	return text + fmt.Sprintf("rule %d, for %s: ", e.Rule, e.Pattern) + strings.Join(e.Reasons, "; ")
}

// Unwrap returns Err.
func (e *PolicyError) Unwrap() error { return e.Err }

// Match returns the number of the rule that decides on releases of id, from 1, and the
// pattern in it; 0 when there is none.
func (p *Policy) Match(id string) (rule int, pattern string) {
	for i, r := range p.Rules {
		for _, glob := range r.IDs {
			if glob.Match(id) {
				return i + 1, glob.String()
			}
		}
	}
	return 0, ""
}

// Verify looks for signatures of a release in src, as the function [Verify] does, and
// accepts it if the rule for its id does. The id must be what the subject says of
// itself: a signature of the subject is one of its id too, and a name or a tag is no
// word of the vendor's. The version is for errors alone. Windows are compared with now.
//
// The error is a *PolicyError, which wraps ErrUnsigned, ErrNotAccepted or ErrInvalid as
// those of Verify do, with a *ClockError where a window is the reason, or the error of
// src; else it is that of ctx, wrapped.
func (p *Policy) Verify(ctx context.Context, src Source, subject ocispec.Descriptor, id, version string, now time.Time) (*Evidence, error) {
	number, pattern := p.Match(id)
	refused := &PolicyError{ID: id, Version: version, Rule: number, Pattern: pattern, Err: ErrNotAccepted}
	if number == 0 {
		return nil, refused
	}
	rule := p.Rules[number-1]
	if !p.sound(rule) {
		refused.Reasons = []string{"the rule is none"}
		return nil, refused
	}
	if err := rule.Window.check(now); err != nil {
		refused.Reasons = []string{"the rule is " + err.Error()}
		refused.Err = errors.Join(ErrNotAccepted, err)
		return nil, refused
	}
	evidence, reasons, err := p.signed(ctx, src, subject, rule, now)
	if err == nil {
		evidence.Attestations, reasons, err = p.attested(ctx, src, subject, rule, now)
	}
	if len(reasons) > 0 {
		refused.Reasons, refused.Err = reasons, err
		return nil, refused
	} else if err != nil {
		return nil, err
	}
	evidence.Decision.Rule, evidence.Decision.ID = number, pattern
	return evidence, nil
}

// signed looks for signatures of the subject and counts those that a rule wants. Where
// there are too few, reasons say why not, one sentence each, with the error of a
// PolicyError; any other error comes without.
func (p *Policy) signed(ctx context.Context, src Source, subject ocispec.Descriptor, rule Rule, now time.Time) (_ *Evidence, reasons []string, err error) {
	keys := make([]*Key, len(rule.Keys))
	for i, name := range rule.Keys {
		keys[i] = p.Keys[name].Key
	}
	evidence, err := Verify(ctx, src, subject, keys, rule.Identities...)
	if failed := (*VerifyError)(nil); errors.As(err, &failed) {
		return nil, []string{rule.want(), failed.Error()}, failed
	}
	if err != nil {
		return nil, nil, err
	}
	names, problems, err := p.count(evidence, rule, now)
	identities := rule.identified(evidence)
	if both := slices.Concat(names, identities); len(both) < rule.Threshold {
		reasons = append([]string{rule.want(), fmt.Sprintf("signed by %s", orNobody(both))}, problems...)
		return nil, reasons, errors.Join(ErrNotAccepted, err)
	}
	evidence.Decision = &Decision{Policy: p.Version, Keys: names, Identities: identities, Threshold: rule.Threshold}
	return evidence, nil, nil
}

// sound reports whether a rule wants at least one signature, and no more than it has
// different keys and identities.
func (p *Policy) sound(r Rule) bool {
	known := map[string]bool{}
	for _, name := range r.Keys {
		if p.Keys[name].Key == nil {
			return false
		}
		known[p.Keys[name].Fingerprint()] = true
	}
	if len(known) != len(r.Keys) || slices.ContainsFunc(r.Identities, Identity.unsound) {
		return false
	}
	if slices.ContainsFunc(r.Attestations, func(a RequiredAttestation) bool { return !a.sound(p) }) {
		return false
	}
	return r.Threshold >= 1 && r.Threshold <= len(r.Keys)+len(r.Identities)
}

// count returns the names of the keys whose signatures count, sorted, and moves the
// other signatures of the evidence to those rejected. Err has the errors of clocks.
func (p *Policy) count(evidence *Evidence, rule Rule, now time.Time) (signed, problems []string, err error) {
	bad := map[string]string{}
	for _, name := range rule.Keys {
		key := p.Keys[name]
		fingerprint := key.Fingerprint()
		if !slices.Contains(evidence.Keys(), fingerprint) {
			continue
		}
		reason, clock := p.unusable(name, now)
		if reason == "" {
			signed = append(signed, name)
			continue
		}
		err = errors.Join(err, clock)
		bad[fingerprint] = reason
		problems = append(problems, reason)
	}
	evidence.Signatures = slices.DeleteFunc(evidence.Signatures, func(s Signature) bool {
		reason, is := bad[s.Key]
		if is {
			evidence.Rejected = append(evidence.Rejected, Rejected{Signature: s, Reason: reason})
		}
		return is
	})
	slices.Sort(signed)
	return signed, problems, err
}

// want says what a rule wants.
func (r Rule) want() string {
	signers := signerNames(r.Keys, r.Identities)
	if len(signers) == 1 {
		return "it wants a signature by " + signers[0]
	}
	return fmt.Sprintf("it wants signatures by %d of %s", r.Threshold, strings.Join(signers, ", "))
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "none of them whose signature counts"
	}
	return strings.Join(names, ", ")
}
