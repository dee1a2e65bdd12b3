// Package compose runs an application with Docker Compose or its kin.
//
// [Render] turns an application with the site's values into a project, a file
// of the Compose specification (https://github.com/compose-spec/compose-spec)
// kept to the subset that docker compose 2, docker-compose 1.29 and podman
// compose read alike. [Engine.Up] brings a rendered project up in the order of
// its dependencies and returns when every component works.
//
// Two revisions of an application differ in the definition of exactly those
// components that changed, so that an upgrade touches no other. Data volumes
// are named by instance, component and volume alone; nothing here removes one
// but [Engine.RemoveVolume]. Values stand in the project's file and in the files
// beside it and are handed to no process as arguments, except by podman-compose,
// which does so on its own.
package compose

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Labels of containers and volumes; labels of a container stay the same as long
// as its definition does.
const (
	// LabelInstance names the instance, on containers and volumes.
	LabelInstance = "dev.sealift.instance"
	// LabelComponent names the component a container runs.
	LabelComponent = "dev.sealift.component"
	// LabelDefinition identifies the definition a container was made from.
	LabelDefinition = "dev.sealift.definition"
)

// ProjectName returns the Compose project of an instance.
func ProjectName(instance string) string { return "sealift-" + instance }

// FieldError reports a value of the template that cannot be rendered with the
// values given.
type FieldError struct {
	Component string
	Field     string
	Reason    string
}

// Error returns the component, the field and the reason.
func (e *FieldError) Error() string {
	return fmt.Sprintf("components.%s.%s: %s", e.Component, e.Field, e.Reason)
}

// UnsupportedError reports something a template asks for that Compose has no
// counterpart of.
type UnsupportedError struct {
	Component string
	Field     string
	Reason    string
}

// Error returns the component, the field and the reason.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("components.%s.%s: not possible with compose: %s", e.Component, e.Field, e.Reason)
}

// ErrNoEngine reports that no container engine with a Compose front end
// answers. The error is a [*NoEngineError], which says what was tried.
var ErrNoEngine = errors.New("no container engine with compose answers")

// NoEngineError is the ErrNoEngine of [Detect].
type NoEngineError struct {
	// Tried has one line for each combination looked for, in order.
	Tried []string
	// Silent is the first combination that is installed but whose engine does
	// not answer, with what it said; "" for none.
	Silent string
}

// Error tells of the engine that does not answer, or else lists what was tried.
func (e *NoEngineError) Error() string {
	if e.Silent != "" {
		return ErrNoEngine.Error() + ": " + e.Silent
	}
	return ErrNoEngine.Error() + ": " + strings.Join(e.Tried, "; ")
}

// Is reports whether target is ErrNoEngine.
func (e *NoEngineError) Is(target error) bool { return target == ErrNoEngine }

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

// PullError reports an image that is neither with the engine nor to be had from
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

// CommandError reports a command of the engine that failed.
type CommandError struct {
	// Command is the command line; it never holds a value of the site.
	Command string
	// Stderr is the end of what the command wrote there.
	Stderr string
	Err    error
}

// Error returns the command and the last thing it said.
func (e *CommandError) Error() string {
	said := strings.TrimSpace(e.Stderr)
	if said == "" {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("%s: %v: %s", e.Command, e.Err, lines.ReplaceAllString(said, "; "))
}

// lines matches what separates lines, so that an error stays on one.
var lines = regexp.MustCompile(`\s*[\r\n]\s*`)

// Unwrap returns the failure to run or the exit status.
func (e *CommandError) Unwrap() error { return e.Err }
