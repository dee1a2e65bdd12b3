package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/signer"
)

func newKeygen(a *app) *cobra.Command {
	prefix, from := "cosign", ""
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key pair for signing",
		Long: `keygen writes an encrypted private key, PREFIX.key, and a public key, PREFIX.pub, in
the format of cosign. The password is taken from --password-file or COSIGN_PASSWORD,
or asked for. It never overwrites a key.

With --import it makes them of a private key that exists: RSA, ECDSA or Ed25519, as
openssl writes it, in PEM and not encrypted.

The public key is what a site needs to accept your releases; give it to them over
another way than the media.`,
		Example:           "  sealift keygen\n  COSIGN_PASSWORD=… sealift keygen --out vendor\n  sealift keygen --import vendor.pem --out vendor --password-file vendor.password",
		Args:              args(0, 0, "no arguments"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.keygen(cmd.Context(), prefix, from)
		},
	}
	cmd.Flags().StringVar(&prefix, "out", prefix, "write `PREFIX`.key and PREFIX.pub")
	cmd.Flags().StringVar(&from, "import", "", "take the private key in `FILE` instead of making one")
	_ = cmd.MarkFlagFilename("import", "pem", "key")
	passwordFlag(cmd, a)
	return cmd
}

func (a *app) keygen(ctx context.Context, prefix, from string) error {
	private, public := prefix+".key", prefix+".pub"
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); err == nil {
			return withHint(fmt.Errorf("%w: %s exists, and keys are not overwritten", errRefused, path), "choose another name: sealift keygen --out PREFIX")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	pair := signer.GenerateKeyPair
	if from != "" {
		if err := a.checkSecret(from); err != nil {
			return err
		}
		data, err := readKey(from)
		if err != nil {
			return err
		}
		pair = func(password []byte) (private, public []byte, err error) {
			if private, public, err = signer.ImportKeyPair(data, password); err != nil {
				err = usagef("%s: %v", from, err)
			}
			return private, public, err
		}
	}
	password, err := a.newPassword(ctx)
	if err != nil {
		return err
	}
	privatePEM, publicPEM, err := pair(password)
	if err != nil {
		return err
	}
	key, err := signer.ParseKey(publicPEM)
	if err != nil {
		return err
	}
	// O_EXCL, so that a key made meanwhile survives. The public half is last:
	// who sees it may rely on the other.
	if err := writeNew(private, privatePEM, 0o600); err != nil {
		return err
	}
	if err := writeNew(public, publicPEM, 0o644); err != nil {
		return err
	}
	if len(password) == 0 {
		a.out.Warn("%s has no password: whoever reads the file can sign in your name", private)
	}
	v := struct {
		Type        string `json:"type"`
		Private     string `json:"private"`
		Public      string `json:"public"`
		Fingerprint string `json:"fingerprint"`
	}{"keygen", private, public, key.Fingerprint()}
	return a.out.Result(v, func(w io.Writer) {
		fmt.Fprintf(w, "private key  %s\npublic key   %s\nfingerprint  %s\n", private, public, key.Fingerprint())
	})
}

// newPassword asks twice on a terminal; a file, and COSIGN_PASSWORD, even when empty,
// are an answer.
func (a *app) newPassword(ctx context.Context) ([]byte, error) {
	if p, given, err := a.givenPassword(); given || err != nil {
		return p, err
	}
	if !a.Terminal {
		return nil, withHint(usagef("there is no password for the private key, and nobody to ask"), "set %s; an empty one makes a key without a password", passwordVariable)
	}
	first, err := a.password(ctx, "Password for the private key: ")
	if err != nil {
		return nil, err
	}
	second, err := a.password(ctx, "Once more: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, withHint(usagef("the two passwords differ"), "run it again")
	}
	return first, nil
}

func writeNew(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
