package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// mirrorSite is a site as a plan keeps it.
type mirrorSite struct {
	Roots []mirrorSiteRoot `json:"roots"`
	Blobs []digest.Digest  `json:"blobs,omitempty"`
}

type mirrorSiteRoot struct {
	Digest    digest.Digest `json:"digest"`
	ID        string        `json:"id,omitempty"`
	Version   string        `json:"version,omitempty"`
	Platforms []string      `json:"platforms,omitempty"`
}

// readInventories adds what the inventories of --for say to the request.
func (a *app) readInventories(req *mirrorRequest, f mirrorFlags) error {
	keys, err := loadKeys(f.siteKeys)
	if err != nil {
		return err
	}
	for _, path := range f.inventories {
		raw, err := readFile(path, delivery.MaxInventoryBytes)
		if err != nil {
			return fmt.Errorf("--for: %w", err)
		}
		inventory, by, err := delivery.ReadInventory(raw, keys)
		if err != nil {
			return withHint(fmt.Errorf("%s: %w", path, err), "have the site write it again: sealift inventory -O FILE --key site.key")
		}
		if by.Key == nil {
			a.out.Message("%s is taken at its word; --site-key FILE accepts only what the site has signed", path)
		}
		req.Sites = append(req.Sites, newMirrorSite(inventory))
	}
	return nil
}

// check holds a site of a plan to the rules of an inventory, which it was made of.
func (s mirrorSite) check() error {
	inventory := delivery.Inventory{Blobs: s.Blobs}
	for _, r := range s.Roots {
		platforms, err := parsePlatforms(r.Platforms)
		if err != nil {
			return err
		}
		inventory.Roots = append(inventory.Roots, delivery.InventoryRoot{Digest: r.Digest, ID: r.ID, Version: r.Version, Platforms: platforms})
	}
	_, err := inventory.Format()
	return err
}

func newMirrorSite(inventory delivery.Inventory) mirrorSite {
	site := mirrorSite{Roots: []mirrorSiteRoot{}, Blobs: inventory.Blobs}
	for _, r := range inventory.Roots {
		root := mirrorSiteRoot{Digest: r.Digest, ID: r.ID, Version: r.Version}
		for _, p := range r.Platforms {
			root.Platforms = append(root.Platforms, mirror.FormatPlatform(p))
		}
		site.Roots = append(site.Roots, root)
	}
	return site
}

// findSites finds what the places that a delta is for are known to have: where
// there are inventories, all of them have what --since names too.
func (c *copying) findSites(ctx context.Context, platforms []ocispec.Platform) ([]mirror.Site, error) {
	var since []mirror.Item
	if len(c.req.Since) > 0 {
		list, err := c.findAll(ctx, c.req.Since)
		if err != nil {
			return nil, fmt.Errorf("--since: %w", err)
		}
		if since, err = items(list, artifact.Location{Place: artifact.PlaceMedia}, platforms); err != nil {
			return nil, fmt.Errorf("--since: %w", err)
		}
	}
	if len(c.req.Sites) == 0 && len(since) > 0 {
		return []mirror.Site{{Items: since}}, nil
	}
	var sites []mirror.Site
	for _, s := range c.req.Sites {
		site, err := c.findSite(ctx, s)
		if err != nil {
			return nil, err
		}
		site.Items = append(site.Items, since...)
		sites = append(sites, site)
	}
	return sites, nil
}

// lookups bounds what is looked for at once: the roots of an inventory may be many.
const lookups = 8

// findSite looks the roots of a site up where the releases to be copied are.
func (c *copying) findSite(ctx context.Context, s mirrorSite) (mirror.Site, error) {
	stores := make([]delivery.Store, len(s.Roots))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, root := range s.Roots {
		g.Go(func() (err error) {
			if stores[i], err = c.storeOf(gctx, root.Digest); err != nil {
				return fmt.Errorf("look for %s, which the site has: %w", root.Digest, err)
			}
			return nil
		})
	}
	site := mirror.Site{Blobs: s.Blobs}
	if err := g.Wait(); err != nil {
		return site, err
	}
	var unknown []string
	for i, root := range s.Roots {
		platforms, err := parsePlatforms(root.Platforms)
		switch {
		case err != nil:
			return site, err
		case stores[i] != nil:
			site.Items = append(site.Items, mirror.Item{Source: stores[i], Reference: root.Digest.String(), Name: root.name(), Platforms: platforms})
		case len(s.Blobs) > 0:
			site.Known = append(site.Known, mirror.Base{Name: root.name(), Digest: root.Digest})
		default:
			unknown = append(unknown, ui.Value(root.name()))
		}
	}
	if n := len(unknown); n > 0 {
		c.out.Message("the site has %s, not known where the copy is from: no layer is left because of %s; an inventory with --blobs would tell",
			abridged(unknown), map[bool]string{true: "it", false: "them"}[n == 1])
	}
	return site, nil
}

// abridged writes the first of a list, and how many more there are.
func abridged(list []string) string {
	const most = 3
	text := strings.Join(list[:min(most, len(list))], ", ")
	if n := len(list) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// name is what people call a root of a site.
func (r mirrorSiteRoot) name() string {
	if r.ID == "" {
		return r.Digest.String()
	}
	return r.ID + " " + r.Version
}

// storeOf returns the source that has a root, nil when none does.
func (c *copying) storeOf(ctx context.Context, root digest.Digest) (delivery.Store, error) {
	asked := map[string]bool{}
	for _, f := range c.found {
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
