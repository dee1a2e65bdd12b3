package delivery

import (
	"fmt"
	"path"
	"strings"
)

// IDGlob is a pattern for the ids of apps, such as example.com/** or
// example.com/shop-*. In it * and ? stand for what is within one segment, as do
// [...] sets, and ** for any number of whole segments.
type IDGlob struct{ segments []string }

// ParseIDGlob reads a pattern. ** must be a segment of its own.
func ParseIDGlob(pattern string) (IDGlob, error) {
	g := IDGlob{strings.Split(pattern, "/")}
	for _, s := range g.segments {
		if _, err := path.Match(s, ""); err != nil || s == "" || s != "**" && strings.Contains(s, "**") {
			return IDGlob{}, fmt.Errorf("%q is no pattern for ids; want one as example.com/shop, example.com/shop-* or example.com/**", pattern)
		}
	}
	return g, nil
}

// Match reports whether id is one that the pattern stands for.
func (g IDGlob) Match(id string) bool { return matchSegments(g.segments, strings.Split(id, "/")) }

func matchSegments(globs, segments []string) bool {
	switch {
	case len(globs) == 0:
		return len(segments) == 0
	case globs[0] == "**":
		return matchSegments(globs[1:], segments) || len(segments) > 0 && matchSegments(globs, segments[1:])
	case len(segments) == 0:
		return false
	}
	ok, _ := path.Match(globs[0], segments[0]) // the pattern was checked
	return ok && matchSegments(globs[1:], segments[1:])
}
