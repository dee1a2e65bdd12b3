package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// defaultKeep is how many releases an instance can go back to behind a prune.
const defaultKeep = 3

type pruneFlags struct {
	keep   int
	yes    bool
	dryRun bool
}

func newPrune(a *app) *cobra.Command {
	f := pruneFlags{keep: defaultKeep}
	cmd := &cobra.Command{
		Use:   "prune [APP[:VERSION]…]",
		Short: "Remove from the library what nobody needs",
		Long: `prune removes releases from the site's library, and the content that only they used.
What an instance runs stays, and so do the releases that it can go back to, as many as
--keep says. Of each app the highest version stays, and every version that is higher
than what is installed. With APP:VERSION those are removed, unless an instance needs
them; APP stands for all its versions.

Content that an interrupted import has left goes too. That a version was accepted stays
remembered, and what is removed is on record. It shows what it will remove, and asks.`,
		Example:           "  sealift prune --dry-run\n  sealift prune --keep 1 --yes\n  sealift prune shop:1.0.0",
		ValidArgsFunction: a.completeApps,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.prune(cmd.Context(), args, f)
		},
	}
	cmd.Flags().IntVar(&f.keep, "keep", f.keep, "keep the `N` releases before the one that runs, for each instance")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "agree to the plan without being asked")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan, change nothing")
	return cmd
}

// pruned is the result of prune.
type pruned struct {
	Type    string          `json:"type"`
	Removed []prunedRelease `json:"removed"`
	Kept    []prunedRelease `json:"kept"`
	// Blobs and Bytes are what was freed, of content that nothing named too.
	Blobs  int   `json:"blobs"`
	Bytes  int64 `json:"bytes"`
	DryRun bool  `json:"dryRun,omitempty"`
}

type prunedRelease struct {
	site.Held
	// Names are those that it has in the library.
	Names []string `json:"names"`
	// Needed says who needs it.
	Needed []site.Pin `json:"needed,omitempty"`
	// Reason says why it stays otherwise.
	Reason string `json:"reason,omitempty"`
}

func (a *app) prune(ctx context.Context, refs []string, f pruneFlags) error {
	if f.keep < 0 {
		return usagef("--keep wants a number from 0 on, got %d", f.keep)
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	all, err := a.keptReleases(ctx, home, f.keep)
	if errors.Is(err, delivery.ErrNoLibrary) {
		return withHint(err, "there is nothing to remove; take releases in with: sealift import MEDIA")
	} else if err != nil {
		return a.explainPrune(err, home)
	}
	var remove []digest.Digest
	if len(refs) == 0 {
		remove = obsolete(all)
	} else if remove, err = a.namedReleases(ctx, refs, all); err != nil {
		return err
	}
	result := pruned{Type: "pruned", Removed: []prunedRelease{}, Kept: []prunedRelease{}, DryRun: f.dryRun}
	var names []string
	for _, r := range all {
		if slices.Contains(remove, r.Root) {
			result.Removed, names = append(result.Removed, r), append(names, r.Names...)
		} else {
			result.Kept = append(result.Kept, r)
		}
	}
	plan, err := mirror.Prune(ctx, home.LibraryDir(), names, mirror.PruneOptions{DryRun: true})
	if err != nil {
		return a.explainPrune(err, home)
	}
	result.Blobs, result.Bytes = plan.Freed.Blobs, plan.Freed.Bytes
	if f.dryRun || len(names) == 0 && plan.Freed.Blobs == 0 {
		return a.out.Result(result, result.text)
	}
	if err := a.agreeToPrune(ctx, result, f.yes); err != nil {
		return err
	}
	held := make([]site.Held, len(result.Removed))
	for i, r := range result.Removed {
		held[i] = r.Held
	}
	err = home.Prune(ctx, held, func(ctx context.Context) error {
		done, err := mirror.Prune(ctx, home.LibraryDir(), names, mirror.PruneOptions{Progress: a.out.Progress("removing")})
		result.Blobs, result.Bytes = done.Freed.Blobs, done.Freed.Bytes
		return err
	})
	if err != nil {
		return a.explainPrune(err, home)
	}
	return a.out.Result(result, result.text)
}

// agreeToPrune shows what will be removed, and asks.
func (a *app) agreeToPrune(ctx context.Context, planned pruned, yes bool) error {
	if yes {
		return nil
	}
	planned.DryRun = true
	var b strings.Builder
	planned.text(&b)
	for line := range strings.Lines(b.String()) {
		a.out.Question("%s", strings.TrimRight(line, "\n"))
	}
	return a.confirm(ctx, false, "Remove them?")
}

// explainPrune says how damage that keeps everything from being removed is mended.
func (a *app) explainPrune(err error, home *site.Home) error {
	if isDamage(err) {
		return withHint(err, "nothing was removed, for nobody knows what is needed: sealift verify %s --repair MEDIA", directory(home.LibraryDir()))
	}
	return err
}

// keptReleases are the releases of the library, sorted by id, lowest version first, with
// who needs them.
func (a *app) keptReleases(ctx context.Context, home *site.Home, keep int) ([]prunedRelease, error) {
	found, err := delivery.FindLibraryNames(ctx, home.LibraryDir())
	if err != nil {
		return nil, err
	}
	pins, err := home.Pinned(keep)
	if err != nil {
		return nil, err
	}
	var all []prunedRelease
	for _, f := range found {
		if f.Damage != nil {
			return nil, f.Damage
		}
		id, version, err := delivery.Claim(ctx, f)
		if err != nil {
			return nil, err
		}
		root := f.Descriptor.Digest
		if i := slices.IndexFunc(all, func(r prunedRelease) bool { return r.Root == root }); i >= 0 {
			all[i].Names = append(all[i].Names, f.Name)
			continue
		}
		all = append(all, prunedRelease{Held: site.Held{ID: id, Version: version, Root: root}, Names: []string{f.Name}, Needed: pins[root]})
	}
	slices.SortStableFunc(all, func(a, b prunedRelease) int {
		if a.ID != b.ID {
			return strings.Compare(a.ID, b.ID)
		}
		return artifact.CompareVersions(a.Version, b.Version)
	})
	return all, nil
}

// obsolete returns the releases that nobody needs and than which another of their app
// is higher, that is installed where any is. It says why the others stay.
func obsolete(all []prunedRelease) (remove []digest.Digest) {
	last, runs := map[string]string{}, map[string]string{} // versions by id
	for _, r := range all {
		last[r.ID] = r.Version
		if slices.ContainsFunc(r.Needed, func(p site.Pin) bool { return p.Current }) {
			runs[r.ID] = r.Version
		}
	}
	for i, r := range all {
		switch {
		case len(r.Needed) > 0:
		case r.Version == last[r.ID]:
			all[i].Reason = "the highest version"
		case runs[r.ID] != "" && artifact.CompareVersions(r.Version, runs[r.ID]) > 0:
			all[i].Reason = "higher than what is installed"
		default:
			remove = append(remove, r.Root)
		}
	}
	return remove
}

// namedReleases returns the releases that refs name. It fails for one that an instance
// needs.
func (a *app) namedReleases(ctx context.Context, refs []string, all []prunedRelease) (remove []digest.Digest, err error) {
	for _, ref := range refs {
		loc, err := location(ref)
		if err != nil || loc.Place != artifact.PlaceLibrary {
			return nil, withHint(usagef("want an app of the library, as shop:1.0.0, got %q", ref), "see what it has: sealift list")
		}
		found, err := a.find(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			i := slices.IndexFunc(all, func(r prunedRelease) bool { return r.Root == f.Descriptor.Digest })
			if i < 0 {
				continue // cannot be: it was found a moment ago
			}
			if r := all[i]; len(r.Needed) > 0 {
				return nil, withHint(fmt.Errorf("%w: %s %s stays, for %s", errRefused, r.ID, r.Version, neededText(r.Needed)),
					"keep fewer with --keep; what runs stays until it is upgraded or uninstalled")
			}
			remove = append(remove, f.Descriptor.Digest)
		}
	}
	return remove, nil
}

func neededText(pins []site.Pin) string {
	words := make([]string, len(pins))
	for i, p := range pins {
		words[i] = fmt.Sprintf("%s can go back to it (revision %d)", p.Instance, p.Revision)
		if p.Current {
			words[i] = p.Instance + " runs it"
		}
	}
	return strings.Join(words, ", ")
}

func (p pruned) text(w io.Writer) {
	verb, freed := "removed", "freed"
	if p.DryRun {
		verb, freed = "would remove", "would free"
	}
	for _, r := range p.Removed {
		fmt.Fprintf(w, "%s %s %s\n", verb, r.ID, r.Version)
	}
	for _, r := range p.Kept {
		reason := r.Reason
		if len(r.Needed) > 0 {
			reason = neededText(r.Needed)
		}
		fmt.Fprintf(w, "%s\n", strings.TrimSuffix(fmt.Sprintf("keeps %s %s: %s", r.ID, r.Version, reason), ": "))
	}
	fmt.Fprintf(w, "%s %s in %s\n", freed, ui.Bytes(p.Bytes), count(p.Blobs, "blob"))
}
