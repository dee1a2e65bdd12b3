package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/sealift/sealift/internal/document"
)

var (
	appID     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)+$`)
	platform  = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$`)
	octalMode = regexp.MustCompile(`^0?[0-7]{3}$`)
)

// maxComponents bounds what the checks, some of which compare every component
// with every other, may be given by a hostile release.
const (
	maxComponents = 500
	maxPlatforms  = 100
)

// CheckID fails unless id is one an app can have: a DNS domain and a path in lower
// case, at most 200 bytes.
func CheckID(id string) error {
	if !appID.MatchString(id) || len(id) > 200 {
		return fmt.Errorf("want a DNS domain and a path in lower case, as example.com/shop, got %q", id)
	}
	return nil
}

// CheckVersion fails unless v is a SemVer 2 version without build metadata,
// which is also a legal tag (https://semver.org/spec/v2.0.0.html).
func CheckVersion(v string) error {
	if !semver.IsValid("v"+v) || semver.Canonical("v"+v) != "v"+v || len(v) > 128 {
		return fmt.Errorf("want a version as 1.2.3 or 1.2.3-rc.1 (SemVer 2 without build metadata), got %q", v)
	}
	return nil
}

// CompareVersions orders two versions by SemVer precedence.
func CompareVersions(a, b string) int { return semver.Compare("v"+a, "v"+b) }

// checkHead reports what is wrong with the fields that say which app this is.
func (t *Template) checkHead(f *findings) {
	if t.APIVersion != APIVersion {
		f.Add("apiVersion", "want %s, got %q", APIVersion, t.APIVersion)
	}
	if t.Kind != AppKind {
		f.Add("kind", "want %s, got %q", AppKind, t.Kind)
	}
	if err := CheckID(t.ID); err != nil {
		f.Add("id", "%v", err)
	}
	if err := CheckVersion(t.Version); err != nil {
		f.Add("version", "%v", err)
	}
	for _, line := range []struct{ field, text string }{{"title", t.Title}, {"vendor", t.Vendor}} {
		if strings.ContainsAny(line.text, "\r\n") {
			f.Add(line.field, "want one line")
		}
	}
	if len(t.Platforms) == 0 {
		f.Add("platforms", "want at least one platform, as linux/amd64")
	}
	if len(t.Platforms) > maxPlatforms {
		f.Add("platforms", "want at most %d platforms, got %d", maxPlatforms, len(t.Platforms))
		return
	}
	for i, p := range t.Platforms {
		field := fmt.Sprintf("platforms[%d]", i)
		if !platform.MatchString(p) {
			f.Add(field, "want a platform as linux/amd64, got %q", p)
		} else if slices.Contains(t.Platforms[:i], p) {
			f.Add(field, "%s is listed twice", p)
		}
	}
}

// checkBody reports everything else that is wrong with t beyond its shape.
func (t *Template) checkBody(f *findings) {
	for _, name := range sortedKeys(t.Parameters) {
		t.Parameters[name].check(f, document.Join("parameters", name), name)
	}
	if len(t.Components) == 0 {
		f.Add("components", "want at least one component")
	}
	if len(t.Components) > maxComponents {
		f.Add("components", "want at most %d components, got %d", maxComponents, len(t.Components))
		return
	}
	names := map[string]string{}
	for _, key := range t.Keys() {
		t.checkComponent(f, document.Join("components", key), key, names)
	}
	t.checkCycles(f)
	t.checkPublished(f)
}

func (t *Template) checkComponent(f *findings, field, key string, names map[string]string) {
	c := t.Components[key]
	for _, name := range append([]string{key}, c.Aliases...) {
		if !componentKey.MatchString(name) {
			f.Add(field, "want a key of lower-case letters, digits and -, starting with a letter, at most 40 long, got %q", name)
		}
		if other, taken := names[name]; taken {
			f.Add(field, "the name %s belongs to component %s already", name, other)
		}
		names[name] = key
	}
	if _, err := ParseImage(c.Image); err != nil {
		f.Add(document.Join(field, "image"), "want an image reference as registry.example.com/shop/web:1.0.0, got %q", c.Image)
	}
	switch c.Kind {
	case "", KindService, KindStateful, KindDaemon, KindJob, KindCron:
	default:
		f.Add(document.Join(field, "kind"), "want service, stateful, daemon, job or cron, got %q", c.Kind)
	}
	if strings.ContainsAny(c.User, "\r\n\t ") {
		f.Add(document.Join(field, "user"), "want a user as 1000, 1000:1000 or app, got %q", c.User)
	}
	if c.Replicas < 0 || c.Replicas > 1000 {
		f.Add(document.Join(field, "replicas"), "want a number from 1 to 1000, got %d", c.Replicas)
	}
	for i, x := range c.Entrypoint {
		t.checkText(f, fmt.Sprintf("%s[%d]", document.Join(field, "entrypoint"), i), key, x)
	}
	for i, x := range c.Args {
		t.checkText(f, fmt.Sprintf("%s[%d]", document.Join(field, "args"), i), key, x)
	}
	for _, name := range sortedKeys(c.Env) {
		at := document.Join(document.Join(field, "env"), name)
		checkEnvName(f, at, name)
		t.checkText(f, at, key, c.Env[name].Text)
	}
	for _, name := range sortedKeys(c.Exports) {
		at := document.Join(document.Join(field, "exports"), name)
		checkEnvName(f, at, name)
		t.checkText(f, at, key, c.Exports[name])
	}
	c.checkPorts(f, document.Join(field, "ports"), key, t)
	c.checkPaths(f, field)
	c.checkHealth(f, document.Join(field, "health"))
	if c.Resources != nil {
		c.Resources.check(f, document.Join(field, "resources"))
	}
	for _, dep := range sortedKeys(c.DependsOn) {
		t.checkDependency(f, document.Join(document.Join(field, "dependsOn"), dep), key, dep, c.DependsOn[dep])
	}
}

func checkEnvName(f *findings, field, name string) {
	if !envName.MatchString(name) {
		f.Add(field, "want a name of letters, digits and _, not starting with a digit")
	}
}

// checkText reports references of a text of component key that name nothing.
func (t *Template) checkText(f *findings, field, key string, x Text) {
	for _, p := range x.parts {
		if f.Full() {
			return
		}
		if p.ref != nil {
			t.checkReference(f, field, key, *p.ref)
		}
	}
}

// checkReference reports a reference of component self that names nothing.
func (t *Template) checkReference(f *findings, field, self string, r Reference) {
	if r.Scope == ScopeParameter {
		if _, ok := t.Parameters[r.Name]; !ok {
			f.Add(field, "%s: no such parameter%s", r, document.Suggest(f.Findings, r.Name, t.Parameters))
		}
		return
	}
	key := r.Component
	if key == "" {
		key = self
	}
	c, ok := t.Components[key]
	if !ok {
		f.Add(field, "%s: no component %s%s", r, key, document.Suggest(f.Findings, key, t.Components))
		return
	}
	switch r.Scope {
	case ScopePort:
		if _, ok := c.Ports[r.Name]; !ok {
			f.Add(field, "%s: component %s has no port %s%s", r, key, r.Name, document.Suggest(f.Findings, r.Name, c.Ports))
		}
	case ScopeExport:
		if _, ok := c.Exports[r.Name]; !ok {
			f.Add(field, "%s: component %s exports no %s%s", r, key, r.Name, document.Suggest(f.Findings, r.Name, c.Exports))
		}
	}
}

func (c Component) checkPorts(f *findings, field, key string, t *Template) {
	taken := map[string]string{}
	for _, name := range sortedKeys(c.Ports) {
		p := c.Ports[name]
		at := document.Join(field, name)
		if !portName.MatchString(name) {
			f.Add(at, "want a port name of lower-case letters, digits and -, at most 15 long")
		}
		if p.Port < 1 || p.Port > 65535 {
			f.Add(document.Join(at, "port"), "want a port from 1 to 65535, got %d", p.Port)
		}
		if p.Protocol != "" && p.Protocol != "tcp" && p.Protocol != "udp" {
			f.Add(document.Join(at, "protocol"), "want tcp or udp, got %q", p.Protocol)
		}
		id := fmt.Sprintf("%d/%s", p.Port, protocol(p))
		if other, dup := taken[id]; dup && p.Port > 0 {
			f.Add(at, "%s is the number of port %s already", id, other)
		}
		taken[id] = name
		if p.Publish == nil {
			continue
		}
		t.checkText(f, document.Join(at, "publish"), key, p.Publish.Text)
		if c.Replicas > 1 {
			f.Add(document.Join(at, "publish"), "a published port cannot be shared by %d replicas on one host", c.Replicas)
		}
	}
}

func protocol(p Port) string {
	if p.Protocol == "" {
		return "tcp"
	}
	return p.Protocol
}

// checkPublished reports ports of the host that two components would take. A
// parameter counts with its default: who installs twice may choose otherwise,
// who accepts the defaults must get a working app.
func (t *Template) checkPublished(f *findings) {
	taken := map[string]string{}
	for _, key := range t.Keys() {
		for _, name := range sortedKeys(t.Components[key].Ports) {
			p := t.Components[key].Ports[name]
			if p.Publish == nil {
				continue
			}
			at := document.Join(document.Join(document.Join(document.Join("components", key), "ports"), name), "publish")
			v, err := p.Publish.expand(t.defaultOf, maxPortBytes)
			if errors.Is(err, errTooLong) {
				f.Add(at, "want a port from 1 to 65535, got more than %d characters", maxPortBytes)
				continue
			} else if err != nil {
				continue // chosen by the site, or reported as a bad reference
			}
			n, ok := Parameter{Type: "integer"}.convert(v)
			if port, isInt := n.(int64); !ok || !isInt || port < 1 || port > 65535 {
				f.Add(at, "want a port from 1 to 65535, got %s", Format(v))
				continue
			}
			id := fmt.Sprintf("%d/%s", n, protocol(p))
			if other, dup := taken[id]; dup {
				f.Add(at, "port %s of the host is taken by %s already", id, other)
			}
			taken[id] = key + "." + name
		}
	}
}

// maxPortBytes is more than any number of a port needs.
const maxPortBytes = 100

func (t *Template) defaultOf(r Reference) (any, error) {
	if v := t.Parameters[r.Name].Default; r.Scope == ScopeParameter && v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("%s is not known before install", r)
}

// validSource reports whether s is a path beside app.yaml that is the same on
// every system and never leads out of its directory.
func validSource(s string) bool {
	return fs.ValidPath(s) && s != "." && !strings.ContainsAny(s, "\\:\n\r\x00")
}

// checkPaths reports bad sources, targets and volumes, and targets that hide
// each other.
func (c Component) checkPaths(f *findings, field string) {
	taken := map[string]string{}
	claim := func(at, p string) {
		if len(p) > document.MaxNameBytes {
			f.Add(at, "want a path of at most %d bytes, got %d", document.MaxNameBytes, len(p))
			return
		}
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" || strings.ContainsAny(p, ":\n\r\x00") {
			f.Add(at, "want an absolute path inside the container, without . or .., got %q", p)
			return
		}
		if other, dup := taken[p]; dup {
			f.Add(at, "%s is the path of %s already", p, other)
		}
		taken[p] = at
		for up := path.Dir(p); up != "/"; up = path.Dir(up) {
			if _, isFile := c.Files[up]; isFile {
				f.Add(at, "lies below the file %s", up)
			}
		}
	}
	for _, target := range sortedKeys(c.Files) {
		file := c.Files[target]
		at := document.Join(document.Join(field, "files"), target)
		claim(at, target)
		if !validSource(file.Source) {
			f.Add(document.Join(at, "source"), "want a path beside app.yaml that stays inside its directory, with forward slashes, got %q", file.Source)
		}
		if file.Mode != "" && !octalMode.MatchString(file.Mode) {
			f.Add(document.Join(at, "mode"), "want an octal mode in quotes, as \"0444\", got %q", file.Mode)
		}
		if file.UID < 0 || file.GID < 0 || file.UID > math.MaxInt32 || file.GID > math.MaxInt32 {
			f.Add(at, "want uid and gid from 0 to 2147483647")
		}
	}
	for _, name := range sortedKeys(c.Volumes) {
		v := c.Volumes[name]
		at := document.Join(document.Join(field, "volumes"), name)
		if !componentKey.MatchString(name) {
			f.Add(at, "want a volume name of lower-case letters, digits and -")
		}
		claim(document.Join(at, "path"), v.Path)
		if v.Size != "" {
			if _, err := Quantity(v.Size); err != nil {
				f.Add(document.Join(at, "size"), "%v", err)
			}
		}
	}
}

func (c Component) checkHealth(f *findings, field string) {
	h := c.Health
	if h == nil {
		return
	}
	given := 0
	if h.HTTP != nil {
		given++
		c.checkHealthPort(f, document.Join(document.Join(field, "http"), "port"), h.HTTP.Port)
		if h.HTTP.Path != "" && (!strings.HasPrefix(h.HTTP.Path, "/") || strings.ContainsAny(h.HTTP.Path, "\r\n\t ")) {
			f.Add(document.Join(document.Join(field, "http"), "path"), "want a path that starts with /, got %q", h.HTTP.Path)
		}
	}
	if h.TCP != "" {
		given++
		c.checkHealthPort(f, document.Join(field, "tcp"), h.TCP)
	}
	if h.Exec != nil {
		given++
		if len(h.Exec) == 0 {
			f.Add(document.Join(field, "exec"), "want a command")
		}
	}
	if given != 1 {
		f.Add(field, "want exactly one of http, tcp and exec, got %d", given)
	}
	if h.Retries < 0 || h.Retries > 10_000 {
		f.Add(document.Join(field, "retries"), "want a number from 1 to 10000, got %d", h.Retries)
	}
	for name, d := range map[string]Duration{"interval": h.Interval, "timeout": h.Timeout, "startPeriod": h.StartPeriod} {
		if v, err := time.ParseDuration(string(d)); d != "" && (err != nil || v <= 0 || v > time.Hour) {
			f.Add(document.Join(field, name), "want a duration up to 1h, as 5s, got %q", d)
		}
	}
}

func (c Component) checkHealthPort(f *findings, field, name string) {
	p, ok := c.Ports[name]
	if !ok {
		f.Add(field, "no port %q in this component%s", name, document.Suggest(f.Findings, name, c.Ports))
	} else if protocol(p) != "tcp" {
		f.Add(field, "want a tcp port, %s is %s", name, p.Protocol)
	}
}

func (r Resources) check(f *findings, field string) {
	if r.CPU != "" {
		if _, err := Cores(r.CPU); err != nil {
			f.Add(document.Join(field, "cpu"), "%v", err)
		}
	}
	if r.Memory != "" {
		if n, err := Quantity(r.Memory); err != nil || n < 4<<20 {
			f.Add(document.Join(field, "memory"), "want at least 4Mi, as 256Mi or 1G, got %q", r.Memory)
		}
	}
}

func (t *Template) checkDependency(f *findings, field, key, dep string, want Condition) {
	c, ok := t.Components[dep]
	switch {
	case dep == key:
		f.Add(field, "a component cannot wait for itself")
	case !ok:
		f.Add(field, "no component %s%s", dep, document.Suggest(f.Findings, dep, t.Components))
	case want == Healthy && c.Health == nil:
		f.Add(field, "waits for %s to be healthy, but %s has no health check", dep, dep)
	case want == Completed && c.Kind != KindJob:
		f.Add(field, "waits for %s to complete, but %s is not of kind job", dep, dep)
	case want != Started && want != Healthy && want != Completed:
		f.Add(field, "want started, healthy or completed, got %q", want)
	}
}
