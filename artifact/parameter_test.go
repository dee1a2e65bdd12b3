package artifact_test

import (
	"math"
	"strings"
	"testing"

	"github.com/sealift/sealift/artifact"
)

func ptr(f float64) *float64 { return &f }

func TestParameterAccept(t *testing.T) {
	t.Parallel()
	text := artifact.Parameter{Type: "string"}
	integer := artifact.Parameter{Type: "integer"}
	number := artifact.Parameter{Type: "number"}
	boolean := artifact.Parameter{Type: "boolean"}
	port := artifact.Parameter{Type: "integer", Minimum: ptr(1), Maximum: ptr(65535)}
	word := artifact.Parameter{Type: "string", Pattern: "[a-z]+|0"}
	level := artifact.Parameter{Type: "integer", Enum: []any{1.0, int64(2), "3"}}
	secret := artifact.Parameter{Type: "string", Secret: true, Pattern: "[0-9]+", Enum: []any{"1", "2"}}
	tests := []struct {
		p       artifact.Parameter
		value   any
		want    any
		message string
	}{
		{text, "a", "a", ""},
		{text, "", "", ""},
		{text, 5, nil, `want a string, got "5"`},
		{text, true, nil, `want a string, got "true"`},
		{text, nil, nil, `want a string, got "<nil>"`},
		{text, []any{"a"}, nil, `want a string, got "[a]"`},
		{integer, 5, int64(5), ""},
		{integer, int64(5), int64(5), ""},
		{integer, 5.0, int64(5), ""},
		{integer, "5", int64(5), ""},
		{integer, "-5", int64(-5), ""},
		{integer, 5.5, nil, `want an integer, got "5.5"`},
		{integer, "5.5", nil, `want an integer, got "5.5"`},
		{integer, "", nil, `want an integer, got ""`},
		{integer, "five", nil, `want an integer, got "five"`},
		{integer, "NaN", nil, `want an integer, got "NaN"`},
		{integer, "Inf", nil, `want an integer, got "Inf"`},
		{integer, "0x10p0", nil, `want an integer, got "0x10p0"`},
		{integer, "1_000", nil, `want an integer, got "1_000"`},
		{integer, true, nil, `want an integer, got "true"`},
		{integer, "9007199254740991", int64(9007199254740991), ""},
		{integer, "9007199254740993", nil, `want an integer, got "9007199254740993"`},
		{integer, int64(9007199254740993), nil, `want an integer, got "9007199254740993"`},
		{number, 5, 5.0, ""},
		{number, "1.5", 1.5, ""},
		{number, "1e3", 1000.0, ""},
		{number, "-inf", nil, `want a number, got "-inf"`},
		{number, math.NaN(), nil, `want a number, got "NaN"`},
		{boolean, true, true, ""},
		{boolean, "true", true, ""},
		{boolean, "false", false, ""},
		{boolean, "yes", nil, `want true or false, got "yes"`},
		{boolean, "", nil, `want true or false, got ""`},
		{boolean, 1, nil, `want true or false, got "1"`},
		{port, 1, int64(1), ""},
		{port, "65535", int64(65535), ""},
		{port, 0, nil, `want an integer from 1 up to 65535, got "0"`},
		{port, 65536, nil, `want an integer from 1 up to 65535, got "65536"`},
		{artifact.Parameter{Type: "number", Minimum: ptr(0.5)}, 0.4, nil, `want a number from 0.5, got "0.4"`},
		{word, "abc", "abc", ""},
		{word, "0", "0", ""},
		{word, "abc1", nil, `want a string that matches [a-z]+|0, got "abc1"`},
		{word, "abc\n", nil, `want a string that matches [a-z]+|0, got "abc\n"`},
		{word, "", nil, `want a string that matches [a-z]+|0, got ""`},
		{level, "1", int64(1), ""},
		{level, 3, int64(3), ""},
		{level, 4, nil, `want one of 1, 2, 3, got "4"`},
		{secret, "1", "1", ""},
		{secret, "hunter", nil, "want a string that matches [0-9]+, got another value"},
		{secret, "3", nil, "want one of 1, 2, got another value"},
		{secret, 12345, nil, "want a string, got another value"},
	}
	for _, tt := range tests {
		got, err := tt.p.Accept(tt.value)
		msg := ""
		if err != nil {
			msg = err.Error()
		}
		if got != tt.want || msg != tt.message {
			t.Errorf("%+v.Accept(%#v) = %#v, %q, want %#v, %q", tt.p, tt.value, got, msg, tt.want, tt.message)
		}
	}
}

func TestQuantity(t *testing.T) {
	t.Parallel()
	good := map[string]int64{"0": 0, "1": 1, "1k": 1000, "1Ki": 1024, "1.5Gi": 3 << 29, "256Mi": 256 << 20, "2T": 2e12, "1Ti": 1 << 40}
	for s, want := range good {
		if got, err := artifact.Quantity(s); err != nil || got != want {
			t.Errorf("Quantity(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", ".", "Mi", "-1", "+1", "1e3", "0x1", "inf", "NaN", "1 Mi", "1MiB", "1.2.3", "9999999Ti", strings.Repeat("9", 400)} {
		if got, err := artifact.Quantity(s); err == nil {
			t.Errorf("Quantity(%.20q) = %d, want an error", s, got)
		}
	}
}

func TestCores(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]float64{"1": 1, "0.5": 0.5, "500m": 0.5, "16": 16} {
		if got, err := artifact.Cores(s); err != nil || got != want {
			t.Errorf("Cores(%q) = %g, %v, want %g", s, got, err, want)
		}
	}
	for _, s := range []string{"", "m", "0", "0m", "-1", "1e1", "Inf", "2000000", "1 m"} {
		if got, err := artifact.Cores(s); err == nil {
			t.Errorf("Cores(%q) = %g, want an error", s, got)
		}
	}
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"example.com/shop", "a.b/c", "example.com/team-a/shop.one", "e.com/" + strings.Repeat("a", 194)} {
		if err := artifact.CheckID(id); err != nil {
			t.Errorf("CheckID(%q) = %v, want nil", id, err)
		}
	}
	for _, id := range []string{"", "-", "shop", "example.com", "example.com/", "localhost/shop", "Example.com/shop", "example.com/a b", "example.com/a\n", "example.com//a", "e.com/" + strings.Repeat("a", 195)} {
		if err := artifact.CheckID(id); err == nil {
			t.Errorf("CheckID(%q) = nil, want an error", id)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"1.0.0", "0.0.0", "1.2.3-rc.1", "10.20.30-alpha.beta-1"} {
		if err := artifact.CheckVersion(v); err != nil {
			t.Errorf("CheckVersion(%q) = %v, want nil", v, err)
		}
	}
	for _, v := range []string{"", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0+b", "1.0.0-01", "1.0.0-", "1.0.0 ", "latest", "1.0.0-" + strings.Repeat("a", 128)} {
		if err := artifact.CheckVersion(v); err == nil {
			t.Errorf("CheckVersion(%q) = nil, want an error", v)
		}
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{{"1.0.0", "1.0.0", 0}, {"1.10.0", "1.9.0", 1}, {"1.0.0-rc.1", "1.0.0", -1}, {"1.0.0-rc.2", "1.0.0-rc.10", -1}} {
		if got := artifact.CompareVersions(tt.a, tt.b); got != tt.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestFilePerm(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]uint32{"": 0o444, "0400": 0o400, "755": 0o755, "rubbish": 0o444, "10000000": 0o444} {
		if got := (artifact.File{Mode: mode}).Perm(); got != want {
			t.Errorf("File{Mode: %q}.Perm() = %o, want %o", mode, got, want)
		}
	}
}
