package artifact

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Text is a string with references, the form of every substitutable value of a
// template: literal text in which ${…} names something the site or the target
// supplies, $${ stands for a literal ${ and any other $ for itself.
type Text struct {
	parts []textPart
}

type textPart struct {
	literal string
	ref     *Reference
}

// Scope says what a Reference names.
type Scope int

// The scopes of the closed grammar.
const (
	// ScopeParameter is ${parameters.NAME}.
	ScopeParameter Scope = iota + 1
	// ScopeHost is ${components.KEY.host} or ${self.host}.
	ScopeHost
	// ScopePort is ${components.KEY.ports.NAME} or ${self.ports.NAME}.
	ScopePort
	// ScopeExport is ${components.KEY.exports.NAME} or ${self.exports.NAME}.
	ScopeExport
	// ScopeVersion is ${app.version}.
	ScopeVersion
	// ScopeInstance is ${instance.name}.
	ScopeInstance
)

// Reference is one ${…} of a Text.
type Reference struct {
	Scope Scope
	// Component is the key of the component named, "" for self and for scopes
	// that name none.
	Component string
	// Name is the parameter, port or export named, "" otherwise.
	Name string
	raw  string
}

// String returns the reference as it was written, with its braces.
func (r Reference) String() string { return "${" + r.raw + "}" }

// ReferenceForms lists what may stand between ${ and }, for messages.
const ReferenceForms = "parameters.NAME, components.KEY.host, components.KEY.ports.NAME, components.KEY.exports.NAME, " +
	"self.host, self.ports.NAME, self.exports.NAME, app.version or instance.name"

// ParseText reads s. It fails on a ${ that is not closed and on a reference
// outside the grammar; whether the thing named exists is not looked at.
func ParseText(s string) (Text, error) {
	var t Text
	var lit strings.Builder
	for s != "" {
		i := strings.Index(s, "${")
		if i < 0 {
			lit.WriteString(s)
			break
		}
		if i > 0 && s[i-1] == '$' {
			lit.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		lit.WriteString(s[:i])
		body, rest, closed := strings.Cut(s[i+2:], "}")
		if !closed {
			return Text{}, fmt.Errorf("${ without }; write $${ for a literal ${")
		}
		ref, err := parseReference(body)
		if err != nil {
			return Text{}, err
		}
		if lit.Len() > 0 {
			t.parts = append(t.parts, textPart{literal: lit.String()})
			lit.Reset()
		}
		t.parts = append(t.parts, textPart{ref: &ref})
		s = rest
	}
	if lit.Len() > 0 {
		t.parts = append(t.parts, textPart{literal: lit.String()})
	}
	return t, nil
}

var (
	parameterName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
	componentKey  = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	portName      = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,13}[a-z0-9])?$`)
	envName       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
)

func parseReference(body string) (Reference, error) {
	r := Reference{raw: body}
	words := strings.Split(body, ".")
	switch {
	case body == "app.version":
		r.Scope = ScopeVersion
		return r, nil
	case body == "instance.name":
		r.Scope = ScopeInstance
		return r, nil
	case len(words) == 2 && words[0] == "parameters" && parameterName.MatchString(words[1]):
		r.Scope, r.Name = ScopeParameter, words[1]
		return r, nil
	case words[0] == "self":
		words = words[1:]
	case words[0] == "components" && len(words) > 2 && componentKey.MatchString(words[1]):
		r.Component, words = words[1], words[2:]
	default:
		words = nil
	}
	switch {
	case len(words) == 1 && words[0] == "host":
		r.Scope = ScopeHost
	case len(words) == 2 && words[0] == "ports" && portName.MatchString(words[1]):
		r.Scope, r.Name = ScopePort, words[1]
	case len(words) == 2 && words[0] == "exports" && envName.MatchString(words[1]):
		r.Scope, r.Name = ScopeExport, words[1]
	default:
		return Reference{}, fmt.Errorf("unknown reference ${%s}; want %s", body, ReferenceForms)
	}
	return r, nil
}

// References returns the references of t in order.
func (t Text) References() []Reference {
	var refs []Reference
	for _, p := range t.parts {
		if p.ref != nil {
			refs = append(refs, *p.ref)
		}
	}
	return refs
}

// Expand returns t with each reference replaced by what resolve gives for it. A
// text that is one whole reference keeps the type of its value; any other is
// a string, values formatted as by [Format]. It fails when that would be more than
// MaxFileBytes.
func (t Text) Expand(resolve func(Reference) (any, error)) (any, error) {
	return t.expand(resolve, MaxFileBytes)
}

// errTooLong says that a text and its values are too much together: a few
// references to one long value would fill the memory.
var errTooLong = errors.New("the text with its values is too long")

func (t Text) expand(resolve func(Reference) (any, error), limit int) (any, error) {
	if len(t.parts) == 1 && t.parts[0].ref != nil {
		return resolve(*t.parts[0].ref)
	}
	var b strings.Builder
	for _, p := range t.parts {
		s := p.literal
		if p.ref != nil {
			v, err := resolve(*p.ref)
			if err != nil {
				return nil, err
			}
			s = Format(v)
		}
		if b.Len()+len(s) > limit {
			return nil, fmt.Errorf("%w: more than %d bytes", errTooLong, limit)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}
