package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
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
	if err := a.checkManifests(ctx, ref); err != nil {
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
	if err := errors.Join(failed...); err != nil {
		return err
	}
	doc := struct {
		Type      string     `json:"type"`
		Artifacts []verified `json:"artifacts"`
	}{"verified", results}
	return a.out.Result(doc, func(w io.Writer) {
		for _, v := range results {
			fmt.Fprintf(w, "%s\n  digest %s\n", ui.Printable(v.Name), v.Digest)
			if v.Evidence != nil {
				for _, key := range v.Evidence.Keys() {
					fmt.Fprintf(w, "  signed by key %s\n", key)
				}
			}
			fmt.Fprintf(w, "  %d blobs, %s, all good\n", v.Blobs, ui.Bytes(v.Bytes))
		}
	})
}

func (a *app) verifyOne(ctx context.Context, f found, keys []*signer.Key, signatures bool) (verified, error) {
	v := verified{Name: f.Name, Digest: f.Descriptor.Digest.String()}
	if signatures {
		evidence, err := verifySignature(ctx, f, keys)
		if err != nil {
			return v, err
		}
		v.Evidence = evidence
	}
	// A name that contradicts the signed content is found here too.
	if _, err := releases(ctx, []found{f}); err != nil {
		return v, err
	}
	sum, err := mirror.Verify(ctx, f.Store, f.Descriptor, a.out.Progress("verifying"))
	if err != nil {
		return v, fmt.Errorf("%s: %w", f.Name, err)
	}
	v.Blobs, v.Bytes = sum.Manifests+sum.Blobs, sum.Bytes
	return v, nil
}

// checkManifests finds damaged manifests of media, which its repositories do not
// show and which would look missing otherwise.
func (a *app) checkManifests(ctx context.Context, ref string) error {
	loc, err := artifact.ParseLocation(ref)
	if err != nil || loc.Place != artifact.PlaceMedia {
		return nil //nolint:nilerr // a bad reference is reported by find
	}
	l, err := openMedia(loc.Path)
	if err != nil {
		return err
	}
	if err := l.Damage(ctx); err != nil {
		return fmt.Errorf("media %s: %w", loc.Path, err)
	}
	return nil
}
