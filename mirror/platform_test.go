package mirror_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/mirror"
)

func platformOf(t *testing.T, s string) *ocispec.Platform {
	t.Helper()
	p, err := mirror.ParsePlatform(s)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// on returns desc as an entry of an index for a platform.
func on(t *testing.T, platform string, desc ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	desc.Platform = platformOf(t, platform)
	return desc
}

// attesting returns desc as the entry of an index that attests to subject.
func attesting(subject, desc ocispec.Descriptor) ocispec.Descriptor {
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject.Digest.String()}
	return desc
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	shared := src.layer("shared")
	amd, arm := src.image("amd", nil, shared, src.layer("amd")), src.image("arm", nil, shared, src.layer("arm"))
	any := src.image("any", nil, src.layer("any"))
	proofAMD, proofARM := src.image("proof of amd", nil, src.layer("amd sbom")), src.image("proof of arm", nil, src.layer("arm sbom"))
	signARM := src.image("signature of arm", &arm, src.layer("arm signature"))
	image := src.index(nil, on(t, "linux/amd64", amd), on(t, "linux/arm64/v8", arm), any, attesting(amd, proofAMD), attesting(arm, proofARM))
	root := src.index(nil, image)
	// A referrer that has platforms of its own is carried whole.
	report := src.index(&root, on(t, "linux/riscv64", src.image("report", nil, src.layer("report"))))
	src.tag(root, "1")
	tests := []struct {
		name      string
		platforms []string
		has, left []ocispec.Descriptor
	}{
		{"all", nil, []ocispec.Descriptor{amd, arm, any, proofAMD, proofARM, signARM, report}, nil},
		{"one", []string{"linux/amd64"}, []ocispec.Descriptor{amd, any, proofAMD, report}, []ocispec.Descriptor{arm, proofARM, signARM}},
		{"the default variant", []string{"linux/arm64"}, []ocispec.Descriptor{arm, any, proofARM, signARM, report}, []ocispec.Descriptor{amd, proofAMD}},
		{"both", []string{"linux/arm64", "linux/amd64"}, []ocispec.Descriptor{amd, arm, any, proofAMD, proofARM, signARM, report}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			it := item(src, "1")
			for _, s := range tt.platforms {
				it.Platforms = append(it.Platforms, *platformOf(t, s))
			}
			p := plan(t, newDestination(t), it)
			planned := map[string]bool{}
			for _, s := range p.Manifests {
				planned[s.Descriptor.Digest.String()] = true
			}
			for _, d := range tt.has {
				if !planned[d.Digest.String()] {
					t.Errorf("%s is not planned", d.Digest)
				}
			}
			for _, d := range tt.left {
				if planned[d.Digest.String()] {
					t.Errorf("%s is planned", d.Digest)
				}
			}
			var left []string
			for _, d := range p.LeftPlatforms() {
				left = append(left, d.Digest.String())
			}
			var want []string
			for _, d := range tt.left {
				if d.Digest != signARM.Digest { // nothing names it but what is left itself
					want = append(want, d.Digest.String())
				}
			}
			if diff := cmp.Diff(want, left); diff != "" {
				t.Errorf("LeftPlatforms (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlatformThatIsNotThere(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	src.tag(src.index(nil, on(t, "linux/amd64", src.image("amd", nil)), on(t, "linux/arm/v7", src.image("arm", nil))), "1")
	it := item(src, "1")
	it.Platforms = []ocispec.Platform{*platformOf(t, "linux/amd64"), *platformOf(t, "linux/riscv64")}
	_, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{it}, mirror.PlanOptions{})
	var missing *mirror.PlatformError
	if !errors.As(err, &missing) || mirror.FormatPlatform(missing.Want) != "linux/riscv64" || mirror.FormatPlatforms(missing.Have) != "linux/amd64, linux/arm/v7" {
		t.Errorf("NewPlan = %v, want a PlatformError for linux/riscv64", err)
	}
}

// Two roots share an index; one carries less of it. What names something still
// comes behind it.
func TestPlatformsOfSharedIndex(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	amd, arm := src.image("amd", nil, src.layer("amd")), src.image("arm", nil, src.layer("arm"))
	index := src.index(nil, on(t, "linux/amd64", amd), on(t, "linux/arm64", arm))
	src.tag(index, "1")
	src.tag(index, "2")
	some, all := item(src, "1"), item(src, "2")
	some.Platforms = []ocispec.Platform{*platformOf(t, "linux/amd64")}
	p := plan(t, dst, some, all)
	if left := p.LeftPlatforms(); left != nil {
		t.Errorf("LeftPlatforms = %v, want none: the other root carries it", left)
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if dst.pushed[arm.Digest] != 1 {
		t.Errorf("pushed = %v, want the image of the second root too", dst.pushed)
	}
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "linux/arm": "linux/arm/v7",
		"linux/arm/v6": "linux/arm/v6", "linux": "", "": "", "linux/": "", "linux/amd64/a/b": "", "linux/../x": "",
	} {
		p, err := mirror.ParsePlatform(in)
		if want == "" && err == nil || want != "" && (err != nil || mirror.FormatPlatform(p) != want) {
			t.Errorf("ParsePlatform(%q) = %v, %v, want %q", in, p, err, want)
		}
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	shared := src.layer("shared")
	amd, arm := src.image("amd", nil, shared, src.layer("amd")), src.image("arm", nil, shared, src.layer("arm"))
	index := src.index(nil, on(t, "linux/amd64", amd), on(t, "linux/arm64", arm))
	src.image("signature", &index, src.layer("signature"))
	src.tag(index, "1")
	p := plan(t, newDestination(t), item(src, "1"))
	var labels []string
	for _, part := range p.Parts {
		labels = append(labels, part.Label)
	}
	if got := mirror.FormatPlatforms(p.Platforms()); got != "linux/amd64, linux/arm64" {
		t.Errorf("Platforms = %s, want both", got)
	}
	if want := []string{"", "linux/amd64", "linux/arm64", mirror.LabelReferrers}; !slices.Equal(labels, want) {
		t.Errorf("labels = %q, want %q", labels, want)
	}
	var counts []int
	all := 0
	for _, sum := range p.PartSummaries() {
		counts = append(counts, sum.All.Blobs)
		all += sum.All.Blobs
	}
	if sum := p.Summary(); all != sum.All.Blobs {
		t.Errorf("parts hold %v pieces, the plan %d: each must be in one", counts, sum.All.Blobs)
	}
}
