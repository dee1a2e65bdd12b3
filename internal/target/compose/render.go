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
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// Renderer renders Compose projects. It needs no engine.
type Renderer struct{}

// Name returns compose.
func (Renderer) Name() string { return "compose" }

// Render returns the project of an instance, its one document named [File]. The
// same input gives the same project. It fails with the joined
// [*UnsupportedError] and [*FieldError] of every component that cannot be
// rendered.
func (Renderer) Render(in target.RenderInput) (*target.Rendering, error) {
	r := &rendering{
		in:      in,
		resolve: &resolver{in: in, exports: map[string]any{}},
		out:     &target.Rendering{Definitions: map[string]string{}},
		files:   map[string]target.File{},
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
		r.out.Definitions[key] = definition
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
	encoded, err := encode(root.node)
	if err != nil {
		return nil, err
	}
	r.out.Documents = map[string][]byte{File: encoded}
	return r.out, nil
}

// rendering gathers what Render returns; key and component are those at hand.
type rendering struct {
	in        target.RenderInput
	resolve   *resolver
	out       *target.Rendering
	key       string
	component artifact.Component
	files     map[string]target.File
	volumes   map[string]bool
	errs      []error
}

func (r *rendering) fail(field string, err error) {
	r.errs = append(r.errs, &FieldError{r.key, field, err.Error()})
}

func (r *rendering) lose(format string, args ...any) {
	r.out.Losses = append(r.out.Losses, "components."+r.key+"."+fmt.Sprintf(format, args...))
}

// text expands a text of the component at hand into a safe YAML value.
func (r *rendering) text(field string, x artifact.Text) *yaml.Node {
	s, err := r.resolve.text(r.key, x)
	if err != nil {
		r.fail(field, err)
	}
	return text(s)
}

func (r *rendering) texts(field string, list []artifact.Text) *yaml.Node {
	seq := sequence()
	for i, x := range list {
		seq.Content = append(seq.Content, r.text(fmt.Sprintf("%s[%d]", field, i), x))
	}
	return seq
}

func (r *rendering) service() mapping {
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

func (r *rendering) environment(m mapping) {
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

func (r *rendering) ports(m mapping) {
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
			r.fail(field, errors.New("want a port from 1 to 65535")) // the value may be a secret
			continue
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		r.out.Addresses = append(r.out.Addresses, target.Address{Component: r.key, Port: name, Protocol: protocol, HostPort: host})
		seq.Content = append(seq.Content, quoted(fmt.Sprintf("%d:%d/%s", host, p.Port, protocol)))
	}
	if len(seq.Content) > 0 {
		m.add("ports", seq)
	}
}

// checkAddresses reports ports of the host that two components want.
func (r *rendering) checkAddresses() {
	taken := map[string]target.Address{}
	for _, a := range r.out.Addresses {
		id := fmt.Sprintf("%d/%s", a.HostPort, a.Protocol)
		if other, dup := taken[id]; dup {
			r.key = a.Component
			r.fail("ports."+a.Port+".publish", fmt.Errorf("port %s of the host is taken by components.%s.ports.%s", id, other.Component, other.Port))
		}
		taken[id] = a
	}
}

func (r *rendering) mounts(m mapping) {
	seq := sequence()
	for _, inside := range sortedKeys(r.component.Files) {
		f, err := r.file(r.component.Files[inside])
		if err != nil {
			r.fail("files."+inside, err)
			continue
		}
		r.files[f.Path] = f
		mount := newMapping()
		mount.add("type", quoted("bind"))
		mount.add("source", text(filepath.Join(r.in.Dir, filepath.FromSlash(f.Path))))
		mount.add("target", text(inside))
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
	if h := r.component.Health; h != nil && h.Exec == nil && r.in.Probe != "" {
		mount := newMapping()
		mount.add("type", quoted("bind"))
		mount.add("source", text(r.in.Probe))
		mount.add("target", text(probeInside))
		mount.add("read_only", boolean(true))
		seq.Content = append(seq.Content, mount.node)
	}
	if len(seq.Content) > 0 {
		m.add("volumes", seq)
	}
}

// probeInside is where containers find the program that checks them.
const probeInside = "/.sealift/probe"

// volume returns the name of a volume within the project. Keys have no "_", so
// that two components never meet in one name.
func (r *rendering) volume(name string) string {
	for _, key := range append([]string{r.key}, r.component.Aliases...) {
		candidate := key + "_" + name
		if slices.Contains(r.in.Volumes, ProjectName(r.in.Instance)+"_"+candidate) {
			return candidate
		}
	}
	return r.key + "_" + name
}

// file returns the file f describes under a path that names content and
// permissions, so that neither ever changes below a running container.
func (r *rendering) file(f artifact.File) (target.File, error) {
	data, ok := r.in.App.Files[f.Source]
	if !ok {
		return target.File{}, fmt.Errorf("the release carries no file %s", f.Source)
	}
	if f.Template {
		if !utf8.Valid(data) {
			return target.File{}, fmt.Errorf("%s is not UTF-8, so it cannot be a template", f.Source)
		}
		expanded, err := r.resolve.file(r.key, data)
		if err != nil {
			return target.File{}, fmt.Errorf("%s: %w", f.Source, err)
		}
		data = expanded
	}
	id := short(fmt.Appendf(nil, "%o %d %d\n%s", f.Perm(), f.UID, f.GID, data))
	return target.File{
		Path: path.Join("files", id, path.Base(f.Source)),
		Data: data,
		Mode: f.Perm(), UID: f.UID, GID: f.GID,
	}, nil
}

func (r *rendering) health(m mapping) {
	h := r.component.Health
	switch {
	case h == nil:
		return
	case h.Exec == nil && r.in.Probe == "":
		r.lose("health: checked by sealift during install, upgrade and status, not by the engine")
		return
	}
	command := h.Exec
	if h.HTTP != nil {
		port := r.component.Ports[h.HTTP.Port].Port
		command = []string{probeInside, "probe", "http", fmt.Sprintf("http://127.0.0.1:%d/%s", port, strings.TrimPrefix(h.HTTP.Path, "/"))}
	} else if h.TCP != "" {
		command = []string{probeInside, "probe", "tcp", fmt.Sprintf("127.0.0.1:%d", r.component.Ports[h.TCP].Port)}
	}
	test := sequence(quoted("CMD"))
	for _, arg := range command {
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

func (r *rendering) resources(m mapping) {
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

func (r *rendering) labels(definition string) *yaml.Node {
	labels := newMapping()
	labels.addName(LabelComponent, text(r.key))
	labels.addName(LabelDefinition, text(definition))
	labels.addName(LabelInstance, text(r.in.Instance))
	return labels.node
}

// finish adds what the components share.
func (r *rendering) finish(root mapping) {
	for _, p := range sortedKeys(r.files) {
		r.out.Files = append(r.out.Files, r.files[p])
	}
	if len(r.volumes) == 0 {
		return
	}
	volumes := newMapping()
	for _, name := range sortedKeys(r.volumes) {
		r.out.Volumes = append(r.out.Volumes, ProjectName(r.in.Instance)+"_"+name)
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
