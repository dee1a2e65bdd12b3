package compose

import (
	"context"
	"fmt"
	"slices"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// Apply makes the engine run d and nothing else for the instance. It pulls the
// images the engine lacks, starts the components in the order of dependsOn, waits
// for each condition, and at last removes what d does not have any more.
// Components whose definition is that of their containers are left alone; a job
// that completed under the same definition is not run again. Data volumes are
// never removed. It can be called again after a failure or a kill at any point.
//
// It fails with a [*target.PullError], a [*target.UnhealthyError] or a
// [*CommandError]; nothing is undone then. report may be nil.
func (e *Engine) Apply(ctx context.Context, d target.Deployment, report func(target.Event)) error {
	report = orDiscard(report)
	if err := e.Fetch(ctx, d, report); err != nil {
		return err
	}
	if err := e.makeRoom(ctx, d, report); err != nil {
		return err
	}
	if e.exposes() {
		report(target.Event{Type: target.EventNote, Message: "podman-compose hands values on as arguments of processes, which other users of this host can see for a moment"})
	}
	w := e.waiter(d, report)
	for _, wave := range d.Template.Waves() {
		if err := w.await(ctx, needs(d.Template, wave)); err != nil {
			return err
		}
		if err := e.start(ctx, d, wave, report); err != nil {
			return err
		}
	}
	if err := w.await(ctx, ends(d.Template)); err != nil {
		return err
	}
	return e.removeStale(ctx, d, report)
}

func orDiscard(report func(target.Event)) func(target.Event) {
	if report == nil {
		return func(target.Event) {}
	}
	return report
}

// Fetch pulls the images of d the engine lacks, and touches nothing that runs.
// It fails with a [*target.PullError]. report may be nil.
func (e *Engine) Fetch(ctx context.Context, d target.Deployment, report func(target.Event)) error {
	report = orDiscard(report)
	for _, key := range d.Template.Keys() {
		ref := d.Images[key]
		has, err := e.hasImage(ctx, ref)
		if err != nil {
			return fmt.Errorf("look for image of component %s: %w", key, err)
		}
		if has {
			continue
		}
		report(target.Event{Type: target.EventPull, Component: key, Message: ref})
		if _, err := e.engine(ctx, nil, "pull", "--quiet", ref); err != nil {
			return &target.PullError{Component: key, Reference: ref, Err: err}
		}
	}
	return nil
}

// makeRoom takes away, before anything starts, containers that stand in the way:
// those that hold a port of the host which now belongs to another component;
// those of components that are gone but hold data, for it may be that of a
// component under another key, and must not have two users;
// and, where the front end cannot replace a container, those to be replaced.
func (e *Engine) makeRoom(ctx context.Context, d target.Deployment, report func(target.Event)) error {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	owner := map[string]string{}
	for _, a := range d.Addresses {
		owner[fmt.Sprintf("%d/%s", a.HostPort, a.Protocol)] = a.Component
	}
	var gone []container
	for _, c := range list {
		_, stays := d.Template.Components[c.component()]
		blocks := !stays && c.mounts(ProjectName(d.Instance)+"_") || slices.ContainsFunc(c.published(), func(port string) bool {
			return owner[port] != "" && owner[port] != c.component()
		})
		if blocks || !e.recreates() && d.Definitions[c.component()] != c.definition() {
			report(target.Event{Type: target.EventRemove, Component: c.component(), Message: "stopped to be replaced"})
			gone = append(gone, c)
		}
	}
	return e.discard(ctx, gone)
}

// start brings up the components of one wave.
func (e *Engine) start(ctx context.Context, d target.Deployment, wave []string, report func(target.Event)) error {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	args := []string{"up", "-d", "--no-deps"}
	var keys []string
	for _, key := range wave {
		if d.Template.Components[key].Kind == artifact.KindJob && completed(list, key, d.Definitions[key]) {
			continue
		}
		if !running(list, key, d.Definitions[key]) {
			report(target.Event{Type: target.EventStart, Component: key, Message: d.Images[key]})
		}
		keys = append(keys, key) // the front end leaves alone what runs as it should
	}
	if len(keys) == 0 {
		return nil
	}
	return e.compose(ctx, d, append(args, keys...)...)
}

// running reports whether a component runs under this definition.
func running(list []container, key, definition string) bool {
	return slices.ContainsFunc(list, func(c container) bool {
		return c.component() == key && c.definition() == definition && c.State.Status == "running"
	})
}

// completed reports whether a job has run to its end under this definition.
func completed(list []container, key, definition string) bool {
	return slices.ContainsFunc(list, func(c container) bool {
		return c.component() == key && c.definition() == definition && c.State.Status == "exited" && c.State.ExitCode == 0 && !c.State.StartedAt.IsZero()
	})
}

// removeStale removes containers of components d does not have, and those a
// killed front end left behind under an older definition.
func (e *Engine) removeStale(ctx context.Context, d target.Deployment, report func(target.Event)) error {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	var gone []container
	for _, c := range list {
		if d.Definitions[c.component()] != c.definition() {
			report(target.Event{Type: target.EventRemove, Component: c.component(), Message: "no part of this revision"})
			gone = append(gone, c)
		}
	}
	return e.discard(ctx, gone)
}

// Remove stops and removes every container of the instance and its network. Data
// volumes stay. d.Rendered may be gone; the containers are found by their labels.
// report may be nil.
func (e *Engine) Remove(ctx context.Context, d target.Deployment, report func(target.Event)) error {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	report = orDiscard(report)
	for _, c := range list {
		report(target.Event{Type: target.EventRemove, Component: c.component()})
	}
	if err := e.discard(ctx, list); err != nil {
		return err
	}
	network := ProjectName(d.Instance) + "_default"
	out, err := e.engine(ctx, nil, "network", "ls", "--quiet", "--filter", "name=^"+network+"$")
	if err != nil {
		return err
	}
	if len(out) == 0 {
		return nil
	}
	_, err = e.engine(ctx, nil, "network", "rm", network)
	return err
}
