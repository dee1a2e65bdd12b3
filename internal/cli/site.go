package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
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
	if e.Type == site.EventWarning {
		a.out.Warn("%s", e.Message)
		return
	}
	text := string(e.Type)
	if e.Component != "" {
		text = e.Component + ": " + text
	}
	if e.Message != "" {
		text += " " + shortImage(e.Message)
	}
	a.out.Message("%s", text)
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
	case errors.Is(err, site.ErrNotFound), errors.Is(err, site.ErrNotInstalled), errors.Is(err, artifact.ErrNotRelease), errors.Is(err, artifact.ErrNotPolicy):
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
		return "see that what the images come from is there and sound (sealift verify APP, or of media its directory), then run the same command again"
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
	case site.RefusedPolicyGone:
		return "put policy.yaml back into the site's home from a copy; or, to begin anew, write one with a version higher than that"
	case site.RefusedPolicyOlder:
		return "if it is meant, raise the version in policy.yaml above that; if not, somebody has brought an old policy back: see with sealift audit show what was done here"
	case site.RefusedPolicyVersion:
		return "ask who publishes the policy for an update with a higher version; see what is in use: sealift policy list"
	case site.RefusedPolicyMoved:
		return "run the same command again: the policy that stands there now has to accept the update"
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
