package delivery

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
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
	// Set is the volume set the media belongs to, nil for none; Here are the
	// numbers of the volumes that are read.
	Set  *layout.LabelSet
	Here []int
}

// CarriedOf reads from media's labels what it carries of f. Media says so itself,
// in a place that is not signed: it explains what is not there, and proves nothing.
// Labels that cannot be read explain nothing.
func CarriedOf(f Found) Carried {
	if f.Media == nil {
		return Carried{}
	}
	labels, err := f.Media.Labels()
	if err != nil {
		return Carried{}
	}
	var c Carried
	all := false // some media carries all platforms
	for _, label := range labels {
		c.addSet(label.Set)
		root, ok := label.Root(f.Name, f.Descriptor.Digest)
		if !ok {
			continue
		}
		for _, b := range root.Base {
			if !slices.Contains(c.Base, b) {
				c.Base = append(c.Base, b)
			}
		}
		all = all || len(root.Platforms) == 0
		for _, s := range root.Platforms {
			p, err := mirror.ParsePlatform(s)
			if err != nil {
				all = true // nothing that can be asked for
			} else if !contains(c.Platforms, p) {
				c.Platforms = append(c.Platforms, p)
			}
		}
	}
	if all {
		c.Platforms = nil
	}
	return c
}

// addSet notes one more volume. Of two sets, what is not there is explained by
// neither.
func (c *Carried) addSet(set *layout.LabelSet) {
	switch {
	case set == nil:
	case c.Set == nil:
		c.Set, c.Here = set, []int{set.Volume}
	case c.Set.ID == set.ID:
		c.Here = append(c.Here, set.Volume)
	default:
		c.Set = &layout.LabelSet{}
	}
}

func contains(list []ocispec.Platform, p ocispec.Platform) bool {
	return slices.ContainsFunc(list, func(q ocispec.Platform) bool { return mirror.FormatPlatform(p) == mirror.FormatPlatform(q) })
}

// Elsewhere returns the numbers of the volumes that hold d, or a piece of it, and
// are not read.
func (c Carried) Elsewhere(d digest.Digest) []int {
	return slices.DeleteFunc(c.Set.On(d), func(n int) bool { return slices.Contains(c.Here, n) })
}

// Reason says why a blob need not be there, "" when it must.
func (c Carried) Reason(d ocispec.Descriptor) string {
	if n := c.Elsewhere(d.Digest); len(n) > 0 {
		return fmt.Sprintf("on volume %s of %d", Numbers(n), len(c.Set.Volumes))
	}
	if len(c.Base) > 0 {
		return "in " + c.Base[0].Name + andMore(len(c.Base)-1)
	}
	return ""
}

// Numbers writes a list of numbers for people.
func Numbers(list []int) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ", ")
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
