package delivery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
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

	labels []layout.Label
}

// CarriedOf reads from media's labels what it carries of f. Media says so itself,
// in a place that is not signed: it explains what is not there, and proves nothing.
// Labels that cannot be read explain nothing; [layout.Layout.Labels] tells of them.
func CarriedOf(f Found) Carried {
	if f.Media == nil {
		return Carried{}
	}
	labels, _ := f.Media.Labels() // those that can be read
	c := Carried{labels: labels}
	all := false // some media carries all platforms
	bases, platforms := map[layout.LabelBase]bool{}, map[string]bool{}
	for _, label := range labels {
		c.addSet(label.Set)
		root, ok := label.Root(f.Name, f.Descriptor.Digest)
		if !ok {
			continue
		}
		for _, b := range root.Base {
			if !bases[b] {
				bases[b] = true
				c.Base = append(c.Base, b)
			}
		}
		all = all || len(root.Platforms) == 0
		for _, s := range root.Platforms {
			p, err := mirror.ParsePlatform(s)
			if err != nil {
				all = true // nothing that can be asked for
			} else if name := mirror.FormatPlatform(p); !platforms[name] {
				platforms[name] = true
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

// Elsewhere returns the numbers of the volumes that hold d, or a piece of it, and
// are not read.
func (c Carried) Elsewhere(d digest.Digest) []int {
	return slices.DeleteFunc(c.Set.On(d), func(n int) bool { return slices.Contains(c.Here, n) })
}

// PiecesHere counts the segments that the volumes that are read have of a blob which
// no volume has whole: those that a volume's label states a digest for, and those that
// nothing can be said of before all volumes are there.
func (c Carried) PiecesHere(d ocispec.Descriptor) (stated, unknown mirror.Amount) {
	for _, label := range c.labels {
		for _, p := range label.Set.Pieces(d) {
			sum := &stated
			if p.Digest == "" {
				sum = &unknown
			}
			sum.Blobs++
			sum.Bytes += p.Bytes
		}
	}
	return stated, unknown
}

// Reason says why a blob need not be there, "" when it must.
func (c Carried) Reason(d ocispec.Descriptor) string {
	if n := c.Elsewhere(d.Digest); len(n) > 0 {
		return fmt.Sprintf("on volume %s of %d", Numbers(n), len(c.Set.Volumes))
	}
	if len(c.Base) > 0 && c.left(d.Digest) {
		return "in " + c.Base[0].Name + andMore(len(c.Base)-1)
	}
	return ""
}

// left reports whether a label says that a delta has left d.
func (c Carried) left(d digest.Digest) bool {
	return slices.ContainsFunc(c.labels, func(l layout.Label) bool { return l.HasLeft(d) })
}

// Explain says where all of list is that is wanted for platforms, none for those that
// are carried, and is not there. It returns "" when the labels do not tell of some of it.
func (c Carried) Explain(list []ocispec.Descriptor, platforms []ocispec.Platform) string {
	volumes, rest := map[int]bool{}, false
	for _, d := range list {
		on := c.Elsewhere(d.Digest)
		rest = rest || len(on) == 0
		for _, n := range on {
			volumes[n] = true
		}
	}
	var reasons []string
	if len(volumes) > 0 {
		reasons = append(reasons, fmt.Sprintf("on volume %s of %d", Numbers(slices.Sorted(maps.Keys(volumes))), len(c.Set.Volumes)))
	}
	switch {
	case !rest:
	case len(platforms) > 0 && !slices.ContainsFunc(platforms, c.Carries):
		reasons = append(reasons, "carried for "+mirror.FormatPlatforms(c.Platforms)+" only")
	case len(c.Base) > 0:
		reasons = append(reasons, "in "+c.Base[0].Name+andMore(len(c.Base)-1))
	default:
		return ""
	}
	return strings.Join(reasons, "; ")
}

// Numbers writes a list of numbers for people, as 2, 3 and 4.
func Numbers(list []int) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(n)
	}
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words, "")
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

// HostPlatforms returns those platforms of an app that an engine runs, in every
// variant, by its system and architecture; the plain platform when the app names none.
func HostPlatforms(t *artifact.Template, runs ocispec.Platform) []ocispec.Platform {
	var list []ocispec.Platform
	for _, name := range t.Platforms {
		if p, err := mirror.ParsePlatform(name); err == nil && p.OS == runs.OS && p.Architecture == runs.Architecture {
			list = append(list, p)
		}
	}
	if list == nil {
		list = []ocispec.Platform{{OS: runs.OS, Architecture: runs.Architecture}}
	}
	return list
}

// VerifyBytes reads everything of f that is expected and compares it with its
// digests. What is absent is in the result, with its reason.
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
