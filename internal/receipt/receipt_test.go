package receipt_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/receipt"
	"github.com/sealift/sealift/signer"
)

var (
	noon = time.Date(2026, 11, 25, 12, 0, 0, 5_000_000, time.UTC)
	rootA, rootB,
	sumC = digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
)

// full has every field, in the order of receipts.
func full() receipt.Receipt {
	return receipt.Receipt{
		Site: "plant 7 – Halle", Time: noon, Sealift: "0.1.0", For: []string{"example.com/**"},
		Policy: &receipt.Policy{Version: 2, Digest: sumC},
		Audit:  audit.Head{Seq: 9, Digest: sumC},
		Accepted: []receipt.Release{
			{ID: "example.com/shop", Version: "1.9.0", Root: rootA, Time: noon, Event: "import", Entry: 2, Signers: []string{string(sumC)}},
			{ID: "example.com/shop", Version: "1.10.0", Root: rootB, Time: noon, Event: "install", Entry: 4, Signers: []string{"release@example.com (https://accounts.example.com)", string(sumC)}, Policy: 2, Rule: 1,
				Overrides: []string{"allow-downgrade"}, Signatures: []receipt.Signature{{Signer: string(sumC), Form: signer.FormTag, Manifest: rootA, Layer: rootB}}},
		},
		Instances: []receipt.Instance{{Name: "shop", Target: "compose",
			Current: &receipt.Installed{Revision: 1, ID: "example.com/shop", Version: "1.9.0", Root: rootA, Since: noon},
			Last:    receipt.Change{Revision: 2, Action: "upgrade", ID: "example.com/shop", Version: "1.10.0", Root: rootB, Result: "failed", Time: noon}}},
	}
}

func newSigner(t testing.TB) *signer.Signer {
	t.Helper()
	private, _, err := signer.GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.LoadSigner(private, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sealed is what was written, as text.
func sealed(raw []byte, err error) func(testing.TB) string {
	return func(t testing.TB) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
}

func TestStatement(t *testing.T) {
	t.Parallel()
	r := full()
	got := sealed(r.Statement())(t)
	head := `{"_type":"https://in-toto.io/Statement/v1","predicate":{"accepted":[{"entry":2,"event":"import","id":"example.com/shop",`
	tail := `"predicateType":"https://sealift.dev/receipt/v1","subject":[{"digest":{"sha256":"` + rootA.Encoded() + `"},"name":"example.com/shop:1.9.0"},` +
		`{"digest":{"sha256":"` + rootB.Encoded() + `"},"name":"example.com/shop:1.10.0"}]}`
	if !strings.HasPrefix(got, head) || !strings.HasSuffix(got, tail) {
		t.Errorf("Statement() = %s", got)
	}
	// Whatever order it comes in, it goes out in one.
	slices.Reverse(r.Accepted)
	r.Accepted[0].Signers = []string{string(sumC), "release@example.com (https://accounts.example.com)", string(sumC)}
	r.Accepted[0].Signatures = append(r.Accepted[0].Signatures, r.Accepted[0].Signatures...)
	r.Accepted[0].Overrides = []string{"allow-downgrade", "allow-downgrade"}
	before := slices.Clone(r.Accepted[0].Signers)
	if again := sealed(r.Statement())(t); again != got {
		t.Errorf("Statement() = %s, want %s", again, got)
	}
	if diff := cmp.Diff(before, r.Accepted[0].Signers); diff != "" {
		t.Errorf("Statement() changed what it was given:\n%s", diff)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	signed, alone := sealed(full().Seal(s))(t), sealed(full().Seal(nil))(t)
	r, key, err := receipt.Read([]byte(signed), []*signer.Key{newSigner(t).Key(), s.Key()})
	if err != nil || key.Fingerprint() != s.Key().Fingerprint() {
		t.Fatalf("Read() = %v, %v", key, err)
	}
	if diff := cmp.Diff(full(), r); diff != "" {
		t.Errorf("Read() (-want +got):\n%s", diff)
	}
	r, claimed, err := receipt.ReadUnverified([]byte(alone))
	if diff := cmp.Diff(full(), r); diff != "" || claimed != "" || err != nil {
		t.Errorf("ReadUnverified() = %q, %v (-want +got):\n%s", claimed, err, diff)
	}
	r, claimed, err = receipt.ReadUnverified([]byte(signed))
	if diff := cmp.Diff(full(), r); diff != "" || claimed != s.Key().Fingerprint() || err != nil {
		t.Errorf("ReadUnverified() = %q, %v (-want +got):\n%s", claimed, err, diff)
	}
}

// What is no receipt is refused, be it signed soundly by the key that is asked for, or
// not signed at all.
func TestReadHostile(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	keys := []*signer.Key{s.Key()}
	good := sealed(full().Statement())(t)
	edited := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return strings.Replace(good, old, with, 1)
	}
	subject := `{"digest":{"sha256":"` + rootA.Encoded() + `"},"name":"example.com/shop:1.9.0"}`
	tests := []struct {
		name, statement, says string
	}{
		{"a signature of a release", `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + rootA.Encoded() + `"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1"}`,
			`this states "https://sigstore.dev/cosign/sign/v1", which is no receipt`},
		{"an SBOM", edited("https://sealift.dev/receipt/v1", "https://spdx.dev/Document"), "which is no receipt"},
		{"a later receipt", edited("/receipt/v1", "/receipt/v2"), "which is no receipt"},
		{"another statement", edited("Statement/v1", "Statement/v2"), "which is no receipt"},
		{"no object", `[]`, "cannot unmarshal"},
		{"a field twice", edited(`"predicate":{`, `"predicate":{"site":"a","site":"b",`), "not written as its receipt is"},
		{"a predicate twice", edited(`"predicate":`, `"predicate":{},"predicate":`), "not written as its receipt is"},
		{"a field by another case", edited(`"sealift":`, `"SEALIFT":`), "not written as its receipt is"},
		{"an unknown field", edited(`"predicate":{`, `"predicate":{"new":1,`), `unknown field "new"`},
		{"an unknown field of a subject", edited(subject, `{"uri":"x",`+subject[1:]), `unknown field "uri"`},
		{"more behind its end", good + "{}", "after top-level value"},
		{"a blank behind its end", good + " ", "not written as its receipt is"},
		{"a subject that was not accepted", edited(`"subject":[`, `"subject":[{"digest":{"sha256":"`+sumC.Encoded()+`"},"name":"example.com/till:1.0.0"},`), "not written as its receipt is"},
		{"a subject less", edited(subject+",", ""), "not written as its receipt is"},
		{"a subject by another name", edited(`"name":"example.com/shop:1.9.0"`, `"name":"example.com/shop:2.0.0"`), "not written as its receipt is"},
		{"two digests", edited(`{"sha256":"`+rootA.Encoded()+`"}`, `{"sha1":"00","sha256":"`+rootA.Encoded()+`"}`), "not written as its receipt is"},
		{"an empty list", edited(`"for":["example.com/**"],`, `"for":[],`), "not written as its receipt is"},
		{"a time of another zone", edited(`"time":"2026-11-25T12:00:00.005Z"`, `"time":"2026-11-25T13:00:00.005+01:00"`), "no time in UTC"},
		{"a time written otherwise", edited(`"time":"2026-11-25T12:00:00.005Z"`, `"time":"2026-11-25T12:00:00.0050Z"`), "not written as its receipt is"},
		{"a control character", edited("plant 7", `plant\u001b[2J`), `got "plant\x1b[2J`},
		{"a line more", edited("plant 7", `plant\n  signed      by key sha256:00`), "want a name in one line"},
		{"text that turns around", edited("plant 7", `plant\u202e7`), "want a name in one line"},
		{"a very long name", edited("plant 7", strings.Repeat("x", 300)), "at most 200 bytes"},
		{"a pattern that cannot be seen", edited("example.com/**", `example.com/\u001b`), "no pattern that can be seen"},
		{"no pattern", edited("example.com/**", `example.com/***`), "for: "},
		{"a version that speaks", edited(`"sealift":"0.1.0"`, `"sealift":"\u001b[0m"`), "is no version"},
		{"an id that is none", edited(`"id":"example.com/shop"`, `"id":"../shop"`), "id: want a DNS domain"},
		{"a version that is none", edited(`"version":"1.9.0"`, `"version":"latest"`), "version: want a version"},
		{"a digest that is none", edited(`"root":"`+string(rootA), `"root":"sha256:0`), "is no sha256 digest"},
		{"no releases", edited(good[strings.Index(good, `"accepted":[`):strings.Index(good, `,"audit"`)], `"accepted":[]`), "no release was accepted"},
		{"an entry behind the newest", edited(`"entry":2`, `"entry":10`), "entry 10 is none of the log"},
		{"no entry", edited(`"seq":9`, `"seq":0`), "there is no entry 0"},
		{"a policy without a version", edited(`"policy":{"digest":"`+string(sumC)+`","version":2}`, `"policy":{"digest":"`+string(sumC)+`","version":0}`), "policy: 0 is no version"},
		{"a rule below none", edited(`"rule":1`, `"rule":-1`), "rule -1"},
		{"a signer who speaks", edited(`"signers":["`, `"signers":["\u001b`), "signer: "},
		{"a signer without a name", edited(`"signers":["`+string(sumC), `"signers":["`), "signer: "},
		{"a signer of a very long name", edited(`"signers":["`, `"signers":["`+strings.Repeat("x", 9000)), "signer: "},
		{"a signature by who speaks", edited(`"signer":"`, `"signer":"\u202e`), "signature by: "},
		{"an event that speaks", edited(`"event":"import"`, `"event":"\u001b"`), "event: "},
		{"an override that speaks", edited(`"allow-downgrade"`, `"allow\n"`), "override: "},
		{"a form that is none", edited(`"form":"tag"`, `"form":"\u001b"`), "signature of the form"},
		{"an instance that speaks", edited(`"name":"shop"`, `"name":"shop\n"`), "is no name"},
		{"a target that speaks", edited(`"target":"compose"`, `"target":"\u001b"`), "target: "},
		{"an action that speaks", edited(`"action":"upgrade"`, `"action":"\u001b"`), "action: "},
		{"a result that speaks", edited(`"result":"failed"`, `"result":"\u001b"`), "result: "},
		{"revision 0", edited(`"revision":1`, `"revision":0`), "there is no revision 0"},
		{"last revision 0", edited(`"revision":2`, `"revision":0`), "there is no revision 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			signed := sealed(signer.SealStatement([]byte(tt.statement), s))(t)
			for name, read := range map[string]func() (receipt.Receipt, error){
				"signed": func() (receipt.Receipt, error) { r, _, err := receipt.Read([]byte(signed), keys); return r, err },
				"signed and not verified": func() (receipt.Receipt, error) {
					r, _, err := receipt.ReadUnverified([]byte(signed))
					return r, err
				},
				"alone": func() (receipt.Receipt, error) {
					r, _, err := receipt.ReadUnverified([]byte(tt.statement + "\n"))
					return r, err
				},
				"alone, with keys": func() (receipt.Receipt, error) {
					r, _, err := receipt.Read([]byte(tt.statement+"\n"), keys)
					return r, err
				},
			} {
				r, err := read()
				if !errors.As(err, new(*receipt.Error)) || !errors.Is(err, signer.ErrInvalid) || r.Accepted != nil {
					t.Errorf("%s: %+v, %v, want an *Error of %v alone", name, r, err, signer.ErrInvalid)
				} else if strings.HasPrefix(name, "signed") && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %v, want it to say %q", name, err, tt.says)
				}
			}
		})
	}
}

func TestReadSignature(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t), newSigner(t)
	good, alone := sealed(full().Seal(s))(t), sealed(full().Seal(nil))(t)
	statement := strings.TrimSuffix(alone, "\n")
	forged := strings.Replace(good, base64.StdEncoding.EncodeToString([]byte(statement)),
		base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(statement, rootA.Encoded(), sumC.Encoded()))), 1)
	if forged == good {
		t.Fatal("nothing was forged")
	}
	tests := []struct {
		name, raw string
		key       *signer.Signer
		want      error
	}{
		{"subjects forged after signing", forged, s, signer.ErrInvalid},
		{"by another key", good, other, signer.ErrNotAccepted},
		{"not signed", alone, s, signer.ErrUnsigned},
		{"in a plain envelope", sealed(signer.Seal("application/vnd.in-toto+json", []byte(statement), s))(t), s, signer.ErrInvalid},
		{"huge", good + strings.Repeat(" ", receipt.MaxBytes), s, signer.ErrInvalid},
		{"no JSON", "receipt", s, signer.ErrInvalid},
		{"an object", "{}", s, signer.ErrInvalid},
		{"both", strings.Replace(good, "{", `{"_type":"https://in-toto.io/Statement/v1",`, 1), s, signer.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, key, err := receipt.Read([]byte(tt.raw), []*signer.Key{tt.key.Key()})
			if !errors.As(err, new(*receipt.Error)) || !errors.Is(err, tt.want) || key != nil || r.Accepted != nil {
				t.Errorf("Read() = %+v, %v, %v, want %v alone", r, key, err, tt.want)
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	large := full()
	for i := range 2_200 {
		a := large.Accepted[1]
		a.Root = digest.FromBytes([]byte{byte(i), byte(i >> 8)})
		a.Signers = []string{strings.Repeat("x", 8000)}
		large.Accepted = append(large.Accepted, a)
	}
	twice, again := full(), full()
	twice.Accepted = append(twice.Accepted, twice.Accepted[0])
	again.Instances = append(again.Instances, again.Instances[0])
	for name, r := range map[string]receipt.Receipt{"large": large, "a release twice": twice, "an instance twice": again, "nothing": {}} {
		if raw, err := r.Seal(nil); err == nil {
			t.Errorf("%s: Seal() made %d bytes", name, len(raw))
		}
	}
}

// FuzzRead reads any bytes, and any statement signed by the key that is asked for. What
// is read is written again as it was.
func FuzzRead(f *testing.F) {
	s := newSigner(f)
	alone := []byte(sealed(full().Seal(nil))(f))
	f.Add([]byte(sealed(full().Seal(s))(f)))
	f.Add(alone)
	f.Add(bytes.Replace(alone, []byte(`"predicate":{`), []byte(`"predicate":{"site":"a",`), 1))
	f.Add(bytes.Replace(alone, []byte(`plant 7`), []byte(`plant\u001b`), 1))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://sealift.dev/receipt/v1","predicate":null,"subject":null}`))
	f.Add([]byte(`{"mediaType":"x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, _, err := receipt.ReadUnverified(raw)
		if err != nil && !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("ReadUnverified(%q) = %v, want a verdict", raw, err)
		}
		if err == nil {
			statement, err := r.Statement()
			if err != nil {
				t.Fatalf("Statement() = %v of what was read from %q", err, raw)
			}
			if !json.Valid(statement) || !bytes.Contains(raw, statement) && !bytes.Contains(raw, []byte(base64.StdEncoding.EncodeToString(statement))) {
				t.Errorf("%q was read as %s", raw, statement)
			}
		}
		statement := bytes.TrimSuffix(raw, []byte("\n"))
		signed := []byte(sealed(signer.SealStatement(statement, s))(t))
		if r, _, err := receipt.Read(signed, []*signer.Key{s.Key()}); err == nil {
			if again, err := r.Statement(); err != nil || !bytes.Equal(again, statement) {
				t.Errorf("%q was read as %s, %v", statement, again, err)
			}
		} else if !errors.Is(err, signer.ErrInvalid) {
			t.Errorf("Read(%q) = %v, want a verdict", signed, err)
		}
	})
}
