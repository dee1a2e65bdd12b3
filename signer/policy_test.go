package signer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

const testID = "example.com/shop"

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// policyYAML writes a policy with keys, of which each has more lines in its map, and
// rules that are given.
func policyYAML(keys map[string]*signer.Key, more map[string]string, rest string) string {
	var b strings.Builder
	b.WriteString("apiVersion: sealift/v1\nkind: Policy\nversion: 3\nkeys:\n")
	for name, key := range keys {
		fmt.Fprintf(&b, "  %s:\n    pem: |\n      %s\n", name, strings.ReplaceAll(strings.TrimSpace(string(key.PEM())), "\n", "\n      "))
		if line := more[name]; line != "" {
			b.WriteString("    " + line + "\n")
		}
	}
	return b.String() + rest
}

func parsePolicy(t testing.TB, text string) *signer.Policy {
	t.Helper()
	p, err := signer.ParsePolicy("policy.yaml", []byte(text))
	if err != nil {
		t.Fatalf("ParsePolicy: %v\n%s", err, text)
	}
	return p
}

func TestPolicyVerify(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	qa, stranger := newSigner(t), newSigner(t)
	parts(t, s.repo, s.index, s.accepted)
	parts(t, s.repo, s.index, qa)
	keys := map[string]*signer.Key{"acme": s.accepted.Key(), "qa": qa.Key(), "other": stranger.Key()}
	acme := s.accepted.Key().Fingerprint()
	tests := []struct {
		name  string
		more  map[string]string // of keys
		rules string
		id    string // testID where empty
		// want is nil where the policy accepts, by keys.
		want      error
		wantKeys  []string
		wantClock bool
		wantRule  int
		wantText  []string
	}{
		{name: "one key", rules: "- {ids: [example.com/shop], require: {keys: [acme]}}", wantKeys: []string{"acme"}, wantRule: 1},
		{name: "pattern", rules: "- {ids: [example.org/**, 'example.com/**'], require: {keys: [acme]}}", wantKeys: []string{"acme"}, wantRule: 1},
		{name: "any of two", rules: "- {ids: [example.com/shop], require: {keys: [other, acme], threshold: any}}", wantKeys: []string{"acme"}, wantRule: 1},
		{name: "all of two", rules: "- {ids: [example.com/shop], require: {keys: [qa, acme], threshold: all}}", wantKeys: []string{"acme", "qa"}, wantRule: 1},
		{name: "two of three", rules: "- {ids: [example.com/shop], require: {keys: [qa, other, acme], threshold: 2}}", wantKeys: []string{"acme", "qa"}, wantRule: 1},
		{
			name: "all of three", rules: "- {ids: [example.com/shop], require: {keys: [qa, other, acme], threshold: all}}",
			want: signer.ErrNotAccepted, wantRule: 1, wantText: []string{"it wants signatures by 3 of qa, other, acme", "signed by acme, qa"},
		},
		{name: "no rules", rules: " []", want: signer.ErrNotAccepted, wantText: []string{"does not accept example.com/shop 1.0.0", "no rule is for that id"}},
		{name: "no rule for the id", rules: "- {ids: [example.com/shop], require: {keys: [acme]}}", id: "example.com/store", want: signer.ErrNotAccepted, wantText: []string{"no rule is for that id"}},
		{
			name: "the first rule decides", rules: "- {ids: [example.com/shop], require: {keys: [other]}}\n- {ids: [example.com/**], require: {keys: [acme]}}",
			want: signer.ErrNotAccepted, wantRule: 1, wantText: []string{"rule 1, for example.com/shop: it wants a signature by other"},
		},
		{name: "a rule for others before", rules: "- {ids: [example.com/store], require: {keys: [other]}}\n- {ids: [example.com/**], require: {keys: [acme]}}", wantKeys: []string{"acme"}, wantRule: 2},
		{
			name: "revoked", rules: "- {ids: [example.com/shop], require: {keys: [acme]}}\nrevoked: {" + acme + ": laptop lost}",
			want: signer.ErrNotAccepted, wantRule: 1, wantText: []string{"key acme is revoked: laptop lost", "none of them whose signature counts"},
		},
		{
			name: "one of two revoked", rules: "- {ids: [example.com/shop], require: {keys: [acme, qa]}}\nrevoked: {" + acme + ": laptop lost}",
			wantKeys: []string{"qa"}, wantRule: 1,
		},
		{
			name: "revoked and all wanted", rules: "- {ids: [example.com/shop], require: {keys: [acme, qa], threshold: all}}\nrevoked: {" + acme + ": laptop lost}",
			want: signer.ErrNotAccepted, wantRule: 1, wantText: []string{"signed by qa", "laptop lost"},
		},
		{
			name: "key expired", more: map[string]string{"acme": "notAfter: 2026-06-01T11:59:59Z"}, rules: "- {ids: [example.com/shop], require: {keys: [acme]}}",
			want: signer.ErrNotAccepted, wantClock: true, wantRule: 1, wantText: []string{"key acme is valid until 2026-06-01T11:59:59Z, and the clock of this machine says 2026-06-01T12:00:00Z"},
		},
		{
			name: "key not yet", more: map[string]string{"acme": "notBefore: 2026-06-01T12:00:01Z"}, rules: "- {ids: [example.com/shop], require: {keys: [acme]}}",
			want: signer.ErrNotAccepted, wantClock: true, wantRule: 1, wantText: []string{"key acme is valid from 2026-06-01T12:00:01Z"},
		},
		{name: "key within its time", more: map[string]string{"acme": "{notBefore: 2026-06-01T12:00:00Z, notAfter: 2026-06-01T12:00:00Z}"}, wantKeys: []string{"acme"}, wantRule: 1},
		{
			name: "one key expired, one not", more: map[string]string{"acme": "notAfter: 2026-01-01T00:00:00Z"}, rules: "- {ids: [example.com/shop], require: {keys: [acme, qa]}}",
			wantKeys: []string{"qa"}, wantRule: 1,
		},
		{
			name: "rule over", rules: "- {ids: [example.com/shop], require: {keys: [acme]}, notAfter: 2026-05-31T00:00:00+02:00}",
			want: signer.ErrNotAccepted, wantClock: true, wantRule: 1, wantText: []string{"the rule is valid until 2026-05-30T22:00:00Z"},
		},
		{
			name: "rule to come", rules: "- {ids: [example.com/shop], require: {keys: [acme]}, notBefore: 2027-01-01T00:00:00Z}",
			want: signer.ErrNotAccepted, wantClock: true, wantRule: 1, wantText: []string{"the rule is valid from 2027-01-01T00:00:00Z"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if line := tt.more["acme"]; strings.HasPrefix(line, "{") { // both ends
				tt.more = map[string]string{"acme": strings.NewReplacer("{", "", "}", "", ", ", "\n    ").Replace(line)}
				tt.rules = "- {ids: [example.com/shop], require: {keys: [acme]}}"
			}
			p := parsePolicy(t, policyYAML(keys, tt.more, "rules:\n"+tt.rules+"\n"))
			id := tt.id
			if id == "" {
				id = testID
			}
			evidence, err := p.Verify(t.Context(), s.repo, s.index, id, "1.0.0", noon)
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkDecision(t, evidence, tt.wantKeys, tt.wantRule, keys)
				return
			}
			var refused *signer.PolicyError
			if !errors.Is(err, tt.want) || !errors.As(err, &refused) || evidence != nil {
				t.Fatalf("Verify() = %v, %v, want a *PolicyError that is %v", evidence, err, tt.want)
			}
			if got := errors.As(err, new(*signer.ClockError)); got != tt.wantClock {
				t.Errorf("a clock is part of %v: %t, want %t", err, got, tt.wantClock)
			}
			if refused.Rule != tt.wantRule {
				t.Errorf("rule %d refused, want %d", refused.Rule, tt.wantRule)
			}
			for _, text := range tt.wantText {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("Verify() = %v, want it to say %q", err, text)
				}
			}
		})
	}
}

func checkDecision(t *testing.T, e *signer.Evidence, names []string, rule int, keys map[string]*signer.Key) {
	t.Helper()
	if e.Decision == nil || e.Decision.Policy != 3 || e.Decision.Rule != rule || !slices.Equal(e.Decision.Keys, names) {
		t.Fatalf("decision %+v, want by %v under rule %d of policy 3", e.Decision, names, rule)
	}
	var fingerprints []string
	for _, name := range names {
		fingerprints = append(fingerprints, keys[name].Fingerprint())
	}
	slices.Sort(fingerprints)
	if diff := cmp.Diff(fingerprints, e.Keys()); diff != "" {
		t.Errorf("keys of the evidence (-want +got):\n%s", diff)
	}
}

// What is not signed, or wrongly, keeps its verdict under a policy.
func TestPolicyVerdicts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := parsePolicy(t, policyYAML(map[string]*signer.Key{"acme": s.accepted.Key()}, nil, "rules: [{ids: ['**'], require: {keys: [acme]}}]"))
	_, err := p.Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon)
	if !errors.Is(err, signer.ErrUnsigned) || errors.Is(err, signer.ErrNotAccepted) {
		t.Errorf("unsigned: %v", err)
	}
	attachBundle(t, s.repo, s.index, s.foreignBundle)
	_, err = p.Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon)
	if !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("signature of another release: %v", err)
	}
}

func TestParsePolicyFindings(t *testing.T) {
	t.Parallel()
	key, other := newSigner(t).Key(), newSigner(t).Key()
	head := "apiVersion: sealift/v1\nkind: Policy\nversion: 1\n"
	pem := "{pem: " + fmt.Sprintf("%q", string(key.PEM())) + "}"
	known := head + "keys: {acme: " + pem + "}\n"
	tests := []struct{ name, text, want string }{
		{"empty", "", "the file is empty; want a policy that starts with apiVersion: sealift/v1"},
		{"a list", "[]", "want a map with apiVersion, kind, version, keys and rules"},
		{"an app", "apiVersion: sealift/v1\nkind: App\nversion: 1\n", "policy.yaml:2:7: kind: want Policy, got \"App\""},
		{"no version", "apiVersion: sealift/v1\nkind: Policy\n", "version: want a number from 1 on, got 0"},
		{"version below 1", "apiVersion: sealift/v1\nkind: Policy\nversion: -1\n", "version: want a number from 1 on, got -1"},
		{"unknown field", head + "rule: []\n", "policy.yaml:4:1: rule: unknown field; did you mean \"rules\"?"},
		{"given twice", head + "rules: []\nrules: []\n", "rules: given twice"},
		{"key given twice", head + "keys:\n  a: " + pem + "\n  a: " + pem + "\n", "keys.a: given twice"},
		{"one key under two names", head + "keys: {a: " + pem + ", b: " + pem + "}\n", "keys.b: is the same key as a"},
		{"no PEM", head + "keys: {a: {pem: x}}\n", "keys.a.pem: parse public key: no PEM block"},
		{"two PEM blocks", head + "keys: {a: {pem: " + fmt.Sprintf("%q", string(key.PEM())+string(other.PEM())) + "}}\n", "more than one PEM block"},
		{"key name", head + "keys: {'a b': " + pem + "}\n", "want a name of letters"},
		{"no such key", known + "rules: [{ids: [example.com/shop], require: {keys: [acne]}}]\n", "rules[0].require.keys[0]: no key \"acne\" among the keys of the policy; did you mean \"acme\"?"},
		{"key twice in a rule", known + "rules: [{ids: [example.com/shop], require: {keys: [acme, acme]}}]\n", "rules[0].require.keys[1]: is named twice"},
		{"no keys in a rule", known + "rules: [{ids: [example.com/shop], require: {keys: []}}]\n", "rules[0].require.keys: want at least one key"},
		{"nothing required", known + "rules: [{ids: [example.com/shop]}]\n", "rules[0].require.keys: want at least one key"},
		{"no ids", known + "rules: [{ids: [], require: {keys: [acme]}}]\n", "rules[0].ids: want patterns"},
		{"bad pattern", known + "rules: [{ids: ['example.com/['], require: {keys: [acme]}}]\n", "rules[0].ids[0]: \"example.com/[\" is no pattern"},
		{"threshold 0", known + "rules: [{ids: [example.com/shop], require: {keys: [acme], threshold: 0}}]\n", "rules[0].require.threshold: want any, all or a number from 1 on, got 0"},
		{"threshold some", known + "rules: [{ids: [example.com/shop], require: {keys: [acme], threshold: some}}]\n", "got some"},
		{"threshold of too many", known + "rules: [{ids: [example.com/shop], require: {keys: [acme], threshold: 2}}]\n", "rules[0].require.threshold: wants 2 signatures of 1 keys"},
		{"never decides", known + "rules:\n- {ids: ['**'], require: {keys: [acme]}}\n- {ids: [example.com/shop], require: {keys: [acme]}}\n", "policy.yaml:7:9: rules[1].ids: never decides: rule 1 is for ** before; put the narrower rule first"},
		{"time without zone", known + "rules: [{ids: [example.com/shop], require: {keys: [acme]}, notAfter: 2026-01-31}]\n", "rules[0].notAfter: want a time as 2026-01-31T12:00:00Z, got 2026-01-31"},
		{"the beginning of time", known + "rules: [{ids: [example.com/shop], require: {keys: [acme]}, notAfter: 0001-01-01T00:00:00Z}]\n", "rules[0].notAfter: want a time"},
		{"ends before it begins", known + "rules: [{ids: [a.b/c], require: {keys: [acme]}, notBefore: 2026-01-02T00:00:00Z, notAfter: 2026-01-01T00:00:00Z}]\n", "rules[0].notAfter: is before notBefore"},
		{"revoked by name", known + "revoked: {acme: lost}\n", "revoked.acme: want the fingerprint of a key"},
		{"revoked without a reason", known + "revoked: {" + key.Fingerprint() + ": ''}\n", "say why"},
		{"too many rules", known + "rules: [" + strings.Repeat("{ids: [a.b/c], require: {keys: [acme]}},", 1001) + "]\n", "want at most 1000 rules and as many ids, got 1001 and 1001"},
		{"updates by nobody", known + "updates: {}\n", "policy.yaml:5:10: updates.keys: want at least one key; leave updates out"},
		{"updates by a stranger", known + "updates: {keys: [acne]}\n", "updates.keys[0]: no key \"acne\" among the keys of the policy; did you mean \"acme\"?"},
		{"updates by one twice", known + "updates: {keys: [acme, acme], threshold: 2}\n", "updates.keys[1]: is named twice"},
		{"updates by too many", known + "updates: {keys: [acme], threshold: 2}\n", "updates.threshold: wants 2 signatures of 1 keys"},
		{"updates by 0", known + "updates: {keys: [acme], threshold: 0}\n", "updates.threshold: want any, all or a number from 1 on, got 0"},
		{"updates by identities", known + "updates: {keys: [acme], identities: []}\n", "updates.identities: unknown field"},
		{"updates of nothing", known + "updates:\n", "updates:"},
		{"control character", known + "revoked: {" + key.Fingerprint() + ": \"lost\\e[2J\"}\n", "holds a control character"},
		{"two documents", head + "---\n" + head, "want one YAML document, got several"},
		{"aliases without end", head + "revoked: &a {x: *a}\n", ""},
		{"huge", "#" + strings.Repeat("x", signer.MaxPolicyBytes), "more than the 1048576 accepted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := signer.ParsePolicy("policy.yaml", []byte(tt.text))
			var findings artifact.FindingsError
			if !errors.As(err, &findings) || p != nil {
				t.Fatalf("ParsePolicy() = %v, %v, want findings", p, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParsePolicy() = %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func FuzzParsePolicy(f *testing.F) {
	key := newSigner(f).Key()
	f.Add([]byte(policyYAML(map[string]*signer.Key{"acme": key}, map[string]string{"acme": "notAfter: 2026-06-01T11:59:59Z"},
		"revoked: {"+key.Fingerprint()+": lost}\nrules: [{ids: [a.b/c, 'a.b/**'], require: {keys: [acme], threshold: all}}]")))
	f.Add([]byte(policyYAML(map[string]*signer.Key{"a": key}, nil, "updates: {keys: [a], threshold: 1}\n")))
	f.Add([]byte(policyYAML(map[string]*signer.Key{"a": key}, nil, "rules: [{ids: [a.b/c], require: {keys: [a]}}]\nrules: []\n")))
	f.Add([]byte("keys: {" + strings.Repeat("k: {pem: ''}, ", 2000) + "}\n"))
	f.Add(bytes.Repeat([]byte("["), 20_000))
	f.Add([]byte(policyYAML(map[string]*signer.Key{"a": key}, nil, "updates: {keys: [a, a], threshold: 2}\n")))
	f.Add([]byte(policyYAML(map[string]*signer.Key{"acme": key}, nil, rootsYAML(map[string][]byte{"public": sigstoretest.New(f).TrustedRoot(f, everything)})+
		"rules: [{ids: [a.b/c], require: {keys: [acme], identities: [{issuer: i, subjectRegexp: '.*'}], threshold: 2, attestations: [{type: spdx, identities: [{issuer: i, subject: s, root: public}]}]}}]")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := signer.ParsePolicy("policy.yaml", raw)
		if err != nil {
			if !errors.As(err, new(artifact.FindingsError)) {
				t.Errorf("ParsePolicy() = %v, want findings", err)
			}
			return
		}
		if u := p.Updates; len(u.Keys) > 0 && (u.Threshold < 1 || u.Threshold > len(u.Keys)) {
			t.Errorf("anybody may replace it: %+v", u)
		}
		for i, r := range p.Rules {
			signers := len(r.Keys) + len(r.Identities)
			if len(r.IDs) == 0 || signers == 0 || r.Threshold < 1 || r.Threshold > signers {
				t.Errorf("rule %d accepts what nobody signed: %+v", i+1, r)
			}
			for _, id := range r.Identities {
				if err := id.Check(); err != nil {
					t.Errorf("rule %d has an identity that is nobody's: %v", i+1, err)
				}
			}
			for _, name := range r.Keys {
				if p.Keys[name].Key == nil {
					t.Errorf("rule %d names key %q, which is none", i+1, name)
				}
			}
		}
	})
}

// The schema names the very fields that are read.
func TestPolicySchema(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties map[string]any `json:"properties"`
		Additional any            `json:"additionalProperties"`
	}
	var schema struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	fields := signer.PolicyFields()
	schema.Defs["policy"] = schema.object
	for name, want := range fields {
		got := slices.Sorted(maps.Keys(schema.Defs[name].Properties))
		if !slices.Equal(got, want) || schema.Defs[name].Additional != false {
			t.Errorf("the schema of a %s has the fields %v and more: %v; want %v and no more", name, got, schema.Defs[name].Additional, want)
		}
	}
	if len(fields) != 8 {
		t.Errorf("%d kinds of objects are read, want 8", len(fields))
	}
}

// The schema has a rule require somebody, as ParsePolicy does: either list may be empty
// beside the other.
func TestPolicySchemaRequire(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	type list struct{ MinItems int }
	type object struct {
		Required   []string
		Properties map[string]list
	}
	var schema struct {
		Defs struct {
			Require struct {
				object
				AnyOf []object
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	fits := func(o object, lists map[string]int) bool {
		for _, name := range o.Required {
			if _, is := lists[name]; !is {
				return false
			}
		}
		for name, n := range lists {
			if n < o.Properties[name].MinItems {
				return false
			}
		}
		return true
	}
	head := policyYAML(map[string]*signer.Key{"acme": newSigner(t).Key()}, nil, rootsYAML(map[string][]byte{"public": sigstoretest.New(t).TrustedRoot(t, everything)}))
	entries := map[string]string{"keys": "acme", "identities": "{issuer: i, subject: s}"}
	for _, tt := range []struct {
		lists map[string]int // how many entries each has that is there
		want  bool
	}{
		{map[string]int{}, false},
		{map[string]int{"keys": 0}, false},
		{map[string]int{"identities": 0}, false},
		{map[string]int{"keys": 0, "identities": 0}, false},
		{map[string]int{"keys": 1}, true},
		{map[string]int{"identities": 1}, true},
		{map[string]int{"keys": 0, "identities": 1}, true},
		{map[string]int{"keys": 1, "identities": 0}, true},
		{map[string]int{"keys": 1, "identities": 1}, true},
	} {
		require := schema.Defs.Require
		got := fits(require.object, tt.lists) && slices.ContainsFunc(require.AnyOf, func(o object) bool { return fits(o, tt.lists) })
		var fields []string
		for name, n := range tt.lists {
			fields = append(fields, name+": ["+strings.Repeat(entries[name], n)+"]")
		}
		_, err := signer.ParsePolicy("policy.yaml", []byte(head+"rules: [{ids: [a.b/c], require: {"+strings.Join(fields, ", ")+"}}]\n"))
		if got != tt.want || (err == nil) != tt.want {
			t.Errorf("require %v: the schema takes it: %t, ParsePolicy: %v; want %t", tt.lists, got, err, tt.want)
		}
	}
}

// A policy that ParsePolicy did not make accepts no less than it would.
func TestPolicyByHand(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	parts(t, s.repo, s.index, s.accepted)
	glob, err := artifact.ParseIDGlob("**")
	if err != nil {
		t.Fatal(err)
	}
	key := signer.PolicyKey{Key: s.accepted.Key()}
	for name, rule := range map[string]signer.Rule{
		"no threshold":   {IDs: []artifact.IDGlob{glob}, Keys: []string{"a"}},
		"nobody":         {IDs: []artifact.IDGlob{glob}, Threshold: 0},
		"an unknown key": {IDs: []artifact.IDGlob{glob}, Keys: []string{"c"}, Threshold: 1},
		"one key twice":  {IDs: []artifact.IDGlob{glob}, Keys: []string{"a", "b"}, Threshold: 2},
		"the same name":  {IDs: []artifact.IDGlob{glob}, Keys: []string{"a", "a"}, Threshold: 2},
		"no such signer": {IDs: []artifact.IDGlob{glob}, Keys: []string{"a"}, Identities: []signer.Identity{{Issuer: issuer, Subject: subject}}, Threshold: 1},
		"anybody attests": {IDs: []artifact.IDGlob{glob}, Keys: []string{"a"}, Threshold: 1,
			Attestations: []signer.RequiredAttestation{{Type: "https://spdx.dev/Document"}}},
	} {
		p := &signer.Policy{Version: 1, Keys: map[string]signer.PolicyKey{"a": key, "b": key}, Rules: []signer.Rule{rule}}
		if _, err := p.Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon); !errors.Is(err, signer.ErrNotAccepted) {
			t.Errorf("%s: Verify() = %v, want it refused", name, err)
		}
	}
}

// Only those whom the present policy names under updates replace it.
func TestVerifyUpdate(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	second := newSigner(t)
	parts(t, s.repo, s.index, s.accepted)
	parts(t, s.repo, s.index, second)
	keys := map[string]*signer.Key{"officer": s.accepted.Key(), "deputy": second.Key(), "absent": newSigner(t).Key(), "later": newSigner(t).Key()}
	officer := s.accepted.Key().Fingerprint()
	tests := []struct {
		name      string
		more      map[string]string // of keys
		rest      string
		want      error // nil where it is accepted, by keys
		wantKeys  []string
		wantClock bool
		closed    bool
		text      string
	}{
		{name: "any", rest: "updates: {keys: [absent, officer]}", wantKeys: []string{"officer"}},
		{name: "all", rest: "updates: {keys: [officer, deputy], threshold: all}", wantKeys: []string{"deputy", "officer"}},
		{name: "below threshold", rest: "updates: {keys: [officer, deputy, absent], threshold: 3}", want: signer.ErrNotAccepted, text: "wants signatures by 3 of officer, deputy, absent; signed by deputy, officer"},
		{name: "by others", rest: "updates: {keys: [absent, later]}", want: signer.ErrNotAccepted, text: "wants signatures by 1 of absent, later"},
		{name: "no updates", rest: "rules: [{ids: ['**'], require: {keys: [officer]}}]", want: signer.ErrNotAccepted, closed: true, text: "it has no updates, so that nobody may replace it"},
		{name: "revoked", rest: "updates: {keys: [officer]}\nrevoked: {" + officer + ": laptop lost}", want: signer.ErrNotAccepted, text: "key officer is revoked: laptop lost"},
		{name: "one of two revoked", rest: "updates: {keys: [officer, deputy], threshold: all}\nrevoked: {" + officer + ": laptop lost}", want: signer.ErrNotAccepted, text: "signed by deputy; key officer is revoked"},
		{name: "expired", more: map[string]string{"officer": "notAfter: 2026-06-01T11:59:59Z"}, rest: "updates: {keys: [officer]}", want: signer.ErrNotAccepted, wantClock: true, text: "key officer is valid until"},
		{name: "not yet", more: map[string]string{"officer": "notBefore: 2026-06-01T12:00:01Z"}, rest: "updates: {keys: [officer]}", want: signer.ErrNotAccepted, wantClock: true, text: "key officer is valid from"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := parsePolicy(t, policyYAML(keys, tt.more, tt.rest+"\n"))
			evidence, err := p.VerifyUpdate(t.Context(), s.repo, s.index, noon)
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				checkDecision(t, evidence, tt.wantKeys, 0, keys)
				return
			}
			var refused *signer.UpdateError
			if !errors.Is(err, tt.want) || !errors.As(err, &refused) || evidence != nil {
				t.Fatalf("VerifyUpdate() = %v, %v, want an *UpdateError that is %v", evidence, err, tt.want)
			}
			if refused.Closed != tt.closed || refused.Policy != 3 || errors.As(err, new(*signer.ClockError)) != tt.wantClock {
				t.Errorf("VerifyUpdate() = %+v, want policy 3, closed %t, a clock %t", refused, tt.closed, tt.wantClock)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("VerifyUpdate() = %v, want it to say %q", err, tt.text)
			}
		})
	}
}

// A signature of another update that is attached to this one is invalid, and nothing at
// all is unsigned.
func TestVerifyUpdateVerdicts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	p := parsePolicy(t, policyYAML(map[string]*signer.Key{"officer": s.accepted.Key()}, nil, "updates: {keys: [officer]}\n"))
	if _, err := p.VerifyUpdate(t.Context(), s.repo, s.index, noon); !errors.Is(err, signer.ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
	attachBundle(t, s.repo, s.index, s.foreignBundle)
	if _, err := p.VerifyUpdate(t.Context(), s.repo, s.index, noon); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("signature of another update: %v", err)
	}
	for name, u := range map[string]signer.Updates{
		"no threshold":   {Keys: []string{"officer"}},
		"an unknown key": {Keys: []string{"nobody"}, Threshold: 1},
		"a key twice":    {Keys: []string{"officer", "officer"}, Threshold: 2},
	} {
		p.Updates = u
		if _, err := p.VerifyUpdate(t.Context(), s.repo, s.index, noon); !errors.Is(err, signer.ErrNotAccepted) {
			t.Errorf("%s: VerifyUpdate() = %v, want it refused", name, err)
		}
	}
}

func TestAttainable(t *testing.T) {
	t.Parallel()
	a, b := newSigner(t).Key(), newSigner(t).Key()
	roots := rootsYAML(map[string][]byte{"public": sigstoretest.New(t).TrustedRoot(t, everything)})
	lost := "revoked: {" + a.Fingerprint() + ": lost}\n"
	identity := "identities: [{issuer: i, subject: s}]"
	tests := []struct {
		name            string
		more            map[string]string
		rest            string
		updatable, shop bool
	}{
		{name: "an identity is left", rest: lost + roots + "rules: [{ids: [example.com/shop], require: {keys: [a], " + identity + "}}]", shop: true},
		{name: "an identity is not enough", rest: lost + roots + "rules: [{ids: [example.com/shop], require: {keys: [a], " + identity + ", threshold: all}}]"},
		{name: "nobody attests", rest: lost + roots + "rules: [{ids: [example.com/shop], require: {keys: [b], attestations: [{type: vuln, keys: [a]}]}}]"},
		{name: "an identity attests", rest: lost + roots + "rules: [{ids: [example.com/shop], require: {keys: [b], attestations: [{type: vuln, keys: [a], " + identity + "}]}}]", shop: true},
		{name: "both", rest: "rules: [{ids: [example.com/shop], require: {keys: [a]}}]\nupdates: {keys: [a, b], threshold: all}", updatable: true, shop: true},
		{name: "none", rest: "rules: [{ids: [example.com/other], require: {keys: [a]}}]"},
		{name: "revoked", rest: "rules: [{ids: [example.com/shop], require: {keys: [a]}}]\nupdates: {keys: [a, b], threshold: all}\nrevoked: {" + a.Fingerprint() + ": lost}"},
		{name: "one is left", rest: "rules: [{ids: [example.com/shop], require: {keys: [a, b]}}]\nupdates: {keys: [a, b]}\nrevoked: {" + a.Fingerprint() + ": lost}", updatable: true, shop: true},
		{name: "over", more: map[string]string{"a": "notAfter: 2026-06-01T11:59:59Z"}, rest: "rules: [{ids: [example.com/shop], require: {keys: [a]}}]\nupdates: {keys: [a]}"},
		{name: "to come", more: map[string]string{"a": "notBefore: 2027-06-01T11:59:59Z"}, rest: "rules: [{ids: [example.com/shop], require: {keys: [a]}}]\nupdates: {keys: [a]}", updatable: true, shop: true},
		{name: "rule over", rest: "rules: [{ids: [example.com/shop], require: {keys: [a]}, notAfter: 2026-06-01T11:59:59Z}]\nupdates: {keys: [a]}", updatable: true},
	}
	for _, tt := range tests {
		p := parsePolicy(t, policyYAML(map[string]*signer.Key{"a": a, "b": b}, tt.more, tt.rest+"\n"))
		if updatable, shop := p.Updatable(noon), p.Attainable(testID, noon); updatable != tt.updatable || shop != tt.shop {
			t.Errorf("%s: Updatable() = %t, Attainable() = %t, want %t and %t", tt.name, updatable, shop, tt.updatable, tt.shop)
		}
	}
}
