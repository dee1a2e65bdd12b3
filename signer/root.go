package signer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// MaxRootBytes bounds a trusted root; the public one has 9 KiB.
const MaxRootBytes = 256 << 10

// Root is a sigstore trusted root: the authorities whose certificates say who signed,
// the transparency logs, and the authorities whose timestamps say when
// (https://github.com/sigstore/protobuf-specs/blob/v0.5.2/protos/sigstore_trustroot.proto).
// What it names a signature must have: an entry in one of its transparency logs, and a
// certificate that is in one of its certificate logs. It is immutable.
type Root struct {
	json        []byte
	fingerprint string
	authorities []string
	verifier    *verify.Verifier
}

// ParseRoot parses a trusted_root.json of at most MaxRootBytes. Unknown fields, fields
// given twice and a root under which no signature could be verified are errors: one
// without a certificate authority, or with neither a transparency log nor a timestamp
// authority to say when something was signed.
func ParseRoot(data []byte) (*Root, error) {
	if len(data) > MaxRootBytes {
		return nil, fmt.Errorf("parse trusted root: %d bytes, the limit is %d", len(data), MaxRootBytes)
	}
	material, err := root.NewTrustedRootFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("parse trusted root: %s", plainSpaces(err))
	}
	if len(material.FulcioCertificateAuthorities()) == 0 {
		return nil, errors.New("parse trusted root: it has no certificate authority")
	}
	logs := len(material.RekorLogs())
	if logs+len(material.TimestampingAuthorities()) == 0 {
		return nil, errors.New("parse trusted root: it has neither a transparency log nor a timestamp authority")
	}
	opts := []verify.VerifierOption{verify.WithObserverTimestamps(1), verify.WithoutStatementPredicate()}
	if logs > 0 {
		opts = append(opts, verify.WithTransparencyLog(1))
	}
	if len(material.CTLogs()) > 0 {
		opts = append(opts, verify.WithSignedCertificateTimestamps(1))
	}
	verifier, err := verify.NewVerifier(material, opts...)
	if err != nil {
		return nil, fmt.Errorf("parse trusted root: %w", err)
	}
	r := &Root{json: bytes.Clone(data), verifier: verifier}
	for _, ca := range material.FulcioCertificateAuthorities() {
		if fulcio, ok := ca.(*root.FulcioCertificateAuthority); ok {
			r.authorities = append(r.authorities, fulcio.URI)
		}
	}
	slices.Sort(r.authorities)
	r.authorities = slices.Compact(r.authorities)
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, fmt.Errorf("parse trusted root: %w", err)
	}
	r.fingerprint = digest.FromBytes(compact.Bytes()).String()
	return r, nil
}

// plainSpaces is the text of an error of the protobuf library, which has other spaces
// in every build, on purpose.
func plainSpaces(err error) string { return strings.ReplaceAll(err.Error(), "\u00a0", " ") }

// Fingerprint returns "sha256:" and the lower-case hex SHA-256 of the document without
// the white space between its tokens. The same hex is printed by
//
//	jq -cj . trusted_root.json | sha256sum
func (r *Root) Fingerprint() string { return r.fingerprint }

// Authorities returns the URLs of the certificate authorities, sorted, each once.
func (r *Root) Authorities() []string { return slices.Clone(r.authorities) }

// JSON returns the document that was parsed.
func (r *Root) JSON() []byte { return bytes.Clone(r.json) }
