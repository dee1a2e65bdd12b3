package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// Carried says how much of an artifact a store is said to have. The zero value is
// all of it.
type Carried struct {
	// Platforms are those carried, none for all.
	Platforms []ocispec.Platform
	// Base are the roots that hold what a delta left.
	Base []layout.LabelBase
	// Set is the volume set the media belongs to, nil for none.
	Set *layout.LabelSet
}

// CarriedOf reads from media's label what it carries of f. Media says so itself,
// in a place that is not signed: it explains what is not there, and proves nothing.
// A label that cannot be read explains nothing.
func CarriedOf(f Found) Carried {
	if f.Media == nil {
		return Carried{}
	}
	label, err := f.Media.Label()
	if err != nil {
		return Carried{}
	}
	c := Carried{Set: label.Set}
	root, _ := label.Root(f.Name, f.Descriptor.Digest)
	c.Base = root.Base
	for _, s := range root.Platforms {
		p, err := mirror.ParsePlatform(s)
		if err != nil {
			return Carried{Base: root.Base, Set: label.Set}
		}
		c.Platforms = append(c.Platforms, p)
	}
	return c
}

// Reason says why a blob need not be there, "" when it must.
func (c Carried) Reason(d ocispec.Descriptor) string {
	if on := c.Set.On(d.Digest); len(on) > 0 && !slices.Contains(on, c.Set.Volume) {
		return fmt.Sprintf("on volume %s of %d", strings.Trim(fmt.Sprint(on), "[]"), len(c.Set.Volumes))
	} else if len(on) > 1 {
		return fmt.Sprintf("in pieces on volumes %s of %d", strings.Trim(fmt.Sprint(on), "[]"), len(c.Set.Volumes))
	}
	if len(c.Base) > 0 {
		return "in " + c.Base[0].Name + andMore(len(c.Base)-1)
	}
	return ""
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" or %d more", n)
}

// Carries reports whether content for platform is there as far as the label says.
func (c Carried) Carries(platform ocispec.Platform) bool {
	return len(c.Platforms) == 0 || slices.ContainsFunc(c.Platforms, func(p ocispec.Platform) bool {
		return p.OS == platform.OS && p.Architecture == platform.Architecture
	})
}

// Expected says what a verification is to find of it.
func (c Carried) Expected(progress mirror.Progress) mirror.VerifyOptions {
	return mirror.VerifyOptions{Platforms: c.Platforms, Absent: c.Reason, Progress: progress}
}

// VerifyBytes reads everything of f that is expected and compares it with its
// digests. What is absent for a stated reason is in the result.
func VerifyBytes(ctx context.Context, f Found, expected mirror.VerifyOptions) (mirror.Verified, error) {
	if f.Damage != nil {
		return mirror.Verified{}, f.Damage
	}
	sum, err := mirror.Verify(ctx, f.Store, f.Descriptor, expected)
	if err != nil {
		return sum, fmt.Errorf("%s: %w", f.Name, err)
	}
	return sum, nil
}
