package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// lookups bounds what is looked for at once.
const lookups = 8

// ClashError reports two artifacts that would get one name at the destination.
type ClashError struct {
	// First and Second are the names they were found under. They are equal for a
	// name that stands for several artifacts.
	First, Second string
	// Name is that at the destination.
	Name string
}

// Error says what to name otherwise.
func (e *ClashError) Error() string {
	if e.First == e.Second {
		return e.First + " is not the same on all that was given; name it by its digest"
	}
	return fmt.Sprintf("%s and %s would both become %s; mirror them into repositories of their own", e.First, e.Second, e.Name)
}

// NotCarriedError reports media asked for a platform that it says it does not
// carry. It is an errdef.ErrNotFound.
type NotCarriedError struct {
	// Name is the artifact, Dir the media.
	Name, Dir string
	Platform  ocispec.Platform
	Carried   []ocispec.Platform
}

// Error names the platforms that are carried.
func (e *NotCarriedError) Error() string {
	return fmt.Sprintf("%s carries only %s of %s: %v", e.Dir, mirror.FormatPlatforms(e.Carried), e.Name, errdef.ErrNotFound)
}

// Unwrap returns errdef.ErrNotFound.
func (e *NotCarriedError) Unwrap() error { return errdef.ErrNotFound }

// Gather returns what several searches found, in their order, each artifact once.
// Media that has one artifact in common, as the volumes of a set do, is joined and
// read as one, and what is damaged on one is read from another. It fails with the damage
// of a name that is sound nowhere, and as [layout.Join] does.
func Gather(lists ...[]Found) ([]Found, error) {
	var all, damaged []Found
	var media []*layout.Layout
	at := map[string]bool{}
	shared := false
	for _, f := range slices.Concat(lists...) {
		if f.Media != nil && (len(media) == 0 || media[len(media)-1] != f.Media) {
			media = append(media, f.Media)
		}
		if f.Damage != nil {
			damaged = append(damaged, f)
			continue
		}
		key := f.Name + "@" + f.Descriptor.Digest.String()
		shared = shared || at[key] && f.Media != nil
		if !at[key] {
			at[key] = true
			all = append(all, f)
		}
	}
	for _, f := range damaged {
		if !slices.ContainsFunc(all, func(other Found) bool { return other.Name == f.Name && other.Media != nil }) {
			return nil, f.Damage
		}
		shared = true
	}
	if !shared {
		return all, nil
	}
	joined, err := layout.Join(media...)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Media != nil {
			all[i].Media, all[i].Store = joined, joined.Repository(all[i].Repository)
		}
	}
	return all, nil
}

// Items names what was found for the destination. Of media that carries some
// platforms only those are asked for. It fails with [ClashError] and
// [NotCarriedError].
func Items(list []Found, to artifact.Location, platforms []ocispec.Platform) ([]mirror.Item, error) {
	var items []mirror.Item
	seen := map[string]string{}
	for _, f := range list {
		item, err := newItem(f, to, platforms)
		if err != nil {
			return nil, err
		}
		if other, twice := seen[item.Name]; twice {
			return nil, &ClashError{other, f.Name, item.Name}
		}
		seen[item.Name] = f.Name
		items = append(items, item)
	}
	return items, nil
}

func newItem(f Found, to artifact.Location, platforms []ocispec.Platform) (mirror.Item, error) {
	item := mirror.Item{Source: f.Store, Reference: f.Descriptor.Digest.String(), Descriptor: f.Descriptor, Name: f.Name, Platforms: platforms, Sparse: f.Media != nil}
	carried := CarriedOf(f)
	for _, p := range platforms {
		if !carried.Carries(p) {
			return item, &NotCarriedError{f.Name, f.Media.Dir(), p, carried.Platforms}
		}
	}
	if len(platforms) == 0 {
		item.Platforms = carried.Platforms
	}
	if to.Place == artifact.PlaceRegistry {
		item.Name = to.Repository + strings.TrimPrefix(f.Name, FullName(f.Repository))
		host, path, _ := strings.Cut(f.Repository, "/")
		if strings.HasPrefix(to.Repository, host+"/") {
			item.MountFrom = path
		}
	}
	return item, nil
}

// maxSearches bounds what is looked for at once: the roots of a site may be many.
const maxSearches = 8

// FindSite looks the roots of a site up where list was found. Roots that nobody
// there knows, nor blobs of the site stand for, are in unknown, by name.
func FindSite(ctx context.Context, list []Found, s RequestSite) (site mirror.Site, unknown []string, err error) {
	stores := make([]Store, len(s.Roots))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxSearches)
	for i, root := range s.Roots {
		g.Go(func() (err error) {
			if stores[i], err = storeOf(gctx, list, root.Digest); err != nil {
				return fmt.Errorf("look for %s, which the site has: %w", root.Digest, err)
			}
			return nil
		})
	}
	site.Blobs = s.Blobs
	if err := g.Wait(); err != nil {
		return site, nil, err
	}
	for i, root := range s.Roots {
		platforms, err := root.platforms()
		switch {
		case err != nil:
			return site, nil, err
		case stores[i] != nil:
			site.Items = append(site.Items, mirror.Item{Source: stores[i], Reference: root.Digest.String(), Name: root.name(), Platforms: platforms})
		case len(s.Blobs) > 0:
			site.Known = append(site.Known, mirror.Base{Name: root.name(), Digest: root.Digest})
		default:
			unknown = append(unknown, root.name())
		}
	}
	return site, unknown, nil
}

// storeOf returns the store of list that has a root, nil when none does.
func storeOf(ctx context.Context, list []Found, root digest.Digest) (Store, error) {
	asked := map[string]bool{}
	for _, f := range list {
		key := f.Repository
		if f.Media != nil {
			key += " on " + f.Media.Dir()
		}
		if asked[key] {
			continue
		}
		asked[key] = true
		if _, err := f.Store.Resolve(ctx, root.String()); err == nil {
			return f.Store, nil
		} else if !errors.Is(err, errdef.ErrNotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// Standing returns the digests that names, of what is to be copied, have at the
// destination now, "" for none, and where a digest is the name.
func (f Finder) Standing(ctx context.Context, to artifact.Location, names []string) ([]digest.Digest, error) {
	resolve, err := f.resolver(to)
	if err != nil {
		return nil, err
	}
	standing := make([]digest.Digest, len(names))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, name := range names {
		loc, err := artifact.ParseLocation(name)
		if err != nil || loc.Tag == "" {
			continue // what has no tag is never another's
		}
		g.Go(func() error {
			desc, err := resolve(gctx, name, loc.Tag)
			if errors.Is(err, errdef.ErrNotFound) || artifact.IsDamage(err) {
				return nil
			}
			standing[i] = desc.Digest
			return err
		})
	}
	return standing, g.Wait()
}

// resolver returns what finds a name, whose tag is given too, at a destination.
func (f Finder) resolver(to artifact.Location) (func(ctx context.Context, name, tag string) (ocispec.Descriptor, error), error) {
	if to.Place == artifact.PlaceRegistry {
		repo, err := f.Open(to.Repository)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, _, tag string) (ocispec.Descriptor, error) { return repo.Resolve(ctx, tag) }, nil
	}
	l, err := layout.Open(to.Path)
	if err != nil { // nothing is there yet, and what else is wrong is found by opening it to write
		return func(context.Context, string, string) (ocispec.Descriptor, error) {
			return ocispec.Descriptor{}, errdef.ErrNotFound
		}, nil
	}
	return func(ctx context.Context, name, _ string) (ocispec.Descriptor, error) { return l.Resolve(ctx, name) }, nil
}
