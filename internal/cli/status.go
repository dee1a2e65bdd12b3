package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/ui"
)

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status [INSTANCE…]",
		Short: "Show how what is installed is doing",
		Long: `status shows each instance with its version and, for every component, whether it
runs, its health, and whether it runs the image that was signed. Exit status 1 says
that something is not as it should be.`,
		Example:           "  sealift status\n  sealift status shop -o json",
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.status(cmd.Context(), args)
		},
	}
}

// errNotWorking gives status its exit code; what is wrong stands in the result.
var errNotWorking = errors.New("not everything is as it should be")

func (a *app) status(ctx context.Context, names []string) error {
	home, err := a.openHome(ctx)
	if errors.Is(err, target.ErrNoEngine) {
		// What is recorded can be told without an engine, and should be.
		dir, dirErr := a.homeDir()
		if dirErr != nil {
			return dirErr
		}
		a.out.Warn("%v", err)
		home, err = site.Open(dir, site.Options{Now: a.Now})
	}
	if err != nil {
		return err
	}
	list, err := home.Status(ctx, names...)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	doc := struct {
		Type      string                `json:"type"`
		Instances []site.InstanceStatus `json:"instances"`
	}{"status", append([]site.InstanceStatus{}, list...)}
	err = a.out.Result(doc, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "nothing is installed")
		}
		for _, s := range list {
			statusText(w, s)
		}
	})
	for _, s := range list {
		if err == nil && !s.Working && s.State != site.StateUninstalled {
			err = errNotWorking
		}
	}
	return err
}

func statusText(w io.Writer, s site.InstanceStatus) {
	head := s.Instance
	if s.Current != nil {
		head += fmt.Sprintf("  %s %s  revision %d", s.Current.App.ID, s.Current.App.Version, s.Current.Number)
	}
	fmt.Fprintf(w, "%s  %s\n", head, s.State)
	next := ""
	if s.State == site.StateFailed || s.State == site.StateInterrupted {
		next = waysOn(s.Instance, s.Action, s.Current)
	}
	for _, text := range []string{s.Message, next, s.Problem} {
		if text != "" {
			fmt.Fprintf(w, "  %s\n", text)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range s.Components {
		state := c.State
		if c.Health != "" && c.Health != "completed" {
			state += ", " + c.Health
		}
		image := "signed image"
		if c.Drifted {
			image = "DIFFERS from what is recorded"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", c.Component, state, shortImage(c.Image), image)
		if c.Detail != "" && !c.Working {
			fmt.Fprintf(t, "  \t%s\t\t\n", c.Detail)
		}
	}
	_ = t.Flush() // writes to memory
	if s.Current != nil {
		for _, ad := range s.Current.Addresses {
			fmt.Fprintf(w, "  %s: %s\n", ad.Component, addressText(ad))
		}
	}
}

// shortImage leaves of an image reference what tells it from others.
func shortImage(ref string) string {
	_, digest, ok := strings.Cut(ref, "@")
	if !ok {
		return ref
	}
	return digest[:min(len(digest), len("sha256:")+12)]
}

func newHistory(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "history INSTANCE",
		Short:             "Show an instance's revisions",
		Example:           "  sealift history shop\n  sealift history shop -o json",
		Args:              args(1, 1, "one instance"),
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.history(args[0])
		},
	}
}

func (a *app) history(instance string) error {
	dir, err := a.homeDir()
	if err != nil {
		return err
	}
	home, err := site.Open(dir, site.Options{Now: a.Now})
	if err != nil {
		return err
	}
	list, err := home.History(instance)
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	doc := struct {
		Type      string           `json:"type"`
		Revisions []*site.Revision `json:"revisions"`
	}{"history", list}
	return a.out.Result(doc, func(w io.Writer) {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, r := range list {
			note := r.Error
			if r.From > 0 {
				note = fmt.Sprintf("to revision %d", r.From)
			}
			note, _, _ = strings.Cut(note, "\n")
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", r.Number, r.Started.Format(time.DateTime), r.Action, r.App.Version, r.Result, ui.Line(note))
		}
		_ = t.Flush() // writes to memory
	})
}

// completeInstances completes the names of instances in the home.
func (a *app) completeInstances(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, err := a.homeDir()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	home, err := site.Open(dir, site.Options{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, _ := home.Instances() // a completion that fails says nothing
	return names, cobra.ShellCompDirectiveNoFileComp
}
