package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/delivery/compare"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

// noUpdateAfter warns of a policy that is the last of its line.
const noUpdateAfter = "this policy permits no further update by anybody: from then on it can only be edited at the site"

func newPolicyUpdate(a *app) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "update REF",
		Short: "Replace the policy by a signed update",
		Long: `update puts the policy that REF brings in the place of the site's, if those have signed
it whom the present policy names under updates; a key that only the new policy knows
counts for nothing. Of several on media it is the one with the highest version. The
version has to be higher than that of any policy that was used here.

It shows what changes, and asks. The change is recorded in the audit log, with who
signed; so is an update that was refused.`,
		Example: "  sealift policy update /media/usb --dry-run\n  sealift policy update /media/usb//registry.example.com/plant/policy:5 --yes",
		Args:    args(1, 1, "one REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.policyUpdate(cmd.Context(), args[0], yes, dryRun)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "agree without being asked")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "verify and show what would change, write nothing")
	return cmd
}

// policyUpdated is the result of policy update.
type policyUpdated struct {
	Type   string `json:"type"`
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// From is the policy that was in use, To the one that is now.
	From site.PolicyMark `json:"from"`
	To   site.PolicyMark `json:"to"`
	// Signers are those whose signatures counted.
	Signers  []policySigner         `json:"signers,omitempty"`
	Changes  []compare.PolicyChange `json:"changes"`
	Warnings []string               `json:"warnings,omitempty"`
	// Updates says who may replace the new policy, nil for nobody.
	Updates   *listedUpdates `json:"updates,omitempty"`
	DryRun    bool           `json:"dryRun,omitempty"`
	Unchanged bool           `json:"unchanged,omitempty"`
}

type policySigner struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
}

func (a *app) policyUpdate(ctx context.Context, ref string, yes, dryRun bool) error {
	home, err := a.openState()
	if err != nil {
		return err
	}
	_, before, present, err := a.readPolicy(ctx, "")
	if err != nil {
		return a.recordUpdateRefusal(ctx, home, audit.Entry{}, dryRun, err)
	}
	found, err := a.choosePolicy(ctx, ref)
	if err != nil {
		return a.recordUpdateRefusal(ctx, home, audit.Entry{}, dryRun, err)
	}
	about := audit.Entry{Policy: found.Version, Root: found.Root.Digest}
	v := policyUpdated{Type: "policyUpdated", Name: found.Name, Digest: found.Root.Digest.String(), Changes: []compare.PolicyChange{}, DryRun: dryRun}
	v.From = site.PolicyMark{Version: present.Version, Digest: digest.FromBytes(before)}
	v.To = site.PolicyMark{Version: found.Version, Digest: found.Document.Digest}
	if v.Unchanged = found.Brings(before); v.Unchanged {
		// Whoever signed it may have no say any more, now that it is in use.
		v.Updates = listUpdates(present)
		return a.out.Result(v, v.text)
	}
	update, err := delivery.VerifyPolicy(ctx, found, present, a.Now())
	if err != nil {
		return a.recordUpdateRefusal(ctx, home, about, dryRun, err)
	}
	change := site.PolicyUpdate{Policy: update.Policy, Data: update.Data, Root: found.Root.Digest, Signers: update.Evidence.Keys(), Present: v.From.Digest}
	if err := home.CheckUpdate(ctx, change); err != nil {
		return a.recordUpdateRefusal(ctx, home, about, dryRun, err)
	}
	ids, err := home.AcceptedIDs()
	if err != nil {
		return err
	}
	v.Changes = append(v.Changes, compare.Policies(present, update.Policy, ids)...)
	v.Updates = listUpdates(update.Policy)
	for _, name := range update.Evidence.Decision.Keys {
		v.Signers = append(v.Signers, policySigner{name, present.Keys[name].Fingerprint()})
	}
	if v.Warnings, err = a.updateWarnings(home, present, update.Policy, v.Changes); err != nil {
		return err
	}
	if dryRun {
		return a.out.Result(v, v.text)
	}
	if !yes {
		v.explain(a.out.Question)
	}
	if err := a.confirm(ctx, yes, "Put it in the place of the policy?"); err != nil {
		return err
	}
	if err := home.UpdatePolicy(ctx, change); err != nil {
		return a.recordUpdateRefusal(ctx, home, about, false, err)
	}
	return a.out.Result(v, v.text)
}

// choosePolicy finds the update at ref.
func (a *app) choosePolicy(ctx context.Context, ref string) (delivery.FoundPolicy, error) {
	list, err := a.find(ctx, ref)
	if err != nil {
		return delivery.FoundPolicy{}, err
	}
	found, err := delivery.ChoosePolicy(ctx, list)
	var several *delivery.SeveralError
	switch {
	case errors.As(err, &several):
		return found, nameOne(ref, several)
	case errors.Is(err, artifact.ErrNotPolicy):
		return found, withHint(fmt.Errorf("%s: %w", ref, artifact.ErrNotPolicy), "see what is there: sealift inspect %s", ref)
	}
	return found, err
}

// updateWarnings are what a person should think of before a policy takes the place of
// the present one.
func (a *app) updateWarnings(home *site.Home, present, next *signer.Policy, changes []compare.PolicyChange) (list []string, err error) {
	now := a.Now()
	if !next.Updatable(now) {
		list = append(list, noUpdateAfter)
	}
	for _, c := range changes {
		if c.Part == compare.PartRevoked && c.Kind == compare.Removed {
			list = append(list, c.Name+" was revoked, and would count again")
		}
	}
	ids, err := home.AcceptedIDs()
	for _, id := range ids {
		if present.Attainable(id, now) && !next.Attainable(id, now) {
			list = append(list, id+" was accepted here, and nobody's releases of it will be any more")
		}
	}
	return list, err
}

// recordUpdateRefusal records in the site's log that an update was not accepted, where
// it was to be, with what is known about it. What could not be read was not refused.
func (a *app) recordUpdateRefusal(ctx context.Context, home *site.Home, about audit.Entry, dryRun bool, cause error) error {
	if code := exitCode(ctx, cause); dryRun || code != exitVerification && code != exitRefused {
		return cause
	}
	about.Event, about.Reason = "refused", cause.Error()
	if _, err := home.Record(ctx, about); err != nil {
		a.out.Warn("this was not recorded: %v", err)
	}
	return cause
}

// explain shows what changes, a line at a time.
func (v policyUpdated) explain(line func(format string, args ...any)) {
	line("policy    version %d, in the place of version %d", v.To.Version, v.From.Version)
	for _, s := range v.Signers {
		line("signed    by %s (%s)", s.Name, s.Fingerprint)
	}
	for _, c := range v.Changes {
		line("%-9s %s", c.Kind, changeText(c))
	}
	if len(v.Changes) == 0 {
		line("          only its wording changes, or its comments")
	}
	if !slices.ContainsFunc(v.Changes, func(c compare.PolicyChange) bool { return c.Part == compare.PartUpdates }) {
		line("updates   %s", v.Updates.text())
	}
	for _, w := range v.Warnings {
		line("WARNING   %s", w)
	}
}

// changeText is a change for people.
func changeText(c compare.PolicyChange) string {
	text := c.Subject()
	switch {
	case c.Old != "" && c.New != "":
		return fmt.Sprintf("%s: %s (was %s)", text, ui.Value(c.New), ui.Value(c.Old))
	case c.Old+c.New != "":
		return fmt.Sprintf("%s: %s", text, ui.Value(c.Old+c.New))
	}
	return text
}

func (v policyUpdated) text(w io.Writer) {
	verb := "updated the policy to"
	if v.DryRun {
		verb = "would update the policy to"
	}
	if v.Unchanged {
		verb = "the policy is already"
	}
	fmt.Fprintf(w, "%s version %d\n  update %s\n  policy %s\n", verb, v.To.Version, v.Digest, v.To.Digest)
	if !v.Unchanged {
		v.explain(func(format string, args ...any) { fmt.Fprintf(w, "  "+format+"\n", args...) })
	}
}
