package cli

import (
	"maps"
	"slices"
)

// sorted returns the keys of m in order, for output that is always the same.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
