package layout

import (
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An edit is one change to the index a writer has not committed yet.
type edit struct {
	name  string             // of the root that is set or removed, "" for an untagged manifest
	alias string             // of the root, "" for none
	desc  ocispec.Descriptor // without a digest when the root is removed
	drop  bool               // takes out the entries of a bare name, the alias, or else of the untagged manifest
}

// needs reports whether the edit's manifest must be in the layout at commit.
func (e edit) needs() bool { return e.desc.Digest != "" && !e.drop }

// entries is the list of an index that is being edited. It finds entries by
// what edits ask for, so that thousands of them take no longer each than one.
type entries struct {
	list     []ocispec.Descriptor // those removed have no digest
	roots    map[string][]int     // by full name, and by that of an alias's root
	bare     map[string][]int     // by ref.name, of those without a full name
	untagged map[digest.Digest][]int
}

func newEntries(list []ocispec.Descriptor) *entries {
	e := &entries{roots: map[string][]int{}, bare: map[string][]int{}, untagged: map[digest.Digest][]int{}}
	for _, entry := range list {
		e.add(entry)
	}
	return e
}

func (e *entries) add(entry ocispec.Descriptor) {
	n := len(e.list)
	e.list = append(e.list, entry)
	full := fullName(entry)
	if full != "" {
		e.roots[full] = append(e.roots[full], n)
	}
	if root := entry.Annotations[AnnotationAliasOf]; root != "" {
		e.roots[root] = append(e.roots[root], n)
	}
	switch ref := entry.Annotations[ocispec.AnnotationRefName]; {
	case full != "":
	case ref != "":
		e.bare[ref] = append(e.bare[ref], n)
	default:
		e.untagged[entry.Digest] = append(e.untagged[entry.Digest], n)
	}
}

// remove takes out the entries that by finds under key.
func remove[K comparable](e *entries, by map[K][]int, key K) {
	for _, n := range by[key] {
		e.list[n] = ocispec.Descriptor{}
	}
	delete(by, key)
}

// apply makes one change.
func (e *entries) apply(c edit) {
	switch {
	case c.drop && c.alias != "":
		remove(e, e.bare, c.alias)
		return
	case c.drop:
		remove(e, e.untagged, c.desc.Digest)
		return
	case c.name == "":
		if e.untagged[c.desc.Digest] == nil {
			e.add(c.desc)
		}
		return
	}
	remove(e, e.roots, c.name)
	if !c.needs() {
		return
	}
	full := c.desc
	full.Annotations = map[string]string{ocispec.AnnotationRefName: c.name, annotationImageName: c.name}
	e.add(full)
	if c.alias == "" {
		return
	}
	remove(e, e.bare, c.alias)
	short := c.desc
	short.Annotations = map[string]string{ocispec.AnnotationRefName: c.alias, AnnotationAliasOf: c.name}
	e.add(short)
}

// manifests returns a copy of the list as it is now.
func (e *entries) manifests() []ocispec.Descriptor {
	return slices.DeleteFunc(slices.Clone(e.list), func(d ocispec.Descriptor) bool { return d.Digest == "" })
}
