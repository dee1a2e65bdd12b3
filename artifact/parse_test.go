package artifact_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
)

// head is the part of a template that the table rows do not vary, five lines.
const head = `apiVersion: sealift/v1
kind: App
id: example.com/shop
version: 1.0.0
platforms: [linux/amd64]
`

// beside holds what stands next to the templates of the tables.
var beside = sync.OnceValue(func() fstest.MapFS {
	return fstest.MapFS{
		"a.conf":        {Data: []byte("port ${self.ports.http}\n")},
		"literal.conf":  {Data: []byte("$${HOME} ${nothing}\n")},
		"bad.conf":      {Data: []byte("x = ${parameters.nope}\n")},
		"unclosed.conf": {Data: []byte("x = ${self.host\n")},
		"dir/b.conf":    {Data: []byte("b\n")},
		"huge.conf":     {Data: make([]byte, artifact.MaxFileBytes+1)},
	}
})

func findings(t *testing.T, doc string, dir fs.FS) []string {
	t.Helper()
	app, err := artifact.ParseTemplate("app.yaml", []byte(doc), dir)
	if err == nil {
		return nil
	}
	if app != nil {
		t.Errorf("ParseTemplate returned an app beside the error %v", err)
	}
	var list artifact.FindingsError
	if !errors.As(err, &list) {
		t.Fatalf("ParseTemplate = %v (%T), want a FindingsError", err, err)
	}
	return strings.Split(list.Error(), "\n")
}

type findingCase struct {
	name, doc string
	want      []string
}

func runFindings(t *testing.T, tests []findingCase) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := findings(t, tt.doc, beside())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings of\n%s\n(-want +got):\n%s", tt.doc, diff)
			}
		})
	}
}

func TestParseTemplateDocument(t *testing.T) {
	t.Parallel()
	const component = "components:\n  web: {image: example.com/web}\n"
	runFindings(t, []findingCase{
		{"valid", head + component, nil},
		{"empty file", "", []string{"app.yaml: the file is empty; want a template that starts with apiVersion: sealift/v1"}},
		{"only a comment", "# nothing\n", []string{"app.yaml: the file is empty; want a template that starts with apiVersion: sealift/v1"}},
		{"empty document", "---\n", []string{"app.yaml:2:1: want a map with apiVersion, kind, id, version and components"}},
		{"list", "- a\n", []string{"app.yaml:1:1: want a map with apiVersion, kind, id, version and components"}},
		{"scalar", "hello\n", []string{"app.yaml:1:1: want a map with apiVersion, kind, id, version and components"}},
		{"several documents", head + component + "---\nkind: App\n", []string{"app.yaml:8:1: want one YAML document, got several"}},
		{"several documents, the second broken", head + component + "---\n: [\n", []string{"app.yaml: want one YAML document, got several"}},
		{"tab", head + "components:\n\tweb: {image: a}\n", []string{"app.yaml:7:1: found character that cannot start any token"}},
		{"unclosed list", head + "title: [a\ncomponents: {}\n", []string{"app.yaml:6:1: did not find expected ',' or ']'"}},
		{"unknown anchor", head + "title: *no\n", []string{"app.yaml: unknown anchor 'no' referenced"}},
		{"control character", head + "title: a\x01\n", []string{"app.yaml: control characters are not allowed"}},
		{"unknown field with suggestion", head + "titel: Shop\n" + component, []string{`app.yaml:6:1: titel: unknown field; did you mean "title"?`}},
		{"unknown field without suggestion", head + "zzz: Shop\n" + component, []string{"app.yaml:6:1: zzz: unknown field"}},
		{"empty key", head + "\"\": Shop\n" + component, []string{`app.yaml:6:1: [""]: unknown field`}},
		{"unknown field given twice", head + "titel: a\ntitel: b\n" + component, []string{
			`app.yaml:6:1: titel: unknown field; did you mean "title"?`,
			"app.yaml:7:1: titel: given twice",
		}},
		{"wrong type and given twice", strings.Replace(head, "version: 1.0.0", "version: 1.0", 1) + "version: 1.0.0\n" + component, []string{
			"app.yaml:4:10: version: want a string; put it in quotes, got 1",
			"app.yaml:6:1: version: given twice",
		}},
		{"duplicate key", head + "title: a\ntitle: b\n" + component, []string{"app.yaml:7:1: title: given twice"}},
		{"null", head + "title:\n" + component, []string{"app.yaml:6:7: title: has no value; give one or remove the field"}},
		{"null identity", strings.Replace(head, "id: example.com/shop", "id: ~", 1) + component, []string{"app.yaml:3:5: id: has no value; give one or remove the field"}},
		{"number as key", head + "1: a\n" + component, []string{"app.yaml:6:1: want a plain word as key; quote it if it is meant as text"}},
		{"merge key and number as key", head + "1: a\n<<: {title: x}\n" + component, []string{
			"app.yaml:6:1: want a plain word as key; quote it if it is meant as text",
			"app.yaml:7:1: merge keys (<<) are not part of the format; repeat the fields or use an alias for a whole value",
		}},
		{"reserved", head + component + "charts: {}\nhooks: []\n", []string{
			"app.yaml:8:1: charts: is reserved for a later version of the format; remove it",
			"app.yaml:9:1: hooks: is reserved for a later version of the format; remove it",
		}},
		{"reserved in a component only", head + "overrides: {}\ncomponents:\n  web: {image: a, overrides: {compose: {}}, charts: {}}\n", []string{
			"app.yaml:6:1: overrides: unknown field",
			"app.yaml:8:19: components.web.overrides: is reserved for a later version of the format; remove it",
			`app.yaml:8:45: components.web.charts: unknown field; did you mean "args"?`,
		}},
		{"computed field", head + "requires: [kind-job]\n" + component, []string{"app.yaml:6:11: requires: is computed at publish; remove it"}},
		{"unknown tag", head + "title: !secret a\nvendor: !!binary YQ==\n" + component, []string{
			"app.yaml:6:8: title: has the YAML tag !secret, which the format does not know",
			"app.yaml:7:9: vendor: has the YAML tag !!binary, which the format does not know",
		}},
		{"unknown tag on a map", head + "components: !sorted\n  web: {image: a}\n", []string{
			"app.yaml:6:13: components: has the YAML tag !sorted, which the format does not know",
		}},
		{"everything missing", "title: x\n", []string{
			`app.yaml:1:1: apiVersion: want sealift/v1, got ""`,
			"app.yaml:1:1: components: want at least one component",
			`app.yaml:1:1: id: want a DNS domain and a path in lower case, as example.com/shop, got ""`,
			`app.yaml:1:1: kind: want App, got ""`,
			"app.yaml:1:1: platforms: want at least one platform, as linux/amd64",
			`app.yaml:1:1: version: want a version as 1.2.3 or 1.2.3-rc.1 (SemVer 2 without build metadata), got ""`,
		}},
		{"bad head", "apiVersion: sealift/v2\nkind: app\nid: Shop\nversion: 1.0.0+build\nplatforms: [linux, linux/amd64, linux/amd64]\n" + component, []string{
			`app.yaml:1:13: apiVersion: want sealift/v1, got "sealift/v2"`,
			`app.yaml:2:7: kind: want App, got "app"`,
			`app.yaml:3:5: id: want a DNS domain and a path in lower case, as example.com/shop, got "Shop"`,
			`app.yaml:4:10: version: want a version as 1.2.3 or 1.2.3-rc.1 (SemVer 2 without build metadata), got "1.0.0+build"`,
			`app.yaml:5:13: platforms[0]: want a platform as linux/amd64, got "linux"`,
			"app.yaml:5:33: platforms[2]: linux/amd64 is listed twice",
		}},
		{"wrong types", head + "title: [a]\nvendor: {a: b}\ncomponents: web\n", []string{
			"app.yaml:6:8: title: want a string; put it in quotes, got a list",
			"app.yaml:7:9: vendor: want a string; put it in quotes, got a map",
			`app.yaml:8:13: components: want a map, got "web"`,
		}},
	})
}

func TestParseTemplateParameters(t *testing.T) {
	t.Parallel()
	with := func(parameter string) string {
		return head + "parameters:\n  p: " + parameter + "\ncomponents:\n  web: {image: a}\n"
	}
	runFindings(t, []findingCase{
		{"valid", with(`{type: string, pattern: "[a-z]+", enum: [a, b], default: a}`), nil},
		{"no map", with("5"), []string{"app.yaml:7:6: parameters.p: want a map, got 5"}},
		{"no type", with("{}"), []string{`app.yaml:7:6: parameters.p.type: want string, integer, number or boolean, got ""`}},
		{"bad type", with("{type: int}"), []string{`app.yaml:7:13: parameters.p.type: want string, integer, number or boolean, got "int"`}},
		{"bad default", with("{type: integer, default: many}"), []string{`app.yaml:7:31: parameters.p.default: want an integer, got "many"`}},
		{"default out of range", with("{type: integer, minimum: 1, maximum: 9, default: 10}"), []string{`app.yaml:7:55: parameters.p.default: want an integer from 1 up to 9, got "10"`}},
		{"secret default is not shown", with(`{type: string, secret: true, pattern: "[0-9]+", default: hunter2}`), []string{"app.yaml:7:63: parameters.p.default: want a string that matches [0-9]+, got another value"}},
		{"bad enum", with("{type: integer, enum: [1, two, 3], default: 4}"), []string{
			`app.yaml:7:32: parameters.p.enum[1]: want an integer, got "two"`,
			`app.yaml:7:50: parameters.p.default: want one of 1, two, 3, got "4"`,
		}},
		{"bad pattern", with("{type: string, pattern: '(a'}"), []string{"app.yaml:7:30: parameters.p.pattern: want an RE2 expression: error parsing regexp: missing closing ): `(a`"}},
		{"pattern that escapes its group", with(`{type: string, pattern: '\Qa', default: a}`), []string{"app.yaml:7:30: parameters.p.pattern: want an RE2 expression: error parsing regexp: missing closing ): `\\A(?:\\Qa)\\z`"}},
		{"range upside down", with("{type: number, minimum: 2, maximum: 1.5}"), []string{"app.yaml:7:30: parameters.p.minimum: is above the maximum, 1.5"}},
		{"generate", with("{type: string, generate: {length: 4}}"), []string{"app.yaml:7:31: parameters.p.generate: want a length from 8 to 256, got 4"}},
		{"generate an integer", with("{type: integer, generate: {length: 8}}"), []string{"app.yaml:7:32: parameters.p.generate: is for strings without a default"}},
		{"default is a list", with("{type: string, default: [a]}"), []string{"app.yaml:7:30: parameters.p.default: want a string, a number or a boolean, got a list"}},
		{"number forms", with("{type: integer, default: 0x10, minimum: .inf, maximum: 9007199254740992}"), []string{
			"app.yaml:7:31: parameters.p.default: want a decimal integer below 2^53, got 0x10; quote it if it is meant as text",
			"app.yaml:7:46: parameters.p.minimum: want a finite number, got .inf",
			"app.yaml:7:61: parameters.p.maximum: want a decimal integer below 2^53, got 9007199254740992; quote it if it is meant as text",
		}},
		{"boolean by tag", with("{type: boolean, default: !!bool maybe}"), []string{"app.yaml:7:31: parameters.p.default: want true or false, got maybe"}},
		{"bad name", strings.Replace(with("{type: string}"), "  p:", "  my-name:", 1), []string{"app.yaml:7:12: parameters.my-name: want a parameter name of letters, digits and _, starting with a letter"}},
	})
}

func TestParseTemplateComponents(t *testing.T) {
	t.Parallel()
	// web puts fields into a component at line 7, column 9.
	web := func(fields string) string { return head + "components:\n  web: {image: a, " + fields + "}\n" }
	const at = "app.yaml:7:"
	runFindings(t, []findingCase{
		{"null component", head + "components:\n  web:\n", []string{at + "7: components.web: has no value; give one or remove the field"}},
		{"no image", head + "components:\n  web: {kind: service}\n", []string{at + `8: components.web.image: want an image reference as registry.example.com/shop/web:1.0.0, got ""`}},
		{"bad image", head + "components:\n  web: {image: 'a b'}\n", []string{at + `16: components.web.image: want an image reference as registry.example.com/shop/web:1.0.0, got "a b"`}},
		{"bad key", head + "components:\n  Web_1: {image: a}\n", []string{at + `10: components.Web_1: want a key of lower-case letters, digits and -, starting with a letter, at most 40 long, got "Web_1"`}},
		{"bad kind", web("kind: package"), []string{at + `25: components.web.kind: want service, stateful, daemon, job or cron, got "package"`}},
		{"bad replicas", web("replicas: -1"), []string{at + "29: components.web.replicas: want a number from 1 to 1000, got -1"}},
		{"replicas of a published port", web("replicas: 2, ports: {http: {port: 80, publish: 80}}"), []string{at + "66: components.web.ports.http.publish: a published port cannot be shared by 2 replicas on one host"}},
		{"wrong types", web("replicas: two, args: a, env: [A]"), []string{
			at + `29: components.web.replicas: want an integer, got "two"`,
			at + `40: components.web.args: want a list, got "a"`,
			at + "48: components.web.env: want a map, got a list",
		}},
		{"bad reference", web("env: {A: '${parameters.x}', B: '${components.db.host}', C: '${self.ports.http}', D: '${self.exports.URL}'}"), []string{
			at + "28: components.web.env.A: ${parameters.x}: no such parameter",
			at + "50: components.web.env.B: ${components.db.host}: no component db",
			at + "78: components.web.env.C: ${self.ports.http}: component web has no port http",
			at + "103: components.web.env.D: ${self.exports.URL}: component web exports no URL",
		}},
		{"reference with suggestion", web("ports: {http: 80}, args: ['${self.ports.htp}', '${components.wob.host}']"), []string{
			at + `45: components.web.args[0]: ${self.ports.htp}: component web has no port htp; did you mean "http"?`,
			at + `66: components.web.args[1]: ${components.wob.host}: no component wob; did you mean "web"?`,
		}},
		{"outside the grammar", web("entrypoint: ['${self.pid}']"), []string{at + "32: components.web.entrypoint[0]: unknown reference ${self.pid}; want " + artifact.ReferenceForms}},
		{"unclosed", web("env: {A: '${self.host'}"), []string{at + "28: components.web.env.A: ${ without }; write $${ for a literal ${"}},
		{"escaped", web("env: {A: '$${self.pid} $HOME'}"), nil},
		{"text of another type", web("args: [1], exports: {A: true}"), []string{
			at + "26: components.web.args[0]: want a string",
			at + "43: components.web.exports.A: want a string",
		}},
		{"value of another type", web("env: {A: [x]}"), []string{at + "28: components.web.env.A: want a string, a number or a boolean"}},
		{"scalars in env", web("env: {A: 1, B: true, C: 1.5, D: 2001-01-01}"), nil},
		{"bad names", web("env: {1A: x}, exports: {A-B: x}, ports: {HTTP: 80}"), []string{
			at + "29: components.web.env.1A: want a name of letters, digits and _, not starting with a digit",
			at + "48: components.web.exports.A-B: want a name of letters, digits and _, not starting with a digit",
			at + "66: components.web.ports.HTTP: want a port name of lower-case letters, digits and -, at most 15 long",
		}},
		{"ports", web("ports: {a: 0, b: '80', c: {port: 70000, protocol: sctp}, d: {port: '1'}, e: {prot: 1}}"), []string{
			at + "30: components.web.ports.a.port: want a port from 1 to 65535, got 0",
			at + "36: components.web.ports.b: want a port number or {port: NUMBER, publish: NUMBER}",
			at + "52: components.web.ports.c.port: want a port from 1 to 65535, got 70000",
			at + `69: components.web.ports.c.protocol: want tcp or udp, got "sctp"`,
			at + `86: components.web.ports.d.port: want an integer, got "1"`,
			at + `95: components.web.ports.e.port: want a port from 1 to 65535, got 0`,
			at + `96: components.web.ports.e.prot: unknown field; did you mean "port"?`,
		}},
		{"duplicate port number", web("ports: {a: 80, b: {port: 80}, c: {port: 80, protocol: udp}}"), []string{at + "37: components.web.ports.b: 80/tcp is the number of port a already"}},
		{"merge key", head + "components:\n  db: &db {image: a}\n  web: {<<: *db, image: a}\n", []string{
			"app.yaml:8:9: components.web: merge keys (<<) are not part of the format; repeat the fields or use an alias for a whole value",
		}},
		{"alias clash", head + "components:\n  db: {image: a, aliases: [web]}\n  web: {image: a, aliases: [old]}\n  zoo: {image: a, aliases: [old, zoo]}\n", []string{
			"app.yaml:8:8: components.web: the name web belongs to component db already",
			"app.yaml:9:8: components.zoo: the name old belongs to component web already",
			"app.yaml:9:8: components.zoo: the name zoo belongs to component zoo already",
		}},
		{"alias of a value", head + "components:\n  db: {image: a, env: &e {A: b}}\n  web: {image: a, env: *e}\n", nil},
		{"health", web("ports: {http: 80, dns: {port: 53, protocol: udp}}, health: {http: {port: htp, path: x}, tcp: dns, exec: [], interval: 5, timeout: 2h, startPeriod: x, retries: -1}"), []string{
			at + `78: components.web.health: want exactly one of http, tcp and exec, got 3`,
			at + `92: components.web.health.http.port: no port "htp" in this component; did you mean "http"?`,
			at + `103: components.web.health.http.path: want a path that starts with /, got "x"`,
			at + `112: components.web.health.tcp: want a tcp port, dns is udp`,
			at + `123: components.web.health.exec: want a command`,
			at + `137: components.web.health.interval: want a string; put it in quotes, got 5`,
			at + `149: components.web.health.timeout: want a duration up to 1h, as 5s, got "2h"`,
			at + `166: components.web.health.startPeriod: want a duration up to 1h, as 5s, got "x"`,
			at + `178: components.web.health.retries: want a number from 1 to 10000, got -1`,
		}},
		{"health without a check", web("health: {interval: 5s}"), []string{at + "27: components.web.health: want exactly one of http, tcp and exec, got 0"}},
		{"resources", web("resources: {cpu: fast, memory: 1Ki}"), []string{
			at + `36: components.web.resources.cpu: want cores as 500m or 1.5, got "fast"`,
			at + `50: components.web.resources.memory: want at least 4Mi, as 256Mi or 1G, got "1Ki"`,
		}},
		{"too many", head + "components:\n" + manyComponents(501), []string{"app.yaml:7:3: components: want at most 500 components, got 501"}},
	})
}

func manyComponents(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("  c" + strings.Repeat("x", i%30) + string(rune('a'+i/30)) + ": {image: a}\n")
	}
	return b.String()
}

func TestParseTemplateDependencies(t *testing.T) {
	t.Parallel()
	const healthy = "ports: {p: 1}, health: {tcp: p}"
	runFindings(t, []findingCase{
		{"self", head + "components:\n  web: {image: a, " + healthy + ", dependsOn: {web: healthy}}\n", []string{
			"app.yaml:7:69: components.web.dependsOn.web: a component cannot wait for itself",
		}},
		{"unknown and bad conditions", head + "components:\n  db: {image: a}\n  web: {image: a, dependsOn: {dbb: started, db: ready}}\n  zoo: {image: a, dependsOn: {db: healthy, web: completed}}\n", []string{
			`app.yaml:8:36: components.web.dependsOn.dbb: no component dbb; did you mean "db"?`,
			`app.yaml:8:49: components.web.dependsOn.db: want started, healthy or completed, got "ready"`,
			"app.yaml:9:35: components.zoo.dependsOn.db: waits for db to be healthy, but db has no health check",
			"app.yaml:9:49: components.zoo.dependsOn.web: waits for web to complete, but web is not of kind job",
		}},
		{"ring of two", head + "components:\n  b: {image: a, dependsOn: {a: started}}\n  a: {image: a, dependsOn: {b: started}}\n", []string{
			"app.yaml:8:32: components.a.dependsOn.b: components wait for each other: a → b → a",
		}},
		{"ring of three with a tail", head + "components:\n  a: {image: a, dependsOn: {b: started}}\n  b: {image: a, dependsOn: {c: started}}\n  c: {image: a, dependsOn: {d: started}}\n  d: {image: a, dependsOn: {b: started}}\n", []string{
			"app.yaml:8:32: components.b.dependsOn.c: components wait for each other: b → c → d → b",
		}},
		{"export of itself", head + "components:\n  web: {image: a, exports: {A: '${self.exports.A}'}}\n", []string{
			"app.yaml:7:32: components.web.exports.A: exports are made of each other: web.exports.A → web.exports.A",
		}},
		{"exports in a ring", head + "components:\n  a: {image: a, exports: {X: '${components.b.exports.Y}'}}\n  b: {image: a, exports: {Y: 'x${components.a.exports.X}', Z: '${self.exports.Y}'}}\n", []string{
			"app.yaml:7:30: components.a.exports.X: exports are made of each other: a.exports.X → b.exports.Y → a.exports.X",
		}},
	})
}

func TestParseTemplatePublishedPorts(t *testing.T) {
	t.Parallel()
	two := func(parameters, a, b string) string {
		return head + "parameters: {" + parameters + "}\ncomponents:\n" +
			"  a: {image: a, ports: {p: {port: 1, publish: " + a + "}}}\n" +
			"  b: {image: a, ports: {p: {port: 1, publish: " + b + "}}}\n"
	}
	const whole = "'${parameters.x}'"
	runFindings(t, []findingCase{
		{"literals", two("", "80", "80"), []string{"app.yaml:9:47: components.b.ports.p.publish: port 80/tcp of the host is taken by a.p already"}},
		{"literal and text", two("", "80", "'80'"), []string{"app.yaml:9:47: components.b.ports.p.publish: port 80/tcp of the host is taken by a.p already"}},
		{"through a default", two("x: {type: integer, default: 80}", "80", whole), []string{"app.yaml:9:47: components.b.ports.p.publish: port 80/tcp of the host is taken by a.p already"}},
		{"one parameter twice", two("x: {type: integer, default: 80}", whole, whole), []string{"app.yaml:9:47: components.b.ports.p.publish: port 80/tcp of the host is taken by a.p already"}},
		{"the site chooses", two("x: {type: integer}", whole, "80"), nil},
		{"the site chooses a part", two("x: {type: integer}", "'80${parameters.x}'", "80"), nil},
		{"different ports", two("x: {type: integer, default: 81}", whole, "80"), nil},
		{"no port", two("", "70000", "http"), []string{
			"app.yaml:8:47: components.a.ports.p.publish: want a port from 1 to 65535, got 70000",
			"app.yaml:9:47: components.b.ports.p.publish: want a port from 1 to 65535, got http",
		}},
	})
}

func TestParseTemplateFiles(t *testing.T) {
	t.Parallel()
	web := func(fields string) string { return head + "components:\n  web: {image: a, " + fields + "}\n" }
	const source = "components.web.files[\"/a\"].source: "
	const escape = "want a path beside app.yaml that stays inside its directory, with forward slashes, got "
	runFindings(t, []findingCase{
		{"valid", web("ports: {http: 80}, files: {/a: {source: a.conf, template: true, mode: '0400', uid: 1}, /b: {source: dir/b.conf}}"), nil},
		{"not a template", web("files: {/a: {source: literal.conf}}"), nil},
		{"missing", web("files: {/a: {source: no.conf}}"), []string{"app.yaml:7:40: " + source + "no.conf does not exist beside the template"}},
		{"directory", web("files: {/a: {source: dir}}"), []string{"app.yaml:7:40: " + source + "dir is not a regular file"}},
		{"huge", web("files: {/a: {source: huge.conf}}"), []string{"app.yaml:7:40: " + source + "huge.conf is 16777217 bytes, more than the 16777216 a release carries as a file; put it in the image"}},
		{"parent", web("files: {/a: {source: ../a.conf}}"), []string{"app.yaml:7:40: " + source + escape + `"../a.conf"`}},
		{"inner parent", web("files: {/a: {source: dir/../a.conf}}"), []string{"app.yaml:7:40: " + source + escape + `"dir/../a.conf"`}},
		{"absolute", web("files: {/a: {source: /a.conf}}"), []string{"app.yaml:7:40: " + source + escape + `"/a.conf"`}},
		{"backslash", web(`files: {/a: {source: 'dir\b.conf'}}`), []string{"app.yaml:7:40: " + source + escape + `"dir\\b.conf"`}},
		{"no source", web(`files: {/a: {mode: '0400'}}`), []string{"app.yaml:7:31: " + source + escape + `""`}},
		{"bad reference inside", web("files: {/a: {source: bad.conf, template: true}}"), []string{"app.yaml:7:40: " + source + "${parameters.nope}: no such parameter"}},
		{"unclosed inside", web("files: {/a: {source: unclosed.conf, template: true}}"), []string{"app.yaml:7:40: " + source + "unclosed.conf: ${ without }; write $${ for a literal ${"}},
		{"one file as template of two components", head + "components:\n  a: {image: a, ports: {http: 80}, files: {/a: {source: a.conf, template: true}}}\n  b: {image: a, files: {/a: {source: a.conf, template: true}}}\n", []string{
			`app.yaml:8:38: components.b.files["/a"].source: ${self.ports.http}: component b has no port http`,
		}},
		{"unquoted mode", web("files: {/a: {source: dir/b.conf, mode: 0400}}"), []string{
			"app.yaml:7:58: components.web.files[\"/a\"].mode: want a decimal integer below 2^53, got 0400; quote it if it is meant as text",
		}},
		{"unquoted mode without zero", web("files: {/a: {source: dir/b.conf, mode: 400}}"), []string{
			"app.yaml:7:58: components.web.files[\"/a\"].mode: want a string; put it in quotes, got 400",
		}},
		{"bad mode", web("files: {/a: {source: dir/b.conf, mode: '4755'}}"), []string{
			`app.yaml:7:58: components.web.files["/a"].mode: want an octal mode in quotes, as "0444", got "4755"`,
		}},
		{"bad owner", web("files: {/a: {source: dir/b.conf, uid: -1}}"), []string{
			`app.yaml:7:31: components.web.files["/a"]: want uid and gid from 0 to 2147483647`,
		}},
		{"bad targets", web("files: {a: {source: dir/b.conf}, /b/../c: {source: dir/b.conf}, /: {source: dir/b.conf}}"), []string{
			`app.yaml:7:30: components.web.files.a: want an absolute path inside the container, without . or .., got "a"`,
			`app.yaml:7:61: components.web.files["/b/../c"]: want an absolute path inside the container, without . or .., got "/b/../c"`,
			`app.yaml:7:86: components.web.files["/"]: want an absolute path inside the container, without . or .., got "/"`,
		}},
		{"file and volume clash", web("files: {/a: {source: dir/b.conf}}, volumes: {data: {path: /a}, more: {path: /b}, same: {path: /b}}"), []string{
			`app.yaml:7:77: components.web.volumes.data.path: /a is the path of components.web.files["/a"] already`,
			"app.yaml:7:113: components.web.volumes.same.path: /b is the path of components.web.volumes.more.path already",
		}},
		{"path below a file", web("files: {/a: {source: dir/b.conf}, /a/b: {source: dir/b.conf}}, volumes: {data: {path: /a/c/d}, fine: {path: /ab}}"), []string{
			`app.yaml:7:59: components.web.files["/a/b"]: lies below the file /a`,
			"app.yaml:7:105: components.web.volumes.data.path: lies below the file /a",
		}},
		{"file inside a volume", web("files: {/data/a: {source: dir/b.conf}}, volumes: {data: {path: /data}}"), nil},
		{"volumes", web("volumes: {Data: {path: /d, size: big}, none: {}}"), []string{
			"app.yaml:7:35: components.web.volumes.Data: want a volume name of lower-case letters, digits and -",
			`app.yaml:7:52: components.web.volumes.Data.size: want a size as 512Mi or 1G, got "big"`,
			`app.yaml:7:64: components.web.volumes.none.path: want an absolute path inside the container, without . or .., got ""`,
		}},
	})
}

// Many findings of one file must come together and in the order of the file.
func TestParseTemplateReportsAllInOrder(t *testing.T) {
	t.Parallel()
	doc := `kind: App
apiVersion: sealift/v1
components:
  web:
    ports: {http: {port: 80, publish: "${parameters.nope}"}}
    image: ""
  db:
    image: a
    imag: b
    files:
      /x: {source: gone.conf}
version: one
id: example.com/shop
platforms: [linux/amd64]
`
	want := []string{
		"app.yaml:5:39: components.web.ports.http.publish: ${parameters.nope}: no such parameter",
		`app.yaml:6:12: components.web.image: want an image reference as registry.example.com/shop/web:1.0.0, got ""`,
		`app.yaml:9:5: components.db.imag: unknown field; did you mean "image"?`,
		`app.yaml:11:20: components.db.files["/x"].source: gone.conf does not exist beside the template`,
		`app.yaml:12:10: version: want a version as 1.2.3 or 1.2.3-rc.1 (SemVer 2 without build metadata), got "one"`,
	}
	for range 20 { // maps are walked: the order must not depend on them
		if diff := cmp.Diff(want, findings(t, doc, beside())); diff != "" {
			t.Fatalf("findings (-want +got):\n%s", diff)
		}
	}
}

func TestParseTemplateAliasBomb(t *testing.T) {
	t.Parallel()
	const tooMany = "is one of more than 20000 values or nested more than 32 deep; is an alias repeated without end?"
	tests := []struct{ name, doc, want string }{
		{"wide", "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", tooMany},
		{"into itself", "a: &a [*a]\n", tooMany},
		{"deep", "a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n", tooMany},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := findings(t, tt.doc, beside())
			if len(got) != 1 || !strings.HasSuffix(got[0], tt.want) {
				t.Errorf("findings = %.300q, want one with %q", got, tt.want)
			}
		})
	}
}

// A link must not lead out of the directory, whatever it is called.
func TestParseTemplateSymlinkOutside(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "app")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(top, "secret"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "real.conf"), []byte("r"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"out.conf": "../secret", "in.conf": "real.conf"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	doc := head + "components:\n  web: {image: a, files: {/a: {source: in.conf}, /b: {source: out.conf}}}\n"
	got := findings(t, doc, root.FS())
	if len(got) != 1 || !strings.HasPrefix(got[0], `app.yaml:7:63: components.web.files["/b"].source: out.conf cannot be read:`) {
		t.Errorf("findings = %q, want one for out.conf", got)
	}
	if s := strings.Join(got, "\n"); strings.Contains(s, top) {
		t.Errorf("findings = %q name a path outside the template's directory", s)
	}
}
