package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// mirrorFlags are what does not change which content is copied.
type mirrorFlags struct {
	trustFlags
	inventories  []string
	siteKeys     []string
	dryRun       bool
	plan         string
	fromPlan     string
	noReadback   bool
	noSpaceCheck bool
	toolDir      string
	rateLimit    string
	concurrency  int
}

func newMirror(a *app) *cobra.Command {
	var f mirrorFlags
	var req delivery.Request
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
SIZE is what a volume is sold as: a hundredth of it and 1 MiB are kept for its file system.
DEST with {n} in it is a directory for each, as ./disc-{n}; else all go to DEST, one after
the other, and mirror asks for the next disc. --volume writes one of them, again if need
be: the same command makes the same set, and --set DIR takes it from any other volume.

With --key or --policy only what is signed so is copied, and every signature that it was
accepted for.

--with-tool puts sealift itself on the media, for the machines of the site, with a page
START-HERE.txt that says what is there and what to do. The programs for other platforms
than this machine's are those of make dist, or of the release: they lie beside this
program, or where --tool-dir says. Each volume of a set has them.

--dry-run shows what would be copied, image by image, and why the rest is not. --plan
writes that down instead of copying, with all that was asked for, for somebody to look
at; --from-plan copies exactly what is written there, or refuses because a source or the
destination has moved. Beside it stand DEST, for the same content in another place, and
what does not change the content: --key and its like, --policy, --rate-limit, --concurrency,
--tool-dir, --no-readback, --no-space-check and --dry-run.

Manifests that DEST has already are read there and replaced where they are damaged.
With --check everything of REF that is in DEST is read and replaced likewise, which
mends media that sealift verify finds damaged.`,
		Example: "  sealift mirror registry.example.com/shop:1.0.0 registry.example.com/shop:1.1.0 /media/usb\n" +
			"  sealift mirror registry.example.com/shop:1.1.0 /media/usb --platform linux/arm64 --since registry.example.com/shop:1.0.0\n" +
			"  sealift mirror registry.example.com/shop:1.1.0 /media/usb --for inventory.txt.dsse --site-key site.pub\n" +
			"  sealift mirror ./disc-1 ./disc-2 /srv/media          # discs of a set, or a delta and its base, come together\n" +
			"  sealift mirror /media/usb registry.site.example/shop",
		Args: func(cmd *cobra.Command, list []string) error {
			if err := detachedTool(req.Tool, list); err != nil {
				return err
			}
			if f.fromPlan != "" {
				if err := besidePlan(cmd); err != nil {
					return err
				}
				return args(0, 1, "nothing but a destination beside --from-plan")(cmd, list)
			}
			if req.Set != "" {
				return args(1, -1, "a destination, and REF where the copy is not to come from where the set did")(cmd, list)
			}
			return args(2, -1, "one or more REF and a destination")(cmd, list)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mirror(cmd.Context(), args, req, f)
		},
	}
	trustFlagSet(cmd, &f.trustFlags)
	flags := cmd.Flags()
	platformFlag(cmd, &req.Platforms, "carry only images for `OS/ARCH` (may be repeated; default all, or what a source that is media carries)")
	flags.StringArrayVar(&f.inventories, "for", nil, "leave the layers that the site has which wrote the inventory in `FILE` (may be repeated; what any site lacks is carried)")
	flags.StringArrayVar(&f.siteKeys, "site-key", nil, "accept only inventories signed by the public key in `FILE` (may be repeated)")
	flags.StringArrayVar(&req.Since, "since", nil, "leave the layers that `REF` has, which is known to be where the copy goes (may be repeated)")
	flags.StringVar(&req.VolumeSize, "volume-size", "", "spread the copy over volumes of `SIZE`, as 4.7GB, or cd, dvd, bd or fat32")
	flags.IntVar(&req.Volume, "volume", 0, "write only the volume `N` of the set")
	flags.StringVar(&req.Set, "set", "", "write volumes of the set that the media in `DIR`, one of its volumes, belongs to")
	toolFlagSet(cmd, &req.Tool, &f.toolDir)
	flags.StringVar(&f.rateLimit, "rate-limit", "", "read at most `SIZE` a second from all sources together, as 5MB")
	flags.IntVar(&f.concurrency, "concurrency", 0, "copy `N` blobs at once, of one registry no more than that (default 4)")
	flags.BoolVar(&f.noReadback, "no-readback", false, "do not read from the disk again what was written to it")
	flags.BoolVar(&f.noSpaceCheck, "no-space-check", false, "begin though the disk says that it has no room, as one that compresses may")
	flags.BoolVar(&req.Check, "check", false, "read what the destination has already and replace what is damaged")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be copied, write nothing")
	flags.StringVar(&f.plan, "plan", "", "write what would be copied to `FILE`, and copy nothing")
	flags.StringVar(&f.fromPlan, "from-plan", "", "copy what the plan in `FILE` says, or refuse")
	flags.BoolVar(&req.AllowSparse, "allow-sparse", false, "let a registry have an index without all the images it names, if it takes one")
	for _, name := range []string{"volume", "volume-size", "set", "from-plan", "plan"} {
		flag := flags.Lookup(name)
		flag.Value = &once{flagValue: flag.Value}
	}
	_ = cmd.RegisterFlagCompletionFunc("volume-size", cobra.FixedCompletions(delivery.VolumeKinds(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("from-plan", "json")
	_ = cmd.MarkFlagFilename("site-key", "pub", "pem")
	return cmd
}

func (a *app) mirror(ctx context.Context, args []string, req delivery.Request, flags mirrorFlags) error {
	var follow *mirror.Document
	if flags.fromPlan != "" {
		document, planned, err := readPlan(flags.fromPlan)
		if err != nil {
			return err
		}
		if flags.toolDir != "" {
			planned.ToolDir = flags.toolDir
		}
		follow, req = &document, planned
	} else {
		req.Refs, args = args[:len(args)-1], args[len(args)-1:]
		req.ToolDir = flags.toolDir
	}
	if len(req.Refs) == 0 { // --set says what the set is of
		var err error
		if req.Refs, err = setRefs(req.Set); err != nil {
			return err
		}
	}
	if len(args) > 0 {
		req.Destination = args[0]
	}
	if follow != nil {
		to := ui.Value(req.Destination)
		if req.Volume > 0 {
			to += fmt.Sprintf(", volume %d", req.Volume)
		}
		a.out.Message("the plan copies %s from %s to %s", ui.Bytes(follow.CopyBytes), abridged(req.Refs), to)
	}
	if err := flags.agree(req); err != nil {
		return err
	}
	if err := a.readInventories(&req, flags); err != nil {
		return err
	}
	return a.copyAll(ctx, req, flags, follow)
}

// copyAll copies all that is asked for, disc by disc where there are several.
func (a *app) copyAll(ctx context.Context, req delivery.Request, flags mirrorFlags, follow *mirror.Document) error {
	return a.eachDisc(ctx, req.Refs[0], func() (*copying, error) {
		c, err := a.newCopy(ctx, req, flags)
		if err == nil {
			err = c.run(ctx, follow)
		}
		return c, err
	})
}

// eachDisc attempts a copy, and asks for the next disc where the source is one volume
// of several in one drive.
func (a *app) eachDisc(ctx context.Context, drive string, attempt func() (*copying, error)) error {
	wanted := 0 // the volume that was asked for last, 0 for none
	for {
		c, err := attempt()
		var rest *delivery.RestError
		switch {
		case errors.As(err, &rest) && c.oneDrive() && rest.Pieces:
			return withHint(err, "some of it is in segments on several volumes, which are read together: copy each into a directory, and name all of them")
		case errors.As(err, &rest) && c.oneDrive():
			a.out.Message("volume %s is read; still to come: %s", delivery.Numbers(c.carried[0].Here), delivery.Numbers(rest.Volumes))
			wanted = rest.Volumes[0]
		case wanted > 0 && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, layout.ErrNotLayout)):
			a.out.Warn("there is nothing in %s yet", drive)
		default:
			return err
		}
		if err := a.changeDisc(ctx, wanted, drive); err != nil {
			return err
		}
	}
}

// once is a flag that is given once: the last of several would win without a word.
type once struct {
	flagValue
	given bool
}

// flagValue is what cobra takes as the value of a flag.
type flagValue interface {
	String() string
	Set(s string) error
	Type() string
}

func (o *once) Set(s string) error {
	if o.given {
		return fmt.Errorf("it is given twice, and was %s", o)
	}
	o.given = true
	return o.flagValue.Set(s)
}

// planned are the flags whose answers a plan has.
var planned = []string{"plan", "platform", "for", "site-key", "since", "volume-size", "volume", "set", "with-tool", "check", "allow-sparse"}

// besidePlan fails for flags that would make something else of a plan.
func besidePlan(cmd *cobra.Command) error {
	for _, name := range planned {
		if cmd.Flags().Changed(name) {
			return withHint(usagef("--from-plan carries out a plan as it is, without --%s", name), "make another plan with --plan to ask for something else")
		}
	}
	return nil
}

// agree fails when flags contradict each other.
func (f mirrorFlags) agree(req delivery.Request) error {
	switch volumes := req.Volumes(); {
	case strings.Contains(req.Destination, delivery.VolumePlace) && !volumes:
		return withHint(usagef("%s in a destination stands for the number of a volume", delivery.VolumePlace), "say how large a volume is: --volume-size dvd")
	case req.VolumeSize != "" && req.Set != "":
		return usagef("--set takes the set of the media in %s, which has a size; leave out --volume-size", req.Set)
	case len(f.siteKeys) > 0 && len(f.inventories) == 0:
		return usagef("--site-key is for the inventories of --for")
	case req.Volume != 0 && !volumes:
		return withHint(usagef("--volume is one of a set"), "say of which: --volume-size SIZE, or --set DIR")
	case req.Volume < 0:
		return usagef("--volume counts from 1, got %d", req.Volume)
	case f.concurrency < 0 || f.concurrency > 100:
		return usagef("--concurrency wants 1 to 100, got %d", f.concurrency)
	case req.Check && volumes:
		return withHint(usagef("--check goes with one directory"), "mend a volume with sealift verify --repair")
	}
	return nil
}
