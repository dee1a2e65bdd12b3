package site

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sealift/sealift/artifact"
)

// UninstallOptions says how to uninstall.
type UninstallOptions struct {
	// DeleteData names data volumes to delete for ever, exactly as the target
	// names them.
	DeleteData []string
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

// Uninstall ends everything that runs for an instance and marks it as
// uninstalled. Its records and its data volumes are kept, so that installing
// under the same name finds both; volumes named in DeleteData are deleted, also
// those of an instance that was uninstalled before. A volume the instance does
// not have refuses the whole call before anything is done.
func (h *Home) Uninstall(ctx context.Context, instance string, opts UninstallOptions) (*Uninstalled, error) {
	if h.opts.Target == nil {
		return nil, ErrNoTarget
	}
	unlock, err := h.lock(string(ActionUninstall))
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := h.load(instance)
	if err != nil {
		return nil, err
	}
	last := s.newest()
	if last == nil {
		if s.journal == nil {
			return nil, &InstanceError{instance, ErrNotFound}
		}
		return &Uninstalled{}, s.removeJournal() // begun, but nothing was applied
	}
	gone := last.Action == ActionUninstall && last.Result == ResultSucceeded
	if gone && len(opts.DeleteData) == 0 {
		return nil, &InstanceError{instance, ErrNotInstalled}
	}
	volumes, err := h.opts.Target.Volumes(ctx, instance)
	if err != nil {
		return nil, err
	}
	for _, name := range opts.DeleteData {
		if !slices.Contains(volumes, name) {
			return nil, refuse(RefusedVolume, "%s has no data volume %s; it has: %s", instance, name, orNone(volumes))
		}
	}
	out := &Uninstalled{}
	if !gone {
		if out.Revision, err = h.uninstall(ctx, s); err != nil {
			return nil, err
		}
	}
	return out, h.deleteData(ctx, volumes, opts.DeleteData, out)
}

// uninstall removes what runs and records it.
func (h *Home) uninstall(ctx context.Context, s *state) (*Revision, error) {
	base := s.current()
	if base == nil {
		base = s.newest()
	}
	t, err := s.template(base)
	if err != nil {
		// What runs is found without the template; it must not stand in the way.
		t = &artifact.Template{}
	}
	record := &Revision{
		Instance: s.name, Number: s.next(), Action: ActionUninstall, Parent: base.Number, App: base.App,
		Target: base.Target, Root: base.Root, Repository: base.Repository, Rendered: base.Rendered,
		Volumes: base.Volumes, Started: h.now(), Result: ResultPending,
	}
	op := &operation{state: s, template: t, record: record, current: s.current()}
	if err := h.begin(op); err != nil {
		return nil, fmt.Errorf("record revision %d of %s: %w", record.Number, s.name, err)
	}
	d := op.deployment()
	d.Secrets = secretTexts(s.secrets[base.Number])
	err = h.opts.Target.Remove(ctx, d, h.opts.Report)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("uninstall of %s was interrupted: %w", s.name, err)
	}
	if saveErr := h.finish(op, err); saveErr != nil {
		return nil, fmt.Errorf("record revision %d of %s: %w", record.Number, s.name, saveErr)
	}
	if err != nil {
		return nil, fmt.Errorf("uninstall %s: %w", s.name, err)
	}
	return record, nil
}

// deleteData removes the named volumes and fills in what is left.
func (h *Home) deleteData(ctx context.Context, volumes, names []string, out *Uninstalled) error {
	for _, name := range volumes {
		if !slices.Contains(names, name) {
			out.Kept = append(out.Kept, name)
			continue
		}
		if err := h.opts.Target.RemoveVolume(ctx, name); err != nil {
			return fmt.Errorf("delete data volume %s: %w", name, err)
		}
		h.opts.Report(Event{Type: "delete", Message: name})
		out.Deleted = append(out.Deleted, name)
	}
	return nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
