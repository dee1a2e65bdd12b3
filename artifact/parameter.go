package artifact

import (
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/sealift/sealift/internal/document"
)

func (p Parameter) check(f *findings, field, name string) {
	if !parameterName.MatchString(name) {
		f.Add(field, "want a parameter name of letters, digits and _, starting with a letter")
	}
	switch p.Type {
	case "string", "integer", "number", "boolean":
	default:
		f.Add(document.Join(field, "type"), "want string, integer, number or boolean, got %q", p.Type)
		return
	}
	if p.Generate != nil && (p.Generate.Length < 8 || p.Generate.Length > 256) {
		f.Add(document.Join(field, "generate"), "want a length from 8 to 256, got %d", p.Generate.Length)
	}
	if p.Generate != nil && (p.Type != "string" || p.Default != nil) {
		f.Add(document.Join(field, "generate"), "is for strings without a default")
	}
	if numeric := p.Type == "integer" || p.Type == "number"; !numeric && (p.Minimum != nil || p.Maximum != nil) {
		f.Add(field, "minimum and maximum are for integers and numbers")
	}
	if p.Type != "string" && p.Pattern != "" {
		f.Add(document.Join(field, "pattern"), "is for strings")
	}
	if p.Minimum != nil && p.Maximum != nil && *p.Minimum > *p.Maximum {
		f.Add(document.Join(field, "minimum"), "is above the maximum, %s", Format(*p.Maximum))
	}
	if p.Pattern != "" && f.work > maxMatchingWork {
		return // reported; compiling is what costs
	}
	re, err := p.pattern()
	if err != nil {
		f.Add(document.Join(field, "pattern"), "want an RE2 expression: %v", err)
		return
	}
	if f.work += p.matchingWork(); f.work > maxMatchingWork && p.Pattern != "" {
		f.Add(document.Join(field, "pattern"), "the patterns and what they are to match are too large; shorten them")
		return
	}
	bare := p
	bare.Enum = nil
	for i, v := range p.Enum {
		if _, err := bare.accept(v, re); err != nil {
			f.Add(fmt.Sprintf("%s[%d]", document.Join(field, "enum"), i), "%v", err)
		}
	}
	if p.Default != nil {
		if _, err := p.accept(p.Default, re); err != nil {
			f.Add(document.Join(field, "default"), "%v", err)
		}
	}
}

// Bounds on patterns. A repetition makes a short one into a program a thousand
// times its length, and matching costs the product of program and text.
const (
	maxPatternBytes = 1000
	maxMatchingWork = 20_000_000
)

// matchingWork estimates, in steps, what compiling the pattern and matching the
// values of the template against it costs.
func (p Parameter) matchingWork() int {
	if p.Pattern == "" {
		return 0
	}
	parsed, err := syntax.Parse(p.Pattern, syntax.Perl)
	if err != nil {
		return 0 // reported
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0
	}
	const compiling = 50 // steps for each instruction, by measure
	text := len(Format(p.Default)) + compiling
	for _, v := range p.Enum {
		text += len(Format(v)) + 1
	}
	return len(program.Inst) * text
}

// pattern returns the expression that the whole string must match. It is
// compiled alone too, so that it cannot close the group it is put in.
func (p Parameter) pattern() (*regexp.Regexp, error) {
	if len(p.Pattern) > maxPatternBytes {
		return nil, fmt.Errorf("of at most %d bytes, got %d", maxPatternBytes, len(p.Pattern))
	}
	if _, err := regexp.Compile(p.Pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + p.Pattern + `)\z`)
}

// Accept returns v as a value of p, or says what p wants instead. A string is
// read as the parameter's type, so that values given on a command line pass.
// The error never repeats the value of a secret.
func (p Parameter) Accept(v any) (any, error) {
	re, err := p.pattern()
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	return p.accept(v, re)
}

// accept is Accept with the pattern compiled.
func (p Parameter) accept(v any, re *regexp.Regexp) (any, error) {
	shown := fmt.Sprintf("%q", Format(v))
	if p.Secret {
		shown = "another value"
	}
	value, ok := p.convert(v)
	if !ok {
		return nil, fmt.Errorf("want %s, got %s", p.wants(), shown)
	}
	switch x := value.(type) {
	case int64:
		if !p.inRange(float64(x)) {
			return nil, fmt.Errorf("want %s, got %s", p.wants(), shown)
		}
	case float64:
		if !p.inRange(x) {
			return nil, fmt.Errorf("want %s, got %s", p.wants(), shown)
		}
	case string:
		if p.Pattern != "" && !re.MatchString(x) {
			return nil, fmt.Errorf("want a string that matches %s, got %s", p.Pattern, shown)
		}
	}
	if len(p.Enum) > 0 && !slices.ContainsFunc(p.Enum, func(e any) bool {
		allowed, ok := p.convert(e)
		return ok && allowed == value
	}) {
		choices := make([]string, len(p.Enum))
		for i, e := range p.Enum {
			choices[i] = Format(e)
		}
		return nil, fmt.Errorf("want one of %s, got %s", strings.Join(choices, ", "), shown)
	}
	return value, nil
}

// convert returns v as the Go type of p: string, int64, float64 or bool.
func (p Parameter) convert(v any) (any, bool) {
	s, isString := v.(string)
	switch p.Type {
	case "string":
		return s, isString
	case "boolean":
		if b, ok := v.(bool); ok {
			return b, true
		}
		return s == "true", s == "true" || s == "false"
	}
	var n float64
	switch x := v.(type) {
	case int:
		n = float64(x)
	case int64:
		n = float64(x)
	case float64:
		n = x
	case string:
		parsed, err := strconv.ParseFloat(x, 64)
		if err != nil || strings.Trim(x, "+-.0123456789eE") != "" { // no hex, no 1_000, no Inf
			return nil, false
		}
		n = parsed
	default:
		return nil, false
	}
	if p.Type == "number" {
		return n, !math.IsNaN(n) && !math.IsInf(n, 0)
	}
	return int64(n), n == math.Trunc(n) && math.Abs(n) <= document.MaxInteger
}

func (p Parameter) inRange(n float64) bool {
	return (p.Minimum == nil || n >= *p.Minimum) && (p.Maximum == nil || n <= *p.Maximum)
}

func (p Parameter) wants() string {
	s := map[string]string{"string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false"}[p.Type]
	if p.Minimum != nil {
		s += " from " + Format(*p.Minimum)
	}
	if p.Maximum != nil {
		s += " up to " + Format(*p.Maximum)
	}
	return s
}
