package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sealift/sealift/internal/delivery/compare"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

// policyListed is the result of policy list.
type policyListed struct {
	Type    string       `json:"type"`
	File    string       `json:"file"`
	Version int          `json:"version"`
	Rules   []listedRule `json:"rules"`
	Keys    []listedKey  `json:"keys"`
	Roots   []listedRoot `json:"trustedRoots,omitempty"`
	// Revoked are the fingerprints of revoked keys, with the reason, those that have no
	// name in the policy too.
	Revoked map[string]string `json:"revoked,omitempty"`
	// Updates is nil where nobody may replace the policy.
	Updates *listedUpdates `json:"updates,omitempty"`
}

type listedUpdates struct {
	Keys      []string `json:"keys"`
	Threshold int      `json:"threshold"`
}

func listUpdates(p *signer.Policy) *listedUpdates {
	if len(p.Updates.Keys) == 0 {
		return nil
	}
	return &listedUpdates{p.Updates.Keys, p.Updates.Threshold}
}

func (u *listedUpdates) text() string {
	if u == nil {
		return "none: nobody may replace this policy by a signed one"
	}
	return compare.SignedBy(u.Keys, u.Threshold)
}

type listedWindow struct {
	NotBefore *time.Time `json:"notBefore,omitempty"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
}

type listedRule struct {
	IDs          []string            `json:"ids"`
	Keys         []string            `json:"keys"`
	Identities   []listedIdentity    `json:"identities,omitempty"`
	Threshold    int                 `json:"threshold"`
	Attestations []listedAttestation `json:"attestations,omitempty"`
	listedWindow
}

// listedIdentity has the names of the fields in a policy.
type listedIdentity struct {
	Issuer        string `json:"issuer,omitempty"`
	IssuerRegexp  string `json:"issuerRegexp,omitempty"`
	Subject       string `json:"subject,omitempty"`
	SubjectRegexp string `json:"subjectRegexp,omitempty"`
	Root          string `json:"root"`

	text string
}

// listedAttestation is a type of predicates, and whose word counts.
type listedAttestation struct {
	Type       string           `json:"type"`
	Keys       []string         `json:"keys,omitempty"`
	Identities []listedIdentity `json:"identities,omitempty"`
}

type listedRoot struct {
	Name        string   `json:"name"`
	Fingerprint string   `json:"fingerprint"`
	Authorities []string `json:"authorities"`

	text string
}

// listIdentities lists identities with the names that the policy has for their roots.
func listIdentities(p *signer.Policy, list []signer.Identity) (all []listedIdentity) {
	for _, id := range list {
		l := listedIdentity{id.Issuer, id.IssuerRegexp, id.Subject, id.SubjectRegexp, "", ui.Value(id.String())}
		for _, name := range sorted(p.Roots) {
			if p.Roots[name] == id.Root {
				l.Root = name
			}
		}
		all = append(all, l)
	}
	return all
}

// signers names keys and identities.
func listSigners(keys []string, identities []listedIdentity) string {
	all := slices.Clone(keys)
	for _, id := range identities {
		all = append(all, id.text)
	}
	return strings.Join(all, ", ")
}

type listedKey struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Revoked     string `json:"revoked,omitempty"`
	listedWindow
}

func listWindow(w signer.Window) (l listedWindow) {
	if !w.NotBefore.IsZero() {
		l.NotBefore = &w.NotBefore
	}
	if !w.NotAfter.IsZero() {
		l.NotAfter = &w.NotAfter
	}
	return l
}

// text is empty for a window without ends.
func (l listedWindow) text() string {
	var words []string
	if l.NotBefore != nil {
		words = append(words, "from "+l.NotBefore.UTC().Format(time.RFC3339))
	}
	if l.NotAfter != nil {
		words = append(words, "until "+l.NotAfter.UTC().Format(time.RFC3339))
	}
	return strings.Join(words, " ")
}

func (a *app) listPolicy(path string, p *signer.Policy) error {
	v := listedPolicy(path, p)
	return a.out.Result(v, v.text)
}

func listedPolicy(path string, p *signer.Policy) policyListed {
	v := policyListed{Updates: listUpdates(p), Revoked: p.Revoked, Type: "policyList", File: path, Version: p.Version, Rules: []listedRule{}, Keys: []listedKey{}}
	for _, r := range p.Rules {
		rule := listedRule{Keys: r.Keys, Identities: listIdentities(p, r.Identities), Threshold: r.Threshold, listedWindow: listWindow(r.Window)}
		for _, a := range r.Attestations {
			rule.Attestations = append(rule.Attestations, listedAttestation{a.Type, a.Keys, listIdentities(p, a.Identities)})
		}
		for _, id := range r.IDs {
			rule.IDs = append(rule.IDs, id.String())
		}
		v.Rules = append(v.Rules, rule)
	}
	for _, name := range sorted(p.Keys) {
		k := p.Keys[name]
		v.Keys = append(v.Keys, listedKey{name, k.Fingerprint(), p.Revoked[k.Fingerprint()], listWindow(k.Window)})
	}
	for _, name := range sorted(p.Roots) {
		r := p.Roots[name]
		v.Roots = append(v.Roots, listedRoot{name, r.Fingerprint(), r.Authorities(), rootText(r)})
	}
	return v
}

func (v policyListed) text(w io.Writer) {
	fmt.Fprintf(w, "%s, version %d\n", v.File, v.Version)
	for i, r := range v.Rules {
		wants := listSigners(r.Keys, r.Identities)
		if len(r.Keys)+len(r.Identities) > 1 {
			wants = fmt.Sprintf("%d of %s", r.Threshold, wants)
		}
		fmt.Fprintf(w, "rule %d  %s: signed by %s", i+1, strings.Join(r.IDs, ", "), wants)
		endLine(w, r.listedWindow.text())
		for _, a := range r.Attestations {
			fmt.Fprintf(w, "  and attested %s by %s\n", ui.Value(a.Type), listSigners(a.Keys, a.Identities))
		}
	}
	if len(v.Rules) == 0 {
		fmt.Fprintln(w, "no rules: nothing is accepted")
	}
	fmt.Fprintf(w, "updates  %s\n", v.Updates.text())
	for _, k := range v.Keys {
		fmt.Fprintf(w, "key %s  %s", k.Name, k.Fingerprint)
		if k.Revoked != "" {
			fmt.Fprintf(w, ", revoked: %s", k.Revoked)
		}
		endLine(w, k.listedWindow.text())
	}
	named := map[string]bool{}
	for _, k := range v.Keys {
		named[k.Fingerprint] = true
	}
	for _, fingerprint := range sorted(v.Revoked) {
		if !named[fingerprint] {
			fmt.Fprintf(w, "revoked %s: %s\n", fingerprint, ui.Value(v.Revoked[fingerprint]))
		}
	}
	for _, r := range v.Roots {
		fmt.Fprintf(w, "root %s  %s\n", r.Name, r.text)
	}
}

func endLine(w io.Writer, more string) {
	if more != "" {
		more = ", " + more
	}
	fmt.Fprintln(w, more)
}
