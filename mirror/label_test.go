package mirror_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// What media says it carries adds up over copies of the same root, and is
// forgotten with a root that took its name.
func TestLabelOfCopies(t *testing.T) {
	t.Parallel()
	type step struct {
		ref, platform string // of the copy; "" for all platforms
		delta         bool   // to release 1
	}
	tests := []struct {
		name      string
		steps     []step
		platforms []string
		base      bool
	}{
		{"whole", []step{{"2", "", false}}, nil, false},
		{"one platform", []step{{"2", "linux/amd64", false}}, []string{"linux/amd64"}, false},
		{"one after the other", []step{{"2", "linux/arm64", false}, {"2", "linux/amd64", false}}, []string{"linux/amd64", "linux/arm64"}, false},
		{"one, then all", []step{{"2", "linux/arm64", false}, {"2", "", false}}, nil, false},
		{"all, then one", []step{{"2", "", false}, {"2", "linux/arm64", false}}, nil, false},
		{"a delta", []step{{"2", "", true}}, nil, true},
		{"a delta, then whole", []step{{"2", "", true}, {"2", "", false}}, nil, false},
		{"a delta, then one platform of it whole", []step{{"2", "", true}, {"2", "linux/amd64", false}}, nil, true},
		{"one platform as a delta, then whole", []step{{"2", "linux/amd64", true}, {"2", "", false}}, nil, false},
		{"another release under the name", []step{{"2", "linux/amd64", true}, {"1", "", false}}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, dir := newStore(t), t.TempDir()
			shared := src.layer("shared")
			release := func(n string) ocispec.Descriptor {
				return src.index(nil, on(t, "linux/amd64", src.image("amd "+n, nil, shared, src.layer("amd "+n))), on(t, "linux/arm64", src.image("arm "+n, nil, shared, src.layer("arm "+n))))
			}
			src.tag(release("1"), "1")
			src.tag(release("2"), "2")
			for _, s := range tt.steps {
				it := mirror.Item{Source: src, Reference: s.ref, Name: "example.com/shop:latest"}
				if s.platform != "" {
					it.Platforms = []ocispec.Platform{*platformOf(t, s.platform)}
				}
				var opts mirror.PlanOptions
				if s.delta {
					opts.Sites = []mirror.Site{{Items: []mirror.Item{item(src, "1")}}}
				}
				copyItem(t, dir, it, opts)
			}
			l, err := layout.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			label, err := l.Label()
			if err != nil || len(label.Roots) != 1 {
				t.Fatalf("Label = %+v, %v, want one root", label, err)
			}
			if diff := cmp.Diff(tt.platforms, label.Roots[0].Platforms); diff != "" {
				t.Errorf("platforms (-want +got):\n%s", diff)
			}
			if base := len(label.Roots[0].Base) > 0; base != tt.base {
				t.Errorf("base = %v, want one: %t", label.Roots[0].Base, tt.base)
			}
		})
	}
}

func copyItem(t *testing.T, dir string, it mirror.Item, opts mirror.PlanOptions) {
	t.Helper()
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	p, err := mirror.NewPlan(t.Context(), media, []mirror.Item{it}, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
}
