package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/receipt"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

type receiptFlags struct {
	out, key, site string
	ids            []string
	noSign, dryRun bool
}

func newReceipt(a *app) *cobra.Command {
	var f receiptFlags
	cmd := &cobra.Command{
		Use:   "receipt -O FILE --key KEY",
		Short: "Prove what arrived and what is installed, for the vendor",
		Long: `receipt writes down which releases this site accepted, when, by which rule and whose
signatures, what somebody insisted on, what is installed, and the newest entry of the
audit log: an in-toto statement about the releases, signed with the site's own key. It
travels back to the vendor; there sealift verify FILE --key checks it, and an auditor
does with cosign or openssl alone (docs/format.md). It names no people and no places;
with --for it tells only of the apps of one vendor.

All of it is as the audit log has it, which is verified first: where the log, or a
record of what is installed, is not as it was written there is no receipt, and the
exit status is 12. That a receipt was made is recorded in the log.

FILE is kept as proof of the log too: sealift audit verify --receipt FILE.`,
		Example: "  sealift keygen --out site\n" +
			"  sealift receipt -O receipt.json --key site.key --for 'example.com/**'\n" +
			"  sealift receipt --dry-run",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.receipt(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.out, "out", "O", "", "write the receipt to `FILE`, which must not be there")
	flags.StringVar(&f.key, "key", "", "sign with the private key in `FILE`")
	flags.BoolVar(&f.noSign, "no-sign", false, "write a statement that nobody can verify, as for reading")
	flags.StringVar(&f.site, "site", "", "what this site calls itself, one line of text as `NAME` (default nothing)")
	flags.StringArrayVar(&f.ids, "for", nil, "tell only of apps with an id that matches `ID-GLOB`, as example.com/** (may be repeated)")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what the receipt would say, write and record nothing")
	passwordFlag(cmd, a)
	_ = cmd.MarkFlagFilename("key", "key")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("site", cobra.NoFileCompletions)
	return cmd
}

// receiptDoc is a receipt as a result: of receipt, verify and inspect.
type receiptDoc struct {
	Type string `json:"type"`
	// File holds it, and Digest is that of the file.
	File   string        `json:"file,omitempty"`
	Digest digest.Digest `json:"digest,omitempty"`
	// Signer is the fingerprint of the key that signed it: verified, but by inspect.
	Signer  string          `json:"signer,omitempty"`
	DryRun  bool            `json:"dryRun,omitempty"`
	Receipt receipt.Receipt `json:"receipt"`
}

func (f receiptFlags) check() error {
	switch {
	case f.key != "" && f.noSign:
		return usagef("--key and --no-sign exclude each other")
	case f.dryRun:
	case f.out == "":
		return withHint(usagef("receipt wants -O FILE"), "add -O receipt.json, or see what it would say: sealift receipt --dry-run")
	case f.key == "" && !f.noSign:
		return withHint(usagef("receipt wants --key FILE, the site's private key, or --no-sign"), "make the site's key once: sealift keygen --out site; and give the vendor site.pub")
	}
	if err := receipt.CheckSite(f.site); err != nil {
		return usagef("--site: %v", err)
	}
	return nil
}

func (a *app) receipt(ctx context.Context, f receiptFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	opts := site.ReceiptOptions{Site: f.site, Sealift: Version()}
	for _, id := range f.ids {
		glob, err := artifact.ParseIDGlob(id)
		if err != nil {
			return usagef("--for: %v", err)
		}
		opts.For = append(opts.For, glob)
	}
	if f.out != "" {
		if err := wantNew(f.out); err != nil {
			return err
		}
	}
	doc := receiptDoc{Type: "receipt", DryRun: f.dryRun}
	var s *signer.Signer
	var keys []string
	if f.key != "" {
		var err error
		if s, err = a.loadSigner(ctx, f.key); err != nil {
			return err
		}
		doc.Signer = s.Key().Fingerprint()
		keys = []string{doc.Signer}
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	if f.dryRun {
		if doc.Receipt, err = home.Receipt(ctx, opts); err == nil {
			_, err = doc.Receipt.Statement() // which could be refused
		}
		if err != nil {
			return receiptFailed(err)
		}
		return a.out.Result(doc, doc.text)
	}
	err = saveNewOnce(f.out, func(put func([]byte) error) error {
		doc.Receipt, err = home.IssueReceipt(ctx, opts, keys, func(r receipt.Receipt) ([]byte, error) {
			raw, err := r.Seal(s)
			if err != nil {
				return nil, err
			}
			doc.Digest = digest.FromBytes(raw)
			return raw, put(raw)
		})
		return err
	})
	if err != nil {
		return receiptFailed(err)
	}
	doc.File = f.out
	if err := a.out.Result(doc, doc.text); err != nil {
		return err
	}
	if s == nil {
		a.out.Warn("%s is not signed: it proves nothing to anybody", f.out)
		return nil
	}
	a.out.Message("carry %s to the vendor; there: sealift verify %s --key site.pub", f.out, f.out)
	return nil
}

// receiptFailed adds what to do where there can be no receipt.
func receiptFailed(err error) error {
	switch {
	case errors.Is(err, site.ErrAudit):
		return withHint(err, "see where: sealift audit verify; keep a copy of the site's home as it is now, and ask who had access to it")
	case errors.Is(err, site.ErrNotFound):
		return withHint(err, "a receipt is about releases that were accepted; see what was: sealift audit show")
	}
	return err
}

// isReceipt reports whether path is a file with a JSON object, as receipts are and
// media are not.
func isReceipt(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && startsWith(path, '{')
}

// readReceipt reads a receipt that one of the keys signed; without keys whoever wrote
// it.
func readReceipt(path string, keys []*signer.Key) (receiptDoc, error) {
	doc := receiptDoc{File: path}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return doc, usagef("%s is no file, and a receipt is one", path)
	}
	raw, err := readFile(path, receipt.MaxBytes)
	if err != nil {
		return doc, fmt.Errorf("read receipt: %w", err)
	}
	doc.Digest = digest.FromBytes(raw)
	if len(keys) == 0 {
		doc.Receipt, doc.Signer, err = receipt.ReadUnverified(raw)
	} else {
		var key *signer.Key
		if doc.Receipt, key, err = receipt.Read(raw, keys); err == nil {
			doc.Signer = key.Fingerprint()
		}
	}
	if err == nil {
		return doc, nil
	}
	err = fmt.Errorf("%s: %w", path, err)
	switch {
	case errors.Is(err, signer.ErrUnsigned):
		return doc, withHint(err, "it can be read, and proves nothing: sealift inspect %s; have the site sign one: sealift receipt -O FILE --key site.key", path)
	case errors.Is(err, signer.ErrNotAccepted):
		return doc, withHint(err, "compare fingerprints with the site (sealift fingerprint FILE), over another way than the receipt came, and pass the right key as --key")
	}
	return doc, withHint(err, "rely on nothing in it; have the site make it again: sealift receipt -O FILE --key site.key")
}

// verifyReceipt is verify for a receipt.
func (a *app) verifyReceipt(path string, f verifyFlags) error {
	if f.policy != "" || f.identityFlags.given() || !f.signatures || f.dryRun || len(f.platforms)+len(f.repair) > 0 {
		return withHint(usagef("%s is a receipt, of which the signature is verified and nothing else; it takes --key only", path), "sealift verify %s --key site.pub", path)
	}
	if len(f.keys) == 0 {
		return withHint(usagef("%s is a receipt, and verify wants --key FILE, the site's public key", path), "to read it only: sealift inspect %s", path)
	}
	keys, err := loadKeys(f.keys)
	if err != nil {
		return err
	}
	doc, err := readReceipt(path, keys)
	if err != nil {
		return err
	}
	doc.Type = "receiptVerified"
	return a.out.Result(doc, doc.text)
}

// inspectReceipt is inspect for a receipt.
func (a *app) inspectReceipt(path string) error {
	doc, err := readReceipt(path, nil)
	if err != nil {
		return err
	}
	doc.Type = "receiptInspected"
	if err := a.out.Result(doc, doc.text); err != nil {
		return err
	}
	a.out.Message("nothing of this was verified; verify it: sealift verify %s --key site.pub", path)
	return nil
}

func (d receiptDoc) text(w io.Writer) {
	r := d.Receipt
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s  %s\n", label, fmt.Sprintf(format, args...))
	}
	switch {
	case d.Type != "receipt":
		fmt.Fprintf(&b, "receipt %s\n", ui.Value(d.File))
	case d.DryRun:
		fmt.Fprintln(&b, "would write a receipt")
	default:
		fmt.Fprintf(&b, "wrote %s\n", ui.Value(d.File))
	}
	if d.Digest != "" {
		line("digest", "%s", d.Digest)
	}
	switch {
	case d.Signer == "":
		line("signed", "by nobody")
	case d.Type == "receiptInspected":
		line("signed", "claims key %s (not verified)", d.Signer)
	default:
		line("signed", "by key %s", d.Signer)
	}
	if r.Site != "" {
		line("site", "%s", ui.Value(r.Site))
	}
	line("made", "%s by sealift %s", stamp(r.Time), ui.Value(r.Sealift))
	if len(r.For) > 0 {
		line("only for", "%s", values(r.For))
	}
	if r.Policy != nil {
		line("policy", "version %d, %s", r.Policy.Version, r.Policy.Digest)
	}
	line("audit log", "entry %d, %s", r.Audit.Seq, r.Audit.Digest)
	for _, rel := range r.Accepted {
		releaseText(&b, rel)
	}
	for _, in := range r.Instances {
		instanceText(&b, in)
	}
	_, _ = io.WriteString(w, b.String())
}

func releaseText(w io.Writer, r receipt.Release) {
	fmt.Fprintf(w, "accepted %s %s\n  %s, by %s, entry %d of the log", r.ID, r.Version, stamp(r.Time), r.Event, r.Entry)
	if r.Rule > 0 {
		fmt.Fprintf(w, ", rule %d of policy %d", r.Rule, r.Policy)
	}
	fmt.Fprintf(w, "\n  digest %s\n", r.Root)
	for _, s := range r.Signers {
		fmt.Fprintf(w, "  signed by %s\n", ui.Value(s))
	}
	for _, s := range r.Signatures {
		fmt.Fprintf(w, "  signature %s, %s\n", s.Layer, s.Form)
	}
	for _, o := range r.Overrides {
		fmt.Fprintf(w, "  INSISTED ON by --%s\n", o)
	}
}

func instanceText(w io.Writer, in receipt.Instance) {
	if c := in.Current; c != nil {
		fmt.Fprintf(w, "installed %s: %s %s, revision %d, on %s since %s\n  digest %s\n", in.Name, c.ID, c.Version, c.Revision, in.Target, stamp(c.Since), c.Root)
	} else {
		fmt.Fprintf(w, "not installed %s, on %s\n", in.Name, in.Target)
	}
	l := in.Last
	if in.Current == nil || l.Revision != in.Current.Revision {
		fmt.Fprintf(w, "  last %s of %s %s, revision %d, %s %s\n", l.Action, l.ID, l.Version, l.Revision, l.Result, stamp(l.Time))
	}
}

// stamp writes a time as receipts and logs have it, to the second.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
