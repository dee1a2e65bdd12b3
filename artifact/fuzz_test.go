package artifact_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
)

// What is accepted from an author must be stored canonically and read back the
// same; what is refused must say why.
func FuzzParseTemplate(f *testing.F) {
	whole, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{
		"", "---\n---\n", "a: &a [*a]\n", "titel: a\ntitel: b\n", "\xff\xfe", "!!bool x", "? [a]\n: b\n", "\"\": {\"\": 1}\n",
		head + "components: {a: {image: a, env: {A: {}}, files: {/a: {source: a.conf, mode: 0400}}}}\n",
		head + "components: {a: {image: a, args: ['$${x} ${self.host}'], ports: {p: 1e1}, replicas: 2.0}}\n",
		head + "parameters: {p: {type: number, default: -0.0, enum: [1e400, .nan, 0o7]}}\ncomponents: {a: {image: a, kind: job}}\n",
	} {
		f.Add([]byte(s))
	}
	files := beside()
	f.Fuzz(func(t *testing.T, doc []byte) {
		app, err := artifact.ParseTemplate("app.yaml", doc, files)
		if err != nil {
			var list artifact.FindingsError
			if !errors.As(err, &list) || len(list) == 0 {
				t.Fatalf("ParseTemplate = %v (%T), want findings", err, err)
			}
			return
		}
		if canonical, err := jsoncanonicalizer.Transform(app.Config); err != nil || !bytes.Equal(canonical, app.Config) {
			t.Errorf("config %s is not canonical: %v", app.Config, err)
		}
		stored, err := artifact.ParseConfig(app.Config)
		if err != nil {
			t.Fatalf("ParseConfig(%s) = %v", app.Config, err)
		}
		if diff := cmp.Diff(app.Template, stored, everything); diff != "" {
			t.Errorf("ParseConfig(%s) (-authored +stored):\n%s", app.Config, diff)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	whole, err := os.ReadFile("testdata/shop.config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{
		`null`, `{"requires":["x"]}`, `{"components":{"a":{"dependsOn":{"a":"started"},"exports":{"A":"${self.exports.A}"}}}}`,
		`{"components":{"":{"ports":{"":{"publish":"${parameters.x}"}}}},"parameters":{"x":{"type":"integer","default":1e999}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		got, err := artifact.ParseConfig(config)
		if (got == nil) == (err == nil) {
			t.Fatalf("ParseConfig(%q) = %v, %v, want one of the two", config, got, err)
		}
		if err != nil {
			_ = err.Error()
			return
		}
		if err := artifact.CheckVersion(got.Version); err != nil {
			t.Errorf("ParseConfig(%q).Version: %v", config, err)
		}
		if len(got.UnknownFeatures()) > 0 {
			return
		}
		n := 0
		for _, wave := range got.Waves() {
			n += len(wave)
		}
		if n != len(got.Components) {
			t.Errorf("ParseConfig(%q).Waves() = %q, want all %d components", config, got.Waves(), len(got.Components))
		}
	})
}

func FuzzParseText(f *testing.F) {
	for _, s := range []string{"", "$", "$${", "${self.host}", "a$${${parameters.p}}", "${components.db.ports.p}${", "$$${app.version}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := artifact.ParseText(s)
		if err != nil {
			return
		}
		got, err := text.Expand(func(r artifact.Reference) (any, error) {
			again, err := artifact.ParseText(r.String())
			if refs := again.References(); err != nil || len(refs) != 1 || refs[0] != r {
				t.Errorf("ParseText(%q) = %v, %v, want the reference itself", r, refs, err)
			}
			return r.String(), nil
		})
		// Each reference gives itself, so that only the escapes are undone.
		if want := strings.ReplaceAll(s, "$${", "${"); err != nil || got != want {
			t.Errorf("ParseText(%q).Expand() = %q, %v, want %q", s, got, err, want)
		}
	})
}

func FuzzParseLocation(f *testing.F) {
	for _, s := range []string{
		"shop:1.0.0", "id:id:1", "id:example.com/x", "h.io:5000/a/b:1@" + someDigest, "[::1]:5/a", "./a//h.io/x:1", "/", "/:1", "./:1", "..", "oci:a:b/", "oci:////x", "C:/", `.\a\`, "///x", "//net/x//h.io/y",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		if l, err := artifact.ParseImage(ref); err == nil && l.Place != artifact.PlaceRegistry {
			t.Errorf("ParseImage(%q) = %+v, want it in a registry", ref, l)
		}
		l, err := artifact.ParseLocation(ref)
		if err != nil {
			if l != (artifact.Location{}) {
				t.Errorf("ParseLocation(%q) = %+v beside %v", ref, l, err)
			}
			return
		}
		again, err := artifact.ParseLocation(l.String())
		if err != nil || again != l {
			t.Errorf("ParseLocation(%q) = %+v; its String() %q gives %+v, %v", ref, l, l.String(), again, err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{
		`{}`, `null`, `{"manifests":[` + descriptorJSON + `]}`, `{"config":` + descriptorJSON + `,"layers":[` + descriptorJSON + `]}`,
		`{"mediaType":"` + ocispec.MediaTypeImageIndex + `","subject":` + descriptorJSON + `}`, `{"layers":[null]}`,
		`{"manifests":[],"manifests":[` + descriptorJSON + `]}`, `{"layers":[],"Layers":[]}`, strings.Repeat(`{"a":`, 20_000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, mediaType := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerManifest, dockerList} {
			m, err := artifact.ParseManifest(mediaType, data)
			if (m == nil) == (err == nil) {
				t.Fatalf("ParseManifest(%q) = %v, %v, want one of the two", data, m, err)
			}
			if err != nil {
				continue
			}
			for _, d := range append(m.Manifests, m.Blobs...) {
				if err := artifact.CheckDescriptor(d); err != nil {
					t.Errorf("ParseManifest(%q) gives %v", data, err)
				}
			}
			if len(m.Manifests) > 0 && len(m.Blobs) > 0 {
				t.Errorf("ParseManifest(%q) gives children and layers", data)
			}
		}
	})
}
