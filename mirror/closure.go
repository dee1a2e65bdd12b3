package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// Closure is the graph of one root as a walk found it: what is named, by its
// manifests alone. No layer and no config was read.
type Closure struct {
	Root ocispec.Descriptor
	// Members are the manifests that were read, by digest.
	Members map[digest.Digest]Member
	// Absent are the manifests that are named and that the source lacks, sorted by
	// digest. What they name is not known.
	Absent []ocispec.Descriptor
}

// Member is one manifest of a closure.
type Member struct {
	Descriptor   ocispec.Descriptor
	ArtifactType string
	// Blobs are the config, always the first, and the layers of an image manifest.
	Blobs []ocispec.Descriptor
	// Entries are what an index lists, as it stands there: manifests, and blobs
	// where it lists any.
	Entries []ocispec.Descriptor
	// Proofs refer to the manifest: its referrers and what is tagged as a
	// signature of it.
	Proofs []ocispec.Descriptor
}

// ReadClosure walks everything that desc reaches. A manifest that src lacks is
// noted and passed over, since media may be sparse; one that is damaged is an
// error, and so is a closure beyond all measure, errdef.ErrSizeExceedsLimit.
func ReadClosure(ctx context.Context, src Source, desc ocispec.Descriptor) (*Closure, error) {
	c := &Closure{Root: plain(desc), Members: map[digest.Digest]Member{}}
	var mu sync.Mutex
	w := newWalk(Item{Source: src}, newPlanned())
	w.keep = true
	w.onError = func(d ocispec.Descriptor, err error) error {
		if d.Digest == desc.Digest || !errors.Is(err, errdef.ErrNotFound) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		c.Absent = append(c.Absent, d)
		return nil
	}
	if _, err := w.closure(ctx, c.Root); err != nil {
		return nil, fmt.Errorf("read what %s reaches: %w", desc.Digest, err)
	}
	slices.SortFunc(c.Absent, byDigest)
	for id, n := range w.nodes {
		if n == nil {
			continue // absent
		}
		m, err := artifact.ParseManifest(n.desc.MediaType, n.data)
		if err != nil {
			return nil, fmt.Errorf("manifest %s: %w", id, err)
		}
		member := Member{Descriptor: n.desc, ArtifactType: m.ArtifactType, Blobs: m.Blobs, Entries: m.Manifests, Proofs: slices.Clone(n.referrers)}
		for _, t := range n.tags {
			member.Proofs = append(member.Proofs, t.Descriptor)
		}
		c.Members[id] = member
	}
	return c, nil
}

// Content returns everything that from, the root or any manifest below it, reaches,
// by digest, with proofs. Platforms limit it to what is carried for them, as
// [Item.Platforms] do; none means all. An index that has nothing for a platform
// contributes what it lists for none in particular.
func (c *Closure) Content(from ocispec.Descriptor, want ...ocispec.Platform) map[digest.Digest]ocispec.Descriptor {
	found := map[digest.Digest]ocispec.Descriptor{}
	type visit struct {
		desc ocispec.Descriptor
		want []ocispec.Platform
	}
	queue := []visit{{from, want}}
	for len(queue) > 0 {
		v := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if _, seen := found[v.desc.Digest]; seen {
			continue
		}
		found[v.desc.Digest] = plain(v.desc)
		m, ok := c.Members[v.desc.Digest]
		if !ok {
			continue // a blob, or absent
		}
		for _, d := range m.Blobs {
			queue = append(queue, visit{d, nil})
		}
		for _, d := range m.carried(v.want) {
			queue = append(queue, visit{d, v.want})
		}
		for _, d := range m.Proofs {
			queue = append(queue, visit{d, nil}) // carried whole
		}
	}
	return found
}

// carried returns the entries that go along for the platforms.
func (m Member) carried(want []ocispec.Platform) []ocispec.Descriptor {
	kept, _, err := choose(m.Descriptor, m.Entries, want)
	if err == nil {
		return kept
	}
	return slices.DeleteFunc(slices.Clone(m.Entries), func(d ocispec.Descriptor) bool {
		return hasPlatform(d) || d.Annotations[annotationAttests] != ""
	})
}

// Platforms returns what the indexes of the closure list images for, sorted, as
// [FormatPlatform] writes them. It is empty where no index says.
func (c *Closure) Platforms() []string {
	var names []string
	for _, m := range c.Members {
		for _, d := range m.Entries {
			if hasPlatform(d) {
				names = append(names, FormatPlatform(*d.Platform))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
