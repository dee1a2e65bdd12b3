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
		{strings.Repeat("**/", 60) + "none", "example.com" + strings.Repeat("/a", 90), false}, // at once, not in years
	}
	for _, tt := range tests {
		g, err := artifact.ParseIDGlob(tt.glob)
		if err != nil {
			t.Errorf("ParseIDGlob(%q) = %v", tt.glob, err)
		} else if got := g.Match(tt.id); got != tt.want {
			t.Errorf("IDGlob(%q).Match(%q) = %t, want %t", tt.glob, tt.id, got, tt.want)
		}
	}
	for _, glob := range []string{"", "/", "example.com/", "example.com//shop", "example.com/[", "example.com/shop**", "example.com/[a/b]", `example.com/\`} {
		if g, err := artifact.ParseIDGlob(glob); err == nil {
			t.Errorf("ParseIDGlob(%q) = %v, want an error", glob, g)
		}
	}
}
