package document

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxNodes and maxDepth bound the values of a document, authored or stored, after
// aliases are followed: a few lines of nested aliases cannot grow without end, nor
// a hostile one cost more than it weighs. maxEntries bounds one map, whose
// keys the canonical form sorts in quadratic time.
const (
	maxNodes   = 20_000
	maxDepth   = 32
	maxEntries = 2000
	// maxPaths bounds the bytes of the paths of all values: long names that are nested
	// stand in each path below them, and aliases repeat what is below.
	maxPaths = 4 << 20
)

// MaxNameBytes bounds the names of fields, which every path of a value below
// repeats; no path in a container is longer.
const MaxNameBytes = 4096

// MaxInteger is the largest integer that JSON tells from its neighbours
// (RFC 8785, appendix D).
const MaxInteger = 1<<53 - 1

// Rules are what a format reads in ways of its own. The zero value has none.
type Rules struct {
	// Scalar stores raw, a scalar, a map or a list, in target, a pointer, where it
	// knows its type.
	Scalar func(target, raw any) (known bool, err error)
	// Short does for a structure that is written as one scalar.
	Short func(target, raw any) (known bool, err error)
	// Reserved reports whether a name under field has a meaning planned for it.
	Reserved func(field, name string) bool
}

// Decoder reads a document twice over: the YAML of an author into a tree of maps,
// slices and scalars, which can be stored as JSON, and either such tree strictly into
// Go values, whose fields have their names in json tags. It is not for concurrent
// use.
type Decoder struct {
	*Findings
	rules Rules
	nodes int
	paths int
	// endless says that the tree is incomplete, because it would not end.
	endless bool
	// broken holds the fields whose value could not be had, so that the checks
	// that follow do not report them again.
	broken map[string]bool
}

// NewDecoder returns a decoder that reports to f.
func NewDecoder(f *Findings, rules Rules) *Decoder {
	return &Decoder{Findings: f, rules: rules, broken: map[string]bool{}}
}

// reject reports a value that cannot be used.
func (d *Decoder) reject(field, format string, args ...any) {
	d.broken[field] = true
	d.Add(field, format, args...)
}

// IsBroken reports whether field, or a value it is part of, was rejected.
func (d *Decoder) IsBroken(field string) bool {
	for ; field != ""; field = Parent(field) {
		if d.broken[field] {
			return true
		}
	}
	return false
}

// tree turns n into maps, slices and scalars, noting the position of each.
func (d *Decoder) tree(n *yaml.Node, field string, depth int) any {
	if d.nodes++; d.endless {
		return nil
	}
	if d.paths += len(field); d.paths > maxPaths {
		d.endless = true
		d.AddAt(Position{n.Line, n.Column}, "", "names its values by more than %d MiB; are long names nested?", maxPaths>>20)
		return nil
	}
	if d.nodes > maxNodes || depth > maxDepth {
		d.endless = true
		d.AddAt(Position{n.Line, n.Column}, field, "is one of more than %d values or nested more than %d deep; is an alias repeated without end?", maxNodes, maxDepth)
		return nil
	}
	if n.Kind == yaml.AliasNode {
		return d.tree(n.Alias, field, depth+1)
	}
	if _, seen := d.at[field]; !seen {
		d.at[field] = Position{n.Line, n.Column}
	}
	switch {
	case n.Kind == yaml.MappingNode && n.Tag == "!!map":
		return d.mapping(n, field, depth)
	case n.Kind == yaml.SequenceNode && n.Tag == "!!seq":
		list := make([]any, 0, len(n.Content))
		for i, c := range n.Content {
			if d.endless {
				break
			}
			list = append(list, d.tree(c, fmt.Sprintf("%s[%d]", field, i), depth+1))
		}
		return list
	default:
		return d.scalar(n, field)
	}
}

func (d *Decoder) mapping(n *yaml.Node, field string, depth int) any {
	m := make(map[string]any, len(n.Content)/2)
	if len(n.Content)/2 > maxEntries {
		d.AddAt(Position{n.Line, n.Column}, field, "want at most %d entries, got %d", maxEntries, len(n.Content)/2)
		return m
	}
	for i := 0; i+1 < len(n.Content) && !d.endless; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := Position{key.Line, key.Column}
		switch {
		case key.Tag == "!!merge":
			d.AddAt(at, field, "merge keys (<<) are not part of the format; repeat the fields or use an alias for a whole value")
			continue
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str":
			d.AddAt(at, field, "want a plain word as key; quote it if it is meant as text")
			continue
		}
		if _, twice := m[key.Value]; twice {
			d.AddAt(at, Join(field, key.Value), "given twice")
			continue
		}
		if len(key.Value) > MaxNameBytes {
			d.AddAt(at, field, longName)
			continue
		}
		child := Join(field, key.Value)
		d.at[child+keySuffix] = at
		m[key.Value] = d.tree(value, child, depth+1)
	}
	return m
}

// keySuffix marks the position of a key where that of its value is under the
// plain field name.
const keySuffix = "\x00key"

func (d *Decoder) scalar(n *yaml.Node, field string) any {
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
		if err == nil && strconv.FormatInt(v, 10) == n.Value && v <= MaxInteger && v >= -MaxInteger {
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
	if v == math.Trunc(v) && math.Abs(v) <= MaxInteger {
		return int64(v)
	}
	return v
}

// StoredTree counts the values of a tree that was read from JSON and applies [number]
// to each. It fails for a tree that no authored template makes.
func (d *Decoder) StoredTree(tree any, depth int) (any, error) {
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		return nil, fmt.Errorf("has more than %d values or is nested more than %d deep", maxNodes, maxDepth)
	}
	var err error
	switch t := tree.(type) {
	case float64:
		return number(t), nil
	case []any:
		for i, e := range t {
			if t[i], err = d.StoredTree(e, depth+1); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		if len(t) > maxEntries {
			return nil, fmt.Errorf("has a map of more than %d entries", maxEntries)
		}
		for k, e := range t {
			if t[k], err = d.StoredTree(e, depth+1); err != nil {
				return nil, err
			}
		}
	}
	return tree, nil
}

// control reports whether r is a control character other than white space. None
// belongs into an environment, an argument or a title, and from hostile media
// one could drive the terminal of whoever looks.
func control(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\n\r", r) }

// Decode stores a tree in what into points to, reporting every mismatch.
func (d *Decoder) Decode(tree, into any) { d.decode(tree, reflect.ValueOf(into).Elem(), "") }

func (d *Decoder) decode(tree any, v reflect.Value, field string) {
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
	if d.byRule(d.rules.Scalar, tree, v, field) {
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
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if len(k) > MaxNameBytes { // of a stored tree; else it was left out
				d.reject(field, longName)
				continue
			}
			if strings.ContainsFunc(k, unicode.IsControl) {
				d.reject(Join(field, k), "the name holds a control character")
				continue
			}
			elem := reflect.New(v.Type().Elem()).Elem()
			d.decode(m[k], elem, Join(field, k))
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

// byRule reports whether the format has a way of its own to read a value.
func (d *Decoder) byRule(rule func(target, raw any) (bool, error), tree any, v reflect.Value, field string) bool {
	if rule == nil {
		return false
	}
	known, err := rule(v.Addr().Interface(), tree)
	if err != nil {
		d.reject(field, "%v", err)
	}
	return known
}

func (d *Decoder) structure(tree any, v reflect.Value, field string) {
	m, ok := tree.(map[string]any)
	if !ok {
		if d.byRule(d.rules.Short, tree, v, field) {
			return
		}
		d.mismatch(tree, field, "a map")
		return
	}
	index := map[string]int{}
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ","); name != "" {
			index[name] = i
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		child := Join(field, k)
		i, known := index[k]
		switch {
		case known:
			d.decode(m[k], v.Field(i), child)
		case d.stored:
			continue
		case d.rules.Reserved != nil && d.rules.Reserved(field, k):
			d.AddAt(d.at[child+keySuffix], child, "is reserved for a later version of the format; remove it")
		default:
			d.AddAt(d.at[child+keySuffix], child, "unknown field%s", Suggest(d.Findings, k, index))
		}
	}
}

func (d *Decoder) basic(tree any, v reflect.Value, field string) {
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
		panic("document: no decoding for " + v.Type().String())
	}
}

func (d *Decoder) mismatch(tree any, field, want string) {
	got := "a scalar"
	switch t := tree.(type) {
	case map[string]any:
		got = "a map"
	case []any:
		got = "a list"
	case string:
		got = strconv.Quote(t)
	case float64:
		got = strconv.FormatFloat(t, 'f', -1, 64)
	case int64, bool:
		got = fmt.Sprint(t)
	}
	d.reject(field, "want %s, got %s", want, got)
}
