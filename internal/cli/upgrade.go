package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/site"
)

func newUpgrade(a *app) *cobra.Command {
	var f deliveryFlags
	var opts site.InstallOptions
	cmd := &cobra.Command{
		Use:   "upgrade INSTANCE [MEDIA]",
		Short: "Bring an instance to a newer version",
		Long: `upgrade takes the highest version of the instance's app from the site's library, or
from MEDIA, which brings it there. It verifies the release as install does and changes
only the components that differ. Values the site chose stay, untouched defaults follow the new version, data
stays where it is. When it fails, the version before remains the recorded one:
sealift rollback returns to it, or --atomic does so by itself.`,
		Example: "  sealift upgrade shop\n  sealift upgrade shop /media/usb\n  sealift upgrade shop /media/usb --version 1.1.0 --atomic --yes",
		Args:    args(1, 2, "an instance, and the media where it is not in the library"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if loc, err := artifact.ParseLocation(args[0]); err == nil && loc.Place != artifact.PlaceLibrary {
				return withHint(usagef("the instance comes first, then the media"), "sealift upgrade INSTANCE %s", args[0])
			}
			opts.Instance = args[0]
			if len(args) == 2 {
				return a.upgrade(cmd.Context(), args[1], opts, f)
			}
			ref, err := a.installedApp(args[0])
			if err != nil {
				return fmt.Errorf("upgrade: %w", err)
			}
			return a.upgrade(cmd.Context(), ref, opts, f)
		},
	}
	deliveryFlagSet(cmd, &f)
	cmd.Flags().BoolVar(&opts.Atomic, "atomic", false, "on failure go back to the version before")
	cmd.ValidArgsFunction = a.completeInstances
	return cmd
}

// installedApp is the app of an instance as the library is asked for it.
func (a *app) installedApp(instance string) (ref string, err error) {
	home, err := a.openState()
	if err != nil {
		return "", err
	}
	list, err := home.Installed()
	if err != nil {
		return "", err
	}
	for _, r := range list {
		if r.Instance == instance {
			return artifact.Location{Place: artifact.PlaceLibrary, Repository: r.App.ID}.String(), nil
		}
	}
	return "", &site.InstanceError{Instance: instance, Err: site.ErrNotInstalled}
}

func (a *app) upgrade(ctx context.Context, ref string, opts site.InstallOptions, f deliveryFlags) error {
	set, err := chosenValues(f)
	if err != nil {
		return err
	}
	opts.Set, opts.AllowDowngrade = set, f.downgrade
	return a.deliver(ctx, ref, f, func(d *delivering) error {
		home, err := a.openHome(ctx)
		if err != nil {
			return err
		}
		plan, err := home.PlanUpgrade(ctx, d.Delivery, opts)
		if err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		again := func() error {
			opts.Expect = plan.Revision
			_, err := home.PlanUpgrade(ctx, d.Delivery, opts)
			return err
		}
		return d.act(ctx, plan, again, func() error {
			opts.Expect = plan.Revision
			r, err := home.Upgrade(ctx, d.Delivery, opts)
			if err != nil {
				return fmt.Errorf("upgrade: %w", a.showLogs(err))
			}
			return a.reportRevision("upgraded", r)
		})
	})
}
