package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/internal/site"
)

func newUninstall(a *app) *cobra.Command {
	var f deliveryFlags
	var opts site.UninstallOptions
	cmd := &cobra.Command{
		Use:   "uninstall INSTANCE",
		Short: "Remove an instance and keep its data",
		Long: `uninstall stops and removes the containers of an instance. Its data volumes and its
records stay, and installing under the same name finds them again. A volume is
deleted only when it is named with --delete-data, for ever.`,
		Example: "  sealift uninstall shop\n  sealift uninstall shop --delete-data sealift-shop_db_data --yes",
		Args:    args(1, 1, "one instance"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.uninstall(cmd.Context(), args[0], opts, f)
		},
		ValidArgsFunction: a.completeInstances,
	}
	cmd.Flags().StringArrayVar(&opts.DeleteData, "delete-data", nil, "also delete the data volume `NAME`, for ever (may be repeated)")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "agree to the plan without being asked")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan, change nothing")
	return cmd
}

func (a *app) uninstall(ctx context.Context, instance string, opts site.UninstallOptions, f deliveryFlags) error {
	home, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	plan, err := home.PlanUninstall(ctx, instance, opts)
	if err != nil {
		return fmt.Errorf("uninstall: %w", err)
	}
	opts.Expect = plan.Revision
	return a.planAndAct(ctx, plan, nil, f, func() error {
		u, err := home.Uninstall(ctx, instance, opts)
		if err != nil {
			return fmt.Errorf("uninstall: %w", err)
		}
		doc := struct {
			Type string `json:"type"`
			*site.Uninstalled
		}{"uninstalled", u}
		return a.out.Result(doc, func(w io.Writer) {
			fmt.Fprintf(w, "uninstalled %s\n", instance)
			for _, v := range u.Kept {
				fmt.Fprintf(w, "  data kept     %s\n", v)
			}
			for _, v := range u.Deleted {
				fmt.Fprintf(w, "  data deleted  %s\n", v)
			}
		})
	})
}
