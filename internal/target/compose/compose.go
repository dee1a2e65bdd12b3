// Package compose runs an application with Docker Compose or its kin.
//
// [Detect] finds an [Engine], which is a [target.Target]. [Renderer] turns an
// application with the site's values into a project, a file of the Compose
// specification (https://github.com/compose-spec/compose-spec) kept to the subset
// that docker compose 2, docker-compose 1.29 and podman compose read alike.
// [Engine.Apply] brings a rendered project up in the order of its dependencies
// and returns when every component works.
//
// Two revisions of an application differ in the definition of exactly those
// components that changed, so that an upgrade touches no other. Data volumes
// are named by instance, component and volume alone; nothing here removes one
// but [Engine.RemoveVolume]. Values stand in the project's file and in the files
// beside it and are handed to no process as arguments, except by podman-compose,
// which does so on its own.
package compose

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sealift/sealift/internal/target"
)

var _ target.Target = (*Engine)(nil)

// File is the name of the project's file among the documents of a rendering.
const File = "compose.yaml"

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
