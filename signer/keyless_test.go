package signer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

const (
	issuer  = "https://accounts.example.com"
	subject = "release@acme.example"
)

// release signs as whom most tests accept, with a log entry and a timestamp.
var release = sigstoretest.Signature{Issuer: issuer, Subject: subject, Log: true, Timestamp: true}

var everything = sigstoretest.Parts{Log: true, Timestamps: true}

func parseRoot(t testing.TB, raw []byte) *signer.Root {
	t.Helper()
	r, err := signer.ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func accept(root *signer.Root) signer.Identity {
	return signer.Identity{Issuer: issuer, Subject: subject, Root: root}
}

// simpleSigning is the payload that cosign signs for a subject.
func simpleSigning(subject ocispec.Descriptor) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"registry.example/app"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, subject.Digest)
}

// attachKeyless attaches a signature with a certificate in one of the three forms.
func attachKeyless(t testing.TB, s *scene, sigstore *sigstoretest.Sigstore, by sigstoretest.Signature, form signer.Form, edit func(annotations map[string]string)) {
	t.Helper()
	if form == signer.FormBundle {
		attachBundle(t, s.repo, s.index, sigstore.Bundle(t, by, s.index.Digest, sigstoretest.SignType, nil))
		return
	}
	raw := simpleSigning(s.index)
	p := payload{raw: raw, annotations: sigstore.Payload(t, by, raw)}
	if edit != nil {
		edit(p.annotations)
	}
	if form == signer.FormTag {
		attachTag(t, s.repo, s.index, p)
	} else {
		attachOCI11(t, s.repo, s.index, p)
	}
}

func TestVerifyCertificate(t *testing.T) {
	t.Parallel()
	sigstore, other := sigstoretest.New(t), sigstoretest.New(t)
	tests := []struct {
		name  string
		by    sigstoretest.Signature
		form  signer.Form
		parts sigstoretest.Parts
		root  *sigstoretest.Sigstore // sigstore where nil
		id    signer.Identity
		edit  func(annotations map[string]string)
		// want is nil where it is accepted.
		want       error
		wantReason string
	}{
		{name: "bundle", form: signer.FormBundle, by: release},
		{name: "tag", form: signer.FormTag, by: release},
		{name: "referrer", form: signer.FormReferrer, by: release},
		{name: "bundle with a log entry alone", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: subject, Log: true}},
		{name: "tag with a log entry alone", form: signer.FormTag, by: sigstoretest.Signature{Issuer: issuer, Subject: subject, Log: true}},
		{name: "bundle with Rekor v2 and a timestamp", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: subject, LogV2: true, Timestamp: true}},
		{
			name: "bundle with a timestamp alone", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: subject, Timestamp: true},
			parts: sigstoretest.Parts{Timestamps: true},
		},
		{
			name: "log entry that the root says nothing of", form: signer.FormBundle, by: release,
			parts: sigstoretest.Parts{Timestamps: true},
		},
		{
			name: "expressions", form: signer.FormBundle, by: release,
			id: signer.Identity{IssuerRegexp: `https://.*\.example\.com`, SubjectRegexp: `(qa|release)@acme\.example`},
		},
		{
			name: "certificate of another identity", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: "mallory@acme.example", Log: true},
			want: signer.ErrNotAccepted, wantReason: "signed by mallory@acme.example (" + issuer + "), who is none of the 1 identities given",
		},
		{
			name: "certificate of another identity at the tag", form: signer.FormTag, by: sigstoretest.Signature{Issuer: issuer, Subject: "mallory@acme.example", Log: true},
			want: signer.ErrNotAccepted, wantReason: "who is none of the 1 identities given",
		},
		{
			name: "certificate by another issuer", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: "https://evil.example", Subject: subject, Log: true},
			want: signer.ErrNotAccepted, wantReason: "(https://evil.example), who is none",
		},
		{
			name: "expression for a part", form: signer.FormBundle, by: release, id: signer.Identity{Issuer: issuer, SubjectRegexp: "@acme"},
			want: signer.ErrNotAccepted,
		},
		{
			name: "expression of which one side fits a part", form: signer.FormBundle, by: release, id: signer.Identity{Issuer: issuer, SubjectRegexp: "release|qa@acme.example"},
			want: signer.ErrNotAccepted,
		},
		{
			name: "no log entry where the root has a log", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: subject, Timestamp: true},
			want: signer.ErrInvalid, wantReason: "not enough verified log entries",
		},
		{
			name: "no log entry at the tag", form: signer.FormTag, by: sigstoretest.Signature{Issuer: issuer, Subject: subject},
			want: signer.ErrInvalid, wantReason: "not enough verified log entries",
		},
		{
			name: "no time", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: subject},
			parts: sigstoretest.Parts{Timestamps: true}, want: signer.ErrInvalid, wantReason: "failed to verify timestamps",
		},
		{
			name: "Rekor v2 without a timestamp has no time", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: subject, LogV2: true},
			want: signer.ErrInvalid, wantReason: "failed to verify timestamps",
		},
		{
			name: "timestamp by an authority that the root does not have", form: signer.FormBundle,
			by: sigstoretest.Signature{Issuer: issuer, Subject: subject, LogV2: true, Timestamp: true}, parts: sigstoretest.Parts{Log: true}, want: signer.ErrInvalid,
		},
		{name: "another trusted root", form: signer.FormBundle, by: release, root: other, want: signer.ErrInvalid, wantReason: "claims to be by " + subject},
		{name: "another trusted root at the tag", form: signer.FormTag, by: release, root: other, want: signer.ErrInvalid},
		{
			name: "no certificate log where the root has one", form: signer.FormBundle, by: release,
			parts: sigstoretest.Parts{Log: true, CertificateLog: true}, want: signer.ErrInvalid, wantReason: "signed certificate timestamp",
		},
		{
			name: "a subject without end", form: signer.FormBundle, by: sigstoretest.Signature{Issuer: issuer, Subject: strings.Repeat("x", 1001), Log: true},
			id: signer.Identity{Issuer: issuer, SubjectRegexp: ".*"}, want: signer.ErrInvalid, wantReason: "more than 1000 bytes",
		},
		{name: "an identity without a subject is nobody's", form: signer.FormBundle, by: release, id: signer.Identity{Issuer: issuer}, want: signer.ErrNotAccepted},
		{
			name: "another signature under the certificate", form: signer.FormTag, by: release, want: signer.ErrInvalid,
			edit: func(a map[string]string) { a[annSig] = flipSignature(t, a[annSig]) },
		},
		{
			name: "certificate of somebody else's signature", form: signer.FormTag, by: release, want: signer.ErrInvalid,
			edit: func(a map[string]string) {
				a["dev.sigstore.cosign/certificate"] = sigstore.Payload(t, release, []byte("{}"))["dev.sigstore.cosign/certificate"]
			},
		},
		{
			name: "log entry of another signature", form: signer.FormTag, by: release, want: signer.ErrInvalid, wantReason: "transparency log",
			edit: func(a map[string]string) {
				a["dev.sigstore.cosign/bundle"] = sigstore.Payload(t, release, []byte("{}"))["dev.sigstore.cosign/bundle"]
			},
		},
		{
			name: "certificate that is none", form: signer.FormTag, by: release, want: signer.ErrInvalid,
			edit: func(a map[string]string) { a["dev.sigstore.cosign/certificate"] = "x" },
		},
		{
			name: "log entry that is none", form: signer.FormTag, by: release, want: signer.ErrInvalid,
			edit: func(a map[string]string) { a["dev.sigstore.cosign/bundle"] = `{"Payload":{"body":1}}` },
		},
		{
			name: "log entry of nothing", form: signer.FormTag, by: release, want: signer.ErrInvalid,
			edit: func(a map[string]string) { a["dev.sigstore.cosign/bundle"] = `{"Payload":{"body":"e30="}}` },
		},
		{
			name: "timestamp that is none", form: signer.FormTag, by: release, want: signer.ErrInvalid,
			edit: func(a map[string]string) { a["dev.sigstore.cosign/rfc3161timestamp"] = "x" },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			attachKeyless(t, s, sigstore, tt.by, tt.form, tt.edit)
			parts, vouches, id := tt.parts, tt.root, tt.id
			if parts == (sigstoretest.Parts{}) {
				parts = everything
			}
			if vouches == nil {
				vouches = sigstore
			}
			if id == (signer.Identity{}) {
				id = accept(nil)
			}
			id.Root = parseRoot(t, vouches.TrustedRoot(t, parts))
			// A key beside it is in nobody's way.
			evidence, err := signer.Verify(t.Context(), s.repo, s.index, []*signer.Key{s.accepted.Key()}, id)
			if tt.want != nil {
				checkRefused(t, err, tt.want, s.index, 1, tt.wantReason)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkCertificate(t, evidence, tt.form, id.Root)
		})
	}
}

func checkCertificate(t *testing.T, e *signer.Evidence, form signer.Form, root *signer.Root) {
	t.Helper()
	if len(e.Signatures) != 1 || e.Signatures[0].Form != form || e.Signatures[0].Certificate == nil || len(e.Keys()) != 0 {
		t.Fatalf("signatures %+v, want one with a certificate, of form %s", e.Signatures, form)
	}
	c := e.Certificates()[0]
	if c.Issuer != issuer || c.Subject != subject || c.Root != root.Fingerprint() {
		t.Errorf("certificate %+v, want that of %s under root %s", c, subject, root.Fingerprint())
	}
	if since := time.Since(c.Time); since < -time.Hour || since > time.Hour || c.TimeFrom == "" {
		t.Errorf("signed at %s as %q says, want now", c.Time, c.TimeFrom)
	}
	if got := fmt.Sprint(e.Signers()); got != "["+subject+" ("+issuer+")]" {
		t.Errorf("Signers() = %s", got)
	}
}

// With keys alone nobody's certificate counts, and it says whose it is.
func TestVerifyCertificateUnderKeys(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	for _, form := range []signer.Form{signer.FormBundle, signer.FormTag, signer.FormReferrer} {
		s := newScene(t)
		attachKeyless(t, s, sigstore, release, form, nil)
		_, err := signer.Verify(t.Context(), s.repo, s.index, []*signer.Key{s.accepted.Key()})
		checkRefused(t, err, signer.ErrNotAccepted, s.index, 1, "with a certificate, not a key")
		var failed *signer.VerifyError
		if !errors.As(err, &failed) {
			t.Fatal(err)
		}
		if c := failed.Rejected[0].Certificate; c == nil || c.Subject != subject || c.Root != "" || !c.Time.IsZero() {
			t.Errorf("%s: claims %+v, want %s and nothing that was verified", form, c, subject)
		}
		listed, err := signer.Signatures(t.Context(), s.repo, s.index)
		if err != nil || len(listed) != 1 || listed[0].Certificate == nil || listed[0].Certificate.Subject != subject || listed[0].Key != "" {
			t.Errorf("%s: Signatures() = %+v, %v, want what the certificate claims", form, listed, err)
		}
	}
}

// A signature of another release, attached to this one, is none of it.
func TestVerifyCertificateOfAnother(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	id := accept(parseRoot(t, sigstore.TrustedRoot(t, everything)))
	s := newScene(t)
	attachBundle(t, s.repo, s.index, sigstore.Bundle(t, release, s.image.Digest, sigstoretest.SignType, nil))
	_, err := signer.Verify(t.Context(), s.repo, s.index, nil, id)
	checkRefused(t, err, signer.ErrInvalid, s.index, 1, "statement names another subject")

	s = newScene(t)
	raw := simpleSigning(s.image)
	attachTag(t, s.repo, s.index, payload{raw: raw, annotations: sigstore.Payload(t, release, raw)})
	_, err = signer.Verify(t.Context(), s.repo, s.index, nil, id)
	checkRefused(t, err, signer.ErrInvalid, s.index, 1, "payload names")

	// The envelope of another statement under the same certificate.
	s = newScene(t)
	theirs := sigstore.Bundle(t, release, s.image.Digest, sigstoretest.SignType, nil)
	attachBundle(t, s.repo, s.index, editBundle(t, sigstore.Bundle(t, release, s.index.Digest, sigstoretest.SignType, nil), func(_, envelope map[string]any) {
		editBundle(t, theirs, func(_, other map[string]any) { envelope["signatures"] = other["signatures"] })
	}))
	_, err = signer.Verify(t.Context(), s.repo, s.index, nil, id)
	checkRefused(t, err, signer.ErrInvalid, s.index, 1, "claims to be by")
}

// Of thousands of signatures so many are looked at as of those by keys.
func TestVerifyManyCertificates(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	id := accept(parseRoot(t, sigstore.TrustedRoot(t, everything)))
	s := newScene(t)
	raw := simpleSigning(s.index)
	junk := maps.Clone(sigstore.Payload(t, release, raw))
	junk[annSig] = flipSignature(t, junk[annSig])
	var all []payload
	for i := range 2000 {
		all = append(all, payload{raw: append(bytes.Clone(raw), strings.Repeat(" ", i%5)...), annotations: map[string]string{annSig: junk[annSig]}})
	}
	src := newMemory()
	all = append(all, payload{raw: raw, annotations: sigstore.Payload(t, release, raw)})
	src.tags[sigTag(s.index)] = pushJSON(t, src, ocispec.MediaTypeImageManifest, payloadManifest(t, src, all))
	_, err := signer.Verify(t.Context(), src, s.index, nil, id)
	checkRefused(t, err, signer.ErrNotAccepted, s.index, 65, "")
}

// What was signed for minutes, long ago, is good for ever: the time is the log's, not
// that of the machine. The vectors were made with sigstoretest; their certificates were
// valid for ten minutes in November 2026.
func TestVerifyCertificateExpired(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		raw, err := os.ReadFile("testdata/keyless/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var of ocispec.Descriptor
	if err := json.Unmarshal(read("subject.json"), &of); err != nil {
		t.Fatal(err)
	}
	id := accept(parseRoot(t, read("trusted_root.json")))
	src := newMemory()
	src.attach(t, of, read("bundle.json"))
	evidence, err := signer.Verify(t.Context(), src, of, nil, id)
	if err != nil {
		t.Fatal(err)
	}
	if c := evidence.Certificates()[0]; c.Time.Year() != 2026 || c.Time.Month() != time.November {
		t.Errorf("signed at %s, want November 2026", c.Time)
	}
	src = newMemory()
	src.attach(t, of, editBundle(t, read("bundle.json"), func(b, _ map[string]any) {
		material := b["verificationMaterial"].(map[string]any)
		delete(material, "tlogEntries")
		delete(material, "timestampVerificationData")
	}))
	_, err = signer.Verify(t.Context(), src, of, nil, id)
	checkRefused(t, err, signer.ErrInvalid, of, 1, "claims to be by")
}

// Of two times the earlier counts. That of the log is a minute behind the timestamp.
func TestVerifyCertificateTimes(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	both, log := parseRoot(t, sigstore.TrustedRoot(t, everything)), parseRoot(t, sigstore.TrustedRoot(t, sigstoretest.Parts{Log: true}))
	for _, form := range []signer.Form{signer.FormBundle, signer.FormTag} {
		s := newScene(t)
		attachKeyless(t, s, sigstore, release, form, nil)
		signed := func(root *signer.Root) signer.Certificate {
			t.Helper()
			evidence, err := signer.Verify(t.Context(), s.repo, s.index, nil, accept(root))
			if err != nil {
				t.Fatal(err)
			}
			return evidence.Certificates()[0]
		}
		logged, stamped := signed(log), signed(both)
		if behind := logged.Time.Sub(stamped.Time); behind < 30*time.Second {
			t.Errorf("%s: signed at %s and, as the log says, at %s; want the earlier", form, stamped.Time, logged.Time)
		}
		if stamped.TimeFrom != "https://virtual.tsa.sigstore.dev" || logged.TimeFrom == stamped.TimeFrom {
			t.Errorf("%s: the times are those of %s and %s", form, stamped.TimeFrom, logged.TimeFrom)
		}
	}
}

// A key counts whatever log entries and timestamps stand beside its signature.
func TestVerifyKeyWithLogEntry(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	s := newScene(t)
	attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(b, _ map[string]any) {
		editBundle(t, sigstore.Bundle(t, release, s.index.Digest, sigstoretest.SignType, nil), func(other, _ map[string]any) {
			with := other["verificationMaterial"].(map[string]any)
			delete(with, "certificate")
			with["publicKey"] = b["verificationMaterial"].(map[string]any)["publicKey"]
			b["verificationMaterial"] = with
		})
	}))
	p := s.sound
	p.annotations = sigstore.Payload(t, release, p.raw)
	p.annotations[annSig] = p.sig
	attachTag(t, s.repo, s.index, p)
	evidence, err := signer.Verify(t.Context(), s.repo, s.index, []*signer.Key{s.accepted.Key()})
	if err != nil {
		t.Fatal(err)
	}
	checkAccepted(t, evidence, s, []signer.Form{signer.FormBundle, signer.FormTag}, 0)
	for _, sig := range evidence.Signatures {
		if sig.Certificate != nil {
			t.Errorf("a signature by a key has the certificate %+v", sig.Certificate)
		}
	}
}

func TestParseRoot(t *testing.T) {
	t.Parallel()
	sigstore := sigstoretest.New(t)
	raw := sigstore.TrustedRoot(t, everything)
	r := parseRoot(t, raw)
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	if again := parseRoot(t, spaced.Bytes()); again.Fingerprint() != r.Fingerprint() {
		t.Errorf("white space changes the fingerprint: %s, %s", r.Fingerprint(), again.Fingerprint())
	}
	if got := fmt.Sprint(r.Authorities()); got != "[https://virtual.fulcio.sigstore.dev]" {
		t.Errorf("Authorities() = %s", got)
	}
	edit := func(change func(map[string]any)) []byte {
		var doc map[string]any
		if err := json.Unmarshal(raw, &doc); err != nil {
			t.Fatal(err)
		}
		change(doc)
		out, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for name, tt := range map[string]struct {
		raw  []byte
		want string
	}{
		"nothing":          {nil, "parse trusted root"},
		"no JSON":          {[]byte("x"), "parse trusted root"},
		"another document": {[]byte(`{"mediaType":"application/json"}`), "unsupported TrustedRoot media type"},
		"the empty root":   {signer.TrustedRoot(), "it has no certificate authority"},
		"unknown field":    {edit(func(d map[string]any) { d["x"] = 1 }), `unknown field "x"`},
		"given twice":      {bytes.Replace(raw, []byte("{"), []byte(`{"tlogs":[],`), 1), "duplicate"},
		"no time":          {sigstore.TrustedRoot(t, sigstoretest.Parts{}), "neither a transparency log nor a timestamp authority"},
		"no authority":     {edit(func(d map[string]any) { delete(d, "certificateAuthorities") }), "it has no certificate authority"},
		"certificate": {edit(func(d map[string]any) {
			d["certificateAuthorities"].([]any)[0].(map[string]any)["certChain"] = map[string]any{"certificates": []any{map[string]any{"rawBytes": "AAAA"}}}
		}), "failed to parse certificate"},
		"huge":                {append(bytes.Clone(raw), bytes.Repeat([]byte(" "), signer.MaxRootBytes)...), "the limit is 262144"},
		"something behind it": {append(bytes.Clone(raw), '1'), "parse trusted root"},
	} {
		if got, err := signer.ParseRoot(tt.raw); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\u00a0") {
			t.Errorf("%s: ParseRoot() = %v, %v, want an error that says %q", name, got, err, tt.want)
		}
	}
}

func FuzzParseRoot(f *testing.F) {
	f.Add(sigstoretest.New(f).TrustedRoot(f, sigstoretest.Parts{Log: true, Timestamps: true, CertificateLog: true}))
	f.Add(signer.TrustedRoot())
	f.Add(bytes.Replace(signer.TrustedRoot(), []byte("{"), []byte(`{"mediaType":"",`), 1))
	f.Add(bytes.Repeat([]byte("["), 20_000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := signer.ParseRoot(raw); err == nil && len(r.Fingerprint()) != 71 {
			t.Errorf("Fingerprint() = %q", r.Fingerprint())
		}
	})
}

// Whatever stands in the annotations of a payload is a verdict, and no panic.
func FuzzVerifyAnnotations(f *testing.F) {
	sigstore := sigstoretest.New(f)
	id := accept(parseRoot(f, sigstore.TrustedRoot(f, everything)))
	s := newScene(f)
	raw := simpleSigning(s.index)
	a := sigstore.Payload(f, release, raw)
	const cert, entry, stamp = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"
	f.Add(a[annSig], a[cert], a[entry], a[stamp])
	f.Add(a[annSig], a[cert], `{"Payload":{"body":"eyJraW5kIjoiaGFzaGVkcmVrb3JkIiwiYXBpVmVyc2lvbiI6IjAuMC4xIiwic3BlYyI6e319"}}`, `{"SignedRFC3161Timestamp":"AAAA"}`)
	f.Fuzz(func(t *testing.T, sig, certificate, bundle, timestamp string) {
		src := newMemory()
		m := payloadManifest(t, src, []payload{{raw: raw, annotations: map[string]string{annSig: sig, cert: certificate, entry: bundle, stamp: timestamp}}})
		src.tags[sigTag(s.index)] = pushJSON(t, src, ocispec.MediaTypeImageManifest, m)
		if _, err := signer.Verify(t.Context(), src, s.index, nil, id); err != nil && !isVerdict(err) {
			t.Errorf("Verify() = %v, want a verdict", err)
		}
	})
}
