package signer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

const qaSubject = "qa@acme.example"

// rootsYAML writes trusted roots by name.
func rootsYAML(roots map[string][]byte) string {
	text := "trustedRoots:\n"
	for name, raw := range roots {
		text += fmt.Sprintf("  %s:\n    json: |-\n      %s\n", name, strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", "\n      "))
	}
	return text
}

func TestPolicyIdentities(t *testing.T) {
	t.Parallel()
	sigstore, other := sigstoretest.New(t), sigstoretest.New(t)
	s := newScene(t)
	parts(t, s.repo, s.index, s.accepted)
	qa := release
	qa.Subject = qaSubject
	for _, by := range []sigstoretest.Signature{release, release, qa} { // one of them twice
		attachBundle(t, s.repo, s.index, sigstore.Bundle(t, by, s.index.Digest, sigstoretest.SignType, nil))
	}
	attachBundle(t, s.repo, s.index, sigstore.Bundle(t, qa, s.index.Digest, "https://spdx.dev/Document", []byte(`{"name":"shop"}`)))
	attest(t, s, s.index, s.accepted, "https://cyclonedx.org/bom", `{"bomFormat":"CycloneDX"}`)
	attest(t, s, s.image, s.accepted, "https://openvex.dev/ns", `{}`)
	keys := map[string]*signer.Key{"acme": s.accepted.Key(), "other": newSigner(t).Key()}
	one := rootsYAML(map[string][]byte{"public": sigstore.TrustedRoot(t, everything)})
	two := rootsYAML(map[string][]byte{"public": sigstore.TrustedRoot(t, everything), "plant": other.TrustedRoot(t, everything)})
	const (
		releaseIs     = "{issuer: 'https://accounts.example.com', subject: release@acme.example}"
		qaIs          = "{issuer: 'https://accounts.example.com', subject: qa@acme.example}"
		anyoneIs      = "{issuer: 'https://accounts.example.com', subjectRegexp: '.*@acme\\.example'}"
		someoneIs     = "{issuerRegexp: 'https://accounts\\..*', subjectRegexp: '[a-z]+@acme\\.example'}"
		releaseExprIs = "{issuer: 'https://accounts.example.com', subjectRegexp: 'r.*@acme\\.example'}"
		qaExprIs      = "{issuer: 'https://accounts.example.com', subjectRegexp: 'q.*@acme\\.example'}"
		wideIssuerIs  = "{issuerRegexp: 'https://.*', subject: qa@acme.example}"
		strangerIs    = "{issuer: 'https://accounts.example.com', subject: mallory@acme.example}"
	)
	revoked := "revoked: {" + s.accepted.Key().Fingerprint() + ": laptop lost}\n"
	tests := []struct {
		name, roots, require string
		want                 error // nil where it is accepted, by those below
		wantKeys, wantIDs    []string
		wantTypes            []string // of attestations
		wantText             string
	}{
		{name: "identity", require: "identities: [" + releaseIs + "]", wantIDs: []string{subject}},
		{name: "named root", roots: two, require: "identities: [" + strings.Replace(releaseIs, "}", ", root: public}", 1) + "]", wantIDs: []string{subject}},
		{
			name: "wrong root", roots: two, require: "identities: [" + strings.Replace(releaseIs, "}", ", root: plant}", 1) + "]",
			want: signer.ErrInvalid, wantText: "it wants a signature by release@acme.example (" + issuer + ")",
		},
		{name: "another identity", require: "identities: [" + strangerIs + "]", want: signer.ErrNotAccepted, wantText: "who is none of the 1 identities given"},
		{name: "keys alone", require: "keys: [acme]", wantKeys: []string{"acme"}},
		{name: "a certificate under keys alone", require: "keys: [other]", want: signer.ErrNotAccepted, wantText: "signed with a certificate, not a key"},
		{name: "key and identity together", require: "keys: [acme]\n    identities: [" + releaseIs + "]\n    threshold: all", wantKeys: []string{"acme"}, wantIDs: []string{subject}},
		{
			name: "identity and another key", require: "keys: [other]\n    identities: [" + releaseIs + "]\n    threshold: 2",
			want: signer.ErrNotAccepted, wantText: "it wants signatures by 2 of other, release@acme.example (" + issuer + "); signed by release@acme.example",
		},
		{name: "two of one expression and one name", require: "identities: [" + anyoneIs + ", " + qaIs + "]\n    threshold: 2", wantIDs: []string{qaSubject, subject}},
		{
			name: "two signers are not three", require: "identities: [" + anyoneIs + ", " + someoneIs + ", " + releaseIs + "]\n    threshold: 3",
			want: signer.ErrNotAccepted, wantText: "signed by qa@acme.example (" + issuer + "), release@acme.example (" + issuer + ")",
		},
		{
			name: "a root vouches for its own", roots: two,
			require: "identities: [" + strings.Replace(anyoneIs, "}", ", root: public}", 1) + ", " + strings.Replace(qaIs, "}", ", root: plant}", 1) + "]\n    threshold: 2",
			want:    signer.ErrNotAccepted, wantText: "; signed by qa@acme.example (" + issuer + ")",
		},
		{name: "the wider expression first", require: "identities: [" + anyoneIs + ", " + releaseExprIs + "]\n    threshold: 2", wantIDs: []string{qaSubject, subject}},
		{name: "the wider expression last", require: "identities: [" + releaseExprIs + ", " + anyoneIs + "]\n    threshold: 2", wantIDs: []string{qaSubject, subject}},
		{name: "the wider expression is for who comes first", require: "identities: [" + anyoneIs + ", " + qaExprIs + "]\n    threshold: 2", wantIDs: []string{qaSubject, subject}},
		{name: "a wider issuer of a name, first", require: "identities: [" + wideIssuerIs + ", " + qaIs + ", " + anyoneIs + "]\n    threshold: 2", wantIDs: []string{qaSubject, subject}},
		{name: "a wider issuer of anybody, before a name", require: "identities: [" + someoneIs + ", " + wideIssuerIs + "]\n    threshold: 2", wantIDs: []string{qaSubject, subject}},
		{
			name: "expressions and a key", require: "keys: [acme]\n    identities: [" + anyoneIs + ", " + qaExprIs + "]\n    threshold: all",
			wantKeys: []string{"acme"}, wantIDs: []string{qaSubject, subject},
		},
		{
			name: "a key is in no identity's place", require: "keys: [acme, other]\n    identities: [" + anyoneIs + ", " + qaExprIs + "]\n    threshold: 4",
			want: signer.ErrNotAccepted, wantText: "signed by acme, qa@acme.example (" + issuer + "), release@acme.example (" + issuer + ")",
		},
		{
			name: "two expressions for one", require: "keys: [acme]\n    identities: [" + qaExprIs + ", " + wideIssuerIs + "]\n    threshold: all",
			want: signer.ErrNotAccepted, wantText: "; signed by acme, qa@acme.example (" + issuer + ")",
		},
		{name: "one expression counts once", require: "keys: [other]\n    identities: [" + anyoneIs + "]\n    threshold: 2", want: signer.ErrNotAccepted, wantText: "wants signatures by 2"},
		{name: "attestation by the key of the rule", require: "keys: [acme]\n    attestations: [{type: cyclonedx}]", wantKeys: []string{"acme"}, wantTypes: []string{"https://cyclonedx.org/bom"}},
		{
			name: "attestation by an identity it names", require: "keys: [acme]\n    attestations: [{type: spdxjson, identities: [" + qaIs + "]}, {type: 'https://cyclonedx.org/bom'}]",
			wantKeys: []string{"acme"}, wantTypes: []string{"https://spdx.dev/Document", "https://cyclonedx.org/bom"},
		},
		{
			name: "attestation by nobody of the rule", require: "keys: [acme]\n    attestations: [{type: spdxjson}]",
			want: signer.ErrNotAccepted, wantText: "it wants an attestation of type https://spdx.dev/Document by acme",
		},
		{
			name: "attestation by somebody another names", require: "keys: [acme]\n    attestations: [{type: spdxjson, keys: [acme]}, {type: cyclonedx, identities: [" + qaIs + "]}]",
			want: signer.ErrNotAccepted, wantText: "of type https://spdx.dev/Document by acme; it wants an attestation of type https://cyclonedx.org/bom by qa@acme.example",
		},
		{name: "attestation about an image", require: "keys: [acme]\n    attestations: [{type: openvex}]", want: signer.ErrNotAccepted, wantText: "https://openvex.dev/ns"},
		{name: "no attestation", require: "keys: [acme]\n    attestations: [{type: vuln}]", want: signer.ErrNotAccepted, wantText: "attestation/vuln/v1 by acme"},
		{
			name: "attestation by a revoked key", roots: one + revoked, require: "identities: [" + releaseIs + "]\n    attestations: [{type: cyclonedx, keys: [acme]}]",
			want: signer.ErrNotAccepted, wantText: "attestation of type https://cyclonedx.org/bom by acme",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.roots == "" {
				tt.roots = one
			}
			p := parsePolicy(t, policyYAML(keys, nil, tt.roots+"rules:\n- ids: [example.com/shop]\n  require:\n    "+tt.require+"\n"))
			evidence, err := p.Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon)
			if tt.want != nil {
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.wantText) || evidence != nil {
					t.Fatalf("Verify() = %v, %v, want a refusal that is %v and says %q", evidence, err, tt.want, tt.wantText)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var types, ids []string
			for _, a := range evidence.Attestations {
				types = append(types, a.Type)
			}
			for _, id := range tt.wantIDs {
				ids = append(ids, id+" ("+issuer+")")
			}
			d := evidence.Decision
			if !slices.Equal(d.Keys, tt.wantKeys) || !slices.Equal(d.Identities, ids) || !slices.Equal(types, tt.wantTypes) {
				t.Errorf("decided by %v, %v with %v, want %v, %v with %v", d.Keys, d.Identities, types, tt.wantKeys, ids, tt.wantTypes)
			}
		})
	}
}

// A wrong attestation in the place of the one that is wanted is told as that.
func TestPolicyAttestationWrong(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	parts(t, s.repo, s.index, s.accepted)
	attachBundle(t, s.repo, s.index, flipBundleSignature(t, attestationOf(t, s, s.index, "https://cyclonedx.org/bom")))
	p := parsePolicy(t, policyYAML(map[string]*signer.Key{"acme": s.accepted.Key()}, nil, "rules: [{ids: ['**'], require: {keys: [acme], attestations: [{type: cyclonedx}]}}]"))
	if _, err := p.Verify(t.Context(), s.repo, s.index, testID, "1.0.0", noon); !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Verify() = %v, want %v", err, signer.ErrInvalid)
	}
}

func TestParsePolicyIdentities(t *testing.T) {
	t.Parallel()
	key := newSigner(t).Key()
	root := sigstoretest.New(t).TrustedRoot(t, everything)
	another := sigstoretest.New(t).TrustedRoot(t, everything)
	head := policyYAML(map[string]*signer.Key{"acme": key}, nil, rootsYAML(map[string][]byte{"public": root}))
	rule := func(require string) string { return head + "rules: [{ids: [a.b/c], require: {" + require + "}}]\n" }
	id := func(fields string) string { return rule("identities: [{" + fields + "}]") }
	const both = "issuer: i, subject: s"
	many := "identities: [" + strings.Repeat("{issuer: i, subject: s},", 101) + "]"
	tests := []struct{ name, text, want string }{
		{"unknown field of a root", strings.Replace(head, "json:", "jso:", 1), "trustedRoots.public.jso: unknown field"},
		{"unknown field in a root", strings.Replace(head, `"mediaType"`, `"x":1,"mediaType"`, 1), `trustedRoots.public.json: parse trusted root: `},
		{"root that is none", head[:strings.Index(head, "trustedRoots")] + "trustedRoots: {public: {json: '{}'}}\n", "trustedRoots.public.json: parse trusted root: unsupported"},
		{"root given twice", head + "trustedRoots: {}\n", "trustedRoots: given twice"},
		{"one root under two names", head + "  again: {json: '" + string(root) + "'}\n", "is the same root as"},
		{"name of a root", head + "  'a b': {json: '" + string(another) + "'}\n", "want a name of letters"},
		{"too many roots", policyYAML(nil, nil, "trustedRoots: {"+manyRoots(17)+"}\n"), "trustedRoots: want at most 16 trusted roots, got 17"},
		{"no such root", id(both + ", root: pubic"), `rules[0].require.identities[0].root: no root "pubic" among the trusted roots of the policy; did you mean "public"?`},
		{"no root at all", strings.Replace(id(both), rootsYAML(map[string][]byte{"public": root}), "", 1), "rules[0].require.identities[0].root: say which of the 0 trusted roots"},
		{"two roots and none named", head + "  plant: {json: '" + string(another) + "'}\nrules: [{ids: [a.b/c], require: {identities: [{" + both + "}]}}]\n", "say which of the 2 trusted roots"},
		{"no issuer", id("subject: s"), "rules[0].require.identities[0].issuer: want the text or a regular expression for it"},
		{"no subject", id("issuer: i"), "rules[0].require.identities[0].subject: want the text"},
		{"both forms", id("issuer: i, issuerRegexp: i, subject: s"), "issuerRegexp: want the text or a regular expression, not both"},
		{"bad expression", id("issuer: i, subjectRegexp: '('"), "rules[0].require.identities[0].subjectRegexp: error parsing regexp"},
		{"expression that ends the group", id("issuer: i, subjectRegexp: 'a)|(b'"), "subjectRegexp: error parsing regexp"},
		{"long", id("issuer: i, subject: " + strings.Repeat("s", 1001)), "want at most 1000 bytes, got 1001"},
		{"unknown field of an identity", id(both + ", subjects: s"), "unknown field"},
		{"issuer given twice", id(both + ", issuer: i"), "issuer: given twice"},
		{"identity twice", rule("identities: [{" + both + "}, {" + both + ", root: public}]"), "rules[0].require.identities[1]: is named twice"},
		{"nobody", rule("identities: []"), "want at least one key, or an identity"},
		{"too many identities", rule(many), "rules[0].require.identities: want at most 100 identities, got 101"},
		{"threshold of too many", rule("keys: [acme], identities: [{" + both + "}], threshold: 3"), "wants 3 signatures of 2 keys and identities"},
		{"attestation of no type", rule("keys: [acme], attestations: [{}]"), "rules[0].require.attestations[0].type: \"\" is no type"},
		{"attestation of a wrong type", rule("keys: [acme], attestations: [{type: sbom}]"), "attestations[0].type: \"sbom\" is no type of predicates: want cyclonedx"},
		{"signatures are no attestations", rule("keys: [acme], attestations: [{type: '" + sigstoretest.SignType + "'}]"), "attestations[0].type: is that of signatures"},
		{"attestation twice", rule("keys: [acme], attestations: [{type: spdx}, {type: spdxjson}]"), "attestations[1].type: is wanted twice"},
		{"attestation by no key", rule("keys: [acme], attestations: [{type: spdx, keys: [acne]}]"), `attestations[0].keys[0]: no key "acne"`},
		{"attestation by no root", rule("keys: [acme], attestations: [{type: spdx, identities: [{" + both + ", root: x}]}]"), "attestations[0].identities[0].root: no root"},
		{"unknown field of an attestation", rule("keys: [acme], attestations: [{type: spdx, key: acme}]"), "unknown field"},
		{"too many attestations", rule("keys: [acme], attestations: [" + strings.Repeat("{type: spdx},", 17) + "]"), "want at most 16 attestations, got 17"},
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

func manyRoots(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("r%d: {json: x}", i))
	}
	return strings.Join(all, ", ")
}

func TestAddRuleIdentity(t *testing.T) {
	t.Parallel()
	root := parseRoot(t, sigstoretest.New(t).TrustedRoot(t, everything))
	add := func(data string, id signer.Identity, ids ...string) string {
		t.Helper()
		out, err := signer.AddRule("policy.yaml", []byte(data), signer.RuleToAdd{IDs: ids, Identity: &id, Name: "acme"})
		if err != nil {
			t.Fatalf("AddRule: %v\n%s", err, data)
		}
		return string(out)
	}
	id := accept(root)
	var lines bytes.Buffer
	if err := json.Indent(&lines, root.JSON(), "", "  "); err != nil {
		t.Fatal(err)
	}
	got := add("", id, "example.com/**")
	want := "apiVersion: sealift/v1\nkind: Policy\nversion: 1\nkeys: {}\nrules:\n  - ids: [example.com/**]\n    require:\n      identities: [{issuer: 'https://accounts.example.com', subject: release@acme.example, root: acme}]\n" +
		"trustedRoots:\n  acme:\n    # " + root.Fingerprint() + "\n    json: |-\n      " + strings.ReplaceAll(lines.String(), "\n", "\n      ") + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("a first rule (-want +got):\n%s", diff)
	}
	if again := add(got, id, "example.com/**"); again != got {
		t.Errorf("the same again changed it:\n%s", again)
	}
	// Where there is one root it may be left out, and is the same.
	without := strings.Replace(got, ", root: acme", "", 1)
	if again := add(without, id, "example.com/**"); again != without {
		t.Errorf("the same again, without its root, changed it:\n%s", again)
	}
	qa := signer.Identity{IssuerRegexp: "https://.*", SubjectRegexp: "qa@.*", Root: root}
	got = add(got, qa, "example.com/**")
	p := parsePolicy(t, got)
	if len(p.Rules) != 1 || len(p.Rules[0].Identities) != 2 || p.Rules[0].Identities[1].String() != "/qa@.*/ (/https://.*/)" || p.Rules[0].Threshold != 1 || len(p.Roots) != 1 {
		t.Errorf("one identity more: %+v", p)
	}
	// A key beside them, and another root of the same name.
	got = addRule(t, got, newSigner(t).Key(), "acme", "example.com/**")
	id.Root = parseRoot(t, sigstoretest.New(t).TrustedRoot(t, everything))
	p = parsePolicy(t, add(got, id, "example.com/**"))
	if r := p.Rules[0]; len(r.Keys) != 1 || len(r.Identities) != 3 || p.Roots["acme-2"].Fingerprint() != id.Root.Fingerprint() {
		t.Errorf("a key and another root beside them: %+v", p)
	}
	if _, err := signer.AddRule("policy.yaml", nil, signer.RuleToAdd{IDs: []string{"a.b/c"}, Identity: &signer.Identity{Root: root}, Name: "x"}); err == nil {
		t.Error("an identity that is nobody's was added")
	}
}
