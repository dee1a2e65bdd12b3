package ui_test

import (
	"testing"

	"github.com/sealift/sealift/internal/ui"
)

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"0": 0, "1000": 1000, "4.7GB": 4_700_000_000, "4.7 gb": 4_700_000_000, "1KiB": 1024, "1.5MiB": 3 << 19, "2g": 2_000_000_000, "1tib": 1 << 40,
		"": -1, "GB": -1, "x": -1, "-1": -1, "1XB": -1, "1e3": -1, "99999999TB": -1, "1.2.3MB": -1, "nan": -1, "inf": -1,
	} {
		got, err := ui.ParseBytes(in)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
}
