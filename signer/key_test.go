package signer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/sealift/sealift/signer"
)

// newSigner makes a key without the deliberately slow encryption of
// GenerateKeyPair.
func newSigner(t testing.TB) *signer.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return wrap(t, private)
}

func wrap(t testing.TB, private crypto.Signer) *signer.Signer {
	t.Helper()
	s, err := signer.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publicPEM(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestLoadSigner(t *testing.T) {
	t.Parallel()
	private, public, err := signer.GenerateKeyPair([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"; !strings.HasPrefix(string(private), want) {
		t.Errorf("GenerateKeyPair made a private key that starts %.50q, want %q", private, want)
	}
	damaged := bytes.Replace(private, []byte("PRIVATE KEY-----\n"), []byte("PRIVATE KEY-----\nAAAA"), 1)
	tests := []struct {
		name         string
		pem          []byte
		password     string
		fails        bool
		wantPassword bool
	}{
		{name: "right password", pem: private, password: "secret"},
		{name: "wrong password", pem: private, password: "Secret", fails: true, wantPassword: true},
		{name: "no password", pem: private, fails: true, wantPassword: true},
		{name: "damaged", pem: damaged, password: "secret", fails: true},
		{name: "public key", pem: public, password: "secret", fails: true},
		{name: "empty", fails: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := signer.LoadSigner(tt.pem, []byte(tt.password))
			if (err != nil) != tt.fails || errors.Is(err, signer.ErrPassword) != tt.wantPassword {
				t.Fatalf("LoadSigner() = %v, want failure %v, ErrPassword %v", err, tt.fails, tt.wantPassword)
			}
			if err != nil {
				return
			}
			if got := s.PublicKeyPEM(); !bytes.Equal(got, public) {
				t.Errorf("PublicKeyPEM() = %s, want %s", got, public)
			}
		})
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	// openssl pkey -pubin -in cosign.pub -outform DER | openssl dgst -sha256
	const public = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEingmZ03yPaZptoxFXz/1NgctviZ4
1WrYxSO/rzNhO16rFMj6uLaM1SlUqF2Qp2YC+uCC6cHIna8dlFocnyQVBw==
-----END PUBLIC KEY-----
`
	const want = "sha256:24d3b16a32ae7f0b18b6a6cdc3f15952ced75bfc7f907b34103c14e4d18f3391"
	key, err := signer.ParseKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Fingerprint(); got != want {
		t.Errorf("Fingerprint() = %s, want %s", got, want)
	}
	if got := string(key.PEM()); got != public {
		t.Errorf("PEM() = %s, want %s", got, public)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	good := newSigner(t).PublicKeyPEM()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		pem  []byte
		want string
	}{
		{"nothing", nil, "no PEM block"},
		{"two keys", append(bytes.Clone(good), good...), "more than one PEM block"},
		{"text after the key", append(bytes.Clone(good), "x"...), "more than one PEM block"},
		{"certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), "CERTIFICATE"},
		{"not DER", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}), "parse public key"},
		{"small curve", publicPEM(t, p224.Public()), "curve P-224"},
		{"short RSA", publicPEM(t, weak.Public()), "RSA of 1024 bits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := signer.ParseKey(tt.pem); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseKey() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestKeyKinds(t *testing.T) {
	t.Parallel()
	keys := map[string]func() (crypto.Signer, error){
		"P-256":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"P-384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"P-521":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"RSA 2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519": func() (crypto.Signer, error) {
			_, private, err := ed25519.GenerateKey(rand.Reader)
			return private, err
		},
		"token": func() (crypto.Signer, error) {
			private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			return token{private}, err
		},
	}
	for name, generate := range keys {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			private, err := generate()
			if err != nil {
				t.Fatal(err)
			}
			s := wrap(t, private)
			key, err := signer.ParseKey(s.PublicKeyPEM())
			if err != nil {
				t.Fatal(err)
			}
			repo := newRepository(t, true)
			index, _ := pushRelease(t, repo, "1.0.0")
			if _, err := signer.Sign(t.Context(), repo, index, "registry.example/app", s, signer.SignOptions{}); err != nil {
				t.Fatal(err)
			}
			evidence, err := signer.Verify(t.Context(), repo, index, []*signer.Key{key})
			if err != nil {
				t.Fatal(err)
			}
			if len(evidence.Signatures) != 2 || len(evidence.Rejected) != 0 {
				t.Errorf("Verify() = %+v, want two signatures and nothing rejected", evidence)
			}
		})
	}
}

// token hides the kind of a key, as a PKCS #11 token does.
type token struct{ crypto.Signer }

// What openssl writes becomes a key of cosign, with the same public half.
func TestImportKeyPair(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block("PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	ec := block("EC PRIVATE KEY", sec1, err)
	good := map[string]struct {
		pem    []byte
		public crypto.PublicKey
	}{
		"PKCS 8 RSA":           {pkcs8(rsaKey), rsaKey.Public()},
		"PKCS 8 ECDSA":         {pkcs8(ecKey), ecKey.Public()},
		"PKCS 8 Ed25519":       {pkcs8(edKey), edKey.Public()},
		"PKCS 1":               {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), nil), rsaKey.Public()},
		"SEC 1":                {ec, ecKey.Public()},
		"SEC 1 and parameters": {append(block("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}, nil), ec...), ecKey.Public()},
	}
	for name, tt := range good {
		private, public, err := signer.ImportKeyPair(tt.pem, []byte("secret"))
		if err != nil {
			t.Errorf("%s: ImportKeyPair() = %v", name, err)
			continue
		}
		if _, err := signer.LoadSigner(private, nil); !errors.Is(err, signer.ErrPassword) {
			t.Errorf("%s: without the password LoadSigner() = %v", name, err)
		}
		s, err := signer.LoadSigner(private, []byte("secret"))
		if err != nil {
			t.Errorf("%s: LoadSigner() = %v", name, err)
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(tt.public)
		if want := string(block("PUBLIC KEY", der, err)); string(public) != want || string(s.PublicKeyPEM()) != want {
			t.Errorf("%s: the public key is\n%s\nand %s, want %s", name, public, s.PublicKeyPEM(), want)
		}
	}
	encrypted, _, err := signer.GenerateKeyPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"nothing":           nil,
		"no PEM":            []byte("x"),
		"two keys":          append(pkcs8(rsaKey), pkcs8(ecKey)...),
		"cosign's":          encrypted,
		"encrypted":         block("ENCRYPTED PRIVATE KEY", []byte{1}, nil),
		"a public key":      block("PUBLIC KEY", []byte{1}, nil),
		"damaged":           block("PRIVATE KEY", []byte{1, 2, 3}, nil),
		"of 1024 bits":      pkcs8(weak),
		"encrypted the old": []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
	} {
		if _, _, err := signer.ImportKeyPair(raw, nil); err == nil {
			t.Errorf("%s: ImportKeyPair() succeeded", name)
		}
	}
}
