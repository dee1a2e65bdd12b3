package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/signer"
)

// maxKeyBytes bounds a key file.
const maxKeyBytes = 64 << 10

// passwordVariable is cosign's name for it, so that one setting serves both.
const passwordVariable = "COSIGN_PASSWORD"

// loadSigner reads a private key; the password comes from the environment, from
// nowhere for a key without one, or from the person at the terminal.
func (a *app) loadSigner(ctx context.Context, path string) (*signer.Signer, error) {
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
		if password, err = a.password(ctx, "Password for "+path+": "); err != nil {
			return nil, err
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
		if bytes.Contains(data, []byte("PRIVATE KEY")) {
			return nil, withHint(usagef("%s is a private key", path), "give the public one, as cosign.pub, and keep the private one with who signs")
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
	data, err := readFile(path, maxKeyBytes)
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
