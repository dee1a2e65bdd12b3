package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// UninstallOptions says how to uninstall.
type UninstallOptions struct {
	// DeleteData names data volumes to delete for ever, exactly as the target
	// names them.
	DeleteData []string
	// Expect is the Plan.Revision that was agreed to; the call is refused as
	// RefusedMoved when the instance was changed since. 0 for none.
	Expect int
}

// Uninstalled is what became of an instance's data.
type Uninstalled struct {
	// Revision is the record, nil when the instance had been uninstalled
	// before and only data was deleted.
	Revision *Revision `json:"revision,omitempty"`
	// Kept and Deleted are data volumes, sorted.
	Kept    []string `json:"kept,omitempty"`
	Deleted []string `json:"deleted,omitempty"`
}

// PlanUninstall returns what Uninstall would do, with every check it would make.
// Its Changes are what runs, its Volumes stay and its Deleted are deleted.
func (h *Home) PlanUninstall(ctx context.Context, instance string, opts UninstallOptions) (*Plan, error) {
	r, err := h.prepareUninstall(ctx, instance, opts)
	if err != nil {
		return nil, err
	}
	if r.op == nil {
		return r.plan, nil
	}
	list, err := h.opts.Target.Status(ctx, r.deployment)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		removed := Change{Component: c.Component, Kind: ChangeRemoved, Image: c.Image}
		if c.State != target.StateMissing && !slices.Contains(r.plan.Changes, removed) {
			r.plan.Changes = append(r.plan.Changes, removed)
		}
	}
	return r.plan, nil
}

// Uninstall ends everything that runs for an instance and marks it as
// uninstalled. Its records and its data volumes are kept, so that installing
// under the same name finds both; volumes named in DeleteData are deleted, also
// those of an instance that was uninstalled before. A volume the instance does
// not have refuses the whole call before anything is done. Once begun, it fails
// with a [*FailedError].
func (h *Home) Uninstall(ctx context.Context, instance string, opts UninstallOptions) (*Uninstalled, error) {
	unlock, err := h.lock(ctx, ActionUninstall)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := h.prepareUninstall(ctx, instance, opts)
	if err != nil {
		return nil, err
	}
	out := &Uninstalled{Kept: r.plan.Volumes}
	switch {
	case r.op != nil:
		out.Revision, err = h.uninstall(ctx, r)
	case r.state.journal != nil:
		err = errors.Join(r.state.sweep(), r.state.removeJournal())
	}
	if err != nil {
		return nil, err
	}
	for _, name := range r.plan.Deleted {
		if err := h.opts.Target.RemoveVolume(ctx, name); err != nil {
			return out, fmt.Errorf("delete data volume %s: %w", name, err)
		}
		h.opts.Report(target.Event{Type: EventDelete, Message: name})
		out.Deleted = append(out.Deleted, name)
	}
	return out, nil
}

// removal is a checked uninstall, ready to be carried out.
type removal struct {
	state *state
	plan  *Plan
	// op takes down deployment. It is nil when nothing runs: the instance was
	// uninstalled before, or its install was interrupted before it began to run.
	op         *operation
	deployment target.Deployment
}

func (h *Home) prepareUninstall(ctx context.Context, instance string, opts UninstallOptions) (*removal, error) {
	if h.opts.Target == nil {
		return nil, ErrNoTarget
	}
	s, err := h.load(instance)
	if err != nil {
		return nil, err
	}
	if err := s.expect(opts.Expect); err != nil {
		return nil, err
	}
	last := s.newest()
	nothingRuns := last == nil || last.Action == ActionUninstall && last.Result == ResultSucceeded
	switch {
	case !nothingRuns || s.interrupted() != 0:
	case last == nil:
		return nil, &InstanceError{instance, ErrNotFound}
	case len(opts.DeleteData) == 0:
		return nil, &InstanceError{instance, ErrNotInstalled}
	}
	r := &removal{state: s, plan: &Plan{Instance: instance, Action: ActionUninstall}}
	if last != nil {
		r.plan.App = last.App
	}
	volumes, err := h.opts.Target.Volumes(ctx, instance)
	if err != nil {
		return nil, err
	}
	for _, name := range opts.DeleteData {
		if !slices.Contains(volumes, name) {
			return nil, refuse(instance, RefusedVolume, "%s has no data volume %s; it has: %s", instance, name, orNone(volumes))
		}
	}
	for _, name := range volumes {
		if slices.Contains(opts.DeleteData, name) {
			r.plan.Deleted = append(r.plan.Deleted, name)
		} else {
			r.plan.Volumes = append(r.plan.Volumes, name)
		}
	}
	if !nothingRuns {
		r.describe(h.now())
	}
	return r, nil
}

// describe fills in what takes down what runs.
func (r *removal) describe(now time.Time) {
	s := r.state
	base := cmp.Or(s.current(), s.newest())
	t, err := s.template(base)
	if err != nil {
		// What runs is found without the template; it must not stand in the way.
		t = &artifact.Template{}
	}
	record := &Revision{
		Instance: s.name, Number: s.next(), Action: ActionUninstall, Parent: base.Number, App: base.App,
		Target: base.Target, Root: base.Root, Repository: base.Repository, Rendered: base.Rendered,
		Volumes: base.Volumes, Started: now, Result: ResultPending,
	}
	r.op = &operation{state: s, template: t, record: record, current: s.current()}
	r.deployment = s.deployment(base, t, s.secrets[base.Number])
	r.plan.Revision, r.plan.App = record.Number, record.App
	if r.op.current != nil {
		r.plan.Before = &r.op.current.App
	}
}

// uninstall removes what runs and records it.
func (h *Home) uninstall(ctx context.Context, r *removal) (*Revision, error) {
	name, record := r.state.name, r.op.record
	if err := h.begin(ctx, r.op); err != nil {
		return nil, fmt.Errorf("record revision %d of %s: %w", record.Number, name, err)
	}
	err := h.opts.Target.Remove(ctx, r.deployment, h.opts.Report)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("uninstall of %s was interrupted: %w", name, err)
	}
	if saveErr := h.finish(ctx, r.op, err); saveErr != nil {
		return nil, errors.Join(err, fmt.Errorf("record revision %d of %s: %w", record.Number, name, saveErr))
	}
	if err != nil {
		return nil, &FailedError{Revision: record, Current: r.op.current, Err: err}
	}
	return record, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
