package signer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// RuleToAdd is a rule that [AddRule] adds to a policy.
type RuleToAdd struct {
	// IDs are the patterns it is for, at least one.
	IDs []string
	// Key or Identity must have signed: one of them, not both. Name is what the policy
	// calls the key, or the root of the identity, where it does not know it yet.
	Key      *Key
	Identity *Identity
	Name     string
}

// Signer returns the fingerprint of the key, or the identity, "" where there is neither.
func (r RuleToAdd) Signer() string {
	switch {
	case r.Key != nil:
		return r.Key.Fingerprint()
	case r.Identity != nil:
		return r.Identity.String()
	}
	return ""
}

// AddRule returns a policy, the bytes of the file called name, with one rule more, or
// with one more of those that may sign under a rule for exactly the same ids; empty
// data makes a new policy. It stands before the first rule that would decide in its
// place. Comments and everything else stay, and the version goes up by one; where the
// rule stands already, the data is returned as it is.
//
// The error is an [artifact.FindingsError] for a policy that is none, before or with the
// rule, and errdef.ErrUnsupported for what is to be decided by hand: a policy with
// aliases, a rule for the same ids that wants more than one signature, and a key that
// the policy revokes. It is another one for a rule by nobody, by a key and an identity,
// or by an identity that its Check does not take.
func AddRule(name string, data []byte, add RuleToAdd) ([]byte, error) {
	if (add.Key == nil) == (add.Identity == nil) {
		return nil, fmt.Errorf("add a rule for %s: want a key or an identity, one of them", strings.Join(add.IDs, ", "))
	}
	before := &Policy{}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("apiVersion: " + artifact.APIVersion + "\nkind: " + PolicyKind + "\nversion: 0\nkeys: {}\nrules: []\n")
	} else {
		var err error
		if before, err = ParsePolicy(name, data); err != nil {
			return nil, err
		}
	}
	if add.Key != nil {
		if reason, revoked := before.Revoked[add.Key.Fingerprint()]; revoked {
			return nil, fmt.Errorf("policy %s revokes the key %s: %s: %w", name, add.Key, reason, errdef.ErrUnsupported)
		}
	} else if err := add.Identity.Check(); err != nil {
		return nil, fmt.Errorf("identity %s: %w", add.Identity, err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("read policy %s: %w", name, err)
	}
	root := doc.Content[0]
	if aliased(root) { // one rule cannot be changed without another
		return nil, fmt.Errorf("policy %s uses YAML aliases: %w", name, errdef.ErrUnsupported)
	}
	e := policyEdit{root}
	if changed, err := e.rule(add.IDs, e.signer(add)); err != nil {
		return nil, fmt.Errorf("policy %s: %w", name, err)
	} else if !changed {
		return data, nil
	}
	version := e.field(root, "version", yaml.ScalarNode)
	version.Tag, version.Value, version.Style = "!!int", strconv.Itoa(before.Version+1), 0
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("write policy %s: %w", name, err)
	}
	after, err := ParsePolicy(name, out.Bytes())
	if err != nil {
		return nil, err
	}
	if pattern, rule := after.takes(before, add.IDs); pattern != "" {
		return nil, fmt.Errorf("policy %s: a rule for %s would decide on %s, which rule %d does; add one for each of the ids: %w",
			name, strings.Join(add.IDs, ", "), pattern, rule, errdef.ErrUnsupported)
	}
	return out.Bytes(), nil
}

// takes returns a pattern on which a rule decided before, and which now one for ids
// decides that was not there, "" where there is none.
func (p *Policy) takes(before *Policy, ids []string) (pattern string, rule int) {
	for _, r := range before.Rules {
		for _, glob := range r.IDs {
			number, _ := before.covering(glob)
			now, _ := p.covering(glob)
			if isFor(p.Rules[now-1].IDs, ids) && !isFor(before.Rules[number-1].IDs, ids) {
				return glob.String(), number
			}
		}
	}
	return "", 0
}

// isFor reports whether patterns are ids, in whatever order.
func isFor(patterns []artifact.IDGlob, ids []string) bool {
	var have []string
	for _, g := range patterns {
		have = append(have, g.String())
	}
	return slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(ids)))
}

// policyEdit changes a policy as it is written.
type policyEdit struct{ root *yaml.Node }

// field returns the value of a field, making one of the kind where there is none.
func (e policyEdit) field(in *yaml.Node, name string, kind yaml.Kind) *yaml.Node {
	if value := lookup(in, name); value != nil {
		return value
	}
	value := &yaml.Node{Kind: kind}
	in.Content = append(in.Content, text(name), value)
	return value
}

// aliased reports whether anything below n is an alias.
func aliased(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, aliased)
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

// ruleSigner is an entry of a list in what a rule requires.
type ruleSigner struct {
	list string
	node *yaml.Node
}

// signer returns who is to be added, as rules have it. What it names is added where it
// is not known.
func (e policyEdit) signer(add RuleToAdd) ruleSigner {
	if add.Key != nil {
		return ruleSigner{"keys", text(e.key(add))}
	}
	node := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for _, field := range [][2]string{
		{"issuer", add.Identity.Issuer}, {"issuerRegexp", add.Identity.IssuerRegexp},
		{"subject", add.Identity.Subject}, {"subjectRegexp", add.Identity.SubjectRegexp}, {"root", e.trustedRoot(add)},
	} {
		if field[1] != "" {
			node.Content = append(node.Content, text(field[0]), text(field[1]))
		}
	}
	return ruleSigner{"identities", node}
}

// trustedRoot returns the name of the root of an identity, added where it is not known.
func (e policyEdit) trustedRoot(add RuleToAdd) string {
	roots := e.field(e.root, "trustedRoots", yaml.MappingNode)
	roots.Style = 0
	taken := map[string]bool{}
	for i := 0; i+1 < len(roots.Content); i += 2 {
		taken[roots.Content[i].Value] = true
		known, err := ParseRoot([]byte(valueOf(roots.Content[i+1], "json")))
		if err == nil && known.Fingerprint() == add.Identity.Root.Fingerprint() {
			return roots.Content[i].Value
		}
	}
	name := freeName(add.Name, taken)
	var lines bytes.Buffer // to be read, and compared: white space does not count
	if json.Indent(&lines, bytes.TrimSpace(add.Identity.Root.JSON()), "", "  ") != nil {
		panic("signer: a trusted root is no JSON")
	}
	document := text(lines.String())
	document.Style = yaml.LiteralStyle
	roots.Content = append(roots.Content, text(name), &yaml.Node{
		Kind: yaml.MappingNode, Content: []*yaml.Node{text("json"), document},
		HeadComment: "# " + add.Identity.Root.Fingerprint(),
	})
	return name
}

// freeName returns a name that is not taken.
func freeName(name string, taken map[string]bool) string {
	free := name
	for n := 2; taken[free]; n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

// key returns the name of a key, added where it is not known.
func (e policyEdit) key(add RuleToAdd) string {
	keys := e.field(e.root, "keys", yaml.MappingNode)
	keys.Style = 0
	taken := map[string]bool{}
	for i := 0; i+1 < len(keys.Content); i += 2 {
		taken[keys.Content[i].Value] = true
		if known, err := ParseKey([]byte(valueOf(keys.Content[i+1], "pem"))); err == nil && known.Fingerprint() == add.Key.Fingerprint() {
			return keys.Content[i].Value
		}
	}
	key := freeName(add.Name, taken)
	pem := text(string(add.Key.PEM()))
	pem.Style = yaml.LiteralStyle
	keys.Content = append(keys.Content, text(key), &yaml.Node{
		Kind: yaml.MappingNode, Content: []*yaml.Node{text("pem"), pem},
		HeadComment: "# " + add.Key.Fingerprint(),
	})
	return key
}

// rule adds a rule, or a signer to the one for the same ids, and reports whether there
// was need of it. One more signer of a rule that wants several would change how many of
// them may be missing.
func (e policyEdit) rule(ids []string, by ruleSigner) (changed bool, err error) {
	rules := e.field(e.root, "rules", yaml.SequenceNode)
	rules.Style = 0
	at := len(rules.Content)
	for i, n := range rules.Content {
		have := values(lookup(n, "ids"))
		if slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(ids))) {
			require := e.field(n, "require", yaml.MappingNode)
			list := lookup(require, by.list)
			if list != nil && slices.ContainsFunc(list.Content, func(n *yaml.Node) bool { return e.same(n, by.node) }) {
				return false, nil
			}
			if wants := valueOf(require, "threshold"); !slices.Contains([]string{"", "any", "1"}, wants) {
				return false, fmt.Errorf("rule %d, for the same ids, wants %s of its signers; say in an editor what it should want: %w", i+1, wants, errdef.ErrUnsupported)
			}
			list = e.field(require, by.list, yaml.SequenceNode)
			if len(list.Content) == 0 {
				list.Style = yaml.FlowStyle
			}
			list.Content = append(list.Content, by.node)
			return true, nil
		}
		if i < at && slices.ContainsFunc(have, func(pattern string) bool { return shadows(pattern, ids) }) {
			at = i
		}
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, id := range ids {
		list.Content = append(list.Content, text(id))
	}
	signers := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{by.node}}
	require := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text(by.list), signers}}
	rule := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{text("ids"), list, text("require"), require}}
	rules.Content = slices.Insert(rules.Content, at, rule)
	return true, nil
}

// same reports whether two entries of a list, names or identities, say the same.
func (e policyEdit) same(a, b *yaml.Node) bool {
	if a.Kind != yaml.MappingNode {
		return a.Value == b.Value
	}
	fields := func(n *yaml.Node) map[string]string {
		all := map[string]string{}
		if roots := lookup(e.root, "trustedRoots"); roots != nil && len(roots.Content) == 2 {
			all["root"] = roots.Content[0].Value // nobody has to say which
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			all[n.Content[i].Value] = n.Content[i+1].Value
		}
		return all
	}
	return maps.Equal(fields(a), fields(b))
}

// shadows reports whether a pattern decides on all that one of ids stands for.
func shadows(pattern string, ids []string) bool {
	glob, err := artifact.ParseIDGlob(pattern)
	return err == nil && slices.ContainsFunc(ids, func(id string) bool {
		other, err := artifact.ParseIDGlob(id)
		return err == nil && glob.Covers(other)
	})
}

// lookup returns the value of a field, nil where there is none.
func lookup(in *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(in.Content); i += 2 {
		if in.Content[i].Value == name {
			return in.Content[i+1]
		}
	}
	return nil
}

// valueOf returns the scalar of a field, "" where there is none.
func valueOf(in *yaml.Node, name string) string {
	if value := lookup(in, name); value != nil {
		return value.Value
	}
	return ""
}

// values returns the scalars of a list, which may be nil.
func values(list *yaml.Node) []string {
	if list == nil {
		return nil
	}
	var all []string
	for _, n := range list.Content {
		all = append(all, n.Value)
	}
	return all
}
