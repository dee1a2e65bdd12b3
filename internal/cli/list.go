package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

func newList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [APP]",
		Short: "Show what the site's library holds",
		Long: `list shows the releases that were imported, with who signed them as it was verified
then, what they take, and where they are installed. What several share takes its room
once. APP is an id, as example.com/shop, or the last word of one.

Content is looked at and not read: sealift verify APP:VERSION does that.`,
		Example:           "  sealift list\n  sealift list shop -o json",
		Args:              args(0, 1, "at most one app"),
		ValidArgsFunction: a.completeApps,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.list(cmd.Context(), strings.Join(args, ""))
		},
	}
}

// listed is a release of the result of list.
type listed struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	// Bytes are all that belongs to it.
	Bytes int64 `json:"bytes"`
	// Platforms are those it was imported for, none for all.
	Platforms []string `json:"platforms,omitempty"`
	// Signers are the fingerprints of the keys that signed it and the names of who did
	// with a certificate, Policy is the version of the policy that accepted it, 0 where
	// a key did.
	Signers []string `json:"signers"`
	Policy  int      `json:"policy,omitempty"`
	// Installed are the instances that run it.
	Installed []string `json:"installed,omitempty"`
	// Lacks says what is not there, Damage why it cannot be read.
	Lacks  *lack  `json:"lacks,omitempty"`
	Damage string `json:"damage,omitempty"`

	names []string // that the policy has for those who signed
}

func (a *app) list(ctx context.Context, app string) error {
	loc := artifact.Location{Place: artifact.PlaceLibrary}
	if app != "" {
		var err error
		if loc, err = location(app); err != nil || loc.Place != artifact.PlaceLibrary {
			return withHint(usagef("want an app of the library, as shop or id:example.com/shop, got %q", app), "see what media holds: sealift inspect %s", app)
		}
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	found, err := delivery.FindLibrary(ctx, home.LibraryDir(), loc)
	switch {
	case errors.Is(err, delivery.ErrNoLibrary) && app == "":
		found = nil
	case errors.Is(err, delivery.ErrNoLibrary):
		return withHint(err, "take releases in: sealift import MEDIA")
	case err != nil:
		return err
	}
	list, err := listReleases(ctx, home, found)
	if err != nil {
		return err
	}
	doc := struct {
		Type     string   `json:"type"`
		Library  string   `json:"library"`
		Releases []listed `json:"releases"`
	}{"library", home.LibraryDir(), append([]listed{}, list...)}
	return a.out.Result(doc, func(w io.Writer) { listText(w, list) })
}

// listReleases describes what was found in the library, sorted by id, highest version
// first.
func listReleases(ctx context.Context, home *site.Home, found []delivery.Found) ([]listed, error) {
	running, err := home.Installed()
	if err != nil {
		return nil, err
	}
	var list []listed
	for _, f := range found {
		entry, err := describeRelease(ctx, home, f)
		if err != nil {
			return nil, err
		}
		for _, r := range running {
			if r.Root == f.Descriptor.Digest {
				entry.Installed = append(entry.Installed, r.Instance)
			}
		}
		list = append(list, entry)
	}
	slices.SortStableFunc(list, func(a, b listed) int {
		if a.ID != b.ID {
			return strings.Compare(a.ID, b.ID)
		}
		return artifact.CompareVersions(b.Version, a.Version)
	})
	return list, nil
}

func describeRelease(ctx context.Context, home *site.Home, f delivery.Found) (listed, error) {
	entry := listed{Name: f.Name, Digest: f.Descriptor.Digest.String(), Signers: []string{}}
	if f.Damage != nil {
		entry.ID, entry.Version, entry.Damage = delivery.FullName(f.Repository), f.Tag, f.Damage.Error()
		return entry, nil
	}
	var err error
	if entry.ID, entry.Version, err = delivery.Claim(ctx, f); err != nil {
		return entry, err
	}
	holding := delivery.HoldingOf(ctx, f)
	if ctx.Err() != nil {
		return entry, context.Cause(ctx)
	}
	entry.Bytes = holding.All.Bytes
	if holding.Blobs > 0 || holding.Err != nil {
		entry.Lacks = newLack(holding.Lack)
	}
	for _, p := range delivery.CarriedOf(f).Platforms {
		entry.Platforms = append(entry.Platforms, mirror.FormatPlatform(p))
	}
	evidence, err := keptEvidence(home, f)
	if err != nil || evidence == nil {
		return entry, err // where there is none something else than import has put it there
	}
	entry.Signers = append(entry.Signers, evidence.Signers()...)
	if d := evidence.Decision; d != nil {
		entry.Policy, entry.names = d.Policy, d.Signers()
	}
	return entry, nil
}

// keptEvidence is what was found when a release of the library was imported, nil where
// nothing is known of that.
func keptEvidence(home *site.Home, f delivery.Found) (*signer.Evidence, error) {
	raw, err := home.Evidence(f.Descriptor.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	evidence := new(signer.Evidence)
	if err == nil {
		err = json.Unmarshal(raw, evidence)
	}
	if err != nil {
		return nil, withHint(fmt.Errorf("evidence of %s: %w", f.Name, err), "import the release again, which verifies it and writes that down anew: sealift import MEDIA")
	}
	return evidence, nil
}

func listText(w io.Writer, list []listed) {
	if len(list) == 0 {
		fmt.Fprintln(w, "the library is empty; take releases in: sealift import MEDIA")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range list {
		signed := "not verified here"
		switch {
		case len(r.names) > 0:
			signed = "signed by " + ui.Value(strings.Join(r.names, ", "))
		case len(r.Signers) > 0:
			signed = "signed by " + ui.Value(shortDigests(r.Signers))
		}
		state := "not installed"
		switch {
		case r.Damage != "":
			state, signed = "DAMAGED: "+ui.Line(r.Damage), ""
		case r.Lacks != nil:
			state = "lacks " + r.Lacks.text()
		case len(r.Installed) > 0:
			state = "installed as " + strings.Join(r.Installed, ", ")
		}
		if len(r.Platforms) > 0 {
			state += ", for " + strings.Join(r.Platforms, ", ") + " only"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.ID, r.Version, ui.Bytes(r.Bytes), signed, state)
	}
	_ = t.Flush() // writes to memory
}

// shortDigests leaves of fingerprints, among other names, what tells them from others.
func shortDigests(list []string) string {
	short := slices.Clone(list)
	for i, d := range list {
		if digest.Digest(d).Validate() == nil {
			short[i] = d[:len("sha256:")+12]
		}
	}
	return strings.Join(short, ", ")
}

// completeApps completes the ids of the library.
func (a *app) completeApps(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	home, err := a.openState()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	found, _ := delivery.FindLibrary(cmd.Context(), home.LibraryDir(), artifact.Location{Place: artifact.PlaceLibrary}) // a completion that fails says nothing
	var words []string
	for _, f := range found {
		id, _, err := delivery.Claim(cmd.Context(), f)
		if err != nil {
			continue
		}
		word := artifact.Location{Place: artifact.PlaceLibrary, Repository: id}.String()
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return words, cobra.ShellCompDirectiveDefault // or a path
}
