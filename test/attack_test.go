package test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/sigstoretest"
)

// command is one way in which a site, or who copies for one, comes upon an attack.
type command string

const (
	cmdVerify       command = "verify"           // by a key, or an identity, that is given
	cmdVerifyPolicy command = "verify by policy" // of the site, as all that follow
	cmdImport       command = "import"
	cmdDryInstall   command = "install --dry-run"
	cmdInstall      command = "install"
	cmdMirror       command = "mirror"           // by a key or an identity
	cmdMirrorPolicy command = "mirror by policy" // in a file
	cmdServe        command = "serve"            // and verify by a key or an identity, of what is served
	cmdUpdate       command = "policy update"    //
	cmdSign         command = "sign"             // with a private key
	cmdAudit        command = "audit verify"     //
)

// commands are all of them: each attack says what each does about it.
var commands = []command{cmdVerify, cmdVerifyPolicy, cmdImport, cmdDryInstall, cmdInstall, cmdMirror, cmdMirrorPolicy, cmdServe, cmdUpdate, cmdSign, cmdAudit}

// verdict is how a command ends. The list is closed.
type verdict int

const (
	undeclared verdict = iota
	apart              // the command does not come upon what is attacked
	harmless           // exit 0: what was signed is what is used, and nothing else
	warned             // the same, with a warning
	refused            // exit 15: sound, but not accepted. Nothing is written but the record of it
	damaged            // exit 12: bytes or cryptography wrong. Nothing is written but the record of it
	unread             // exit 12: it cannot be read, so that nothing was refused. Nothing is written
	stopped            // exit 12, in mid-copy: nothing that was copied is named
	misused            // exit 10: what this person named is no such file. Nothing is written
	lacking            // exit 11: it is not there. Nothing is written
	unfinished         // the same, in mid-copy: nothing that was copied is named
	withheld           // the registry answers with an error, and nothing else
)

// exits are the exit codes of verdicts.
var exits = map[verdict]int{harmless: 0, warned: 0, refused: 15, damaged: 12, unread: 12, stopped: 12, misused: 10, lacking: 11, unfinished: 11, withheld: 1}

// outcome is a verdict and words that tell the cause.
type outcome struct {
	verdict verdict
	says    string
}

type outcomes map[command]outcome

// releases is what becomes of a release, by a key or an identity that is given and by a
// policy.
func releases(given, policy outcome) outcomes {
	return outcomes{
		cmdVerify: given, cmdMirror: given, cmdServe: given,
		cmdVerifyPolicy: policy, cmdImport: policy, cmdDryInstall: policy, cmdInstall: policy, cmdMirrorPolicy: policy,
		cmdUpdate: {verdict: apart}, cmdSign: {verdict: apart}, cmdAudit: {verdict: apart},
	}
}

// but is the same with another outcome for some.
func (o outcomes) but(other outcome, these ...command) outcomes {
	for _, c := range these {
		o[c] = other
	}
	return o
}

// attack is one row of the table.
type attack struct {
	// name is the one that docs/threats.md has.
	name  string
	craft func(t *testing.T, s *stage)
	want  outcomes
}

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			w.between = nil
			s := w.newStage(t)
			a.craft(t, s)
			sealift(t.Context(), s.home, "policy", "list") // which records what was edited
			before := snapshot(t, s.media)
			var running sync.WaitGroup
			for _, c := range commands {
				want, declared := a.want[c]
				if !declared || want.verdict == undeclared {
					t.Errorf("%s: no outcome is declared", c)
					continue
				}
				if want.verdict == apart {
					continue
				}
				running.Go(func() { s.try(t, c, want) })
			}
			running.Wait()
			if path := difference(before, snapshot(t, s.media)); path != "" {
				t.Errorf("%s was written", path)
			}
		})
	}
}

// try runs one command on what the attack left behind, and looks at what it did.
func (s stage) try(t *testing.T, c command, want outcome) {
	s.ref, s.repository = c.within(s.ref), c.within(s.repository)
	dir := t.TempDir()
	home := s.copyHome(t, s.home, dir)
	before, entries := snapshot(t, home), auditOf(t, home)
	dest := filepath.Join(dir, "dest")
	r := s.run(t.Context(), c, home, dest)
	said := r.stdout + r.stderr
	exit := exits[want.verdict]
	if c == cmdInstall && exit == 0 {
		exit = 1 // it gets as far as the engine, which has nothing
	}
	if r.code != exit {
		t.Errorf("%s: exit code %d, want %d\n%s", c, r.code, exit, said)
		return
	}
	if !strings.Contains(said, want.says) {
		t.Errorf("%s: does not say %q:\n%s", c, want.says, said)
	}
	if exit == 0 || c == cmdInstall && exit == 1 {
		s.checkUsed(t, c, want, r, home, dest)
		return
	}
	if r.stdout != "" && c != cmdAudit {
		t.Errorf("%s: a result is printed: %s", c, r.stdout)
	}
	// What may be written is the record of it, and what a copy that broke off left, which
	// nothing names.
	var may []string
	recorded := c == cmdImport || c == cmdInstall || c == cmdUpdate
	if recorded && (want.verdict == refused || want.verdict == damaged) {
		may = []string{"audit.jsonl", "trust.json", "lock"}
		if now := auditOf(t, home); len(now) != len(entries)+1 || now[len(now)-1].Event != "refused" || !strings.Contains(now[len(now)-1].Reason, want.says) {
			t.Errorf("%s: the log ends with %+v, want that it was refused for %q", c, now[len(now)-1], want.says)
		}
	}
	if want.verdict == stopped || want.verdict == unfinished {
		may = []string{"audit.jsonl", "trust.json", "lock", "layout", "evidence"}
		if now := auditOf(t, home); recorded && (now[len(now)-1].Event != "import" || now[len(now)-1].Result != "failed") {
			t.Errorf("%s: the log ends with %+v, want that the import failed", c, now[len(now)-1])
		}
	} else if _, err := os.Lstat(dest); err == nil {
		t.Errorf("%s: %s was made", c, dest)
	}
	for _, place := range []string{dest, filepath.Join(home, "layout")} {
		if root, is := namedIn(t, place, ""); is {
			t.Errorf("%s: %s has %s", c, place, root.Digest)
		}
	}
	for _, name := range written(home, before, snapshot(t, home)) {
		if !slices.Contains(may, name) {
			t.Errorf("%s: %s was written in the site's home", c, name)
		}
	}
}

// checkUsed looks whether what a command used is what was signed.
func (s *stage) checkUsed(t *testing.T, c command, want outcome, r result, home, dest string) {
	t.Helper()
	if warns := strings.Contains(r.stderr, "warning: "); warns != (want.verdict == warned) {
		t.Errorf("%s: warns: %v, want %v:\n%s", c, warns, want.verdict == warned, r.stderr)
	}
	digest := s.root.Digest.String()
	switch c {
	case cmdVerify, cmdVerifyPolicy, cmdServe:
		if !strings.Contains(r.stdout, digest) {
			t.Errorf("%s: not of %s:\n%s", c, digest, r.stdout)
		}
	case cmdMirror, cmdMirrorPolicy:
		if root, _ := namedIn(t, dest, s.repository+":"); root.Digest.String() != digest {
			t.Errorf("%s: copied %s, want %s", c, root.Digest, digest)
		}
	case cmdImport:
		if root, _ := namedIn(t, filepath.Join(home, "layout"), s.repository+":"); root.Digest.String() != digest {
			t.Errorf("%s: the library has %s, want %s", c, root.Digest, digest)
		}
	case cmdDryInstall:
		if !strings.Contains(r.stdout, "install example.com/"+s.app+" 1.0.0 as "+s.app+"\n") {
			t.Errorf("%s: would do\n%s", c, r.stdout)
		}
	case cmdInstall:
		if !strings.Contains(r.stderr, "pulls ") || !strings.Contains(r.stderr, "@"+s.image) {
			t.Errorf("%s: does not get as far as pulling %s\n%s", c, s.image, r.stderr)
		}
	}
}

// namedIn returns what a name of media begins with, once its host is taken off, and whether any does.
func namedIn(t *testing.T, dir, prefix string) (ocispec.Descriptor, bool) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "index.json")); err != nil {
		return ocispec.Descriptor{}, false
	}
	for _, e := range disc(dir).index(t).Manifests {
		_, name, _ := strings.Cut(e.Annotations[ocispec.AnnotationRefName], "/")
		if name != "" && strings.HasPrefix(name, prefix) && !strings.HasSuffix(name, ".sig") {
			return e, true
		}
	}
	return ocispec.Descriptor{}, false
}

// written returns the first words of the paths below home that are not as they were.
func written(home string, before, after map[string]string) (names []string) {
	for path := difference(before, after); path != ""; path = difference(before, after) {
		if before[path] = after[path]; after[path] == "" {
			delete(before, path)
		}
		if rel, _ := filepath.Rel(home, path); rel != "." {
			names = append(names, strings.Split(rel, string(filepath.Separator))[0])
		}
	}
	return slices.Compact(names)
}

// within names the command in a name that is to differ from command to command.
func (c command) within(name string) string {
	return strings.ReplaceAll(name, "COMMAND", strings.Trim(strings.ReplaceAll(string(c), " ", "-"), "-"))
}

// run carries a command out.
func (s *stage) run(ctx context.Context, c command, home, dest string) result {
	switch c {
	case cmdVerify:
		return sealift(ctx, home, append([]string{"verify", s.ref}, s.trust...)...)
	case cmdVerifyPolicy:
		return sealift(ctx, home, "verify", s.ref)
	case cmdImport:
		return sealift(ctx, home, "import", s.ref)
	case cmdDryInstall:
		return sealift(ctx, home, "install", s.ref, "--dry-run")
	case cmdInstall:
		return sealift(ctx, home, "install", s.ref, "--yes", "--registry", "127.0.0.1:0")
	case cmdMirror:
		return sealift(ctx, home, append([]string{"mirror", s.ref, dest}, s.trust...)...)
	case cmdMirrorPolicy:
		return sealift(ctx, home, "mirror", s.ref, dest, "--policy", filepath.Join(home, "policy.yaml"))
	case cmdServe:
		return s.serving(ctx, s.media, home, func(address string) result {
			if s.withheld != "" {
				return get(ctx, "http://"+address+"/v2/"+s.repository+"/"+s.withheld)
			}
			return sealift(ctx, home, append([]string{"verify", address + "/" + s.repository + ":" + s.version}, s.trust...)...)
		})
	case cmdUpdate:
		return sealift(ctx, home, "policy", "update", s.ref, "--yes")
	case cmdSign:
		media := dest + "-signed"
		if err := os.CopyFS(media, os.DirFS(s.media)); err != nil {
			panic(err)
		}
		return sealift(ctx, home, "sign", media, "--key", s.key)
	case cmdAudit:
		return sealift(ctx, home, "audit", "verify")
	}
	panic("no such command: " + c)
}

// Outcomes that many attacks have.
var (
	none   = outcome{apart, ""}
	fine   = outcome{harmless, ""}
	noApp  = outcome{lacking, "not a sealift"}
	anyone = releases(fine, fine)
)

// ofUpdate is what becomes of an update of the policy: where a release is wanted there
// is none.
func ofUpdate(given, policy, update outcome) outcomes {
	return releases(given, policy).but(noApp, cmdImport, cmdDryInstall, cmdInstall).but(update, cmdUpdate)
}

// atSite is what becomes of an attack on the site itself: what is done there by a policy.
func atSite(o outcome) outcomes {
	return releases(none, o).but(none, cmdMirrorPolicy)
}

// attacks is the table. Component names that another vendor claims belong to its third
// group, behind the relabelled ones.
var attacks = []attack{
	{"no attack", func(*testing.T, *stage) {}, releases(fine, fine).but(outcome{lacking, "not a sealift policy"}, cmdUpdate).but(outcome{harmless, "all as written"}, cmdAudit).but(fine, cmdSign)},

	// Signatures that are not there, or are of something else.
	{"signature removed", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
	}, releases(outcome{refused, "is not signed"}, outcome{refused, "not signed"})},
	{"signature of a child only", func(t *testing.T, s *stage) {
		s.publish(t, "child")
		s.must(t, "", "sign", s.hub+"/child@"+s.disc().manifest(t, s.root).Manifests[0].Digest.String(), "--key", s.file("vendor.key"))
		s.carry(t, "child")
	}, releases(outcome{refused, "is not signed"}, outcome{refused, "not signed"})},
	{"bundle of another release", func(t *testing.T, s *stage) {
		everything := disc(s.file("everything"))
		bundle := everything.bundle(t, everything.named(t, "/shop:1.1.0"))
		s.disc().strip(t, s.root)
		s.disc().take(t, everything, bundle)
		s.disc().attach(t, s.root, bundle)
	}, releases(outcome{damaged, "statement names another subject"}, outcome{damaged, "statement names another subject"})},
	{"payload of another release", func(t *testing.T, s *stage) {
		everything := disc(s.file("everything"))
		_, tagged := everything.signatures(t, everything.named(t, "/shop:1.1.0"))
		m := everything.manifest(t, *tagged)
		s.disc().strip(t, s.root)
		s.disc().take(t, everything, append(m.Layers, m.Config, *tagged)...)
		s.atTag(t, s.root, *tagged)
	}, releases(outcome{damaged, "payload names"}, outcome{damaged, "payload names"})},
	{"bundle whose manifest has another subject", func(t *testing.T, s *stage) {
		everything := disc(s.file("everything"))
		other := everything.named(t, "/shop:1.1.0")
		referrers, _ := everything.signatures(t, other)
		m := everything.manifest(t, referrers[0])
		s.disc().strip(t, s.root)
		s.disc().take(t, everything, append(m.Layers, m.Config, referrers[0])...)
		s.disc().list(t, "", referrers[0])
	}, releases(outcome{refused, "is not signed"}, outcome{refused, "not signed"})},
	{"registry that lists another subject's bundle", func(t *testing.T, s *stage) {
		everything := disc(s.file("everything"))
		referrers, _ := everything.signatures(t, everything.named(t, "/shop:1.1.0"))
		s.publish(t, "lying")
		s.ref = s.hub + "/lying:1.0.0"
		listed := referrers[0]
		listed.ArtifactType = typeBundle
		s.between = func(w http.ResponseWriter, r *http.Request) bool {
			r.URL.Path = strings.Replace(r.URL.Path, "/lying/manifests/"+listed.Digest.String(), "/shop/manifests/"+listed.Digest.String(), 1)
			if !strings.Contains(r.URL.Path, "/lying/referrers/") {
				return false
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write(encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{listed}}))
			return true
		}
	}, releases(outcome{damaged, "refers to another subject"}, outcome{damaged, "refers to another subject"}).but(none, cmdServe)},

	// Signatures by keys that count for nothing.
	{"unknown key", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.must(t, "", "sign", s.media, "--key", s.file("stranger.key"))
	}, releases(outcome{refused, "it claims to be signed by " + pairOf("stranger").fingerprint}, outcome{refused, "it wants a signature by vendor"})},
	{"expired key", func(t *testing.T, s *stage) {
		s.policy(t, replacing("  vendor:\n", "  vendor:\n    notAfter: 2020-01-01T00:00:00Z\n"))
	}, releases(none, outcome{refused, "key vendor is valid until 2020-01-01T00:00:00Z"})},
	{"revoked key", func(t *testing.T, s *stage) {
		s.policy(t, func(p string) string { return p + "revoked: {" + pairOf("vendor").fingerprint + ": laptop lost}\n" })
	}, releases(none, outcome{refused, "key vendor is revoked: laptop lost"})},

	// Names, which nobody signed.
	{"relabelled as another version", func(t *testing.T, s *stage) {
		s.relabel(t, "/shop:1.1.0")
	}, releases(outcome{refused, "says of itself that it is example.com/shop 1.1.0: name disagrees"}, outcome{refused, "says of itself that it is example.com/shop 1.1.0: name disagrees"})},
	{"relabelled as another id", func(t *testing.T, s *stage) {
		s.relabel(t, "/till:1.0.0")
		s.app = "till"
	}, releases(outcome{harmless, "app example.com/till 1.0.0"}, outcome{harmless, "app example.com/till 1.0.0"}).
		but(outcome{harmless, "imported example.com/till 1.0.0"}, cmdImport).but(fine, cmdDryInstall, cmdInstall, cmdMirror, cmdMirrorPolicy)},
	{"tag moved between verify and use", func(t *testing.T, s *stage) {
		s.publish(t, "moving")
		s.must(t, "", "sign", s.hub+"/moving:1.0.0", "--key", s.file("vendor.key"))
		s.carry(t, "moving")
		s.ref = s.hub + "/moving:1.0.0"
		s.moveTag(t, "moving")
	}, releases(fine, fine).but(none, cmdServe)},

	// Certificates.
	{"certificate of another identity", func(t *testing.T, s *stage) {
		s.certify(t, "mallory", scriptIssuer, "mallory@vendor.example", byLog)
	}, releases(outcome{refused, "it claims to be signed by mallory@vendor.example"}, outcome{refused, "signed by mallory@vendor.example"})},
	{"certificate of another issuer", func(t *testing.T, s *stage) {
		s.certify(t, "issuer", "https://evil.example", vendorSubject, byLog)
	}, releases(outcome{refused, "(https://evil.example)"}, outcome{refused, "(https://evil.example)"})},
	{"log entry missing", func(t *testing.T, s *stage) {
		s.certify(t, "nolog", scriptIssuer, vendorSubject, sigstoretest.Signature{Timestamp: true})
	}, releases(outcome{damaged, "not enough verified log entries"}, outcome{damaged, "not enough verified log entries"})},
	{"trusted root of another sigstore", func(t *testing.T, s *stage) {
		s.certify(t, "otherroot", scriptIssuer, vendorSubject, byLog)
		s.plantRoot(t, s.otherSigstore.TrustedRoot(t, sigstoretest.Parts{Log: true, Timestamps: true}))
	}, releases(outcome{damaged, "claims to be by " + vendorSubject}, outcome{damaged, "claims to be by " + vendorSubject})},
	{"trusted root tampered with", func(t *testing.T, s *stage) {
		s.certify(t, "tampered", scriptIssuer, vendorSubject, byLog)
		raw, err := os.ReadFile(s.file("root.json"))
		check(t, err)
		s.plantRoot(t, bytes.Replace(raw, []byte(`"rawBytes":"MII`), []byte(`"rawBytes":"MIJ`), 1))
	}, releases(outcome{misused, "parse trusted root: "}, outcome{misused, "parse trusted root: "})},

	// Content that is no signature, or much of it.
	{"malformed bundle", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.disc().attach(t, s.root, s.disc().put(t, typeBundle, []byte(`{"mediaType":`)))
	}, releases(outcome{damaged, "bundle: "}, outcome{damaged, "bundle: "})},
	{"bundle of 64 MiB", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.disc().attach(t, s.root, s.disc().huge(t, typeBundle, 64<<20))
	}, releases(outcome{damaged, "is 67108864 bytes, the limit is"}, outcome{damaged, "is 67108864 bytes, the limit is"})},
	{"signature manifest of 64 MiB", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		huge := s.disc().huge(t, ocispec.MediaTypeImageManifest, 64<<20)
		s.atTag(t, s.root, huge)
		s.withheld = "manifests/" + huge.Digest.String()
	}, releases(outcome{damaged, "67108864"}, outcome{damaged, "67108864"}).but(outcome{withheld, ""}, cmdServe)},
	{"bundle nested deeply", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.disc().attach(t, s.root, s.disc().put(t, typeBundle, nested(500_000)))
	}, releases(outcome{damaged, "bundle: "}, outcome{damaged, "bundle: "})},
	{"payload nested deeply", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.payload(t, nested(500_000), 1)
	}, releases(outcome{damaged, "payload: "}, outcome{damaged, "payload: "})},
	{"thousands of signatures at the tag", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.payload(t, cosignPayload(s.root.Digest), 2_000)
	}, releases(outcome{refused, "it has more signatures than are looked at"}, outcome{refused, "only the first 64 were looked at"})},
	{"hundreds of referrers", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.disc().crowd(t, s.root, 200)
	}, releases(outcome{damaged, "only the first 64 were looked at"}, outcome{damaged, "only the first 64 were looked at"})},
	{"many referrers around a sound signature", func(t *testing.T, s *stage) {
		s.disc().crowd(t, s.root, 70)
	}, releases(fine, fine)},
	{"duplicate keys in a bundle", func(t *testing.T, s *stage) {
		bundle := s.disc().bundle(t, s.root)
		raw, err := os.ReadFile(s.disc().path(bundle))
		check(t, err)
		s.disc().strip(t, s.root)
		s.disc().attach(t, s.root, s.disc().put(t, typeBundle, append([]byte(`{"mediaType":"`+typeBundle+`",`), raw[1:]...)))
	}, releases(outcome{damaged, "bundle: "}, outcome{damaged, "bundle: "})},
	{"duplicate keys in index.json", func(t *testing.T, s *stage) {
		other := s.disc().index(t)
		root := s.root
		s.relabel(t, "/shop:1.1.0")
		s.root = root
		raw := encode(s.disc().index(t))
		s.disc().write(t, append(raw[:len(raw)-1], append([]byte(`,"manifests":`), append(encode(other.Manifests), '}')...)...))
	}, releases(fine, fine)},
	{"duplicate keys in the release", func(t *testing.T, s *stage) {
		s.resign(t, func(raw []byte) []byte {
			return bytes.Replace(raw, []byte(`"manifests":[`), []byte(`"manifests":[],"manifests":[`), 1)
		})
	}, releases(outcome{damaged, `key "manifests" stands twice`}, outcome{damaged, `key "manifests" stands twice`})},
	{"duplicate keys in a payload", func(t *testing.T, s *stage) {
		s.disc().strip(t, s.root)
		s.payload(t, bytes.Replace(cosignPayload(s.root.Digest), []byte(`{"critical"`), []byte(`{"critical":{},"critical"`), 1), 1)
	}, releases(outcome{damaged, `key "critical" stands twice`}, outcome{damaged, `key "critical" stands twice`})},
	{"malformed release", func(t *testing.T, s *stage) {
		raw, err := os.ReadFile(s.disc().path(s.root))
		check(t, err)
		s.stand(t, s.disc().put(t, s.root.MediaType, raw[:len(raw)-1]))
		s.withheld = "manifests/1.0.0"
	}, releases(outcome{unread, "unexpected end of JSON input"}, outcome{unread, "unexpected end of JSON input"}).but(outcome{unread, "what names all the rest"}, cmdVerify, cmdVerifyPolicy).but(outcome{withheld, ""}, cmdServe)},
	{"release of 64 MiB", func(t *testing.T, s *stage) {
		huge := s.disc().huge(t, ocispec.MediaTypeImageIndex, 64<<20)
		s.stand(t, huge)
		s.withheld = "manifests/1.0.0"
	}, releases(outcome{unread, "size exceeds limit"}, outcome{unread, "size exceeds limit"}).but(outcome{unread, "what names all the rest"}, cmdVerify, cmdVerifyPolicy).but(outcome{withheld, ""}, cmdServe)},
	{"label of 64 MiB", func(t *testing.T, s *stage) {
		check(t, os.Truncate(filepath.Join(s.media, "sealift", "media.json"), 64<<20+1))
	}, releases(fine, fine)},
	{"layer replaced", func(t *testing.T, s *stage) {
		image := s.disc().manifest(t, s.disc().manifest(t, s.root).Manifests[1])
		data := bytes.Repeat([]byte("x"), int(image.Layers[1].Size))
		writeTo(t, s.disc().path(image.Layers[1]), data, 0o644)
		s.withheld = "blobs/" + image.Layers[1].Digest.String()
	}, releases(outcome{damaged, "corrupt"}, outcome{damaged, "corrupt"}).but(outcome{stopped, ""}, cmdImport, cmdInstall, cmdMirror, cmdMirrorPolicy).but(fine, cmdDryInstall).but(outcome{withheld, ""}, cmdServe)},
	{"label that excuses what is missing", func(t *testing.T, s *stage) {
		s.excuse(t)
	}, releases(outcome{harmless, "absent: "}, outcome{harmless, "absent: "}).but(outcome{lacking, "not on this media: "}, cmdDryInstall, cmdInstall).
		but(outcome{unfinished, ""}, cmdImport, cmdMirror, cmdMirrorPolicy).but(outcome{damaged, "missing: "}, cmdServe)},

	// The policy.
	{"policy update by the new keys only", func(t *testing.T, s *stage) {
		s.update(t, "newkeys", "fresh", func(p string) string {
			p = strings.Replace(p, "version: 4", "version: 5", 1)
			p = strings.Replace(p, "\nkeys:\n", "\nkeys:\n  fresh:\n    pem: |\n      "+strings.ReplaceAll(strings.TrimSpace(string(pairOf("fresh").public)), "\n", "\n      ")+"\n", 1)
			return strings.Replace(p, "updates: {keys: [officer]}", "updates: {keys: [fresh]}", 1)
		})
	}, ofUpdate(outcome{refused, "it claims to be signed by " + pairOf("fresh").fingerprint}, outcome{refused, "it wants a signature by officer"}, outcome{refused, "it wants a signature by officer"})},
	{"policy update to an older version", func(t *testing.T, s *stage) {
		s.update(t, "older", "officer", replacing("version: 4", "version: 3"))
	}, ofUpdate(fine, fine, outcome{refused, "it never goes down"})},
	{"policy rolled back", func(t *testing.T, s *stage) {
		s.policy(t, replacing("version: 4", "version: 3"))
	}, atSite(outcome{refused, "it never goes down"}).but(outcome{refused, "it never goes down"}, cmdUpdate)},
	{"policy removed", func(t *testing.T, s *stage) {
		check(t, os.Remove(filepath.Join(s.home, "policy.yaml")))
	}, atSite(outcome{refused, "this site has no policy any more"}).but(outcome{refused, "this site has no policy any more"}, cmdUpdate)},
	{"policy that others may write", func(t *testing.T, s *stage) {
		check(t, os.Chmod(filepath.Join(s.home, "policy.yaml"), 0o666))
	}, atSite(outcome{refused, "can be changed by other users"}).but(outcome{refused, "can be changed by other users"}, cmdUpdate)},
	{"duplicate keys in a policy", func(t *testing.T, s *stage) {
		s.policy(t, func(p string) string { return p + "rules: []\n" })
	}, releases(none, outcome{misused, "rules"})},
	{"policy of 64 MiB", func(t *testing.T, s *stage) {
		check(t, os.Truncate(filepath.Join(s.home, "policy.yaml"), 64<<20))
	}, releases(none, outcome{misused, "the 1048576 "})},
	{"policy of 100,000 keys", func(t *testing.T, s *stage) {
		s.policy(t, func(string) string { return manyKeys(100_000) })
	}, releases(none, outcome{misused, "the 1048576 "})},

	// The site.
	{"audit log edited", func(t *testing.T, s *stage) {
		s.log(t, func(lines []string) []string {
			lines[0] = strings.Replace(lines[0], "example.com", "example.org", 1)
			return lines
		})
	}, outcomes{}.but(none, commands...).but(outcome{damaged, "was changed"}, cmdAudit)},
	{"audit log cut", func(t *testing.T, s *stage) {
		s.log(t, func(lines []string) []string { return lines[:len(lines)-1] })
	}, outcomes{}.but(none, commands...).but(outcome{damaged, "is not there, and trust.json knows it"}, cmdAudit)},
	{"private key that others can read", func(t *testing.T, s *stage) {
		s.key = filepath.Join(t.TempDir(), "loose.key")
		writeTo(t, s.key, pairOf("vendor").private, 0o644)
	}, outcomes{}.but(none, commands...).but(outcome{warned, "can be read by other users"}, cmdSign)},
	{"private key behind another user's link", func(t *testing.T, s *stage) {
		if os.Geteuid() != 0 {
			t.Skip("making another user's link takes root")
		}
		s.key = filepath.Join(t.TempDir(), "link.key")
		check(t, os.Symlink(s.file("vendor.key"), s.key))
		check(t, os.Lchown(s.key, 65534, 65534))
	}, outcomes{}.but(none, commands...).but(outcome{refused, "is a link that another user made"}, cmdSign)},
}
