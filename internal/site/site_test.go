package site_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
)

func TestLife(t *testing.T) {
	t.Parallel()
	ctx, place := t.Context(), newHost()
	h := open(t, t.TempDir(), place)

	r := must(h.Install(ctx, shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	if r.Number != 1 || r.Result != site.ResultSucceeded || r.Instance != "shop" || r.Unchanged {
		t.Errorf("Install() = %+v, want revision 1 of shop", r)
	}
	if got := status(t, h, "shop"); got.State != site.StateInstalled || !got.Working {
		t.Errorf("Status() = %+v, want installed and working", got)
	}
	secret := password(t, h, "shop")
	db := place.running["shop"]["db"]

	again := must(h.Install(ctx, shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	if !again.Unchanged || again.Number != 1 || place.applied != 1 {
		t.Errorf("a second Install() = %+v after %d applies, want revision 1 unchanged", again, place.applied)
	}

	r = must(h.Upgrade(ctx, shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	if r.Number != 2 || r.Parent != 1 || r.App.Version != "1.1.0" {
		t.Errorf("Upgrade() = %+v, want revision 2 after 1", r)
	}
	if got := place.running["shop"]["db"]; got != db {
		t.Error("the upgrade touched db, which did not change")
	}
	if got := password(t, h, "shop"); got != secret {
		t.Error("the upgrade made another secret")
	}

	r = must(h.Rollback(ctx, "shop", site.RollbackOptions{}))(t)
	if r.Number != 3 || r.From != 1 || r.Parent != 2 || r.App.Version != "1.0.0" || r.Rendered != "1" {
		t.Errorf("Rollback() = %+v, want revision 3 from 1", r)
	}

	out := must(h.Uninstall(ctx, "shop", site.UninstallOptions{}))(t)
	if diff := cmp.Diff([]string{"sealift-shop_db_data"}, out.Kept); diff != "" || len(place.running) != 0 {
		t.Errorf("Uninstall() kept (-want +got):\n%s", diff)
	}
	if got := status(t, h, "shop"); got.State != site.StateUninstalled {
		t.Errorf("Status() = %+v, want uninstalled", got)
	}
	if list := must(h.Status(ctx))(t); len(list) != 0 {
		t.Errorf("Status() of all = %+v, want none", list)
	}

	must(h.Install(ctx, shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	if got := password(t, h, "shop"); got != secret {
		t.Error("installing over kept data made another secret")
	}
	history := must(h.History("shop"))(t)
	var actions []string
	for _, r := range history {
		actions = append(actions, string(r.Action))
	}
	if got, want := strings.Join(actions, " "), "install upgrade rollback uninstall install"; got != want {
		t.Errorf("History() = %s, want %s", got, want)
	}
	checkNoLeak(t, h, secret)
}

// checkNoLeak fails when a secret is in a file that is not made for secrets, or
// when anything is open to others.
func checkNoLeak(t testing.TB, h *home, secret string) {
	t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if info.Mode().Perm() != 0o700 && path != h.dir {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		base := filepath.Base(path)
		if bytes.Contains(data, []byte(secret)) && base != "secrets.json" && base != "compose.yaml" && base != "db.conf" {
			t.Errorf("%s holds a secret", path)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpgradeFailure(t *testing.T) {
	t.Parallel()
	for _, atomic := range []bool{false, true} {
		t.Run(fmt.Sprintf("atomic=%v", atomic), func(t *testing.T) {
			t.Parallel()
			ctx, place := t.Context(), newHost()
			h := open(t, t.TempDir(), place)
			must(h.Install(ctx, shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
			secret, before := password(t, h, "shop"), maps.Clone(place.running["shop"])
			place.fail = func(d target.Deployment) error {
				if d.Template.Version == "1.1.0" && d.Definitions["web"] == place.running["shop"]["web"] {
					return fmt.Errorf("web said %s", secret)
				}
				return nil
			}
			_, err := h.Upgrade(ctx, shop(t, "1.1.0", ""), site.InstallOptions{Atomic: atomic})
			var failed *site.FailedError
			if !errors.As(err, &failed) {
				t.Fatalf("Upgrade() = %v, want a FailedError", err)
			}
			end := "1.0.0 is still the recorded version (revision 1)"
			if atomic {
				end = "1.0.0 runs again (revision 3)"
			}
			if want := "upgrade of example.com/shop 1.1.0 as shop (revision 2): web said " + secret + "; " + end; err.Error() != want {
				t.Errorf("Upgrade() = %v, want %s", err, want)
			}
			got := status(t, h, "shop")
			if got.Current.App.Version != "1.0.0" {
				t.Errorf("current is %s after a failed upgrade", got.Current.App.Version)
			}
			checkNoLeak(t, h, secret)
			if atomic {
				if failed.Restored == nil || got.State != site.StateInstalled || !maps.Equal(place.running["shop"], before) {
					t.Errorf("Status() = %+v and %+v, want 1.0.0 running again", got, failed)
				}
				return
			}
			if got.State != site.StateFailed || got.Working || got.Action != site.ActionUpgrade || !strings.Contains(got.Message, "upgrade to 1.1.0 failed: web said") {
				t.Errorf("Status() = %+v, want the failure of the upgrade", got)
			}
			r := must(h.Rollback(ctx, "shop", site.RollbackOptions{}))(t)
			if r.From != 1 || !maps.Equal(place.running["shop"], before) {
				t.Errorf("Rollback() = %+v, want revision 1 running again", r)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	other := func(t *testing.T) site.Delivery {
		d := shop(t, "2.0.0", "")
		app := *d.Release.App
		template := *app.Template
		template.ID = "example.org/shop"
		app.Template = &template
		d.Release.App = &app
		return d
	}
	tests := []struct {
		name   string
		do     func(t *testing.T, h *home) error
		reason site.Reason
	}{
		{"bad name", func(t *testing.T, h *home) error {
			_, err := h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{Instance: "../x"})
			return err
		}, site.RefusedName},
		{"install of another version", func(t *testing.T, h *home) error {
			_, err := h.Install(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{})
			return err
		}, site.RefusedInstalled},
		{"another application", func(t *testing.T, h *home) error {
			_, err := h.Upgrade(t.Context(), other(t), site.InstallOptions{})
			return err
		}, site.RefusedOtherApp},
		{"downgrade", func(t *testing.T, h *home) error {
			_, err := h.Upgrade(t.Context(), shop(t, "0.9.0", ""), site.InstallOptions{})
			return err
		}, site.RefusedDowngrade},
		{"same version, other content", func(t *testing.T, h *home) error {
			_, err := h.Upgrade(t.Context(), shop(t, "1.0.0", "  x: {type: string, default: y}"), site.InstallOptions{})
			return err
		}, site.RefusedVersionReused},
		{"unknown feature", func(t *testing.T, h *home) error {
			d := shop(t, "1.1.0", "")
			d.Release.App.Template.Requires = []string{"kind-x", "telepathy"}
			_, err := h.Upgrade(t.Context(), d, site.InstallOptions{})
			const want = "example.com/shop 1.1.0 needs kind-x and telepathy, which this version of sealift does not know; install a newer sealift"
			if err == nil || err.Error() != want {
				t.Errorf("Upgrade() = %v, want %s", err, want)
			}
			return err
		}, site.RefusedFeatures},
		{"another platform", func(t *testing.T, h *home) error {
			h.place.check = &target.PlatformError{Platforms: []string{"linux/amd64"}, Runs: "linux/arm64"}
			_, err := h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{})
			return err
		}, site.RefusedPlatform},
		{"unknown volume", func(t *testing.T, h *home) error {
			_, err := h.Uninstall(t.Context(), "shop", site.UninstallOptions{DeleteData: []string{"sealift-shop_db"}})
			return err
		}, site.RefusedVolume},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := open(t, t.TempDir(), newHost())
			must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
			err := tt.do(t, h)
			var refused *site.RefusedError
			if !errors.As(err, &refused) || refused.Reason != tt.reason || !errors.Is(err, site.ErrRefused) || strings.Contains(err.Error(), "sealift rollback") {
				t.Errorf("error = %v, want one refused for %s", err, tt.reason)
			}
			if got := must(h.History("shop"))(t); len(got) != 1 {
				t.Errorf("a refusal left %d revisions, want 1", len(got))
			}
		})
	}
}

func TestAllowDowngrade(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	r := must(h.Upgrade(t.Context(), shop(t, "0.9.0", ""), site.InstallOptions{AllowDowngrade: true}))(t)
	if r.App.Version != "0.9.0" {
		t.Errorf("Upgrade() = %+v, want 0.9.0", r)
	}
}

func TestUnknownInstance(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	_, statusErr := h.Status(t.Context(), "shop")
	_, upgradeErr := h.Upgrade(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{})
	_, rollbackErr := h.Rollback(t.Context(), "shop", site.RollbackOptions{})
	_, uninstallErr := h.Uninstall(t.Context(), "shop", site.UninstallOptions{})
	_, historyErr := h.History("shop")
	for what, err := range map[string]error{
		"Status": statusErr, "Upgrade": upgradeErr, "Rollback": rollbackErr, "Uninstall": uninstallErr, "History": historyErr,
	} {
		if !errors.Is(err, site.ErrNotFound) {
			t.Errorf("%s() = %v, want ErrNotFound", what, err)
		}
	}
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	if _, err := h.Rollback(t.Context(), "shop", site.RollbackOptions{}); !errors.Is(err, site.ErrNotFound) {
		t.Errorf("Rollback() of the first revision = %v, want ErrNotFound", err)
	}
	must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{}))(t)
	if _, err := h.Rollback(t.Context(), "shop", site.RollbackOptions{Revision: 1}); !errors.Is(err, site.ErrNotInstalled) {
		t.Errorf("Rollback() of an uninstalled instance = %v, want ErrNotInstalled", err)
	}
	out := must(h.Uninstall(t.Context(), "shop", site.UninstallOptions{DeleteData: []string{"sealift-shop_db_data"}}))(t)
	if out.Revision != nil || len(out.Deleted) != 1 || len(out.Kept) != 0 {
		t.Errorf("Uninstall() with data = %+v, want the volume deleted", out)
	}
}

func TestPreflightWritesNothing(t *testing.T) {
	t.Parallel()
	place := newHost()
	place.check = errors.New("no engine")
	h := open(t, t.TempDir(), place)
	if _, err := h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}); !errors.Is(err, place.check) {
		t.Errorf("Install() = %v, want %v", err, place.check)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "instances")); err == nil {
		t.Error("a failed check left an instance behind")
	}
	if place.fetched != nil || place.applied != 0 {
		t.Error("a failed check went on")
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	place.fail = func(target.Deployment) error {
		_, err := h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{Instance: "other"})
		var locked *site.LockedError
		if !errors.Is(err, site.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Action != "install" {
			t.Errorf("Install() during an install = %v, want it locked by this process", err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Install(gone, shop(t, "1.0.0", ""), site.InstallOptions{Instance: "other"}); !errors.Is(err, context.Canceled) {
			t.Errorf("Install() that waits for the lock and is cancelled = %v, want it cancelled", err)
		}
		if got := status(t, h, "shop"); got.State != site.StateChanging || got.Action != site.ActionInstall {
			t.Errorf("Status() during an install = %+v, want changing", got)
		}
		return nil
	}
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	place.fail = nil
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{Instance: "other"}))(t)
}

func TestRollbackNeedsItsFiles(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	r := must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	must(h.Upgrade(t.Context(), shop(t, "1.1.0", ""), site.InstallOptions{}))(t)
	path := filepath.Join(h.dir, "instances", "shop", r.Files[0].Path)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("tampered"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Rollback(t.Context(), "shop", site.RollbackOptions{}); err == nil || !strings.Contains(err.Error(), "is not as it was rendered") {
		t.Errorf("Rollback() = %v, want the changed file named", err)
	}
}

func TestDrift(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	delete(place.running["shop"], "web")
	if got := status(t, h, "shop"); got.Working {
		t.Error("Status() does not see that web is gone")
	}
	r := must(h.Install(t.Context(), shop(t, "1.0.0", ""), site.InstallOptions{}))(t)
	if r.Unchanged || r.Number != 2 || place.running["shop"]["web"] == "" {
		t.Errorf("Install() = %+v, want web brought back", r)
	}
}
