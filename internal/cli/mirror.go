package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// mirrorFlags are what does not change which content is copied.
type mirrorFlags struct {
	keys          []string
	inventories   []string
	siteKeys      []string
	check, dryRun bool
	plan          string
	fromPlan      string
	allowSparse   bool
	set           string
	volume        int
	noReadback    bool
	noSpaceCheck  bool
	tool          toolFlags
	rateLimit     string
	concurrency   int
}

func newMirror(a *app) *cobra.Command {
	var f mirrorFlags
	var req mirrorRequest
	cmd := &cobra.Command{
		Use:   "mirror REF… DEST",
		Short: "Copy releases or images, with everything that belongs to them",
		Long: `mirror copies each REF with everything it reaches – images, layers, signatures,
SBOMs and attestations of every part – into DEST, unchanged. DEST is a directory on
a disk, which becomes an ordinary OCI image layout, or a repository in a registry. A
directory can hold many releases; what they share is stored once, and what is there
is not copied again.

An interrupted copy is continued by running the same command again. REF may also be
media, to copy from disk to disk or from a disk into a registry. What was copied to a
disk is read back from it in the end, unless --no-readback; then the disk can go.

With --platform only the images for those platforms are carried; what names the
others keeps its bytes, and so its signatures. A registry may refuse to take such a
release: mirror then stops before anything is copied, or with --allow-sparse asks the
registry first.

With --for the media is a delta for the sites whose inventories are given: it leaves the
layers that all of them have, and says so. With --since it goes by releases that are
known to be there. It is whole where those are: mirror it onto a disk that has them.

With --volume-size the copy is spread over several discs or sticks. Each holds all
manifests and signatures, and verifies alone; together, in any order, they are whole.
DEST with {n} in it is a directory for each, as ./disc-{n}; else all go to DEST, one after
the other, and mirror asks for the next disc. --volume writes one of them, again if need
be: the same command makes the same set, and --set DIR takes it from any other volume.

--with-tool puts sealift itself on the media, for the machines of the site, with a page
START-HERE.txt that says what is there and what to do.

--dry-run shows what would be copied, image by image, and why the rest is not. --plan
writes that down instead of copying, for somebody to look at; --from-plan copies exactly
what is written there, or refuses because a source or the destination has moved.

Manifests that DEST has already are read there and replaced where they are damaged.
With --check everything of REF that is in DEST is read and replaced likewise, which
mends media that sealift verify finds damaged.`,
		Example: "  sealift mirror registry.example.com/shop:1.0.0 registry.example.com/shop:1.1.0 /media/usb\n" +
			"  sealift mirror registry.example.com/shop:1.1.0 /media/usb --platform linux/arm64 --since registry.example.com/shop:1.0.0\n" +
			"  sealift mirror registry.example.com/shop:1.1.0 /media/usb --for inventory.txt.dsse --site-key site.pub\n" +
			"  sealift mirror /media/usb registry.site.example/shop",
		Args: func(cmd *cobra.Command, list []string) error {
			if f.fromPlan != "" {
				return args(0, 1, "nothing but a destination beside --from-plan")(cmd, list)
			}
			if f.set != "" {
				return args(1, -1, "a destination, and REF where the copy is not to come from where the set did")(cmd, list)
			}
			return args(2, -1, "one or more REF and a destination")(cmd, list)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mirror(cmd.Context(), args, req, f)
		},
	}
	keyFlag(cmd, &f.keys)
	flags := cmd.Flags()
	platformFlag(cmd, &req.Platforms, "carry only images for `OS/ARCH` (may be repeated; default all, or what a source that is media carries)")
	flags.StringArrayVar(&f.inventories, "for", nil, "leave the layers that the site has which wrote the inventory in `FILE` (may be repeated; what any site lacks is carried)")
	flags.StringArrayVar(&f.siteKeys, "site-key", nil, "accept only inventories signed by the public key in `FILE` (may be repeated)")
	flags.StringArrayVar(&req.Since, "since", nil, "leave the layers that `REF` has, which is known to be where the copy goes (may be repeated)")
	flags.StringVar(&req.VolumeSize, "volume-size", "", "spread the copy over volumes of `SIZE`, as 4.7GB, or cd, dvd, bd or fat32")
	flags.IntVar(&f.volume, "volume", 0, "write only the volume `N` of the set")
	flags.StringVar(&f.set, "set", "", "write volumes of the set that the media in `DIR`, one of its volumes, belongs to")
	f.tool.add(cmd)
	flags.StringVar(&f.rateLimit, "rate-limit", "", "read at most `SIZE` a second from all sources together, as 5MB")
	flags.IntVar(&f.concurrency, "concurrency", 0, "copy `N` blobs at once, of one registry no more than that (default 4)")
	flags.BoolVar(&f.noReadback, "no-readback", false, "do not read from the disk again what was written to it")
	flags.BoolVar(&f.noSpaceCheck, "no-space-check", false, "begin though the disk says that it has no room, as one that compresses may")
	flags.BoolVar(&f.check, "check", false, "read what the destination has already and replace what is damaged")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be copied, write nothing")
	flags.StringVar(&f.plan, "plan", "", "write what would be copied to `FILE`, and copy nothing")
	flags.StringVar(&f.fromPlan, "from-plan", "", "copy what the plan in `FILE` says, or refuse")
	flags.BoolVar(&f.allowSparse, "allow-sparse", false, "let a registry have an index without all the images it names, if it takes one")
	_ = cmd.MarkFlagFilename("from-plan", "json")
	_ = cmd.MarkFlagFilename("site-key", "pub", "pem")
	return cmd
}

func (a *app) mirror(ctx context.Context, args []string, req mirrorRequest, flags mirrorFlags) error {
	var follow *mirror.Document
	if flags.fromPlan != "" {
		if flags.plan != "" || len(req.Platforms)+len(req.Since)+len(flags.inventories) > 0 || req.VolumeSize != "" {
			return withHint(usagef("--from-plan carries out a plan as it is"), "make another plan with --plan to ask for something else")
		}
		document, err := readPlan(flags.fromPlan, &req)
		if err != nil {
			return err
		}
		follow = &document
	} else {
		req.Refs, args = args[:len(args)-1], args[len(args)-1:]
	}
	if len(req.Refs) == 0 { // --set says what the set is of
		var err error
		if req.Refs, err = setRefs(flags.set); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		req.Destination = args[0]
	}
	if follow != nil {
		a.out.Message("the plan copies %s from %s to %s", ui.Bytes(follow.CopyBytes), abridged(req.Refs), ui.Value(req.Destination))
	}
	if err := flags.agree(req); err != nil {
		return err
	}
	if err := a.readInventories(&req, flags); err != nil {
		return err
	}
	return a.copyAll(ctx, req, flags, follow)
}

// copyAll copies, and asks for the next disc where the source is one volume of
// several in one drive.
func (a *app) copyAll(ctx context.Context, req mirrorRequest, flags mirrorFlags, follow *mirror.Document) error {
	wanted := 0 // the volume that was asked for last, 0 for none
	for {
		c, err := a.newCopy(ctx, req, flags)
		if err == nil {
			err = c.run(ctx, follow)
		}
		var rest *volumesError
		switch {
		case errors.As(err, &rest) && c.oneDrive() && rest.pieces:
			return withHint(err, "some of it is in pieces on several volumes, which are read together: copy each into a directory, and name all of them")
		case errors.As(err, &rest) && c.oneDrive():
			a.out.Message("volume %s is read; still to come: %s", delivery.Numbers(c.carried[0].Here), delivery.Numbers(rest.missing))
			wanted = rest.missing[0]
		case wanted > 0 && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, layout.ErrNotLayout)):
			a.out.Warn("there is nothing in %s yet", req.Refs[0])
		default:
			return err
		}
		if err := a.changeDisc(ctx, wanted, req.Refs[0]); err != nil {
			return err
		}
	}
}

// agree fails when flags contradict each other.
func (f mirrorFlags) agree(req mirrorRequest) error {
	switch volumes := req.VolumeSize != "" || f.set != ""; {
	case strings.Contains(req.Destination, volumePlace) && !volumes:
		return withHint(usagef("%s in a destination stands for the number of a volume", volumePlace), "say how large a volume is: --volume-size dvd")
	case req.VolumeSize != "" && f.set != "":
		return usagef("--set takes the set of the media in %s, which has a size; leave out --volume-size", f.set)
	case len(f.siteKeys) > 0 && len(f.inventories) == 0:
		return usagef("--site-key is for the inventories of --for")
	case f.volume != 0 && !volumes:
		return withHint(usagef("--volume is one of a set"), "say of which: --volume-size SIZE, or --set DIR")
	case f.volume < 0:
		return usagef("--volume counts from 1, got %d", f.volume)
	case f.concurrency < 0 || f.concurrency > 100:
		return usagef("--concurrency wants 1 to 100, got %d", f.concurrency)
	case f.check && volumes:
		return withHint(usagef("--check goes with one directory"), "mend a volume with sealift verify --repair")
	}
	return nil
}

// copying is one run of mirror.
type copying struct {
	*app
	flags mirrorFlags
	req   mirrorRequest
	to    artifact.Location
	found []delivery.Found
	// carried says of each that was found how much of it is there.
	carried []delivery.Carried
	items   []mirror.Item
	sites   []mirror.Site
	rate    int64 // bytes a second, 0 for no limit
}

// newCopy finds everything that the request names.
func (a *app) newCopy(ctx context.Context, req mirrorRequest, flags mirrorFlags) (*copying, error) {
	keys, err := loadKeys(flags.keys)
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
	case registry && (req.VolumeSize != "" || flags.set != ""):
		return nil, usagef("volumes are discs and sticks, and %s is a registry", c.to)
	}
	platforms, err := parsePlatforms(req.Platforms)
	if err != nil {
		return nil, err
	}
	if c.found, err = a.findAll(ctx, req.Refs); err != nil {
		return nil, err
	}
	for _, f := range c.found {
		c.carried = append(c.carried, delivery.CarriedOf(f))
		if len(keys) == 0 {
			continue
		}
		if _, err := delivery.VerifySignature(ctx, f, keys); err != nil {
			return nil, err
		}
	}
	if c.items, err = items(c.found, c.to, platforms); err != nil {
		return nil, err
	}
	c.sites, err = c.findSites(ctx, platforms)
	return c, err
}

// oneDrive reports whether the source is media that somebody can change.
func (c *copying) oneDrive() bool {
	return c.Terminal && len(c.req.Refs) == 1 && len(c.found) > 0 && c.found[0].Media != nil
}

// dry reports whether nothing is to be copied.
func (c *copying) dry() bool { return c.flags.dryRun || c.flags.plan != "" }

// run plans, and does what is to be done with the plan.
func (c *copying) run(ctx context.Context, follow *mirror.Document) (err error) {
	if c.req.VolumeSize != "" || c.flags.set != "" {
		return c.runVolumes(ctx, follow)
	}
	dst, closeDst, err := c.destination(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDst()) }()
	opts := mirror.PlanOptions{Check: c.flags.check, Sites: c.sites, Progress: c.out.Progress("checking")}
	plan, err := mirror.NewPlan(ctx, dst, c.items, opts)
	if err != nil {
		return explainPlatform(err)
	}
	if err := c.follow(plan, follow); err != nil {
		return err
	}
	if err := c.allowed(ctx, plan, dst); err != nil {
		return err
	}
	tools, err := c.tools(plan)
	if err != nil {
		return err
	}
	result := newMirrored(plan, c.to.String())
	result.Tool = tools != nil
	if err := c.noteMoved(ctx, &result); err != nil {
		return err
	}
	if c.to.Place == artifact.PlaceMedia {
		if err := c.room(plan, c.to); err != nil {
			return err
		}
	}
	if err := c.savePlan(plan); err != nil {
		return err
	}
	if result.DryRun = c.dry(); result.DryRun {
		if c.volumesFor(plan.Absent()) == nil {
			if err := plan.Complete(); err != nil { // the copy would end with it too
				return fmt.Errorf("mirror to %s: %w", c.to, c.explainAbsent(err))
			}
		}
		return c.out.Result(result, result.text)
	}
	if media, ok := dst.(*mirror.Media); ok {
		var read mirror.Amount
		read, err = c.copyToMedia(ctx, plan, media, c.to, tools)
		result.ReadBack, result.ReadBackBytes = read.Blobs, read.Bytes
	} else {
		err = c.execute(ctx, plan, c.to)
	}
	if err != nil {
		return err
	}
	return c.out.Result(result, result.text)
}

// noteMoved tells of names that stand for something else at the destination now.
func (c *copying) noteMoved(ctx context.Context, result *mirrored) error {
	for i, r := range result.Roots {
		loc, err := artifact.ParseLocation(r.Name)
		if err != nil || loc.Tag == "" {
			continue // by digest, which is never another's
		}
		was, err := c.standing(ctx, r.Name, loc.Tag)
		if err != nil {
			return err
		}
		if was != "" && was != r.Digest {
			result.Roots[i].Replaces = was
			c.out.Warn("%s is %s there now; the name is to be of %s", r.Name, was, r.Digest)
		}
	}
	return nil
}

// standing returns the digest that a name has at the destination, "" for none.
func (c *copying) standing(ctx context.Context, name, tag string) (string, error) {
	var resolve func() (ocispec.Descriptor, error)
	if c.to.Place == artifact.PlaceRegistry {
		repo, err := c.client.Repository(c.to.Repository)
		if err != nil {
			return "", err
		}
		resolve = func() (ocispec.Descriptor, error) { return repo.Resolve(ctx, tag) }
	} else {
		l, err := layout.Open(c.to.Path)
		if err != nil {
			return "", nil //nolint:nilerr // nothing is there yet, and what else is wrong was found by opening it to write
		}
		resolve = func() (ocispec.Descriptor, error) { return l.Resolve(ctx, name) }
	}
	desc, err := resolve()
	if errors.Is(err, errdef.ErrNotFound) || artifact.IsDamage(err) {
		return "", nil
	}
	return desc.Digest.String(), err
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
		Piecemeal: c.volumesFor(plan.Absent()) != nil, Progress: c.out.Progress("copying")}
	if err := plan.Execute(ctx, opts); err != nil {
		return fmt.Errorf("mirror to %s: %w", to, c.explainAbsent(err))
	}
	return nil
}

// copyToMedia carries out a plan onto media and makes sure that it can be taken
// away.
func (c *copying) copyToMedia(ctx context.Context, plan *mirror.Plan, media *mirror.Media, to artifact.Location, opts *delivery.ToolOptions) (mirror.Amount, error) {
	if err := c.packTools(ctx, media, to, opts); err != nil {
		return mirror.Amount{}, err
	}
	if err := c.execute(ctx, plan, to); err != nil {
		return mirror.Amount{}, err
	}
	// The page is of what is there now, with or without a program.
	if _, err := os.Lstat(filepath.Join(to.Path, delivery.StartName)); opts != nil || err == nil {
		if err := delivery.PackStart(ctx, media, to.Path); err != nil {
			return mirror.Amount{}, err
		}
	}
	if c.flags.noReadback {
		return mirror.Amount{}, nil
	}
	read, err := media.ReadBack(ctx, plan, c.out.Progress("reading back"))
	if err != nil {
		return read, withHint(fmt.Errorf("%s: %w", to, err), "the disk does not give back what was written to it: take another one, and do not trust this one again")
	}
	return read, nil
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
	case !c.flags.allowSparse:
		return withHint(fmt.Errorf("%s would name what is not carried: %s, %s for %s: %w",
			c.to, count(len(left), "manifest"), left[0].Digest, platformOf(left[0]), errRefused),
			"carry all platforms, or try whether the registry takes it without: --allow-sparse")
	case c.dry():
		return nil
	}
	if err := repo.TrySparse(ctx, left); err != nil {
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
		return to, usagef("want a destination without tag or digest, got %q: names are kept", dest)
	}
	return to, nil
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
	m, err := c.openMedia(ctx, c.to, mirror.MediaOptions{})
	if err != nil {
		return nil, nothing, err
	}
	return m, m.Close, nil
}

// openMedia opens media for writing.
func (c *copying) openMedia(ctx context.Context, to artifact.Location, opts mirror.MediaOptions) (*mirror.Media, error) {
	// A directory is made, but not its parent: a mistyped path, or a disk that is
	// not mounted, must not fill the root file system.
	if _, err := os.Stat(filepath.Dir(to.Path)); err != nil {
		return nil, fmt.Errorf("the directory that %s is to be made in: %w", to, err)
	}
	opts.Tool = "sealift " + Version()
	return mirror.OpenMedia(ctx, to.Path, opts)
}
