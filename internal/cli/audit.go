package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/ui"
)

// errAudit says that the log is not what was written.
var errAudit = errors.New("the audit log was changed or cut")

func newAudit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show what was done at this site, and prove that nothing was taken out",
		Long: `Whatever changes a site is recorded in audit.jsonl in its home: imports, installs,
upgrades, rollbacks and uninstalls, when they begin and how they end, changes of the
policy, what was refused, and what somebody insisted on. Each line has the hash of the
line before it; the newest is in trust.json too, and the one that began a revision is
in the revision.`,
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
	return &cobra.Command{
		Use:   "verify",
		Short: "Find where the audit log was changed or cut",
		Long: `verify reads the whole log, follows its chain, and compares it with every entry that
was written down elsewhere: the newest in trust.json, and one in each revision. It
names each line that is not as it was written, and what is not there. Entries behind
the last that is known elsewhere could be taken away unseen, which a kill in mid-write
can leave: one at most. The exit status is 12 when anything is wrong; the result is
printed all the same.`,
		Example: "  sealift audit verify",
		Args:    args(0, 0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return a.auditVerify() },
	}
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

func (a *app) auditVerify() error {
	home, err := a.openState()
	if err != nil {
		return err
	}
	report, err := home.VerifyAudit(nil)
	if err != nil {
		return err
	}
	v := struct {
		Type string `json:"type"`
		audit.Report
	}{"auditVerified", report}
	err = a.out.Result(v, func(w io.Writer) {
		for _, p := range report.Problems {
			if p.Line > 0 {
				fmt.Fprintf(w, "line %d ", p.Line)
			}
			fmt.Fprintln(w, ui.Value(p.Text))
		}
		if len(report.Problems) == 0 {
			fmt.Fprintf(w, "%d entries, all as written; the last is %s\n", report.Entries, orNone(string(report.Head.Digest)))
		}
	})
	if err == nil && len(report.Problems) > 0 {
		err = errAudit
	}
	return err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
