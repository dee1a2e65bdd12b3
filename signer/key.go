package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

const minRSABits = 2048

// Key is a public key whose signatures can be verified: ECDSA on P-256, P-384
// or P-521, RSA of at least 2048 bits, or Ed25519. It is immutable.
type Key struct {
	pem      []byte
	sum      [sha256.Size]byte
	verifier signature.Verifier
}

// ParseKey parses one PEM block "PUBLIC KEY" (PKIX) or "RSA PUBLIC KEY"
// (PKCS #1), as in cosign.pub. Anything after the block but white space is an
// error: a second key in the file would be ignored in silence otherwise.
func ParseKey(publicPEM []byte) (*Key, error) {
	block, rest := pem.Decode(publicPEM)
	if block == nil {
		return nil, errors.New("parse public key: no PEM block")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("parse public key: more than one PEM block")
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey(publicPEM)
	if err != nil {
		return nil, fmt.Errorf("parse public key: %w", err)
	}
	return newKey(public)
}

func newKey(public crypto.PublicKey) (*Key, error) {
	verifier, err := newVerifier(public)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return &Key{
		pem:      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		sum:      sha256.Sum256(der),
		verifier: verifier,
	}, nil
}

// Fingerprint returns "sha256:" and the lower-case hex SHA-256 of the key's
// DER SubjectPublicKeyInfo. The same hex is printed by
//
//	openssl pkey -pubin -in cosign.pub -outform DER | openssl dgst -sha256
func (k *Key) Fingerprint() string { return fingerprint(k.sum[:]) }

// String returns the fingerprint.
func (k *Key) String() string { return k.Fingerprint() }

// PEM returns the key as a PEM block "PUBLIC KEY", which ParseKey reads.
func (k *Key) PEM() []byte { return bytes.Clone(k.pem) }

func fingerprint(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// hintFingerprint turns the key hint of a bundle into a fingerprint. By
// convention, not by specification, it is the base64 SHA-256 of the key's DER;
// any other hint says nothing and gives "".
func hintFingerprint(hint string) string {
	sum, err := base64.StdEncoding.DecodeString(hint)
	if err != nil || len(sum) != sha256.Size {
		return ""
	}
	return fingerprint(sum)
}

// newVerifier returns the verifier of every signature scheme that cosign has
// used for the kind of key.
func newVerifier(public crypto.PublicKey) (signature.Verifier, error) {
	var schemes [][]signature.LoadOption
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		schemes = [][]signature.LoadOption{{options.WithHash(crypto.SHA256)}}
		switch k.Curve.Params().BitSize {
		case 256:
		case 384:
			schemes = append(schemes, []signature.LoadOption{options.WithHash(crypto.SHA384)})
		case 521:
			schemes = append(schemes, []signature.LoadOption{options.WithHash(crypto.SHA512)})
		default:
			return nil, fmt.Errorf("unsupported public key: ECDSA on curve %s", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits {
			return nil, fmt.Errorf("unsupported public key: RSA of %d bits, want %d at least", bits, minRSABits)
		}
		schemes = [][]signature.LoadOption{{options.WithHash(crypto.SHA256)}}
	case ed25519.PublicKey:
		schemes = [][]signature.LoadOption{
			{options.WithHash(crypto.SHA256)},
			{options.WithHash(crypto.SHA512), options.WithED25519ph()},
		}
	default:
		return nil, fmt.Errorf("unsupported public key: %T", public)
	}
	var all anyVerifier
	for _, scheme := range schemes {
		v, err := signature.LoadVerifierWithOpts(public, scheme...)
		if err != nil {
			return nil, fmt.Errorf("load public key: %w", err)
		}
		all = append(all, v)
	}
	return all, nil
}

// anyVerifier accepts what one of several schemes of the same key accepts.
type anyVerifier []signature.Verifier

func (a anyVerifier) PublicKey(opts ...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return a[0].PublicKey(opts...)
}

func (a anyVerifier) VerifySignature(sig, message io.Reader, opts ...signature.VerifyOption) error {
	sigBytes, err := io.ReadAll(sig)
	if err != nil {
		return err
	}
	messageBytes, err := io.ReadAll(message)
	if err != nil {
		return err
	}
	for _, v := range a {
		if err = v.VerifySignature(bytes.NewReader(sigBytes), bytes.NewReader(messageBytes), opts...); err == nil {
			return nil
		}
	}
	return err
}
