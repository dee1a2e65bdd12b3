package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/delivery/compare"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Say whose signatures this site accepts for which applications",
		Long: `A policy is the site's statement of whose signatures it accepts: rules in order, of
which the first that is for the id of a release decides. What no rule is for is not
accepted. It is policy.yaml in the site's home, and can be edited; docs/format.md
explains every field. Raise its version whenever you edit it: a lower one than was used
before is refused.

Where there is a policy, verify, install and upgrade go by it. Its updates say who may
replace it as a whole, by an update that policy publish makes and policy update takes.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return withHint(usagef("policy has no command %q", args[0]), "see: sealift policy --help")
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyAdd(a), newPolicyList(a), newPolicyShow(a), newPolicyTest(a), newPolicyPublish(a), newPolicyUpdate(a))
	return cmd
}

func newPolicyAdd(a *app) *cobra.Command {
	var key, name string
	var ids []string
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "add --key FILE --for ID-GLOB",
		Short: "Accept signatures by a key for applications",
		Long: `add shows the fingerprint of the key and, once you agree, adds a rule for it to the
policy. Compare the fingerprint with the vendor over another way than the media: the
telephone, a letter, in person. A rule for exactly the same ids takes the key as one
more of those that may sign. The rule stands before the first that would decide in its
place.

In an ID-GLOB, * and ? stand for what is within one segment, and ** for any number of
whole segments: example.com/shop, example.com/shop-*, example.com/**.`,
		Example: "  sealift policy add --key vendor.pub --for example.com/shop\n  sealift policy add --key vendor.pub --for 'example.com/**' --name example --yes",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.policyAdd(cmd.Context(), key, name, ids, yes, dryRun)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&key, "key", "", "accept the public key in `FILE`")
	flags.StringArrayVar(&ids, "for", nil, "for apps whose id is like `ID-GLOB` (may be repeated)")
	flags.StringVar(&name, "name", "", "call the key `NAME` in the policy (default: the domain of the first id)")
	flags.BoolVarP(&yes, "yes", "y", false, "agree without being asked")
	flags.BoolVar(&dryRun, "dry-run", false, "show the policy as it would be, change nothing")
	_ = cmd.MarkFlagFilename("key", "pub", "pem")
	return cmd
}

func (a *app) policyAdd(ctx context.Context, keyFile, name string, ids []string, yes, dryRun bool) error {
	if keyFile == "" || len(ids) == 0 {
		return withHint(usagef("policy add wants --key FILE and --for ID-GLOB"), "as in: sealift policy add --key vendor.pub --for example.com/shop")
	}
	keys, err := loadKeys([]string{keyFile})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := artifact.ParseIDGlob(id); err != nil {
			return usagef("--for: %v", err)
		}
	}
	if name == "" {
		name = keyName(ids)
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	rule := signer.RuleToAdd{IDs: ids, Key: keys[0], Name: name}
	if dryRun {
		_, before, err := home.Policy(ctx)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		after, err := signer.AddRule(home.PolicyPath(), before, rule)
		if err != nil {
			return err
		}
		return a.showPolicy(home.PolicyPath(), after, true)
	}
	if !yes {
		a.out.Question("key      %s", keys[0])
		a.out.Question("accepts  what it signs of %s", strings.Join(ids, ", "))
		a.out.Question("Compare the fingerprint with the vendor, over another way than the media.")
	}
	if err := a.confirm(ctx, yes, "Accept it?"); err != nil {
		return err
	}
	p, err := home.AddRule(ctx, rule)
	if errors.Is(err, errdef.ErrUnsupported) {
		return withHint(fmt.Errorf("%w: %w", errRefused, err), "edit %s, then look at it with: sealift policy list", home.PolicyPath())
	} else if err != nil {
		return err
	}
	return a.listPolicy(home.PolicyPath(), p)
}

func newPolicyList(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the rules and the keys of the policy",
		Example: "  sealift policy list\n  sealift policy list --policy draft.yaml -o json",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, _, p, err := a.readPolicy(cmd.Context(), file)
			if err != nil {
				return err
			}
			return a.listPolicy(path, p)
		},
	}
	policyFlag(cmd, &file)
	return cmd
}

func newPolicyShow(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the policy as it is written",
		Long: `show checks the policy and prints it as it is written. With -o json it is in the
field policy, as text; policy list has its content.`,
		Example: "  sealift policy show\n  sealift policy show --policy draft.yaml",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, data, _, err := a.readPolicy(cmd.Context(), file)
			if err != nil {
				return err
			}
			return a.showPolicy(path, data, false)
		},
	}
	policyFlag(cmd, &file)
	return cmd
}

func newPolicyTest(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test REF…",
		Short: "Say what the policy decides on releases, and why",
		Long: `test says of each release that REF names which rule of the policy is for it, and
whether it is accepted; of an update of the policy, whether those have signed it who may
replace the policy. Only signatures are looked at; verify reads every byte too. With
--policy a new policy can be tried on what sites hold, before it is published.
The exit status is 15 when anything is not accepted, and 12 when a signature or what
it is about is damaged; the result is printed all the same.`,
		Example: "  sealift policy test /media/usb\n  sealift policy test registry.example.com/shop:1.0.0 --policy draft.yaml",
		Args:    args(1, -1, "at least one REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.policyTest(cmd.Context(), args, file)
		},
	}
	policyFlag(cmd, &file)
	return cmd
}

func policyFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "policy", "", "take the policy in `FILE` instead of the site's")
	_ = cmd.MarkFlagFilename("policy", "yaml", "yml")
}

// readPolicy reads the policy in a file, or the site's where none is named.
func (a *app) readPolicy(ctx context.Context, file string) (path string, data []byte, p *signer.Policy, err error) {
	if file != "" {
		if data, err = readFile(file, signer.MaxPolicyBytes); err != nil {
			return file, nil, nil, fmt.Errorf("read policy: %w", err)
		}
		p, err = signer.ParsePolicy(file, data)
		return file, data, p, err
	}
	home, err := a.openState()
	if err != nil {
		return "", nil, nil, err
	}
	p, data, err = home.Policy(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		err = withHint(fmt.Errorf("this site has no policy yet: %w", err), "make one: sealift policy add --key vendor.pub --for example.com/shop")
	}
	return home.PolicyPath(), data, p, err
}

// showPolicy prints a policy as it is written.
func (a *app) showPolicy(path string, data []byte, dryRun bool) error {
	v := struct {
		Type   string `json:"type"`
		File   string `json:"file"`
		Policy string `json:"policy"`
		DryRun bool   `json:"dryRun,omitempty"`
	}{"policy", path, string(data), dryRun}
	return a.out.Result(v, func(w io.Writer) { _, _ = w.Write(data) })
}

// policyListed is the result of policy list.
type policyListed struct {
	Type    string       `json:"type"`
	File    string       `json:"file"`
	Version int          `json:"version"`
	Rules   []listedRule `json:"rules"`
	Keys    []listedKey  `json:"keys"`
	// Updates is nil where nobody may replace the policy.
	Updates *listedUpdates `json:"updates,omitempty"`
}

type listedUpdates struct {
	Keys      []string `json:"keys"`
	Threshold int      `json:"threshold"`
}

func listUpdates(p *signer.Policy) *listedUpdates {
	if len(p.Updates.Keys) == 0 {
		return nil
	}
	return &listedUpdates{p.Updates.Keys, p.Updates.Threshold}
}

func (u *listedUpdates) text() string {
	if u == nil {
		return "none: nobody may replace this policy by a signed one"
	}
	return compare.SignedBy(u.Keys, u.Threshold)
}

type listedWindow struct {
	NotBefore *time.Time `json:"notBefore,omitempty"`
	NotAfter  *time.Time `json:"notAfter,omitempty"`
}

type listedRule struct {
	IDs       []string `json:"ids"`
	Keys      []string `json:"keys"`
	Threshold int      `json:"threshold"`
	listedWindow
}

type listedKey struct {
	Name        string `json:"name"`
	Fingerprint string `json:"fingerprint"`
	Revoked     string `json:"revoked,omitempty"`
	listedWindow
}

func listWindow(w signer.Window) (l listedWindow) {
	if !w.NotBefore.IsZero() {
		l.NotBefore = &w.NotBefore
	}
	if !w.NotAfter.IsZero() {
		l.NotAfter = &w.NotAfter
	}
	return l
}

// text is empty for a window without ends.
func (l listedWindow) text() string {
	var words []string
	if l.NotBefore != nil {
		words = append(words, "from "+l.NotBefore.UTC().Format(time.RFC3339))
	}
	if l.NotAfter != nil {
		words = append(words, "until "+l.NotAfter.UTC().Format(time.RFC3339))
	}
	return strings.Join(words, " ")
}

func (a *app) listPolicy(path string, p *signer.Policy) error {
	v := listedPolicy(path, p)
	return a.out.Result(v, v.text)
}

func listedPolicy(path string, p *signer.Policy) policyListed {
	v := policyListed{Updates: listUpdates(p), Type: "policyList", File: path, Version: p.Version, Rules: []listedRule{}, Keys: []listedKey{}}
	for _, r := range p.Rules {
		rule := listedRule{Keys: r.Keys, Threshold: r.Threshold, listedWindow: listWindow(r.Window)}
		for _, id := range r.IDs {
			rule.IDs = append(rule.IDs, id.String())
		}
		v.Rules = append(v.Rules, rule)
	}
	for _, name := range sorted(p.Keys) {
		k := p.Keys[name]
		v.Keys = append(v.Keys, listedKey{name, k.Fingerprint(), p.Revoked[k.Fingerprint()], listWindow(k.Window)})
	}
	return v
}

func (v policyListed) text(w io.Writer) {
	fmt.Fprintf(w, "%s, version %d\n", v.File, v.Version)
	for i, r := range v.Rules {
		wants := strings.Join(r.Keys, ", ")
		if len(r.Keys) > 1 {
			wants = fmt.Sprintf("%d of %s", r.Threshold, wants)
		}
		fmt.Fprintf(w, "rule %d  %s: signed by %s", i+1, strings.Join(r.IDs, ", "), wants)
		endLine(w, r.listedWindow.text())
	}
	if len(v.Rules) == 0 {
		fmt.Fprintln(w, "no rules: nothing is accepted")
	}
	fmt.Fprintf(w, "updates  %s\n", v.Updates.text())
	for _, k := range v.Keys {
		fmt.Fprintf(w, "key %s  %s", k.Name, k.Fingerprint)
		if k.Revoked != "" {
			fmt.Fprintf(w, ", revoked: %s", k.Revoked)
		}
		endLine(w, k.listedWindow.text())
	}
}

func endLine(w io.Writer, more string) {
	if more != "" {
		more = ", " + more
	}
	fmt.Fprintln(w, more)
}

// policyTested is the result of policy test.
type policyTested struct {
	Type     string           `json:"type"`
	File     string           `json:"file"`
	Version  int              `json:"version"`
	Releases []policyDecision `json:"releases"`
	// Updates says who may replace the policy, nil for nobody.
	Updates *listedUpdates `json:"updates,omitempty"`
}

// policyDecision is what a policy says of one release.
type policyDecision struct {
	Name     string           `json:"name"`
	Digest   string           `json:"digest"`
	ID       string           `json:"id,omitempty"`
	Version  string           `json:"version,omitempty"`
	Accepted bool             `json:"accepted"`
	Rule     int              `json:"rule,omitempty"`
	Pattern  string           `json:"pattern,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Evidence *signer.Evidence `json:"evidence,omitempty"`
	// Superseded is the version of an update of the policy that is of no use any more,
	// on which nothing is decided; 0 for anything else.
	Superseded int `json:"superseded,omitempty"`
}

func (a *app) policyTest(ctx context.Context, refs []string, file string) error {
	path, _, p, err := a.readPolicy(ctx, file)
	if err != nil {
		return err
	}
	list, err := a.findAll(ctx, refs)
	if err != nil {
		return err
	}
	v := policyTested{Type: "policyTest", File: path, Version: p.Version, Updates: listUpdates(p)}
	if v.Updates != nil && !p.Updatable(a.Now()) {
		a.out.Warn("%s", noUpdateAfter)
	}
	trust := delivery.Trust{Policy: p, Now: a.Now()}
	var failed []error
	for _, f := range list {
		d := policyDecision{Name: f.Name, Digest: f.Descriptor.Digest.String()}
		if version, superseded, err := trust.Superseded(ctx, f); err == nil && superseded {
			d.Superseded = version
			v.Releases = append(v.Releases, d)
			continue
		}
		evidence, err := delivery.VerifySignature(ctx, f, trust)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed = append(failed, err)
			d.Reason = reasonOf(f, err)
		}
		// What it is not called may be shown: nothing goes by it here.
		d.ID, d.Version, _ = delivery.Claim(ctx, f)
		d.Rule, d.Pattern = p.Match(d.ID)
		d.Accepted, d.Evidence = err == nil, evidence
		v.Releases = append(v.Releases, d)
	}
	if err := a.out.Result(v, v.print); err != nil {
		return err
	}
	if len(failed) == 0 {
		return nil
	}
	return &undecided{fmt.Sprintf("%d of %s not accepted", len(failed), count(len(list), "artifact")), errors.Join(failed...)}
}

// undecided sums up what stands in the result already.
type undecided struct {
	text string
	err  error
}

func (e *undecided) Error() string { return e.text }
func (e *undecided) Unwrap() error { return e.err }

// reasonOf is why something was not accepted, without what its line says anyway.
func reasonOf(f delivery.Found, err error) string {
	var refused *signer.PolicyError
	if errors.As(err, &refused) && refused.Rule > 0 {
		return strings.Join(refused.Reasons, "; ")
	} else if errors.As(err, &refused) {
		return "no rule is for its id"
	}
	return strings.TrimPrefix(err.Error(), f.Name+": ")
}

func (v policyTested) print(w io.Writer) {
	for _, d := range v.Releases {
		verdict := "not accepted"
		switch {
		case d.Accepted:
			verdict = "accepted"
		case d.Superseded > 0:
			verdict = fmt.Sprintf("an update to version %d of the policy, which is no newer", d.Superseded)
		}
		fmt.Fprintf(w, "%s: %s\n", d.Name, verdict)
		if d.ID != "" {
			fmt.Fprintf(w, "  %s %s\n", ui.Value(d.ID), ui.Value(d.Version))
		}
		if d.Rule > 0 {
			fmt.Fprintf(w, "  rule %d, for %s\n", d.Rule, d.Pattern)
		}
		if d.Reason != "" {
			fmt.Fprintf(w, "  %s\n", ui.Value(d.Reason))
		}
		if d.Evidence != nil && d.Evidence.Decision != nil {
			keys := slices.Clone(d.Evidence.Decision.Keys)
			fmt.Fprintf(w, "  signed by %s\n", strings.Join(keys, ", "))
		}
	}
	fmt.Fprintf(w, "updates  %s\n", v.Updates.text())
}
