package site_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/site"
)

// TestMoved holds that a change that was agreed to is made only when the instance
// is still what it was then.
func TestMoved(t *testing.T) {
	t.Parallel()
	changes := map[string]func(h *home, expect int) error{
		"install": func(h *home, expect int) error {
			_, err := h.Install(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{Expect: expect})
			return err
		},
		"upgrade": func(h *home, expect int) error {
			_, err := h.Upgrade(t.Context(), shop(t, "1.2.0", ""), site.InstallOptions{Expect: expect})
			return err
		},
		"rollback": func(h *home, expect int) error {
			_, err := h.Rollback(t.Context(), "shop", site.RollbackOptions{Expect: expect})
			return err
		},
		"uninstall": func(h *home, expect int) error {
			_, err := h.Uninstall(t.Context(), "shop", site.UninstallOptions{Expect: expect})
			return err
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, t.TempDir(), newHost())
			must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
			plan := must(h.PlanUpgrade(t.Context(), shop(t, "1.2.0", ""), site.InstallOptions{}))(t)
			must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{Expect: plan.Revision}))(t)
			var refused *site.RefusedError
			if err := change(h, plan.Revision); !errors.As(err, &refused) || refused.Reason != site.RefusedMoved || refused.Instance != "shop" {
				t.Errorf("%s of an instance that moved = %v, want it refused", name, err)
			}
			if err := change(h, plan.Revision+1); err != nil {
				t.Errorf("%s of what was expected = %v", name, err)
			}
		})
	}
}

func TestPlanUninstall(t *testing.T) {
	t.Parallel()
	ctx, place := t.Context(), newHost()
	h := open(t, t.TempDir(), place)
	must(h.Install(ctx, shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	delete(place.running["shop"], "web")
	const volume = "sealift-shop_db_data"
	app := site.App{ID: "example.com/shop", Version: "1.0.0"}
	plan := must(h.PlanUninstall(ctx, "shop", site.UninstallOptions{}))(t)
	want := &site.Plan{
		Instance: "shop", Action: site.ActionUninstall, Revision: 2, App: app, Before: &app,
		Changes: []site.Change{{Component: "db", Kind: site.ChangeRemoved}}, Volumes: []string{volume},
	}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("PlanUninstall() (-want +got):\n%s", diff)
	}
	opts := site.UninstallOptions{DeleteData: []string{volume}}
	plan = must(h.PlanUninstall(ctx, "shop", opts))(t)
	if diff := cmp.Diff(opts.DeleteData, plan.Deleted); diff != "" || plan.Volumes != nil {
		t.Errorf("PlanUninstall() with data keeps %v and deletes (-want +got):\n%s", plan.Volumes, diff)
	}
	if got := must(h.History("shop"))(t); len(got) != 1 || len(place.running) != 1 || len(place.volumes["shop"]) != 1 {
		t.Error("PlanUninstall() changed something")
	}
	if _, err := h.PlanUninstall(ctx, "shop", site.UninstallOptions{DeleteData: []string{"x"}}); !errors.Is(err, site.ErrRefused) {
		t.Errorf("PlanUninstall() with an unknown volume = %v, want it refused", err)
	}

	// What only leaves data behind makes no revision.
	must(h.Uninstall(ctx, "shop", site.UninstallOptions{}))(t)
	plan = must(h.PlanUninstall(ctx, "shop", opts))(t)
	if plan.Revision != 0 || plan.Changes != nil || len(plan.Deleted) != 1 {
		t.Errorf("PlanUninstall() of what was uninstalled = %+v, want its data deleted", plan)
	}
	if _, err := h.PlanUninstall(ctx, "shop", site.UninstallOptions{}); !errors.Is(err, site.ErrNotInstalled) {
		t.Errorf("PlanUninstall() of what was uninstalled = %v, want ErrNotInstalled", err)
	}
	if got := must(h.Instances())(t); len(got) != 1 || got[0] != "shop" {
		t.Errorf("Instances() = %v, want shop", got)
	}
}

func TestUninstallFailure(t *testing.T) {
	t.Parallel()
	ctx, place := t.Context(), newHost()
	h := open(t, t.TempDir(), place)
	must(h.Install(ctx, shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	place.remove = errors.New("stuck")
	_, err := h.Uninstall(ctx, "shop", site.UninstallOptions{})
	var failed *site.FailedError
	if !errors.As(err, &failed) || !errors.Is(err, place.remove) || failed.Revision.Number != 2 || failed.Current.Number != 1 {
		t.Fatalf("Uninstall() = %v, want revision 2 to have failed", err)
	}
	if got := status(t, h, "shop"); got.State != site.StateFailed || got.Message != "uninstall of 1.0.0 failed: stuck" {
		t.Errorf("Status() = %s: %s, want the failure", got.State, got.Message)
	}
	place.remove = nil
	must(h.Uninstall(ctx, "shop", site.UninstallOptions{}))(t)
}

// TestSweep holds that the next change removes what a kill left half written, and
// nothing that is recorded.
func TestSweep(t *testing.T) {
	t.Parallel()
	d := func(version string) site.Delivery {
		return delivery(t, `
apiVersion: sealift/v1
kind: App
id: example.com/shop
version: `+version+`
platforms: [linux/amd64]
components:
  web: {image: x, files: {/f: {source: .tmp-1}}, env: {VERSION: "${app.version}"}}
`, map[string]string{".tmp-1": "content"})
	}
	changes := map[string]func(h *home){
		"upgrade":   func(h *home) { must(h.Upgrade(t.Context(), d("1.1.0"), site.InstallOptions{}))(t) },
		"rollback":  func(h *home) { must(h.Rollback(t.Context(), "shop", site.RollbackOptions{Revision: 1}))(t) },
		"uninstall": func(h *home) { must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{}))(t) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := newHost()
			h := open(t, t.TempDir(), place)
			r := must(h.Install(t.Context(), d("1.0.0"), site.InstallOptions{}))(t)
			place.running["shop"] = map[string]string{} // so that a rollback has something to do
			dir := filepath.Join(h.dir, "instances", "shop")
			left := []string{".tmp-123", "1/.tmp-456", filepath.Join(filepath.Dir(r.Files[0].Path), ".tmp-789")}
			for _, name := range left {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("secret"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			change(h)
			for _, name := range left {
				if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is still there (%v)", name, err)
				}
			}
			if data, err := os.ReadFile(filepath.Join(dir, r.Files[0].Path)); err != nil || string(data) != "content" {
				t.Errorf("the carried file .tmp-1 = %q, %v, want it kept", data, err)
			}
		})
	}
}

// TestUninstallInterruptedInstall holds that an install that was killed before it
// touched anything can be uninstalled, the first as well as a later one.
func TestUninstallInterruptedInstall(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{false, true} {
		h := open(t, t.TempDir(), newHost())
		journal := filepath.Join(h.dir, "instances", "shop", "journal.json")
		number := "1"
		if before {
			must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
			must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{}))(t)
			number = "3"
		} else if err := os.MkdirAll(filepath.Dir(journal), 0o700); err != nil {
			t.Fatal(err)
		}
		text := `{"pid":1,"host":"gone","action":"install","since":"2026-01-02T03:04:05Z","revision":` + number + `,"version":"1.0.0"}`
		if err := os.WriteFile(journal, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := status(t, h, "shop"); got.State != site.StateInterrupted || got.Message != "install of 1.0.0 was interrupted" {
			t.Errorf("Status() = %s: %s, want interrupted", got.State, got.Message)
		}
		must(h.PlanUninstall(t.Context(), "shop", site.UninstallOptions{}))(t)
		must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{}))(t)
		if _, err := os.Stat(journal); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal is still there (%v)", err)
		}
	}
}
