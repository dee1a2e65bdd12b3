package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target/compose"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/registry"
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
	engine, err := compose.Detect(ctx, compose.Options{Env: a.Environ})
	if err != nil {
		return nil, err
	}
	return site.Open(dir, site.Options{Target: site.Compose(engine), Now: a.Now, Report: a.reportStep})
}

// reportStep tells the person of one step of a change.
func (a *app) reportStep(e site.Event) {
	text := e.Type
	if e.Component != "" {
		text = e.Component + ": " + text
	}
	if e.Message != "" {
		text += " " + e.Message
	}
	a.out.Message("%s", text)
}

// choose picks the release to install from ref: of one app, the highest version
// or the one asked for.
func (a *app) choose(ctx context.Context, ref, version string) (release, error) {
	list, err := a.find(ctx, ref)
	if err != nil {
		return release{}, err
	}
	rs, err := releases(ctx, list)
	if err != nil {
		return release{}, err
	}
	if len(rs) == 0 {
		return release{}, withHint(fmt.Errorf("%s holds no release of an application: %w", ref, artifact.ErrNotRelease), "see what is there: sealift inspect %s", ref)
	}
	var have []string
	var chosen *release
	for i, r := range rs {
		t := r.App.Template
		if t.ID != rs[0].App.Template.ID {
			return release{}, withHint(usagef("%s holds several applications", ref), "name one, as %s//%s", strings.TrimRight(ref, "/"), r.Name)
		}
		have = append(have, t.Version)
		if chosen == nil && (version == "" || version == t.Version) {
			chosen = &rs[i]
		}
	}
	if chosen == nil {
		return release{}, withHint(fmt.Errorf("%s holds no version %s: %w", ref, version, site.ErrNotFound), "it holds %s", strings.Join(have, ", "))
	}
	return *chosen, nil
}

// deliveryFlags are what install and upgrade share.
type deliveryFlags struct {
	keys     []string
	version  string
	set      []string
	values   string
	registry string
	yes      bool
	dryRun   bool
}

// deliver verifies the release at ref, makes sure that a registry answers for its
// images, and calls use. The registry stops when use returns: what the engine
// pulled it keeps.
func (a *app) deliver(ctx context.Context, ref string, f deliveryFlags, use func(site.Delivery) error) (err error) {
	if len(f.keys) == 0 {
		return withHint(usagef("installing wants --key FILE, the vendor's public key"), "ask the vendor for it, over another way than this media; a key found on the media proves nothing")
	}
	keys, err := loadKeys(f.keys)
	if err != nil {
		return err
	}
	if err := a.checkManifests(ctx, ref); err != nil {
		return err
	}
	r, err := a.choose(ctx, ref, f.version)
	if err != nil {
		return err
	}
	evidence, err := verifySignature(ctx, r.found, keys)
	if err != nil {
		return err
	}
	if err := a.verifyBytes(ctx, ref, r); err != nil {
		return err
	}
	proof, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	for _, key := range evidence.Keys() {
		a.out.Message("%s %s is signed by key %s", r.App.Template.ID, r.App.Template.Version, key)
	}
	address, stop, err := a.imageRegistry(ctx, ref, r, f.registry)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	d := site.Delivery{Release: r.Release, Repository: r.Repository, Images: map[string]string{}, Evidence: proof}
	for key, image := range r.Images {
		d.Images[key] = address + "@" + image.Digest.String()
	}
	return use(d)
}

// verifyBytes reads all of a release on media before anything is made of it: an
// engine that pulls a damaged layer tries again and again and cannot say why. What
// comes from a registry the engine verifies as it pulls.
func (a *app) verifyBytes(ctx context.Context, ref string, r release) error {
	loc, err := artifact.ParseLocation(ref)
	if err != nil {
		return usagef("%v", err)
	}
	if loc.Place != artifact.PlaceMedia {
		return nil
	}
	sum, err := mirror.Verify(ctx, r.Store, r.found.Descriptor, a.out.Progress("verifying"))
	if err != nil {
		return fmt.Errorf("%s: %w", r.Name, err)
	}
	a.out.Message("%d blobs, %s, all good", sum.Manifests+sum.Blobs, ui.Bytes(sum.Bytes))
	return nil
}

// imageRegistry returns the repository that the engine pulls r's images from: one
// that answers at address already, or one started here for as long as the change
// takes. Releases in a registry are pulled from there.
func (a *app) imageRegistry(ctx context.Context, ref string, r release, address string) (string, func() error, error) {
	nothing := func() error { return nil }
	loc, err := artifact.ParseLocation(ref)
	if err != nil {
		return "", nothing, usagef("%v", err)
	}
	if loc.Place == artifact.PlaceRegistry {
		return r.Repository, nothing, nil
	}
	repository := registry.URLName(r.Repository)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := serves(ctx, address, repository, r.Descriptor); err != nil {
			return "", nothing, withHint(err, "stop what answers there, or serve this media there: sealift serve %s", loc.Path)
		}
		return address + "/" + repository, nothing, nil
	} else if err != nil {
		return "", nothing, fmt.Errorf("serve the images: %w", err)
	}
	l, err := openMedia(loc.Path)
	if err != nil {
		return "", nothing, errors.Join(err, listener.Close())
	}
	serving, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.answer(serving, listener, l) }()
	return listener.Addr().String() + "/" + repository, func() error {
		cancel()
		return <-done
	}, nil
}

// serves fails unless a registry at address answers for the release.
func serves(ctx context.Context, address, repository string, desc ocispec.Descriptor) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	url := "http://" + address + "/v2/" + repository + "/manifests/" + desc.Digest.String()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", desc.MediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%s is taken by something that is no registry: %w", address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the registry at %s does not have this release (status %d)", address, resp.StatusCode)
	}
	return nil
}

// explainPlan shows what a change will do, before it is agreed to.
func explainPlan(w io.Writer, p *site.Plan) {
	verb := map[site.Action]string{site.ActionInstall: "install", site.ActionUpgrade: "upgrade to", site.ActionRollback: "roll back to"}[p.Action]
	fmt.Fprintf(w, "%s %s %s as %s\n", verb, p.App.ID, p.App.Version, p.Instance)
	for _, c := range p.Changes {
		fmt.Fprintf(w, "  %-9s %s\n", c.Kind, c.Component)
	}
	for _, ad := range p.Addresses {
		fmt.Fprintf(w, "  port      %d/%s for %s\n", ad.HostPort, ad.Protocol, ad.Component)
	}
	for _, v := range p.Volumes {
		fmt.Fprintf(w, "  data      %s, kept whatever happens\n", v)
	}
	losses := p.Losses
	if p.Action == site.ActionRollback {
		losses = nil // they were told when the revision was made
	}
	for _, l := range losses {
		fmt.Fprintf(w, "  not here  %s\n", l)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "  note      %s\n", n)
	}
}

// changed is the result of install, upgrade and rollback.
type changed struct {
	Type      string         `json:"type"`
	Unchanged bool           `json:"unchanged,omitempty"`
	Revision  *site.Revision `json:"revision"`
}

func (a *app) reportRevision(kind string, r *site.Revision) error {
	return a.out.Result(changed{kind, r.Unchanged, r}, func(w io.Writer) {
		verb := strings.ReplaceAll(kind, "rolledBack", "rolled back")
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
func addressText(ad site.Address) string {
	if strings.HasPrefix(ad.Port, "http") {
		return fmt.Sprintf("%s://127.0.0.1:%d/", ad.Port, ad.HostPort)
	}
	return fmt.Sprintf("127.0.0.1:%d (%s)", ad.HostPort, ad.Protocol)
}

// planAndAct shows a plan and, once it is agreed to, acts.
func (a *app) planAndAct(p *site.Plan, f deliveryFlags, act func() error) error {
	if f.dryRun {
		return a.out.Result(struct {
			Type string `json:"type"`
			*site.Plan
		}{"plan", p}, func(w io.Writer) { explainPlan(w, p) })
	}
	if !p.Unchanged {
		var b strings.Builder
		explainPlan(&b, p)
		for line := range strings.Lines(b.String()) {
			a.out.Message("%s", strings.TrimRight(line, "\n"))
		}
		if err := a.confirm(f.yes, "Go on?"); err != nil {
			return err
		}
	}
	return act()
}

// showLogs shows the last lines of the component that kept a change from
// succeeding, where there are any.
func (a *app) showLogs(err error) error {
	var unhealthy *compose.UnhealthyError
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
	var engine *compose.NoEngineError
	switch {
	case errors.As(err, &failed):
		return failed.Hint()
	case errors.As(err, &values) && len(values.Findings) > 0:
		return fmt.Sprintf("give the value: --set %s=VALUE", values.Findings[0].Parameter)
	case errors.As(err, &engine) && engine.Silent != "":
		return "start the engine, as in: systemctl start docker; then run the same command again"
	case errors.Is(err, compose.ErrNoEngine):
		return "install an engine with Compose, as in: apt install docker.io docker-compose; and start it"
	case errors.Is(err, site.ErrLocked):
		return "wait until the other command is done, then run this one again"
	case errors.As(err, new(*compose.PortsError)):
		return "stop what uses the port, or choose another with --set"
	case errors.As(err, new(*compose.PullError)):
		return "plug in the media and serve it: sealift serve DIR"
	case errors.Is(err, site.ErrNotInstalled), errors.Is(err, site.ErrNotFound):
		return "see what is installed: sealift status"
	}
	return ""
}
