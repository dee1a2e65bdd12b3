package artifact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"unicode/utf8"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/sealift/sealift/internal/document"
)

// App is a template with everything it needs apart from the images.
type App struct {
	Template *Template
	// Config is the template as a release stores it: RFC 8785 canonical JSON.
	Config []byte
	// Files holds the carried files by source path.
	Files map[string][]byte
}

// Finding is one thing wrong with a template.
type Finding = document.Finding

// FindingsError carries every finding of a template, in the order of the file.
type FindingsError = document.FindingsError

// findings collects what is wrong with one template.
type findings struct {
	*document.Findings
	// work counts what matching values against patterns has cost.
	work int
}

var templateForm = document.Form{
	Name: "template", MaxBytes: MaxConfigBytes, Start: "apiVersion: " + APIVersion,
	Map: "apiVersion, kind, id, version and components",
}

// setter is a type that reads one scalar in a form of its own.
type setter interface{ set(raw any) error }

// shorthand is a structure that may be written as one scalar too.
type shorthand interface{ short(raw any) error }

var templateRules = document.Rules{
	Scalar: func(target, raw any) (known bool, err error) {
		s, known := target.(setter)
		if known {
			err = s.set(raw)
		}
		return known, err
	},
	Short: func(target, raw any) (known bool, err error) {
		s, known := target.(shorthand)
		if known {
			err = s.short(raw)
		}
		return known, err
	},
	Reserved: reserved,
}

// reserved reports whether name under field has a meaning planned for it.
func reserved(field, name string) bool {
	switch name {
	case "charts", "manifests", "routes", "hooks", "configGroups", "requiresApps", "upgrade":
		return field == ""
	case "overrides":
		return document.Parent(field) == "components"
	}
	return false
}

// ParseTemplate reads an authored template, the bytes of the file called name,
// with its carried files from dir. It reports everything wrong at once as a
// [FindingsError]. Pass [os.Root.FS], which follows no link out of the directory, as dir.
func ParseTemplate(name string, data []byte, dir fs.FS) (*App, error) {
	f := &findings{Findings: document.New(name)}
	d := document.NewDecoder(f.Findings, templateRules)
	tree, ok := d.Parse(data, templateForm)
	if !ok {
		return nil, f.Err()
	}
	t := &Template{}
	d.Decode(tree, t)
	if t.Requires != nil {
		f.Add("requires", "is computed at publish; remove it")
	}
	var files map[string][]byte
	f.Beside(d.IsBroken, func() {
		t.checkHead(f)
		t.checkBody(f)
		files = t.readFiles(dir, f)
	})
	if err := f.Err(); err != nil {
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
	f := &findings{Findings: document.NewStored("template")}
	d := document.NewDecoder(f.Findings, templateRules)
	raw, err := d.StoredTree(raw, 0)
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
	d.Decode(tree, t)
	if len(t.UnknownFeatures()) > 0 {
		// A later version may have put anything into the rest; what is
		// understood of it is shown, and it is never rendered.
		f.Forget()
	} else {
		t.checkBody(f)
	}
	t.checkHead(f)
	if err := f.Err(); err != nil {
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

// readFiles reads each carried file once and checks the references in those
// that are templates.
func (t *Template) readFiles(dir fs.FS, f *findings) map[string][]byte {
	files := map[string][]byte{}
	total := 0
	for _, key := range t.Keys() {
		c := t.Components[key]
		for _, target := range sortedKeys(c.Files) {
			file := c.Files[target]
			field := document.Join(document.Join(document.Join(document.Join("components", key), "files"), target), "source")
			if !validSource(file.Source) {
				continue // reported by the checks
			}
			data, read := files[file.Source]
			if !read {
				var err error
				if data, err = readFile(dir, file.Source); err != nil {
					f.Add(field, "%v", err)
					continue
				}
				files[file.Source] = data
				if total += len(data); total > MaxFilesBytes {
					f.Add(field, "the files are more than the %d bytes a release carries; put them in the image", MaxFilesBytes)
					return files
				}
			}
			if !file.Template {
				continue
			}
			if !utf8.Valid(data) {
				f.Add(field, "%s is not UTF-8 text, which a template must be", file.Source)
				continue
			}
			text, err := ParseText(string(data))
			if err != nil {
				f.Add(field, "%s: %v", file.Source, err)
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
