package site_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/site"
)

func TestValues(t *testing.T) {
	t.Parallel()
	ctx, place := t.Context(), newHost()
	h := open(t, t.TempDir(), place)
	const one = `
  level: {type: string, default: info, enum: [info, debug, trace]}
  port: {type: integer, default: 8080, maximum: 65535}
  name: {type: string}
  token: {type: string, secret: true, pattern: "[a-z]+"}
`
	_, err := h.Install(ctx, shop(t, "1.0.0", one), site.InstallOptions{Set: map[string]any{
		"level": "loud", "port": "many", "token": "NOT-this-1", "nmae": "x",
	}})
	var invalid *site.ValuesError
	if !errors.As(err, &invalid) {
		t.Fatalf("Install() = %v, want a ValuesError", err)
	}
	var at []string
	for _, f := range invalid.Findings {
		at = append(at, f.Parameter)
	}
	if diff := cmp.Diff([]string{"nmae", "level", "name", "port", "token"}, at); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "NOT-this-1") {
		t.Errorf("the error holds a secret: %v", err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "instances")); err == nil {
		t.Error("a refused install wrote something")
	}

	set := map[string]any{"name": "a", "level": "debug", "token": "abcdefgh"}
	r := must(h.Install(ctx, shop(t, "1.0.0", one), site.InstallOptions{Set: set}))(t)
	if diff := cmp.Diff(map[string]any{"level": "debug", "name": "a", "port": int64(8080)}, r.Values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	checkNoLeak(t, h, "abcdefgh")

	// The new version moves both defaults: the one the site did not choose moves.
	two := strings.NewReplacer("default: info", "default: trace", "default: 8080", "default: 9090").Replace(one)
	plan := must(h.PlanUpgrade(ctx, shop(t, "1.1.0", two), site.InstallOptions{}))(t)
	if diff := cmp.Diff(map[string]any{"level": "debug", "name": "a", "port": int64(9090)}, plan.Values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if len(plan.Notes) != 1 || !strings.Contains(plan.Notes[0], "parameters.level stays debug") {
		t.Errorf("notes = %q, want one about level", plan.Notes)
	}
	must(h.Upgrade(ctx, shop(t, "1.1.0", two), site.InstallOptions{}))(t)
	r = must(h.Upgrade(ctx, shop(t, "1.1.0", two), site.InstallOptions{Set: map[string]any{"port": "7000"}}))(t)
	if r.Number != 3 || r.Values["port"] != int64(7000) || !slices.Equal(r.Set, []string{"level", "name", "port", "token"}) {
		t.Errorf("Upgrade() with a new value = %+v", r)
	}
	r = must(h.Upgrade(ctx, shop(t, "1.1.0", two), site.InstallOptions{Set: map[string]any{"port": 7000}}))(t)
	if !r.Unchanged {
		t.Errorf("Upgrade() with the same value = %+v, want it unchanged", r)
	}

	// A choice that the next version does not allow is a finding.
	three := strings.Replace(two, "debug, ", "", 1)
	_, err = h.Upgrade(ctx, shop(t, "1.2.0", three), site.InstallOptions{})
	if !errors.As(err, &invalid) || len(invalid.Findings) != 1 || invalid.Findings[0].Parameter != "level" {
		t.Errorf("Upgrade() = %v, want a finding about level", err)
	}
}
