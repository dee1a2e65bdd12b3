package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/mirror"
)

// mirrorFlags are what does not change which content is copied.
type mirrorFlags struct {
	keys          []string
	check, dryRun bool
	plan          string
	fromPlan      string
	allowSparse   bool
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
media, to copy from disk to disk or from a disk into a registry.

With --platform only the images for those platforms are carried; what names the
others keeps its bytes, and so its signatures. A registry may refuse to take such a
release: mirror then stops before anything is copied, or with --allow-sparse asks the
registry first.

With --since the media is a delta: it leaves the layers that the releases named have,
and says so. It is whole where those are: mirror it onto a disk that has them.

--dry-run shows what would be copied, image by image, and why the rest is not. --plan
writes that down instead of copying, for somebody to look at; --from-plan copies exactly
what is written there, or refuses because a source or the destination has moved.

Manifests that DEST has already are read there and replaced where they are damaged.
With --check everything of REF that is in DEST is read and replaced likewise, which
mends media that sealift verify finds damaged.`,
		Example: "  sealift mirror registry.example.com/shop:1.0.0 registry.example.com/shop:1.1.0 /media/usb\n" +
			"  sealift mirror registry.example.com/shop:1.1.0 /media/usb --platform linux/arm64 --since registry.example.com/shop:1.0.0\n" +
			"  sealift mirror /media/usb registry.site.example/shop",
		Args: func(cmd *cobra.Command, list []string) error {
			if f.fromPlan != "" {
				return args(0, 1, "nothing but a destination beside --from-plan")(cmd, list)
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
	flags.StringArrayVar(&req.Since, "since", nil, "leave the layers that `REF` has, which is known to be where the copy goes (may be repeated)")
	flags.BoolVar(&f.check, "check", false, "read what the destination has already and replace what is damaged")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be copied, write nothing")
	flags.StringVar(&f.plan, "plan", "", "write what would be copied to `FILE`, and copy nothing")
	flags.StringVar(&f.fromPlan, "from-plan", "", "copy what the plan in `FILE` says, or refuse")
	flags.BoolVar(&f.allowSparse, "allow-sparse", false, "let a registry have an index without all the images it names, if it takes one")
	_ = cmd.MarkFlagFilename("from-plan", "json")
	return cmd
}

func (a *app) mirror(ctx context.Context, args []string, req mirrorRequest, flags mirrorFlags) error {
	var follow *mirror.Document
	if flags.fromPlan != "" {
		if flags.plan != "" || len(req.Platforms)+len(req.Since) > 0 {
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
	if len(args) > 0 {
		req.Destination = args[0]
	}
	c, err := a.newCopy(ctx, req, flags)
	if err != nil {
		return err
	}
	return c.run(ctx, follow)
}

// copying is one run of mirror.
type copying struct {
	*app
	flags mirrorFlags
	req   mirrorRequest
	to    artifact.Location
	items []mirror.Item
	sites []mirror.Site
}

// newCopy finds everything that the request names.
func (a *app) newCopy(ctx context.Context, req mirrorRequest, flags mirrorFlags) (*copying, error) {
	keys, err := loadKeys(flags.keys)
	if err != nil {
		return nil, err
	}
	c := &copying{app: a, flags: flags, req: req}
	if c.to, err = parseDestination(req.Destination); err != nil {
		return nil, err
	}
	if c.to.Place == artifact.PlaceRegistry && len(req.Since) > 0 {
		return nil, usagef("--since leaves content out, and a registry takes only what is whole; mirror into it without")
	}
	check := func(f delivery.Found) error {
		if len(keys) == 0 {
			return nil
		}
		_, err := delivery.VerifySignature(ctx, f, keys)
		return err
	}
	platforms, err := parsePlatforms(req.Platforms)
	if err != nil {
		return nil, err
	}
	if c.items, err = a.items(ctx, req.Refs, c.to, platforms, check); err != nil {
		return nil, err
	}
	c.sites, err = a.sites(ctx, req, c.to, platforms)
	return c, err
}

// run plans, and does what is to be done with the plan.
func (c *copying) run(ctx context.Context, follow *mirror.Document) (err error) {
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
	if follow != nil {
		if err := plan.Follow(*follow); err != nil {
			return fmt.Errorf("%s: %w", c.flags.fromPlan, err)
		}
	}
	result := newMirrored(plan, c.to.String())
	if c.flags.plan != "" {
		request, err := json.Marshal(c.req)
		if err != nil {
			return err
		}
		if err := writePlan(c.flags.plan, plan.Document(request)); err != nil {
			return err
		}
	}
	if err := c.allowed(ctx, plan, dst); err != nil {
		return err
	}
	if result.DryRun = c.flags.dryRun || c.flags.plan != ""; !result.DryRun {
		if err := plan.Execute(ctx, mirror.ExecuteOptions{Progress: c.out.Progress("copying")}); err != nil {
			return fmt.Errorf("mirror to %s: %w", c.to, c.explainAbsent(ctx, err))
		}
	}
	return c.out.Result(result, result.text)
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
		return withHint(fmt.Errorf("%s would name %d manifests that are not carried, the first is %s for %s: %w",
			c.to, len(left), left[0].Digest, platformOf(left[0]), errRefused),
			"carry all platforms, or try whether the registry takes it without: --allow-sparse")
	case c.flags.dryRun || c.flags.plan != "":
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
	case c.flags.dryRun || c.flags.plan != "":
		dst, err := mirror.Peek(c.to.Path)
		return dst, nothing, err
	}
	// A directory is made, but not its parent: a mistyped path, or a disk that is
	// not mounted, must not fill the root file system.
	if _, err := os.Stat(filepath.Dir(c.to.Path)); err != nil {
		return nil, nothing, fmt.Errorf("the directory that %s is to be made in: %w", c.to, err)
	}
	m, err := mirror.OpenMedia(ctx, c.to.Path, mirror.MediaOptions{Tool: "sealift " + Version()})
	if err != nil {
		return nil, nothing, err
	}
	return m, m.Close, nil
}
