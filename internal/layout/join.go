package layout

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ConflictError says that two volumes give the name that was asked for to two
// manifests. They are not of one set, or of two states of it.
type ConflictError struct {
	Name string
	// Dirs are the volumes, Digests what each says the name stands for.
	Dirs    [2]string
	Digests [2]digest.Digest
}

// Error names both volumes and both digests.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is %s on %s and %s on %s", e.Name, e.Digests[0], e.Dirs[0], e.Digests[1], e.Dirs[1])
}

// Join returns one layout that reads like all of the given together: the
// volumes of a set, in any order. Its index has the entries of all as they are
// now, each once. A blob is found on whichever volume has it, its segments on
// several; a manifest that is damaged on one is read from another. Of several
// copies of another blob the first of the right size counts, unread, until somebody
// finds it damaged and asks for another, see [Layout.FindSound]. A volume
// that is taken away is an error for what only it has. Entries without a full
// name are in the repository of the first. A name that stands for two manifests is
// listed and resolves to none, [*ConflictError]; both are there by their digests. Those
// of cosign's tag scheme are of lists that grow: the longest counts, see [Fork].
// Errors: fs.ErrInvalid when there is nothing to join.
func Join(layouts ...*Layout) (*Layout, error) {
	if len(layouts) == 0 {
		return nil, fmt.Errorf("join layouts: none given: %w", fs.ErrInvalid)
	}
	var dirs []string
	var all []ocispec.Descriptor
	var standings []IndexStanding
	named, seen, conflicts := map[string]int{}, map[string]bool{}, map[string]*conflict{}
	for i, l := range layouts {
		v := l.current()
		for name, desc := range v.names {
			other, ok := named[name]
			if !ok {
				named[name] = i
				continue
			}
			if was := layouts[other].current().names[name]; was.Digest != desc.Digest {
				clash(conflicts, name, &ConflictError{
					Name: name, Dirs: [2]string{layouts[other].Dir(), l.Dir()}, Digests: [2]digest.Digest{was.Digest, desc.Digest},
				})
			}
		}
		for name, c := range v.conflicts { // of volumes that were joined before
			clash(conflicts, name, c.err, c.digests...)
		}
		entries, err := v.counting(seen)
		if err != nil {
			return nil, fmt.Errorf("join layout %s: %w", l.Dir(), err)
		}
		all = append(all, entries...)
		standings = append(standings, l.standings...)
		for _, dir := range l.dirs {
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	sortEntries(all)
	joined := newLayout(all, dirs...)
	joined.conflicts, joined.standings = conflicts, standings
	return joined, nil
}

// conflict is a name that stands for several manifests.
type conflict struct {
	err     *ConflictError  // the first two of them
	digests []digest.Digest // all, some more than once
}

func clash(conflicts map[string]*conflict, name string, err *ConflictError, more ...digest.Digest) {
	if conflicts[name] == nil {
		conflicts[name] = &conflict{err: err}
	}
	conflicts[name].digests = append(append(conflicts[name].digests, err.Digests[:]...), more...)
}

// counting returns the entries that are not in seen, and adds them to it. Those
// whose name a later entry of the view took are left out: behind the entries of
// another volume they would take it back.
func (v *view) counting(seen map[string]bool) ([]ocispec.Descriptor, error) {
	var entries []ocispec.Descriptor
	for _, e := range v.entries {
		if d, ok := v.names[e.Annotations[ocispec.AnnotationRefName]]; ok && d.Digest != e.Digest {
			continue
		}
		if d, ok := v.full[fullName(e)]; ok && d.Digest != e.Digest {
			continue
		}
		key, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			entries = append(entries, e)
		}
	}
	return entries, nil
}
