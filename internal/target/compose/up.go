package compose

import (
	"context"
	"fmt"
	"slices"

	"github.com/sealift/sealift/artifact"
)

// Deployment is a rendered project on the disk.
type Deployment struct {
	Instance string
	Template *artifact.Template
	// Images and Definitions are those of the project, by component key.
	Images      map[string]string
	Definitions map[string]string
	// Addresses are those of the project.
	Addresses []Address
	// File is the absolute path of the project's file.
	File string
	// Secrets are values that must not appear in errors.
	Secrets []string
}

// Event is a step of [Engine.Up] or [Engine.Down].
type Event struct {
	Type EventType
	// Component is the component concerned, "" for none.
	Component string
	Message   string
}

// EventType says what an event reports.
type EventType string

// The types of events.
const (
	EventPull   EventType = "pull"
	EventStart  EventType = "start"
	EventWait   EventType = "wait"
	EventReady  EventType = "ready"
	EventRemove EventType = "remove"
	EventNote   EventType = "note"
)

// Up makes the engine run d and nothing else for the instance. It pulls the
// images the engine lacks, starts the components in the order of dependsOn, waits
// for each condition, and at last removes what d does not have any more.
// Components whose definition is that of their containers are left alone; a job
// that completed under the same definition is not run again. Data volumes are
// never removed. It can be called again after a failure or a kill at any point.
//
// It fails with a [*PullError], an [*UnhealthyError] or a [*CommandError];
// nothing is undone then. report may be nil.
func (e *Engine) Up(ctx context.Context, d Deployment, report func(Event)) error {
	if report == nil {
		report = func(Event) {}
	}
	if err := e.Fetch(ctx, d, report); err != nil {
		return err
	}
	if err := e.makeRoom(ctx, d, report); err != nil {
		return err
	}
	if e.exposes() {
		report(Event{EventNote, "", "podman-compose hands values on as arguments of processes, which other users of this host can see for a moment"})
	}
	for _, wave := range d.Template.Waves() {
		for _, key := range wave {
			for _, dep := range sortedKeys(d.Template.Components[key].DependsOn) {
				if err := e.await(ctx, d, dep, d.Template.Components[key].DependsOn[dep], report); err != nil {
					return err
				}
			}
		}
		if err := e.start(ctx, d, wave, report); err != nil {
			return err
		}
	}
	for _, key := range d.Template.Keys() {
		condition := artifact.Healthy
		if d.Template.Components[key].Kind == artifact.KindJob {
			condition = artifact.Completed
		}
		if err := e.await(ctx, d, key, condition, report); err != nil {
			return err
		}
	}
	return e.removeStale(ctx, d, report)
}

// Fetch pulls the images of d the engine lacks, and touches nothing that runs.
// It fails with a [*PullError]. report may be nil.
func (e *Engine) Fetch(ctx context.Context, d Deployment, report func(Event)) error {
	for _, key := range d.Template.Keys() {
		ref := d.Images[key]
		has, err := e.HasImage(ctx, ref)
		if err != nil {
			return fmt.Errorf("look for image of component %s: %w", key, err)
		}
		if has {
			continue
		}
		if report != nil {
			report(Event{EventPull, key, ref})
		}
		if err := e.Pull(ctx, ref); err != nil {
			return &PullError{Component: key, Reference: ref, Err: err}
		}
	}
	return nil
}

// makeRoom takes away, before anything starts, containers that stand in the way:
// those that hold a port of the host which now belongs to another component;
// those of components that are gone but hold data, for it may be that of a
// component under another key, and must not have two users;
// and, where the front end cannot replace a container, those to be replaced.
func (e *Engine) makeRoom(ctx context.Context, d Deployment, report func(Event)) error {
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
			report(Event{EventRemove, c.component(), "stopped to be replaced"})
			gone = append(gone, c)
		}
	}
	return e.remove(ctx, gone)
}

// start brings up the components of one wave.
func (e *Engine) start(ctx context.Context, d Deployment, wave []string, report func(Event)) error {
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
			report(Event{EventStart, key, d.Images[key]})
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
func (e *Engine) removeStale(ctx context.Context, d Deployment, report func(Event)) error {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	var gone []container
	for _, c := range list {
		if d.Definitions[c.component()] != c.definition() {
			report(Event{EventRemove, c.component(), "no part of this revision"})
			gone = append(gone, c)
		}
	}
	return e.remove(ctx, gone)
}

// Down stops and removes every container of the instance and its network. Data
// volumes stay. d.File may be gone; the containers are found by their labels.
func (e *Engine) Down(ctx context.Context, d Deployment, report func(Event)) error {
	list, err := e.containers(ctx, d.Instance)
	if err != nil {
		return err
	}
	for _, c := range list {
		if report != nil {
			report(Event{EventRemove, c.component(), ""})
		}
	}
	if err := e.remove(ctx, list); err != nil {
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
