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

Where there is a policy, verify, import, install and upgrade go by it. Its updates say
who may replace it as a whole, by an update that policy publish makes and policy update
takes.`,
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
	var f policyAddFlags
	cmd := &cobra.Command{
		Use:   "add --key FILE --for ID-GLOB",
		Short: "Accept signatures by a key or an identity for applications",
		Long: `add shows the fingerprint of the key and, once you agree, adds a rule for it to the
policy. Compare the fingerprint with the vendor over another way than the media: the
telephone, a letter, in person. A rule for exactly the same ids takes the key as one
more of those that may sign. The rule stands before the first that would decide in its
place.

In place of a key there may be who signs without one, with a certificate: the flags of
cosign say who, and which trusted_root.json vouches for that. It becomes part of the
policy.

In an ID-GLOB, * and ? stand for what is within one segment, and ** for any number of
whole segments: example.com/shop, example.com/shop-*, example.com/**.`,
		Example: "  sealift policy add --key vendor.pub --for example.com/shop\n  sealift policy add --key vendor.pub --for 'example.com/**' --name example --yes\n" +
			"  sealift policy add --certificate-identity release@example.com --certificate-oidc-issuer https://accounts.example.com \\\n" +
			"    --trusted-root trusted_root.json --for 'example.com/**'",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.policyAdd(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "accept the public key in `FILE`")
	identityFlagSet(cmd, &f.identityFlags)
	flags.StringArrayVar(&f.ids, "for", nil, "for apps whose id is like `ID-GLOB` (may be repeated)")
	flags.StringVar(&f.name, "name", "", "call the key, or the trusted root, `NAME` in the policy (default: the domain of the first id)")
	flags.BoolVarP(&f.yes, "yes", "y", false, "agree without being asked")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the policy as it would be, change nothing")
	_ = cmd.MarkFlagFilename("key", "pub", "pem")
	return cmd
}

// policyAddFlags are those of policy add.
type policyAddFlags struct {
	identityFlags
	key, name   string
	ids         []string
	yes, dryRun bool
}

// rule is the rule that is to be added.
func (f policyAddFlags) rule() (signer.RuleToAdd, error) {
	rule := signer.RuleToAdd{IDs: f.ids, Name: f.name}
	switch {
	case f.key == "" && !f.given(), len(f.ids) == 0:
		return rule, withHint(usagef("policy add wants --key FILE and --for ID-GLOB"), "as in: sealift policy add --key vendor.pub --for example.com/shop")
	case f.key != "" && f.given():
		return rule, withHint(usagef("--key and --certificate-identity exclude each other"), "add one after the other: for the same ids either may sign")
	case f.key != "":
		keys, err := loadKeys([]string{f.key})
		if err != nil {
			return rule, err
		}
		rule.Key = keys[0]
	default:
		var err error
		if rule.Identity, err = f.load(); err != nil {
			return rule, err
		}
	}
	for _, id := range f.ids {
		if _, err := artifact.ParseIDGlob(id); err != nil {
			return rule, usagef("--for: %v", err)
		}
	}
	if rule.Name == "" {
		rule.Name = keyName(f.ids)
	}
	return rule, nil
}

func (a *app) policyAdd(ctx context.Context, f policyAddFlags) error {
	rule, err := f.rule()
	if err != nil {
		return err
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	if f.dryRun {
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
	if !f.yes {
		a.showRule(rule)
	}
	if err := a.confirm(ctx, f.yes, "Accept it?"); err != nil {
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

// showRule shows what is trusted once the person agrees.
func (a *app) showRule(rule signer.RuleToAdd) {
	if rule.Key != nil {
		a.out.Question("key      %s", rule.Key)
	} else {
		a.out.Question("subject  %s", identityWord(rule.Identity.Subject, rule.Identity.SubjectRegexp))
		a.out.Question("issuer   %s", identityWord(rule.Identity.Issuer, rule.Identity.IssuerRegexp))
		a.out.Question("root     %s", rootText(rule.Identity.Root))
	}
	a.out.Question("accepts  what it signs of %s", strings.Join(rule.IDs, ", "))
	a.out.Question("Compare the fingerprint with the vendor, over another way than the media.")
}

// identityWord is half of an identity, for people.
func identityWord(text, expr string) string {
	if expr != "" {
		return "whatever is like " + ui.Value(expr)
	}
	return ui.Value(text)
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
	Roots   []listedRoot `json:"trustedRoots,omitempty"`
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
	IDs          []string            `json:"ids"`
	Keys         []string            `json:"keys"`
	Identities   []listedIdentity    `json:"identities,omitempty"`
	Threshold    int                 `json:"threshold"`
	Attestations []listedAttestation `json:"attestations,omitempty"`
	listedWindow
}

// listedIdentity has the names of the fields in a policy.
type listedIdentity struct {
	Issuer        string `json:"issuer,omitempty"`
	IssuerRegexp  string `json:"issuerRegexp,omitempty"`
	Subject       string `json:"subject,omitempty"`
	SubjectRegexp string `json:"subjectRegexp,omitempty"`
	Root          string `json:"root"`

	text string
}

// listedAttestation is a type of predicates, and whose word counts.
type listedAttestation struct {
	Type       string           `json:"type"`
	Keys       []string         `json:"keys,omitempty"`
	Identities []listedIdentity `json:"identities,omitempty"`
}

type listedRoot struct {
	Name        string   `json:"name"`
	Fingerprint string   `json:"fingerprint"`
	Authorities []string `json:"authorities"`

	text string
}

// listIdentities lists identities with the names that the policy has for their roots.
func listIdentities(p *signer.Policy, list []signer.Identity) (all []listedIdentity) {
	for _, id := range list {
		l := listedIdentity{id.Issuer, id.IssuerRegexp, id.Subject, id.SubjectRegexp, "", ui.Value(id.String())}
		for _, name := range sorted(p.Roots) {
			if p.Roots[name] == id.Root {
				l.Root = name
			}
		}
		all = append(all, l)
	}
	return all
}

// signers names keys and identities.
func listSigners(keys []string, identities []listedIdentity) string {
	all := slices.Clone(keys)
	for _, id := range identities {
		all = append(all, id.text)
	}
	return strings.Join(all, ", ")
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
		rule := listedRule{Keys: r.Keys, Identities: listIdentities(p, r.Identities), Threshold: r.Threshold, listedWindow: listWindow(r.Window)}
		for _, a := range r.Attestations {
			rule.Attestations = append(rule.Attestations, listedAttestation{a.Type, a.Keys, listIdentities(p, a.Identities)})
		}
		for _, id := range r.IDs {
			rule.IDs = append(rule.IDs, id.String())
		}
		v.Rules = append(v.Rules, rule)
	}
	for _, name := range sorted(p.Keys) {
		k := p.Keys[name]
		v.Keys = append(v.Keys, listedKey{name, k.Fingerprint(), p.Revoked[k.Fingerprint()], listWindow(k.Window)})
	}
	for _, name := range sorted(p.Roots) {
		r := p.Roots[name]
		v.Roots = append(v.Roots, listedRoot{name, r.Fingerprint(), r.Authorities(), rootText(r)})
	}
	return v
}

func (v policyListed) text(w io.Writer) {
	fmt.Fprintf(w, "%s, version %d\n", v.File, v.Version)
	for i, r := range v.Rules {
		wants := listSigners(r.Keys, r.Identities)
		if len(r.Keys)+len(r.Identities) > 1 {
			wants = fmt.Sprintf("%d of %s", r.Threshold, wants)
		}
		fmt.Fprintf(w, "rule %d  %s: signed by %s", i+1, strings.Join(r.IDs, ", "), wants)
		endLine(w, r.listedWindow.text())
		for _, a := range r.Attestations {
			fmt.Fprintf(w, "  and attested %s by %s\n", ui.Value(a.Type), listSigners(a.Keys, a.Identities))
		}
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
	for _, r := range v.Roots {
		fmt.Fprintf(w, "root %s  %s\n", r.Name, r.text)
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
		evidence, superseded, err := delivery.Accept(ctx, f, trust)
		if superseded != nil {
			d.Superseded = superseded.Version
			v.Releases = append(v.Releases, d)
			continue
		}
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
			fmt.Fprintf(w, "  signed by %s\n", values(d.Evidence.Decision.Signers()))
			for _, a := range d.Evidence.Attestations {
				fmt.Fprintf(w, "  attested %s by %s\n", ui.Value(a.Type), ui.Value(a.Signer()))
			}
		}
	}
	fmt.Fprintf(w, "updates  %s\n", v.Updates.text())
}
