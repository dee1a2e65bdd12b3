package cli

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  sealift version\n  sealift version -o json",
		Args:    args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Type     string `json:"type"`
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{"version", Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return a.out.Result(v, func(w io.Writer) {
				fmt.Fprintf(w, "sealift %s %s %s\n", v.Version, v.Platform, v.Go)
			})
		},
	}
}
