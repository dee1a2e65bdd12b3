package site

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// templateFile is the name of the template among a revision's documents.
const templateFile = "app.json"

// Install installs a release as a new instance, or again after a failed install
// or an uninstall, whose data it finds. An instance that has this release with
// these values already, all of it at work, is left alone: its revision is returned
// with Unchanged.
//
// Before anything is written it checks that the values are complete, that the
// target answers, runs one of the platforms and has the ports free, and fetches
// the images. It fails with a [*ValuesError], a [*RefusedError], a
// [*LockedError], what the target says, or, once begun, a [*FailedError].
func (h *Home) Install(ctx context.Context, d Delivery, opts InstallOptions) (*Revision, error) {
	return h.change(ctx, ActionInstall, func() (*operation, error) { return h.prepare(ctx, ActionInstall, d, opts) })
}

// Upgrade brings an instance to a release. A value the site chose stays, one
// that was a default takes the new default, and generated ones are kept. Only
// components whose definition differs are touched, and no data is removed.
//
// It checks as Install does. When it fails on the way nothing is undone, the
// revision is recorded as failed and the one before stays current; with
// opts.Atomic the one before is brought back.
func (h *Home) Upgrade(ctx context.Context, d Delivery, opts InstallOptions) (*Revision, error) {
	return h.change(ctx, ActionUpgrade, func() (*operation, error) { return h.prepare(ctx, ActionUpgrade, d, opts) })
}

// change runs an operation under the home's lock.
func (h *Home) change(ctx context.Context, action Action, prepare func() (*operation, error)) (*Revision, error) {
	unlock, err := h.lock(ctx, action)
	if err != nil {
		return nil, err
	}
	defer unlock()
	op, err := prepare()
	if err != nil {
		return nil, err
	}
	if op.plan.Unchanged {
		r := *op.current
		r.Unchanged = true
		return &r, nil
	}
	for _, note := range op.plan.Notes {
		h.opts.Report(target.Event{Type: target.EventNote, Message: note})
	}
	if err := h.placeProbe(); err != nil {
		return nil, fmt.Errorf("keep the probe: %w", err)
	}
	if err := h.opts.Target.Fetch(ctx, op.deployment(), h.opts.Report); err != nil {
		return nil, err
	}
	return h.execute(ctx, op)
}

// execute writes the operation down, carries it out and records the result.
func (h *Home) execute(ctx context.Context, op *operation) (*Revision, error) {
	if err := h.begin(ctx, op); err != nil {
		return nil, fmt.Errorf("record revision %d of %s: %w", op.record.Number, op.state.name, err)
	}
	h.opts.Report(target.Event{Type: EventApply, Message: fmt.Sprintf("%s %s, revision %d", op.record.App.ID, op.record.App.Version, op.record.Number)})
	err := h.opts.Target.Apply(ctx, op.deployment(), h.opts.Report)
	if err != nil && ctx.Err() != nil {
		// Left as a kill would leave it: pending, with its journal.
		return nil, fmt.Errorf("%s of %s was interrupted: %w", op.record.Action, op.state.name, err)
	}
	if saveErr := h.finish(ctx, op, err); saveErr != nil {
		return nil, errors.Join(err, fmt.Errorf("record revision %d of %s: %w", op.record.Number, op.state.name, saveErr))
	}
	if err == nil {
		h.opts.Report(target.Event{Type: EventDone, Message: fmt.Sprintf("revision %d", op.record.Number)})
		return op.record, nil
	}
	failed := &FailedError{Revision: op.record, Current: op.current, Err: err}
	if op.atomic && op.current != nil {
		failed.Restored, failed.RestoreErr = h.restore(ctx, op)
	}
	return nil, failed
}

// begin writes everything the operation needs, its journal first.
func (h *Home) begin(ctx context.Context, op *operation) error {
	s := op.state
	if err := makeDir(s.dir); err != nil {
		return err
	}
	if err := s.sweep(); err != nil {
		return err
	}
	if err := h.closeInterrupted(ctx, s); err != nil {
		return err
	}
	if err := h.recordBegin(ctx, op); err != nil {
		return err
	}
	s.journal = &journal{Holder: h.self(op.record.Action), Revision: op.record.Number, Version: op.record.App.Version}
	if err := writeJSON(s.path("journal.json"), s.journal); err != nil {
		return err
	}
	if len(op.secret) > 0 {
		s.secrets[op.record.Number] = op.secret
		if err := writeJSON(s.path("secrets.json"), s.secrets); err != nil {
			return err
		}
	}
	if op.rendering != nil {
		if err := h.writeRendering(op); err != nil {
			return err
		}
	}
	return s.saveRevision(op.record)
}

// writeRendering puts files and documents where the target will read them.
func (h *Home) writeRendering(op *operation) error {
	s := op.state
	for _, f := range op.rendering.Files {
		record, widened, err := s.writeRendered(f)
		if err != nil {
			return err
		}
		if widened {
			h.opts.Report(target.Event{Type: target.EventNote, Message: fmt.Sprintf(
				"%s cannot be given to user %d without being root; it is readable to all, below a directory only you can enter", f.Path, f.UID)})
		}
		op.record.Files = append(op.record.Files, record)
	}
	dir := s.path(op.record.Rendered)
	if err := makeDir(dir); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(op.rendering.Documents)) {
		if err := writeFile(filepath.Join(dir, filepath.Base(name)), op.rendering.Documents[name], nil); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, templateFile), op.config, nil)
}

// finish records how the operation went and ends its journal.
func (h *Home) finish(ctx context.Context, op *operation, failure error) error {
	r := op.record
	r.Result, r.Finished = ResultSucceeded, h.now()
	if failure != nil {
		r.Result, r.Error = ResultFailed, target.Blot(failure.Error(), secretTexts(op.secret))
	}
	if err := op.state.saveRevision(r); err != nil {
		return err
	}
	op.state.revisions = append(op.state.revisions, r)
	e := op.entry(string(r.Result))
	e.Reason = r.Error
	if _, err := h.Record(ctx, e); err != nil {
		return err
	}
	return op.state.removeJournal()
}

func (s *state) removeJournal() error {
	s.journal = nil
	if err := os.Remove(s.path("journal.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(s.dir)
}

// closeInterrupted records revisions that a kill left pending as failed.
func (h *Home) closeInterrupted(ctx context.Context, s *state) error {
	for _, r := range s.revisions {
		if r.Result != ResultPending {
			continue
		}
		r.Result, r.Error, r.Finished = ResultFailed, "interrupted", h.now()
		if _, err := h.Record(ctx, (&operation{record: r}).entry("interrupted")); err != nil {
			return err
		}
		if err := s.saveRevision(r); err != nil {
			return err
		}
	}
	return nil
}

// template reads the template of a revision from its documents.
func (s *state) template(r *Revision) (*artifact.Template, error) {
	config, err := os.ReadFile(s.path(filepath.Base(r.Rendered), templateFile))
	if err != nil {
		return nil, fmt.Errorf("read template of revision %d of %s: %w", r.Number, s.name, err)
	}
	t, err := artifact.ParseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("read template of revision %d of %s: %w", r.Number, s.name, err)
	}
	return t, nil
}

func (h *Home) now() time.Time { return h.opts.Now().UTC().Truncate(time.Millisecond) }
