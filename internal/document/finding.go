// Package document reads documents that people write, strictly: YAML into Go
// values, and stored JSON likewise. Everything that is wrong is reported at once,
// each with its file, line and column and, where one is close, the name that was
// meant. Input may be hostile: sizes, depth, aliases and what is told are bounded.
package document

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Finding is one thing wrong with a document: where, what, and what was
// expected instead.
type Finding struct {
	File string `json:"file"`
	// Line and Column count from 1; both are 0 when the position is unknown.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Field is the path of the value, as components.web.ports.http.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// String returns the finding as file:line:column: field: message.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	if f.Field != "" {
		b.WriteString(": " + f.Field)
	}
	return b.String() + ": " + f.Message
}

// FindingsError carries every finding of a document, in the order of the file.
type FindingsError []Finding

// Error lists the findings, one a line.
func (e FindingsError) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Position is a place in a file, counted from 1; the zero value is none.
type Position struct{ Line, Column int }

// Bounds on what is told about one document. A hostile release may be wrong in
// hundreds of thousands of places, each with a name of any length.
const (
	MaxFindings     = 100
	maxFindingBytes = 1000 // of a message, and of a field
)

// Findings collects what is wrong with one document and knows where its values
// stand. It is not for concurrent use.
type Findings struct {
	file string
	at   map[string]Position
	list []Finding
	// stored says that nobody mends the document by hand, so that no suggestions
	// are worked out.
	stored bool
	// more says that there were findings beyond MaxFindings.
	more bool
}

// New returns findings of the file called name that somebody wrote.
func New(name string) *Findings { return &Findings{file: name, at: map[string]Position{}} }

// NewStored returns findings of a document that a program wrote, and that has no
// positions: fields it does not know are ignored.
func NewStored(name string) *Findings {
	f := New(name)
	f.stored = true
	return f
}

// Full reports whether any further finding will be left out, so that there is no
// point in looking for one.
func (f *Findings) Full() bool { return f.more }

// Forget drops everything found so far.
func (f *Findings) Forget() { f.list, f.more = nil, false }

// Beside runs check and keeps what it finds, but for fields that skip names: a value
// that could not be had must not be reported twice.
func (f *Findings) Beside(skip func(field string) bool, check func()) {
	before, more := f.list, f.more
	f.Forget()
	check()
	f.more = f.more || more
	f.list = append(before, slices.DeleteFunc(f.list, func(x Finding) bool { return skip(x.Field) })...)
}

// Add reports what is wrong with a field, at its place, or that of what it is part
// of where it is missing altogether.
func (f *Findings) Add(field, format string, args ...any) {
	pos, ok := f.at[field]
	for up := field; !ok && up != ""; pos, ok = f.at[up] {
		up = Parent(up)
	}
	f.AddAt(pos, field, format, args...)
}

// AddAt is [Findings.Add] for a place that is known.
func (f *Findings) AddAt(pos Position, field, format string, args ...any) {
	if len(f.list) >= MaxFindings {
		f.more = true
		return
	}
	f.list = append(f.list, Finding{
		File: f.file, Line: pos.Line, Column: pos.Column,
		Field: clip(field), Message: clip(fmt.Sprintf(format, args...)),
	})
}

// clip cuts s where it is too long to be shown.
func clip(s string) string {
	if len(s) <= maxFindingBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxFindingBytes], "") + "…"
}

// Err returns the findings as a [FindingsError], nil when there are none.
func (f *Findings) Err() error {
	if len(f.list) == 0 && !f.more {
		return nil
	}
	slices.SortFunc(f.list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	list := slices.Compact(f.list)
	if len(list) > MaxFindings {
		list, f.more = list[:MaxFindings], true
	}
	if f.more {
		list = append(list, Finding{File: f.file, Message: fmt.Sprintf("and more; only %d findings are shown", len(list))})
	}
	return FindingsError(list)
}

// Join appends one key to a field path; a key that is not a plain word is
// quoted, so that file paths stay readable.
func Join(parent, key string) string {
	if key == "" || strings.ContainsAny(key, `./"[] `) {
		return fmt.Sprintf("%s[%q]", parent, key)
	}
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// Parent returns the path of what a field is part of, "" for the document.
func Parent(field string) string {
	open := "["
	if strings.HasSuffix(field, `"]`) {
		open = `["` // which no quoted key has inside: its quotes are escaped
	}
	if i := strings.LastIndex(field, open); strings.HasSuffix(field, "]") && i >= 0 {
		return field[:i]
	}
	if i := strings.LastIndexByte(field, '.'); i >= 0 {
		return field[:i]
	}
	return ""
}

// Bounds on looking for what was meant: the distance of two words costs the
// product of their lengths.
const (
	maxCandidates     = 200
	maxSuggestedBytes = 64
)

// Suggest returns the name in candidates that word was probably meant to be, as
// the end of a message, or "".
func Suggest[V any](f *Findings, word string, candidates map[string]V) string {
	if f.stored || len(candidates) > maxCandidates {
		return ""
	}
	if n := nearest(word, slices.Sorted(maps.Keys(candidates))); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// nearest returns the candidate most like word, or "" when none is close.
func nearest(word string, candidates []string) string {
	if len(word) > maxSuggestedBytes {
		return ""
	}
	best, bestDistance := "", len(word)/2+1
	for _, c := range candidates {
		if len(c) > maxSuggestedBytes {
			continue
		}
		if d := editDistance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
