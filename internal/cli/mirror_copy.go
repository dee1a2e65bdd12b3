package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// copying is one run of mirror.
type copying struct {
	*app
	flags mirrorFlags
	req   delivery.Request
	to    artifact.Location
	found []delivery.Found
	// carried says of each that was found how much of it is there.
	carried []delivery.Carried
	// evidence says of each why it was accepted, nil for an update of the policy that is
	// superseded. There is none where nobody was asked.
	evidence []*signer.Evidence
	items    []mirror.Item
	sites    []mirror.Site
	rate     int64 // bytes a second, 0 for no limit
	// stays says that the destination is a disk of this machine, and is not carried on.
	stays bool
}

// newCopy finds everything that the request names.
func (a *app) newCopy(ctx context.Context, req delivery.Request, flags mirrorFlags) (*copying, error) {
	trust, err := a.trust(flags.trustFlags)
	if err != nil {
		return nil, err
	}
	c := &copying{app: a, flags: flags, req: req}
	if flags.rateLimit != "" {
		if c.rate, err = ui.ParseBytes(flags.rateLimit); err != nil || c.rate <= 0 {
			return nil, withHint(usagef("--rate-limit wants bytes a second, got %q", flags.rateLimit), "as in --rate-limit 5MB")
		}
	}
	a.client.opts.MaxFetches = flags.concurrency
	if c.to, err = parseDestination(req.Destination); err != nil {
		return nil, err
	}
	switch registry := c.to.Place == artifact.PlaceRegistry; {
	case registry && len(req.Since)+len(req.Sites) > 0:
		return nil, usagef("a delta leaves content out, and a registry takes only what is whole; mirror into it without --since and --for")
	case registry && req.Volumes():
		return nil, usagef("volumes are discs and sticks, and %s is a registry", c.to)
	}
	if err := takesCopy(c.to, req.Volumes()); err != nil {
		return nil, err
	}
	platforms, err := parsePlatforms(req.Platforms)
	if err != nil {
		return nil, err
	}
	if c.found, err = a.findAll(ctx, req.Refs); err != nil {
		return nil, err
	}
	if err := a.warnForks(ctx, c.found); err != nil {
		return nil, err
	}
	for _, f := range c.found {
		c.carried = append(c.carried, delivery.CarriedOf(f))
		if !trust.Any() {
			continue
		}
		evidence, superseded, err := delivery.Accept(ctx, f, trust)
		if err != nil {
			return nil, err
		}
		if superseded != nil {
			a.out.Message("%s is an update to version %d of the policy, which is in use or older: its signatures were not looked at", f.Name, superseded.Version)
		}
		if err := delivery.CheckName(ctx, f); err != nil {
			return nil, err
		}
		c.evidence = append(c.evidence, evidence)
	}
	if c.items, err = delivery.Items(c.found, c.to, platforms); err != nil {
		return nil, explainItems(err)
	}
	c.sites, err = c.findSites(ctx, platforms)
	return c, err
}

// oneDrive reports whether the source is media that somebody can change.
func (c *copying) oneDrive() bool {
	return c.Terminal && len(c.req.Refs) == 1 && len(c.found) > 0 && c.found[0].Media != nil
}

// plan makes the plan of what was found. It carries all that this was accepted for.
func (c *copying) plan(ctx context.Context, dst mirror.Destination, opts mirror.PlanOptions) (*mirror.Plan, error) {
	opts.Sites = c.sites
	plan, err := mirror.NewPlan(ctx, dst, c.items, opts)
	if err != nil {
		return nil, explainPlatform(err)
	}
	for i, e := range c.evidence {
		if err := delivery.CheckCarried(plan.Roots[i], e); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// dry reports whether nothing is to be copied.
func (c *copying) dry() bool { return c.flags.dryRun || c.flags.plan != "" }

// run plans, and does what is to be done with the plan.
func (c *copying) run(ctx context.Context, follow *mirror.Document) (err error) {
	if c.req.Volumes() {
		return c.runVolumes(ctx, follow)
	}
	if err := c.toolsFirst(ctx); err != nil {
		return err
	}
	result, err := c.carry(ctx, follow)
	if err != nil {
		return err
	}
	return c.out.Result(result, result.text)
}

// carry plans a copy to one place, and carries the plan out unless it is only asked for.
func (c *copying) carry(ctx context.Context, follow *mirror.Document) (result mirrored, err error) {
	dst, closeDst, err := c.destination(ctx)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, closeDst()) }()
	plan, err := c.plan(ctx, dst, mirror.PlanOptions{Check: c.req.Check, Progress: c.out.Progress("checking")})
	if err != nil {
		return result, err
	}
	if err := c.follow(plan, follow); err != nil {
		return result, err
	}
	if err := c.allowed(ctx, plan, dst); err != nil {
		return result, err
	}
	tools, err := c.tools(plan)
	if err != nil {
		return result, err
	}
	result = newMirrored(plan, c.to.String())
	result.Tool, result.leftIs = tools != nil, c.leftIs()
	if err := c.noteMoved(ctx, &result); err != nil {
		return result, err
	}
	if c.to.Place == artifact.PlaceMedia {
		if err := c.room(plan, c.to); err != nil {
			return result, err
		}
	}
	if err := c.savePlan(plan); err != nil {
		return result, err
	}
	if result.DryRun = c.dry(); result.DryRun {
		if delivery.Rest(c.carried, plan.Absent()) == nil {
			if err := plan.Complete(); err != nil { // the copy would end with it too
				return result, fmt.Errorf("%s: %w", c.doing(c.to), c.explainAbsent(err))
			}
		}
		return result, nil
	}
	if media, ok := dst.(*mirror.Media); ok {
		err = c.copyToMedia(ctx, plan, media, c.to, tools, &result)
	} else {
		err = c.execute(ctx, plan, c.to)
	}
	return result, err
}

// noteMoved tells of names that stand for something else at the destination now.
func (c *copying) noteMoved(ctx context.Context, result *mirrored) error {
	names := make([]string, len(result.Roots))
	for i, r := range result.Roots {
		names[i] = r.Name
	}
	standing, err := c.finder().Standing(ctx, c.to, names)
	if err != nil {
		return err
	}
	for i, r := range result.Roots {
		if was := standing[i]; was != "" && was.String() != r.Digest {
			result.Roots[i].Replaces = was.String()
			c.out.Warn("%s is %s there now; the name is to be of %s", r.Name, was, r.Digest)
		}
	}
	return nil
}

// follow fails when the plan is not the one that was written down.
func (c *copying) follow(plan *mirror.Plan, d *mirror.Document) error {
	if d == nil {
		return nil
	}
	if err := plan.Follow(*d); err != nil {
		return fmt.Errorf("%s: %w", c.flags.fromPlan, err)
	}
	return nil
}

// savePlan writes the plan down where that was asked for.
func (c *copying) savePlan(plan *mirror.Plan) error {
	if c.flags.plan == "" {
		return nil
	}
	request, err := json.Marshal(c.req)
	if err != nil {
		return err
	}
	if err := writePlan(c.flags.plan, plan.Document(request)); err != nil {
		return err
	}
	c.out.Message("the plan is in %s; carry it out with: sealift mirror --from-plan %s", c.flags.plan, c.flags.plan)
	return nil
}

// execute carries out a plan.
func (c *copying) execute(ctx context.Context, plan *mirror.Plan, to artifact.Location) error {
	opts := mirror.ExecuteOptions{Concurrency: c.flags.concurrency, RateLimit: c.rate,
		Piecemeal: delivery.Rest(c.carried, plan.Absent()) != nil, Progress: c.out.Progress("copying")}
	if err := plan.Execute(ctx, opts); err != nil {
		return fmt.Errorf("%s: %w", c.doing(to), c.explainAbsent(err))
	}
	c.warnDamaged(c.found)
	return nil
}

// doing says of errors what was under way.
func (c *copying) doing(to artifact.Location) string {
	if c.stays {
		return "import"
	}
	return "mirror to " + to.String()
}

// copyToMedia carries out a plan onto media and makes sure that it can be taken
// away.
func (c *copying) copyToMedia(ctx context.Context, plan *mirror.Plan, media *mirror.Media, to artifact.Location, opts *tool.Options, result *mirrored) error {
	behind := media.Unread()
	if err := delivery.PackTool(ctx, media, to.Path, opts); err != nil {
		return explainTool(err)
	}
	if err := c.execute(ctx, plan, to); err != nil {
		return err
	}
	if err := delivery.PackStart(ctx, media, to.Path, opts != nil); err != nil {
		return err
	}
	if c.stays {
		return nil
	}
	if c.flags.noReadback {
		if media.Unread() {
			result.Unread = append(result.Unread, to.String())
		}
		return nil
	}
	if behind {
		c.out.Message("what was copied to %s before was not read back: reading all of it", to)
	}
	read, err := media.ReadBack(ctx, plan, c.out.Progress("reading back"))
	if err != nil {
		return withHint(fmt.Errorf("%s: %w", to, err), "the disk does not give back what was written to it: take another one, and do not trust this one again")
	}
	result.ReadBack += read.Blobs
	result.ReadBackBytes += read.Bytes
	return nil
}

// room fails when the file system that to is on does not take what is planned.
func (c *copying) room(plan *mirror.Plan, to artifact.Location) error {
	room, err := plan.FindRoom(to.Path)
	var full *mirror.RoomError
	if c.flags.noSpaceCheck && errors.As(err, &full) {
		err = nil
	}
	if errors.As(err, &full) && full.MaxEntries > 0 {
		return withHint(fmt.Errorf("%s: %w", to, err), "format the disk as exFAT, or spread it over several: --volume-size fat32")
	} else if err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	if room.Segmented > 0 {
		c.out.Message("%d blobs are larger than %s takes as one file: they go in segments, which only sealift reads and serves", room.Segmented, room.FileSystem)
	}
	return nil
}

// allowed fails when what is planned cannot end well.
func (c *copying) allowed(ctx context.Context, plan *mirror.Plan, dst mirror.Destination) error {
	repo, ok := dst.(mirror.Repository)
	if !ok {
		return nil
	}
	left, err := repo.Lacks(ctx, plan.LeftPlatforms())
	switch {
	case err != nil || len(left) == 0:
		return err
	case !c.req.AllowSparse:
		return withHint(fmt.Errorf("%s would name what is not carried: %s, %s for %s: %w",
			c.to, count(len(left), "manifest"), left[0].Digest, platformOf(left[0]), errRefused),
			"carry all platforms, or try whether the registry takes it without: --allow-sparse")
	case c.dry():
		return nil
	}
	if err := repo.TrySparse(ctx, left); err != nil {
		if remote.IsRefusal(err) {
			err = fmt.Errorf("%w: %w", errRefused, err)
		}
		return withHint(fmt.Errorf("%s does not take an index without all it names: %w", c.to, err), "carry all platforms, or ask who runs the registry")
	}
	return nil
}

func platformOf(d ocispec.Descriptor) string {
	if d.Platform == nil {
		return "no platform"
	}
	return mirror.FormatPlatform(*d.Platform)
}

// parseDestination reads DEST.
func parseDestination(dest string) (artifact.Location, error) {
	to, err := artifact.ParseLocation(dest)
	if err != nil {
		return to, usagef("%v", err)
	}
	if to.Place == artifact.PlaceLibrary {
		return to, withHint(usagef("destination %q is neither a directory nor a registry", dest), "write ./%s for a directory", dest)
	}
	if to.Reference() != "" || to.Place == artifact.PlaceMedia && to.Repository != "" {
		plain := artifact.Location{Place: to.Place, Path: to.Path}
		if to.Place == artifact.PlaceRegistry {
			plain.Repository = to.Repository
		}
		return to, withHint(usagef("want a destination without tag or digest, got %q", dest), "write %s: names are kept", plain)
	}
	return to, nil
}

// takesCopy fails for a destination that is a file, and for a volume of a set where
// volumes is false: all of the set would be copied there.
func takesCopy(to artifact.Location, volumes bool) error {
	if to.Place != artifact.PlaceMedia {
		return nil
	}
	if info, err := os.Stat(to.Path); err == nil && !info.IsDir() {
		return withHint(usagef("%s is a file, and a destination is a directory", to), "name a directory, which is made where there is none; a plan is written with --plan FILE, and followed with --from-plan FILE")
	}
	if volumes {
		return nil
	}
	set, n, err := mirror.ReadSet(to.Path)
	if err != nil {
		return nil //nolint:nilerr // no volume, or none that says so
	}
	return withHint(fmt.Errorf("%w, and all that is asked for would be copied there", &mirror.VolumeError{Dir: to.Path, Volume: n, Of: len(set.Volumes)}),
		"write what belongs on it: sealift mirror %s --set %s --volume %d; or take another directory", to, to, n)
}

// destination opens where content goes; for a dry run it is only looked at.
func (c *copying) destination(ctx context.Context) (mirror.Destination, func() error, error) {
	nothing := func() error { return nil }
	switch {
	case c.to.Place == artifact.PlaceRegistry:
		repo, err := c.client.Repository(c.to.Repository)
		if err != nil {
			return nil, nothing, usagef("%v", err)
		}
		return mirror.Repository{Repository: repo}, nothing, nil
	case c.dry():
		dst, err := mirror.Peek(c.to.Path)
		return dst, nothing, err
	}
	m, err := c.openMedia(ctx, c.to, mirror.MediaOptions{Stays: c.stays})
	if err != nil {
		return nil, nothing, err
	}
	return m, m.Close, nil
}

// ontoMedia has add write to a repository of media, all or nothing. Nobody reads that back
// here, and the media says so: verify or the next copy does.
func (a *app) ontoMedia(ctx context.Context, to artifact.Location, add func(*layout.WritableRepository) error) (err error) {
	dir := artifact.Location{Place: to.Place, Path: to.Path}
	if err := takesCopy(dir, false); err != nil {
		return err
	}
	media, err := a.openMedia(ctx, dir, mirror.MediaOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, media.Close()) }()
	if err := add(media.Repository(to.Repository)); err != nil {
		return err
	}
	return media.Commit(ctx)
}

// openMedia opens media for writing.
func (a *app) openMedia(ctx context.Context, to artifact.Location, opts mirror.MediaOptions) (*mirror.Media, error) {
	// A directory is made, but not its parent: a mistyped path, or a disk that is
	// not mounted, must not fill the root file system.
	if _, err := os.Stat(filepath.Dir(to.Path)); err != nil {
		return nil, fmt.Errorf("the directory that %s is to be made in: %w", to, err)
	}
	opts.Tool = "sealift " + Version()
	return mirror.OpenMedia(ctx, to.Path, opts)
}
