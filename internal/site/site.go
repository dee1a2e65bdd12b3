// Package site keeps what is installed at a site: instances, their revisions and
// the values chosen for them, in the site's home directory.
//
// [Open] gives a [Home]. [Home.Install], [Home.Upgrade], [Home.Rollback] and
// [Home.Uninstall] each check first, write down what they are about to do, let
// the [target.Target] do it, and record how it went. A revision is never changed once
// it is finished; the current one is the newest that succeeded. What was
// rendered for it stays on the disk, so that going back needs nothing but the
// home and the images.
//
// Every write is durable and atomic, and a kill at any point leaves a state that
// [Home.Status] names and the same command, or a rollback, mends. Data volumes
// are kept unless they are named to [Home.Uninstall]. Values of secret
// parameters are in secrets.json and in rendered files, which only their owner
// can read, and nowhere else: not in records, events or errors.
package site

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"path/filepath"
	"regexp"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/target"
)

// Options says where instances run and what the world is like.
type Options struct {
	// Target runs the instances. nil leaves a home that can only be read.
	Target target.Target
	// Probe is a static program that checks components from inside their
	// containers, see [target.RenderInput]; a copy is kept in the home. ""
	// means there is none.
	Probe string
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// Rand is the source of generated secrets; nil means crypto/rand.
	Rand io.Reader
	// Report receives each step; nil discards. Calls do not overlap.
	Report func(target.Event)
}

// Home is a site's home directory.
type Home struct {
	dir  string
	opts Options
}

// Open returns the home at dir, which need not exist. It writes nothing.
func Open(dir string, opts Options) (*Home, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Rand == nil {
		opts.Rand = rand.Reader
	}
	if opts.Report == nil {
		opts.Report = func(target.Event) {}
	}
	return &Home{dir: abs, opts: opts}, nil
}

// The types of events of a home, beside those of its target.
const (
	EventApply  target.EventType = "apply"
	EventDelete target.EventType = "delete"
	EventDone   target.EventType = "done"
)

// Delivery is a verified release with the place its images are pulled from.
type Delivery struct {
	Release *artifact.Release
	// Repository is HOST/REPO.
	Repository string
	// Images holds the reference to pull, HOST/REPO@DIGEST, by component key.
	Images map[string]string
	// Evidence is what the verification found; it goes into the record.
	Evidence json.RawMessage
	// Signers are the fingerprints of the keys that signed and who signed with a
	// certificate, and Policy is the version
	// of the policy that accepted it, 0 for none. They go into the audit log.
	Signers []string
	Policy  int
	// Library says that somebody chose this version among those of the site's library,
	// where it came in as accepted.
	Library bool
}

// InstallOptions says how to install or upgrade.
type InstallOptions struct {
	// Instance is the instance's name, a DNS label of at most 30 characters;
	// "" means the application's short name.
	Instance string
	// Set holds values by parameter name, as strings or of the parameter's type.
	Set map[string]any
	// AllowDowngrade accepts a lower version than was accepted or is installed, and
	// another digest of a version that was accepted.
	AllowDowngrade bool
	// Atomic makes a failed upgrade return to the revision before it.
	Atomic bool
	// Expect is the Plan.Revision that was agreed to; the call is refused as
	// RefusedMoved when the instance was changed since. 0 for none.
	Expect int
}

// Action says what made a revision.
type Action string

// The actions.
const (
	ActionInstall   Action = "install"
	ActionUpgrade   Action = "upgrade"
	ActionRollback  Action = "rollback"
	ActionUninstall Action = "uninstall"
)

// Result says how a revision went.
type Result string

// The results. A revision that stays pending was interrupted.
const (
	ResultPending   Result = "pending"
	ResultSucceeded Result = "succeeded"
	ResultFailed    Result = "failed"
)

// Revision is the record of one change of an instance.
type Revision struct {
	Instance string `json:"instance"`
	// Number counts the instance's revisions from 1.
	Number int    `json:"number"`
	Action Action `json:"action"`
	// Parent is the revision that was current before, 0 for none.
	Parent int `json:"parent,omitempty"`
	// From is the revision a rollback went back to, 0 for other actions.
	From   int    `json:"from,omitempty"`
	App    App    `json:"app"`
	Target string `json:"target"`
	// Root is the digest of the release.
	Root       digest.Digest     `json:"root"`
	Repository string            `json:"repository"`
	Images     map[string]string `json:"images"`
	// Values holds the parameters that are not secret, and Set the names of
	// those the site chose itself, secret ones included.
	Values map[string]any `json:"values,omitempty"`
	Set    []string       `json:"set,omitempty"`
	// Rendered is the directory of the rendered documents, relative to the
	// instance's; a rollback shares that of the revision it went back to.
	Rendered string `json:"rendered,omitempty"`
	// Audit is the entry of the log that the change began with, nil where there was no
	// log yet.
	Audit *audit.Head `json:"audit,omitempty"`
	// Files are the files bound into containers.
	Files       []FileRecord      `json:"files,omitempty"`
	Definitions map[string]string `json:"definitions,omitempty"`
	Addresses   []target.Address  `json:"addresses,omitempty"`
	Volumes     []string          `json:"volumes,omitempty"`
	Losses      []string          `json:"losses,omitempty"`
	Started     time.Time         `json:"started"`
	Finished    time.Time         `json:"finished,omitzero"`
	Result      Result            `json:"result"`
	Error       string            `json:"error,omitempty"`
	Evidence    json.RawMessage   `json:"evidence,omitempty"`

	// Unchanged says that nothing was done because this revision is what was
	// asked for; it is not recorded.
	Unchanged bool `json:"-"`
}

// App names an application's version.
type App struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Title   string `json:"title,omitempty"`
}

// FileRecord names a rendered file by its path below the instance's directory
// and by its content.
type FileRecord struct {
	Path   string        `json:"path"`
	Digest digest.Digest `json:"digest"`
}

var instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)

// instanceDir returns the directory of an instance.
func (h *Home) instanceDir(name string) string { return filepath.Join(h.dir, "instances", name) }
