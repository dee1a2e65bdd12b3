package site

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

// Runner changes what runs.
type Runner interface {
	// Check fails, with nothing changed, unless d could be applied now: the
	// target answers, runs one of the template's platforms, and has d's
	// addresses free or held by the instance itself.
	Check(ctx context.Context, d Deployment) error
	// Fetch gets the images the target lacks. What runs is not touched.
	Fetch(ctx context.Context, d Deployment, report func(Event)) error
	// Apply makes d, and nothing else, run for the instance and returns when
	// every component works. It may be called again after any failure or kill.
	Apply(ctx context.Context, d Deployment, report func(Event)) error
	// Remove ends everything that runs for the instance. Data volumes stay.
	Remove(ctx context.Context, d Deployment, report func(Event)) error
}

// Inspector tells what is there.
type Inspector interface {
	// Status returns the state of each component, sorted by component.
	Status(ctx context.Context, d Deployment) ([]ComponentStatus, error)
	// Volumes returns the names of the instance's data volumes, sorted, those
	// of earlier revisions included.
	Volumes(ctx context.Context, instance string) ([]string, error)
	// RemoveVolume removes one data volume for ever.
	RemoveVolume(ctx context.Context, name string) error
}

// RenderInput is what a target renders.
type RenderInput struct {
	App      *artifact.App
	Instance string
	Images   map[string]string
	// Values holds every parameter, secrets included.
	Values map[string]any
	// Dir is the absolute directory below which files will lie.
	Dir string
	// Volumes are those of the revision before, nil for none.
	Volumes []string
}

// Rendering is a rendered application.
type Rendering struct {
	// Documents are kept per revision, by file name. They may hold secrets.
	Documents map[string][]byte
	// Files are shared by the revisions in which they are the same.
	Files []File
	// Definitions identifies what each component runs as: equal definitions
	// mean that a component is not touched.
	Definitions map[string]string
	Addresses   []Address
	Volumes     []string
	Losses      []string
}

// File is a file to be bound into containers, at a path that names its content.
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

// Deployment is a revision as the target is to run it.
type Deployment struct {
	Instance    string
	Template    *artifact.Template
	Images      map[string]string
	Definitions map[string]string
	Addresses   []Address
	// Dir is the instance's directory and Rendered that of the documents,
	// both absolute.
	Dir      string
	Rendered string
	// Secrets are values that must not appear in errors and events.
	Secrets []string
}

// ComponentStatus is the state of one component's container, or of a component
// that has none.
type ComponentStatus struct {
	Component string `json:"component"`
	// Container is the target's id, "" when there is none.
	Container string `json:"container,omitempty"`
	// State is the target's word, as running, exited or missing.
	State    string `json:"state"`
	ExitCode int    `json:"exitCode"`
	// Health is healthy, unhealthy, starting, completed or "" for no check;
	// Detail says why it is not healthy.
	Health string `json:"health,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Image is the reference it was made from and Digests are those under
	// which the target knows what it runs.
	Image    string   `json:"image,omitempty"`
	Digests  []string `json:"digests,omitempty"`
	Restarts int      `json:"restarts"`
	// Drifted says that it does not run as the current revision describes.
	Drifted bool `json:"drifted,omitempty"`
	// Working says that it is as it should be.
	Working bool `json:"working"`
}
