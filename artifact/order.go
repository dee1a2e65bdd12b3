package artifact

import (
	"slices"
	"strings"

	"github.com/sealift/sealift/internal/document"
)

// checkCycles reports components that wait for each other in a ring, and
// exports that are made of each other.
func (t *Template) checkCycles(f *findings) {
	waits := map[string][]string{}
	for key, c := range t.Components {
		waits[key] = slices.DeleteFunc(sortedKeys(c.DependsOn), func(dep string) bool { return dep == key })
	}
	for _, ring := range rings(waits, document.MaxFindings) {
		f.Add(document.Join(document.Join(document.Join("components", ring[0]), "dependsOn"), ring[1%len(ring)]),
			"components wait for each other: %s", strings.Join(append(ring, ring[0]), " → "))
	}
	// One node per export, named component.exports.NAME.
	made := map[string][]string{}
	for key, c := range t.Components {
		for name, x := range c.Exports {
			id := key + ".exports." + name
			made[id] = nil
			for _, r := range x.References() {
				if r.Scope == ScopeExport {
					made[id] = append(made[id], orSelf(r.Component, key)+".exports."+r.Name)
				}
			}
		}
	}
	for _, ring := range rings(made, document.MaxFindings) {
		f.Add("components."+ring[0], "exports are made of each other: %s", strings.Join(append(ring, ring[0]), " → "))
	}
}

func orSelf(key, self string) string {
	if key == "" {
		return self
	}
	return key
}

// rings returns one cycle for each edge that closes one, at most limit, each
// starting at its first name, in sorted order. A node that points to itself is
// a ring of one.
func rings(edges map[string][]string, limit int) [][]string {
	const visiting, done = 1, 2
	state := map[string]int{}
	var stack []string
	var found [][]string
	var visit func(string)
	visit = func(n string) {
		state[n] = visiting
		stack = append(stack, n)
		for _, next := range edges[n] {
			if _, known := edges[next]; !known {
				continue
			}
			switch state[next] {
			case 0:
				visit(next)
			case visiting:
				if len(found) == limit {
					continue // a tangle has as many rings as edges, each as long as itself
				}
				ring := slices.Clone(stack[slices.Index(stack, next):])
				first := slices.Index(ring, slices.Min(ring))
				found = append(found, append(ring[first:], ring[:first]...))
			}
		}
		stack = stack[:len(stack)-1]
		state[n] = done
	}
	for _, n := range sortedKeys(edges) {
		if state[n] == 0 {
			visit(n)
		}
	}
	return found
}

// Waves returns the component keys in the order they must start: each wave needs
// only what stands in the waves before it. Keys are sorted within a wave. The
// template must be valid; a ring would never start and is left out.
func (t *Template) Waves() [][]string {
	started := map[string]bool{}
	var waves [][]string
	for {
		var wave []string
		for _, key := range t.Keys() {
			if started[key] {
				continue
			}
			ready := true
			for dep := range t.Components[key].DependsOn {
				ready = ready && started[dep]
			}
			if ready {
				wave = append(wave, key)
			}
		}
		if len(wave) == 0 {
			return waves
		}
		for _, key := range wave {
			started[key] = true
		}
		waves = append(waves, wave)
	}
}
