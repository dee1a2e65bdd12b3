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
		Use:   "upgrade INSTANCE MEDIA",
		Short: "Bring an instance to a newer version",
		Long: `upgrade verifies the release as install does and changes only the components that
differ. Values the site chose stay, untouched defaults follow the new version, data
stays where it is. When it fails, the version before remains the recorded one:
sealift rollback returns to it, or --atomic does so by itself.`,
		Example: "  sealift upgrade shop /media/usb --key cosign.pub\n  sealift upgrade shop /media/usb --key cosign.pub --version 1.1.0 --atomic --yes",
		Args:    args(2, 2, "an instance and the media to upgrade from"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if loc, err := artifact.ParseLocation(args[0]); err == nil && loc.Place != artifact.PlaceLibrary {
				return withHint(usagef("the instance comes first, then the media"), "sealift upgrade INSTANCE %s", args[0])
			}
			opts.Instance = args[0]
			return a.upgrade(cmd.Context(), args[1], opts, f)
		},
	}
	deliveryFlagSet(cmd, &f)
	cmd.Flags().BoolVar(&opts.Atomic, "atomic", false, "on failure go back to the version before")
	cmd.ValidArgsFunction = a.completeInstances
	return cmd
}

func (a *app) upgrade(ctx context.Context, ref string, opts site.InstallOptions, f deliveryFlags) error {
	set, err := chosenValues(f)
	if err != nil {
		return err
	}
	opts.Set, opts.AllowDowngrade = set, f.downgrade
	return a.deliver(ctx, ref, f, func(d site.Delivery, first *firstTrust) error {
		home, err := a.openHome(ctx)
		if err != nil {
			return err
		}
		plan, err := home.PlanUpgrade(ctx, d, opts)
		if err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		return a.planAndAct(ctx, plan, first, f, func() error {
			opts.Expect = plan.Revision
			r, err := home.Upgrade(ctx, d, opts)
			if err != nil {
				return fmt.Errorf("upgrade: %w", a.showLogs(err))
			}
			return a.reportRevision("upgraded", r)
		})
	})
}
