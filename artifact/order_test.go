package artifact_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
)

func TestWaves(t *testing.T) {
	t.Parallel()
	// after builds a template from KEY → what it waits for.
	after := func(edges map[string][]string) *artifact.Template {
		t := &artifact.Template{Components: map[string]artifact.Component{}}
		for key, deps := range edges {
			c := artifact.Component{DependsOn: map[string]artifact.Condition{}}
			for _, d := range deps {
				c.DependsOn[d] = artifact.Started
			}
			t.Components[key] = c
		}
		return t
	}
	tests := []struct {
		name  string
		edges map[string][]string
		want  [][]string
	}{
		{"none", nil, nil},
		{"independent", map[string][]string{"b": nil, "a": nil}, [][]string{{"a", "b"}}},
		{"chain", map[string][]string{"a": {"b"}, "b": {"c"}, "c": nil}, [][]string{{"c"}, {"b"}, {"a"}}},
		{"diamond", map[string][]string{"top": {"l", "r"}, "l": {"base"}, "r": {"base"}, "base": nil, "lone": nil}, [][]string{{"base", "lone"}, {"l", "r"}, {"top"}}},
		{"not earlier than needed by the same wave", map[string][]string{"a": nil, "b": {"a"}}, [][]string{{"a"}, {"b"}}},
		{"ring is left out", map[string][]string{"a": {"b"}, "b": {"a"}, "c": nil}, [][]string{{"c"}}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, after(tt.edges).Waves()); diff != "" {
			t.Errorf("%s: Waves() (-want +got):\n%s", tt.name, diff)
		}
	}
}
