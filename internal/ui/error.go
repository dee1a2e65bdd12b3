package ui

import (
	"errors"
	"reflect"
	"slices"
	"strings"

	"github.com/sealift/sealift/artifact"
)

// joined is the type of what errors.Join makes.
var joined = reflect.TypeOf(errors.Join(errors.New("")))

// errorLines returns the text of err in lines. A line ends only where this program
// ends it: between errors that were joined, between the findings of a template, and
// in an error that has a method Lines, which returns its own. Every other end of a
// line comes from outside, as from what a registry answers, and is escaped: it must
// not pass for a line of ours.
func errorLines(err error) []string {
	switch e := err.(type) { //nolint:errorlint // each link of the chain is looked at
	case artifact.FindingsError:
		lines := make([]string, len(e))
		for i, f := range e {
			lines[i] = oneLine(f.String())
		}
		return lines
	case interface{ Lines() []string }:
		lines := slices.Clone(e.Lines())
		for i, line := range lines {
			lines[i] = oneLine(line)
		}
		return lines
	case interface{ Unwrap() []error }:
		if reflect.TypeOf(err) == joined {
			var lines []string
			for _, inner := range e.Unwrap() {
				lines = append(lines, errorLines(inner)...)
			}
			return lines
		}
		return around(err.Error(), e.Unwrap()...)
	}
	if inner := errors.Unwrap(err); inner != nil {
		return around(err.Error(), inner)
	}
	return []string{oneLine(err.Error())}
}

// around returns the lines of a text that has those of its causes in it, in their
// order. Of a cause that it does not show there are none.
func around(text string, causes ...error) []string {
	lines := []string{""}
	for _, cause := range causes {
		before, after, ok := strings.Cut(text, cause.Error())
		if !ok {
			continue
		}
		inner := errorLines(cause)
		lines[len(lines)-1] += oneLine(before)
		for i, line := range inner {
			if i == 0 {
				lines[len(lines)-1] += line
			} else {
				lines = append(lines, line)
			}
		}
		text = after
	}
	lines[len(lines)-1] += oneLine(text)
	return lines
}

var ends = strings.NewReplacer("\r\n", `\n`, "\n", `\n`, "\r", `\r`)

// oneLine escapes the ends of lines in s.
func oneLine(s string) string { return ends.Replace(s) }
