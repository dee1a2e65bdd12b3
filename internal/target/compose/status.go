package compose

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// maxLooks bounds how many components are asked for their health at a time.
const maxLooks = 8

// Status returns the state of each container of the instance and of each
// component that has none, sorted by component. Health checks that the engine
// does not make are made now.
func (e *Engine) Status(ctx context.Context, d target.Deployment) ([]target.ComponentStatus, error) {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return nil, err
	}
	all := make([]target.ComponentStatus, len(list))
	var looks errgroup.Group
	looks.SetLimit(maxLooks)
	for i, c := range list {
		looks.Go(func() (err error) {
			all[i], err = e.statusOf(ctx, d, c)
			return err
		})
	}
	if err := looks.Wait(); err != nil {
		return nil, err
	}
	for _, key := range d.Template.Keys() {
		if !slices.ContainsFunc(list, func(c container) bool { return c.component() == key }) {
			all = append(all, target.ComponentStatus{Component: key, State: target.StateMissing})
		}
	}
	slices.SortStableFunc(all, func(a, b target.ComponentStatus) int { return strings.Compare(a.Component, b.Component) })
	return all, nil
}

func (e *Engine) statusOf(ctx context.Context, d target.Deployment, c container) (target.ComponentStatus, error) {
	key := c.component()
	s := target.ComponentStatus{
		Component: key, Container: c.ID, State: c.State.Status, ExitCode: c.State.ExitCode,
		Image: c.Config.Image, Restarts: c.RestartCount,
		Drifted: d.Definitions[key] != c.definition(),
	}
	digests, err := e.repoDigests(ctx, c.Image)
	if err != nil && ctx.Err() != nil {
		return target.ComponentStatus{}, err
	}
	for _, ref := range digests {
		if _, digest, ok := strings.Cut(ref, "@"); ok && !slices.Contains(s.Digests, digest) {
			s.Digests = append(s.Digests, digest)
		}
	}
	if component, ok := d.Template.Components[key]; ok {
		s.Health, s.Detail = health(ctx, component, c)
		s.Detail = e.runner(d.Secrets).blot(s.Detail)
	}
	s.Working = !s.Drifted && (s.State == "running" && (s.Health == "" || s.Health == "healthy") || s.Health == "completed")
	return s, nil
}

// health returns the health of a component's container and why it is not good.
func health(ctx context.Context, component artifact.Component, c container) (health, detail string) {
	switch {
	case component.Kind == artifact.KindJob && c.State.Status == "exited" && c.State.ExitCode == 0:
		return "completed", ""
	case component.Kind == artifact.KindJob && c.State.Status == "exited":
		return "unhealthy", describe(c)
	case c.State.Status != "running":
		return "", describe(c)
	case component.Health == nil:
		return "", ""
	}
	v, reason := checked(ctx, component, c)
	h := c.health()
	switch {
	case v == ready:
		return "healthy", ""
	case component.Health.Exec != nil && v == notYet && (h == nil || h.Status == "starting"):
		return "starting", reason
	}
	return "unhealthy", reason
}

// Volumes returns the names of the data volumes the engine has for an instance,
// sorted, whatever revision made them.
func (e *Engine) Volumes(ctx context.Context, instance string) ([]string, error) {
	out, err := e.engine(ctx, nil, "volume", "ls", "--quiet", "--filter", "label="+LabelInstance+"="+instance)
	if err != nil {
		return nil, fmt.Errorf("list volumes of %s: %w", instance, err)
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	return names, nil
}

// RemoveVolume removes a data volume for ever. It fails when a container uses it.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	_, err := e.engine(ctx, nil, "volume", "rm", name)
	return err
}
