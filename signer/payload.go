package signer

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"github.com/sealift/sealift/internal/document"
)

// newPayload returns the simple signing payload for d, and its base64
// signature by s. The repository is recorded as the claimed identity; nothing
// relies on it.
func newPayload(d digest.Digest, repository string, s *Signer) ([]byte, string, error) {
	ref, err := name.NewDigest(repository + "@" + d.String())
	if err != nil {
		return nil, "", fmt.Errorf("repository %q: %w", repository, err)
	}
	raw, err := payload.Cosign{Image: ref}.MarshalJSON()
	if err != nil {
		return nil, "", fmt.Errorf("encode payload: %w", err)
	}
	sig, err := s.sign(raw)
	if err != nil {
		return nil, "", fmt.Errorf("sign payload: %w", err)
	}
	return raw, base64.StdEncoding.EncodeToString(sig), nil
}

// verifyPayload returns the key, or else the certificate, by which a simple signing
// payload is signed. Such a signature does not say whose key it is by: one that
// verifies by no key given may be damaged or somebody else's, and is ErrNotAccepted.
func (c *candidate) verifyPayload(ctx context.Context, raw []byte, d digest.Digest, by *accepted) (*Key, *Certificate, error) {
	if err := checkPayload(raw, d); err != nil {
		return nil, nil, err
	}
	key, err := payloadKey(ctx, raw, c.annotations[static.SignatureAnnotationKey], d, by.keys)
	if err == nil || errors.Is(err, ErrInvalid) || !c.hasCertificate() {
		return key, nil, err
	}
	b, err := c.payloadBundle(raw)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := verifyCertified(b, signedBytes(raw), by)
	return nil, certificate, err
}

// checkPayload says whether raw is a cosign payload that names d. Its error is
// ErrInvalid.
func checkPayload(raw []byte, d digest.Digest) error {
	var p payload.SimpleContainerImage
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("%w: payload: %w", ErrInvalid, err)
	}
	if err := document.UniqueKeys(raw); err != nil {
		return fmt.Errorf("%w: payload: %w", ErrInvalid, err)
	}
	if p.Critical.Type != payload.CosignSignatureType {
		return fmt.Errorf("%w: payload is of type %q", ErrInvalid, p.Critical.Type)
	}
	if got := p.Critical.Image.DockerManifestDigest; got != d.String() {
		return fmt.Errorf("%w: payload names %q", ErrInvalid, got)
	}
	return nil
}

// payloadKey returns the key by which a payload about d is signed.
func payloadKey(ctx context.Context, raw []byte, sig string, d digest.Digest, keys []*Key) (*Key, error) {
	if b, err := base64.StdEncoding.DecodeString(sig); err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%w: signature is not base64", ErrInvalid)
	}
	// The annotations of the layer are left out: certificates and log entries
	// in them say nothing about a key.
	signed, err := static.NewSignature(raw, sig)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	hash := ggcr.Hash{Algorithm: d.Algorithm().String(), Hex: d.Encoded()}
	for _, key := range keys {
		if _, err := cosign.VerifyImageSignature(ctx, signed, hash, key.checkOpts()); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%w: verifies by none of the %d keys given", ErrNotAccepted, len(keys))
}
