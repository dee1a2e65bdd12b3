package layout

import (
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
)

// view is an index sorted out by name. It does not change once made, except
// that its graph is read when first needed.
type view struct {
	entries      []ocispec.Descriptor
	names        map[string]ocispec.Descriptor            // by every name an entry has
	full         map[string]ocispec.Descriptor            // by full name
	fullNames    []string                                 // sorted
	tags         map[string]map[string]ocispec.Descriptor // by repository and tag
	scheme       map[digest.Digest][]scheme               // bare tag-scheme tags by subject
	untagged     []ocispec.Descriptor                     // further roots of the local repository
	local        string
	repositories []string // sorted

	conflicts map[string]*conflict       // by every name
	contested map[string][]digest.Digest // what the names of a repository may stand for

	mu    sync.Mutex
	graph *graph
}

// scheme is a bare tag that names a manifest by its subject's digest.
type scheme struct {
	tag  string
	desc ocispec.Descriptor
}

func newView(entries []ocispec.Descriptor, local string, conflicts map[string]*conflict) *view {
	v := &view{
		entries: entries, conflicts: conflicts, contested: map[string][]digest.Digest{},
		names:  map[string]ocispec.Descriptor{},
		full:   map[string]ocispec.Descriptor{},
		tags:   map[string]map[string]ocispec.Descriptor{},
		scheme: map[digest.Digest][]scheme{},
		local:  local,
	}
	rooted := map[digest.Digest]bool{}
	var rest []ocispec.Descriptor
	for _, e := range v.entries {
		if checkDescriptor(e) != nil {
			continue // of an algorithm this program does not know
		}
		name := fullName(e)
		if name == "" {
			rest = append(rest, e)
			continue
		}
		repository, tag, _ := splitName(name)
		v.full[name] = e
		v.addTag(repository, tag, e)
		rooted[e.Digest] = true
	}
	for _, e := range rest {
		v.addRest(e, rooted[e.Digest])
	}
	for _, e := range v.entries { // full names last: no alias may shadow one
		if name := e.Annotations[ocispec.AnnotationRefName]; name != "" && checkDescriptor(e) == nil {
			v.names[name] = e
		}
	}
	maps.Copy(v.names, v.full)
	v.fullNames = slices.Sorted(maps.Keys(v.full))
	if len(v.untagged) > 0 && v.tags[local] == nil {
		v.tags[local] = map[string]ocispec.Descriptor{}
	}
	v.repositories = slices.Sorted(maps.Keys(v.tags))
	for name, c := range conflicts {
		repository, _, full := splitName(name)
		if _, bare := v.tags[local][name]; bare && !full {
			repository = local
		} else if !full {
			continue // an alias, of names that are in repositories of their own
		}
		v.contested[repository] = append(v.contested[repository], c.digests...)
	}
	return v
}

// contestedName returns the name by which a tag of a repository is contested, and false
// for most, which are not. Bare tags of the tag scheme are in every repository that has
// their subject.
func (v *view) contestedName(repository, tag string) (string, bool) {
	name := repository + ":" + tag
	if v.conflicts[name] != nil {
		return name, true
	}
	if v.conflicts[tag] == nil || repository == v.local {
		return tag, v.conflicts[tag] != nil
	}
	_, full := v.full[name]
	_, _, scheme := grows(tag)
	return tag, scheme && !full
}

// addRest files an entry without a full name. A bare tag of a manifest that
// also has a full name is that root's alias. In a layout with full names the
// untagged entries are referrers and children of its roots; without any, they
// are all that there is.
func (v *view) addRest(e ocispec.Descriptor, rooted bool) {
	tag := e.Annotations[ocispec.AnnotationRefName]
	bare := tagRegexp.MatchString(tag)
	if d, _, ok := artifact.ParseSignatureTag(tag); ok {
		v.scheme[d] = append(v.scheme[d], scheme{tag: tag, desc: e})
		bare = bare && len(v.full) == 0
	}
	// Tools that copy an entry copy the mark too; it counts only beside the root
	// it speaks of.
	_, alias := v.full[e.Annotations[AnnotationAliasOf]]
	switch {
	case bare && !rooted && !alias:
		v.addTag(v.local, tag, e)
	case len(v.full) == 0:
		v.untagged = append(v.untagged, e)
	}
}

func (v *view) addTag(repository, tag string, desc ocispec.Descriptor) {
	if v.tags[repository] == nil {
		v.tags[repository] = map[string]ocispec.Descriptor{}
	}
	v.tags[repository][tag] = desc
}
