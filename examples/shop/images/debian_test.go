package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseDepends(t *testing.T) {
	t.Parallel()
	const out = `redis-server
  PreDepends: init-system-helpers
  Depends: lsb-base
    sysvinit-utils
 |Depends: libssl3
 |Depends: libssl1.1
  Depends: libressl
  Depends: redis-tools
redis-tools
  Depends: libc6
  Depends: <libvirtual>
    provider
`
	want := map[string][]string{
		"redis-server": {"init-system-helpers", "lsb-base", "libssl3", "redis-tools"},
		"redis-tools":  {"libc6"},
	}
	if diff := cmp.Diff(want, parseDepends(out)); diff != "" {
		t.Errorf("parseDepends() (-want +got):\n%s", diff)
	}
}

func TestClosure(t *testing.T) {
	t.Parallel()
	graph := map[string][]string{
		"redis": {"adduser", "libssl3", "libc6"}, "adduser": {"perl"}, "libssl3": {"libc6"},
		"libc6": {"libgcc-s1"}, "libgcc-s1": {"libc6", "gcc-12-base"},
	}
	got, err := closure([]string{"redis"}, func(names []string) (map[string][]string, error) {
		level := map[string][]string{}
		for _, n := range names {
			level[n] = graph[n]
		}
		return level, nil
	})
	if want := []string{"gcc-12-base", "libc6", "libgcc-s1", "libssl3", "redis"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("closure() = %q, %v, want %q", got, err, want)
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	got := fields("Package: redis-tools\nVersion: 5:7.0.15-1\nDescription: a store\n with a: colon\n")
	want := map[string]string{"Package": "redis-tools", "Version": "5:7.0.15-1", "Description": "a store"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields() (-want +got):\n%s", diff)
	}
}

func TestWithoutApt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := archive{dir: t.TempDir()}.fetch(t.Context(), "amd64", "redis-server")
	if err == nil || !strings.Contains(err.Error(), "apt-get is not installed") {
		t.Errorf("fetch() = %v, want it to name apt-get", err)
	}
}
