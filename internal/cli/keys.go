package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/signer"
)

// maxKeyBytes bounds a key file.
const maxKeyBytes = 64 << 10

// passwordVariable is cosign's name for it, so that one setting serves both.
const passwordVariable = "COSIGN_PASSWORD"

// loadSigner reads a private key; the password comes from the environment, from
// nowhere for a key without one, or from the person at the terminal.
func (a *app) loadSigner(path string) (*signer.Signer, error) {
	data, err := readKey(path)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte("PUBLIC KEY")) {
		return nil, usagef("%s is a public key; signing needs the private one, as cosign.key", path)
	}
	password := []byte(a.Getenv(passwordVariable))
	s, err := signer.LoadSigner(data, password)
	if errors.Is(err, signer.ErrPassword) && len(password) == 0 && a.Terminal {
		_, _ = fmt.Fprintf(a.Err, "Password for %s: ", path)
		password, err = a.ReadPassword()
		_, _ = fmt.Fprintln(a.Err)
		if err != nil {
			return nil, fmt.Errorf("read password: %w", err)
		}
		s, err = signer.LoadSigner(data, password)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	return s, nil
}

// loadKeys reads public keys.
func loadKeys(paths []string) ([]*signer.Key, error) {
	var keys []*signer.Key
	for _, path := range paths {
		data, err := readKey(path)
		if err != nil {
			return nil, err
		}
		k, err := signer.ParseKey(data)
		if err != nil {
			return nil, usagef("key %s: %v", path, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if info.Size() > maxKeyBytes {
		return nil, usagef("%s is %d bytes, too large for a key", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return data, nil
}

// keyFlag adds --key for the public keys whose signatures count.
func keyFlag(cmd *cobra.Command, keys *[]string) {
	cmd.Flags().StringArrayVar(keys, "key", nil, "accept signatures by the public key in `FILE` (may be repeated)")
	_ = cmd.MarkFlagFilename("key", "pub", "pem")
}

// verifySignature checks that one of keys signed f.
func verifySignature(ctx context.Context, f found, keys []*signer.Key) (*signer.Evidence, error) {
	evidence, err := signer.Verify(ctx, f.Store, f.Descriptor, keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return evidence, nil
}
