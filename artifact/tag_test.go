package artifact_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
)

func TestSignatureTag(t *testing.T) {
	t.Parallel()
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		for _, suffix := range append(artifact.SignatureSuffixes(), "", ".sig.1") {
			d := alg.FromString("x")
			tag := artifact.SignatureTag(d, suffix)
			if got, end, ok := artifact.ParseSignatureTag(tag); got != d || end != suffix || !ok || !artifact.IsTag(tag) && alg != digest.SHA512 {
				t.Errorf("ParseSignatureTag(%s) = %s, %q, %t, want %s, %q", tag, got, end, ok, d, suffix)
			}
		}
	}
	for _, tag := range []string{
		"", "1.0.0", "latest", "sha256-abc.sig", "sha256-" + strings.Repeat("a", 65), "sha512-" + strings.Repeat("a", 64) + ".sig",
		"sha256-" + strings.Repeat("A", 64), "sha256-" + strings.Repeat("a", 64) + "-x", "x-sha256-" + strings.Repeat("a", 64), "md5-" + strings.Repeat("a", 64),
	} {
		if d, _, ok := artifact.ParseSignatureTag(tag); ok {
			t.Errorf("ParseSignatureTag(%q) = %s, want none", tag, d)
		}
	}
}
