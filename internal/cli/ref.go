package cli

import "github.com/spf13/cobra"

// refTopic explains what a REF is, as sealift help ref.
func refTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "ref",
		Short: "How to name releases and images",
		Long: `A REF names something in a registry or on media.

  registry.example.com/shop:1.0.0            a version in a registry
  registry.example.com/shop@sha256:…         the same by its digest
  /media/usb                                 all that media holds
  ./media:1.0.0                              everything there called 1.0.0
  ./media//registry.example.com/shop:1.0.0   one of several, by its full name

What starts with /, ./ or ../ is a directory; what has a dot, a colon or localhost
before its first slash is a registry. oci:NAME makes a directory of anything.
Other tools name what is on media by its alias: shop-1.0.0.`,
	}
}
