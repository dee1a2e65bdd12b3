package mirror

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationAttests names, on an entry of an index whose platform is unknown, the
// digest of the entry that it attests to, as BuildKit writes it
// (https://github.com/moby/buildkit/blob/v0.17.0/docs/attestations/attestation-storage.md).
const annotationAttests = "vnd.docker.reference.digest"

// PlatformError reports an index that has nothing for a platform that was asked
// for.
type PlatformError struct {
	Index digest.Digest
	Want  ocispec.Platform
	// Have are the platforms the index names.
	Have []ocispec.Platform
}

// Error names the platforms there are.
func (e *PlatformError) Error() string {
	return fmt.Sprintf("index %s has nothing for %s, only for %s", e.Index, FormatPlatforms([]ocispec.Platform{e.Want}), FormatPlatforms(e.Have))
}

var platformRegexp = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$`)

// ParsePlatform reads os/arch or os/arch/variant. It is the inverse of
// [FormatPlatform].
func ParsePlatform(s string) (ocispec.Platform, error) {
	if !platformRegexp.MatchString(s) {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not OS/ARCH, as linux/amd64", s)
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return ocispec.Platform{}, fmt.Errorf("platform %q is not OS/ARCH, as linux/amd64: %w", s, err)
	}
	return p, nil
}

// FormatPlatform writes a platform as linux/arm/v7.
func FormatPlatform(p ocispec.Platform) string { return platforms.Format(platforms.Normalize(p)) }

// maxPlatformsShown is how many platforms people are told of.
const maxPlatformsShown = 20

// FormatPlatforms writes a list of platforms for people, in one line: what is no
// platform is quoted, and of a long list the rest is counted.
func FormatPlatforms(list []ocispec.Platform) string {
	var words []string
	for _, p := range list[:min(len(list), maxPlatformsShown)] {
		name := FormatPlatform(p)
		if !platformRegexp.MatchString(name) {
			name = strconv.Quote(name)
		}
		words = append(words, name)
	}
	if more := len(list) - maxPlatformsShown; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// choose splits the children of an index into those that are carried for the
// platforms wanted, which is all of them when none is named, and those that are
// left. What has no platform is carried: it belongs to all. Attestations go with
// what they attest to.
func choose(index ocispec.Descriptor, children []ocispec.Descriptor, want []ocispec.Platform) (kept, left []ocispec.Descriptor, err error) {
	if len(want) == 0 {
		return children, nil, nil
	}
	chosen, have := map[digest.Digest]bool{}, []ocispec.Platform{}
	found := make([]bool, len(want))
	for _, d := range children {
		if !hasPlatform(d) {
			continue
		}
		have = append(have, *d.Platform)
		for i, p := range want {
			if platforms.OnlyStrict(p).Match(platforms.Normalize(*d.Platform)) {
				found[i], chosen[d.Digest] = true, true
			}
		}
	}
	if i := slices.Index(found, false); i >= 0 && len(have) > 0 {
		return nil, nil, &PlatformError{Index: index.Digest, Want: want[i], Have: have}
	}
	for _, d := range children {
		attested := digest.Digest(d.Annotations[annotationAttests])
		if chosen[d.Digest] || !hasPlatform(d) && (attested == "" || chosen[attested]) {
			kept = append(kept, d)
		} else {
			left = append(left, d)
		}
	}
	return kept, left, nil
}

// hasPlatform reports whether an entry says what it runs on.
func hasPlatform(d ocispec.Descriptor) bool {
	return d.Platform != nil && d.Platform.OS != "" && d.Platform.OS != "unknown"
}
