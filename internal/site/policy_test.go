package site_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/signer"
)

// ruled is a home that tells what it warns of, and calls tick whenever it asks the time.
type ruled struct {
	*home
	warnings []string
	tick     func()
}

func openRuled(t testing.TB, dir string) *ruled {
	t.Helper()
	r := &ruled{tick: func() {}}
	h, err := site.Open(dir, site.Options{
		Now: func() time.Time { r.tick(); return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
		Report: func(e target.Event) {
			if e.Type == site.EventWarning {
				r.warnings = append(r.warnings, e.Message)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.home = &home{Home: h, dir: dir}
	return r
}

// text is a policy of a version that says no more than a word in a comment.
func text(version int, word string) string {
	return fmt.Sprintf("apiVersion: sealift/v1\nkind: Policy\nversion: %d # %s\n", version, word)
}

// edit writes the policy as a person does.
func (r *ruled) edit(t testing.TB, data string) {
	t.Helper()
	if err := os.WriteFile(r.PolicyPath(), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *ruled) reads(t testing.TB) string {
	t.Helper()
	_, data, err := r.Policy(t.Context())
	if err != nil {
		t.Fatalf("Policy() = %v", err)
	}
	return string(data)
}

// update is one from a policy to another.
func update(t testing.TB, from, to string) site.PolicyUpdate {
	t.Helper()
	p, err := signer.ParsePolicy("policy.yaml", []byte(to))
	if err != nil {
		t.Fatal(err)
	}
	return site.PolicyUpdate{Policy: p, Data: []byte(to), Root: digest.FromString("update to " + to), Signers: []string{"sha256:officer"}, Present: digest.FromString(from)}
}

func refusedFor(err error) site.Reason {
	var refused *site.RefusedError
	if !errors.As(err, &refused) {
		return ""
	}
	return refused.Reason
}

func TestUpdatePolicy(t *testing.T) {
	t.Parallel()
	r := openRuled(t, t.TempDir())
	four, five, six := text(4, "a"), text(5, "b"), text(6, "c")
	if err := r.UpdatePolicy(t.Context(), update(t, "", five)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("UpdatePolicy without a policy = %v, want fs.ErrNotExist", err)
	}
	r.edit(t, four)
	for name, tt := range map[string]struct {
		u      site.PolicyUpdate
		reason site.Reason
	}{
		"lower":                   {update(t, four, text(3, "x")), site.RefusedPolicyVersion},
		"equal with other bytes":  {update(t, four, text(4, "x")), site.RefusedPolicyVersion},
		"accepted by another one": {update(t, five, six), site.RefusedPolicyMoved},
	} {
		if err := r.CheckUpdate(t.Context(), tt.u); refusedFor(err) != tt.reason {
			t.Errorf("%s: CheckUpdate() = %v, want it refused for %s", name, err, tt.reason)
		}
		if err := r.UpdatePolicy(t.Context(), tt.u); refusedFor(err) != tt.reason {
			t.Errorf("%s: UpdatePolicy() = %v, want it refused for %s", name, err, tt.reason)
		}
		if got := r.reads(t); got != four {
			t.Fatalf("%s: the policy is %q", name, got)
		}
	}
	for range 2 { // the second changes nothing
		if err := r.UpdatePolicy(t.Context(), update(t, four, five)); err != nil {
			t.Fatal(err)
		}
		if got := r.reads(t); got != five {
			t.Fatalf("the policy is %q, want %q", got, five)
		}
	}
	if len(r.warnings) > 0 {
		t.Errorf("warned of %q", r.warnings)
	}
	if info, err := os.Stat(r.PolicyPath()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("policy.yaml has mode %v, %v", info.Mode(), err)
	}
	want := []string{
		"policy edited by hand: version 4, " + string(digest.FromString(four)),
		"policy begun update from version 4, " + string(digest.FromString(four)) + ", to version 5, " + string(digest.FromString(five)),
		"policy succeeded",
	}
	if diff := cmp.Diff(want, auditLog(t, r.home)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func TestPolicyByHand(t *testing.T) {
	t.Parallel()
	r := openRuled(t, t.TempDir())
	r.edit(t, text(4, "a"))
	r.reads(t)
	r.edit(t, text(5, "b"))
	r.reads(t)
	r.reads(t)
	if len(r.warnings) > 0 {
		t.Errorf("warned of %q, and versions went up", r.warnings)
	}
	r.edit(t, text(5, "c"))
	if got := r.reads(t); got != text(5, "c") || len(r.warnings) != 1 || !strings.Contains(r.warnings[0], "still version 5") {
		t.Errorf("the same version with other bytes reads %q and warns of %q", got, r.warnings)
	}
	log := auditLog(t, r.home)
	if len(log) != 3 || !strings.HasPrefix(log[2], "policy edited by hand: version 5, "+string(digest.FromString(text(5, "c")))+"; it was version 5, ") {
		t.Errorf("the log is %q", log)
	}

	// The way back is closed, to an old policy and to none.
	r.edit(t, text(4, "a"))
	if _, _, err := r.Policy(t.Context()); refusedFor(err) != site.RefusedPolicyOlder || !strings.Contains(err.Error(), "version 4, and version 5 was used here before") {
		t.Errorf("Policy() of a lower version = %v, want it refused", err)
	}
	if err := r.UpdatePolicy(t.Context(), update(t, text(4, "a"), text(6, "d"))); refusedFor(err) != site.RefusedPolicyOlder {
		t.Errorf("UpdatePolicy() over a lower version = %v, want it refused", err)
	}
	if err := os.Remove(r.PolicyPath()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Policy(t.Context()); refusedFor(err) != site.RefusedPolicyGone {
		t.Errorf("Policy() of one that was removed = %v, want it refused", err)
	}
	_, public, err := signer.GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := must(signer.ParseKey(public))(t)
	if _, err := r.AddRule(t.Context(), signer.RuleToAdd{IDs: []string{"example.com/**"}, Key: key, Name: "example"}); refusedFor(err) != site.RefusedPolicyGone {
		t.Errorf("AddRule() to one that was removed = %v, want it refused", err)
	}
	r.edit(t, text(6, "e"))
	if got := r.reads(t); got != text(6, "e") {
		t.Errorf("the policy is %q", got)
	}
	if n := len(auditLog(t, r.home)); n != 4 {
		t.Errorf("the log has %d entries, want 4: what is refused is read again and again", n)
	}
}

// snapshot is what of a home a policy stands in, by file.
type snapshot map[string]string

var policyFiles = []string{"policy.yaml", "trust.json", "audit.jsonl"}

func take(t testing.TB, dir string) snapshot {
	t.Helper()
	s := snapshot{}
	for _, name := range policyFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s[name] = string(data)
	}
	return s
}

// TestUpdateKilled stops an update after each thing it writes, as a kill would, and goes
// on from there: with the same update, after a command that only reads, and with
// another update.
func TestUpdateKilled(t *testing.T) {
	t.Parallel()
	four, five, six := text(4, "a"), text(5, "b"), text(6, "c")
	begun := openRuled(t, t.TempDir())
	begun.edit(t, four)
	begun.reads(t)
	var at []snapshot // before each entry of the log
	begun.tick = func() { at = append(at, take(t, begun.dir)) }
	if err := begun.UpdatePolicy(t.Context(), update(t, four, five)); err != nil {
		t.Fatal(err)
	}
	at = slices.DeleteFunc(at, func(s snapshot) bool { return !strings.Contains(s["audit.jsonl"], "edited by hand") })
	at = at[len(at)-2:]
	end := take(t, begun.dir)
	none, first, last := []string(nil), []string{"begun"}, []string{"begun", "succeeded"}
	steps := []struct {
		name                 string
		policy, trust, audit snapshot
		logged               []string // by then
		written              bool
	}{
		{"nothing", at[0], at[0], at[0], none, false},
		{"logged", at[0], at[0], at[1], first, false},
		{"logged and remembered", at[0], at[1], at[1], first, false},
		{"written", at[1], at[1], at[1], first, true},
		{"logged again", at[1], at[1], end, last, true},
		{"all", at[1], end, end, last, true},
	}
	for _, tt := range steps {
		for _, way := range []string{"update", "read", "another"} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				r := openRuled(t, t.TempDir())
				for name, s := range map[string]snapshot{"policy.yaml": tt.policy, "trust.json": tt.trust, "audit.jsonl": tt.audit, ".tmp-1": {".tmp-1": "half"}} {
					if err := os.WriteFile(filepath.Join(r.dir, name), []byte(s[name]), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				before := four
				if tt.written {
					before = five
				}
				to, want := five, slices.Clone(tt.logged)
				switch way {
				case "read":
					if got := r.reads(t); got != before {
						t.Errorf("the policy is %q, want %q", got, before)
					}
				case "another":
					to = six
				}
				if err := r.UpdatePolicy(t.Context(), update(t, before, to)); err != nil {
					t.Fatalf("UpdatePolicy() = %v", err)
				}
				if tt.name == "written" || tt.name == "logged again" {
					want = append(want, "succeeded") // by who sees it first
				}
				if tt.name == "logged and remembered" {
					want = append(want, "interrupted")
				}
				if to != before {
					want = append(want, "begun", "succeeded")
				}
				if got := r.reads(t); got != to || len(r.warnings) > 0 {
					t.Errorf("the policy is %q, want %q; warned of %q", got, to, r.warnings)
				}
				got := []string(nil)
				for _, line := range auditLog(t, r.home)[1:] {
					got = append(got, strings.Fields(line)[1])
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("the log (-want +got):\n%s", diff)
				}
				if left := take(t, r.dir); strings.Contains(left["trust.json"], "coming") {
					t.Errorf("trust.json still expects something: %s", left["trust.json"])
				}
				if _, err := os.Stat(filepath.Join(r.dir, ".tmp-1")); to != before && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("what was half written is still there: %v", err)
				}
			})
		}
	}
}

// TestUpdateKilledAndEdited puts the policy of an update that was stopped in place by hand,
// behind another edit: what was coming once is no way back.
func TestUpdateKilledAndEdited(t *testing.T) {
	t.Parallel()
	four, five := text(4, "a"), text(5, "b")
	for name, tt := range map[string]struct {
		edit   string
		reason site.Reason // of five, put back
		end    string      // of the log
	}{
		"higher": {text(7, "c"), site.RefusedPolicyOlder, "edited by hand: version 7, "},
		"equal":  {text(5, "c"), "", "edited by hand: version 5, "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := openRuled(t, t.TempDir())
			r.edit(t, four)
			r.reads(t)
			if err := r.UpdatePolicy(t.Context(), update(t, four, five)); err != nil {
				t.Fatal(err)
			}
			// As a kill leaves it before the policy is written: the last line is not there.
			log, err := os.ReadFile(filepath.Join(r.dir, "audit.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(string(log), "\n")
			begun := strings.TrimSuffix(lines[1], "\n")
			trust := fmt.Sprintf(`{"policy": {"version": 4, "digest": %q}, "coming": {"version": 5, "digest": %q, "update": %q}, "audit": {"seq": 2, "digest": %q}}`,
				digest.FromString(four), digest.FromString(five), digest.FromString("update to "+five), digest.FromString(begun))
			for file, data := range map[string]string{"audit.jsonl": lines[0] + lines[1], "trust.json": trust, "policy.yaml": tt.edit} {
				if err := os.WriteFile(filepath.Join(r.dir, file), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := r.reads(t); got != tt.edit {
				t.Fatalf("the policy is %q, want %q", got, tt.edit)
			}
			if left := take(t, r.dir); strings.Contains(left["trust.json"], "coming") {
				t.Errorf("trust.json still expects something: %s", left["trust.json"])
			}
			entries := auditLog(t, r.home)
			if len(entries) != 4 || entries[2] != "policy interrupted" || !strings.HasPrefix(entries[3], "policy "+tt.end) {
				t.Errorf("the log is %q", entries)
			}
			r.edit(t, five)
			if _, _, err := r.Policy(t.Context()); refusedFor(err) != tt.reason {
				t.Errorf("Policy() of what was coming = %v, want it refused for %q", err, tt.reason)
			}
			if slices.Contains(auditLog(t, r.home), "policy succeeded") {
				t.Error("the log says that the update succeeded")
			}
		})
	}
}

// A policy that is lower than the last one is no less so for having been coming.
func TestComingLower(t *testing.T) {
	t.Parallel()
	r := openRuled(t, t.TempDir())
	four, seven := text(4, "a"), text(7, "c")
	r.edit(t, four)
	trust := fmt.Sprintf(`{"policy": {"version": 7, "digest": %q}, "coming": {"version": 4, "digest": %q, "update": %[1]q}}`, digest.FromString(seven), digest.FromString(four))
	if err := os.WriteFile(filepath.Join(r.dir, "trust.json"), []byte(trust), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Policy(t.Context()); refusedFor(err) != site.RefusedPolicyOlder {
		t.Errorf("Policy() = %v, want it refused", err)
	}
}

// What is too large is what somebody can mend in the file, and is not read whole.
func TestPolicyHuge(t *testing.T) {
	t.Parallel()
	r := openRuled(t, t.TempDir())
	r.edit(t, text(4, "a"))
	if err := os.Truncate(r.PolicyPath(), 64<<20); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Policy(t.Context()); !errors.As(err, new(artifact.FindingsError)) {
		t.Errorf("Policy() of 64 MiB = %v, want findings", err)
	}
}

// Whoever may read the home and not write to it goes by the policy all the same, and is
// not led back either.
func TestPolicyReadOnly(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	r := openRuled(t, t.TempDir())
	r.edit(t, text(4, "a"))
	r.reads(t)
	r.edit(t, text(5, "b"))
	chmod := func(mode fs.FileMode, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Chmod(filepath.Join(r.dir, name), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	chmod(0o400, "audit.jsonl", "trust.json")
	if got := r.reads(t); got != text(5, "b") || len(r.warnings) != 1 || !strings.Contains(r.warnings[0], "could not be recorded") {
		t.Errorf("the policy is %q, warned of %q", got, r.warnings)
	}
	r.edit(t, text(3, "c"))
	if _, _, err := r.Policy(t.Context()); refusedFor(err) != site.RefusedPolicyOlder {
		t.Errorf("Policy() = %v, want it refused", err)
	}
	chmod(0, "trust.json")
	if got := r.reads(t); got != text(3, "c") || !strings.Contains(r.warnings[1], "is not known") {
		t.Errorf("the policy is %q, warned of %q", got, r.warnings)
	}
}

func TestAcceptedIDs(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	if ids := must(h.AcceptedIDs())(t); !slices.Equal(ids, []string{"example.com/shop"}) {
		t.Errorf("AcceptedIDs() = %v", ids)
	}
	if err := os.Remove(filepath.Join(h.dir, "trust.json")); err != nil {
		t.Fatal(err)
	}
	if ids := must(h.AcceptedIDs())(t); !slices.Equal(ids, []string{"example.com/shop"}) {
		t.Errorf("AcceptedIDs() without what was remembered = %v, want what is installed", ids)
	}
}
