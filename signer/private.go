package signer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/signature"
)

// ErrPassword is returned by [LoadSigner] when the password is wrong or
// missing, so that a caller can ask for it.
var ErrPassword = errors.New("wrong password for the private key")

// GenerateKeyPair makes an ECDSA P-256 key pair. The private key is encrypted
// with the password (scrypt and NaCl secretbox; an empty password is allowed,
// and protects nothing) in a PEM block "ENCRYPTED SIGSTORE PRIVATE KEY"; the
// public key is a PEM block "PUBLIC KEY". cosign reads both, as cosign.key and
// cosign.pub.
func GenerateKeyPair(password []byte) (private, public []byte, err error) {
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, nil, fmt.Errorf("generate key pair: %w", err)
	}
	return pair.PrivateBytes, pair.PublicBytes, nil
}

// ImportKeyPair makes a key pair as [GenerateKeyPair] does out of a private key that
// exists: RSA, ECDSA or Ed25519, in one PEM block "PRIVATE KEY" (PKCS #8), "RSA PRIVATE
// KEY" (PKCS #1) or "EC PRIVATE KEY" (SEC 1) that is not encrypted; a block "EC
// PARAMETERS" may stand before it. The public key must be one that [ParseKey] accepts.
func ImportKeyPair(privatePEM, password []byte) (private, public []byte, err error) {
	parsed, err := parsePrivate(privatePEM)
	if err != nil {
		return nil, nil, fmt.Errorf("import private key: %w", err)
	}
	key, err := newKey(parsed.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("import private key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(parsed)
	if err != nil {
		return nil, nil, fmt.Errorf("import private key: %w", err)
	}
	box, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, nil, fmt.Errorf("import private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: cosign.SigstorePrivateKeyPemType, Bytes: box}), key.PEM(), nil
}

// parsePrivate reads the one private key of a PEM file.
func parsePrivate(raw []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(raw)
	if block != nil && block.Type == "EC PARAMETERS" { // the curve, which the key names again
		block, rest = pem.Decode(rest)
	}
	switch {
	case block == nil:
		return nil, errors.New("no PEM block")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("more than one PEM block")
	case block.Type == cosign.SigstorePrivateKeyPemType || block.Type == cosign.CosignPrivateKeyPemType:
		return nil, errors.New("it is a key of cosign already")
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("it is encrypted; decrypt it first: openssl pkey -in FILE -out PLAIN")
	}
	var parsed any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		parsed, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block is %q, want a private key", block.Type)
	}
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T cannot sign", parsed)
	}
	return private, nil
}

// Signer signs with one private key. It may be used concurrently if its
// crypto.Signer may.
type Signer struct {
	key     *Key
	private crypto.Signer
}

// LoadSigner decrypts a private key as made by [GenerateKeyPair], by
// "cosign generate-key-pair" or by "cosign import-key-pair". A wrong or missing
// password is ErrPassword.
func LoadSigner(privatePEM, password []byte) (*Signer, error) {
	block, _ := pem.Decode(privatePEM)
	if block == nil {
		return nil, errors.New("load private key: no PEM block")
	}
	if block.Type != cosign.SigstorePrivateKeyPemType && block.Type != cosign.CosignPrivateKeyPemType {
		return nil, fmt.Errorf("load private key: PEM block is %q, want %q", block.Type, cosign.SigstorePrivateKeyPemType)
	}
	// Decrypted here and not by cosign.LoadPrivateKey, which hides the key
	// that deterministic signatures need.
	der, err := encrypted.Decrypt(block.Bytes, password)
	if err != nil {
		// The library has no sentinel: this text is what tells a wrong
		// password from a damaged file, and a test pins it.
		if strings.HasSuffix(err.Error(), "decryption failed") {
			return nil, fmt.Errorf("load private key: %w", ErrPassword)
		}
		return nil, fmt.Errorf("load private key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("load private key: %w", err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("load private key: %T cannot sign", parsed)
	}
	return NewSigner(private)
}

// NewSigner returns a Signer over a private key held elsewhere, such as in a
// PKCS #11 token or a key management service. The public key must be one that
// [ParseKey] accepts.
//
// ECDSA and RSA (PKCS #1 v1.5) sign a SHA-256 digest whatever the size of the
// key, because that is what "cosign verify --key" expects unless told
// otherwise; Ed25519 signs the message.
func NewSigner(private crypto.Signer) (*Signer, error) {
	key, err := newKey(private.Public())
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, private: private}, nil
}

// Key returns the public key.
func (s *Signer) Key() *Key { return s.key }

// PublicKeyPEM returns the public key as a PEM block "PUBLIC KEY".
func (s *Signer) PublicKeyPEM() []byte { return s.key.PEM() }

func (s *Signer) sign(message []byte) ([]byte, error) {
	if _, ok := s.private.Public().(ed25519.PublicKey); ok {
		return s.private.Sign(rand.Reader, message, crypto.Hash(0))
	}
	hash := crypto.SHA256.New()
	hash.Write(message)
	random := rand.Reader
	if _, ok := s.private.(*ecdsa.PrivateKey); ok {
		// Without a source of randomness the signature is that of RFC 6979:
		// the same key and content give the same bytes, hence the same
		// manifests, when a release is signed in two places or again.
		random = nil
	}
	return s.private.Sign(random, hash.Sum(nil), crypto.SHA256)
}

// messageSigner shows a Signer as what the sigstore packages call a signer.
type messageSigner struct{ *Signer }

func (m messageSigner) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return m.private.Public(), nil
}

func (m messageSigner) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(message); err != nil {
		return nil, err
	}
	return m.sign(b.Bytes())
}
