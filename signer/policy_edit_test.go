package signer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

func addRule(t *testing.T, data string, key *signer.Key, name string, ids ...string) string {
	t.Helper()
	out, err := signer.AddRule("policy.yaml", []byte(data), signer.RuleToAdd{IDs: ids, Key: key, Name: name})
	if err != nil {
		t.Fatalf("AddRule: %v\n%s", err, data)
	}
	return string(out)
}

// withKey stands for the lines of a key in what is wanted.
func withKey(key *signer.Key) string {
	return "\n    # " + key.Fingerprint() + "\n    pem: |\n      " + strings.ReplaceAll(strings.TrimSpace(string(key.PEM())), "\n", "\n      ")
}

func TestAddRule(t *testing.T) {
	t.Parallel()
	acme, qa := newSigner(t).Key(), newSigner(t).Key()
	got := addRule(t, "", acme, "acme", "example.com/**")
	want := "apiVersion: sealift/v1\nkind: Policy\nversion: 1\nkeys:\n  acme:" + withKey(acme) +
		"\nrules:\n  - ids: [example.com/**]\n    require:\n      keys: [acme]\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("a first rule (-want +got):\n%s", diff)
	}
	got = strings.Replace(got, "rules:", "# The narrower first.\nrules:", 1)
	got = addRule(t, got, qa, "acme", "example.com/shop")
	want = "apiVersion: sealift/v1\nkind: Policy\nversion: 2\nkeys:\n  acme:" + withKey(acme) + "\n  acme-2:" + withKey(qa) +
		"\n# The narrower first.\nrules:\n  - ids: [example.com/shop]\n    require:\n      keys: [acme-2]\n  - ids: [example.com/**]\n    require:\n      keys: [acme]\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("a narrower rule, a key whose name is taken, a comment (-want +got):\n%s", diff)
	}
	got = addRule(t, got, acme, "whatever", "example.com/shop")
	want = strings.NewReplacer("version: 2", "version: 3", "keys: [acme-2]", "keys: [acme-2, acme]").Replace(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("one key more for the same ids (-want +got):\n%s", diff)
	}
	if again := addRule(t, got, acme, "whatever", "example.com/shop"); again != got {
		t.Errorf("the same again changed it:\n%s", again)
	}
	got = addRule(t, got, qa, "qa", "example.org/**", "example.net/x")
	p := parsePolicy(t, got)
	if rule, pattern := p.Match("example.org/a/b"); rule != 3 || pattern != "example.org/**" || p.Version != 4 {
		t.Errorf("rule %d (%s) of version %d, want a rule behind the others, of version 4", rule, pattern, p.Version)
	}
}

func TestAddRuleRefuses(t *testing.T) {
	t.Parallel()
	key := newSigner(t).Key()
	sound := addRule(t, "", key, "acme", "example.com/**")
	tests := []struct {
		name, data string
		add        signer.RuleToAdd
		unfit      bool // errdef.ErrUnsupported instead of findings
	}{
		{"no policy", "kind: App\n", signer.RuleToAdd{IDs: []string{"a.b/c"}, Key: key, Name: "acme"}, false},
		{"bad pattern", sound, signer.RuleToAdd{IDs: []string{"a.b/["}, Key: key, Name: "acme"}, false},
		{"no pattern", sound, signer.RuleToAdd{Key: key, Name: "acme"}, false},
		{"bad name", sound, signer.RuleToAdd{IDs: []string{"a.b/c"}, Key: newSigner(t).Key(), Name: "a b"}, false},
		{"revoked", sound + "revoked: {" + key.Fingerprint() + ": lost}\n", signer.RuleToAdd{IDs: []string{"a.b/c"}, Key: key, Name: "acme"}, true},
		{"all of a rule", addRule(t, strings.Replace(sound, "keys: [acme]", "keys: [acme]\n      threshold: all", 1), key, "x", "a.b/c"), signer.RuleToAdd{IDs: []string{"example.com/**"}, Key: newSigner(t).Key(), Name: "acme"}, true},
		{"ids of a narrower rule", addRule(t, addRule(t, "", key, "acme", "b.com/**"), key, "acme", "example.com/shop", "other.com/x"), signer.RuleToAdd{IDs: []string{"example.com/**", "b.com/x"}, Key: newSigner(t).Key(), Name: "new"}, true},
		{"aliases", strings.Replace(sound, "keys: [acme]", "keys: &k [acme]\n  - ids: [a.b/c]\n    require:\n      keys: *k", 1), signer.RuleToAdd{IDs: []string{"a.b/c"}, Key: key, Name: "acme"}, true},
	}
	for _, tt := range tests {
		out, err := signer.AddRule("policy.yaml", []byte(tt.data), tt.add)
		var findings artifact.FindingsError
		if errors.As(err, &findings) == tt.unfit || errors.Is(err, errdef.ErrUnsupported) != tt.unfit || out != nil {
			t.Errorf("%s: AddRule() = %q, %v", tt.name, out, err)
		}
	}
}

// A rule is by a key or by an identity.
func TestAddRuleByWhom(t *testing.T) {
	t.Parallel()
	key, id := newSigner(t).Key(), accept(parseRoot(t, sigstoretest.New(t).TrustedRoot(t, everything)))
	for _, tt := range []struct {
		name, signer string
		add          signer.RuleToAdd
		ok           bool
	}{
		{"nobody", "", signer.RuleToAdd{}, false},
		{"both", key.Fingerprint(), signer.RuleToAdd{Key: key, Identity: &id}, false},
		{"a key", key.Fingerprint(), signer.RuleToAdd{Key: key}, true},
		{"an identity", id.String(), signer.RuleToAdd{Identity: &id}, true},
	} {
		tt.add.IDs, tt.add.Name = []string{"a.b/c"}, "acme"
		out, err := signer.AddRule("policy.yaml", nil, tt.add)
		if (err == nil) != tt.ok || (out != nil) != tt.ok || !tt.ok && !strings.Contains(err.Error(), "a.b/c: want a key or an identity") {
			t.Errorf("%s: AddRule() = %q, %v", tt.name, out, err)
		}
		if got := tt.add.Signer(); got != tt.signer {
			t.Errorf("%s: Signer() = %q, want %q", tt.name, got, tt.signer)
		}
	}
}

// A wider rule stands behind a narrower one, and a number is a number however it is
// written.
func TestAddRuleWider(t *testing.T) {
	t.Parallel()
	key := newSigner(t).Key()
	for _, pair := range [][2]string{{"example.com/?", "example.com/*"}, {"example.com/*/x", "example.com/**/x"}} {
		policy := addRule(t, "", key, "acme", pair[0])
		policy = addRule(t, strings.Replace(policy, "version: 1", "version: 5.0", 1), key, "acme", pair[1])
		p := parsePolicy(t, policy)
		if len(p.Rules) != 2 || p.Rules[0].IDs[0].String() != pair[0] || p.Version != 6 {
			t.Errorf("version %d, want 6, and %s first:\n%s", p.Version, pair[0], policy)
		}
	}
}
