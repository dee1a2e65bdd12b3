package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// mirrorRequest says which content goes where. It is kept in a plan, so its fields
// may grow and never change.
type mirrorRequest struct {
	Refs        []string `json:"refs"`
	Destination string   `json:"destination"`
	Platforms   []string `json:"platforms,omitempty"`
	Since       []string `json:"since,omitempty"`
	// Sites are what inventories said.
	Sites      []mirrorSite `json:"sites,omitempty"`
	VolumeSize string       `json:"volumeSize,omitempty"`
}

// platformFlag adds --platform.
func platformFlag(cmd *cobra.Command, platforms *[]string, usage string) {
	cmd.Flags().StringArrayVar(platforms, "platform", nil, usage)
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions([]string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, cobra.ShellCompDirectiveNoFileComp))
}

func parsePlatforms(words []string) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, s := range words {
		p, err := mirror.ParsePlatform(s)
		if err != nil {
			return nil, withHint(usagef("%v", err), "as in --platform linux/arm64")
		}
		list = append(list, p)
	}
	return list, nil
}

// findAll finds what refs name. Media is read as one, joined once: what several
// have under one name, as the volumes of a set do, is read from all of them, and what
// is damaged on one from another.
func (a *app) findAll(ctx context.Context, refs []string) ([]delivery.Found, error) {
	lists := make([][]delivery.Found, len(refs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, ref := range refs {
		g.Go(func() (err error) {
			lists[i], err = a.find(gctx, ref)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []delivery.Found
	var media []*layout.Layout
	at := map[string]bool{}
	shared := false
	var damaged []delivery.Found
	for _, list := range lists {
		for _, f := range list {
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
	}
	for _, f := range damaged {
		if !slices.ContainsFunc(all, func(other delivery.Found) bool { return other.Name == f.Name && other.Media != nil }) {
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

// items names what was found for the destination.
func items(list []delivery.Found, to artifact.Location, platforms []ocispec.Platform) ([]mirror.Item, error) {
	var items []mirror.Item
	seen := map[string]string{}
	for _, f := range list {
		item, err := newItem(f, to, platforms)
		if err != nil {
			return nil, err
		}
		if other, twice := seen[item.Name]; twice && other == f.Name {
			return nil, usagef("%s is not the same on all that was given; name it by its digest", f.Name)
		} else if twice {
			return nil, usagef("%s and %s would both become %s; mirror them into repositories of their own", other, f.Name, item.Name)
		}
		seen[item.Name] = f.Name
		items = append(items, item)
	}
	return items, nil
}

// newItem names what was found for the destination. Of media that carries some
// platforms only those are asked for.
func newItem(f delivery.Found, to artifact.Location, platforms []ocispec.Platform) (mirror.Item, error) {
	item := mirror.Item{Source: f.Store, Reference: f.Descriptor.Digest.String(), Descriptor: f.Descriptor, Name: f.Name, Platforms: platforms, Sparse: f.Media != nil}
	carried := delivery.CarriedOf(f)
	for _, p := range platforms {
		if !carried.Carries(p) {
			return item, withHint(fmt.Errorf("%s carries only %s of %s: %w", f.Media.Dir(), mirror.FormatPlatforms(carried.Platforms), f.Name, errdef.ErrNotFound),
				"mirror %s from where all platforms are", mirror.FormatPlatform(p))
		}
	}
	if len(platforms) == 0 {
		item.Platforms = carried.Platforms
	}
	if to.Place == artifact.PlaceRegistry {
		item.Name = to.Repository + strings.TrimPrefix(f.Name, delivery.FullName(f.Repository))
		host, path, _ := strings.Cut(f.Repository, "/")
		if strings.HasPrefix(to.Repository, host+"/") {
			item.MountFrom = path
		}
	}
	return item, nil
}

// setRefs are the names of what a volume set is of, as the media in dir says.
func setRefs(dir string) ([]string, error) {
	l, err := delivery.OpenMedia(dir)
	if err != nil {
		return nil, fmt.Errorf("--set: %w", err)
	}
	label, err := l.Label()
	if err != nil {
		return nil, fmt.Errorf("--set %s: %w", dir, err)
	}
	var refs []string
	for _, r := range label.Roots {
		refs = append(refs, r.Name)
	}
	if len(refs) == 0 {
		return nil, usagef("%s does not say what it is a volume of; name what to copy", dir)
	}
	return refs, nil
}

// maxAbsent bounds the pieces of missing content that are listed.
const maxAbsent = 10

// explainAbsent lists what neither side has, and what sources that are deltas say
// they build on.
func (c *copying) explainAbsent(err error) error {
	var absent *mirror.AbsentError
	if !errors.As(err, &absent) {
		return err
	}
	if missing := c.volumesFor(absent.Content); missing != nil {
		return &volumesError{missing, c.inPieces(absent.Content), err}
	}
	errs := []error{err}
	for _, d := range absent.Content[:min(len(absent.Content), maxAbsent)] {
		errs = append(errs, fmt.Errorf("missing: %s, %s", d.Digest, ui.Bytes(d.Size)))
	}
	for i, f := range c.found {
		for _, b := range c.carried[i].Base {
			errs = append(errs, fmt.Errorf("%s builds on %s, %s", f.Name, ui.Value(b.Name), b.Digest))
		}
	}
	return errors.Join(errs...)
}

// explainPlatform says what else could be asked for.
func explainPlatform(err error) error {
	var missing *mirror.PlatformError
	if errors.As(err, &missing) {
		return withHint(err, "choose among %s, or leave out --platform to carry all", mirror.FormatPlatforms(missing.Have))
	}
	return err
}

// maxPlanBytes bounds a plan that is read back.
const maxPlanBytes = 256 << 20

// readPlan reads a plan and the request it was made for.
func readPlan(path string, req *mirrorRequest) (mirror.Document, error) {
	raw, err := readFile(path, maxPlanBytes)
	if err != nil {
		return mirror.Document{}, err
	}
	d, err := mirror.ParseDocument(raw)
	if err != nil {
		return d, withHint(usagef("%s: %v", path, err), "give a file that sealift mirror --plan wrote")
	}
	// Strictly, or a reviewer's program might have read something else.
	err = mirror.DecodeStrict(d.Request, req)
	for _, site := range req.Sites {
		err = errors.Join(err, site.check())
	}
	if err != nil {
		return d, withHint(usagef("%s: request: %v", path, err), "give a file that sealift mirror --plan wrote")
	}
	if len(req.Refs) == 0 || req.Destination == "" {
		return d, withHint(usagef("%s does not say what it is the plan of", path), "give a file that sealift mirror --plan wrote")
	}
	return d, nil
}

// writePlan writes a plan whole or not at all.
func writePlan(path string, d mirror.Document) error {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	_, err = temp.Write(append(raw, '\n'))
	err = errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write plan: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

// words joins what is not empty.
func words(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), ", ")
}
