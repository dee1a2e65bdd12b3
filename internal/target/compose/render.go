package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sealift/sealift/artifact"
)

// Input is what a project is rendered from.
type Input struct {
	App *artifact.App
	// Instance is a DNS label.
	Instance string
	// Images holds, by component key, the reference to pull: HOST/REPO@DIGEST.
	Images map[string]string
	// Values holds every parameter, validated, secrets included.
	Values map[string]any
	// Dir is the absolute directory below which the project's files will lie.
	Dir string
	// Volumes are the Project.Volumes of the instance's revision before this
	// one. A component under a new key finds its data through them: it takes
	// the volumes of its aliases. nil for a first install.
	Volumes []string
}

// Project is a rendered instance.
type Project struct {
	// Name is the Compose project, as ProjectName.
	Name string
	// Compose is the project's file. It may hold secrets.
	Compose []byte
	// Files are the files to be bound into containers, sorted by path. A path
	// names its content: a file that did not change keeps it.
	Files []File
	// Addresses are the published ports, by component and port name.
	Addresses []Address
	// Volumes are the data volumes, sorted, as the engine names them.
	Volumes []string
	// Definitions identifies, by component key, what a container is made from;
	// a component whose definition is the same in two projects is not touched
	// between them.
	Definitions map[string]string
	// Losses say what the template asks for and Compose does not give.
	Losses []string
}

// File is a file beside the project's file.
type File struct {
	// Path is relative to Input.Dir, with forward slashes.
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

// Render returns the project of an instance. The same input gives the same
// project. It fails with the joined [*UnsupportedError] and [*FieldError] of
// every component that cannot be rendered.
func Render(in Input) (*Project, error) {
	r := &renderer{
		in:      in,
		resolve: &resolver{in: in, exports: map[string]any{}},
		project: &Project{Name: ProjectName(in.Instance), Definitions: map[string]string{}},
		files:   map[string]File{},
		volumes: map[string]bool{},
	}
	services := newMapping()
	for _, key := range in.App.Template.Keys() {
		r.key, r.component = key, in.App.Template.Components[key]
		service := r.service()
		encoded, err := encode(service.node)
		if err != nil {
			return nil, err
		}
		definition := short(encoded)
		r.project.Definitions[key] = definition
		service.add("labels", r.labels(definition))
		services.addName(key, service.node)
	}
	r.checkAddresses()
	if err := errors.Join(r.errs...); err != nil {
		return nil, err
	}
	root := newMapping()
	root.node.HeadComment = fmt.Sprintf("Instance %s of %s %s, rendered by sealift; changes made here are lost.",
		in.Instance, in.App.Template.ID, in.App.Template.Version)
	root.add("services", services.node)
	r.finish(root)
	var err error
	r.project.Compose, err = encode(root.node)
	return r.project, err
}

// renderer gathers a project; key and component are those at hand.
type renderer struct {
	in        Input
	resolve   *resolver
	project   *Project
	key       string
	component artifact.Component
	files     map[string]File
	volumes   map[string]bool
	errs      []error
}

func (r *renderer) fail(field string, err error) {
	r.errs = append(r.errs, &FieldError{r.key, field, err.Error()})
}

func (r *renderer) lose(format string, args ...any) {
	r.project.Losses = append(r.project.Losses, "components."+r.key+"."+fmt.Sprintf(format, args...))
}

// text expands a text of the component at hand into a safe YAML value.
func (r *renderer) text(field string, x artifact.Text) *yaml.Node {
	s, err := r.resolve.text(r.key, x)
	if err != nil {
		r.fail(field, err)
	}
	return text(s)
}

func (r *renderer) texts(field string, list []artifact.Text) *yaml.Node {
	seq := sequence()
	for i, x := range list {
		seq.Content = append(seq.Content, r.text(fmt.Sprintf("%s[%d]", field, i), x))
	}
	return seq
}

func (r *renderer) service() mapping {
	c, m := r.component, newMapping()
	if c.Kind == artifact.KindCron {
		r.errs = append(r.errs, &UnsupportedError{r.key, "kind", "compose has no schedule; use a job and the host's cron, or another target"})
		return m
	}
	image := r.in.Images[r.key]
	if image == "" {
		r.fail("image", errors.New("no image reference given"))
	}
	m.add("image", text(image))
	// Everything is pulled, by digest, before a container is touched; the front
	// end must not go to a network of its own accord.
	m.add("pull_policy", quoted("never"))
	restart := "unless-stopped"
	if c.Kind == artifact.KindJob {
		restart = "no"
	}
	m.add("restart", quoted(restart))
	if len(c.Entrypoint) > 0 {
		m.add("entrypoint", r.texts("entrypoint", c.Entrypoint))
	}
	if len(c.Args) > 0 {
		m.add("command", r.texts("args", c.Args))
	}
	if c.User != "" {
		m.add("user", text(c.User))
	}
	if c.Replicas > 1 {
		m.add("scale", integer(int64(c.Replicas)))
	}
	r.environment(m)
	r.ports(m)
	r.mounts(m)
	r.health(m)
	r.resources(m)
	return m
}

func (r *renderer) environment(m mapping) {
	env := newMapping()
	for _, name := range sortedKeys(r.component.Env) {
		field := "env." + name
		v, err := r.resolve.value(r.key, r.component.Env[name])
		if err != nil {
			r.fail(field, err)
			continue
		}
		s, err := noNUL(artifact.Format(v))
		if err != nil {
			r.fail(field, err)
		}
		env.addName(name, text(s))
	}
	if !env.empty() {
		m.add("environment", env.node)
	}
}

func (r *renderer) ports(m mapping) {
	seq := sequence()
	for _, name := range sortedKeys(r.component.Ports) {
		p := r.component.Ports[name]
		if p.Publish == nil {
			continue
		}
		field := "ports." + name + ".publish"
		v, err := r.resolve.value(r.key, *p.Publish)
		if err != nil {
			r.fail(field, err)
			continue
		}
		host, err := strconv.Atoi(artifact.Format(v))
		if err != nil || host < 1 || host > 65535 {
			r.fail(field, fmt.Errorf("want a port from 1 to 65535, got %q", artifact.Format(v)))
			continue
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		r.project.Addresses = append(r.project.Addresses, Address{r.key, name, protocol, host})
		seq.Content = append(seq.Content, quoted(fmt.Sprintf("%d:%d/%s", host, p.Port, protocol)))
	}
	if len(seq.Content) > 0 {
		m.add("ports", seq)
	}
}

// checkAddresses reports ports of the host that two components want.
func (r *renderer) checkAddresses() {
	taken := map[string]Address{}
	for _, a := range r.project.Addresses {
		id := fmt.Sprintf("%d/%s", a.HostPort, a.Protocol)
		if other, dup := taken[id]; dup {
			r.key = a.Component
			r.fail("ports."+a.Port+".publish", fmt.Errorf("port %s of the host is taken by components.%s.ports.%s", id, other.Component, other.Port))
		}
		taken[id] = a
	}
}

func (r *renderer) mounts(m mapping) {
	seq := sequence()
	for _, target := range sortedKeys(r.component.Files) {
		f, err := r.file(r.component.Files[target])
		if err != nil {
			r.fail("files."+target, err)
			continue
		}
		r.files[f.Path] = f
		mount := newMapping()
		mount.add("type", quoted("bind"))
		mount.add("source", text(filepath.Join(r.in.Dir, filepath.FromSlash(f.Path))))
		mount.add("target", text(target))
		mount.add("read_only", boolean(true))
		seq.Content = append(seq.Content, mount.node)
	}
	for _, name := range sortedKeys(r.component.Volumes) {
		v := r.component.Volumes[name]
		volume := r.volume(name)
		r.volumes[volume] = true
		mount := newMapping()
		mount.add("type", quoted("volume"))
		mount.add("source", text(volume))
		mount.add("target", text(v.Path))
		seq.Content = append(seq.Content, mount.node)
		if v.Size != "" {
			r.lose("volumes.%s.size: %s is not enforced, volumes share the engine's disk", name, v.Size)
		}
	}
	if len(seq.Content) > 0 {
		m.add("volumes", seq)
	}
}

// volume returns the name of a volume within the project. Keys have no "_", so
// that two components never meet in one name.
func (r *renderer) volume(name string) string {
	for _, key := range append([]string{r.key}, r.component.Aliases...) {
		candidate := key + "_" + name
		if slices.Contains(r.in.Volumes, r.project.Name+"_"+candidate) {
			return candidate
		}
	}
	return r.key + "_" + name
}

// file returns the file f describes under a path that names content and
// permissions, so that neither ever changes below a running container.
func (r *renderer) file(f artifact.File) (File, error) {
	data, ok := r.in.App.Files[f.Source]
	if !ok {
		return File{}, fmt.Errorf("the release carries no file %s", f.Source)
	}
	if f.Template {
		if !utf8.Valid(data) {
			return File{}, fmt.Errorf("%s is not UTF-8, so it cannot be a template", f.Source)
		}
		expanded, err := r.resolve.file(r.key, data)
		if err != nil {
			return File{}, fmt.Errorf("%s: %w", f.Source, err)
		}
		data = expanded
	}
	id := short(fmt.Appendf(nil, "%o %d %d\n%s", f.Perm(), f.UID, f.GID, data))
	return File{
		Path: path.Join("files", id, path.Base(f.Source)),
		Data: data,
		Mode: f.Perm(), UID: f.UID, GID: f.GID,
	}, nil
}

func (r *renderer) health(m mapping) {
	h := r.component.Health
	switch {
	case h == nil:
		return
	case h.Exec == nil:
		r.lose("health: checked by sealift during install, upgrade and status, not by the engine")
		return
	}
	test := sequence(quoted("CMD"))
	for _, arg := range h.Exec {
		test.Content = append(test.Content, text(arg))
	}
	check := newMapping()
	check.add("test", test)
	check.add("interval", quoted(interval(h).String()))
	check.add("timeout", quoted(timeout(h).String()))
	if d := h.StartPeriod.Or(0); d > 0 {
		check.add("start_period", quoted(d.String()))
	}
	check.add("retries", integer(int64(retries(h))))
	m.add("healthcheck", check.node)
}

func interval(h *artifact.Health) time.Duration { return h.Interval.Or(5 * time.Second) }

func timeout(h *artifact.Health) time.Duration { return h.Timeout.Or(5 * time.Second) }

func retries(h *artifact.Health) int {
	if h.Retries < 1 {
		return 10
	}
	return h.Retries
}

func (r *renderer) resources(m mapping) {
	limits := r.component.Resources
	if limits == nil {
		return
	}
	if limits.Memory != "" {
		n, err := artifact.Quantity(limits.Memory)
		if err != nil {
			r.fail("resources.memory", err)
		}
		m.add("mem_limit", integer(n))
	}
	if limits.CPU != "" {
		n, err := artifact.Cores(limits.CPU)
		if err != nil {
			r.fail("resources.cpu", err)
		}
		m.add("cpus", quoted(strconv.FormatFloat(math.Round(n*1000)/1000, 'f', -1, 64)))
	}
}

func (r *renderer) labels(definition string) *yaml.Node {
	labels := newMapping()
	labels.addName(LabelComponent, text(r.key))
	labels.addName(LabelDefinition, text(definition))
	labels.addName(LabelInstance, text(r.in.Instance))
	return labels.node
}

// finish adds what the components share.
func (r *renderer) finish(root mapping) {
	for _, p := range sortedKeys(r.files) {
		r.project.Files = append(r.project.Files, r.files[p])
	}
	if len(r.volumes) == 0 {
		return
	}
	volumes := newMapping()
	for _, name := range sortedKeys(r.volumes) {
		r.project.Volumes = append(r.project.Volumes, r.project.Name+"_"+name)
		// These labels must never change: a front end offers to make a volume
		// anew, without its data, when they do.
		labels := newMapping()
		labels.addName(LabelInstance, text(r.in.Instance))
		volume := newMapping()
		volume.add("labels", labels.node)
		volumes.addName(name, volume.node)
	}
	root.add("volumes", volumes.node)
}

// short names content by the start of its SHA-256.
func short(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
