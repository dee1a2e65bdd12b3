package artifact_test

import (
	"strings"
	"testing"

	"github.com/sealift/sealift/artifact"
)

func TestIDGlob(t *testing.T) {
	t.Parallel()
	tests := []struct {
		glob, id string
		want     bool
	}{
		{"example.com/shop", "example.com/shop", true},
		{"example.com/shop", "example.com/shop2", false},
		{"example.com/shop", "example.com/shop/web", false},
		{"example.com/*", "example.com/shop", true},
		{"example.com/*", "example.com/shop/web", false},
		{"example.com/*", "example.community/shop", false},
		{"example.com/s?op-[0-9]", "example.com/shop-1", true},
		{"example.com/s?op-[0-9]", "example.com/shop-x", false},
		{"example.com/**", "example.com/shop", true},
		{"example.com/**", "example.com/team/shop/web", true},
		{"example.com/**", "example.org/shop", false},
		{"example.com/**/web", "example.com/web", true},
		{"example.com/**/web", "example.com/team/shop/web", true},
		{"example.com/**/web", "example.com/team/shop/api", false},
		{"*.example.com/**", "team.example.com/shop", true},
		{"*.example.com/**", "example.com/shop", false},
		{"**", "example.com/shop", true},
		{"**/**/shop", "example.com/shop", true},
		{"*", "example.com/shop", false},
		{"**/shop/**", "example.com/shop", true},
		{"**/shop/**/x", "example.com/shop/a/b", false},
		{strings.Repeat("**/", 15) + "none", "example.com" + strings.Repeat("/a", 90), false}, // at once, not in years
	}
	for _, tt := range tests {
		g, err := artifact.ParseIDGlob(tt.glob)
		if err != nil {
			t.Errorf("ParseIDGlob(%q) = %v", tt.glob, err)
		} else if got := g.Match(tt.id); got != tt.want {
			t.Errorf("IDGlob(%q).Match(%q) = %t, want %t", tt.glob, tt.id, got, tt.want)
		}
	}
	for _, glob := range []string{"", "/", "example.com/", "example.com//shop", "example.com/[", "example.com/shop**", "example.com/[a/b]", `example.com/\`, strings.Repeat("a/", 16) + "b", "a.b/" + strings.Repeat("c", 253)} {
		if g, err := artifact.ParseIDGlob(glob); err == nil {
			t.Errorf("ParseIDGlob(%q) = %v, want an error", glob, g)
		}
	}
}

func TestIDGlobCovers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		glob, other string
		want        bool
	}{
		{"example.com/shop", "example.com/shop", true},
		{"example.com/*", "example.com/shop", true},
		{"example.com/*", "example.com/s?op-*", true},
		{"example.com/s*", "example.com/shop", true},
		{"example.com/s*", "example.com/sh*", false}, // it does, which is not seen
		{"example.com/?", "example.com/*", false},
		{"example.com/[a-c]", "example.com/[a-c]", true},
		{"example.com/*", "example.com/**", false},
		{"example.com/*/x", "example.com/**/x", false},
		{"example.com/**", "example.com/*", true},
		{"example.com/**", "example.com/**/x/*", true},
		{"example.com/**", "**", false},
		{"**", "**", true},
		{"**", "example.com/shop", true},
		{"**/**", "*/**", true},
		{"*/**", "**", false},
		{"**/x", "example.com/**/x", true},
		{"**/x", "example.com/**", false},
		{"example.com/shop", "example.com/*", false},
		{strings.Repeat("**/", 15) + "none", strings.Repeat("a/", 15) + "b", false},
	}
	for _, tt := range tests {
		g, err := artifact.ParseIDGlob(tt.glob)
		if err != nil {
			t.Fatal(err)
		}
		other, err := artifact.ParseIDGlob(tt.other)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Covers(other); got != tt.want {
			t.Errorf("%s covers %s: %t, want %t", tt.glob, tt.other, got, tt.want)
		}
	}
}

// What is covered is matched.
func FuzzIDGlobCovers(f *testing.F) {
	f.Add("a.b/**", "a.b/*/c", "a.b/x/c")
	f.Add("a.b/?", "a.b/*", "a.b/xy")
	f.Fuzz(func(t *testing.T, glob, other, id string) {
		g, err := artifact.ParseIDGlob(glob)
		if err != nil {
			return
		}
		o, err := artifact.ParseIDGlob(other)
		if err != nil {
			return
		}
		if g.Covers(o) && o.Match(id) && !g.Match(id) {
			t.Errorf("%q covers %q, which matches %q, and does not match it", glob, other, id)
		}
	})
}
