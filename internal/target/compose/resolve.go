package compose

import (
	"fmt"
	"strings"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/target"
)

// maxText caps one expanded text, and maxFile one expanded file: exports made of
// exports can grow without bound from a small template.
const (
	maxText = 1 << 20
	maxFile = artifact.MaxFileBytes
)

// resolver answers the references of one instance's template.
type resolver struct {
	in      target.RenderInput
	exports map[string]any
}

// text expands x as it stands in component self.
func (r *resolver) text(self string, x artifact.Text) (string, error) {
	return r.capped(self, x, maxText)
}

func (r *resolver) capped(self string, x artifact.Text, limit int) (string, error) {
	v, err := x.Expand(r.resolve(self, limit))
	if err != nil {
		return "", err
	}
	return noNUL(artifact.Format(v))
}

// value expands v as it stands in component self and keeps its type.
func (r *resolver) value(self string, v artifact.Value) (any, error) {
	return v.Expand(r.resolve(self, maxText))
}

// file expands the content of a carried file.
func (r *resolver) file(self string, data []byte) ([]byte, error) {
	x, err := artifact.ParseText(string(data))
	if err != nil {
		return nil, err
	}
	v, err := x.Expand(r.resolve(self, maxFile))
	if err != nil {
		return nil, err
	}
	return []byte(artifact.Format(v)), nil
}

// resolve returns a function that answers references of component self until
// its answers together exceed limit bytes.
func (r *resolver) resolve(self string, limit int) func(artifact.Reference) (any, error) {
	return func(ref artifact.Reference) (any, error) {
		v, err := r.lookup(self, ref)
		if err != nil {
			return nil, err
		}
		if limit -= len(artifact.Format(v)); limit < 0 {
			return nil, fmt.Errorf("%s: expands to too much text", ref)
		}
		return v, nil
	}
}

func (r *resolver) lookup(self string, ref artifact.Reference) (any, error) {
	t := r.in.App.Template
	switch ref.Scope {
	case artifact.ScopeVersion:
		return t.Version, nil
	case artifact.ScopeInstance:
		return r.in.Instance, nil
	case artifact.ScopeParameter:
		v, ok := r.in.Values[ref.Name]
		if !ok {
			return nil, fmt.Errorf("%s: no value given", ref)
		}
		return v, nil
	}
	key := ref.Component
	if key == "" {
		key = self
	}
	c, ok := t.Components[key]
	if !ok {
		return nil, fmt.Errorf("%s: no component %s", ref, key)
	}
	switch ref.Scope {
	case artifact.ScopeHost:
		return key, nil
	case artifact.ScopePort:
		if p, ok := c.Ports[ref.Name]; ok {
			return int64(p.Port), nil
		}
	case artifact.ScopeExport:
		if x, ok := c.Exports[ref.Name]; ok {
			return r.export(key, ref.Name, x)
		}
	}
	return nil, fmt.Errorf("%s: component %s has no such thing", ref, key)
}

// export returns an export of component key. A valid template has no export
// that is made of itself.
func (r *resolver) export(key, name string, x artifact.Text) (any, error) {
	id := key + "." + name
	if v, ok := r.exports[id]; ok {
		return v, nil
	}
	v, err := x.Expand(r.resolve(key, maxText))
	if err != nil {
		return nil, err
	}
	r.exports[id] = v
	return v, nil
}

func noNUL(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", fmt.Errorf("holds a NUL byte, which no process can be given")
	}
	return s, nil
}
