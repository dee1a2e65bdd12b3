package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
)

func newRollback(a *app) *cobra.Command {
	var f deliveryFlags
	cmd := &cobra.Command{
		Use:   "rollback INSTANCE [REVISION]",
		Short: "Return an instance to an earlier revision",
		Long: `rollback brings an instance back to the revision before, or to the one given, exactly
as it was rendered then, from this machine's own records. Images that the engine has
lost are pulled from the site's library. Data is not touched. It becomes a revision of
its own, so that it can be undone by another.`,
		Example: "  sealift rollback shop\n  sealift rollback shop 1 --yes",
		Args:    args(1, 2, "an instance and perhaps a revision"),
		RunE: func(cmd *cobra.Command, args []string) error {
			revision := 0
			if len(args) == 2 {
				n, err := strconv.Atoi(args[1])
				if err != nil || n < 1 {
					return withHint(usagef("want the number of a revision, got %q", args[1]), "see them: sealift history %s", args[0])
				}
				revision = n
			}
			return a.rollback(cmd.Context(), args[0], revision, f)
		},
		ValidArgsFunction: a.completeInstances,
	}
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "agree to the plan without being asked")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan, change nothing")
	return cmd
}

func (a *app) rollback(ctx context.Context, instance string, revision int, f deliveryFlags) error {
	home, err := a.openHome(ctx)
	if err != nil {
		return err
	}
	opts := site.RollbackOptions{Revision: revision}
	plan, err := home.PlanRollback(ctx, instance, opts)
	if revision > 0 && (errors.Is(err, site.ErrNotFound) || errors.Is(err, site.ErrRefused)) {
		return withHint(fmt.Errorf("rollback: %w", err), "see what there is to go back to: sealift history %s", instance)
	} else if err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	return a.planAndAct(ctx, plan, nil, f, func() (err error) {
		stop, err := a.answerAgain(ctx, home, plan)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		opts.Expect = plan.Revision
		r, err := home.Rollback(ctx, instance, opts)
		if err != nil {
			return fmt.Errorf("rollback: %w", a.showLogs(err))
		}
		return a.reportRevision("rolledBack", r)
	})
}

// answerAgain has a registry answer for the images of a plan, where the library has them
// and nothing answers there: the engine may have lost them.
func (a *app) answerAgain(ctx context.Context, home *site.Home, p *site.Plan) (stop func() error, err error) {
	nothing := func() error { return nil }
	repository := ""
	for _, c := range p.Changes {
		if c.Image != "" {
			repository, _, _ = strings.Cut(c.Image, "@")
		}
	}
	address, _, _ := strings.Cut(repository, "/")
	if p.Unchanged || !loopback(address) {
		return nothing, nil
	}
	loc := artifact.Location{Place: artifact.PlaceLibrary, Repository: p.App.ID, Digest: p.Root}
	_, err = delivery.FindLibrary(ctx, home.LibraryDir(), loc)
	if err == nil {
		stop, err = a.answer(ctx, address, repository, p.Root, delivery.LibraryCatalog(home.LibraryDir(), slog.New(a.out.Handler())))
	}
	switch {
	case err == nil:
		return stop, nil
	case ctx.Err() != nil:
		return nil, err
	case !errors.Is(err, errdef.ErrNotFound) || errors.Is(err, delivery.ErrElsewhere): // a way back is not given up for it
		a.out.Warn("images that the engine has lost cannot be pulled: %v", err)
	}
	return nothing, nil
}
