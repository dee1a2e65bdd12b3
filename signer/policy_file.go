package signer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/document"
)

// PolicyKind is the kind of a policy's document.
const PolicyKind = "Policy"

// MaxPolicyBytes bounds a policy.
const MaxPolicyBytes = artifact.MaxPolicyBytes

const (
	maxPolicyKeys = 1000
	maxPolicyIDs  = 1000 // of all rules
)

// policyFile is a policy as it is written.
type policyFile struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Version    int                `json:"version"`
	Keys       map[string]fileKey `json:"keys"`
	Revoked    map[string]string  `json:"revoked"`
	Rules      []fileRule         `json:"rules"`
	Updates    *fileUpdates       `json:"updates"`

	TrustedRoots map[string]fileRoot `json:"trustedRoots"`
}

type fileKey struct {
	PEM       string   `json:"pem"`
	NotBefore fileTime `json:"notBefore"`
	NotAfter  fileTime `json:"notAfter"`
}

type fileRule struct {
	IDs       []string    `json:"ids"`
	Require   fileRequire `json:"require"`
	NotBefore fileTime    `json:"notBefore"`
	NotAfter  fileTime    `json:"notAfter"`
}

type fileRequire struct {
	Keys         []string          `json:"keys"`
	Identities   []fileIdentity    `json:"identities"`
	Threshold    fileThreshold     `json:"threshold"`
	Attestations []fileAttestation `json:"attestations"`
}

// fileTime is a time as RFC 3339 has it.
type fileTime struct{ time.Time }

// fileThreshold is any, all or a number; 0 stands for all.
type fileThreshold struct {
	count int
	given bool
}

var policyForm = document.Form{
	Name: "policy", MaxBytes: MaxPolicyBytes, Start: "apiVersion: " + artifact.APIVersion,
	Map: "apiVersion, kind, version, keys and rules",
}

var policyRules = document.Rules{Scalar: func(target, raw any) (known bool, err error) {
	switch t := target.(type) {
	case *fileTime:
		text, _ := raw.(string)
		if t.Time, err = time.Parse(time.RFC3339, text); err != nil || t.Year() < 1970 {
			err = fmt.Errorf("want a time as 2026-01-31T12:00:00Z, got %v", raw)
		}
		return true, err
	case *fileThreshold:
		t.given = true
		switch n, isNumber := raw.(int64); {
		case raw == "any":
			t.count = 1
		case raw == "all":
			t.count = 0
		case isNumber && n >= 1 && n <= maxPolicyKeys:
			t.count = int(n)
		default:
			err = fmt.Errorf("want any, all or a number from 1 on, got %v", raw)
		}
		return true, err
	}
	return false, nil
}}

// ParsePolicy reads a policy, the bytes of the file called name. It reports everything
// wrong at once as an [artifact.FindingsError]: what a policy says must not depend on
// who reads it, so that an unknown field, a key given twice, a rule that can never
// decide and a signer nobody knows are errors.
func ParsePolicy(name string, data []byte) (*Policy, error) {
	f := document.New(name)
	d := document.NewDecoder(f, policyRules)
	tree, ok := d.Parse(data, policyForm)
	if !ok {
		return nil, f.Err()
	}
	var file policyFile
	d.Decode(tree, &file)
	var p *Policy
	f.Beside(d.IsBroken, func() { p = file.policy(f) })
	if err := f.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// policy checks what was read and makes a policy of it.
func (file policyFile) policy(f *document.Findings) *Policy {
	if file.APIVersion != artifact.APIVersion {
		f.Add("apiVersion", "want %s, got %q", artifact.APIVersion, file.APIVersion)
	}
	if file.Kind != PolicyKind {
		f.Add("kind", "want %s, got %q", PolicyKind, file.Kind)
	}
	if file.Version < 1 {
		f.Add("version", "want a number from 1 on, got %d", file.Version)
	}
	if len(file.Keys) > maxPolicyKeys {
		f.Add("keys", "want at most %d keys, got %d", maxPolicyKeys, len(file.Keys))
		return nil
	}
	ids := 0
	for _, rule := range file.Rules {
		ids += len(rule.IDs)
	}
	if ids > maxPolicyIDs || len(file.Rules) > maxPolicyIDs {
		f.Add("rules", "want at most %d rules and as many ids, got %d and %d", maxPolicyIDs, len(file.Rules), ids)
		return nil
	}
	p := &Policy{Version: file.Version, Keys: map[string]PolicyKey{}, Revoked: map[string]string{}, Roots: map[string]*Root{}}
	p.addRoots(f, file.TrustedRoots)
	names := map[string]string{} // by fingerprint
	for _, name := range slices.Sorted(maps.Keys(file.Keys)) {
		p.addKey(f, name, file.Keys[name], names)
	}
	for _, fingerprint := range slices.Sorted(maps.Keys(file.Revoked)) {
		field := document.Join("revoked", fingerprint)
		if d := digest.Digest(fingerprint); d.Validate() != nil || d.Algorithm() != digest.SHA256 {
			f.Add(field, "want the fingerprint of a key, sha256: and 64 digits, got %q", fingerprint)
		}
		if file.Revoked[fingerprint] == "" {
			f.Add(field, "say why")
		}
		p.Revoked[fingerprint] = file.Revoked[fingerprint]
	}
	for i, rule := range file.Rules {
		if f.Full() {
			break
		}
		p.addRule(f, fmt.Sprintf("rules[%d]", i), rule, file)
	}
	p.addUpdates(f, file)
	return p
}

func (p *Policy) addKey(f *document.Findings, name string, k fileKey, names map[string]string) {
	field := document.Join("keys", name)
	if !isKeyName(name) {
		f.Add(field, "want a name of letters, digits, '.', '_' and '-', at most 64")
	}
	key, err := ParseKey([]byte(k.PEM))
	if err != nil {
		f.Add(document.Join(field, "pem"), "%v", err)
		return
	}
	if other, twice := names[key.Fingerprint()]; twice {
		f.Add(field, "is the same key as %s", other)
	}
	names[key.Fingerprint()] = name
	p.Keys[name] = PolicyKey{key, window(f, field, k.NotBefore, k.NotAfter)}
}

func isKeyName(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func window(f *document.Findings, field string, from, to fileTime) Window {
	if !from.IsZero() && !to.IsZero() && to.Before(from.Time) {
		f.Add(document.Join(field, "notAfter"), "is before notBefore")
	}
	return Window{from.Time, to.Time}
}

// covering returns the number of the first rule that decides on all that a pattern
// stands for, from 1, and the pattern in it; 0 when there is none.
func (p *Policy) covering(glob artifact.IDGlob) (rule int, pattern string) {
	for i, r := range p.Rules {
		for _, g := range r.IDs {
			if g.Covers(glob) {
				return i + 1, g.String()
			}
		}
	}
	return 0, ""
}

func (p *Policy) addRule(f *document.Findings, field string, r fileRule, file policyFile) {
	rule := Rule{Window: window(f, field, r.NotBefore, r.NotAfter)}
	if len(r.IDs) == 0 {
		f.Add(document.Join(field, "ids"), "want patterns for ids, as example.com/shop or example.com/**")
		return
	}
	reachable := false
	for i, id := range r.IDs {
		glob, err := artifact.ParseIDGlob(id)
		if err != nil {
			f.Add(fmt.Sprintf("%s[%d]", document.Join(field, "ids"), i), "%v", err)
			reachable = true // who knows
			continue
		}
		rule.IDs = append(rule.IDs, glob)
		earlier, _ := p.covering(glob)
		reachable = reachable || earlier == 0
	}
	if !reachable {
		earlier, pattern := p.covering(rule.IDs[0])
		f.Add(document.Join(field, "ids"), "never decides: rule %d is for %s before; put the narrower rule first", earlier, pattern)
	}
	require := document.Join(field, "require")
	keys := document.Join(require, "keys")
	rule.Keys = keyNames(f, keys, r.Require.Keys, file.Keys)
	rule.Identities = p.identities(f, document.Join(require, "identities"), r.Require.Identities, file.TrustedRoots)
	signers := len(rule.Keys) + len(rule.Identities)
	if signers == 0 {
		f.Add(keys, "want at least one key, or an identity")
	}
	rule.Attestations = p.attestations(f, document.Join(require, "attestations"), rule, r.Require.Attestations, file)
	if rule.Threshold = r.Require.Threshold.of(signers); rule.Threshold > signers && signers > 0 {
		f.Add(document.Join(require, "threshold"), "wants %d signatures of %d keys and identities", rule.Threshold, signers)
	}
	p.Rules = append(p.Rules, rule)
}
