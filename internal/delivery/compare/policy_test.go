package compare_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/delivery/compare"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

func newKey(t *testing.T) *signer.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s.Key()
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	a, b, c := newKey(t), newKey(t), newKey(t)
	key := func(name string, k *signer.Key, more string) string {
		return fmt.Sprintf("%s: {pem: %q%s}", name, k.PEM(), more)
	}
	policy := func(version int, keys []string, rest string) *signer.Policy {
		t.Helper()
		p, err := signer.ParsePolicy("policy.yaml", fmt.Appendf(nil, "apiVersion: sealift/v1\nkind: Policy\nversion: %d\nkeys: {%s}\n%s\n", version, strings.Join(keys, ", "), rest))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const rules = "rules: [{ids: [a.b/x, a.b/y], require: {keys: [a]}}, {ids: [a.b/z], require: {keys: [a, b]}}]"
	ab := []string{key("a", a, ""), key("b", b, "")}
	old := policy(1, ab, rules)
	root := string(sigstoretest.New(t).TrustedRoot(t, sigstoretest.Parts{Log: true}))
	parsed, err := signer.ParseRoot([]byte(root))
	if err != nil {
		t.Fatal(err)
	}
	rooted := fmt.Sprintf("\ntrustedRoots: {public: {json: %q}}", root)
	tests := []struct {
		name string
		new  *signer.Policy
		want []string
	}{
		{"only the version", policy(2, ab, rules), nil},
		{"the same ids in another order", policy(2, ab, strings.Replace(rules, "a.b/x, a.b/y", "a.b/y, a.b/x", 1)), []string{"changed other   -> "}},
		{"a key more, and a time", policy(2, []string{key("a", a, ", notAfter: 2027-01-01T00:00:00Z"), key("b", b, ""), key("c", c, "")}, rules), []string{
			"changed key a " + a.Fingerprint() + " -> " + a.Fingerprint() + ", until 2027-01-01T00:00:00Z", "added key c  -> " + c.Fingerprint(),
		}},
		{"another key of the name", policy(2, []string{key("a", c, ""), key("b", b, "")}, rules), []string{"changed key a " + a.Fingerprint() + " -> " + c.Fingerprint()}},
		{"revoked", policy(2, ab, rules+"\nrevoked: {"+a.Fingerprint()+": lost, "+c.Fingerprint()+": stolen}"), sortedLines(
			"added revoked "+a.Fingerprint()+"  -> key a, lost", "added revoked "+c.Fingerprint()+"  -> stolen",
		)},
		{"rules", policy(2, ab, "rules: [{ids: [a.b/z], require: {keys: [a, b], threshold: all}, notBefore: 2027-01-01T00:00:00Z}, {ids: [a.b/w], require: {keys: [b]}}]"), []string{
			"added rule a.b/w  -> signed by b", "removed rule a.b/x, a.b/y signed by a -> ", "changed rule a.b/z signed by 1 of a, b -> signed by 2 of a, b, from 2027-01-01T00:00:00Z",
		}},
		{"a rule ahead of another", policy(2, []string{key("a", a, ""), key("b", b, ""), key("c", c, "")}, strings.Replace(rules, "[{", "[{ids: ['a.b/x', 'a.b/w'], require: {keys: [c]}}, {", 1)), []string{
			"added key c  -> " + c.Fingerprint(), "added rule a.b/w, a.b/x  -> signed by c", "changed decides a.b/x signed by a -> signed by c",
		}},
		{"their order", policy(2, ab, "rules: [{ids: [a.b/z], require: {keys: [a, b]}}, {ids: [a.b/x, a.b/y], require: {keys: [a]}}]"), []string{"changed order  a.b/x, a.b/y; a.b/z -> a.b/z; a.b/x, a.b/y"}},
		{"an identity, and what it attests", policy(2, ab, strings.Replace(rules, "{keys: [a, b]}",
			"{keys: [a, b], identities: [{issuer: i, subject: s}], threshold: 2, attestations: [{type: vuln, keys: [b], identities: [{issuer: i, subject: s}]}]}", 1)+rooted), []string{
			"added trustedRoot public  -> " + parsed.Fingerprint() + " of " + strings.Join(parsed.Authorities(), ", "),
			"changed rule a.b/z signed by 1 of a, b -> signed by 2 of a, b, s (i) by root public; attested https://cosign.sigstore.dev/attestation/vuln/v1 by b, s (i) by root public",
		}},
		{"who may replace it", policy(2, ab, rules+"\nupdates: {keys: [a, b], threshold: all}"), []string{"added updates   -> signed by 2 of a, b"}},
	}
	for _, tt := range tests {
		var got []string
		for _, c := range compare.Policies(old, tt.new, []string{"c.d/installed"}) {
			got = append(got, fmt.Sprintf("%s %s %s %s -> %s", c.Kind, c.Part, c.Name, c.Old, c.New))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	all := map[compare.Part]bool{}
	for _, tt := range tests {
		for _, c := range compare.Policies(old, tt.new, []string{"c.d/installed"}) {
			all[c.Part] = true
		}
	}
	for _, part := range compare.Parts() {
		if !all[part] {
			t.Errorf("no policy here differs in part %s", part)
		}
		delete(all, part)
	}
	if len(all) > 0 {
		t.Errorf("Parts() lacks %v", all)
	}
	back := compare.Policies(tests[len(tests)-1].new, old, nil)
	if len(back) != 1 || back[0].Kind != compare.Removed || back[0].Old != "signed by 2 of a, b" {
		t.Errorf("Policies() the other way = %+v", back)
	}
}

// Whoever agrees to a change reads what it is of, whatever part that is.
func TestPolicyChangeSubject(t *testing.T) {
	t.Parallel()
	words := map[string]compare.Part{}
	for _, part := range compare.Parts() {
		bare := compare.PolicyChange{Part: part}.Subject()
		if other, twice := words[bare]; bare == "" || twice {
			t.Errorf("part %s is called %q, as is %q", part, bare, other)
		}
		words[bare] = part
		if got := (compare.PolicyChange{Part: part, Name: "x"}).Subject(); got != bare+" x" {
			t.Errorf("Subject() of part %s = %q, want %q and its name", part, got, bare)
		}
	}
}

// sortedLines puts the two in the order of their bytes, which keys choose.
func sortedLines(a, b string) []string {
	if a > b {
		a, b = b, a
	}
	return []string{a, b}
}
