package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/sealift/sealift/artifact"
)

// Kinds of change.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Change is a field that differs. Values are as JSON has them; a list is one value.
type Change struct {
	// Field is the path of the field, as env.LOG_LEVEL.
	Field string `json:"field"`
	// Old and New are nil where the field is not there.
	Old any `json:"old,omitempty"`
	New any `json:"new,omitempty"`
	// Secret says that Old and New stand for values that are not shown.
	Secret bool `json:"secret,omitempty"`
}

// hidden stands for a value that is not shown.
const hidden = "(not shown)"

// changes compares two objects and returns the fields that differ, sorted.
func changes(before, after map[string]any) []Change {
	old, new := map[string]any{}, map[string]any{}
	flatten("", before, old)
	flatten("", after, new)
	var list []Change
	for _, field := range slices.Sorted(maps.Keys(union(old, new))) {
		if !reflect.DeepEqual(old[field], new[field]) {
			list = append(list, Change{Field: field, Old: old[field], New: new[field]})
		}
	}
	return list
}

// union has the keys of both.
func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return all
}

// flatten files the values below v by their paths. The depth is bounded by what a
// template may have.
func flatten(path string, v any, into map[string]any) {
	object, ok := v.(map[string]any)
	if !ok || len(object) == 0 && path != "" {
		into[path] = v
		return
	}
	for key, value := range object {
		flatten(joinField(path, key), value, into)
	}
}

// joinField writes a path as the findings of a template do.
func joinField(parent, key string) string {
	switch {
	case key == "" || strings.ContainsAny(key, `./"[] `):
		return fmt.Sprintf("%s[%q]", parent, key)
	case parent == "":
		return key
	}
	return parent + "." + key
}

// document is a stored template as plain JSON, fields of later versions included.
type document map[string]any

func parseDocument(r *artifact.Release) document {
	var d document
	if json.Unmarshal(r.App.Config, &d) != nil {
		return document{} // cannot be: it was read as a template
	}
	return d
}

// object returns the objects that field holds, by key.
func (d document) objects(field string) map[string]map[string]any {
	list, _ := d[field].(map[string]any)
	out := map[string]map[string]any{}
	for key, v := range list {
		if object, ok := v.(map[string]any); ok {
			out[key] = object
		}
	}
	return out
}

// app returns what is neither a component nor a parameter, nor follows from the
// rest.
func (d document) app() map[string]any {
	own := maps.Clone(map[string]any(d))
	for _, field := range []string{"apiVersion", "kind", "components", "parameters"} {
		delete(own, field)
	}
	return own
}

// fieldsOf returns a component without what is compared apart, and ports in their
// long form.
func fieldsOf(component map[string]any) map[string]any {
	own := maps.Clone(component)
	delete(own, "image")
	delete(own, "aliases")
	ports, ok := own["ports"].(map[string]any)
	if !ok {
		return own
	}
	long := map[string]any{}
	for name, port := range ports {
		if number, short := port.(float64); short {
			port = map[string]any{"port": number}
		}
		long[name] = port
	}
	own["ports"] = long
	return own
}

// ParameterDiff is a parameter that differs.
type ParameterDiff struct {
	Name string `json:"name"`
	// Change is Added, Removed or Changed.
	Change string `json:"change"`
	// Required says that a value must be chosen that needed not be before. An
	// upgrade asks for it when the parameter is new, and else keeps the value it has.
	Required bool     `json:"required,omitempty"`
	Fields   []Change `json:"fields,omitempty"`
}

// compareParameters compares what the site may choose.
func compareParameters(before, after *artifact.Release) []ParameterDiff {
	old, new := before.App.Template.Parameters, after.App.Template.Parameters
	oldFields, newFields := parseDocument(before).objects("parameters"), parseDocument(after).objects("parameters")
	list := []ParameterDiff{}
	for _, name := range slices.Sorted(maps.Keys(union(old, new))) {
		was, had := old[name]
		is, has := new[name]
		d := ParameterDiff{Name: name, Change: kindOf(had, has), Required: has && required(is) && (!had || !required(was))}
		if has {
			d.Fields = changes(oldFields[name], newFields[name])
		}
		if d.Change == Changed && len(d.Fields) == 0 {
			continue
		}
		if was.Secret || is.Secret {
			hide(d.Fields, func(field string) bool { return field == "default" || field == "enum" })
		}
		list = append(list, d)
	}
	return list
}

// required reports whether a site has to give a value.
func required(p artifact.Parameter) bool { return p.Default == nil && p.Generate == nil }

// hide takes values out of fields that may hold secrets.
func hide(fields []Change, secret func(field string) bool) {
	for i, f := range fields {
		if secret(f.Field) {
			fields[i].Secret = true
			if f.Old != nil {
				fields[i].Old = hidden
			}
			if f.New != nil {
				fields[i].New = hidden
			}
		}
	}
}

// kindOf returns what it means that something was there and is there.
func kindOf(was, is bool) string {
	switch {
	case !was:
		return Added
	case !is:
		return Removed
	}
	return Changed
}
