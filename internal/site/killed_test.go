package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
)

func TestInterrupted(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	ctx, cancel := context.WithCancel(t.Context())
	place.fail = func(target.Deployment) error { cancel(); return nil }
	if _, err := h.Upgrade(ctx, shop(t, "1.1.0", ""), site.InstallOptions{Atomic: true}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Upgrade() = %v, want the cancellation", err)
	}
	place.fail = nil
	got := status(t, h, "shop")
	const want = "upgrade to 1.1.0 was interrupted"
	if got.State != site.StateInterrupted || got.Action != site.ActionUpgrade || got.Message != want {
		t.Errorf("Status() = %s, %s: %s, want interrupted, upgrade: %s", got.State, got.Action, got.Message, want)
	}
	r := must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	if r.Number != 3 || r.Parent != 1 {
		t.Errorf("Upgrade() = %+v, want revision 3 after 1", r)
	}
	if got := status(t, h, "shop"); got.State != site.StateInstalled || !got.Working {
		t.Errorf("Status() = %+v, want installed and working", got)
	}
	if r := must(h.History("shop"))(t)[1]; r.Result != site.ResultFailed || r.Error != "interrupted" {
		t.Errorf("revision 2 = %s: %s, want it closed as interrupted", r.Result, r.Error)
	}
}

// TestKilled stops an upgrade after each file it writes, as a kill would, and
// goes on from there in both ways.
func TestKilled(t *testing.T) {
	t.Parallel()
	steps := []struct {
		name string
		kept []string
	}{
		{"journal only", []string{"journal.json"}},
		{"journal and secrets", []string{"journal.json", "secrets.json"}},
		{"half rendered", []string{"journal.json", "secrets.json", "2/compose.yaml"}},
		{"rendered", []string{"journal.json", "secrets.json", "2/compose.yaml", "2/app.json"}},
		{"recorded", []string{"journal.json", "secrets.json", "2/compose.yaml", "2/app.json", "2.json"}},
	}
	for _, tt := range steps {
		for _, way := range []string{"upgrade", "rollback", "uninstall"} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				place := newHost()
				h := open(t, t.TempDir(), place)
				must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
				ctx, cancel := context.WithCancel(t.Context())
				place.fail = func(target.Deployment) error { cancel(); return nil }
				_, _ = h.Upgrade(ctx, shop(t, "1.1.0", ""), site.InstallOptions{})
				place.fail = nil
				keep(t, filepath.Join(h.dir, "instances", "shop"), tt.kept...)
				if got := status(t, h, "shop"); got.State != site.StateInterrupted || got.Current == nil {
					t.Errorf("Status() = %+v, want interrupted", got)
				}
				switch way {
				case "upgrade":
					if r := must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}))(t); r.Number != 3 {
						t.Errorf("the upgrade is revision %d; 2 was given out", r.Number)
					}
				case "rollback":
					must(h.Rollback(t.Context(), "shop", site.RollbackOptions{}))(t)
				case "uninstall":
					must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{}))(t)
					return
				}
				if got := status(t, h, "shop"); got.State != site.StateInstalled || !got.Working {
					t.Errorf("Status() = %+v, want installed and working", got)
				}
			})
		}
	}
}

// keep removes what revision 2 wrote into an instance's directory except names.
func keep(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range []string{"2.json", "2/app.json", "2/compose.yaml"} {
		if !slices.Contains(names, name) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Contains(names, "secrets.json") {
		data, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
		if err != nil {
			t.Fatal(err)
		}
		var secrets map[string]any
		if err := json.Unmarshal(data, &secrets); err != nil {
			t.Fatal(err)
		}
		delete(secrets, "2")
		if data, err = json.Marshal(secrets); err == nil {
			err = os.WriteFile(filepath.Join(dir, "secrets.json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRollbackSkipsTheSame goes back, without a number, to what ran before and
// not to a revision that runs the same.
func TestRollbackSkipsTheSame(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	first := true
	place.fail = func(target.Deployment) error {
		if first {
			first = false
			return errors.New("does not start")
		}
		return nil
	}
	_, err := h.Upgrade(t.Context(), shop(t, "1.2.0", ""), site.InstallOptions{Atomic: true})
	var failed *site.FailedError
	if !errors.As(err, &failed) || failed.Restored == nil {
		t.Fatalf("Upgrade() = %v, want it failed and restored", err)
	}
	place.fail = nil
	r := must(h.Rollback(t.Context(), "shop", site.RollbackOptions{}))(t)
	if r.App.Version != "1.0.0" || r.From != 1 {
		t.Errorf("Rollback() = %s from revision %d, want 1.0.0 from 1", r.App.Version, r.From)
	}
}
