package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// Plan says what an operation would do.
type Plan struct {
	Instance string `json:"instance"`
	Action   Action `json:"action"`
	// Revision is the number the operation's revision would get, 0 when none
	// would be made.
	Revision int `json:"revision"`
	App      App `json:"app"`
	// Root is the digest of the release.
	Root digest.Digest `json:"root,omitempty"`
	// Before is what is installed now, nil for nothing.
	Before *App `json:"before,omitempty"`
	// Unchanged says that there is nothing to do.
	Unchanged bool `json:"unchanged,omitempty"`
	// Changes has each component of either side, sorted by key; of an
	// uninstall, what runs.
	Changes []Change `json:"changes"`
	// Values are those that are not secret.
	Values    map[string]any   `json:"values,omitempty"`
	Addresses []target.Address `json:"addresses,omitempty"`
	// Volumes are the data volumes that stay, and Deleted those that an
	// uninstall deletes for ever.
	Volumes []string `json:"volumes,omitempty"`
	Deleted []string `json:"deleted,omitempty"`
	// Losses say what the template asks for and the target does not give, and
	// Notes what else the site may want to know.
	Losses []string `json:"losses,omitempty"`
	Notes  []string `json:"notes,omitempty"`
}

// Change says what becomes of a component.
type Change struct {
	Component string     `json:"component"`
	Kind      ChangeKind `json:"kind"`
	Image     string     `json:"image,omitempty"`
}

// ChangeKind says what becomes of a component.
type ChangeKind string

// The kinds of change. Only changed and removed components go down.
const (
	ChangeAdded     ChangeKind = "added"
	ChangeChanged   ChangeKind = "changed"
	ChangeRemoved   ChangeKind = "removed"
	ChangeUnchanged ChangeKind = "unchanged"
)

// operation is a checked change of an instance, ready to be carried out.
type operation struct {
	state     *state
	plan      *Plan
	record    *Revision
	template  *artifact.Template
	config    []byte
	rendering *target.Rendering // nil for a rollback, which has it on the disk
	secret    map[string]any
	current   *Revision
	atomic    bool
	// What the log says besides: who signed, the version of the policy that decided,
	// and what a person insisted on.
	signers  []string
	policy   int
	override string
}

// PlanInstall returns what Install would do, with every check it would make.
// Nothing is written; a secret that would be generated is different each time.
func (h *Home) PlanInstall(ctx context.Context, d Delivery, opts InstallOptions) (*Plan, error) {
	return h.plan(ctx, ActionInstall, d, opts)
}

// PlanUpgrade returns what Upgrade would do, with every check it would make.
func (h *Home) PlanUpgrade(ctx context.Context, d Delivery, opts InstallOptions) (*Plan, error) {
	return h.plan(ctx, ActionUpgrade, d, opts)
}

func (h *Home) plan(ctx context.Context, action Action, d Delivery, opts InstallOptions) (*Plan, error) {
	op, err := h.prepare(ctx, action, d, opts)
	if err != nil {
		return nil, err
	}
	return op.plan, nil
}

// prepare checks an install or upgrade and renders it.
func (h *Home) prepare(ctx context.Context, action Action, d Delivery, opts InstallOptions) (*operation, error) {
	if h.opts.Target == nil {
		return nil, ErrNoTarget
	}
	t := d.Release.App.Template
	s, err := h.load(cmp.Or(opts.Instance, t.ShortName()))
	if err != nil {
		return nil, err
	}
	if err := s.expect(opts.Expect); err != nil {
		return nil, err
	}
	op := &operation{state: s, template: t, config: d.Release.App.Config, current: s.current(), atomic: opts.Atomic}
	if err := op.admit(action, d, opts, h.opts.Target.Name()); err != nil {
		return nil, err
	}
	if op.override, err = h.forward(s.name, d, opts); err != nil {
		return nil, err
	}
	if op.current != nil && artifact.CompareVersions(t.Version, op.current.App.Version) < 0 {
		op.override = overrideDowngrade // or it was refused
	}
	op.signers, op.policy = d.Signers, d.Policy
	old, err := op.inherit()
	if err != nil {
		return nil, err
	}
	values, err := choose(t, old, opts.Set, h.opts.Rand)
	if err != nil {
		return nil, err
	}
	if err := h.render(op, action, d, values); err != nil {
		return nil, err
	}
	op.record.Started = h.now()
	op.plan = op.describe(values.notes)
	if op.plan.Unchanged = op.plan.Unchanged && op.works(ctx, h.opts.Target); op.plan.Unchanged {
		return op, nil
	}
	if err := h.check(ctx, op); err != nil {
		return nil, err
	}
	return op, op.noteVolumes(ctx, h.opts.Target)
}

// expect refuses what was planned as another revision than the next, 0 for any.
func (s *state) expect(revision int) error {
	if next := s.next(); revision != 0 && revision != next {
		return refuse(s.name, RefusedMoved, "%s was changed after this was planned: the next revision is %d, not %d", s.name, next, revision)
	}
	return nil
}

// check asks the target whether it could carry the operation out.
func (h *Home) check(ctx context.Context, op *operation) error {
	err := h.opts.Target.Check(ctx, op.deployment())
	var other *target.PlatformError
	if errors.As(err, &other) {
		return refuse(op.state.name, RefusedPlatform, "%s %s cannot run here: %v", op.record.App.ID, op.record.App.Version, other)
	}
	return err
}

// admit refuses what must not be done to the instance as it stands.
func (op *operation) admit(action Action, d Delivery, opts InstallOptions, runsOn string) error {
	t, current, name := op.template, op.current, op.state.name
	if unknown := t.UnknownFeatures(); len(unknown) > 0 {
		return refuse(name, RefusedFeatures, "%s %s needs %s, which this version of sealift does not know; install a newer sealift",
			t.ID, t.Version, strings.Join(unknown, " and "))
	}
	switch {
	case action == ActionUpgrade && current == nil:
		return op.state.notInstalled()
	case current == nil:
		return nil
	case current.App.ID != t.ID:
		return refuse(name, RefusedOtherApp, "%s is an instance of %s; %s is another application", name, current.App.ID, t.ID)
	case action == ActionInstall && current.Root != d.Release.Root.Digest:
		return refuse(name, RefusedInstalled, "%s is installed already, with version %s", name, current.App.Version)
	case current.Target != runsOn:
		return refuse(name, RefusedTarget, "%s runs on %s, not on %s", name, current.Target, runsOn)
	case current.App.Version == t.Version && current.Root != d.Release.Root.Digest:
		return refuse(name, RefusedVersionReused, "version %s is installed with the digest %s, this one is %s: a version must never be used twice",
			t.Version, current.Root, d.Release.Root.Digest)
	case artifact.CompareVersions(t.Version, current.App.Version) < 0 && !opts.AllowDowngrade:
		return refuse(name, RefusedDowngrade, "%s %s is installed and %s is older", t.ID, current.App.Version, t.Version)
	}
	return nil
}

// notInstalled is the error about an instance without a current revision.
func (s *state) notInstalled() error {
	if len(s.revisions) == 0 && s.journal == nil {
		return &InstanceError{s.name, ErrNotFound}
	}
	return &InstanceError{s.name, ErrNotInstalled}
}

// inherit gathers what earlier revisions hand down. Values come from the current
// one only; what was generated comes from any, for a first install that failed
// may have made its data with it.
func (op *operation) inherit() (inherited, error) {
	old := inherited{generated: map[string]any{}}
	for _, r := range op.state.revisions {
		maps.Copy(old.generated, r.Values)
		maps.Copy(old.generated, op.state.secrets[r.Number])
	}
	if op.current == nil {
		return old, nil
	}
	current := op.state.secrets[op.current.Number]
	maps.Copy(old.generated, op.current.Values)
	maps.Copy(old.generated, current)
	old.values = maps.Clone(op.current.Values)
	if old.values == nil {
		old.values = map[string]any{}
	}
	maps.Copy(old.values, current)
	old.set = op.current.Set
	t, err := op.state.template(op.current)
	old.template = t
	return old, err
}

// render fills the operation's record, rendering and secrets.
func (h *Home) render(op *operation, action Action, d Delivery, values *choice) error {
	in := target.RenderInput{
		App: d.Release.App, Instance: op.state.name, Images: d.Images, Values: values.all, Dir: op.state.dir,
	}
	if h.opts.Probe != "" {
		in.Probe = h.probePath()
	}
	if op.current != nil {
		in.Volumes = op.current.Volumes
	} else if newest := op.state.newest(); newest != nil {
		in.Volumes = newest.Volumes
	}
	rendering, err := h.opts.Target.Render(in)
	if err != nil {
		return err
	}
	var open map[string]any
	open, op.secret = split(op.template, values.all)
	op.rendering = rendering
	op.record = &Revision{
		Instance: op.state.name, Number: op.state.next(), Action: action,
		App:    App{op.template.ID, op.template.Version, op.template.Title},
		Target: h.opts.Target.Name(), Root: d.Release.Root.Digest, Repository: d.Repository, Images: d.Images,
		Values: open, Set: values.set,
		Definitions: rendering.Definitions, Addresses: rendering.Addresses,
		Volumes: rendering.Volumes, Losses: rendering.Losses,
		Result: ResultPending, Evidence: d.Evidence,
	}
	op.record.Rendered = fmt.Sprint(op.record.Number)
	if op.current != nil {
		op.record.Parent = op.current.Number
	}
	return nil
}

// describe makes the plan out of the record.
func (op *operation) describe(notes []string) *Plan {
	r := op.record
	p := &Plan{
		Instance: r.Instance, Action: r.Action, Revision: r.Number, App: r.App, Root: r.Root,
		Values: r.Values, Addresses: r.Addresses, Volumes: r.Volumes, Losses: r.Losses, Notes: notes,
	}
	before := map[string]string{}
	if op.current != nil {
		p.Before = &op.current.App
		before = op.current.Definitions
		p.Unchanged = op.unchanged()
	}
	keys := slices.Sorted(maps.Keys(r.Definitions))
	for key := range before {
		if _, ok := r.Definitions[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		was, had := before[key]
		is, has := r.Definitions[key]
		c := Change{Component: key, Kind: ChangeUnchanged, Image: r.Images[key]}
		switch {
		case !has:
			c.Kind = ChangeRemoved
		case !had:
			c.Kind = ChangeAdded
		case was != is:
			c.Kind = ChangeChanged
		}
		p.Changes = append(p.Changes, c)
	}
	return p
}

// works reports whether all that the operation describes runs already; what does
// not is put right by carrying the operation out.
func (op *operation) works(ctx context.Context, at target.Inspector) bool {
	list, err := at.Status(ctx, op.deployment())
	return err == nil && !slices.ContainsFunc(list, func(c target.ComponentStatus) bool { return !c.Working })
}

// unchanged reports whether the current revision is what is asked for, and no
// other was tried since.
func (op *operation) unchanged() bool {
	cur, r := op.current, op.record
	return op.state.newest() == cur && op.state.interrupted() == 0 && cur.Root == r.Root &&
		maps.Equal(cur.Definitions, r.Definitions) &&
		sameValues(op.template, cur.Values, r.Values) &&
		sameValues(op.template, op.state.secrets[cur.Number], op.secret)
}

// sameValues compares values one of which may have been through JSON, where an
// integer becomes a float.
func sameValues(t *artifact.Template, a, b map[string]any) bool {
	return maps.EqualFunc(a, b, func(x, y any) bool { return x == y }) || len(a) == len(b) && !slices.ContainsFunc(
		slices.Collect(maps.Keys(a)), func(name string) bool {
			x, errX := t.Parameters[name].Accept(a[name])
			y, errY := t.Parameters[name].Accept(b[name])
			return errX != nil || errY != nil || x != y
		})
}

// noteVolumes tells of data that was there before the instance.
func (op *operation) noteVolumes(ctx context.Context, at target.Inspector) error {
	if op.current != nil {
		return nil
	}
	there, err := at.Volumes(ctx, op.state.name)
	if err != nil {
		return err
	}
	for _, name := range there {
		if slices.Contains(op.record.Volumes, name) {
			op.plan.Notes = append(op.plan.Notes, fmt.Sprintf("volume %s has data of an earlier installation, which will be used", name))
		}
	}
	return nil
}

// deployment returns the operation's revision as the target is to run it.
func (op *operation) deployment() target.Deployment {
	return op.state.deployment(op.record, op.template, op.secret)
}

func (s *state) deployment(r *Revision, t *artifact.Template, secret map[string]any) target.Deployment {
	return target.Deployment{
		Instance: s.name, Template: t, Images: r.Images, Definitions: r.Definitions, Addresses: r.Addresses,
		Rendered: s.path(path.Base(r.Rendered)), Secrets: secretTexts(secret),
	}
}
