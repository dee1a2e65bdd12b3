package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

func newVerify(a *app) *cobra.Command {
	var keys []string
	signatures := true
	cmd := &cobra.Command{
		Use:   "verify REF",
		Short: "Check signatures and every byte",
		Long: `verify checks that each artifact REF names is signed by one of the keys given, and
then reads every byte it reaches and compares it with its digest. All damage is
found, not only the first. It needs no network for media, and writes nothing.`,
		Example: "  sealift verify /media/usb --key cosign.pub\n  sealift verify /media/usb --signatures=false",
		Args:    args(1, 1, "one REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verify(cmd.Context(), args[0], keys, signatures)
		},
	}
	keyFlag(cmd, &keys)
	cmd.Flags().BoolVar(&signatures, "signatures", true, "check signatures, not only bytes")
	return cmd
}

// verified is one artifact of the result of verify.
type verified struct {
	Name     string           `json:"name"`
	Digest   string           `json:"digest"`
	Blobs    int              `json:"blobs"`
	Bytes    int64            `json:"bytes"`
	Evidence *signer.Evidence `json:"evidence,omitempty"`
}

func (a *app) verify(ctx context.Context, ref string, keyFiles []string, signatures bool) error {
	if signatures && len(keyFiles) == 0 {
		return withHint(usagef("verify wants --key FILE, the vendor's public key"), "to check bytes only: sealift verify %s --signatures=false", ref)
	}
	keys, err := loadKeys(keyFiles)
	if err != nil {
		return err
	}
	list, err := a.find(ctx, ref)
	if err != nil {
		return err
	}
	var results []verified
	var failed []error
	for _, f := range list {
		v, err := a.verifyOne(ctx, f, keys, signatures)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
			continue
		}
		results = append(results, v)
	}
	if len(failed) == 0 {
		failed = append(failed, wholeMedia(ctx, ref, list))
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	doc := struct {
		Type      string     `json:"type"`
		Artifacts []verified `json:"artifacts"`
	}{"verified", results}
	return a.out.Result(doc, func(w io.Writer) {
		for _, v := range results {
			fmt.Fprintf(w, "%s\n  digest %s\n", v.Name, v.Digest)
			if v.Evidence != nil {
				for _, key := range v.Evidence.Keys() {
					fmt.Fprintf(w, "  signed by key %s\n", key)
				}
			}
			fmt.Fprintf(w, "  %d blobs, %s, all good\n", v.Blobs, ui.Bytes(v.Bytes))
		}
	})
}

func (a *app) verifyOne(ctx context.Context, f delivery.Found, keys []*signer.Key, signatures bool) (verified, error) {
	v := verified{Name: f.Name, Digest: f.Descriptor.Digest.String()}
	if f.Damage != nil {
		return v, f.Damage
	}
	var failed []error
	if signatures {
		evidence, err := delivery.VerifySignature(ctx, f, keys)
		failed = append(failed, err)
		v.Evidence = evidence
	}
	// A name that contradicts the signed content is found here too.
	if _, err := delivery.ReadRelease(ctx, f); err != nil && !errors.Is(err, artifact.ErrNotRelease) {
		failed = append(failed, err)
	}
	sum, err := delivery.VerifyBytes(ctx, f, a.out.Progress("verifying"))
	failed = append(failed, err)
	v.Blobs, v.Bytes = sum.Manifests+sum.Blobs, sum.Bytes
	return v, errors.Join(failed...)
}

// wholeMedia returns the damage to manifests of media that no artifact of list
// reaches any more, when list is all that the media holds.
func wholeMedia(ctx context.Context, ref string, list []delivery.Found) error {
	loc, err := location(ref)
	if err != nil || loc.Place != artifact.PlaceMedia || loc.Repository != "" || loc.Reference() != "" || len(list) == 0 {
		return nil //nolint:nilerr // a bad reference was reported before
	}
	return list[0].Media.Damage(ctx)
}
