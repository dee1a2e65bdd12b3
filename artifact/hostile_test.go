package artifact_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/sealift/sealift/artifact"
)

// stored returns a stored template with the given parameters, components and
// platforms.
func stored(t *testing.T, parameters, components map[string]any, platforms ...string) []byte {
	t.Helper()
	if components == nil {
		components = map[string]any{"a": map[string]any{"image": "a"}}
	}
	raw, err := json.Marshal(map[string]any{
		"apiVersion": artifact.APIVersion, "kind": artifact.AppKind, "id": "example.com/shop", "version": "1.0.0",
		"platforms": append([]string{"linux/amd64"}, platforms...), "parameters": parameters, "components": components, "requires": []string{},
	})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = jsoncanonicalizer.Transform(raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// many returns n names with the same long beginning.
func many(n int, value any) map[string]any {
	m := map[string]any{}
	for i := range n {
		m[fmt.Sprintf("%s%06d", strings.Repeat("x", 30), i)] = value
	}
	return m
}

// Each of these is some 400 kB that once cost seconds to hours, or all memory. A
// release comes from anywhere, and is read before its signature is known.
func TestParseConfigHostile(t *testing.T) {
	t.Parallel()
	component := func(fields map[string]any) map[string]any {
		fields["image"] = "a"
		return map[string]any{"a": fields}
	}
	text := func(s string, bytes int) string { return strings.Repeat(s, bytes/len(s)) }
	const size = 400_000
	tests := []struct {
		name   string
		config []byte
		want   string
	}{
		{"references to nothing", stored(t, many(600, map[string]any{"type": "string"}),
			component(map[string]any{"args": []string{text("${parameters.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}", size)}})), "no such parameter"},
		{"dependencies on nothing", stored(t, nil, component(map[string]any{"dependsOn": many(500, "started")})), "and more; only 100 findings are shown"},
		{"deep path", stored(t, nil, component(map[string]any{"files": map[string]any{text("/a", size): map[string]any{"source": "a"}}})), "holds a name of more than 4096 bytes"},
		{"deep volume", stored(t, nil, component(map[string]any{"volumes": map[string]any{"v": map[string]any{"path": text("/a", size)}}})), "want a path of at most 4096 bytes"},
		{"long name above many values", stored(t, map[string]any{text("x", size/2): map[string]any{"type": "string", "enum": make([]int, 15_000)}}, nil), "holds a name of more than 4096 bytes"},
		{"large pattern", stored(t, map[string]any{"p": map[string]any{"type": "string", "pattern": text("a?", size), "default": text("a", size)}}, nil), "want an RE2 expression: of at most 1000 bytes"},
		{"short pattern of a large program", stored(t, map[string]any{"p": map[string]any{"type": "string", "pattern": text("a{0,1000}", 1000), "default": text("a", size)}}, nil), "too large; shorten them"},
		{"many patterns", stored(t, many(100, map[string]any{"type": "string", "pattern": text("a{0,1000}", 1000)}), nil), "too large; shorten them"},
		{"one pattern for many values", stored(t, map[string]any{"p": map[string]any{"type": "string", "pattern": text("a{0,100}", 800), "enum": strings.Split(text("aaaa,", size/5), ",")}}, nil), "too large; shorten them"},
		{"ports of one long value", stored(t, map[string]any{"p": map[string]any{"type": "string", "default": text("1", size/2)}},
			component(map[string]any{"ports": map[string]any{"p": map[string]any{"port": 1, "publish": text("${parameters.p}", size/2)}}})), "got more than 100 characters"},
		{"exports made of each other", stored(t, nil, component(map[string]any{"exports": exportTangle(110)})), "exports are made of each other"},
		{"many values", stored(t, map[string]any{"p": map[string]any{"type": "integer", "enum": make([]int, size/2)}}, nil), "has more than 20000 values"},
		{"many keys", stored(t, many(2_001, map[string]any{}), nil), "has a map of more than 2000 entries"},
		{"many platforms", stored(t, nil, nil, strings.Split(text("linux/amd64,", size/3), ",")...), "want at most 100 platforms"},
		{"nested without end", stored(t, nil, component(map[string]any{"later": json.RawMessage(text("[", 5000) + text("]", 5000))})), "nested more than 32 deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := artifact.ParseConfig(tt.config)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseConfig = %.300v, want an error with %q", err, tt.want)
			}
			var list artifact.FindingsError
			if errors.As(err, &list) && len(list) > 101 || err != nil && (len(err.Error()) > 250_000 || strings.Contains(err.Error(), "did you mean")) {
				t.Errorf("ParseConfig reports %d findings in %d bytes, want at most 101 without suggestions", len(list), len(err.Error()))
			}
			// Generous, for slow machines with the race detector; the faults took
			// far longer.
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("ParseConfig took %v for %d bytes", took, len(tt.config))
			} else {
				t.Logf("%v for %d bytes", took, len(tt.config))
			}
		})
	}
}

// exportTangle makes n exports each of which is made of all.
func exportTangle(n int) map[string]any {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "${self.exports.E%d}", i)
	}
	m := map[string]any{}
	for i := range n {
		m[fmt.Sprintf("E%d", i)] = all.String()
	}
	return m
}

func TestParseTemplateCapsFindings(t *testing.T) {
	t.Parallel()
	var doc strings.Builder
	doc.WriteString(head + "components: {a: {image: a}}\n")
	for i := range 1900 {
		fmt.Fprintf(&doc, "unknown%d: %s\n", i, strings.Repeat("x", 20))
	}
	_, err := artifact.ParseTemplate("app.yaml", []byte(doc.String()), beside())
	var list artifact.FindingsError
	if !errors.As(err, &list) || len(list) != 101 || !strings.HasPrefix(list[100].Message, "and more") {
		t.Errorf("ParseTemplate reports %d findings, want 100 and that there are more", len(list))
	}
}

func TestExpandIsBounded(t *testing.T) {
	t.Parallel()
	text, err := artifact.ParseText(strings.Repeat("${parameters.p}", 1000))
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 100_000)
	if _, err := text.Expand(func(artifact.Reference) (any, error) { return long, nil }); err == nil {
		t.Error("Expand to a gigabyte = nil, want an error")
	}
}
