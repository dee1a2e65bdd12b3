package site

import (
	"context"
	"fmt"

	"github.com/sealift/sealift/internal/target"
)

// InstanceStatus is the state of one instance.
type InstanceStatus struct {
	Instance string `json:"instance"`
	// State is one of the State constants. Where it is not installed or
	// uninstalled, Action is the change that is under way, was interrupted or
	// failed, and Message states what became of it.
	State   State  `json:"state"`
	Action  Action `json:"action,omitempty"`
	Message string `json:"message,omitempty"`
	// Current is the current revision, nil when not installed.
	Current *Revision `json:"current,omitempty"`
	// Latest is the newest revision of any result, nil for none.
	Latest *Revision `json:"latest,omitempty"`
	// Components is what runs, by component; empty when not installed.
	Components []target.ComponentStatus `json:"components,omitempty"`
	// Working says that all components are as they should be.
	Working bool `json:"working"`
	// Problem says why the target could not be asked, "" when it was.
	Problem string `json:"problem,omitempty"`
}

// State says how an instance stands.
type State string

// The states of an instance.
const (
	// StateInstalled: the newest change succeeded.
	StateInstalled State = "installed"
	// StateFailed: the newest change failed.
	StateFailed State = "failed"
	// StateInterrupted: the newest change was begun and never finished.
	StateInterrupted State = "interrupted"
	// StateChanging: a change is under way.
	StateChanging State = "changing"
	// StateUninstalled: the instance was uninstalled.
	StateUninstalled State = "uninstalled"
)

// Status returns the state of the named instances, or of all that are not
// uninstalled, in order of their names. It changes nothing and needs no lock. It
// fails with ErrNotFound for a name nothing is known of; a target that does not
// answer is told in Problem.
func (h *Home) Status(ctx context.Context, names ...string) ([]InstanceStatus, error) {
	all := len(names) == 0
	if all {
		var err error
		if names, err = h.Instances(); err != nil {
			return nil, err
		}
	}
	var list []InstanceStatus
	for _, name := range names {
		s, err := h.load(name)
		if err != nil {
			return nil, err
		}
		if s.newest() == nil && s.journal == nil {
			if all {
				continue
			}
			return nil, s.notInstalled()
		}
		status := h.judge(s)
		if all && status.State == StateUninstalled {
			continue
		}
		h.look(ctx, s, &status)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		list = append(list, status)
	}
	return list, nil
}

// judge fills a status from the records.
func (h *Home) judge(s *state) InstanceStatus {
	status := InstanceStatus{Instance: s.name, State: StateInstalled, Current: s.current(), Latest: s.newest()}
	latest := status.Latest
	switch {
	case s.interrupted() != 0:
		j := s.journal
		status.State, status.Action = StateInterrupted, j.Action
		status.Message = change(j.Action, j.Version) + " was interrupted"
		if holder, held := h.holder(); held && holder.PID == j.PID && holder.Host == j.Host {
			status.State = StateChanging
			status.Message = fmt.Sprintf("%s is under way (process %d on %s)", change(j.Action, j.Version), j.PID, j.Host)
		}
	case latest == nil:
	case latest.Result == ResultPending:
		status.State, status.Action = StateInterrupted, latest.Action
		status.Message = change(latest.Action, latest.App.Version) + " was interrupted"
	case latest.Result == ResultFailed:
		status.State, status.Action = StateFailed, latest.Action
		status.Message = fmt.Sprintf("%s failed: %s", change(latest.Action, latest.App.Version), latest.Error)
	case status.Current == nil:
		status.State = StateUninstalled
	}
	return status
}

// change names a change, as upgrade to 1.1.0.
func change(action Action, version string) string {
	word := "to"
	if action == ActionInstall || action == ActionUninstall {
		word = "of"
	}
	return fmt.Sprintf("%s %s %s", action, word, version)
}

// look fills in what runs.
func (h *Home) look(ctx context.Context, s *state, status *InstanceStatus) {
	r := status.Current
	if r == nil && status.State != StateUninstalled {
		r = status.Latest
	}
	if r == nil || h.opts.Target == nil || r.Target != h.opts.Target.Name() {
		return
	}
	t, err := s.template(r)
	if err == nil {
		status.Components, err = h.opts.Target.Status(ctx, s.deployment(r, t, s.secrets[r.Number]))
	}
	if err != nil {
		status.Problem = err.Error()
		return
	}
	status.Working = len(status.Components) > 0
	for _, c := range status.Components {
		status.Working = status.Working && c.Working
	}
}

// History returns the revisions of an instance, oldest first. It fails with
// ErrNotFound when there are none.
func (h *Home) History(instance string) ([]*Revision, error) {
	s, err := h.load(instance)
	if err != nil {
		return nil, err
	}
	if len(s.revisions) == 0 {
		return nil, &InstanceError{instance, ErrNotFound}
	}
	return s.revisions, nil
}
