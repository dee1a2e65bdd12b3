package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

type importFlags struct {
	keys         []string
	platforms    []string
	downgrade    bool
	noSpaceCheck bool
	yes          bool
	dryRun       bool
}

func newImport(a *app) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import MEDIA…",
		Short: "Verify releases and take them into the site's library",
		Long: `import takes the releases on media into the library of the site, layout/ in its
home: an ordinary OCI image layout, from which install and upgrade work by the app's
name, and serve answers without the media.

Every release must be signed as the site's policy wants it (see sealift policy
--help), or by the key given, which is then trusted for its app once you agree. One
that is refused keeps all others out too: name those that are wanted, as
/media/usb//HOST/REPO:VERSION. Versions older than the highest that was accepted are
left out, unless --allow-downgrade, which is recorded. What is no release is left out.

Bytes are compared with their digests as they are copied, and nothing is visible in
the library before all of it is there. What the library has of it is read, and copied
again only where it is damaged. Of
several MEDIA, as the volumes of a set, or of a delta, all that is not in the library
must be there; on a terminal the next disc is asked for. What was interrupted is
continued by the same command.`,
		Example: "  sealift import /media/usb\n" +
			"  sealift import /media/usb --key vendor.pub          # for the first time: shows the key, and asks\n" +
			"  sealift import /media/usb//registry.example.com/shop:1.1.0",
		Args: args(1, -1, "one or more media"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importAll(cmd.Context(), args, f)
		},
	}
	keyFlag(cmd, &f.keys)
	platformFlag(cmd, &f.platforms, "take only images for `OS/ARCH` (may be repeated; default what the media carries)")
	flags := cmd.Flags()
	flags.BoolVar(&f.downgrade, "allow-downgrade", false, "take versions lower than one accepted before, or another digest of one")
	flags.BoolVar(&f.noSpaceCheck, "no-space-check", false, "begin though the disk says that it has no room, as one that compresses may")
	flags.BoolVarP(&f.yes, "yes", "y", false, "agree to trust the key without being asked")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be taken, write nothing")
	return cmd
}

// importing is one attempt to bring releases into the library.
type importing struct {
	*app
	refs  []string
	flags importFlags
	home  *site.Home
	copy  *copying
	// arrivals are what comes in, each release once, firsts the keys that are to be
	// trusted for it, leftOut what does not come in.
	arrivals []site.Arrival
	firsts   []*firstTrust
	leftOut  []leftOut
	// evidence is of each name that comes in.
	evidence []*signer.Evidence
}

// Why an import does not take something.
const (
	leftOlder     = "older"
	leftNoRelease = "noRelease"
	leftPolicy    = "policy"
)

// leftOut is what an import does not take.
type leftOut struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// Kind is older, noRelease or policy, and Reason says it for people.
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

func (a *app) importAll(ctx context.Context, refs []string, f importFlags) error {
	for _, ref := range refs {
		if loc, err := artifact.ParseLocation(ref); err == nil && loc.Place == artifact.PlaceLibrary {
			return withHint(usagef("import wants media, and %q would be a name in the library", ref), "write ./%s for a directory", ref)
		}
	}
	return a.eachDisc(ctx, refs[0], func() (*copying, error) {
		in, err := a.newImport(ctx, refs, f)
		if err != nil {
			return nil, err
		}
		return in.copy, in.run(ctx)
	})
}

// newImport finds the releases and verifies them.
func (a *app) newImport(ctx context.Context, refs []string, f importFlags) (*importing, error) {
	home, err := a.openState()
	if err != nil {
		return nil, err
	}
	found, err := a.findAll(ctx, refs)
	if err != nil {
		return nil, err
	}
	return a.prepareImport(ctx, home, refs, found, f)
}

// prepareImport verifies what was found, and plans the copy of what is accepted.
func (a *app) prepareImport(ctx context.Context, home *site.Home, refs []string, found []delivery.Found, f importFlags) (*importing, error) {
	in := &importing{app: a, refs: refs, flags: f, home: home}
	if err := a.warnForks(ctx, found); err != nil {
		return nil, err
	}
	held, err := a.heldRoots(ctx, home)
	if err != nil {
		return nil, err
	}
	var accepted []delivery.Found
	var refused []error
	for _, one := range found {
		ok, err := in.judge(ctx, one, held)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			refused = append(refused, a.recordRefusal(ctx, one, deliveryFlags{dryRun: f.dryRun}, err))
		} else if ok {
			accepted = append(accepted, one)
		}
	}
	switch {
	case len(refused) > 0 && len(accepted) > 0:
		return nil, withHint(errors.Join(refused...), "nothing was imported; to take only what is accepted, name it: sealift import %s", in.named(accepted))
	case len(refused) > 0:
		return nil, errors.Join(refused...)
	case len(accepted) == 0:
		return nil, in.nothing()
	}
	if err := in.oneTrust(); err != nil {
		return nil, err
	}
	if in.copy, err = in.plan(accepted); err != nil {
		return nil, err
	}
	if f, err := in.keepNames(ctx); err != nil {
		return nil, a.recordRefusal(ctx, f, deliveryFlags{dryRun: in.flags.dryRun}, err)
	}
	return in, nil
}

// oneTrust fails where a key would be trusted for several apps at once: whoever made the
// media chose which are on it.
func (in *importing) oneTrust() error {
	var ids []string
	for _, t := range in.firsts {
		if !slices.Contains(ids, t.ID) {
			ids = append(ids, t.ID)
		}
	}
	if len(ids) < 2 {
		return nil
	}
	return withHint(usagef("the key would be trusted for %d apps at once: %s", len(ids), strings.Join(ids, ", ")),
		"say for which: sealift policy add --key %s --for %s; or import one of them, by its name", shellWord(in.flags.keys[0]), ids[0])
}

// keepNames fails where a name in the library would go to another release, which it
// returns: names come from the media, and what is there under one would be gone.
func (in *importing) keepNames(ctx context.Context) (delivery.Found, error) {
	names := make([]string, len(in.copy.items))
	for i, item := range in.copy.items {
		names[i] = item.Name
	}
	standing, err := in.finder().Standing(ctx, in.copy.to, names)
	if err != nil {
		return delivery.Found{}, err
	}
	for i, was := range standing {
		f := in.copy.found[i]
		if was == "" || was == f.Descriptor.Digest || in.overridden(f.Descriptor.Digest) {
			continue // the copy warns
		}
		return f, withHint(fmt.Errorf("%w: %s is another release in the library, %s: a name on media is anybody's", errRefused, names[i], was),
			"see what the library has with sealift list; ask who made this media, or remove the other release with sealift prune APP:VERSION")
	}
	return delivery.Found{}, nil
}

// overridden reports whether a person insisted on a release.
func (in *importing) overridden(root digest.Digest) bool {
	return slices.ContainsFunc(in.arrivals, func(a site.Arrival) bool { return a.Release.Root.Digest == root && a.Override != "" })
}

// heldRoots are the releases in the library, by digest.
func (a *app) heldRoots(ctx context.Context, home *site.Home) (map[digest.Digest]bool, error) {
	list, err := delivery.FindLibrary(ctx, home.LibraryDir(), artifact.Location{Place: artifact.PlaceLibrary})
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("library: %w", err)
	}
	held := map[digest.Digest]bool{}
	for _, f := range list {
		held[f.Descriptor.Digest] = held[f.Descriptor.Digest] || f.Damage == nil
	}
	return held, nil
}

// judge verifies one release and says whether it comes in. What comes in under a second
// name is one arrival.
func (in *importing) judge(ctx context.Context, f delivery.Found, held map[digest.Digest]bool) (bool, error) {
	if f.Damage != nil {
		return false, f.Damage
	}
	if _, _, err := delivery.Claim(ctx, f); errors.Is(err, artifact.ErrNotRelease) {
		if _, err := artifact.ReadPolicyUpdate(ctx, f.Store, f.Descriptor); err == nil {
			in.leave(f, leftPolicy, "it is a policy, which sealift policy update takes")
		} else {
			in.leave(f, leftNoRelease, "it is no release")
		}
		return false, nil
	}
	r, first, err := in.verifyForSite(ctx, f, in.flags.keys)
	if err != nil {
		return false, err
	}
	arrival := site.Arrival{Delivery: site.Delivery{Release: r.Release, Repository: r.Repository, Signers: r.Evidence.Signers()}}
	if r.Evidence.Decision != nil {
		arrival.Policy = r.Evidence.Decision.Policy
	}
	if arrival.Evidence, err = json.Marshal(r.Evidence); err != nil {
		return false, err
	}
	root := f.Descriptor.Digest
	var refused *site.RefusedError
	arrival.Override, err = in.home.Admit(arrival.Delivery, in.flags.downgrade)
	switch {
	case errors.As(err, &refused) && refused.Reason == site.RefusedDowngrade && held[root]:
		// It is there already; nothing goes back by that.
	case errors.As(err, &refused) && refused.Reason == site.RefusedDowngrade:
		in.leave(f, leftOlder, refused.Message)
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", f.Name, err)
	}
	for _, other := range in.arrivals {
		if o, t := other.Release, r.Release; o.App.Template.ID == t.App.Template.ID && o.App.Template.Version == t.App.Template.Version && o.Root.Digest != root {
			return false, fmt.Errorf("%w: %s and another one on this media are both %s %s: a version must never be used twice", errRefused, f.Name, t.App.Template.ID, t.App.Template.Version)
		}
	}
	in.evidence = append(in.evidence, r.Evidence)
	if slices.ContainsFunc(in.arrivals, func(a site.Arrival) bool { return a.Release.Root.Digest == root }) {
		return true, nil
	}
	in.arrivals = append(in.arrivals, arrival)
	if first != nil && !slices.ContainsFunc(in.firsts, func(t *firstTrust) bool { return t.ID == first.ID && t.Key == first.Key }) {
		in.firsts = append(in.firsts, first)
	}
	return true, nil
}

func (in *importing) leave(f delivery.Found, kind, reason string) {
	in.leftOut = append(in.leftOut, leftOut{f.Name, f.Descriptor.Digest.String(), kind, reason})
}

// named writes artifacts on the media as a command line takes them.
func (in *importing) named(list []delivery.Found) string {
	var words []string
	for _, f := range list {
		loc, err := artifact.ParseLocation(f.Name)
		if err != nil || f.Media == nil {
			continue
		}
		loc.Place, loc.Path = artifact.PlaceMedia, f.Media.Dir()
		words = append(words, shellWord(loc.String()))
	}
	return strings.Join(words, " ")
}

// nothing says why there is nothing to import.
func (in *importing) nothing() error {
	var errs []error
	older := false
	for _, l := range in.leftOut {
		older = older || l.Kind == leftOlder
		errs = append(errs, fmt.Errorf("%s: %s", l.Name, l.Reason))
	}
	err := fmt.Errorf("%s: nothing to import: %w", strings.Join(in.refs, " "), errors.Join(errs...))
	if older {
		return withHint(fmt.Errorf("%w: %w", errRefused, err), "bring a newer release; or accept the older one with --allow-downgrade, which is recorded")
	}
	return withHint(fmt.Errorf("%w: %w", artifact.ErrNotRelease, err), "see what is there: sealift inspect %s", in.refs[0])
}

// plan makes the copy into the library of what was accepted.
func (in *importing) plan(accepted []delivery.Found) (*copying, error) {
	platforms, err := parsePlatforms(in.flags.platforms)
	if err != nil {
		return nil, err
	}
	c := &copying{app: in.app, found: accepted, evidence: in.evidence, stays: true,
		flags: mirrorFlags{dryRun: in.flags.dryRun, noSpaceCheck: in.flags.noSpaceCheck},
		req:   delivery.Request{Refs: in.refs, Platforms: in.flags.platforms, Check: true}, // or what has decayed would count as there
		to:    artifact.Location{Place: artifact.PlaceMedia, Path: in.home.LibraryDir()}}
	for _, f := range accepted {
		c.carried = append(c.carried, delivery.CarriedOf(f))
	}
	if c.items, err = delivery.Items(accepted, c.to, platforms); err != nil {
		return nil, explainItems(err)
	}
	return c, nil
}

// run asks where a key is to be trusted, copies, and tells.
func (in *importing) run(ctx context.Context) error {
	if err := in.agree(ctx); err != nil {
		return err
	}
	result := imported{Type: "imported", DryRun: in.flags.dryRun, Trusts: in.firsts, LeftOut: in.leftOut}
	carried, err := in.bring(ctx)
	if err != nil {
		return err
	}
	result.add(in.arrivals, carried)
	for _, r := range result.Releases {
		if host := "linux/" + runtime.GOARCH; len(r.Platforms) > 0 && !slices.Contains(r.Platforms, host) {
			in.out.Warn("%s %s has nothing for %s, as this machine is: it is for %s only", r.ID, r.Version, host, strings.Join(r.Platforms, ", "))
		}
	}
	return in.out.Result(result, result.text)
}

// agree has the person agree to trust the keys that were given.
func (in *importing) agree(ctx context.Context) error {
	if len(in.firsts) == 0 || in.flags.dryRun {
		return nil
	}
	for _, t := range in.firsts {
		if in.flags.yes {
			in.out.Message("%s", t.text())
		} else {
			in.out.Question("%s", t.text())
		}
	}
	if err := in.confirm(ctx, in.flags.yes, "Go on?"); err != nil {
		return err
	}
	for _, t := range in.firsts {
		if err := in.remember(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// bring copies what is accepted into the library, on record.
func (in *importing) bring(ctx context.Context) (carried mirrored, err error) {
	if in.flags.dryRun {
		return in.copy.carry(ctx, nil)
	}
	err = in.home.Import(ctx, in.arrivals, func(ctx context.Context) (err error) {
		carried, err = in.copy.carry(ctx, nil)
		if errors.As(err, new(*delivery.RestError)) {
			return &site.IncompleteError{Err: err}
		}
		return err
	})
	return carried, err
}

// imported is the result of import.
type imported struct {
	Type     string            `json:"type"`
	Releases []importedRelease `json:"releases"`
	// Blobs and Bytes are all that belongs to them, Copied what the library lacked.
	Blobs       int   `json:"blobs"`
	Bytes       int64 `json:"bytes"`
	Copied      int   `json:"copied"`
	CopiedBytes int64 `json:"copiedBytes"`
	// Damaged are those of the copied that were damaged there.
	Damaged int           `json:"damaged,omitempty"`
	LeftOut []leftOut     `json:"leftOut,omitempty"`
	Trusts  []*firstTrust `json:"trusts,omitempty"`
	DryRun  bool          `json:"dryRun,omitempty"`
}

type importedRelease struct {
	ID      string   `json:"id"`
	Version string   `json:"version"`
	Digest  string   `json:"digest"`
	Signers []string `json:"signers"`
	// Policy is the version of the policy that accepted it, 0 where a key did.
	Policy   int    `json:"policy,omitempty"`
	Override string `json:"override,omitempty"`
	// Platforms are those that came along, none for all.
	Platforms []string `json:"platforms,omitempty"`
}

func (i *imported) add(arrivals []site.Arrival, carried mirrored) {
	platforms := map[string][]string{}
	for _, r := range carried.Roots {
		platforms[r.Digest] = r.Platforms
	}
	for _, a := range arrivals {
		t, root := a.Release.App.Template, a.Release.Root.Digest.String()
		i.Releases = append(i.Releases, importedRelease{t.ID, t.Version, root, a.Signers, a.Policy, a.Override, platforms[root]})
	}
	slices.SortStableFunc(i.Releases, func(a, b importedRelease) int {
		if a.ID != b.ID {
			return strings.Compare(a.ID, b.ID)
		}
		return artifact.CompareVersions(a.Version, b.Version)
	})
	i.Blobs, i.Bytes, i.Copied, i.CopiedBytes, i.Damaged = carried.Blobs, carried.Bytes, carried.Copied, carried.CopiedBytes, carried.Damaged
}

func (i imported) text(w io.Writer) {
	verb := "imported"
	if i.DryRun {
		verb = "would import"
		for _, t := range i.Trusts {
			fmt.Fprintln(w, t.text())
		}
	}
	for _, r := range i.Releases {
		fmt.Fprintf(w, "%s %s %s\n  digest %s\n", verb, r.ID, r.Version, r.Digest)
		for _, name := range r.Signers {
			fmt.Fprintf(w, "  signed by %s\n", signerText(name))
		}
		if len(r.Platforms) > 0 {
			fmt.Fprintf(w, "  for %s only\n", strings.Join(r.Platforms, ", "))
		}
		if r.Override != "" {
			fmt.Fprintf(w, "  although it is older, or another of its version: --%s, which is on record\n", r.Override)
		}
	}
	for _, l := range i.LeftOut {
		fmt.Fprintf(w, "left out %s: %s\n", l.Name, l.Reason)
	}
	copied := "copied"
	if i.DryRun {
		copied = "would copy"
	}
	fmt.Fprintf(w, "%s %s (%d of %d blobs), %s in all, into the library\n", copied, ui.Bytes(i.CopiedBytes), i.Copied, i.Blobs, ui.Bytes(i.Bytes))
	if i.Damaged > 0 {
		fmt.Fprintf(w, "%s of it replaced what was damaged there\n", count(i.Damaged, "blob"))
	}
	if !i.DryRun {
		fmt.Fprintf(w, "install it: sealift install %s\n", path.Base(i.Releases[0].ID))
	}
}
