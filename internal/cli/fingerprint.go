package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newFingerprint(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "fingerprint FILE",
		Short: "Print the fingerprint of a public key",
		Long: `fingerprint prints what two people compare, over the telephone if need be, to be sure
that they hold the same public key. openssl prints the same:
openssl pkey -pubin -in FILE -outform DER | openssl dgst -sha256`,
		Example: "  sealift fingerprint cosign.pub",
		Args:    args(1, 1, "one key file"),
		RunE: func(_ *cobra.Command, args []string) error {
			keys, err := loadKeys(args)
			if err != nil {
				return err
			}
			v := struct {
				Type        string `json:"type"`
				Fingerprint string `json:"fingerprint"`
			}{"fingerprint", keys[0].Fingerprint()}
			return a.out.Result(v, func(w io.Writer) { fmt.Fprintln(w, v.Fingerprint) })
		},
	}
}
