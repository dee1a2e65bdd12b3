package document_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sealift/sealift/internal/document"
)

func TestUniqueKeys(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, raw, twice string }{
		{"none", `{}`, ""},
		{"no object", `[1,"a","a",null]`, ""},
		{"twice", `{"a":1,"b":2,"a":3}`, "a"},
		{"further down", `{"a":[{"b":{"c":1,"c":1}}]}`, "c"},
		{"behind an object", `{"a":{"b":1},"a":1}`, "a"},
		{"behind a list", `{"a":["a"],"a":1}`, "a"},
		{"in objects beside each other", `[{"a":1},{"a":1}]`, ""},
		{"in objects within each other", `{"a":{"a":{"a":1}}}`, ""},
		{"as a value", `{"a":"b","b":"a"}`, ""},
		{"in another case", `{"manifests":[],"Manifests":[]}`, "Manifests"},
		{"escaped", `{"manifests":[],"\u006danifests":[]}`, "manifests"},
		{"quotes within", `{"a\"":1,"a\\":2,"a":"\\","b":"\"a\":"}`, ""},
		{"annotations of another case", `{"annotations":{"a":"","A":""}}`, ""},
		{"annotations twice", `{"annotations":{"a":"","a":""}}`, "a"},
		{"behind annotations", `{"annotations":{"x":"y"},"a":{"b":1,"B":2}}`, "B"},
		{"beside annotations", `[{"annotations":{}},{"a":1,"A":1}]`, "A"},
		{"a list of annotations", `{"annotations":[{"a":1,"A":1}]}`, ""},
		{"many, then one twice", `[{` + keys(1000) + `},{"k1":1,"x":1,"x":1}]`, "x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := document.UniqueKeys([]byte(tt.raw))
			if tt.twice == "" && err != nil || tt.twice != "" && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", tt.twice))) {
				t.Errorf("UniqueKeys(%.60s) = %v, want %q named", tt.raw, err, tt.twice)
			}
		})
	}
}

// keys returns n members of an object.
func keys(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"k%d":1`, i))
	}
	return strings.Join(all, ",")
}

// FuzzUniqueKeys compares with what a decoder of tokens finds.
func FuzzUniqueKeys(f *testing.F) {
	for _, raw := range []string{`{"a":1,"a":2}`, `[{"a":{"b":"\""}},"\\",{"A":[],"a":{}}]`, `{"annotations":{"a":1,"A":2}}`, `{"\u0061":1,"a":[{}]}`} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		if got, want := document.UniqueKeys(raw) != nil, twice(dec, ""); got != want {
			t.Errorf("UniqueKeys(%q) finds one: %v, want %v", raw, got, want)
		}
	})
}

// twice reports whether the next value has a key twice; under is the last key before it.
func twice(dec *json.Decoder, under string) (found bool) {
	first, _ := dec.Token()
	if _, nests := first.(json.Delim); !nests {
		return false
	}
	seen := map[string]bool{}
	last := under
	if first == json.Delim('{') {
		last = ""
	}
	for dec.More() {
		if first == json.Delim('{') {
			token, _ := dec.Token()
			last = token.(string)
			key := last
			if under != "annotations" && under != "optional" {
				key = strings.ToLower(key)
			}
			found = found || seen[key]
			seen[key] = true
		}
		found = twice(dec, last) || found
	}
	_, _ = dec.Token() // the end
	return found
}
