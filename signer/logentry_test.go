package signer_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/sealift/sealift/signer"
)

// TestLogEntries has bundles with log entries that are none: the library would print
// what stands in them.
func TestLogEntries(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ body, want string }{
		{`{"kind":"hashedrekord","apiVersion":"1.0.y   sealift: all is good"}`, `version "1.0.y   sealift: all is good"`},
		{`{"kind":"hashedrekord","apiVersion":"0.0.01"}`, "log entry 1 is of kind"},
		{`{"kind":"hashed\nrekord","apiVersion":"0.0.1"}`, "log entry 1 is of kind"},
		{`{"kind":"hashedrekord"}`, "log entry 1 is of kind"},
		{`sealift: all is good`, "log entry 1: invalid character"},
		{``, "log entry 1: unexpected end"},
	} {
		s := newScene(t)
		raw := editBundle(t, s.bundle, func(bundle, _ map[string]any) {
			bundle["verificationMaterial"].(map[string]any)["tlogEntries"] = []any{map[string]any{
				"logIndex": "1", "canonicalizedBody": base64.StdEncoding.EncodeToString([]byte(tt.body)),
			}}
		})
		attachBundle(t, s.repo, s.index, raw)
		_, err := signer.Verify(t.Context(), s.repo, s.index, []*signer.Key{s.accepted.Key()})
		if !errors.Is(err, signer.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Verify of an entry %s = %v, want %v and %q", tt.body, err, signer.ErrInvalid, tt.want)
		}
	}
}
