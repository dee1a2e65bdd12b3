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

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
)

// arrival is a release as import brings it.
func arrival(t *testing.T, version, suffix string) site.Arrival {
	d := shop(t, version, suffix)
	d.Evidence = json.RawMessage(`{"of": "` + version + `"}`)
	return site.Arrival{Delivery: d}
}

func TestImport(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	newer, older := arrival(t, "1.1.0", ""), arrival(t, "1.0.0", "")

	// What does not arrive is not remembered, so that the one before still may.
	broken := errors.New("the disk is broken")
	if err := h.Import(t.Context(), []site.Arrival{newer}, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("Import of a broken disk = %v, want %v", err, broken)
	}
	if _, err := h.Admit(older.Delivery, false); err != nil {
		t.Errorf("Admit behind an import that failed = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := h.Import(ctx, []site.Arrival{newer}, func(ctx context.Context) error { cancel(); return context.Cause(ctx) })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Import that is interrupted = %v, want %v", err, context.Canceled)
	}
	if err := h.Import(t.Context(), []site.Arrival{newer}, func(context.Context) error {
		if _, err := h.Evidence(newer.Release.Root.Digest); err != nil {
			t.Errorf("Evidence before anything is copied = %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Evidence(newer.Release.Root.Digest); err != nil || !json.Valid(got) {
		t.Errorf("Evidence = %s, %v", got, err)
	}

	// There is no way back, but for who insists.
	var refused *site.RefusedError
	if _, err := h.Admit(older.Delivery, false); !errors.As(err, &refused) || refused.Reason != site.RefusedDowngrade {
		t.Errorf("Admit of an older release = %v, want it refused for %s", err, site.RefusedDowngrade)
	}
	if _, err := h.Admit(arrival(t, "1.1.0", "  x: {type: string, default: y}").Delivery, false); !errors.As(err, &refused) || refused.Reason != site.RefusedVersionReused {
		t.Errorf("Admit of another 1.1.0 = %v, want it refused for %s", err, site.RefusedVersionReused)
	}
	if older.Override, err = h.Admit(older.Delivery, true); err != nil || older.Override != "allow-downgrade" {
		t.Errorf("Admit of an older release that is insisted on = %q, %v", older.Override, err)
	}
	if err := h.Import(t.Context(), []site.Arrival{older}, nothing); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"import begun 1.1.0", "import failed 1.1.0 the disk is broken", "import begun 1.1.0", "import interrupted 1.1.0", "import begun 1.1.0", "import succeeded 1.1.0",
		"import begun 1.0.0 allow-downgrade", "import succeeded 1.0.0 allow-downgrade",
	}
	if diff := cmp.Diff(want, auditLog(t, h)); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}

	// Evidence goes with the release; that it was accepted stays.
	held := []site.Held{{ID: "example.com/shop", Version: "1.0.0", Root: older.Release.Root.Digest}}
	if err := h.Prune(t.Context(), held, func(context.Context) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("Prune of a broken disk = %v, want %v", err, broken)
	}
	if _, err := h.Evidence(older.Release.Root.Digest); err != nil {
		t.Errorf("Evidence of what is still there = %v", err)
	}
	if err := h.Prune(t.Context(), held, nothing); err != nil {
		t.Errorf("Prune = %v", err)
	}
	if _, err := h.Evidence(older.Release.Root.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Evidence of what is gone = %v, want %v", err, fs.ErrNotExist)
	}
	if _, err := h.Evidence("sha256:../../trust"); err == nil {
		t.Error("Evidence of what is no digest is there")
	}
	path := filepath.Join(filepath.Dir(h.LibraryDir()), "evidence", "sha256-"+newer.Release.Root.Digest.Encoded()+".json")
	for _, size := range []int64{1, 64 << 20} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Evidence(newer.Release.Root.Digest); !errors.Is(err, artifact.ErrDamaged) {
			t.Errorf("Evidence of %d bytes = %v, want %v", size, err, artifact.ErrDamaged)
		}
	}
	if _, err := h.Admit(older.Delivery, false); !errors.As(err, &refused) {
		t.Errorf("Admit of an older release that is gone = %v, want it refused", err)
	}
	if log := auditLog(t, h); !slices.Contains(log, "prune failed 1.0.0 the disk is broken") || log[len(log)-1] != "prune succeeded 1.0.0" {
		t.Errorf("the log is %q", log)
	}
}

func nothing(context.Context) error { return nil }

// TestImportBetween has another import come between the decision and the end of one.
func TestImportBetween(t *testing.T) {
	t.Parallel()
	first, other, newer := arrival(t, "1.0.0", ""), arrival(t, "1.0.0", "  x: {type: string, default: y}"), arrival(t, "1.1.0", "")
	insisting := first
	insisting.Override = "allow-downgrade"
	for name, tt := range map[string]struct {
		one     []site.Arrival
		between site.Arrival
		reason  site.Reason
	}{
		"another digest":      {[]site.Arrival{first}, other, site.RefusedVersionReused},
		"newer":               {[]site.Arrival{first}, newer, site.RefusedDowngrade},
		"the same":            {[]site.Arrival{first}, first, ""},
		"insisted on":         {[]site.Arrival{insisting}, other, ""},
		"together":            {[]site.Arrival{newer, first}, newer, site.RefusedDowngrade},
		"together, two alike": {[]site.Arrival{newer, first}, first, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, t.TempDir(), newHost())
			err := h.Import(t.Context(), tt.one, func(ctx context.Context) error {
				return h.Import(ctx, []site.Arrival{tt.between}, nothing)
			})
			if refusedFor(err) != tt.reason || (err != nil) != (tt.reason != "") {
				t.Fatalf("Import() = %v, want it refused for %q", err, tt.reason)
			}
			if _, err := h.Admit(tt.between.Delivery, false); tt.reason != "" && err != nil {
				t.Errorf("Admit() of what came between = %v", err)
			}
			if log := auditLog(t, h); tt.reason != "" && log[len(log)-1] != "import failed 1.0.0 "+err.Error() {
				t.Errorf("the log is %q", log)
			}
			// Before anything is copied.
			err = h.Import(t.Context(), tt.one, func(context.Context) error {
				if tt.reason != "" {
					t.Error("it is copied all the same")
				}
				return nil
			})
			if refusedFor(err) != tt.reason {
				t.Errorf("Import() again = %v, want it refused for %q", err, tt.reason)
			}
		})
	}
	h := open(t, t.TempDir(), newHost())
	if err := h.Import(t.Context(), []site.Arrival{first, other}, nothing); refusedFor(err) != site.RefusedVersionReused {
		t.Errorf("Import() of two of one version = %v, want it refused", err)
	}
	if err := h.Import(t.Context(), []site.Arrival{newer, first}, nothing); err != nil {
		t.Errorf("Import() of an older release beside a newer one = %v", err)
	}
}

// TestImportLeavesNothing has imports end on record, without evidence of what did not
// come in.
func TestImportLeavesNothing(t *testing.T) {
	t.Parallel()
	one, two := arrival(t, "1.0.0", ""), arrival(t, "1.1.0", "")
	list := []site.Arrival{one, two}
	kept := func(h *home, a site.Arrival) bool {
		_, err := h.Evidence(a.Release.Root.Digest)
		return err == nil
	}
	for name, tt := range map[string]struct {
		carry func(cancel func()) error
		want  string
	}{
		"failed":      {func(func()) error { return errors.New("full") }, "failed %s full"},
		"interrupted": {func(cancel func()) error { cancel(); return context.Canceled }, "interrupted %s"},
		"incomplete": {func(func()) error {
			return fmt.Errorf("copy: %w", &site.IncompleteError{Err: errors.New("the rest is on volume 2")})
		}, "incomplete %s copy: the rest is on volume 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t, t.TempDir(), newHost())
			if err := h.Import(t.Context(), []site.Arrival{one}, nothing); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if err := h.Import(ctx, list, func(context.Context) error { return tt.carry(cancel) }); err == nil {
				t.Fatal("Import() succeeded")
			}
			if !kept(h, one) || kept(h, two) {
				t.Errorf("evidence of what was there is kept: %v; of what did not come in: %v", kept(h, one), kept(h, two))
			}
			want := []string{"import begun 1.0.0", "import begun 1.1.0", "import " + fmt.Sprintf(tt.want, "1.0.0"), "import " + fmt.Sprintf(tt.want, "1.1.0")}
			if diff := cmp.Diff(want, auditLog(t, h)[2:]); diff != "" {
				t.Errorf("the log (-want +got):\n%s", diff)
			}
		})
	}

	// Nothing begins where evidence cannot be kept.
	h := open(t, t.TempDir(), newHost())
	bad := two
	bad.Evidence = json.RawMessage(`{`)
	if err := h.Import(t.Context(), []site.Arrival{one, bad}, nothing); err == nil {
		t.Error("Import() with evidence that is no JSON succeeded")
	}
	if kept(h, one) || len(auditLog(t, h)) > 0 {
		t.Errorf("evidence is kept: %v; the log is %q", kept(h, one), auditLog(t, h))
	}

	// What was begun ends, where the next cannot begin.
	long := two
	long.Signers = []string{strings.Repeat("x", audit.MaxEntryBytes)}
	if err := h.Import(t.Context(), []site.Arrival{one, long}, nothing); err == nil {
		t.Error("Import() with an entry that is too long succeeded")
	}
	if log := auditLog(t, h); kept(h, one) || kept(h, two) || len(log) != 2 || !strings.HasPrefix(log[1], "import failed 1.0.0 ") {
		t.Errorf("evidence is kept: %v, %v; the log is %q", kept(h, one), kept(h, two), log)
	}
}

// TestPinned keeps what instances run, and can go back to.
func TestPinned(t *testing.T) {
	t.Parallel()
	place := newHost()
	h := open(t, t.TempDir(), place)
	versions := map[string]site.Delivery{}
	roots := map[digest.Digest]string{}
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0"} {
		versions[v] = shop(t, v, "")
		roots[versions[v].Release.Root.Digest] = v
	}
	pinned := func(keep int) (lines []string) {
		t.Helper()
		pins, err := h.Pinned(keep)
		if err != nil {
			t.Fatal(err)
		}
		for root, list := range pins {
			for _, p := range list {
				lines = append(lines, fmt.Sprint(roots[root], " ", p.Instance, " ", p.Revision, " ", p.Current))
			}
		}
		slices.Sort(lines)
		return lines
	}
	must(h.Install(t.Context(), versions["1.0.0"], site.InstallOptions{}))(t)
	must(h.Install(t.Context(), versions["1.0.0"], site.InstallOptions{Instance: "second"}))(t)
	must(h.Upgrade(t.Context(), versions["1.1.0"], site.InstallOptions{}))(t)
	must(h.Upgrade(t.Context(), versions["1.2.0"], site.InstallOptions{}))(t)
	for keep, want := range [][]string{
		{"1.0.0 second 1 true", "1.2.0 shop 3 true"},
		{"1.0.0 second 1 true", "1.1.0 shop 2 false", "1.2.0 shop 3 true"},
		{"1.0.0 second 1 true", "1.0.0 shop 1 false", "1.1.0 shop 2 false", "1.2.0 shop 3 true"},
	} {
		if diff := cmp.Diff(want, pinned(keep)); diff != "" {
			t.Errorf("Pinned(%d) (-want +got):\n%s", keep, diff)
		}
	}
	// What failed is to be tried again, and what runs stays whatever comes behind it.
	place.fail = func(target.Deployment) error { return errors.New("no space") }
	if _, err := h.Upgrade(t.Context(), versions["1.3.0"], site.InstallOptions{}); err == nil {
		t.Fatal("Upgrade() succeeded")
	}
	place.fail = nil
	if diff := cmp.Diff([]string{"1.0.0 second 1 true", "1.2.0 shop 3 true", "1.3.0 shop 4 false"}, pinned(0)); diff != "" {
		t.Errorf("Pinned(0) behind an upgrade that failed (-want +got):\n%s", diff)
	}
	// Back: the same release is counted once.
	must(h.Rollback(t.Context(), "shop", site.RollbackOptions{Revision: 2}))(t)
	if diff := cmp.Diff([]string{"1.0.0 second 1 true", "1.1.0 shop 5 true", "1.2.0 shop 3 false"}, pinned(1)); diff != "" {
		t.Errorf("Pinned(1) behind a rollback (-want +got):\n%s", diff)
	}
	must(h.Uninstall(t.Context(), "second", site.UninstallOptions{}))(t)
	if diff := cmp.Diff([]string{"1.1.0 shop 5 true"}, pinned(0)); diff != "" {
		t.Errorf("Pinned(0) behind an uninstall (-want +got):\n%s", diff)
	}
}

// TestInstallFromLibrary installs older releases that are in the library.
func TestInstallFromLibrary(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir(), newHost())
	newer, older := arrival(t, "1.1.0", ""), arrival(t, "1.0.0", "")
	for _, a := range []site.Arrival{older, newer} {
		if err := h.Import(t.Context(), []site.Arrival{a}, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var refused *site.RefusedError
	if _, err := h.Install(t.Context(), older.Delivery, site.InstallOptions{}); !errors.As(err, &refused) || refused.Reason != site.RefusedDowngrade {
		t.Errorf("Install of an older release from elsewhere = %v, want it refused for %s", err, site.RefusedDowngrade)
	}
	older.Library, newer.Library = true, true
	another := arrival(t, "1.0.0", "  x: {type: string, default: y}")
	another.Library = true
	if _, err := h.Install(t.Context(), another.Delivery, site.InstallOptions{}); !errors.As(err, &refused) || refused.Reason != site.RefusedVersionReused {
		t.Errorf("Install of what came into the library without being accepted = %v, want it refused for %s", err, site.RefusedVersionReused)
	}
	must(h.Install(t.Context(), older.Delivery, site.InstallOptions{}))(t)
	must(h.Upgrade(t.Context(), newer.Delivery, site.InstallOptions{}))(t)
	if _, err := h.Upgrade(t.Context(), older.Delivery, site.InstallOptions{}); !errors.As(err, &refused) || refused.Reason != site.RefusedDowngrade {
		t.Errorf("Upgrade to an older release = %v, want it refused for %s", err, site.RefusedDowngrade)
	}
	must(h.Upgrade(t.Context(), older.Delivery, site.InstallOptions{AllowDowngrade: true}))(t)
	log := auditLog(t, h)
	if want := "upgrade begun 1.0.0 allow-downgrade"; log[len(log)-2] != want {
		t.Errorf("the log has %q, want %q", log[len(log)-2], want)
	}
	list, err := h.Installed()
	if err != nil || len(list) != 1 || list[0].App.Version != "1.0.0" {
		t.Errorf("Installed() = %v, %v, want 1.0.0 alone", list, err)
	}
}
