package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sealift/sealift/internal/site"
)

func newInstall(a *app) *cobra.Command {
	var f deliveryFlags
	var name string
	cmd := &cobra.Command{
		Use:   "install APP[:VERSION] | MEDIA",
		Short: "Verify and install an application",
		Long: `install checks the vendor's signature by the site's policy, or for the first time with
the key given, shows what it will do, pulls the images by digest, starts the components
in the order they need and waits until all of them work. Of several versions the highest
is taken.

APP is in the site's library, by its id or the last word of it (see sealift list). What
is on MEDIA is taken into the library first, as much of it as this host's engine runs,
so that rollback needs the media no more; --no-import uses it in place, all of it read
first.

The images are pulled from the registry at 127.0.0.1:5050: the one that sealift serve
runs there, or one that runs just for this command. Data is kept in volumes that
upgrade, rollback and uninstall never remove.`,
		Example: "  sealift install shop\n" +
			"  sealift install /media/usb --key cosign.pub\n" +
			"  sealift install shop:1.0.0 --name shop-test --set httpPort=8081 --yes",
		Args:              args(1, 1, "an app of the library, or the media to install from"),
		ValidArgsFunction: a.completeApps,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.install(cmd.Context(), args[0], name, f)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "call the instance `NAME` (default: the application's short name)")
	deliveryFlagSet(cmd, &f)
	return cmd
}

// deliveryFlagSet adds the flags that install and upgrade share.
func deliveryFlagSet(cmd *cobra.Command, f *deliveryFlags) {
	keyFlag(cmd, &f.keys)
	flags := cmd.Flags()
	flags.StringVar(&f.version, "version", "", "take `VERSION` instead of the highest")
	flags.StringArrayVar(&f.set, "set", nil, "set a parameter: `NAME=VALUE` (may be repeated)")
	flags.StringVarP(&f.values, "values", "f", "", "read parameters from the YAML in `FILE`")
	flags.StringVar(&f.registry, "registry", defaultListen, "pull the media's images from a registry at `ADDRESS` of this host")
	flags.BoolVar(&f.noImport, "no-import", false, "leave the media's content where it is; it is needed again for a rollback whose images the engine has lost")
	flags.BoolVar(&f.downgrade, "allow-downgrade", false, "accept a version lower than one accepted before, or another digest of one")
	flags.BoolVarP(&f.yes, "yes", "y", false, "agree to the plan without being asked")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the plan, change nothing")
}

func (a *app) install(ctx context.Context, ref, name string, f deliveryFlags) error {
	set, err := chosenValues(f)
	if err != nil {
		return err
	}
	return a.deliver(ctx, ref, f, func(d *delivering) error {
		home, err := a.openHome(ctx)
		if err != nil {
			return err
		}
		opts := site.InstallOptions{Instance: name, Set: set, AllowDowngrade: f.downgrade}
		plan, err := home.PlanInstall(ctx, d.Delivery, opts)
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		again := func() error {
			opts.Expect = plan.Revision
			_, err := home.PlanInstall(ctx, d.Delivery, opts)
			return err
		}
		return d.act(ctx, plan, again, func() error {
			opts.Expect = plan.Revision
			r, err := home.Install(ctx, d.Delivery, opts)
			if err != nil {
				return fmt.Errorf("install: %w", a.showLogs(err))
			}
			return a.reportRevision("installed", r)
		})
	})
}

// maxValuesBytes bounds a values file.
const maxValuesBytes = 1 << 20

// chosenValues reads -f and then --set, which wins.
func chosenValues(f deliveryFlags) (map[string]any, error) {
	set := map[string]any{}
	if f.values != "" {
		data, err := readFile(f.values, maxValuesBytes)
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		if err := yaml.Unmarshal(data, &set); err != nil {
			return nil, usagef("%s: want NAME: VALUE lines in YAML: %v", f.values, err)
		}
		if set == nil {
			set = map[string]any{} // the file says null
		}
	}
	for _, s := range f.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usagef("--set wants NAME=VALUE, got %q", s)
		}
		set[name] = value
	}
	return set, nil
}
