package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
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
