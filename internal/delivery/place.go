package delivery

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// Place says what a piece of an artifact is for, as its manifests tell.
type Place struct {
	// Role is root, manifest, config, layer or proof, which is a signature or whatever
	// else refers to a part.
	Role string
	// Component has the keys of those that run it, "" for none in particular.
	Component string
	// Platform is as linux/arm64, "" for none in particular.
	Platform string
}

// maxPlacedManifests is how many manifests are read to place content.
const maxPlacedManifests = 10_000

// Places finds what pieces of f belong to, each once: where it was found first. What
// only a manifest names that is damaged or not there has no place.
func Places(ctx context.Context, f Found, pieces []ocispec.Descriptor) map[digest.Digest]Place {
	p := placing{wanted: map[digest.Digest]bool{}, found: map[digest.Digest]Place{}, seen: map[digest.Digest]bool{}}
	for _, d := range pieces {
		p.wanted[d.Digest] = true
	}
	p.note(f.Descriptor, Place{Role: "root"})
	for len(p.queue) > 0 && len(p.seen) < maxPlacedManifests && len(p.found) < len(p.wanted) && ctx.Err() == nil {
		next := p.queue[0]
		p.queue = p.queue[1:]
		p.open(ctx, f.Store, next)
	}
	return p.found
}

// placing is a walk from a root, in breadth.
type placing struct {
	wanted map[digest.Digest]bool
	found  map[digest.Digest]Place
	seen   map[digest.Digest]bool // manifests
	queue  []placed
}

type placed struct {
	desc  ocispec.Descriptor
	place Place
}

// note files content, and a manifest to be opened.
func (p *placing) note(d ocispec.Descriptor, at Place) {
	if _, twice := p.found[d.Digest]; p.wanted[d.Digest] && !twice {
		p.found[d.Digest] = at
	}
	if artifact.IsManifest(d.MediaType) && !p.seen[d.Digest] {
		p.seen[d.Digest] = true
		p.queue = append(p.queue, placed{d, at})
	}
}

// open notes what a manifest leads to. One that cannot be read leads to its referrers
// alone.
func (p *placing) open(ctx context.Context, store Store, next placed) {
	if m, _, err := artifact.FetchManifest(ctx, store, next.desc); err == nil {
		for i, d := range m.Blobs {
			p.note(d, next.place.inside(i == 0))
		}
		for _, d := range m.Manifests {
			p.note(d, next.place.entry(d))
		}
	}
	_ = store.Referrers(ctx, next.desc, "", func(list []ocispec.Descriptor) error { // what is not listed has no place
		for _, d := range list {
			p.note(d, Place{"proof", next.place.Component, next.place.Platform})
		}
		return nil
	})
}

// inside returns the place of a blob that a manifest at p names, the config when it is
// the first.
func (p Place) inside(config bool) Place {
	switch {
	case p.Role == "proof":
		return p
	case config:
		return Place{"config", p.Component, p.Platform}
	}
	return Place{"layer", p.Component, p.Platform}
}

// entry returns the place of what an index at p lists.
func (p Place) entry(d ocispec.Descriptor) Place {
	at := Place{p.Role, p.Component, p.Platform}
	if p.Role == "root" {
		at.Role = "manifest"
	}
	if keys := d.Annotations[artifact.AnnotationComponents]; keys != "" {
		at.Component = keys
	}
	if d.Platform != nil && d.Platform.OS != "" && d.Platform.OS != "unknown" {
		at.Platform = mirror.FormatPlatform(*d.Platform)
	}
	return at
}
