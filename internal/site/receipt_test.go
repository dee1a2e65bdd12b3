package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/receipt"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/signer"
)

var vendorKey = digest.FromString("the vendor's key").String()

// signed is a delivery of an app with evidence, as install makes it.
func signed(t testing.TB, id, version string) site.Delivery {
	t.Helper()
	d := delivery(t, fmt.Sprintf("apiVersion: sealift/v1\nkind: App\nid: %s\nversion: %s\nplatforms: [linux/amd64]\ncomponents:\n  web: {image: x, args: [%s]}\n", id, version, version), nil)
	evidence := signer.Evidence{
		Subject: ocispec.Descriptor{Digest: d.Release.Root.Digest},
		Signatures: []signer.Signature{{Form: signer.FormBundle, Key: vendorKey,
			Manifest: ocispec.Descriptor{Digest: digest.FromString("manifest of " + version)}, Layer: ocispec.Descriptor{Digest: digest.FromString("layer of " + version)}}},
		Decision: &signer.Decision{Policy: 3, Rule: 2},
	}
	raw, err := json.Marshal(evidence)
	if err != nil {
		t.Fatal(err)
	}
	d.Evidence, d.Signers, d.Policy = raw, []string{vendorKey}, 3
	return d
}

func globs(t testing.TB, patterns ...string) (list []artifact.IDGlob) {
	t.Helper()
	for _, p := range patterns {
		g, err := artifact.ParseIDGlob(p)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, g)
	}
	return list
}

var told = site.ReceiptOptions{Site: "plant 7", Sealift: "1.0.0"}

func only(t testing.TB, patterns ...string) site.ReceiptOptions {
	opts := told
	opts.For = globs(t, patterns...)
	return opts
}

// lived is a site at which something happened: shop was upgraded and insisted back to
// where it was, its last change failed, and till came and went.
func lived(t testing.TB) *home {
	t.Helper()
	place := newHost()
	h := open(t, t.TempDir(), place)
	ctx := t.Context()
	must(h.Install(ctx, signed(t, "example.com/shop", "1.9.0"), site.InstallOptions{}))(t)
	must(h.Upgrade(ctx, signed(t, "example.com/shop", "1.10.0"), site.InstallOptions{}))(t)
	must(h.Install(ctx, signed(t, "example.net/till", "2.0.0"), site.InstallOptions{}))(t)
	must(h.Upgrade(ctx, signed(t, "example.com/shop", "1.9.0"), site.InstallOptions{AllowDowngrade: true}))(t)
	must(h.Uninstall(ctx, "till", site.UninstallOptions{}))(t)
	place.fail = func(target.Deployment) error { return errors.New("port 80 is held by example.net/till") }
	if _, err := h.Upgrade(ctx, signed(t, "example.com/shop", "1.11.0"), site.InstallOptions{}); err == nil {
		t.Fatal("Upgrade() succeeded")
	}
	place.fail = nil
	return h
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	h := lived(t)
	r := must(h.Receipt(t.Context(), told))(t)
	root := func(id, version string) digest.Digest { return signed(t, id, version).Release.Root.Digest }
	release := func(id, version, event string, entry int, overrides ...string) receipt.Release {
		return receipt.Release{ID: id, Version: version, Root: root(id, version), Time: r.Time, Event: event, Entry: entry, Signers: []string{vendorKey}, Policy: 3, Rule: 2, Overrides: overrides,
			Signatures: []receipt.Signature{{Signer: vendorKey, Form: signer.FormBundle, Manifest: digest.FromString("manifest of " + version), Layer: digest.FromString("layer of " + version)}}}
	}
	want := receipt.Receipt{
		Site: "plant 7", Time: r.Time, Sealift: "1.0.0", Audit: r.Audit,
		Accepted: []receipt.Release{
			release("example.com/shop", "1.9.0", "install", 1, "allow-downgrade"), release("example.com/shop", "1.10.0", "upgrade", 3),
			release("example.net/till", "2.0.0", "install", 5), release("example.com/shop", "1.11.0", "upgrade", 11),
		},
		Instances: []receipt.Instance{{Name: "shop", Target: "compose",
			Current: &receipt.Installed{Revision: 3, ID: "example.com/shop", Version: "1.9.0", Root: root("example.com/shop", "1.9.0"), Since: r.Time},
			Last:    receipt.Change{Revision: 4, Action: "upgrade", ID: "example.com/shop", Version: "1.11.0", Root: root("example.com/shop", "1.11.0"), Result: "failed", Time: r.Time}}},
	}
	if diff := cmp.Diff(want, r); diff != "" || r.Audit.Seq != 12 || r.Time.IsZero() {
		t.Errorf("Receipt() at entry %d (-want +got):\n%s", r.Audit.Seq, diff)
	}

	// What one vendor gets has nothing of another.
	mine := must(h.Receipt(t.Context(), only(t, "example.com/**")))(t)
	raw, err := mine.Statement()
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"till", "example.net", root("example.net/till", "2.0.0").Encoded(), "port 80"} {
		if strings.Contains(string(raw), other) {
			t.Errorf("a receipt for example.com has %q:\n%s", other, raw)
		}
	}
	if len(mine.Accepted) != 3 || len(mine.Instances) != 1 || mine.For[0] != "example.com/**" {
		t.Errorf("a receipt for example.com: %+v", mine)
	}
	theirs := must(h.Receipt(t.Context(), only(t, "example.net/*")))(t)
	if len(theirs.Accepted) != 1 || len(theirs.Instances) != 0 {
		t.Errorf("a receipt for example.net: %+v, want till accepted and gone", theirs)
	}
	if _, err := h.Receipt(t.Context(), only(t, "example.org/**")); !errors.Is(err, site.ErrNotFound) || !strings.Contains(err.Error(), "example.org/**") {
		t.Errorf("Receipt() = %v, want %v", err, site.ErrNotFound)
	}
}

// A name can go from one app to another: each vendor learns of its own.
func TestReceiptOfNameReused(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	ctx, name := t.Context(), site.InstallOptions{Instance: "x"}
	place.fail = func(target.Deployment) error { return errors.New("no") }
	if _, err := h.Install(ctx, signed(t, "example.com/shop", "1.0.0"), name); err == nil {
		t.Fatal("Install() succeeded")
	}
	place.fail = nil
	must(h.Install(ctx, signed(t, "example.net/till", "2.0.0"), name))(t)
	mine := must(h.Receipt(t.Context(), only(t, "example.com/*")))(t)
	if len(mine.Instances) != 1 || mine.Instances[0].Current != nil || mine.Instances[0].Last.ID != "example.com/shop" || mine.Instances[0].Last.Result != "failed" {
		t.Errorf("a receipt for example.com: %+v", mine.Instances)
	}
	theirs := must(h.Receipt(t.Context(), only(t, "example.net/*")))(t)
	if len(theirs.Instances) != 1 || theirs.Instances[0].Current == nil || theirs.Instances[0].Current.Revision != 2 || theirs.Instances[0].Last.Revision != 2 {
		t.Errorf("a receipt for example.net: %+v", theirs.Instances)
	}
}

// A change that was cut off is told of as what it is, before and after the next.
func TestReceiptOfInterrupted(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	ctx, cancel := context.WithCancel(t.Context())
	place.fail = func(target.Deployment) error { cancel(); return nil }
	if _, err := h.Install(ctx, signed(t, "example.com/shop", "1.0.0"), site.InstallOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Install() = %v", err)
	}
	record := filepath.Join(h.dir, "instances", "shop", "1.json")
	pending, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when, want string) {
		t.Helper()
		r := must(h.Receipt(t.Context(), told))(t)
		if len(r.Instances) != 1 || r.Instances[0].Last.Result != want {
			t.Errorf("%s: %+v, want it %s", when, r.Instances, want)
		}
		if _, err := r.Statement(); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("cut off", "pending")
	// As a kill leaves it between the entry that says so and the record.
	if _, err := h.Record(t.Context(), audit.Entry{Event: "install", Result: "interrupted", Instance: "shop", Revision: 1, ID: "example.com/shop", Version: "1.0.0"}); err != nil {
		t.Fatal(err)
	}
	check("known to be cut off", "pending")
	if err := os.WriteFile(record, []byte(strings.Replace(string(pending), `"pending"`, `"failed"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	check("recorded", "failed")
	if err := os.WriteFile(record, []byte(strings.Replace(string(pending), `"pending"`, `"succeeded"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Receipt(t.Context(), told); !errors.Is(err, site.ErrContradicted) {
		t.Errorf("Receipt() = %v for one that is said to have succeeded, want %v", err, site.ErrContradicted)
	}
}

// Records that are not what the log says make no receipt.
func TestReceiptContradicted(t *testing.T) {
	t.Parallel()
	edit := func(name, old, with string) func(testing.TB, string) error {
		return func(t testing.TB, dir string) error {
			path := filepath.Join(dir, filepath.FromSlash(name))
			data, err := os.ReadFile(path)
			if err == nil && !strings.Contains(string(data), old) {
				t.Fatalf("%s has no %s:\n%s", name, old, data)
			}
			return errors.Join(err, os.WriteFile(path, []byte(strings.Replace(string(data), old, with, 1)), 0o600))
		}
	}
	remove := func(name string) func(testing.TB, string) error {
		return func(_ testing.TB, dir string) error {
			return os.RemoveAll(filepath.Join(dir, filepath.FromSlash(name)))
		}
	}
	shop := func(version string) string {
		return signed(t, "example.com/shop", version).Release.Root.Digest.Encoded()
	}
	tests := []struct {
		name   string
		change func(testing.TB, string) error
		want   error
		says   string
	}{
		{"the log", edit("audit.jsonl", "1.10.0", "1.10.1"), site.ErrAudit, "it, or one before it, was changed"},
		{"the log cut", func(t testing.TB, dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, "audit.jsonl"))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "audit.jsonl"), data[:strings.LastIndex(strings.TrimSpace(string(data)), "\n")+1], 0o600))
		}, site.ErrAudit, "trust.json knows it"},
		{"a result", edit("instances/shop/4.json", `"failed"`, `"succeeded"`), site.ErrContradicted, "revision 4 of shop is another one in the log"},
		{"the current result", edit("instances/shop/3.json", `"result": "succeeded"`, `"result": "failed"`), site.ErrContradicted, "revision 3 of shop succeeded by the log, and not by its record"},
		{"a version", edit("instances/shop/3.json", `"version": "1.9.0"`, `"version": "1.9.1"`), site.ErrContradicted, "revision 3 of shop is another one in the log"},
		{"an id", edit("instances/shop/3.json", `"id": "example.com/shop"`, `"id": "example.com/shot"`), site.ErrContradicted, "revision 3 of shop is another one in the log"},
		{"a root", edit("instances/shop/3.json", `"root": "sha256:`+shop("1.9.0"), `"root": "sha256:`+shop("1.10.0")), site.ErrContradicted, "revision 3 of shop is another one in the log"},
		{"an action", edit("instances/shop/3.json", `"action": "upgrade"`, `"action": "rollback"`), site.ErrContradicted, "revision 3 of shop is another one in the log"},
		{"an entry of another", edit("instances/shop/4.json", `"seq": 11`, `"seq": 1`), site.ErrAudit, "that revision 4 of shop knows"},
		{"no entry", func(t testing.TB, dir string) error {
			path := filepath.Join(dir, "instances", "shop", "4.json")
			data, err := os.ReadFile(path)
			var r map[string]any
			err = errors.Join(err, json.Unmarshal(data, &r))
			delete(r, "audit")
			data, encErr := json.Marshal(r)
			return errors.Join(err, encErr, os.WriteFile(path, data, 0o600))
		}, site.ErrContradicted, "revision 4 of shop is not in the log"},
		{"signatures of another release", edit("instances/shop/1.json", `"subject":`, `"subject": {"digest": "sha256:`+shop("1.10.0")+`"}, "was":`), site.ErrContradicted, "the evidence of revision 1 of shop is of other signatures"},
		{"signatures by another key", edit("instances/shop/1.json", vendorKey, digest.FromString("x").String()), site.ErrContradicted, "the evidence of revision 1 of shop is of other signatures"},
		{"a first record", edit("instances/shop/1.json", `"version": "1.9.0"`, `"version": "1.9.1"`), site.ErrContradicted, "revision 1 of shop is another one in the log"},
		{"the last record gone", remove("instances/shop/4.json"), site.ErrContradicted, "revision 4 of shop is in the log, and its record is gone"},
		{"the current record gone", remove("instances/shop/3.json"), site.ErrContradicted, "revision 3 of shop succeeded by the log, and not by its record"},
		{"an instance hidden", edit("instances/shop/4.json", `"action": "upgrade"`, `"action": "uninstall"`), site.ErrContradicted, "revision 4 of shop is another one in the log"},
		{"an instance hidden as gone", func(t testing.TB, dir string) error {
			return errors.Join(edit("instances/shop/4.json", `"action": "upgrade"`, `"action": "uninstall"`)(t, dir), edit("instances/shop/4.json", `"failed"`, `"succeeded"`)(t, dir))
		}, site.ErrContradicted, "revision 4 of shop is another one in the log"},
		{"the instance gone", remove("instances/shop"), site.ErrContradicted, "revision 4 of shop is in the log, and its record is gone"},
		{"another instance gone", remove("instances/till"), site.ErrContradicted, "revision 2 of till is in the log, and its record is gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := lived(t)
			if err := tt.change(t, h.dir); err != nil {
				t.Fatal(err)
			}
			if _, err := h.Receipt(t.Context(), told); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Receipt() = %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
}

// A receipt is in the log before it is out, and a head in one is an anchor of the log.
func TestIssueReceipt(t *testing.T) {
	t.Parallel()
	h := lived(t)
	var raw []byte
	seal := func(r receipt.Receipt) (_ []byte, err error) {
		if _, err := h.Uninstall(t.Context(), "shop", site.UninstallOptions{}); !errors.Is(err, site.ErrLocked) {
			t.Errorf("Uninstall() = %v while a receipt is made, want %v", err, site.ErrLocked)
		}
		raw, err = r.Seal(nil)
		return raw, err
	}
	r := must(h.IssueReceipt(t.Context(), only(t, "example.com/**"), []string{vendorKey}, seal))(t)
	var last audit.Entry
	report, err := h.VerifyAudit(func(e audit.Entry) { last = e }, audit.Anchor{Head: r.Audit, Where: "the receipt"})
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
	if last.Event != "receipt" || last.Receipt != digest.FromBytes(raw) || last.Previous != r.Audit.Digest || last.Reason != "for example.com/**" || !slices.Equal(last.Keys, []string{vendorKey}) {
		t.Errorf("the log ends with %+v", last)
	}

	// What cannot be made is not recorded.
	full := errors.New("full")
	if _, err := h.IssueReceipt(t.Context(), told, nil, func(receipt.Receipt) ([]byte, error) { return nil, full }); !errors.Is(err, full) {
		t.Errorf("IssueReceipt() = %v, want %v", err, full)
	}
	if again := must(h.VerifyAudit(nil))(t); again.Head != report.Head {
		t.Errorf("the log has %+v after a receipt that was not made, want %+v", again.Head, report.Head)
	}

	// All of the home can be written anew; not what others hold.
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	forged := open(t, h.dir, newHost())
	must(forged.Install(t.Context(), signed(t, "example.com/shop", "1.9.0"), site.InstallOptions{}))(t)
	if report := must(forged.VerifyAudit(nil))(t); len(report.Problems) > 0 {
		t.Errorf("a log written anew: %+v", report)
	}
	report = must(forged.VerifyAudit(nil, audit.Anchor{Head: r.Audit, Where: "the receipt"}))(t)
	if len(report.Problems) != 1 || report.Problems[0].Text != "entry 12 is not there, and the receipt knows it" {
		t.Errorf("a log written anew, against a receipt: %+v", report)
	}
}

// Where there is no site, none is made.
func TestIssueReceiptNowhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "home")
	h := open(t, dir, nil)
	if _, err := h.IssueReceipt(t.Context(), told, nil, func(receipt.Receipt) ([]byte, error) { return nil, nil }); !errors.Is(err, site.ErrNotFound) {
		t.Errorf("IssueReceipt() = %v, want %v", err, site.ErrNotFound)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a home was made: %v", err)
	}
}

// The policy is told of by its version and digest, and one that others may change by
// nobody.
func TestReceiptPolicy(t *testing.T) {
	t.Parallel()
	h := lived(t)
	if r := must(h.Receipt(t.Context(), told))(t); r.Policy != nil {
		t.Errorf("a site without a policy tells of %+v", r.Policy)
	}
	text := []byte("apiVersion: sealift/v1\nkind: Policy\nversion: 9\n")
	if err := os.WriteFile(h.PolicyPath(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := must(h.Receipt(t.Context(), told))(t); r.Policy == nil || *r.Policy != (receipt.Policy{Version: 9, Digest: digest.FromBytes(text)}) {
		t.Errorf("the policy is told of as %+v", r.Policy)
	}
	if err := os.Chmod(h.PolicyPath(), 0o620); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Receipt(t.Context(), told); !errors.Is(err, site.ErrRefused) {
		t.Errorf("Receipt() = %v for a policy that a group may change", err)
	}
}

// What was imported arrived, be it installed or not; what was cut off did not.
func TestReceiptOfImports(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	ctx := t.Context()
	d, failed := signed(t, "example.com/shop", "1.0.0"), signed(t, "example.com/shop", "2.0.0")
	arrives := func(list ...site.Arrival) error {
		return h.Import(ctx, list, func(context.Context) error { return nil })
	}
	if err := arrives(site.Arrival{Delivery: d, Override: "allow-downgrade"}); err != nil {
		t.Fatal(err)
	}
	if err := h.Import(ctx, []site.Arrival{{Delivery: failed}}, func(context.Context) error { return errors.New("full") }); err == nil {
		t.Fatal("Import() succeeded")
	}
	want := receipt.Release{ID: "example.com/shop", Version: "1.0.0", Root: d.Release.Root.Digest, Event: "import", Entry: 2, Signers: []string{vendorKey}, Policy: 3, Rule: 2,
		Overrides:  []string{"allow-downgrade"},
		Signatures: []receipt.Signature{{Signer: vendorKey, Form: signer.FormBundle, Manifest: digest.FromString("manifest of 1.0.0"), Layer: digest.FromString("layer of 1.0.0")}}}
	check := func(when string) {
		t.Helper()
		r := must(h.Receipt(ctx, told))(t)
		want.Time = r.Time
		if diff := cmp.Diff([]receipt.Release{want}, r.Accepted); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	check("imported")

	// Imported again with another signature beside, and by another policy, it is still
	// accepted as it was; that signature is of no entry before.
	signer2 := "release@example.com (https://accounts.example.com)"
	var evidence signer.Evidence
	if err := json.Unmarshal(d.Evidence, &evidence); err != nil {
		t.Fatal(err)
	}
	evidence.Signatures = append(evidence.Signatures, signer.Signature{Form: signer.FormBundle,
		Certificate: &signer.Certificate{Subject: "release@example.com", Issuer: "https://accounts.example.com"},
		Manifest:    ocispec.Descriptor{Digest: digest.FromString("m")}, Layer: ocispec.Descriptor{Digest: digest.FromString("l")}})
	raw, err := json.Marshal(evidence)
	if err != nil {
		t.Fatal(err)
	}
	again := d
	again.Evidence, again.Signers = raw, append(again.Signers, signer2)
	if err := arrives(site.Arrival{Delivery: again}); err != nil {
		t.Fatal(err)
	}
	check("imported again")

	// Evidence that no entry knows of is no evidence.
	path := filepath.Join(h.dir, "evidence", strings.Replace(string(want.Root), ":", "-", 1)+".json")
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for old, with := range map[string]string{vendorKey: digest.FromString("x").String(), string(want.Root): string(failed.Release.Root.Digest), "release@": "other@"} {
		if err := os.WriteFile(path, []byte(strings.Replace(string(kept), old, with, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Receipt(ctx, told); !errors.Is(err, site.ErrContradicted) || !strings.Contains(err.Error(), "the evidence of example.com/shop 1.0.0 is of other signatures") {
			t.Errorf("Receipt() = %v for evidence of %s, want %v", err, with, site.ErrContradicted)
		}
	}

	// It leaves the library, and has arrived all the same.
	if err := h.Prune(ctx, []site.Held{{ID: "example.com/shop", Version: "1.0.0", Root: want.Root}}, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want.Signatures, want.Rule = nil, 0
	check("pruned")
	if r := must(h.Receipt(ctx, told))(t); r.Instances != nil {
		t.Errorf("nothing was installed, and the receipt has %+v", r.Instances)
	}
}
