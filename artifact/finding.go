package artifact

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Finding is one thing wrong with a template: where, what, and what was
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

// FindingsError carries every finding of a template, in the order of the file.
type FindingsError []Finding

// Error lists the findings, one a line.
func (e FindingsError) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

type position struct{ line, column int }

// Bounds on what is told about one document. A hostile release may be wrong in
// hundreds of thousands of places, each with a name of any length.
const (
	maxFindings     = 100
	maxFindingBytes = 1000 // of a message, and of a field
)

// findings collects what is wrong with one document and knows where its values
// stand.
type findings struct {
	file string
	at   map[string]position
	list []Finding
	// stored says that the document comes from a release. Nobody mends that by
	// hand, so no suggestions are worked out.
	stored bool
	// more says that there were findings beyond maxFindings.
	more bool
	// work counts what matching values against patterns has cost.
	work int
}

// full reports whether any further finding will be left out, so that there is no
// point in looking for one.
func (f *findings) full() bool { return f.more }

func (f *findings) add(field, format string, args ...any) {
	// A value that is missing altogether is reported where its parent stands.
	pos, ok := f.at[field]
	for up := field; !ok && up != ""; pos, ok = f.at[up] {
		up = parentField(up)
	}
	f.addAt(pos, field, format, args...)
}

func (f *findings) addAt(pos position, field, format string, args ...any) {
	if len(f.list) >= maxFindings {
		f.more = true
		return
	}
	f.list = append(f.list, Finding{
		File: f.file, Line: pos.line, Column: pos.column,
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

func (f *findings) err() error {
	if len(f.list) == 0 && !f.more {
		return nil
	}
	slices.SortFunc(f.list, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	list := slices.Compact(f.list)
	if len(list) > maxFindings {
		list, f.more = list[:maxFindings], true
	}
	if f.more {
		list = append(list, Finding{File: f.file, Message: fmt.Sprintf("and more; only %d findings are shown", len(list))})
	}
	return FindingsError(list)
}

// joinField appends one key to a field path; a key that is not a plain word is
// quoted, so that file paths stay readable.
func joinField(parent, key string) string {
	if key == "" || strings.ContainsAny(key, `./"[] `) {
		return fmt.Sprintf("%s[%q]", parent, key)
	}
	if parent == "" {
		return key
	}
	return parent + "." + key
}

func parentField(field string) string {
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

// suggest returns the name in candidates that word was probably meant to be, as
// the end of a message, or "".
func suggest[V any](f *findings, word string, candidates map[string]V) string {
	if f.stored || len(candidates) > maxCandidates {
		return ""
	}
	if n := nearest(word, sortedKeys(candidates)); n != "" {
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
