package compare

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sealift/sealift/artifact"
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
	PartOrder Part = "order"
	// PartDecides is who has to sign the releases of an id on which another rule
	// decides.
	PartDecides Part = "decides"
	PartUpdates Part = "updates"
	// PartOther is what only the policies themselves tell.
	PartOther Part = "other"
)

// Parts returns all parts, in the order in which [Policies] lists them.
func Parts() []Part {
	return []Part{PartKey, PartRoot, PartRevoked, PartRule, PartOrder, PartDecides, PartUpdates, PartOther}
}

// partWords say for people what each part is, ahead of its name where it has one.
var partWords = map[Part]string{
	PartKey:     "key",
	PartRoot:    "trusted root",
	PartRevoked: "revocation of",
	PartRule:    "rule for",
	PartOrder:   "order of the rules",
	PartDecides: "releases of",
	PartUpdates: "who may replace the policy",
	PartOther:   "more than is listed here; compare the policies",
}

// PolicyChange is something that a policy says and another does not.
type PolicyChange struct {
	// Kind is added, removed or changed.
	Kind string `json:"kind"`
	Part Part   `json:"part"`
	// Name is that of the key or root, the fingerprint of the key revoked, the ids of the
	// rule, or the id that is decided on, "" for the rest.
	Name string `json:"name,omitempty"`
	// Old and New are texts for people, "" where there is none.
	Pair
}

// Subject says for people what has changed, as "key vendor".
func (c PolicyChange) Subject() string {
	return strings.TrimSpace(partWords[c.Part] + " " + c.Name)
}

// Policies compares two policies: keys, trusted roots, what is revoked, rules, their
// order, who has to sign for ids, and for those that the old rules name, where another
// rule decides, and who may replace the policy; each by name. Versions are not compared.
func Policies(old, new *signer.Policy, ids []string) []PolicyChange {
	var list []PolicyChange
	list = append(list, named(PartKey, keyTexts(old), keyTexts(new))...)
	list = append(list, named(PartRoot, rootTexts(old), rootTexts(new))...)
	list = append(list, named(PartRevoked, revokedTexts(old.Revoked, old, new), revokedTexts(new.Revoked, old, new))...)
	list = append(list, named(PartRule, ruleTexts(old), ruleTexts(new))...)
	if before, after := order(old, new), order(new, old); !slices.Equal(before, after) {
		list = append(list, PolicyChange{Kind: Changed, Part: PartOrder, Pair: Pair{strings.Join(before, "; "), strings.Join(after, "; ")}})
	}
	list = append(list, named(PartDecides, deciders(old, new, ids), deciders(new, old, ids))...)
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
		texts[idsText(r)] = ruleText(p, r)
	}
	return texts
}

// ruleText says who must have signed and attested, and when.
func ruleText(p *signer.Policy, r signer.Rule) string {
	text := SignedBy(signers(p, r.Keys, r.Identities), r.Threshold) + windowText(r.Window)
	for _, a := range r.Attestations {
		text += "; attested " + a.Type + " by " + strings.Join(signers(p, a.Keys, a.Identities), ", ")
	}
	return text
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

// deciders says who has to sign, by p, for ids and for those that a rule of either policy
// names, as far as a rule for other ids decides by other. Without this a rule that is put
// ahead of another would look like one more.
func deciders(p, other *signer.Policy, ids []string) map[string]string {
	asked := slices.Clone(ids)
	for _, r := range slices.Concat(p.Rules, other.Rules) {
		for _, glob := range r.IDs {
			if id := glob.String(); artifact.CheckID(id) == nil {
				asked = append(asked, id)
			}
		}
	}
	texts := map[string]string{}
	for _, id := range asked {
		mine, theirs := ruleFor(p, id), ruleFor(other, id)
		if mine != nil && theirs != nil && idsText(*mine) != idsText(*theirs) {
			texts[id] = ruleText(p, *mine)
		}
	}
	return texts
}

func ruleFor(p *signer.Policy, id string) *signer.Rule {
	if number, _ := p.Match(id); number > 0 {
		return &p.Rules[number-1]
	}
	return nil
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
