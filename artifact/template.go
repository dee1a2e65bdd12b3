package artifact

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealift/sealift/internal/document"
)

// APIVersion and AppKind head every template of this format.
const (
	APIVersion = "sealift/v1"
	AppKind    = "App"
)

// Template describes an application: its components, how they are connected and
// what the site may choose. docs/format.md gives each field's meaning.
type Template struct {
	APIVersion  string `json:"apiVersion"`
	Kind        string `json:"kind"`
	ID          string `json:"id"`
	Version     string `json:"version"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Vendor      string `json:"vendor,omitempty"`
	// Platforms are os/arch[/variant]; each image must offer every one.
	Platforms  []string             `json:"platforms"`
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	Components map[string]Component `json:"components"`
	// Requires lists the features a program must know to render the template.
	// It is computed by [ParseTemplate], never authored.
	Requires []string `json:"requires,omitempty"`
}

// ShortName returns the last segment of the id, the name people use.
func (t *Template) ShortName() string { return path.Base(t.ID) }

// Keys returns the component keys, sorted.
func (t *Template) Keys() []string { return sortedKeys(t.Components) }

// Parameter is a value the site chooses. Without a default and without generate
// it must be given at install.
type Parameter struct {
	// Type is string, integer, number or boolean.
	Type        string    `json:"type"`
	Title       string    `json:"title,omitempty"`
	Description string    `json:"description,omitempty"`
	Default     any       `json:"default,omitempty"`
	Secret      bool      `json:"secret,omitempty"`
	Generate    *Generate `json:"generate,omitempty"`
	Minimum     *float64  `json:"minimum,omitempty"`
	Maximum     *float64  `json:"maximum,omitempty"`
	// Pattern is an RE2 expression the whole string must match.
	Pattern string `json:"pattern,omitempty"`
	Enum    []any  `json:"enum,omitempty"`
}

// Generate asks for a random value, made once per instance and kept.
type Generate struct {
	// Length counts characters, 8 to 256, drawn from letters and digits.
	Length int `json:"length"`
}

// Kinds of component.
const (
	KindService  = "service"
	KindStateful = "stateful"
	KindDaemon   = "daemon"
	KindJob      = "job"
	KindCron     = "cron"
)

// Component is one image of an application under a key that never changes.
type Component struct {
	Title   string   `json:"title,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
	Image   string   `json:"image"`
	// Kind is one of the Kind constants; "" means KindService.
	Kind       string `json:"kind,omitempty"`
	Entrypoint []Text `json:"entrypoint,omitempty"`
	Args       []Text `json:"args,omitempty"`
	User       string `json:"user,omitempty"`
	// Replicas counts identical containers; 0 means 1.
	Replicas  int                  `json:"replicas,omitempty"`
	Env       map[string]Value     `json:"env,omitempty"`
	Files     map[string]File      `json:"files,omitempty"`
	Ports     map[string]Port      `json:"ports,omitempty"`
	Volumes   map[string]Volume    `json:"volumes,omitempty"`
	Health    *Health              `json:"health,omitempty"`
	Exports   map[string]Text      `json:"exports,omitempty"`
	Resources *Resources           `json:"resources,omitempty"`
	DependsOn map[string]Condition `json:"dependsOn,omitempty"`
}

// Value is a scalar of a template: a Text when it was written as a string, else
// a number or a boolean as it stands.
type Value struct {
	Text   Text
	scalar any // int64, float64 or bool; nil when Text holds the value
}

// Expand returns the value with its references replaced, as [Text.Expand] does.
func (v Value) Expand(resolve func(Reference) (any, error)) (any, error) {
	return v.expand(resolve, MaxFileBytes)
}

func (v Value) expand(resolve func(Reference) (any, error), limit int) (any, error) {
	if v.scalar != nil {
		return v.scalar, nil
	}
	return v.Text.expand(resolve, limit)
}

func (v *Value) set(raw any) error {
	switch x := raw.(type) {
	case string:
		t, err := ParseText(x)
		*v = Value{Text: t}
		return err
	case int64, float64, bool:
		*v = Value{scalar: x}
	default:
		return fmt.Errorf("want a string, a number or a boolean")
	}
	return nil
}

func (t *Text) set(raw any) error {
	s, ok := raw.(string)
	if !ok {
		return fmt.Errorf("want a string")
	}
	parsed, err := ParseText(s)
	*t = parsed
	return err
}

// File is a carried file placed into a component's containers.
type File struct {
	// Source is the path of the file beside app.yaml, with forward slashes.
	Source string `json:"source"`
	// Template says that the content is a Text to be expanded.
	Template bool `json:"template,omitempty"`
	// Mode is octal, as "0444", the default.
	Mode string `json:"mode,omitempty"`
	UID  int    `json:"uid,omitempty"`
	GID  int    `json:"gid,omitempty"`
}

// Perm returns the permission bits of f.
func (f File) Perm() uint32 {
	if f.Mode == "" {
		return 0o444
	}
	n, err := strconv.ParseUint(f.Mode, 8, 12)
	if err != nil {
		return 0o444
	}
	return uint32(n)
}

// Port is a port a component listens on; the short form is its number.
type Port struct {
	Port int `json:"port"`
	// Protocol is tcp, the default, or udp.
	Protocol string `json:"protocol,omitempty"`
	// Publish is the port of the host at which it is reachable from outside,
	// nil for not at all.
	Publish *Value `json:"publish,omitempty"`
}

func (p *Port) short(raw any) error {
	n, ok := raw.(int64)
	if !ok || n < math.MinInt32 || n > math.MaxInt32 {
		return fmt.Errorf("want a port number or {port: NUMBER, publish: NUMBER}")
	}
	p.Port = int(n)
	return nil
}

// Volume is data that outlives the containers of a component.
type Volume struct {
	Path string `json:"path"`
	// Size is a hint for targets that allocate, as 1Gi.
	Size string `json:"size,omitempty"`
}

// Health says how to find out whether a component works; exactly one of HTTP,
// TCP and Exec is set.
type Health struct {
	HTTP *HTTPCheck `json:"http,omitempty"`
	// TCP names a port that must accept a connection.
	TCP string `json:"tcp,omitempty"`
	// Exec is a command that must exit with 0 inside the container.
	Exec []string `json:"exec,omitempty"`
	// Interval, Timeout and StartPeriod are Go durations; their defaults are
	// 5s, 5s and 0s.
	Interval    Duration `json:"interval,omitempty"`
	Timeout     Duration `json:"timeout,omitempty"`
	StartPeriod Duration `json:"startPeriod,omitempty"`
	// Retries counts failures in a row before a component is unhealthy; 0
	// means 10.
	Retries int `json:"retries,omitempty"`
}

// HTTPCheck is a GET that must answer with a status from 200 to 399.
type HTTPCheck struct {
	Port string `json:"port"`
	Path string `json:"path,omitempty"`
}

// Duration is a time span written as in 5s or 1m30s.
type Duration string

// Or returns the duration, or def when none is given.
func (d Duration) Or(def time.Duration) time.Duration {
	if v, err := time.ParseDuration(string(d)); err == nil && v > 0 {
		return v
	}
	return def
}

// Resources limit one container.
type Resources struct {
	// CPU is in cores, as 2, 0.5 or 500m.
	CPU string `json:"cpu,omitempty"`
	// Memory is in bytes with an optional suffix k, M, G, Ki, Mi or Gi.
	Memory string `json:"memory,omitempty"`
}

// Condition is what a component waits for in another.
type Condition string

// Conditions of dependsOn.
const (
	Started   Condition = "started"
	Healthy   Condition = "healthy"
	Completed Condition = "completed"
)

// features names what a template may use beyond the first format, and how to
// tell. A program renders only templates whose features it knows.
var features = map[string]func(*Template) bool{
	"kind-daemon": func(t *Template) bool { return t.uses(KindDaemon) },
	"kind-job":    func(t *Template) bool { return t.uses(KindJob) },
	"kind-cron":   func(t *Template) bool { return t.uses(KindCron) },
}

func (t *Template) uses(kind string) bool {
	for _, c := range t.Components {
		if c.Kind == kind {
			return true
		}
	}
	return false
}

// UnknownFeatures returns the features t requires that this version of the
// package does not know, sorted. A template with any may be carried and
// inspected but not rendered.
func (t *Template) UnknownFeatures() []string {
	var unknown []string
	for _, f := range t.Requires {
		if _, ok := features[f]; !ok {
			unknown = append(unknown, f)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// Quantity returns the number of bytes that s, as 256Mi or 1G, stands for.
func Quantity(s string) (int64, error) {
	units := []struct {
		suffix string
		factor float64
	}{{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}}
	num, factor := s, 1.0
	for _, u := range units {
		if head, ok := strings.CutSuffix(s, u.suffix); ok {
			num, factor = head, u.factor
			break
		}
	}
	n, err := parseDecimal(num)
	if err != nil || n*factor > document.MaxInteger {
		return 0, fmt.Errorf("want a size as 512Mi or 1G, got %q", s)
	}
	return int64(n * factor), nil
}

// Cores returns the number of processor cores that s, as 500m or 1.5, stands for.
func Cores(s string) (float64, error) {
	num, factor := s, 1.0
	if head, ok := strings.CutSuffix(s, "m"); ok {
		num, factor = head, 0.001
	}
	n, err := parseDecimal(num)
	if err != nil || n == 0 || n > 1e6 {
		return 0, fmt.Errorf("want cores as 500m or 1.5, got %q", s)
	}
	return n * factor, nil
}

// parseDecimal reads digits with at most one point: no sign, exponent, hex or
// infinity, which ParseFloat would take.
func parseDecimal(s string) (float64, error) {
	if s == "" || strings.Trim(s, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is no decimal number", s)
	}
	return strconv.ParseFloat(s, 64)
}

// Format writes a parameter's or a reference's value the way it stands in text.
func Format(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	default:
		return fmt.Sprint(x)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
