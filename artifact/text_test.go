package artifact_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
)

// resolver gives every reference a value that shows what was asked for.
func resolver(r artifact.Reference) (any, error) {
	switch {
	case r.Name == "missing":
		return nil, errors.New("no value")
	case r.Scope == artifact.ScopeParameter && r.Name == "n":
		return int64(7), nil
	case r.Scope == artifact.ScopeParameter && r.Name == "f":
		return 1e21, nil
	case r.Scope == artifact.ScopeParameter && r.Name == "b":
		return true, nil
	}
	return "<" + r.String()[2:len(r.String())-1] + ">", nil
}

func TestTextExpand(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want any
	}{
		{"", ""},
		{"plain", "plain"},
		{"$", "$"},
		{"$$", "$$"},
		{"$HOME $(x) $", "$HOME $(x) $"},
		{"}", "}"},
		{"$${", "${"},
		{"$${self.host}", "${self.host}"},
		{"$$${self.host}", "$${self.host}"},
		{"$${${self.host}}", "${<self.host>}"},
		{"${parameters.n}", int64(7)},
		{"${parameters.b}", true},
		{"${parameters.f}", 1e21},
		{"${parameters.n} ", "7 "},
		{"${parameters.b}${parameters.n}", "true7"},
		{"x${parameters.f}", "x1000000000000000000000"},
		{"${app.version}", "<app.version>"},
		{"${instance.name}-${self.host}:${self.ports.http}", "<instance.name>-<self.host>:<self.ports.http>"},
		{"${components.db.host}${components.db.ports.p}${components.db.exports.URL}${self.exports.URL}", "<components.db.host><components.db.ports.p><components.db.exports.URL><self.exports.URL>"},
		{"é${self.host}ü", "é<self.host>ü"},
	}
	for _, tt := range tests {
		text, err := artifact.ParseText(tt.text)
		if err != nil {
			t.Errorf("ParseText(%q) = %v", tt.text, err)
			continue
		}
		if got, err := text.Expand(resolver); err != nil || got != tt.want {
			t.Errorf("ParseText(%q).Expand() = %#v, %v, want %#v", tt.text, got, err, tt.want)
		}
	}
}

func TestTextExpandFails(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"${parameters.missing}", "a ${parameters.missing}"} {
		text, err := artifact.ParseText(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := text.Expand(resolver); err == nil {
			t.Errorf("ParseText(%q).Expand() = %v, want an error", s, got)
		}
	}
}

func TestParseTextReferences(t *testing.T) {
	t.Parallel()
	text, err := artifact.ParseText("${parameters.p}${components.db-1.ports.a}$${x}${self.exports.E}${self.host}${app.version}${instance.name}")
	if err != nil {
		t.Fatal(err)
	}
	type ref struct {
		Scope           artifact.Scope
		Component, Name string
	}
	var got []ref
	for _, r := range text.References() {
		got = append(got, ref{r.Scope, r.Component, r.Name})
	}
	want := []ref{
		{artifact.ScopeParameter, "", "p"},
		{artifact.ScopePort, "db-1", "a"},
		{artifact.ScopeExport, "", "E"},
		{artifact.ScopeHost, "", ""},
		{artifact.ScopeVersion, "", ""},
		{artifact.ScopeInstance, "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("References() (-want +got):\n%s", diff)
	}
}

func TestParseTextRefuses(t *testing.T) {
	t.Parallel()
	const unclosed = "${ without }; write $${ for a literal ${"
	tests := []struct{ text, want string }{
		{"${", unclosed},
		{"a ${self.host", unclosed},
		{"$${ ${", unclosed},
	}
	for _, body := range []string{"", " ", "self", "self.", "self.hosts", "self.host.x", "self.ports", "self.ports.", "self.ports.HTTP", "self.exports.1",
		"components", "components.db", "components.DB.host", "components..host", "parameters", "parameters.", "parameters.a.b", "parameters.a-b",
		"app", "app.id", "instance", "env.HOME", " self.host", "self.host ", "self.host\n", "HOME", "${self.host"} {
		tests = append(tests, struct{ text, want string }{"${" + body + "}", "unknown reference ${" + body + "}; want " + artifact.ReferenceForms})
	}
	for _, tt := range tests {
		if _, err := artifact.ParseText(tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("ParseText(%q) = %v, want %s", tt.text, err, tt.want)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		value any
		want  string
	}{
		{"a", "a"}, {int64(-3), "-3"}, {3, "3"}, {1.5, "1.5"}, {1e21, "1000000000000000000000"}, {0.0000001, "0.0000001"}, {true, "true"},
	}
	for _, tt := range tests {
		if got := artifact.Format(tt.value); got != tt.want {
			t.Errorf("Format(%#v) = %q, want %q", tt.value, got, tt.want)
		}
	}
}
