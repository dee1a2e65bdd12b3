package cli

import (
	"context"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// readInventories adds what the inventories of --for say to the request.
func (a *app) readInventories(req *delivery.Request, f mirrorFlags) error {
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
		req.Sites = append(req.Sites, delivery.NewRequestSite(inventory))
	}
	return nil
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
		c.warnSame(list)
		if since, err = delivery.Items(list, artifact.Location{Place: artifact.PlaceMedia}, platforms); err != nil {
			return nil, fmt.Errorf("--since: %w", explainItems(err))
		}
	}
	if len(c.req.Sites) == 0 && len(since) > 0 {
		return []mirror.Site{{Items: since}}, nil
	}
	var sites []mirror.Site
	for _, s := range c.req.Sites {
		site, unknown, err := delivery.FindSite(ctx, c.found, s)
		if err != nil {
			return nil, err
		}
		c.tellUnknown(unknown)
		site.Items = append(site.Items, since...)
		sites = append(sites, site)
	}
	return sites, nil
}

// warnSame tells of releases of --since that are to be copied too: they are left to
// themselves, and next to nothing goes along.
func (c *copying) warnSame(since []delivery.Found) {
	for _, s := range since {
		for _, f := range c.found {
			if f.Descriptor.Digest == s.Descriptor.Digest {
				c.out.Warn("--since names %s, which is what is to be copied: none of its layers is carried", s.Name)
				break
			}
		}
	}
}

// tellUnknown tells of roots that a site has and that change nothing here.
func (c *copying) tellUnknown(names []string) {
	if len(names) == 0 {
		return
	}
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = ui.Value(name)
	}
	them := "them"
	if len(names) == 1 {
		them = "it"
	}
	c.out.Message("the site has %s, not known where the copy is from: no layer is left because of %s; an inventory with --blobs would tell", abridged(shown), them)
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
