package site

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealift/sealift/internal/target/compose"
)

// Compose returns the target that runs instances with Docker Compose.
func Compose(e *compose.Engine) Target { return composeTarget{e} }

type composeTarget struct{ engine *compose.Engine }

// composeFile is the name of the project's file among a revision's documents.
const composeFile = "compose.yaml"

// Name returns compose.
func (composeTarget) Name() string { return "compose" }

// Render renders a Compose project.
func (composeTarget) Render(in RenderInput) (*Rendering, error) {
	p, err := compose.Render(compose.Input(in))
	if err != nil {
		return nil, err
	}
	r := &Rendering{
		Documents:   map[string][]byte{composeFile: p.Compose},
		Definitions: p.Definitions, Volumes: p.Volumes, Losses: p.Losses,
	}
	for _, f := range p.Files {
		r.Files = append(r.Files, File(f))
	}
	for _, a := range p.Addresses {
		r.Addresses = append(r.Addresses, Address(a))
	}
	return r, nil
}

// Check looks at the engine's platform and the ports.
func (t composeTarget) Check(ctx context.Context, d Deployment) error {
	platform := t.engine.Info().Platform
	runs := slices.ContainsFunc(d.Template.Platforms, func(p string) bool {
		return p == platform || strings.HasPrefix(p, platform+"/")
	})
	if !runs {
		return refuse(RefusedPlatform, "%s %s is for %s; this engine runs %s",
			d.Template.ID, d.Template.Version, strings.Join(d.Template.Platforms, ", "), platform)
	}
	return t.engine.CheckPorts(ctx, d.Instance, composeDeployment(d).Addresses)
}

// Fetch pulls the images the engine lacks.
func (t composeTarget) Fetch(ctx context.Context, d Deployment, report func(Event)) error {
	return t.engine.Fetch(ctx, composeDeployment(d), relay(report))
}

// Apply brings the project up.
func (t composeTarget) Apply(ctx context.Context, d Deployment, report func(Event)) error {
	return t.engine.Up(ctx, composeDeployment(d), relay(report))
}

// Remove takes the project down.
func (t composeTarget) Remove(ctx context.Context, d Deployment, report func(Event)) error {
	return t.engine.Down(ctx, composeDeployment(d), relay(report))
}

// Status asks the engine and the health checks.
func (t composeTarget) Status(ctx context.Context, d Deployment) ([]ComponentStatus, error) {
	list, err := t.engine.Ps(ctx, composeDeployment(d))
	if err != nil {
		return nil, err
	}
	var out []ComponentStatus
	for _, s := range list {
		out = append(out, ComponentStatus{
			Component: s.Component, Container: s.Container, State: s.State, ExitCode: s.ExitCode,
			Health: s.Health, Detail: s.Detail, Image: s.Image, Digests: s.Digests,
			Restarts: s.Restarts, Drifted: s.Drifted, Working: s.Working(),
		})
	}
	return out, nil
}

// Volumes lists the instance's named volumes.
func (t composeTarget) Volumes(ctx context.Context, instance string) ([]string, error) {
	return t.engine.Volumes(ctx, instance)
}

// RemoveVolume removes a named volume.
func (t composeTarget) RemoveVolume(ctx context.Context, name string) error {
	return t.engine.RemoveVolume(ctx, name)
}

func composeDeployment(d Deployment) compose.Deployment {
	out := compose.Deployment{
		Instance: d.Instance, Template: d.Template, Images: d.Images, Definitions: d.Definitions,
		File: filepath.Join(d.Rendered, composeFile), Secrets: d.Secrets,
	}
	for _, a := range d.Addresses {
		out.Addresses = append(out.Addresses, compose.Address(a))
	}
	return out
}

func relay(report func(Event)) func(compose.Event) {
	return func(e compose.Event) {
		report(Event{Type: string(e.Type), Component: e.Component, Message: e.Message})
	}
}
