package site

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors to branch on.
var (
	// ErrNotFound reports an instance or a revision that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrNotInstalled reports an instance of which there are records but which
	// is not installed: uninstalled, or never installed with success.
	ErrNotInstalled = errors.New("not installed")
	// ErrLocked reports that another process is changing the home. The error
	// is a [*LockedError].
	ErrLocked = errors.New("locked")
	// ErrRefused reports something that would be possible but must not be.
	// The error is a [*RefusedError].
	ErrRefused = errors.New("refused")
	// ErrNoTarget reports a change asked of a home that was opened without a
	// target.
	ErrNoTarget = errors.New("no target to run instances on")
)

// InstanceError is an error about a named instance.
type InstanceError struct {
	Instance string
	Err      error
}

// Error names the instance.
func (e *InstanceError) Error() string { return fmt.Sprintf("instance %s: %v", e.Instance, e.Err) }

// Unwrap returns the reason.
func (e *InstanceError) Unwrap() error { return e.Err }

// LockedError is the ErrLocked that names the holder of the lock. The Holder is
// zero when it has not said who it is.
type LockedError struct{ Holder }

// Error names the holder.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return "another sealift is changing this site"
	}
	return fmt.Sprintf("another sealift (process %d on %s, %s since %s) is changing this site",
		e.PID, e.Host, e.Action, e.Since.Format(time.TimeOnly))
}

// Is reports whether target is ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Reason says why something was refused.
type Reason string

// The reasons of a RefusedError.
const (
	// RefusedName: the instance name is no DNS label of at most 30 characters.
	RefusedName Reason = "name"
	// RefusedInstalled: install of an instance that is installed as something else.
	RefusedInstalled Reason = "installed"
	// RefusedOtherApp: upgrade to another application's id.
	RefusedOtherApp Reason = "other-app"
	// RefusedDowngrade: upgrade to a lower version without AllowDowngrade.
	RefusedDowngrade Reason = "downgrade"
	// RefusedVersionReused: the installed version with another digest.
	RefusedVersionReused Reason = "version-reused"
	// RefusedFeatures: the template needs a newer sealift.
	RefusedFeatures Reason = "features"
	// RefusedPlatform: the target runs none of the template's platforms.
	RefusedPlatform Reason = "platform"
	// RefusedTarget: the instance runs on another target.
	RefusedTarget Reason = "target"
	// RefusedRevision: rollback to a revision that did not succeed.
	RefusedRevision Reason = "revision"
	// RefusedVolume: deletion of a volume the instance does not have.
	RefusedVolume Reason = "volume"
	// RefusedMoved: the instance was changed after the plan was made.
	RefusedMoved Reason = "moved"
	// RefusedHome: the home is not this user's own.
	RefusedHome Reason = "home"
	// RefusedPolicyGone: there is no policy, and there was one.
	RefusedPolicyGone Reason = "policy-gone"
	// RefusedPolicyOlder: the policy has a lower version than one that was used.
	RefusedPolicyOlder Reason = "policy-older"
	// RefusedPolicyVersion: an update whose version is not higher than the present one.
	RefusedPolicyVersion Reason = "policy-version"
	// RefusedPolicyMoved: the policy was changed after the update was verified.
	RefusedPolicyMoved Reason = "policy-moved"
)

// RefusedError is an ErrRefused with its reason.
type RefusedError struct {
	Reason Reason
	// Instance is the instance concerned.
	Instance string
	Message  string
}

// Error returns the message.
func (e *RefusedError) Error() string { return e.Message }

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

func refuse(instance string, reason Reason, format string, args ...any) error {
	return &RefusedError{reason, instance, fmt.Sprintf(format, args...)}
}

// ValuesError carries everything wrong with the values of an instance.
type ValuesError struct{ Findings []ValueFinding }

// ValueFinding is one parameter without an acceptable value. It never holds the
// value of a secret.
type ValueFinding struct {
	Parameter string `json:"parameter"`
	Message   string `json:"message"`
}

// Error lists the findings, one a line.
func (e *ValuesError) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines are those of Error.
func (e *ValuesError) Lines() []string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = fmt.Sprintf("parameters.%s: %s", f.Parameter, f.Message)
	}
	return lines
}

// FailedError reports a change that was begun and did not succeed. Its revision
// is recorded as failed, and what the target had done by then is not undone unless
// Restored says so.
type FailedError struct {
	// Revision is the record of the failure.
	Revision *Revision
	// Current is the revision that is still the recorded current one, nil for
	// none.
	Current *Revision
	// Restored is the revision made by going back to Current, nil when that
	// was not asked for or failed too; then RestoreErr says why.
	Restored   *Revision
	RestoreErr error
	// Err is what the target said.
	Err error
}

// Error says what failed and, where an application was installed, which version
// is the recorded one now.
func (e *FailedError) Error() string {
	r := e.Revision
	s := fmt.Sprintf("%s of %s %s as %s (revision %d): %v", r.Action, r.App.ID, r.App.Version, r.Instance, r.Number, e.Err)
	if e.RestoreErr != nil {
		s += fmt.Sprintf("; going back failed too: %v", e.RestoreErr)
	}
	switch {
	case e.Restored != nil:
		s += fmt.Sprintf("; %s runs again (revision %d)", e.Restored.App.Version, e.Restored.Number)
	case e.Current != nil:
		s += fmt.Sprintf("; %s is still the recorded version (revision %d)", e.Current.App.Version, e.Current.Number)
	}
	return s
}

// Unwrap returns the target's error and that of going back.
func (e *FailedError) Unwrap() []error {
	if e.RestoreErr == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.RestoreErr}
}
