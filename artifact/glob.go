package artifact

import (
	"fmt"
	"path"
	"strings"
)

// IDGlob is a pattern for the ids of apps, such as example.com/** or
// example.com/shop-*. In it * and ? stand for what is within one segment, as do
// [...] sets, and ** for any number of whole segments.
type IDGlob struct{ segments []string }

// maxGlobBytes and maxGlobSegments bound a pattern as ids are bounded: policies compare
// each with each.
const (
	maxGlobBytes    = 256
	maxGlobSegments = 16
)

// ParseIDGlob reads a pattern, of at most 256 bytes and 16 segments. ** must be a
// segment of its own.
func ParseIDGlob(pattern string) (IDGlob, error) {
	if len(pattern) > maxGlobBytes || strings.Count(pattern, "/") >= maxGlobSegments {
		return IDGlob{}, fmt.Errorf("a pattern for ids has at most %d bytes in %d segments", maxGlobBytes, maxGlobSegments)
	}
	g := IDGlob{strings.Split(pattern, "/")}
	for _, s := range g.segments {
		if _, err := path.Match(s, ""); err != nil || s == "" || s != "**" && strings.Contains(s, "**") {
			return IDGlob{}, fmt.Errorf("%q is no pattern for ids; want one as example.com/shop, example.com/shop-* or example.com/**", pattern)
		}
	}
	return g, nil
}

// Match reports whether id is one that the pattern stands for.
func (g IDGlob) Match(id string) bool {
	// reach[i] says that the first i segments are stood for, by the globs so far.
	segments := strings.Split(id, "/")
	reach := make([]bool, len(segments)+1)
	reach[0] = true
	for _, glob := range g.segments {
		next := make([]bool, len(reach))
		for i, reached := range reach {
			switch {
			case glob == "**":
				next[i] = reached || i > 0 && next[i-1]
			case reached && i < len(segments):
				ok, _ := path.Match(glob, segments[i]) // the pattern was checked
				next[i+1] = next[i+1] || ok
			}
		}
		reach = next
	}
	return reach[len(segments)]
}

// Covers reports whether the pattern stands for every id that other stands for, as far
// as that can be seen segment by segment: it may say no of a pattern that does, and
// never says yes of one that does not.
func (g IDGlob) Covers(other IDGlob) bool {
	// reach[i] says that the first i segments of other are covered, by the globs so far.
	reach := make([]bool, len(other.segments)+1)
	reach[0] = true
	for _, glob := range g.segments {
		next := make([]bool, len(reach))
		for i, reached := range reach {
			switch {
			case glob == "**":
				next[i] = reached || i > 0 && next[i-1]
			case reached && i < len(other.segments) && coversSegment(glob, other.segments[i]):
				next[i+1] = true
			}
		}
		reach = next
	}
	return reach[len(other.segments)]
}

// coversSegment is Covers for one segment, of which glob is not **.
func coversSegment(glob, other string) bool {
	switch {
	case other == "**":
		return false
	case glob == "*" || glob == other:
		return true
	case strings.ContainsAny(other, `*?[\`):
		return false
	}
	ok, _ := path.Match(glob, other) // the pattern was checked
	return ok
}

// String returns the pattern.
func (g IDGlob) String() string { return strings.Join(g.segments, "/") }
