package document

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Form is what a document must be.
type Form struct {
	// Name is what it is called, as template.
	Name     string
	MaxBytes int
	// Start says what an empty file should start with, Map which fields a document
	// that is no map should have.
	Start, Map string
}

// Parse returns the one YAML document of data, a map, as a tree for [Decoder.Decode].
// ok is false where what was reported leaves no tree to be looked at.
func (d *Decoder) Parse(data []byte, form Form) (tree map[string]any, ok bool) {
	root := yamlRoot(data, form, d.Findings)
	if root == nil {
		return nil, false
	}
	tree, ok = d.tree(root, "", 0).(map[string]any)
	return tree, ok && !d.endless
}

// yamlRoot returns the map that is the one document of data, or reports why
// there is none and returns nil.
func yamlRoot(data []byte, form Form, f *Findings) *yaml.Node {
	if len(data) > form.MaxBytes {
		f.Add("", "%s is %d bytes, more than the %d accepted", form.Name, len(data), form.MaxBytes)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		f.Add("", "the file is empty; want a %s that starts with %s", form.Name, form.Start)
		return nil
	} else if err != nil {
		pos, message := yamlError(err)
		f.AddAt(pos, "", "%s", message)
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		f.AddAt(Position{more.Line, more.Column}, "", "want one YAML document, got several")
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode || root.Tag != "!!map" {
		f.AddAt(Position{root.Line, root.Column}, "", "want a map with %s", form.Map)
		return nil
	}
	return root
}

var (
	yamlLine = regexp.MustCompile(`^line (\d+): `)
	// The library counts the lines of the errors of its grammar from 0, those
	// of its scanner from 1.
	yamlGrammar = regexp.MustCompile(`^did not find expected (',' or|'-' indicator|key|node content|<)`)
)

// yamlError digs the line out of a syntax error, which the library gives as
// text only.
func yamlError(err error) (Position, string) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	m := yamlLine.FindStringSubmatch(message)
	if m == nil {
		return Position{}, message
	}
	message = message[len(m[0]):]
	n, _ := strconv.Atoi(m[1]) // 0 for a number beyond any file
	if yamlGrammar.MatchString(message) {
		n++
	}
	return Position{n, 1}, message
}
