package site_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/site"
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
	nothing := func(context.Context) error { return nil }

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

	// Evidence goes with the release.
	if err := errors.Join(h.DropEvidence(older.Release.Root.Digest), h.DropEvidence(older.Release.Root.Digest)); err != nil {
		t.Errorf("DropEvidence = %v", err)
	}
	for _, d := range []digest.Digest{older.Release.Root.Digest, "sha256:../../trust"} {
		if _, err := h.Evidence(d); err == nil {
			t.Errorf("Evidence(%s) is there", d)
		}
	}
	if _, err := h.Evidence(older.Release.Root.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Evidence of what has none = %v, want %v", err, fs.ErrNotExist)
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
	if err := h.DropEvidence("sha256:../../trust"); err == nil {
		t.Error("DropEvidence takes what is no digest")
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
