package compare

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealift/sealift/signer"
)

// Part is a part of a policy that may differ from another's.
type Part string

// The parts of a policy.
const (
	PartKey     Part = "key"
	PartRoot    Part = "trustedRoot"
	PartRevoked Part = "revoked"
	PartRule    Part = "rule"
	// PartOrder is that of the rules.
	PartOrder   Part = "order"
	PartUpdates Part = "updates"
	// PartOther is what only the policies themselves tell.
	PartOther Part = "other"
)

// Parts returns all parts, in the order in which [Policies] lists them.
func Parts() []Part {
	return []Part{PartKey, PartRoot, PartRevoked, PartRule, PartOrder, PartUpdates, PartOther}
}

// partWords say for people what each part is, ahead of its name where it has one.
var partWords = map[Part]string{
	PartKey:     "key",
	PartRoot:    "trusted root",
	PartRevoked: "revocation of",
	PartRule:    "rule for",
	PartOrder:   "order of the rules",
	PartUpdates: "who may replace the policy",
	PartOther:   "more than is listed here; compare the policies",
}

// PolicyChange is something that a policy says and another does not.
type PolicyChange struct {
	// Kind is added, removed or changed.
	Kind string `json:"kind"`
	Part Part   `json:"part"`
	// Name is that of the key or root, the fingerprint of the key revoked, or the ids of
	// the rule, "" for the rest.
	Name string `json:"name,omitempty"`
	// Old and New are texts for people, "" where there is none.
	Pair
}

// Subject says for people what has changed, as "key vendor".
func (c PolicyChange) Subject() string {
	return strings.TrimSpace(partWords[c.Part] + " " + c.Name)
}

// Policies compares two policies: keys, trusted roots, what is revoked, rules, their
// order, and who may replace them; each by name. Versions are not compared.
func Policies(old, new *signer.Policy) []PolicyChange {
	var list []PolicyChange
	list = append(list, named(PartKey, keyTexts(old), keyTexts(new))...)
	list = append(list, named(PartRoot, rootTexts(old), rootTexts(new))...)
	list = append(list, named(PartRevoked, revokedTexts(old.Revoked, old, new), revokedTexts(new.Revoked, old, new))...)
	list = append(list, named(PartRule, ruleTexts(old), ruleTexts(new))...)
	if before, after := order(old, new), order(new, old); !slices.Equal(before, after) {
		list = append(list, PolicyChange{Kind: Changed, Part: PartOrder, Pair: Pair{strings.Join(before, "; "), strings.Join(after, "; ")}})
	}
	updates := func(p *signer.Policy) map[string]string {
		if len(p.Updates.Keys) == 0 {
			return nil
		}
		return map[string]string{"": SignedBy(p.Updates.Keys, p.Updates.Threshold)}
	}
	list = append(list, named(PartUpdates, updates(old), updates(new))...)
	before, after := *old, *new
	before.Version, after.Version = 0, 0
	if len(list) == 0 && !reflect.DeepEqual(before, after) {
		list = append(list, PolicyChange{Kind: Changed, Part: PartOther})
	}
	return list
}

// named compares texts by name.
func named(part Part, old, new map[string]string) (list []PolicyChange) {
	for _, name := range slices.Sorted(maps.Keys(union(old, new))) {
		before, was := old[name]
		after, is := new[name]
		c := PolicyChange{Kind: Changed, Part: part, Name: name, Pair: Pair{before, after}}
		switch {
		case !was:
			c.Kind = Added
		case !is:
			c.Kind = Removed
		case before == after:
			continue
		}
		list = append(list, c)
	}
	return list
}

func keyTexts(p *signer.Policy) map[string]string {
	texts := map[string]string{}
	for name, k := range p.Keys {
		texts[name] = k.Fingerprint() + windowText(k.Window)
	}
	return texts
}

func rootTexts(p *signer.Policy) map[string]string {
	texts := map[string]string{}
	for name, r := range p.Roots {
		texts[name] = r.Fingerprint() + " of " + strings.Join(r.Authorities(), ", ")
	}
	return texts
}

// revokedTexts has the reason for each key that is revoked, with the name that the
// newest of the policies has for it.
func revokedTexts(revoked map[string]string, policies ...*signer.Policy) map[string]string {
	texts := maps.Clone(revoked)
	for _, p := range policies {
		for name, k := range p.Keys {
			if reason, is := revoked[k.Fingerprint()]; is {
				texts[k.Fingerprint()] = "key " + name + ", " + reason
			}
		}
	}
	return texts
}

func ruleTexts(p *signer.Policy) map[string]string {
	texts := map[string]string{}
	for _, r := range p.Rules {
		text := SignedBy(signers(p, r.Keys, r.Identities), r.Threshold) + windowText(r.Window)
		for _, a := range r.Attestations {
			text += "; attested " + a.Type + " by " + strings.Join(signers(p, a.Keys, a.Identities), ", ")
		}
		texts[idsText(r)] = text
	}
	return texts
}

// signers names keys, and identities with the root that each is believed by.
func signers(p *signer.Policy, keys []string, identities []signer.Identity) []string {
	names := slices.Clone(keys)
	for _, id := range identities {
		text := id.String()
		for _, name := range slices.Sorted(maps.Keys(p.Roots)) {
			if p.Roots[name] == id.Root {
				text += " by root " + name
			}
		}
		names = append(names, text)
	}
	return names
}

// idsText names a rule; no two have the same ids, or one would never decide.
func idsText(r signer.Rule) string {
	var ids []string
	for _, glob := range r.IDs {
		ids = append(ids, glob.String())
	}
	slices.Sort(ids)
	return strings.Join(ids, ", ")
}

// order has the rules of p that other has too, in their order.
func order(p, other *signer.Policy) (names []string) {
	known := ruleTexts(other)
	for _, r := range p.Rules {
		if _, is := known[idsText(r)]; is {
			names = append(names, idsText(r))
		}
	}
	return names
}

// SignedBy says in words who must have signed.
func SignedBy(keys []string, threshold int) string {
	if len(keys) == 1 {
		return "signed by " + keys[0]
	}
	return fmt.Sprintf("signed by %d of %s", threshold, strings.Join(keys, ", "))
}

func windowText(w signer.Window) (text string) {
	if !w.NotBefore.IsZero() {
		text += ", from " + w.NotBefore.UTC().Format(time.RFC3339)
	}
	if !w.NotAfter.IsZero() {
		text += ", until " + w.NotAfter.UTC().Format(time.RFC3339)
	}
	return text
}
