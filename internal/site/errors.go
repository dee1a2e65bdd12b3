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

// LockedError is the ErrLocked that names the holder of the lock.
type LockedError struct {
	// PID, Host, Action and Since describe the holder; they are zero when it
	// has not said who it is.
	PID    int       `json:"pid"`
	Host   string    `json:"host"`
	Action string    `json:"action"`
	Since  time.Time `json:"since"`
}

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
)

// RefusedError is an ErrRefused with its reason.
type RefusedError struct {
	Reason  Reason
	Message string
}

// Error returns the message.
func (e *RefusedError) Error() string { return e.Message }

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

func refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{reason, fmt.Sprintf(format, args...)}
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
func (e *ValuesError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = fmt.Sprintf("parameters.%s: %s", f.Parameter, f.Message)
	}
	return strings.Join(lines, "\n")
}

// FailedError reports a change that was begun and did not succeed. Its revision
// is recorded as failed.
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

// Error says what failed and how to go on.
func (e *FailedError) Error() string {
	r := e.Revision
	s := fmt.Sprintf("%s of %s %s as %s: %v", r.Action, r.App.ID, r.App.Version, r.Instance, e.Err)
	switch {
	case e.Restored != nil:
		return s + fmt.Sprintf("; %s %s runs again (revision %d)", e.Restored.App.ID, e.Restored.App.Version, e.Restored.Number)
	case e.RestoreErr != nil:
		s += fmt.Sprintf("; going back failed too: %v", e.RestoreErr)
	}
	return s + "; " + e.Hint()
}

// Hint names the command to go on with.
func (e *FailedError) Hint() string {
	r := e.Revision
	switch {
	case e.Restored != nil:
		return fmt.Sprintf("run: sealift status %s", r.Instance)
	case e.Current != nil:
		return fmt.Sprintf("run: sealift rollback %s, which returns to %s", r.Instance, e.Current.App.Version)
	}
	return fmt.Sprintf("run: sealift %s again, or sealift uninstall %s", r.Action, r.Instance)
}

// Unwrap returns the target's error and that of going back.
func (e *FailedError) Unwrap() []error {
	if e.RestoreErr == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.RestoreErr}
}
