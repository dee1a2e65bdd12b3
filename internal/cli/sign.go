package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/signer"
)

func newSign(a *app) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "sign REF",
		Short: "Sign what is published or on media",
		Long: `sign adds a signature by your key to a release or an image, in a registry or on
media. It binds the digest, and with it everything the artifact reaches. Signatures
by others stay; signing twice with one key changes nothing. cosign verifies what
sealift signs, and the other way round.`,
		Example: "  sealift sign registry.example.com/shop:1.0.0 --key cosign.key\n  sealift sign /media/usb --key second.key",
		Args:    args(1, 1, "one REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.sign(cmd.Context(), args[0], key)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the private key in `FILE` (required)")
	passwordFlag(cmd, a)
	return cmd
}

func (a *app) sign(ctx context.Context, ref, keyFile string) error {
	if keyFile == "" {
		return withHint(usagef("sign wants --key FILE, the private key"), "sealift keygen makes a key pair")
	}
	s, err := a.loadSigner(ctx, keyFile)
	if err != nil {
		return err
	}
	f, err := a.findOne(ctx, ref)
	if err != nil {
		return err
	}
	err = a.addProof(ctx, ref, f, func(dst signer.Target) error {
		_, err := signer.Sign(ctx, dst, f.Descriptor, f.Repository, s, signer.SignOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("sign %s: %w", f.Name, err)
	}
	v := struct {
		Type   string `json:"type"`
		Name   string `json:"name"`
		Digest string `json:"digest"`
		Signer string `json:"signer"`
	}{"signed", f.Name, f.Descriptor.Digest.String(), s.Key().Fingerprint()}
	return a.out.Result(v, func(w io.Writer) {
		fmt.Fprintf(w, "signed %s\n  digest %s\n  by key %s\n", v.Name, v.Digest, v.Signer)
	})
}

// addProof adds what refers to an artifact where the artifact is.
func (a *app) addProof(ctx context.Context, ref string, f delivery.Found, add func(signer.Target) error) error {
	if f.Media == nil {
		repo, err := a.client.Repository(f.Repository)
		if err != nil {
			return err
		}
		return add(repo)
	}
	if delivery.FullName(f.Repository) != f.Repository {
		return withHint(usagef("the layout was written by another tool and gives the image no full name to sign it under"),
			"copy it first: sealift mirror %s ./DIR, and sign that", ref)
	}
	to := artifact.Location{Place: artifact.PlaceMedia, Path: f.Media.Dir(), Repository: f.Repository}
	return a.ontoMedia(ctx, to, func(repo *layout.WritableRepository) error { return add(repo) })
}
