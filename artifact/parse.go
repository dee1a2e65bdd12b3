package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"go.yaml.in/yaml/v3"
)

// App is a template with everything it needs apart from the images.
type App struct {
	Template *Template
	// Config is the template as a release stores it: RFC 8785 canonical JSON.
	Config []byte
	// Files holds the carried files by source path.
	Files map[string][]byte
}

// ParseTemplate reads an authored template, the bytes of the file called name,
// with its carried files from dir. It reports everything wrong at once as a
// [FindingsError]. Pass [os.Root.FS], which follows no link out of the directory, as dir.
func ParseTemplate(name string, data []byte, dir fs.FS) (*App, error) {
	f := &findings{file: name, at: map[string]position{}}
	root := yamlRoot(data, f)
	if root == nil {
		return nil, f.err()
	}
	d := newDecoder(f)
	tree := d.tree(root, "", 0).(map[string]any)
	if d.endless {
		return nil, f.err()
	}
	t := &Template{}
	d.decode(tree, reflect.ValueOf(t).Elem(), "")
	if t.Requires != nil {
		f.add("requires", "is computed at publish; remove it")
	}
	shape, more := f.list, f.more
	f.list, f.more = nil, false
	t.checkHead(f)
	t.checkBody(f)
	files := t.readFiles(dir, f)
	// A value that could not be had must not be reported twice.
	f.more = f.more || more
	f.list = append(shape, slices.DeleteFunc(f.list, func(x Finding) bool { return d.isBroken(x.Field) })...)
	if err := f.err(); err != nil {
		return nil, err
	}
	config, err := encodeConfig(t, tree)
	if err != nil {
		return nil, err
	}
	return &App{Template: t, Config: config, Files: files}, nil
}

// ParseConfig reads a stored template. Fields it does not know are ignored, as
// the format demands; what it knows must be valid, for the release may come
// from anywhere. Of a template with [Template.UnknownFeatures] only the head is
// checked, and a field of another shape than this version knows is left empty.
func ParseConfig(config []byte) (*Template, error) {
	if len(config) > MaxConfigBytes {
		return nil, fmt.Errorf("template is %d bytes, more than the %d accepted", len(config), MaxConfigBytes)
	}
	var raw any
	if err := json.Unmarshal(config, &raw); err != nil {
		return nil, fmt.Errorf("parse template: %w", err)
	}
	f := &findings{file: "template", at: map[string]position{}, stored: true}
	d := newDecoder(f)
	raw, err := d.storedTree(raw, 0)
	if err != nil {
		return nil, fmt.Errorf("parse template: %w", err)
	}
	tree, ok := raw.(map[string]any)
	if !ok {
		return nil, errors.New("parse template: want a JSON object")
	}
	// One form only: a key given twice would be read differently elsewhere.
	if canonical, err := jsoncanonicalizer.Transform(config); err != nil || !bytes.Equal(canonical, config) {
		return nil, errors.New("parse template: want RFC 8785 canonical JSON")
	}
	t := &Template{}
	d.decode(tree, reflect.ValueOf(t).Elem(), "")
	if len(t.UnknownFeatures()) > 0 {
		// A later version may have put anything into the rest; what is
		// understood of it is shown, and it is never rendered.
		f.list, f.more = nil, false
	} else {
		t.checkBody(f)
	}
	t.checkHead(f)
	if err := f.err(); err != nil {
		return nil, err
	}
	return t, nil
}

// encodeConfig returns the document as authored, with the features it needs,
// as canonical JSON. Nothing else is added: a default that is not written stays
// unwritten.
func encodeConfig(t *Template, tree map[string]any) ([]byte, error) {
	requires := []string{}
	for _, name := range sortedKeys(features) {
		if features[name](t) {
			requires = append(requires, name)
		}
	}
	t.Requires = requires
	tree["requires"] = requires
	raw, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encode template: %w", err)
	}
	canonical, err := jsoncanonicalizer.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonicalise template: %w", err)
	}
	if len(canonical) > MaxConfigBytes {
		return nil, fmt.Errorf("template is %d bytes, more than the %d a release may carry", len(canonical), MaxConfigBytes)
	}
	return canonical, nil
}

// yamlRoot returns the map that is the one document of data, or reports why
// there is none and returns nil.
func yamlRoot(data []byte, f *findings) *yaml.Node {
	if len(data) > MaxConfigBytes {
		f.add("", "template is %d bytes, more than the %d accepted", len(data), MaxConfigBytes)
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		f.add("", "the file is empty; want a template that starts with apiVersion: %s", APIVersion)
		return nil
	} else if err != nil {
		pos, message := yamlError(err)
		f.addAt(pos, "", "%s", message)
		return nil
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		f.addAt(position{more.Line, more.Column}, "", "want one YAML document, got several")
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode || root.Tag != "!!map" {
		f.addAt(position{root.Line, root.Column}, "", "want a map with apiVersion, kind, id, version and components")
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
func yamlError(err error) (position, string) {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	m := yamlLine.FindStringSubmatch(message)
	if m == nil {
		return position{}, message
	}
	message = message[len(m[0]):]
	n, _ := strconv.Atoi(m[1]) // 0 for a number beyond any file
	if yamlGrammar.MatchString(message) {
		n++
	}
	return position{n, 1}, message
}

// readFiles reads each carried file once and checks the references in those
// that are templates.
func (t *Template) readFiles(dir fs.FS, f *findings) map[string][]byte {
	files := map[string][]byte{}
	total := 0
	for _, key := range t.Keys() {
		c := t.Components[key]
		for _, target := range sortedKeys(c.Files) {
			file := c.Files[target]
			field := joinField(joinField(joinField(joinField("components", key), "files"), target), "source")
			if !validSource(file.Source) {
				continue // reported by the checks
			}
			data, read := files[file.Source]
			if !read {
				var err error
				if data, err = readFile(dir, file.Source); err != nil {
					f.add(field, "%v", err)
					continue
				}
				files[file.Source] = data
				if total += len(data); total > MaxFilesBytes {
					f.add(field, "the files are more than the %d bytes a release carries; put them in the image", MaxFilesBytes)
					return files
				}
			}
			if !file.Template {
				continue
			}
			if !utf8.Valid(data) {
				f.add(field, "%s is not UTF-8 text, which a template must be", file.Source)
				continue
			}
			text, err := ParseText(string(data))
			if err != nil {
				f.add(field, "%s: %v", file.Source, err)
				continue
			}
			t.checkText(f, field, key, text)
		}
	}
	return files
}

func readFile(dir fs.FS, source string) ([]byte, error) {
	info, err := fs.Stat(dir, source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist beside the template", source)
	case err != nil:
		return nil, fmt.Errorf("%s cannot be read: %w", source, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", source)
	case info.Size() > MaxFileBytes:
		return nil, fmt.Errorf("%s is %d bytes, more than the %d a release carries as a file; put it in the image", source, info.Size(), MaxFileBytes)
	}
	data, err := fs.ReadFile(dir, source)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", source, err)
	}
	return data, nil
}
