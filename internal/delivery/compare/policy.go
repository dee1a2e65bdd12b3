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

// PolicyChange is something that a policy says and another does not.
type PolicyChange struct {
	// Kind is added, removed or changed.
	Kind string `json:"kind"`
	// Part is key, trustedRoot, revoked, rule, updates, order (of the rules) or other,
	// which is what only the policies themselves tell.
	Part string `json:"part"`
	// Name is that of the key or root, the fingerprint of the key revoked, or the ids of
	// the rule, "" for the rest.
	Name string `json:"name,omitempty"`
	// Old and New are texts for people, "" where there is none.
	Pair
}

// Policies compares two policies: keys, trusted roots, what is revoked, rules, their
// order, and who may replace them; each by name. Versions are not compared.
func Policies(old, new *signer.Policy) []PolicyChange {
	var list []PolicyChange
	list = append(list, named("key", keyTexts(old), keyTexts(new))...)
	list = append(list, named("trustedRoot", rootTexts(old), rootTexts(new))...)
	list = append(list, named("revoked", revokedTexts(old.Revoked, old, new), revokedTexts(new.Revoked, old, new))...)
	list = append(list, named("rule", ruleTexts(old), ruleTexts(new))...)
	if before, after := order(old, new), order(new, old); !slices.Equal(before, after) {
		list = append(list, PolicyChange{Kind: Changed, Part: "order", Pair: Pair{strings.Join(before, "; "), strings.Join(after, "; ")}})
	}
	updates := func(p *signer.Policy) map[string]string {
		if len(p.Updates.Keys) == 0 {
			return nil
		}
		return map[string]string{"": SignedBy(p.Updates.Keys, p.Updates.Threshold)}
	}
	list = append(list, named("updates", updates(old), updates(new))...)
	before, after := *old, *new
	before.Version, after.Version = 0, 0
	if len(list) == 0 && !reflect.DeepEqual(before, after) {
		list = append(list, PolicyChange{Kind: Changed, Part: "other"})
	}
	return list
}

// named compares texts by name.
func named(part string, old, new map[string]string) (list []PolicyChange) {
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
