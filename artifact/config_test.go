package artifact_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
)

// everything compares values of this package with everything inside them.
var everything = cmp.Exporter(func(reflect.Type) bool { return true })

func shopFiles() fstest.MapFS {
	return fstest.MapFS{
		"redis.conf": {Data: []byte("requirepass ${parameters.dbPassword}\nport ${self.ports.redis}\n")},
		"web.toml":   {Data: []byte("# <web> & more\nlisten = \":${self.ports.http}\"\n")},
	}
}

func shop(t *testing.T) *artifact.App {
	t.Helper()
	doc, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	app, err := artifact.ParseTemplate("app.yaml", doc, shopFiles())
	if err != nil {
		t.Fatalf("ParseTemplate(shop.yaml) = %v", err)
	}
	return app
}

func TestConfigGolden(t *testing.T) {
	t.Parallel()
	app := shop(t)
	want, err := os.ReadFile("testdata/shop.config.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(app.Config)); diff != "" {
		t.Errorf("Config of shop.yaml (-want +got):\n%s", diff)
	}
	canonical, err := jsoncanonicalizer.Transform(app.Config)
	if err != nil || !bytes.Equal(canonical, app.Config) {
		t.Errorf("Config is not canonical: %s, %v", canonical, err)
	}
	if got, want := app.Template.ShortName(), "shop"; got != want {
		t.Errorf("ShortName() = %q, want %q", got, want)
	}
	if got, want := len(app.Files), 2; got != want {
		t.Errorf("len(Files) = %d, want %d", got, want)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	docs := map[string]string{
		"every scalar": head + "parameters:\n  i: {type: integer, default: 8080, enum: [8080, 1e3, 2.0]}\n  n: {type: number, default: 1.50, minimum: -1, maximum: 1e21}\n  b: {type: boolean, default: True}\n" +
			"components:\n  web: {image: a, env: {A: 1, B: 1.0, C: 0.5, D: false, E: 'x'}, ports: {p: 80, q: {port: 81, publish: 81}}}\n",
		"features": head + "components:\n  a: {image: a, kind: job}\n  b: {image: a, kind: daemon}\n  c: {image: a, kind: cron}\n",
		"minimal":  head + "components:\n  a: {image: a}\n",
	}
	apps := map[string]*artifact.App{"shop": shop(t)}
	for name, doc := range docs {
		app, err := artifact.ParseTemplate("app.yaml", []byte(doc), fstest.MapFS{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		apps[name] = app
	}
	for name, app := range apps {
		got, err := artifact.ParseConfig(app.Config)
		if err != nil {
			t.Errorf("%s: ParseConfig = %v", name, err)
			continue
		}
		if diff := cmp.Diff(app.Template, got, everything); diff != "" {
			t.Errorf("%s: ParseConfig of the config differs from what was authored (-authored +stored):\n%s", name, diff)
		}
	}
	if got, want := apps["features"].Template.Requires, []string{"kind-cron", "kind-daemon", "kind-job"}; !slices.Equal(got, want) {
		t.Errorf("Requires = %q, want %q", got, want)
	}
	if got := apps["features"].Template.UnknownFeatures(); got != nil {
		t.Errorf("UnknownFeatures() = %q, want none", got)
	}
}

const storedHead = `"apiVersion":"sealift/v1","kind":"App","id":"example.com/shop","version":"1.0.0","platforms":["linux/amd64"]`

func TestParseConfig(t *testing.T) {
	t.Parallel()
	const component = `"components":{"web":{"image":"a"}}`
	tests := []struct{ name, config, want string }{
		{"minimal", `{` + storedHead + `,` + component + `}`, ""},
		{"unknown fields", `{` + storedHead + `,"future":{"a":[null]},"components":{"web":{"image":"a","gpu":1,"health":{"tcp":"p","grpc":null},"ports":{"p":{"port":1,"expose":true}}}}}`, ""},
		{"reserved fields", `{` + storedHead + `,"charts":{},` + component + `}`, ""},
		{"field in other letters", `{` + storedHead + `,"apiversion":"x","iD":"y",` + component + `}`, ""},
		{"integral float", `{` + storedHead + `,"components":{"web":{"image":"a","replicas":2.0}}}`, ""},
		{"no object", `[]`, "parse template: want a JSON object"},
		{"null", `null`, "parse template: want a JSON object"},
		{"no JSON", `{`, "parse template: unexpected end of JSON input"},
		{"trailing", `{` + storedHead + `,` + component + `}{}`, "parse template: invalid character '{' after top-level value"},
		{"bad id", `{` + strings.Replace(storedHead, "example.com/shop", "../../etc", 1) + `,` + component + `}`, `template: id: want a DNS domain and a path in lower case, as example.com/shop, got "../../etc"`},
		{"escaping source", `{` + storedHead + `,"components":{"web":{"image":"a","files":{"/a":{"source":"../x"}}}}}`, `template: components.web.files["/a"].source: want a path beside app.yaml that stays inside its directory, with forward slashes, got "../x"`},
		{"null component", `{` + storedHead + `,"components":{"web":null}}`, "template: components.web: has no value; give one or remove the field\n" + `template: components.web.image: want an image reference as registry.example.com/shop/web:1.0.0, got ""`},
		{"null in env", `{` + storedHead + `,"components":{"web":{"image":"a","env":{"A":null}}}}`, "template: components.web.env.A: has no value; give one or remove the field"},
		{"map as text", `{` + storedHead + `,"components":{"web":{"image":"a","args":[{}]}}}`, "template: components.web.args[0]: want a string"},
		{"bad reference", `{` + storedHead + `,"components":{"web":{"image":"a","args":["${self.tls}"]}}}`, "template: components.web.args[0]: unknown reference ${self.tls}; want " + artifact.ReferenceForms},
		{"unknown feature, other shapes", `{` + storedHead + `,"requires":["warp"],"components":{"web":{"image":["a"],"args":["${self.tls}"]}}}`, ""},
		{"unknown feature, bad head", `{` + strings.Replace(storedHead, "1.0.0", "1", 1) + `,"requires":["warp"]}`, `template: version: want a version as 1.2.3 or 1.2.3-rc.1 (SemVer 2 without build metadata), got "1"`},
		{"too large", `{"a":"` + strings.Repeat("x", artifact.MaxConfigBytes) + `"}`, "template is 4194312 bytes, more than the 4194304 accepted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := artifact.ParseConfig(canonical(tt.config))
			msg := ""
			if err != nil {
				msg = err.Error()
			}
			if msg != tt.want {
				t.Errorf("ParseConfig(%.200s) = %q, want %q", tt.config, msg, tt.want)
			}
			if (got == nil) == (err == nil) {
				t.Errorf("ParseConfig(%.200s) = %v, %v, want one of the two", tt.config, got, err)
			}
			if err == nil && got.ID != "example.com/shop" {
				t.Errorf("ParseConfig(%.200s).ID = %q, want example.com/shop", tt.config, got.ID)
			}
		})
	}
}

func TestUnknownFeatures(t *testing.T) {
	t.Parallel()
	got, err := artifact.ParseConfig(canonical(`{` + storedHead + `,"requires":["warp","kind-job","anti-gravity"],"components":{"web":{"image":"a","title":"W"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"anti-gravity", "warp"}; !slices.Equal(got.UnknownFeatures(), want) {
		t.Errorf("UnknownFeatures() = %q, want %q", got.UnknownFeatures(), want)
	}
	if got.Components["web"].Title != "W" {
		t.Errorf("Components = %v, want what is understood of it", got.Components)
	}
}

// Whatever is not written must stay unwritten.
func TestConfigAddsNothing(t *testing.T) {
	t.Parallel()
	app, err := artifact.ParseTemplate("app.yaml", []byte(head+"components:\n  a: {image: a, ports: {p: 80}}\n"), fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apiVersion":"sealift/v1","components":{"a":{"image":"a","ports":{"p":80}}},"id":"example.com/shop","kind":"App","platforms":["linux/amd64"],"requires":[],"version":"1.0.0"}`
	if string(app.Config) != want {
		t.Errorf("Config = %s, want %s", app.Config, want)
	}
	if !json.Valid(app.Config) {
		t.Error("Config is not JSON")
	}
}

// canonical returns a document in canonical form, or as it is when it has none.
func canonical(config string) []byte {
	if c, err := jsoncanonicalizer.Transform([]byte(config)); err == nil {
		return c
	}
	return []byte(config)
}

func TestParseConfigWantsOneForm(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile("testdata/shop.config.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []string{
		string(whole) + "\n",
		strings.Replace(string(whole), `{"apiVersion"`, `{"kind":"App","apiVersion"`, 1),
	} {
		if _, err := artifact.ParseConfig([]byte(config)); err == nil {
			t.Errorf("ParseConfig(%.60s…) = nil, want an error", config)
		}
	}
}

func TestControlCharacters(t *testing.T) {
	t.Parallel()
	for _, config := range []string{
		`{` + storedHead + `,"requires":[],"title":"a\u001b[2Jb","components":{"a":{"image":"a"}}}`,
		`{` + storedHead + `,"requires":[],"title":"a\nb","components":{"a":{"image":"a"}}}`,
		`{` + storedHead + `,"requires":[],"components":{"a":{"image":"a","args":["\u0000"]}}}`,
		`{` + storedHead + `,"requires":[],"components":{"a":{"image":"a","user":"a\nb"}}}`,
	} {
		if _, err := artifact.ParseConfig(canonical(config)); err == nil {
			t.Errorf("ParseConfig(%s) = nil, want an error", config)
		}
	}
}
