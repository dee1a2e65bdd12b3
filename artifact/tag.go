package artifact

import (
	"regexp"

	"github.com/opencontainers/go-digest"
)

// SignatureSuffixes are the ends of the tags by which a manifest belongs to
// another without naming it, cosign's scheme from before there were referrers.
func SignatureSuffixes() []string { return []string{".sig", ".att", ".sbom"} }

var signatureTag = regexp.MustCompile(`^(sha256|sha384|sha512)-([a-f0-9]{64,128})(\.[a-z0-9.]+)?$`)

// SignatureTag returns the tag under which a manifest with the given suffix, as
// .sig, belongs to subject: sha256-<hex>.sig.
func SignatureTag(subject digest.Digest, suffix string) string {
	return subject.Algorithm().String() + "-" + subject.Encoded() + suffix
}

// ParseSignatureTag is the inverse of [SignatureTag]. It takes any suffix, and
// none at all: so the referrers of registries without a referrers API are tagged.
// ok is false for a tag that is an ordinary name.
func ParseSignatureTag(tag string) (subject digest.Digest, suffix string, ok bool) {
	m := signatureTag.FindStringSubmatch(tag)
	if m == nil {
		return "", "", false
	}
	subject = digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
	return subject, m[3], subject.Validate() == nil
}

// IsTag reports whether s is a legal tag.
func IsTag(s string) bool { return tagName.MatchString(s) }
