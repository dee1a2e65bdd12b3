package site

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// RollbackOptions says how to roll back.
type RollbackOptions struct {
	// Revision is the one to go back to; 0 means the current one when a later
	// change failed or was interrupted, else the latest before it that runs
	// something else: going back to the same would change nothing.
	Revision int
	// Expect is the Plan.Revision that was agreed to; the call is refused as
	// RefusedMoved when the instance was changed since. 0 for none.
	Expect int
}

// Rollback brings an instance back to an earlier revision, exactly as it was
// rendered then, with its values. It needs nothing but the home and the images,
// which are pulled only when the target lacks them. It is recorded as a revision
// of its own, and no data is touched. The errors are those of Upgrade, with
// ErrNotFound for a revision that does not exist.
func (h *Home) Rollback(ctx context.Context, instance string, opts RollbackOptions) (*Revision, error) {
	return h.change(ctx, ActionRollback, func() (*operation, error) { return h.prepareRollback(ctx, instance, opts) })
}

// PlanRollback returns what Rollback would do, with every check it would make.
func (h *Home) PlanRollback(ctx context.Context, instance string, opts RollbackOptions) (*Plan, error) {
	op, err := h.prepareRollback(ctx, instance, opts)
	if err != nil {
		return nil, err
	}
	return op.plan, nil
}

func (h *Home) prepareRollback(ctx context.Context, instance string, opts RollbackOptions) (*operation, error) {
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
	goal, err := s.rollbackGoal(opts.Revision)
	if err != nil {
		return nil, err
	}
	if goal.Target != h.opts.Target.Name() {
		return nil, refuse(s.name, RefusedTarget, "%s runs on %s, not on %s", s.name, goal.Target, h.opts.Target.Name())
	}
	op, err := h.again(s, goal)
	if err != nil {
		return nil, err
	}
	if op.plan.Unchanged = op.plan.Unchanged && op.works(ctx, h.opts.Target); op.plan.Unchanged {
		return op, nil
	}
	return op, h.check(ctx, op)
}

// rollbackGoal returns the revision to go back to.
func (s *state) rollbackGoal(revision int) (*Revision, error) {
	current := s.current()
	if current == nil {
		return nil, s.notInstalled()
	}
	if revision == 0 {
		if s.newest() != current || s.interrupted() != 0 {
			return current, nil
		}
		before := s.revision(current.Parent)
		for before != nil && maps.Equal(before.Definitions, current.Definitions) {
			if before.Parent >= before.Number {
				return nil, fmt.Errorf("the record of revision %d of %s is damaged: its parent is %d", before.Number, s.name, before.Parent)
			}
			before = s.revision(before.Parent)
		}
		if before == nil {
			return nil, &InstanceError{s.name, fmt.Errorf("a revision before %d that differs: %w", current.Number, ErrNotFound)}
		}
		revision = before.Number
	}
	goal := s.revision(revision)
	switch {
	case goal == nil:
		return nil, &InstanceError{s.name, fmt.Errorf("revision %d: %w", revision, ErrNotFound)}
	case goal.Result != ResultSucceeded || goal.Action == ActionUninstall:
		return nil, refuse(s.name, RefusedRevision, "revision %d of %s is a %s that ended as %s; only what ran can be returned to",
			goal.Number, s.name, goal.Action, goal.Result)
	}
	return goal, nil
}

// again makes the operation that runs goal once more, from what is on the disk.
func (h *Home) again(s *state, goal *Revision) (*operation, error) {
	t, err := s.template(goal)
	if err != nil {
		return nil, err
	}
	for _, f := range goal.Files {
		if err := s.checkFile(f); err != nil {
			return nil, fmt.Errorf("revision %d of %s cannot be restored: %w", goal.Number, s.name, err)
		}
	}
	record := *goal
	record.Number, record.Action, record.From = s.next(), ActionRollback, goal.Number
	record.Started, record.Result, record.Error = h.now(), ResultPending, ""
	record.Finished = time.Time{}
	op := &operation{state: s, template: t, record: &record, secret: s.secrets[goal.Number], current: s.current()}
	if op.current != nil {
		record.Parent = op.current.Number
	}
	op.plan = op.describe(nil)
	return op, nil
}

// restore brings back the revision that was current before a failed operation.
func (h *Home) restore(ctx context.Context, failed *operation) (*Revision, error) {
	op, err := h.again(failed.state, failed.current)
	if err != nil {
		return nil, err
	}
	return h.execute(ctx, op)
}
