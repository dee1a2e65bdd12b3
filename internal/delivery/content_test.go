package delivery_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	set := &layout.LabelSet{ID: "1", Volume: 1, Volumes: [][]digest.Digest{nil, {a}, {b}, {a}}}
	base := []layout.LabelBase{{Name: "registry.example.com/shop:1.0.0", Digest: a}}
	arm := []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
	amd := []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}
	for name, tt := range map[string]struct {
		carried delivery.Carried
		missing []digest.Digest
		want    string
	}{
		"no label":                 {delivery.Carried{}, []digest.Digest{a}, ""},
		"all volumes":              {delivery.Carried{Set: set, Here: []int{1}}, []digest.Digest{a, b}, "on volume 2, 3 and 4 of 4"},
		"one volume":               {delivery.Carried{Set: set, Here: []int{1}}, []digest.Digest{b}, "on volume 3 of 4"},
		"on no volume":             {delivery.Carried{Set: set, Here: []int{1}}, []digest.Digest{a, c}, ""},
		"volumes and a base":       {delivery.Carried{Set: set, Here: []int{1}, Base: base}, []digest.Digest{b, c}, "on volume 3 of 4; in registry.example.com/shop:1.0.0"},
		"another platform":         {delivery.Carried{Platforms: arm}, []digest.Digest{a}, "carried for linux/arm64 only"},
		"this platform":            {delivery.Carried{Platforms: amd}, []digest.Digest{a}, ""},
		"on a volume that is here": {delivery.Carried{Set: set, Here: []int{1, 3}}, []digest.Digest{b}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var missing []ocispec.Descriptor
			for _, d := range tt.missing {
				missing = append(missing, ocispec.Descriptor{Digest: d})
			}
			if got := tt.carried.Explain(missing, amd); got != tt.want {
				t.Errorf("Explain = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHostPlatforms(t *testing.T) {
	t.Parallel()
	app := &artifact.Template{Platforms: []string{"linux/amd64", "linux/arm/v6", "linux/arm/v7", "windows/amd64"}}
	for runs, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm": "linux/arm/v6, linux/arm/v7", "linux/arm/v7": "linux/arm/v6, linux/arm/v7",
		"linux/riscv64": "linux/riscv64", "windows/amd64": "windows/amd64",
	} {
		p, err := mirror.ParsePlatform(runs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, mirror.FormatPlatforms(delivery.HostPlatforms(app, p))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", runs, diff)
		}
	}
}
