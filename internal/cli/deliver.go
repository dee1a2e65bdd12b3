package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/registry"
	"github.com/sealift/sealift/signer"
)

// deliveryFlags are what install and upgrade share.
type deliveryFlags struct {
	keys      []string
	version   string
	set       []string
	values    string
	registry  string
	noImport  bool
	downgrade bool
	yes       bool
	dryRun    bool
}

// delivering is a verified release on its way to being installed.
type delivering struct {
	*app
	flags   deliveryFlags
	release *delivery.Release
	site.Delivery
	// pull is the repository that the engine pulls from.
	pull string
	// first is the key that is to be trusted from now on, nil for none.
	first *firstTrust
	// named says that somebody chose this version of the library.
	named bool
	// inLibrary says that its images are served from there.
	inLibrary bool
	// home is where the library is, and in is the way into it, nil for what does not
	// go there or is there.
	home *site.Home
	in   *importing
	// carried says what goes into the library.
	carried mirrored
}

// deliver verifies the release at ref and has use install it. What is on media comes
// into the library first; what could not be accepted is on record.
func (a *app) deliver(ctx context.Context, ref string, f deliveryFlags, use func(*delivering) error) error {
	found, err := a.choose(ctx, ref, f.version)
	if errors.Is(err, delivery.ErrMisnamed) || errors.Is(err, artifact.ErrMalformed) {
		return a.recordRefusal(ctx, found, f, err)
	} else if err != nil {
		return err
	}
	r, first, err := a.verifyForSite(ctx, found, f.keys)
	if err != nil {
		return a.recordRefusal(ctx, found, f, err)
	}
	for _, key := range r.Evidence.Keys() {
		a.out.Message("%s %s is signed by key %s", r.App.Template.ID, r.App.Template.Version, key)
	}
	for _, c := range r.Evidence.Certificates() {
		a.out.Message("%s %s is signed by %s", r.App.Template.ID, r.App.Template.Version, certificateText(c))
	}
	d := &delivering{app: a, flags: f, release: r, first: first}
	if loc, err := location(ref); err == nil {
		d.inLibrary = loc.Place == artifact.PlaceLibrary
		d.named = d.inLibrary && (loc.Reference() != "" || f.version != "")
	}
	if d.home, err = a.openState(); err != nil {
		return err
	}
	if err := d.describe(); err != nil {
		return err
	}
	if err := d.prepare(ctx); err != nil {
		return a.recordRefusal(ctx, found, f, err)
	}
	err = use(d)
	if errors.Is(err, site.ErrRefused) {
		return a.recordRefusal(ctx, found, f, err)
	}
	return err
}

// describe says what the site is to know of the release.
func (d *delivering) describe() error {
	r := d.release
	proof, err := json.Marshal(r.Evidence)
	if err != nil {
		return err
	}
	d.Delivery = site.Delivery{Release: r.Release, Repository: r.Repository, Images: map[string]string{}, Evidence: proof, Signers: r.Evidence.Signers(),
		Library: d.named}
	if r.Evidence.Decision != nil {
		d.Policy = r.Evidence.Decision.Policy
	}
	from := r.Found
	if from.Media != nil && !d.flags.noImport {
		from.Repository = delivery.FullName(from.Repository) // as it is in the library
	}
	d.pull = delivery.ImageRepository(from, d.flags.registry)
	for key, image := range r.Images {
		d.Images[key] = d.pull + "@" + image.Digest.String()
	}
	return nil
}

// prepare looks whether all that this host needs is there: all of it is read where it is
// used in place, and compared with the library where it goes there.
func (d *delivering) prepare(ctx context.Context) error {
	if d.release.Media == nil {
		return nil // an engine verifies what it pulls from a registry
	}
	runs, err := d.enginePlatform(ctx)
	if err != nil {
		return err
	}
	platforms := delivery.HostPlatforms(d.release.App.Template, runs)
	if d.inLibrary || d.flags.noImport {
		return d.verifyBytes(ctx, d.release, platforms)
	}
	return d.planImport(ctx, platforms)
}

// planImport plans the way into the library, of what this host runs.
func (d *delivering) planImport(ctx context.Context, platforms []ocispec.Platform) error {
	f := d.release.Found
	override, _ := d.home.Admit(d.Delivery, d.flags.downgrade) // refused, with more to say, by the plan of the change
	d.in = &importing{app: d.app, home: d.home, arrivals: []site.Arrival{{Delivery: d.Delivery, Override: override}}, evidence: []*signer.Evidence{d.release.Evidence}}
	var err error
	if d.in.copy, err = d.in.plan([]delivery.Found{f}); err != nil {
		return err
	}
	d.in.copy.items[0].Platforms = platforms
	if _, err := d.in.keepNames(ctx); err != nil {
		return err
	}
	dst, err := mirror.Peek(d.home.LibraryDir())
	if err != nil {
		return fmt.Errorf("library: %w", err)
	}
	plan, err := d.in.copy.plan(ctx, dst, mirror.PlanOptions{Progress: d.out.Progress("checking")})
	var unread *mirror.CopyError
	switch {
	case errors.Is(err, errdef.ErrNotFound) && errors.As(err, &unread): // a manifest
		absent := []ocispec.Descriptor{unread.Desc}
		return lacking(d.release, platforms, absent, &mirror.DamageError{Missing: absent})
	case err != nil:
		return err
	}
	if absent := plan.Absent(); len(absent) > 0 {
		return lacking(d.release, platforms, absent, &mirror.DamageError{Missing: absent})
	}
	if err := d.in.copy.room(plan, d.in.copy.to); err != nil {
		return err
	}
	d.carried = newMirrored(plan, d.home.LibraryDir())
	if d.carried.Copied > 0 {
		return nil
	}
	return d.fromLibrary(ctx, platforms)
}

// fromLibrary takes the release from the library, where it is there under the name that
// it has on the media.
func (d *delivering) fromLibrary(ctx context.Context, platforms []ocispec.Platform) error {
	f := d.release.Found
	held, err := delivery.FindMedia(ctx, artifact.Location{Place: artifact.PlaceMedia, Path: d.home.LibraryDir(), Repository: delivery.FullName(f.Repository), Digest: f.Descriptor.Digest})
	if errors.Is(err, errdef.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || err == nil && held[0].Damage != nil {
		return nil // the import names it, or finds out
	} else if err != nil {
		return err
	}
	there := *d.release
	there.Found = held[0]
	err = d.verifyBytes(ctx, &there, platforms)
	if isDamage(err) {
		d.out.Warn("%v; taking it from %s again", err, typed(f.Media))
		return nil
	} else if err != nil {
		return err
	}
	d.in, d.inLibrary, d.release = nil, true, &there
	return nil
}

// bring takes the release into the library, where it goes there, and makes sure that a
// registry answers for its images. The registry stops when stop is called: what the
// engine pulled it keeps.
func (d *delivering) bring(ctx context.Context) (stop func() error, err error) {
	r := d.release
	if r.Media == nil {
		return func() error { return nil }, nil
	}
	if d.in != nil {
		if _, err := d.in.bring(ctx); err != nil {
			return nil, err
		}
		d.inLibrary = true
	}
	catalog := delivery.Catalog(r.Media)
	if d.inLibrary {
		catalog = delivery.LibraryCatalog(d.home.LibraryDir(), slog.New(d.out.Handler()))
	}
	return d.answer(ctx, d.flags.registry, d.pull, r.Found.Descriptor.Digest, catalog)
}

// act shows a plan and, once it is agreed to, brings what it needs and carries it out.
// Again makes the plan once more: a person takes time to agree, and what the site accepts
// may be something else by then.
func (d *delivering) act(ctx context.Context, p *site.Plan, again, change func() error) error {
	return d.planAndAct(ctx, p, d, d.flags, func() (err error) {
		if p.Unchanged {
			return change()
		}
		if _, _, err := d.verifyForSite(ctx, d.release.Found, d.flags.keys); err != nil {
			return d.recordRefusal(ctx, d.release.Found, d.flags, err)
		}
		if err := again(); err != nil {
			return err
		}
		stop, err := d.bring(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		return change()
	})
}

// explain says what comes with a change.
func (d *delivering) explain(w io.Writer) {
	if d.in != nil {
		fmt.Fprintf(w, "  library   %s of %s is copied there\n", ui.Bytes(d.carried.CopiedBytes), ui.Bytes(d.carried.Bytes))
	}
	if d.first != nil {
		fmt.Fprintln(w, d.first.text())
	}
}

// answer is [delivery.Finder.Answer] at the registry of this host.
func (a *app) answer(ctx context.Context, address, repository string, root digest.Digest, c registry.Catalog) (stop func() error, err error) {
	stop, err = a.finder().Answer(ctx, address, repository, root, c, slog.New(a.out.Handler()))
	if err == nil {
		return stop, nil
	}
	return nil, withHint(err, "if another sealift is installing, wait for it; else stop what answers there, or choose --registry 127.0.0.1:PORT")
}

// choose finds the release to install at ref.
func (a *app) choose(ctx context.Context, ref, version string) (delivery.Found, error) {
	list, err := a.find(ctx, ref)
	if err != nil {
		return delivery.Found{}, err
	}
	found, err := delivery.Choose(ctx, list, version)
	var several *delivery.SeveralError
	var other *delivery.VersionError
	switch {
	case errors.As(err, &several):
		return found, nameOne(ref, several)
	case errors.As(err, &other):
		return found, withHint(fmt.Errorf("%s: %w", ref, err), "install one of these: --version %s", other.Have[0])
	case errors.Is(err, artifact.ErrNotRelease):
		return found, withHint(fmt.Errorf("%s: %w", ref, err), "see what is there: sealift inspect %s", ref)
	}
	return found, err
}

// verifyBytes reads all of a release on media that is for the engine, before
// anything is made of it: an engine that pulls a damaged layer tries again and again
// and cannot say why. What media says of itself is not signed, so it says nothing
// about what has to be there; it only explains what is not. What comes from a
// registry the engine verifies as it pulls.
func (a *app) verifyBytes(ctx context.Context, r *delivery.Release, platforms []ocispec.Platform) error {
	sum, err := delivery.VerifyBytes(ctx, r.Found, mirror.VerifyOptions{Platforms: platforms, Progress: a.out.Progress("verifying")})
	var damage *mirror.DamageError
	switch {
	case errors.As(err, &damage) && len(damage.Corrupt)+len(damage.Unreadable) == 0:
		return lacking(r, platforms, damage.Missing, err)
	case err != nil:
		return err
	}
	a.out.Message("%d blobs, %s, all good", sum.Manifests+sum.Blobs, ui.Bytes(sum.Bytes))
	return nil
}

// lacking says where the rest of a release is that media lacks, when its label tells;
// else it is missing, which is damage.
func lacking(r *delivery.Release, platforms []ocispec.Platform, lacks []ocispec.Descriptor, damage error) error {
	carried := delivery.CarriedOf(r.Found)
	reason := carried.Explain(lacks, platforms)
	if unread := labelErrors(r.Media); reason == "" && len(unread) > 0 {
		return unexplained(damage, unread, true)
	} else if reason == "" {
		return damage
	}
	err := fmt.Errorf("%s: not on this media: %s, %s: %w", r.Name, count(len(lacks), "blob"), ui.Value(reason), errdef.ErrNotFound)
	if carried.Set == nil && len(carried.Base) == 0 {
		return withHint(err, "bring media that is made for it: sealift mirror REF DISK --platform %s", mirror.FormatPlatform(platforms[0]))
	}
	return withHint(err, "bring the rest with it: sealift import %s and MEDIA that has it, then install by the app's name", typed(r.Media))
}

// planAndAct shows a plan and, once it is agreed to, acts; d is what is delivered by it,
// nil for nothing.
func (a *app) planAndAct(ctx context.Context, p *site.Plan, d *delivering, f deliveryFlags, act func() error) error {
	explain := func(w io.Writer) {
		explainPlan(w, p)
		if d != nil {
			d.explain(w)
		}
	}
	if f.dryRun {
		return a.out.Result(newDryRun(p, d), explain)
	}
	agreed := func() error {
		if d != nil {
			if err := a.remember(ctx, d.first); err != nil {
				return err
			}
		}
		return act()
	}
	if f.yes && a.format == string(ui.JSON) {
		return agreed()
	} else if p.Unchanged {
		return act()
	}
	var b strings.Builder
	explain(&b)
	for line := range strings.Lines(b.String()) {
		if f.yes {
			a.out.Message("%s", strings.TrimRight(line, "\n"))
		} else {
			a.out.Question("%s", strings.TrimRight(line, "\n")) // nobody agrees to what is not shown
		}
	}
	if err := a.confirm(ctx, f.yes, "Go on?"); err != nil {
		return err
	}
	return agreed()
}

// dryRun is the result of a dry run.
type dryRun struct {
	Type string `json:"type"`
	*site.Plan
	// Trusts is the key that would be trusted from now on.
	Trusts *firstTrust `json:"trusts,omitempty"`
	// Import is what would be copied into the library.
	Import *dryRunImport `json:"import,omitempty"`
}

type dryRunImport struct {
	Blobs       int   `json:"blobs"`
	Bytes       int64 `json:"bytes"`
	Copied      int   `json:"copied"`
	CopiedBytes int64 `json:"copiedBytes"`
}

func newDryRun(p *site.Plan, d *delivering) dryRun {
	doc := dryRun{Type: "plan", Plan: p}
	if d == nil {
		return doc
	}
	doc.Trusts = d.first
	if d.in != nil {
		doc.Import = &dryRunImport{d.carried.Blobs, d.carried.Bytes, d.carried.Copied, d.carried.CopiedBytes}
	}
	return doc
}
