package site

import (
	"context"
	"fmt"
)

// InstanceStatus is the state of one instance.
type InstanceStatus struct {
	Instance string `json:"instance"`
	// State is one of the State constants and Message says what it means for
	// the site, "" where all is well.
	State   State  `json:"state"`
	Message string `json:"message,omitempty"`
	// Current is the current revision, nil when not installed.
	Current *Revision `json:"current,omitempty"`
	// Latest is the newest revision of any result, nil for none.
	Latest *Revision `json:"latest,omitempty"`
	// Components is what runs, by component; empty when not installed.
	Components []ComponentStatus `json:"components,omitempty"`
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
		if names, err = h.names(); err != nil {
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
	if n := s.interrupted(); n != 0 {
		j := s.journal
		what := fmt.Sprintf("%s to %s", j.Action, j.Version)
		if holder := h.holder(); holder != nil && holder.PID == j.PID && holder.Host == j.Host {
			status.State, status.Message = StateChanging, fmt.Sprintf("%s is under way (process %d on %s)", what, j.PID, j.Host)
			return status
		}
		status.State = StateInterrupted
		status.Message = fmt.Sprintf("interrupted: %s was under way; %s", what, s.waysOn(Action(j.Action)))
		return status
	}
	switch {
	case latest == nil:
	case latest.Result == ResultPending:
		status.State = StateInterrupted
		status.Message = fmt.Sprintf("interrupted: %s to %s was under way; %s", latest.Action, latest.App.Version, s.waysOn(latest.Action))
	case latest.Result == ResultFailed:
		status.State = StateFailed
		status.Message = fmt.Sprintf("%s to %s failed: %s; %s", latest.Action, latest.App.Version, latest.Error, s.waysOn(latest.Action))
	case status.Current == nil:
		status.State = StateUninstalled
	}
	return status
}

// waysOn names the commands that end a failed or interrupted action.
func (s *state) waysOn(action Action) string {
	switch {
	case action == ActionUninstall:
		return fmt.Sprintf("run sealift uninstall %s again", s.name)
	case s.current() == nil:
		return fmt.Sprintf("run sealift install again or sealift uninstall %s", s.name)
	case action == ActionRollback:
		return fmt.Sprintf("run sealift rollback %s again", s.name)
	}
	return fmt.Sprintf("run sealift %s %s again or sealift rollback %s", action, s.name, s.name)
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

// Deployment returns the current revision of an instance as its target runs it,
// for commands on what runs. It fails with ErrNotFound or ErrNotInstalled.
func (h *Home) Deployment(instance string) (*Revision, Deployment, error) {
	s, err := h.load(instance)
	if err != nil {
		return nil, Deployment{}, err
	}
	r := s.current()
	if r == nil {
		return nil, Deployment{}, s.notInstalled()
	}
	t, err := s.template(r)
	if err != nil {
		return nil, Deployment{}, err
	}
	return r, s.deployment(r, t, s.secrets[r.Number]), nil
}
