package mirror_test

import (
	"testing"

	"github.com/sealift/sealift/mirror"
)

func TestDecodeStrict(t *testing.T) {
	t.Parallel()
	type part struct {
		Name string `json:"name"`
	}
	type whole struct {
		Parts []part          `json:"parts"`
		Named map[string]part `json:"named"`
		Any   any             `json:"any,omitempty"`
		One   *part           `json:"one"`
	}
	for _, tt := range []struct {
		name, raw string
		ok        bool
	}{
		{"all of it", `{"parts":[{"name":"a"},{"name":"b"}],"named":{"Name":{"name":"c"}},"any":{"X":[1,{"x":2}]},"one":{"name":"d"}}`, true},
		{"null", `null`, true},
		{"another letter case", `{"Parts":[]}`, false},
		{"unknown", `{"more":1}`, false},
		{"twice", `{"parts":[],"parts":[]}`, false},
		{"another letter case below", `{"parts":[{"Name":"a"}]}`, false},
		{"unknown behind a pointer", `{"one":{"x":"a"}}`, false},
		{"twice below", `{"parts":[{"name":"a","name":"b"}]}`, false},
		{"twice in a map", `{"named":{"a":{},"a":{}}}`, false},
		{"twice, spelt in two ways", `{"any":{"a":1,"\u0061":2}}`, false},
		{"twice in anything", `{"any":[{"a":{"b":1,"b":2}}]}`, false},
		{"cut off", `{"parts":[`, false},
		{"more behind it", `{} {}`, false},
		{"empty", ``, false},
	} {
		if err := mirror.DecodeStrict([]byte(tt.raw), new(whole)); (err == nil) != tt.ok {
			t.Errorf("%s: DecodeStrict = %v, want success %t", tt.name, err, tt.ok)
		}
	}
}
