package release_test

import (
	"testing"

	"github.com/sealift/sealift/examples/shop/internal/release"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, counts := range map[string]bool{
		"1.0.0": false, "1.0.9": false, "1.1.0": true, "1.1.0-rc.1": true, "1.10.0": true, "2.0.0": true,
		"0.0.0": false, "": false, "main": false, "1": false,
	} {
		if got := release.Counts(version); got != counts {
			t.Errorf("Counts(%q) = %v, want %v", version, got, counts)
		}
	}
	if before, after := release.Colour("1.0.0"), release.Colour("1.1.0"); before == after {
		t.Errorf("Colour is %s in both versions, want a visible change", before)
	}
}
