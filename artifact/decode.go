package artifact

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxNodes and maxDepth bound the values of a template, authored or stored, after
// aliases are followed: a few lines of nested aliases cannot grow without end, nor
// a hostile release cost more than it weighs. maxEntries bounds one map, whose
// keys the canonical form sorts in quadratic time. maxNameBytes bounds the names
// of fields, which every path of a value below repeats; no path in a container is
// longer.
const (
	maxNodes     = 20_000
	maxDepth     = 32
	maxEntries   = 2000
	maxNameBytes = 4096
)

// decoder reads a document twice over: the YAML of an author into a tree of
// maps, slices and scalars, which the release stores as JSON, and either such
// tree strictly into Go values.
type decoder struct {
	// findings.stored says that the tree comes from a release: fields from a later
	// version are ignored, and nothing has a position.
	*findings
	nodes int
	// endless says that the tree is incomplete, because it would not end.
	endless bool
	// broken holds the fields whose value could not be had, so that the checks
	// that follow do not report them again.
	broken map[string]bool
}

func newDecoder(f *findings) *decoder { return &decoder{findings: f, broken: map[string]bool{}} }

// reject reports a value that cannot be used.
func (d *decoder) reject(field, format string, args ...any) {
	d.broken[field] = true
	d.add(field, format, args...)
}

// isBroken reports whether field, or a value it is part of, was rejected.
func (d *decoder) isBroken(field string) bool {
	for ; field != ""; field = parentField(field) {
		if d.broken[field] {
			return true
		}
	}
	return false
}

// tree turns n into maps, slices and scalars, noting the position of each.
func (d *decoder) tree(n *yaml.Node, field string, depth int) any {
	if d.nodes++; d.endless {
		return nil
	}
	if d.nodes > maxNodes || depth > maxDepth {
		d.endless = true
		d.addAt(position{n.Line, n.Column}, field, "is one of more than %d values or nested more than %d deep; is an alias repeated without end?", maxNodes, maxDepth)
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return d.tree(n.Alias, field, depth+1)
	}
	if _, seen := d.at[field]; !seen {
		d.at[field] = position{n.Line, n.Column}
	}
	switch {
	case n.Kind == yaml.MappingNode && n.Tag == "!!map":
		return d.mapping(n, field, depth)
	case n.Kind == yaml.SequenceNode && n.Tag == "!!seq":
		list := make([]any, 0, len(n.Content))
		for i, c := range n.Content {
			list = append(list, d.tree(c, fmt.Sprintf("%s[%d]", field, i), depth+1))
		}
		return list
	default:
		return d.scalar(n, field)
	}
}

func (d *decoder) mapping(n *yaml.Node, field string, depth int) any {
	m := make(map[string]any, len(n.Content)/2)
	if len(n.Content)/2 > maxEntries {
		d.addAt(position{n.Line, n.Column}, field, "want at most %d entries, got %d", maxEntries, len(n.Content)/2)
		return m
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := position{key.Line, key.Column}
		switch {
		case key.Tag == "!!merge":
			d.addAt(at, field, "merge keys (<<) are not part of the format; repeat the fields or use an alias for a whole value")
			continue
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			d.addAt(at, field, "want a plain word as key; quote it if it is meant as text")
			continue
		}
		if _, twice := m[key.Value]; twice {
			d.addAt(at, joinField(field, key.Value), "given twice")
			continue
		}
		if len(key.Value) > maxNameBytes {
			d.addAt(at, field, longName)
			continue
		}
		child := joinField(field, key.Value)
		d.at[child+keySuffix] = at
		m[key.Value] = d.tree(value, child, depth+1)
	}
	return m
}

// keySuffix marks the position of a key where that of its value is under the
// plain field name.
const keySuffix = "\x00key"

func (d *decoder) scalar(n *yaml.Node, field string) any {
	switch n.Tag {
	case "!!str", "!!timestamp":
		return n.Value
	case "!!bool":
		if v, err := strconv.ParseBool(n.Value); err == nil {
			return v
		}
		d.reject(field, "want true or false, got %s", n.Value)
	case "!!int":
		v, err := strconv.ParseInt(n.Value, 10, 64)
		if err == nil && strconv.FormatInt(v, 10) == n.Value && v <= maxInteger && v >= -maxInteger {
			return v
		}
		d.reject(field, "want a decimal integer below 2^53, got %s; quote it if it is meant as text", n.Value)
	case "!!float":
		v, err := strconv.ParseFloat(n.Value, 64)
		if err == nil && !math.IsInf(v, 0) && !math.IsNaN(v) {
			return number(v)
		}
		d.reject(field, "want a finite number, got %s", n.Value)
	case "!!null":
		d.reject(field, noValue)
	default:
		d.reject(field, "has the YAML tag %s, which the format does not know", n.Tag)
	}
	return nil
}

const (
	noValue  = "has no value; give one or remove the field"
	longName = "holds a name of more than 4096 bytes"
)

// number returns v as an int64 where it is one: JSON does not tell 1 from 1.0.
func number(v float64) any {
	if v == math.Trunc(v) && math.Abs(v) <= maxInteger {
		return int64(v)
	}
	return v
}

// storedTree counts the values of a tree that was read from JSON and applies [number]
// to each. It fails for a tree that no authored template makes.
func (d *decoder) storedTree(tree any, depth int) (any, error) {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		return nil, fmt.Errorf("has more than %d values or is nested more than %d deep", maxNodes, maxDepth)
	}
	var err error
	switch t := tree.(type) {
	case float64:
		return number(t), nil
	case []any:
		for i, e := range t {
			if t[i], err = d.storedTree(e, depth+1); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		if len(t) > maxEntries {
			return nil, fmt.Errorf("has a map of more than %d entries", maxEntries)
		}
		for k, e := range t {
			if t[k], err = d.storedTree(e, depth+1); err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

// setter is a type that reads one scalar in a form of its own.
type setter interface{ set(raw any) error }

// shorthand is a structure that may be written as one scalar too.
type shorthand interface{ short(raw any) error }

// control reports whether r is a control character other than white space. None
// belongs into an environment, an argument or a title, and from hostile media
// one could drive the terminal of whoever looks.
func control(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) }

// decode stores tree in v, reporting every mismatch.
func (d *decoder) decode(tree any, v reflect.Value, field string) {
	if tree == nil {
		if d.stored { // else reported when the tree was made
			d.reject(field, noValue)
		}
		return
	}
	if text, ok := tree.(string); ok && strings.ContainsFunc(text, control) {
		d.reject(field, "holds a control character")
		return
	}
	if s, ok := v.Addr().Interface().(setter); ok {
		if err := s.set(tree); err != nil {
			d.reject(field, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(tree, v.Elem(), field)
	case reflect.Struct:
		d.structure(tree, v, field)
	case reflect.Map:
		m, ok := tree.(map[string]any)
		if !ok {
			d.mismatch(tree, field, "a map")
			return
		}
		v.Set(reflect.MakeMapWithSize(v.Type(), len(m)))
		for _, k := range sortedKeys(m) {
			if len(k) > maxNameBytes { // of a stored tree; else it was left out
				d.reject(field, longName)
				continue
			}
			if strings.ContainsFunc(k, unicode.IsControl) {
				d.reject(joinField(field, k), "the name holds a control character")
				continue
			}
			elem := reflect.New(v.Type().Elem()).Elem()
			d.decode(m[k], elem, joinField(field, k))
			v.SetMapIndex(reflect.ValueOf(k), elem)
		}
	case reflect.Slice:
		list, ok := tree.([]any)
		if !ok {
			d.mismatch(tree, field, "a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
		for i, e := range list {
			d.decode(e, v.Index(i), fmt.Sprintf("%s[%d]", field, i))
		}
	default:
		d.basic(tree, v, field)
	}
}

func (d *decoder) structure(tree any, v reflect.Value, field string) {
	m, ok := tree.(map[string]any)
	if s, short := v.Addr().Interface().(shorthand); !ok && short {
		if err := s.short(tree); err != nil {
			d.reject(field, "%v", err)
		}
		return
	}
	if !ok {
		d.mismatch(tree, field, "a map")
		return
	}
	index := map[string]int{}
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name != "" {
			index[name] = i
		}
	}
	for _, k := range sortedKeys(m) {
		child := joinField(field, k)
		i, known := index[k]
		switch {
		case known:
			d.decode(m[k], v.Field(i), child)
		case d.stored:
			continue
		case reserved(field, k):
			d.addAt(d.at[child+keySuffix], child, "is reserved for a later version of the format; remove it")
		default:
			d.addAt(d.at[child+keySuffix], child, "unknown field%s", suggest(d.findings, k, index))
		}
	}
}

// reserved reports whether name under field has a meaning planned for it.
func reserved(field, name string) bool {
	switch name {
	case "charts", "manifests", "routes", "hooks", "configGroups", "requiresApps", "upgrade":
		return field == ""
	case "overrides":
		return parentField(field) == "components"
	}
	return false
}

func (d *decoder) basic(tree any, v reflect.Value, field string) {
	switch v.Kind() {
	case reflect.String:
		if s, ok := tree.(string); ok {
			v.SetString(s)
			return
		}
		d.mismatch(tree, field, "a string; put it in quotes")
	case reflect.Bool:
		if b, ok := tree.(bool); ok {
			v.SetBool(b)
			return
		}
		d.mismatch(tree, field, "true or false")
	case reflect.Int:
		if n, ok := tree.(int64); ok {
			v.SetInt(n)
			return
		}
		d.mismatch(tree, field, "an integer")
	case reflect.Float64:
		switch n := tree.(type) {
		case int64:
			v.SetFloat(float64(n))
		case float64:
			v.SetFloat(n)
		default:
			d.mismatch(tree, field, "a number")
		}
	case reflect.Interface:
		switch tree.(type) {
		case string, int64, float64, bool:
			v.Set(reflect.ValueOf(tree))
		default:
			d.mismatch(tree, field, "a string, a number or a boolean")
		}
	default:
		panic("artifact: no decoding for " + v.Type().String())
	}
}

func (d *decoder) mismatch(tree any, field, want string) {
	got := "a scalar"
	switch t := tree.(type) {
	case map[string]any:
		got = "a map"
	case []any:
		got = "a list"
	case string:
		got = strconv.Quote(t)
	case int64, float64, bool:
		got = Format(t)
	}
	d.reject(field, "want %s, got %s", want, got)
}
