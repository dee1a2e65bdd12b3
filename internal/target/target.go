// Package target is the contract between a site and the place where its
// instances run.
//
// A [Target] renders an application into what the place reads, which is pure,
// changes what runs there, and tells what is there. The packages below this one
// implement it; internal/site, which keeps the records, knows only this package.
// A target keeps no state of its own: everything it is asked to do is described
// by a [Deployment], and it finds what belongs to an instance by the marks it
// left there. Errors to branch on are types of this package; they never hold the
// value of a secret.
package target

import (
	"context"

	"github.com/sealift/sealift/artifact"
)

// Target is where instances run.
type Target interface {
	Renderer
	Runner
	Inspector
}

// Renderer turns an application into what a target reads.
type Renderer interface {
	// Name is the target's name, as compose. Records carry it.
	Name() string
	// Render is pure: the same input gives the same rendering. It fails when
	// the application asks for what the target does not have.
	Render(in RenderInput) (*Rendering, error)
}

// Runner changes what runs. The report of each method may be nil; calls of it do
// not overlap.
type Runner interface {
	// Check fails, with nothing changed, unless d could be applied now: the
	// target answers, runs one of the template's platforms, which is a
	// [*PlatformError] otherwise, and has d's addresses free or held by the
	// instance itself, which is a [*PortsError] otherwise.
	Check(ctx context.Context, d Deployment) error
	// Fetch gets the images the target lacks, and touches nothing that runs. It
	// fails with a [*PullError].
	Fetch(ctx context.Context, d Deployment, report func(Event)) error
	// Apply makes d, and nothing else, run for the instance and returns when
	// every component works. What already runs as d describes is left alone, a
	// job that completed under the same definition is not run again, and data
	// volumes are never removed. It fails with a [*PullError], an
	// [*UnhealthyError] or what the target said; nothing is undone then. It may
	// be called again after any failure or kill.
	Apply(ctx context.Context, d Deployment, report func(Event)) error
	// Remove ends everything that runs for the instance, whatever revision it
	// is of; what was rendered may be gone. Data volumes stay.
	Remove(ctx context.Context, d Deployment, report func(Event)) error
}

// Inspector tells what is there.
type Inspector interface {
	// Status returns the state of everything that runs for the instance and of
	// each component of d of which nothing does, sorted by component.
	Status(ctx context.Context, d Deployment) ([]ComponentStatus, error)
	// Volumes returns the names of the instance's data volumes, sorted, those
	// of earlier revisions included.
	Volumes(ctx context.Context, instance string) ([]string, error)
	// RemoveVolume removes one data volume for ever. It fails while it is used.
	RemoveVolume(ctx context.Context, name string) error
}

// RenderInput is what an instance is rendered from.
type RenderInput struct {
	App *artifact.App
	// Instance is a DNS label.
	Instance string
	// Images holds, by component key, the reference to pull: HOST/REPO@DIGEST.
	Images map[string]string
	// Values holds every parameter, validated, secrets included.
	Values map[string]any
	// Dir is the absolute directory below which Rendering.Files will lie.
	Dir string
	// Probe is the absolute path of a static program that is bound into
	// containers for checks of kinds http and tcp: it is run as `probe http URL`
	// or `probe tcp ADDRESS` and exits with 0 when the check succeeds. "" means
	// there is none, and the engine does not know of those checks.
	Probe string
	// Volumes are the Rendering.Volumes of the instance's revision before this
	// one. A component under a new key finds its data through them: it takes
	// the volumes of its aliases. nil for a first install.
	Volumes []string
}

// Rendering is a rendered instance.
type Rendering struct {
	// Documents are kept per revision, by file name. They may hold secrets.
	Documents map[string][]byte
	// Files are shared by the revisions in which they are the same, sorted by
	// path.
	Files []File
	// Definitions identifies, by component key, what the component runs as;
	// one whose definition is the same in two renderings is not touched
	// between them.
	Definitions map[string]string
	// Addresses are the published ports, by component and port name.
	Addresses []Address
	// Volumes are the data volumes as the target names them, sorted.
	Volumes []string
	// Losses say what the template asks for and the target does not give.
	Losses []string
}

// File is a file to be bound into containers. Its path names its content: a file
// that did not change keeps it.
type File struct {
	// Path is relative to RenderInput.Dir, with forward slashes.
	Path string
	Data []byte
	Mode uint32
	UID  int
	GID  int
}

// Address is a port of a component at the host.
type Address struct {
	Component string `json:"component"`
	Port      string `json:"port"`
	Protocol  string `json:"protocol"`
	HostPort  int    `json:"hostPort"`
}

// Deployment is a rendered instance on the disk, as the target is to run it.
type Deployment struct {
	Instance string
	Template *artifact.Template
	// Images and Definitions are those of the rendering, by component key.
	Images      map[string]string
	Definitions map[string]string
	// Addresses are those of the rendering.
	Addresses []Address
	// Rendered is the absolute directory of the rendering's documents.
	Rendered string
	// Secrets are values that must not appear in errors and events.
	Secrets []string
}

// Event is a step of what a target, or the site above it, does. It never holds
// the value of a secret.
type Event struct {
	Type EventType
	// Component is the component concerned, "" for none.
	Component string
	Message   string
}

// EventType says what an event reports.
type EventType string

// The types of events of a target; a site adds its own.
const (
	EventPull   EventType = "pull"
	EventStart  EventType = "start"
	EventWait   EventType = "wait"
	EventReady  EventType = "ready"
	EventRemove EventType = "remove"
	EventNote   EventType = "note"
)

// StateMissing is the state of a component of which nothing runs.
const StateMissing = "missing"

// ComponentStatus is the state of one component's container, or of a component
// that has none.
type ComponentStatus struct {
	Component string `json:"component"`
	// Container is the target's id, "" when there is none.
	Container string `json:"container,omitempty"`
	// State is the target's word, as running or exited, or StateMissing.
	State    string `json:"state"`
	ExitCode int    `json:"exitCode"`
	// Health is healthy, unhealthy, starting or completed, or "" where the
	// template has no check; Detail says why it is not healthy.
	Health string `json:"health,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Image is the reference it was made from and Digests are those under
	// which the target knows what it runs.
	Image    string   `json:"image,omitempty"`
	Digests  []string `json:"digests,omitempty"`
	Restarts int      `json:"restarts"`
	// Drifted says that it does not run as the deployment describes.
	Drifted bool `json:"drifted,omitempty"`
	// Working says that it is as it should be.
	Working bool `json:"working"`
}
