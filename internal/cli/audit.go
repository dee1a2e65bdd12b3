package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
)

func newAudit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show what was done at this site, and prove that nothing was taken out",
		Long: `Whatever changes a site is recorded in audit.jsonl in its home: imports, installs,
upgrades, rollbacks and uninstalls, when they begin and how they end, changes of the
policy, what was refused, what somebody insisted on, and receipts. Each line has the
hash of the line before it; the newest is in trust.json too, the one that began a
revision is in the revision, and the newest there was in a receipt.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return withHint(usagef("audit has no command %q", args[0]), "see: sealift audit --help")
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditShow(a), newAuditVerify(a))
	return cmd
}

func newAuditShow(a *app) *cobra.Command {
	var last int
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show the audit log, oldest first",
		Example: "  sealift audit show\n  sealift audit show --last 20 -o json",
		Args:    args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			return a.auditShow(last)
		},
	}
	cmd.Flags().IntVar(&last, "last", 0, "show only the last `N` entries (default all)")
	return cmd
}

func newAuditVerify(a *app) *cobra.Command {
	var receipts, keys []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Find where the audit log was changed or cut",
		Long: `verify reads the whole log, follows its chain, and compares it with every entry that
was written down elsewhere: the newest in trust.json, one in each revision, and, with
--receipt, the newest when a receipt was made. It names each line that is not as it was
written, and what is not there. Entries behind the last that is known elsewhere could be
taken away unseen, which a kill in mid-write can leave: one at most. The exit status is
12 when anything is wrong; the result is printed all the same.

Who can write to the site's home can write all of it anew, but for a receipt that is
kept elsewhere, as by the vendor. With --key, the site's public key, a receipt that is
not the site's own is refused before the log is read.`,
		Example: "  sealift audit verify\n  sealift audit verify --receipt receipt.json --key site.pub",
		Args:    args(0, 0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return a.auditVerify(receipts, keys) },
	}
	cmd.Flags().StringArrayVar(&receipts, "receipt", nil, "compare with the receipt in `FILE` too (may be repeated)")
	keyFlag(cmd, &keys)
	_ = cmd.MarkFlagFilename("receipt", "json")
	return cmd
}

func (a *app) auditShow(last int) error {
	if last < 0 {
		return usagef("--last wants a number from 1 on, got %d", last)
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	v := struct {
		Type    string        `json:"type"`
		Entries []audit.Entry `json:"entries"`
	}{"audit", []audit.Entry{}}
	report, err := home.VerifyAudit(func(e audit.Entry) {
		v.Entries = append(v.Entries, e)
		if last > 0 && len(v.Entries) > 2*last {
			v.Entries = append(v.Entries[:0:0], v.Entries[len(v.Entries)-last:]...)
		}
	})
	if err != nil {
		return err
	}
	if last > 0 {
		v.Entries = v.Entries[max(0, len(v.Entries)-last):]
	}
	if n := len(report.Problems); n > 0 {
		a.out.Warn("%s in the log is not as it was written; see with sealift audit verify", count(n, "place"))
	}
	return a.out.Result(v, func(w io.Writer) {
		for _, e := range v.Entries {
			fmt.Fprintln(w, auditLine(e))
		}
	})
}

// auditLine is an entry for people.
func auditLine(e audit.Entry) string {
	words := []string{fmt.Sprint(e.Seq), e.Time.Format(time.RFC3339), e.User, e.Event, e.Result, e.Instance, e.ID, e.Version}
	if e.Revision > 0 {
		words = append(words, fmt.Sprintf("revision %d", e.Revision))
	}
	if e.Policy > 0 {
		words = append(words, fmt.Sprintf("policy %d", e.Policy))
	}
	words = append(words, string(e.Receipt))
	if e.Override != "" {
		words = append(words, "by --"+e.Override)
	}
	if e.Reason != "" {
		words = append(words, "("+e.Reason+")")
	}
	var shown []string
	for _, w := range words {
		if w != "" {
			shown = append(shown, ui.Value(w))
		}
	}
	return strings.Join(shown, " ")
}

func (a *app) auditVerify(receipts, keyFiles []string) error {
	anchors, err := a.receiptAnchors(receipts, keyFiles)
	if err != nil {
		return err
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	report, err := home.VerifyAudit(nil, anchors...)
	if err != nil {
		return err
	}
	v := struct {
		Type string `json:"type"`
		audit.Report
	}{"auditVerified", report}
	err = a.out.Result(v, func(w io.Writer) {
		for _, p := range report.Problems {
			fmt.Fprintln(w, ui.Value(p.String()))
		}
		if len(report.Problems) == 0 {
			fmt.Fprintf(w, "%d entries, all as written; the last is %s\n", report.Entries, orNone(string(report.Head.Digest)))
		}
	})
	if err == nil && len(report.Problems) > 0 {
		err = site.ErrAudit
	}
	return err
}

// receiptAnchors are the heads of the log that receipts know.
func (a *app) receiptAnchors(files, keyFiles []string) ([]audit.Anchor, error) {
	if len(keyFiles) > 0 && len(files) == 0 {
		return nil, usagef("--key is for --receipt FILE; the log itself is not signed")
	}
	keys, err := loadKeys(keyFiles)
	if err != nil {
		return nil, err
	}
	var anchors []audit.Anchor
	for _, file := range files {
		doc, err := readReceipt(file, keys)
		if err != nil {
			return nil, err
		}
		if len(keys) == 0 {
			a.out.Warn("whose receipt %s is was not verified; pass the site's public key as --key", file)
		}
		anchors = append(anchors, audit.Anchor{Head: doc.Receipt.Audit, Where: "the receipt " + file})
	}
	return anchors, nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
