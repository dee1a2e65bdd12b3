package site

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/sealift/sealift/artifact"
)

// choice is the outcome of putting values together.
type choice struct {
	// all holds every parameter's value.
	all map[string]any
	// set names the parameters the site chose, sorted.
	set []string
	// notes tell what a site may want to know.
	notes []string
}

// inherited is what a revision before gives to the next.
type inherited struct {
	// template is the one the values were chosen for, nil on install.
	template *artifact.Template
	values   map[string]any
	set      []string
	// generated are values made for this instance at any time before, which the
	// data in its volumes may depend on.
	generated map[string]any
}

// choose puts the values of t together: what is given now, else what the site
// chose before, else what was generated before, else the default; a generated
// value is made when there is none. It fails with a [*ValuesError].
func choose(t *artifact.Template, old inherited, given map[string]any, random io.Reader) (*choice, error) {
	c := &choice{all: map[string]any{}}
	var findings []ValueFinding
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := t.Parameters[name]; !ok {
			findings = append(findings, ValueFinding{name, "the application has no such parameter"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		if err := c.chooseOne(name, t.Parameters[name], old, given, random); err != nil {
			findings = append(findings, ValueFinding{name, err.Error()})
		}
	}
	if findings != nil {
		return nil, &ValuesError{findings}
	}
	return c, nil
}

func (c *choice) chooseOne(name string, p artifact.Parameter, old inherited, given map[string]any, random io.Reader) error {
	v, isGiven := given[name]
	before, hadBefore := old.values[name]
	made, wasMade := old.generated[name]
	var err error
	switch {
	case isGiven:
		v, err = p.Accept(v)
		c.set = append(c.set, name)
	case hadBefore && slices.Contains(old.set, name):
		if v, err = p.Accept(before); err != nil {
			return fmt.Errorf("the value chosen earlier does not fit any more: %w", err)
		}
		c.set = append(c.set, name)
		c.noteDefault(name, p, v, old)
	case p.Generate != nil && wasMade:
		if v, err = p.Accept(made); err != nil {
			return fmt.Errorf("the value generated earlier does not fit any more: %w", err)
		}
	case p.Generate != nil:
		v, err = generate(p, random)
	case p.Default != nil:
		v, err = p.Accept(p.Default)
	case hadBefore:
		v, err = p.Accept(before)
	default:
		return fmt.Errorf("has no default, so a value must be given; it is of type %s%s", p.Type, described(p))
	}
	c.all[name] = v
	return err
}

// noteDefault tells of a default that moved below a value the site chose.
func (c *choice) noteDefault(name string, p artifact.Parameter, kept any, old inherited) {
	if p.Secret || p.Default == nil || old.template == nil {
		return
	}
	was, err := old.template.Parameters[name].Accept(old.template.Parameters[name].Default)
	now, err2 := p.Accept(p.Default)
	if err2 == nil && (err != nil || was != now) && now != kept {
		c.notes = append(c.notes, fmt.Sprintf("parameters.%s stays %s, which the site chose; the default is now %s",
			name, artifact.Format(kept), artifact.Format(now)))
	}
}

func described(p artifact.Parameter) string {
	if p.Description == "" {
		return ""
	}
	return ": " + p.Description
}

// generate makes a random value of letters and digits that p accepts.
func generate(p artifact.Parameter, random io.Reader) (any, error) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	// The largest multiple of the alphabet that fits a byte; what is above
	// would favour its first letters.
	const fair = 256 / len(alphabet) * len(alphabet)
	const attempts = 100 // a pattern may want one of each kind
	var last error
	for range attempts {
		s := make([]byte, 0, p.Generate.Length)
		for b := make([]byte, 1); len(s) < p.Generate.Length; {
			if _, err := io.ReadFull(random, b); err != nil {
				return nil, fmt.Errorf("generate: %w", err)
			}
			if int(b[0]) < fair {
				s = append(s, alphabet[int(b[0])%len(alphabet)])
			}
		}
		v, err := p.Accept(string(s))
		if err == nil {
			return v, nil
		}
		last = err
	}
	return nil, fmt.Errorf("no generated value fits: %w", last)
}

// split separates values into those that may be shown and those that may not.
func split(t *artifact.Template, all map[string]any) (open, secret map[string]any) {
	open, secret = map[string]any{}, map[string]any{}
	for name, v := range all {
		if t.Parameters[name].Secret {
			secret[name] = v
		} else {
			open[name] = v
		}
	}
	return open, secret
}

// secretTexts returns the secrets as they would stand in text. A number or a
// boolean is too common a word to be looked for.
func secretTexts(secret map[string]any) []string {
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(secret)) {
		if s, ok := secret[name].(string); ok {
			texts = append(texts, s)
		}
	}
	// Longer ones first: one may hold another.
	slices.SortStableFunc(texts, func(a, b string) int { return len(b) - len(a) })
	return texts
}
