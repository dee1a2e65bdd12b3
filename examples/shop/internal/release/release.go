// Package release says what each version of the shop can do. Both versions are
// built from one source tree and differ only in the version that the linker
// stamps, so that an upgrade changes exactly what this package lists.
package release

import (
	"strconv"
	"strings"
)

// Counts reports whether the version counts orders: 1.1.0 and later do. A
// version that cannot be read does not.
func Counts(version string) bool {
	return atLeast(version, 1, 1)
}

// Colour returns the CSS colour of the version's pages, so that a glance tells
// which one is running.
func Colour(version string) string {
	if atLeast(version, 1, 1) {
		return "#0a7d45"
	}
	return "#1f5fbf"
}

func atLeast(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	have, err := strconv.Atoi(first)
	if err != nil {
		return false
	}
	haveMinor, err := strconv.Atoi(second)
	if err != nil {
		return false
	}
	return have > major || have == major && haveMinor >= minor
}
