package target_test

import (
	"testing"

	"github.com/sealift/sealift/internal/target"
)

func TestBlot(t *testing.T) {
	t.Parallel()
	secrets := []string{`pa$w"ord99`, "line-one\nline-two", "abc", "word"}
	for in, want := range map[string]string{
		"nothing":                           "nothing",
		`it was pa$w"ord99.`:                "it was ….",
		`REDIS: "pa$$w\"ord99"`:             `REDIS: "…"`,
		`pa$w\"ord99 and pa$$w"ord99`:       "… and …",
		"line-two alone":                    "… alone",
		`"line-one\nline-two"`:              `"…"`,
		"abc is too short to be told apart": "abc is too short to be told apart",
		"password":                          "pass…",
	} {
		if got := target.Blot(in, secrets); got != want {
			t.Errorf("Blot(%q) = %q, want %q", in, got, want)
		}
	}
}
