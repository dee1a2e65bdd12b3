package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

// identityFlags say who signs with certificates, and what vouches for these. They have
// cosign's names.
type identityFlags struct {
	subject, subjectRegexp string
	issuer, issuerRegexp   string
	root                   string
}

// identityFlagSet adds --certificate-identity, --certificate-oidc-issuer, their forms
// with expressions, and --trusted-root.
func identityFlagSet(cmd *cobra.Command, f *identityFlags) {
	flags := cmd.Flags()
	flags.StringVar(&f.subject, "certificate-identity", "", "accept signatures with a certificate of `SUBJECT`, an address or URL")
	flags.StringVar(&f.subjectRegexp, "certificate-identity-regexp", "", "the same, of whom `REGEXP` is for as a whole")
	flags.StringVar(&f.issuer, "certificate-oidc-issuer", "", "for whom the provider at `URL` vouches")
	flags.StringVar(&f.issuerRegexp, "certificate-oidc-issuer-regexp", "", "the same, any that `REGEXP` is for as a whole")
	flags.StringVar(&f.root, "trusted-root", "", "believe the certificate authorities and logs of the trusted_root.json in `FILE`")
	_ = cmd.MarkFlagFilename("trusted-root", "json")
}

// given reports whether anything was.
func (f identityFlags) given() bool { return f != identityFlags{} }

// load returns the identity that the flags say, nil where none was given.
func (f identityFlags) load() (*signer.Identity, error) {
	if !f.given() {
		return nil, nil
	}
	if f.root == "" || f.subject+f.subjectRegexp == "" || f.issuer+f.issuerRegexp == "" {
		return nil, withHint(usagef("a certificate wants --certificate-identity, --certificate-oidc-issuer and --trusted-root together"),
			"as in: --certificate-identity release@example.com --certificate-oidc-issuer https://accounts.example.com --trusted-root trusted_root.json")
	}
	data, err := readFile(f.root, signer.MaxRootBytes)
	if err != nil {
		return nil, fmt.Errorf("read trusted root: %w", err)
	}
	root, err := signer.ParseRoot(data)
	if err != nil {
		return nil, withHint(usagef("%s: %v", f.root, err), "take the trusted_root.json of the sigstore that the vendor signs with, over another way than the media")
	}
	id := &signer.Identity{Issuer: f.issuer, IssuerRegexp: f.issuerRegexp, Subject: f.subject, SubjectRegexp: f.subjectRegexp, Root: root}
	if err := id.Check(); err != nil {
		return nil, usagef("--certificate-identity and --certificate-oidc-issuer: %v", err)
	}
	return id, nil
}

// printCertificate writes who signed with a certificate, and when.
func printCertificate(w io.Writer, c signer.Certificate) {
	fmt.Fprintf(w, "  signed by %s\n", certificateText(c))
	fmt.Fprintf(w, "    at %s, as %s says; trusted root %s\n", c.Time.UTC().Format(time.RFC3339), ui.Value(c.TimeFrom), c.Root)
}

// certificateText is whose a certificate is, for people.
func certificateText(c signer.Certificate) string {
	return fmt.Sprintf("%s (%s)", ui.Value(c.Subject), ui.Value(c.Issuer))
}

// rootText is what a person compares of a trusted root.
func rootText(r *signer.Root) string {
	var all []string
	for _, url := range r.Authorities() {
		all = append(all, ui.Value(url))
	}
	return fmt.Sprintf("%s of %s", r.Fingerprint(), strings.Join(all, ", "))
}

// signerText tells of a signer as evidence names it: a key by its fingerprint, or who
// signed with a certificate.
func signerText(name string) string {
	if digest.Digest(name).Validate() == nil {
		return "key " + name
	}
	return ui.Value(name)
}
