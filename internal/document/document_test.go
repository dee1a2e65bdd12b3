package document_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/sealift/sealift/internal/document"
)

var form = document.Form{Name: "note", MaxBytes: 1 << 20, Start: "title", Map: "title"}

// note is a document.
type note struct {
	Title string            `json:"title"`
	Count int               `json:"count"`
	Tags  []string          `json:"tags"`
	Texts map[string]string `json:"texts"`
	Child *note             `json:"child"`
}

func parse(text string) (note, error) {
	f := document.New("note.yaml")
	d := document.NewDecoder(f, document.Rules{})
	var n note
	if tree, ok := d.Parse([]byte(text), form); ok {
		d.Decode(tree, &n)
	}
	return n, f.Err()
}

func TestParse(t *testing.T) {
	t.Parallel()
	n, err := parse("title: &t shopping\ncount: 3\ntags: [a, *t]\ntexts: {x/y: z}\nchild: {title: more}\n")
	if err != nil || n.Title != "shopping" || n.Count != 3 || n.Tags[1] != "shopping" || n.Texts["x/y"] != "z" || n.Child.Title != "more" {
		t.Errorf("Parse() = %+v, %v", n, err)
	}
	for text, want := range map[string]string{
		"":                           "note.yaml: the file is empty; want a note that starts with title",
		"- a":                        "note.yaml:1:1: want a map with title",
		"title: [":                   "note.yaml:2:1: did not find expected node content",
		"titel: x":                   `note.yaml:1:1: titel: unknown field; did you mean "title"?`,
		"count: many":                `note.yaml:1:8: count: want an integer, got "many"`,
		"count: 1\ncount: 2":         "note.yaml:2:1: count: given twice",
		"tags: [1]":                  "note.yaml:1:8: tags[0]: want a string; put it in quotes, got 1",
		`texts: {x/y: "\e[2J"}`:      `note.yaml:1:14: texts["x/y"]: holds a control character`,
		"title: a\n---\ntitle: b":    "note.yaml:2:1: want one YAML document, got several",
		"child: &c {child: *c}":      "nested more than 32 deep",
		"title:\n":                   "note.yaml:1:7: title: has no value",
		strings.Repeat("#", 1<<20+1): "note is 1048577 bytes, more than the 1048576 accepted",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.40q) = %v, want %q", text, err, want)
		}
	}
}

// Long names that are nested, with aliases below them, must not cost more than the
// document weighs by far.
func TestPathsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 27 {
		fmt.Fprintf(&b, "%s? %s\n%s:\n", strings.Repeat(" ", i), strings.Repeat(string(rune('a'+i%26)), 4000), strings.Repeat(" ", i))
	}
	pad := strings.Repeat(" ", 27)
	b.WriteString(pad + "l: &l [" + strings.Repeat("x,", 1500) + "x]\n")
	for i := range 11 {
		fmt.Fprintf(&b, "%sm%d: *l\n", pad, i)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := parse(b.String())
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "are long names nested?") {
		t.Errorf("Parse() = %.300v, want it to be too long", err)
	}
	if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 100 {
		t.Errorf("%d KiB of YAML cost %d MiB", b.Len()>>10, used)
	}
}
