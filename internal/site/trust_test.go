package site_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/signer"
)

// auditLog returns the log of a home, in short, and fails where it is not sound.
func auditLog(t testing.TB, h *home) (lines []string) {
	t.Helper()
	report, err := h.VerifyAudit(func(e audit.Entry) {
		lines = append(lines, strings.Join(strings.Fields(fmt.Sprint(e.Event, " ", e.Result, " ", e.Version, " ", e.Override, " ", e.Reason)), " "))
	})
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("VerifyAudit() = %+v, %v", report, err)
	}
	return lines
}

// What was accepted once is remembered for every instance, and for good.
func TestNoWayBack(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	older, newer := shop(t, "1.0.0", ""), shop(t, "1.1.0", "")
	must(h.Install(t.Context(), newer, site.InstallOptions{}))(t)
	must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{}))(t)
	again := shop(t, "1.1.0", "  x: {type: string, default: y}")
	tests := []struct {
		d      site.Delivery
		opts   site.InstallOptions
		reason site.Reason
	}{
		{older, site.InstallOptions{}, site.RefusedDowngrade},
		{older, site.InstallOptions{Instance: "second"}, site.RefusedDowngrade},
		{again, site.InstallOptions{Instance: "second"}, site.RefusedVersionReused},
	}
	for _, tt := range tests {
		_, err := h.Install(t.Context(), tt.d, tt.opts)
		var refused *site.RefusedError
		if !errors.As(err, &refused) || refused.Reason != tt.reason {
			t.Errorf("Install(%s) = %v, want it refused for %s", tt.d.Release.App.Template.Version, err, tt.reason)
		}
		if _, err := h.PlanInstall(t.Context(), tt.d, tt.opts); !errors.As(err, &refused) || refused.Reason != tt.reason {
			t.Errorf("PlanInstall(%s) = %v, want it refused for %s", tt.d.Release.App.Template.Version, err, tt.reason)
		}
	}
	must(h.Install(t.Context(), older, site.InstallOptions{Instance: "second", AllowDowngrade: true}))(t)
	must(h.Upgrade(t.Context(), newer, site.InstallOptions{Instance: "second"}))(t)
	must(h.Rollback(t.Context(), "second", site.RollbackOptions{}))(t) // what ran is no news
	want := []string{
		"install begun 1.1.0", "install succeeded 1.1.0", "uninstall begun 1.1.0", "uninstall succeeded 1.1.0",
		"install begun 1.0.0 allow-downgrade", "install succeeded 1.0.0", "upgrade begun 1.1.0", "upgrade succeeded 1.1.0",
		"rollback begun 1.0.0", "rollback succeeded 1.0.0",
	}
	if diff := cmp.Diff(want, auditLog(t, h)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func TestAuditOfFailures(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	if lines := auditLog(t, h); len(lines) > 0 {
		t.Errorf("a new site has the log %v", lines)
	}
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	place.fail = func(target.Deployment) error { return errors.New("no space") }
	if _, err := h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}); err == nil {
		t.Fatal("Upgrade() succeeded")
	}
	ctx, cancel := context.WithCancel(t.Context())
	place.fail = func(target.Deployment) error { cancel(); return nil }
	if _, err := h.Upgrade(ctx, shop(t, "1.1.0", ""), site.InstallOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Upgrade() = %v", err)
	}
	place.fail = nil
	must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	if _, err := h.Record(t.Context(), audit.Entry{Event: "refused", Version: "6.6.6", Reason: "not signed"}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"install begun 1.0.0", "install succeeded 1.0.0", "upgrade begun 1.1.0", "upgrade failed 1.1.0 no space",
		"upgrade begun 1.1.0", "upgrade interrupted 1.1.0", "upgrade begun 1.1.0", "upgrade succeeded 1.1.0", "refused 6.6.6 not signed",
	}
	if diff := cmp.Diff(want, auditLog(t, h)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// A log cut off, with trust.json brought back to match, contradicts a revision; one
// that is gone with trust.json does too, and the next entry does not hide it.
func TestAuditAnchors(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	log, trust := filepath.Join(h.dir, "audit.jsonl"), filepath.Join(h.dir, "trust.json")
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	auditLog(t, h)
	for name, change := range map[string]func() error{
		"cut off": func() error {
			return errors.Join(os.WriteFile(log, before, 0o600), os.WriteFile(trust, trusted, 0o600))
		},
		"gone": func() error { return errors.Join(os.Remove(log), os.Remove(trust)) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			report, err := h.VerifyAudit(nil)
			if err != nil || !slices.ContainsFunc(report.Problems, func(p audit.Problem) bool { return strings.Contains(p.Text, "revision 2 of shop") }) {
				t.Errorf("%s: VerifyAudit() = %+v, %v, want what revision 2 knows", name, report, err)
			}
			if _, err := h.Record(t.Context(), audit.Entry{Event: "refused"}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAddRuleAtSite(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	if _, _, err := h.Policy(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Policy() = %v, want fs.ErrNotExist", err)
	}
	_, public, err := signer.GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signer.ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	rule := signer.RuleToAdd{IDs: []string{"example.com/**"}, Key: key, Name: "example"}
	for range 2 { // the second changes nothing
		if p, err := h.AddRule(t.Context(), rule); err != nil || p.Version != 1 || len(p.Rules) != 1 {
			t.Fatalf("AddRule() = %+v, %v", p, err)
		}
	}
	p, data, err := h.Policy(t.Context())
	if err != nil || p.Keys["example"].Fingerprint() != key.Fingerprint() || !strings.Contains(string(data), "example.com/**") {
		t.Errorf("Policy() = %+v, %s, %v", p, data, err)
	}
	if diff := cmp.Diff([]string{"policy accepted for example.com/**"}, auditLog(t, h)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
	if err := os.Chmod(h.PolicyPath(), 0o620); err != nil {
		t.Fatal(err)
	}
	var refused *site.RefusedError
	if _, _, err := h.Policy(t.Context()); !errors.As(err, &refused) || refused.Reason != site.RefusedHome {
		t.Errorf("Policy() = %v for one that a group may change", err)
	}
	if _, err := h.AddRule(t.Context(), rule); !errors.As(err, &refused) {
		t.Errorf("AddRule() = %v for one that a group may change", err)
	}
}
