package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// homeDir returns the site's home: the flag, the environment, or the place the
// system keeps such things.
func (a *app) homeDir() (string, error) {
	if a.home != "" {
		return a.home, nil
	}
	if dir := a.Getenv("SEALIFT_HOME"); dir != "" {
		return dir, nil
	}
	if os.Geteuid() == 0 {
		return "/var/lib/sealift", nil
	}
	if dir := a.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "sealift"), nil
	}
	if dir := a.Getenv("HOME"); dir != "" {
		return filepath.Join(dir, ".local", "share", "sealift"), nil
	}
	return "", usagef("there is no home directory to keep the site's state in; pass --home DIR")
}

// openHome opens the site's home with the engine of this host.
func (a *app) openHome(ctx context.Context) (*site.Home, error) {
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	engine, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	probe := ""
	if engine.Info().Platform == ownPlatform {
		probe = staticSelf() // which runs in its containers
	}
	return site.Open(dir, site.Options{Target: engine, Probe: probe, Now: a.Now, Report: a.reportStep})
}

// ownPlatform is what this program runs on, as engines write it.
const ownPlatform = runtime.GOOS + "/" + runtime.GOARCH

// engine finds the engine of this host, and asks it once.
func (a *app) engine(ctx context.Context) (*compose.Engine, error) {
	if a.found == nil {
		engine, err := compose.Detect(ctx, compose.Options{Env: a.Environ})
		if err != nil {
			return nil, err
		}
		a.found = engine
	}
	return a.found, nil
}

// enginePlatform returns what the engine runs, which may be another machine's: one
// in a virtual machine, or behind DOCKER_HOST. Without an engine nothing is installed,
// and what is wrong with the media is told for Linux on this machine.
func (a *app) enginePlatform(ctx context.Context) (ocispec.Platform, error) {
	engine, err := a.engine(ctx)
	if errors.Is(err, target.ErrNoEngine) {
		return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	} else if err != nil {
		return ocispec.Platform{}, err
	}
	runs := engine.Info().Platform
	p, err := mirror.ParsePlatform(runs)
	if err != nil {
		return p, fmt.Errorf("the engine says that it runs %q: %w", runs, err)
	}
	if runs != ownPlatform {
		a.out.Message("the engine runs %s", runs)
	}
	return p, nil
}

// reportStep tells the person of one step of a change.
func (a *app) reportStep(e target.Event) {
	text := string(e.Type)
	if e.Component != "" {
		text = e.Component + ": " + text
	}
	if e.Message != "" {
		text += " " + shortImage(e.Message)
	}
	a.out.Message("%s", text)
}

// deliveryFlags are what install and upgrade share.
type deliveryFlags struct {
	keys      []string
	version   string
	set       []string
	values    string
	registry  string
	downgrade bool
	yes       bool
	dryRun    bool
}

// deliver verifies the release at ref, makes sure that a registry answers for its
// images, and calls use. The registry stops when use returns: what the engine
// pulled it keeps.
func (a *app) deliver(ctx context.Context, ref string, f deliveryFlags, use func(site.Delivery, *firstTrust) error) (err error) {
	found, err := a.choose(ctx, ref, f.version)
	if err != nil {
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
	if err := a.verifyBytes(ctx, r); err != nil {
		return a.recordRefusal(ctx, found, f, err)
	}
	proof, err := json.Marshal(r.Evidence)
	if err != nil {
		return err
	}
	repository, stop, err := a.finder().Images(ctx, r, f.registry, slog.New(a.out.Handler()))
	if err != nil {
		return withHint(err, "if another sealift is installing, wait for it; else stop what answers there, or choose --registry 127.0.0.1:PORT")
	}
	defer func() { err = errors.Join(err, stop()) }()
	d := site.Delivery{Release: r.Release, Repository: r.Repository, Images: map[string]string{}, Evidence: proof, Signers: r.Evidence.Signers()}
	if r.Evidence.Decision != nil {
		d.Policy = r.Evidence.Decision.Policy
	}
	for key, image := range r.Images {
		d.Images[key] = repository + "@" + image.Digest.String()
	}
	err = use(d, first)
	if errors.Is(err, site.ErrRefused) {
		return a.recordRefusal(ctx, found, f, err)
	}
	return err
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
func (a *app) verifyBytes(ctx context.Context, r *delivery.Release) error {
	if r.Media == nil {
		return nil
	}
	runs, err := a.enginePlatform(ctx)
	if err != nil {
		return err
	}
	platforms := delivery.HostPlatforms(r.App.Template, runs)
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
	return withHint(err, "bring the rest onto one disk first: sealift mirror %s DISK", typed(r.Media))
}

// explainPlan shows what a change will do, before it is agreed to.
func explainPlan(w io.Writer, p *site.Plan) {
	verb := map[site.Action]string{site.ActionInstall: "install", site.ActionUpgrade: "upgrade to", site.ActionRollback: "roll back to", site.ActionUninstall: "uninstall"}[p.Action]
	from := ""
	if p.Before != nil && p.Action != site.ActionUninstall {
		from = " (now " + p.Before.Version + ")"
	}
	fmt.Fprintf(w, "%s %s %s as %s%s\n", verb, p.App.ID, p.App.Version, p.Instance, from)
	for _, c := range p.Changes {
		fmt.Fprintf(w, "  %-9s %s\n", c.Kind, c.Component)
	}
	for _, ad := range p.Addresses {
		fmt.Fprintf(w, "  port      %d/%s for %s\n", ad.HostPort, ad.Protocol, ad.Component)
	}
	for _, name := range sorted(p.Values) {
		fmt.Fprintf(w, "  value     %s = %s\n", name, ui.Line(artifact.Format(p.Values[name])))
	}
	for _, v := range p.Volumes {
		fmt.Fprintf(w, "  data      %s, kept whatever happens\n", v)
	}
	for _, v := range p.Deleted {
		fmt.Fprintf(w, "  DATA      %s is DELETED for ever\n", v)
	}
	losses := p.Losses
	if p.Action == site.ActionRollback {
		losses = nil // they were told when the revision was made
	}
	for _, l := range grouped(losses) {
		fmt.Fprintf(w, "  lost      %s\n", l)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "  note      %s\n", n)
	}
}

// grouped joins losses, FIELD: REASON, that have the same reason.
func grouped(losses []string) []string {
	fields := map[string][]string{}
	var reasons []string
	for _, l := range losses {
		field, reason, _ := strings.Cut(l, ": ")
		if fields[reason] == nil {
			reasons = append(reasons, reason)
		}
		fields[reason] = append(fields[reason], strings.TrimPrefix(field, "components."))
	}
	lines := make([]string, len(reasons))
	for i, reason := range reasons {
		lines[i] = strings.Join(fields[reason], ", ") + ": " + reason
	}
	return lines
}

// changed is the result of install, upgrade and rollback.
type changed struct {
	Type      string         `json:"type"`
	Unchanged bool           `json:"unchanged,omitempty"`
	Revision  *site.Revision `json:"revision"`
}

func (a *app) reportRevision(kind string, r *site.Revision) error {
	return a.out.Result(changed{kind, r.Unchanged, r}, func(w io.Writer) {
		verb := strings.ReplaceAll(kind, "rolledBack", "rolled back to")
		if r.Unchanged {
			verb = "already " + verb
		}
		fmt.Fprintf(w, "%s %s %s as %s (revision %d)\n", verb, r.App.ID, r.App.Version, r.Instance, r.Number)
		for _, ad := range r.Addresses {
			fmt.Fprintf(w, "  %s: %s\n", ad.Component, addressText(ad))
		}
	})
}

// addressText writes where a port is reached; what is called http is a page.
func addressText(ad target.Address) string {
	if strings.HasPrefix(ad.Port, "http") {
		return fmt.Sprintf("%s://127.0.0.1:%d/", ad.Port, ad.HostPort)
	}
	return fmt.Sprintf("127.0.0.1:%d (%s)", ad.HostPort, ad.Protocol)
}

// planAndAct shows a plan and, once it is agreed to, acts.
func (a *app) planAndAct(ctx context.Context, p *site.Plan, first *firstTrust, f deliveryFlags, act func() error) error {
	explain := func(w io.Writer) {
		explainPlan(w, p)
		if first != nil {
			fmt.Fprintf(w, "trusts the key %s for %s from now on\n", first.Key, first.ID)
		}
	}
	if f.dryRun {
		return a.out.Result(struct {
			Type string `json:"type"`
			*site.Plan
			Trusts *firstTrust `json:"trusts,omitempty"`
		}{"plan", p, first}, explain)
	}
	agreed := func() error {
		if err := a.remember(ctx, first); err != nil {
			return err
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

// showLogs shows the last lines of the component that kept a change from
// succeeding, where there are any.
func (a *app) showLogs(err error) error {
	var unhealthy *target.UnhealthyError
	if errors.As(err, &unhealthy) && len(unhealthy.LastLogs) > 0 {
		a.out.Warn("the last lines of %s:", unhealthy.Component)
		for _, line := range unhealthy.LastLogs {
			a.out.Warn("%s", line)
		}
	}
	return err
}

// siteExitCode maps the errors of what happens at a site; see exitCode.
func siteExitCode(err error) int {
	var refused *site.RefusedError
	switch {
	case errors.As(err, new(*site.ValuesError)), errors.As(err, &refused) && refused.Reason == site.RefusedName:
		return exitUsage
	case errors.Is(err, site.ErrNotFound), errors.Is(err, site.ErrNotInstalled), errors.Is(err, artifact.ErrNotRelease):
		return exitNotFound
	case errors.Is(err, site.ErrRefused):
		return exitRefused
	}
	return exitFailure
}

// siteHint advises on the errors of what happens at a site; see hint.
func siteHint(err error) string {
	var failed *site.FailedError
	var values *site.ValuesError
	var engine *target.NoEngineError
	var refused *site.RefusedError
	switch {
	case errors.As(err, &failed) && failed.Restored != nil:
		return "see how it is doing: sealift status " + failed.Revision.Instance
	case errors.As(err, &failed):
		return waysOn(failed.Revision.Instance, failed.Revision.Action, failed.Current)
	case errors.As(err, &refused):
		return refusedHint(refused)
	case errors.As(err, &values) && len(values.Findings) > 0:
		return "give values as --set NAME=VALUE; sealift inspect MEDIA shows what there is to choose"
	case errors.As(err, &engine) && engine.Silent != "":
		return "start the engine, as in: systemctl start docker; then run the same command again"
	case errors.Is(err, target.ErrNoEngine):
		return "install an engine with Compose, as in: apt install docker.io docker-compose; and start it"
	case errors.Is(err, site.ErrLocked):
		return "wait until the other command is done, then run this one again"
	case errors.As(err, new(*target.PortsError)):
		return "stop what uses the port, or choose another with --set"
	case errors.As(err, new(*target.PullError)):
		return "see that the media is plugged in and sound (sealift verify DIR), then run the same command again"
	case errors.Is(err, site.ErrNotInstalled), errors.Is(err, site.ErrNotFound):
		return "see what is installed: sealift status"
	}
	return ""
}

// refusedHint advises on what a site refuses.
func refusedHint(r *site.RefusedError) string {
	switch r.Reason {
	case site.RefusedInstalled:
		return fmt.Sprintf("bring it to this version: sealift upgrade %s MEDIA --key KEY; or install it once more with --name NAME", r.Instance)
	case site.RefusedDowngrade:
		return fmt.Sprintf("to go back to what ran here: sealift rollback %s; or accept the older release with --allow-downgrade, which is recorded", r.Instance)
	case site.RefusedVersionReused:
		return "ask the vendor which of the two is theirs; what was accepted is in trust.json of the site's home"
	case site.RefusedMoved:
		return fmt.Sprintf("see what was done: sealift history %s; then run the same command again", r.Instance)
	case site.RefusedRevision:
		return "see what there is to go back to: sealift history " + r.Instance
	}
	return ""
}

// waysOn names the commands that end a change which failed or was interrupted;
// current is what is recorded as installed, nil for nothing.
func waysOn(instance string, action site.Action, current *site.Revision) string {
	switch {
	case action == site.ActionUninstall:
		return "run it again: sealift uninstall " + instance
	case current == nil:
		return fmt.Sprintf("install it again: sealift install MEDIA --key KEY --name %s; or remove it: sealift uninstall %s", instance, instance)
	}
	back := fmt.Sprintf("go back to %s: sealift rollback %s", current.App.Version, instance)
	switch action {
	case site.ActionInstall:
		return back + fmt.Sprintf("; or try again: sealift install MEDIA --key KEY --name %s", instance)
	case site.ActionUpgrade:
		return back + fmt.Sprintf("; or try again: sealift upgrade %s MEDIA --key KEY", instance)
	}
	return back
}
