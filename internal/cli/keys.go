package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/signer"
)

// maxKeyBytes bounds a key file, maxPasswordBytes a password's.
const (
	maxKeyBytes      = 64 << 10
	maxPasswordBytes = 4 << 10
)

// passwordVariable is cosign's name for it, so that one setting serves both.
const passwordVariable = "COSIGN_PASSWORD"

// passwordFlag adds --password-file for the password of a private key.
func passwordFlag(cmd *cobra.Command, a *app) {
	cmd.Flags().StringVar(&a.passwordFile, "password-file", "", "take the private key's password from `FILE` (default $"+passwordVariable+", else ask)")
	_ = cmd.MarkFlagFilename("password-file")
}

// givenPassword is the password that stands in the file named or in the environment;
// given is false where nobody said.
func (a *app) givenPassword() (password []byte, given bool, err error) {
	if a.passwordFile == "" {
		p := a.Getenv(passwordVariable)
		return []byte(p), p != "" || slices.Contains(a.Environ, passwordVariable+"="), nil
	}
	if err := a.checkSecret(a.passwordFile); err != nil {
		return nil, false, err
	}
	data, err := readFile(a.passwordFile, maxPasswordBytes)
	if err != nil {
		return nil, false, fmt.Errorf("read password: %w", err)
	}
	line, _ := bytes.CutSuffix(data, []byte("\n"))
	line, _ = bytes.CutSuffix(line, []byte("\r"))
	if bytes.ContainsAny(line, "\n\x00") {
		return nil, false, usagef("%s has more than one line; want the password alone", a.passwordFile)
	}
	return line, true, nil
}

// checkSecret warns of a file with a secret that others can read, and refuses a link
// that others made: they choose what it leads to.
func (a *app) checkSecret(path string) error {
	link, err := os.Lstat(path)
	if err != nil {
		return nil //nolint:nilerr // opening it says what is wrong
	}
	if link.Mode()&fs.ModeSymlink != 0 && foreign(link) {
		return withHint(fmt.Errorf("%w: %s is a link that another user made", errRefused, path), "name the file itself, or make the link anew")
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && readableByOthers(info) {
		a.out.Warn("%s can be read by other users (mode %04o); take that away: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

// loadSigner reads a private key; the password comes from a file, from the
// environment, from nowhere for a key without one, or from the person at the terminal.
func (a *app) loadSigner(ctx context.Context, path string) (*signer.Signer, error) {
	if err := a.checkSecret(path); err != nil {
		return nil, err
	}
	data, err := readKey(path)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(data, []byte("PUBLIC KEY")) {
		return nil, usagef("%s is a public key; signing needs the private one, as cosign.key", path)
	}
	if bytes.Contains(data, []byte("-----BEGIN")) && !bytes.Contains(data, []byte("-----BEGIN ENCRYPTED ")) {
		return nil, withHint(usagef("%s is no key of cosign", path), "make one of it: sealift keygen --import %s", path)
	}
	password, _, err := a.givenPassword()
	if err != nil {
		return nil, err
	}
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
