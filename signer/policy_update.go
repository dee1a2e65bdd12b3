package signer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/document"
)

// Updates says whose signatures replace a policy as a whole. The zero value permits
// nobody to.
type Updates struct {
	// Keys are names of keys; Threshold is how many of them must have signed.
	Keys      []string
	Threshold int
}

// UpdateError reports an update that the present policy does not accept.
type UpdateError struct {
	// Policy is the version of the present policy, and Closed says that it permits no
	// updates at all.
	Policy int
	Closed bool
	// Reasons say why not, one sentence each.
	Reasons []string
	// Err is ErrUnsigned, ErrNotAccepted or ErrInvalid, or wraps one or an error of
	// the source.
	Err error
}

// Error names the present policy and the reasons.
func (e *UpdateError) Error() string {
	text := fmt.Sprintf("the present policy, version %d, does not accept this update: ", e.Policy)
	if e.Closed {
		return text + "it has no updates, so that nobody may replace it"
	}
	return text + strings.Join(e.Reasons, "; ")
}

// Unwrap returns Err.
func (e *UpdateError) Unwrap() error { return e.Err }

// VerifyUpdate looks for signatures of an update of the policy in src, as the function
// [Verify] does, and accepts it if those who may replace the present policy, p, have
// signed. A key that only the update brings counts for nothing. Windows are compared
// with now. Versions are not looked at.
//
// The error is an *UpdateError, which wraps ErrUnsigned, ErrNotAccepted or ErrInvalid as
// those of Verify do, with a *ClockError where a window is the reason, or the error of
// src; else it is that of ctx, wrapped.
func (p *Policy) VerifyUpdate(ctx context.Context, src Source, subject ocispec.Descriptor, now time.Time) (*Evidence, error) {
	rule := p.Updates.rule()
	refused := &UpdateError{Policy: p.Version, Err: ErrNotAccepted}
	switch {
	case len(rule.Keys) == 0:
		refused.Closed = true
		return nil, refused
	case !p.sound(rule):
		refused.Reasons = []string{"its updates are none"}
		return nil, refused
	}
	evidence, reasons, err := p.signed(ctx, src, subject, rule, now)
	if len(reasons) > 0 {
		refused.Reasons, refused.Err = reasons, err
		return nil, refused
	}
	return evidence, err
}

// rule is the updates as a rule, which has no ids.
func (u Updates) rule() Rule { return Rule{Keys: u.Keys, Threshold: u.Threshold} }

// Updatable reports whether anybody could replace the policy from now on: as many of
// the keys of its updates as have to sign are neither revoked nor over.
func (p *Policy) Updatable(now time.Time) bool { return p.attainable(p.Updates.rule(), now) }

// Attainable reports whether any release of id could be accepted from now on: the rule
// for it is not over, as many of its keys and identities as have to sign can, and
// somebody can attest each thing that it wants attested. Revoked keys and keys that are
// over cannot.
func (p *Policy) Attainable(id string, now time.Time) bool {
	number, _ := p.Match(id)
	return number > 0 && p.attainable(p.Rules[number-1], now)
}

func (p *Policy) attainable(r Rule, now time.Time) bool {
	over := func(w Window) bool { return !w.NotAfter.IsZero() && now.After(w.NotAfter) }
	able := func(keys []string, identities []Identity) int {
		n := len(identities)
		for _, name := range keys {
			key := p.Keys[name]
			if _, revoked := p.Revoked[key.Fingerprint()]; !revoked && !over(key.Window) {
				n++
			}
		}
		return n
	}
	if !p.sound(r) || over(r.Window) || able(r.Keys, r.Identities) < r.Threshold {
		return false
	}
	return !slices.ContainsFunc(r.Attestations, func(a RequiredAttestation) bool { return able(a.Keys, a.Identities) == 0 })
}

// fileUpdates is who may replace a policy, as it is written. It has keys only: who signs
// policies is at hand for a site, and needs no authority in between.
type fileUpdates struct {
	Keys      []string      `json:"keys"`
	Threshold fileThreshold `json:"threshold"`
}

// addUpdates checks who may replace a policy.
func (p *Policy) addUpdates(f *document.Findings, file policyFile) {
	if file.Updates == nil {
		return
	}
	keys := document.Join("updates", "keys")
	if len(file.Updates.Keys) == 0 {
		f.Add(keys, "want at least one key; leave updates out where nobody is to replace the policy")
	}
	p.Updates.Keys = keyNames(f, keys, file.Updates.Keys, file.Keys)
	count := len(file.Updates.Keys)
	if p.Updates.Threshold = file.Updates.Threshold.of(count); p.Updates.Threshold > count && count > 0 {
		f.Add(document.Join("updates", "threshold"), "wants %d signatures of %d keys", p.Updates.Threshold, count)
	}
}

// of is how many of n must sign: any one where nothing is said.
func (t fileThreshold) of(n int) int {
	switch {
	case !t.given:
		return 1
	case t.count == 0:
		return n
	}
	return t.count
}
