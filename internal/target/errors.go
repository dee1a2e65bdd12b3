package target

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoEngine reports that nothing that could run instances answers. The error
// is a [*NoEngineError], which says what was tried.
var ErrNoEngine = errors.New("no engine answers")

// NoEngineError is the ErrNoEngine that tells what was looked for.
type NoEngineError struct {
	// Engine is what the target needs, as "container engine with compose".
	Engine string
	// Tried has one line for each possibility looked for, in order.
	Tried []string
	// Silent is the first possibility that is installed but does not answer,
	// with what it said; "" for none.
	Silent string
}

// Error tells of the engine that does not answer, or else lists what was tried.
func (e *NoEngineError) Error() string {
	why := e.Silent
	if why == "" {
		why = strings.Join(e.Tried, "; ")
	}
	return fmt.Sprintf("no %s answers: %s", e.Engine, why)
}

// Is reports whether target is ErrNoEngine.
func (e *NoEngineError) Is(target error) bool { return target == ErrNoEngine }

// PlatformError reports a template for platforms the target does not run.
type PlatformError struct {
	// Platforms are those of the template and Runs is that of the target.
	Platforms []string
	Runs      string
}

// Error names the platforms of both sides.
func (e *PlatformError) Error() string {
	return fmt.Sprintf("it is for %s; this engine runs %s", strings.Join(e.Platforms, ", "), e.Runs)
}

// PortsError reports published ports that are taken by something else.
type PortsError struct{ Taken []Address }

// Error lists the ports with the components that want them.
func (e *PortsError) Error() string {
	var b strings.Builder
	b.WriteString("ports of this host are in use:")
	for _, a := range e.Taken {
		fmt.Fprintf(&b, " %d/%s (wanted by components.%s.ports.%s)", a.HostPort, a.Protocol, a.Component, a.Port)
	}
	return b.String()
}

// PullError reports an image that is neither at the target nor to be had from
// the registry it is referenced at.
type PullError struct {
	Component string
	Reference string
	Err       error
}

// Error names the component and the reference.
func (e *PullError) Error() string {
	return fmt.Sprintf("pull image of component %s, %s: %v", e.Component, e.Reference, e.Err)
}

// Unwrap returns the failure of the pull.
func (e *PullError) Unwrap() error { return e.Err }

// UnhealthyError reports a component that did not come to work.
type UnhealthyError struct {
	Component string
	Reason    string
	// LastLogs are the last lines the component wrote, at most 20.
	LastLogs []string
}

// Error returns the component and the reason, without the logs.
func (e *UnhealthyError) Error() string {
	return fmt.Sprintf("component %s does not work: %s", e.Component, e.Reason)
}
