package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/signer"
)

// trustFlags say whose signatures count.
type trustFlags struct {
	keys   []string
	policy string
	identityFlags
}

// trustFlagSet adds --key, those of an identity, and --policy.
func trustFlagSet(cmd *cobra.Command, f *trustFlags) {
	keyFlag(cmd, &f.keys)
	identityFlagSet(cmd, &f.identityFlags)
	cmd.Flags().StringVar(&f.policy, "policy", "", "accept what the policy in `FILE` accepts")
	_ = cmd.MarkFlagFilename("policy", "yaml", "yml")
}

// trust is what the flags say, nobody where none was given.
func (a *app) trust(f trustFlags) (delivery.Trust, error) {
	if len(f.keys) > 0 && f.policy != "" {
		return delivery.Trust{}, withHint(usagef("--key and --policy exclude each other"), "add the key to the policy: sealift policy add --key %s --for ID", f.keys[0])
	}
	if f.given() && f.policy != "" {
		return delivery.Trust{}, withHint(usagef("--certificate-identity and --policy exclude each other"), "add the identity to the policy, see: sealift policy add --help")
	}
	keys, err := loadKeys(f.keys)
	if err != nil {
		return delivery.Trust{}, err
	}
	id, err := f.load()
	if err != nil {
		return delivery.Trust{}, err
	}
	trust := delivery.Trust{Keys: keys}
	if id != nil {
		trust.Identities = []signer.Identity{*id}
	}
	if f.policy == "" {
		return trust, nil
	}
	data, err := readFile(f.policy, signer.MaxPolicyBytes)
	if err != nil {
		return delivery.Trust{}, fmt.Errorf("read policy: %w", err)
	}
	p, err := signer.ParsePolicy(f.policy, data)
	return delivery.Trust{Policy: p, Now: a.Now()}, err
}

// siteTrust is the policy of the site, nobody where there is none, or no home.
func (a *app) siteTrust(ctx context.Context) (delivery.Trust, error) {
	if _, err := a.homeDir(); err != nil {
		return delivery.Trust{}, nil //nolint:nilerr // no home, no policy
	}
	home, err := a.openState()
	if err != nil {
		return delivery.Trust{}, err
	}
	p, _, err := home.Policy(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return delivery.Trust{}, nil
	}
	return delivery.Trust{Policy: p, Now: a.Now()}, err
}

// openState opens the site's home without an engine.
func (a *app) openState() (*site.Home, error) {
	dir, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	return site.Open(dir, site.Options{Now: a.Now, Report: a.reportStep})
}

// firstTrust is a key whose word is taken for an app from now on.
type firstTrust struct {
	ID  string `json:"id"`
	Key string `json:"key"`

	rule signer.RuleToAdd
}

// text tells the person what is to be trusted.
func (t *firstTrust) text() string {
	return fmt.Sprintf("trusts the key %s for %s from now on", t.Key, t.ID)
}

// verifyForSite verifies a release before it is imported or installed. The policy decides where
// one of its rules is for the release; a key that was given must then be among those
// who signed. Where none is, the key decides, and a rule for it is to be added once the
// person has agreed.
func (a *app) verifyForSite(ctx context.Context, f delivery.Found, keyFiles []string) (*delivery.Release, *firstTrust, error) {
	keys, err := loadKeys(keyFiles)
	if err != nil {
		return nil, nil, err
	}
	trust, err := a.siteTrust(ctx)
	if err != nil {
		return nil, nil, err
	}
	decides := false
	if trust.Policy != nil {
		id, _, err := delivery.Claim(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		rule, _ := trust.Policy.Match(id)
		decides = rule > 0
	}
	switch {
	case decides:
	case len(keys) > 0:
		for _, k := range keys {
			if reason, revoked := revokedBy(trust.Policy, k); revoked {
				return nil, nil, withHint(fmt.Errorf("%s: the policy revokes the key %s: %s: %w", f.Name, k, reason, signer.ErrNotAccepted),
					"ask the vendor for a release signed by another key; see the policy with: sealift policy list")
			}
		}
		trust = delivery.Trust{Keys: keys}
	case trust.Policy == nil:
		return nil, nil, withHint(usagef("nothing says whose signatures count: want --key FILE, the vendor's public key, or a policy"),
			"ask the vendor for the key, over another way than this media; a key found on the media proves nothing")
	}
	r, err := delivery.Verify(ctx, f, trust)
	if err != nil {
		return nil, nil, err
	}
	if decides {
		return r, nil, a.signedToo(r, keys)
	}
	return r, newFirstTrust(r, keys), nil
}

// revokedBy reports whether a policy, of which there may be none, revokes a key.
func revokedBy(p *signer.Policy, k *signer.Key) (reason string, revoked bool) {
	if p == nil {
		return "", false
	}
	reason, revoked = p.Revoked[k.Fingerprint()]
	return reason, revoked
}

// signedToo fails unless one of the keys given, where any was, is among those that
// signed: the policy has decided, and who passes a key wants to see it count.
func (a *app) signedToo(r *delivery.Release, keys []*signer.Key) error {
	signed := r.Evidence.Keys()
	for _, k := range keys {
		if slices.Contains(signed, k.Fingerprint()) {
			return nil
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s: the policy accepts it as signed by %s, and not by the key given (%s): %w", r.Name, strings.Join(r.Evidence.Decision.Signers(), ", "), keys[0], signer.ErrNotAccepted),
		"leave out --key, or see the policy with: sealift policy list")
}

// newFirstTrust is in the first of keys that signed.
func newFirstTrust(r *delivery.Release, keys []*signer.Key) *firstTrust {
	for _, k := range keys {
		if id := r.App.Template.ID; slices.Contains(r.Evidence.Keys(), k.Fingerprint()) {
			return &firstTrust{ID: id, Key: k.Fingerprint(), rule: signer.RuleToAdd{IDs: []string{id}, Key: k, Name: keyName([]string{id})}}
		}
	}
	return nil
}

// keyName is what a policy calls a key for ids where the person does not say: the
// domain of the first.
func keyName(ids []string) string {
	domain, _, _ := strings.Cut(ids[0], "/")
	if artifact.CheckID(domain+"/x") != nil || len(domain) > 60 {
		return "key"
	}
	return domain
}

// remember writes a first trust down.
func (a *app) remember(ctx context.Context, t *firstTrust) error {
	if t == nil {
		return nil
	}
	home, err := a.openState()
	if err != nil {
		return err
	}
	_, err = home.AddRule(ctx, t.rule)
	return err
}

// recordRefusal records in the site's log that a release was not accepted, where a
// change was asked for. What could not be read was not refused.
func (a *app) recordRefusal(ctx context.Context, f delivery.Found, flags deliveryFlags, cause error) error {
	code := exitCode(ctx, cause)
	if flags.dryRun || code != exitVerification && code != exitRefused {
		return cause
	}
	home, err := a.openState()
	if err != nil {
		return cause // what matters is that it was refused
	}
	e := audit.Entry{Event: "refused", Root: f.Descriptor.Digest, Reason: cause.Error()}
	if f.Store != nil { // else it is none of several
		e.ID, e.Version, _ = delivery.Claim(ctx, f) // what it calls itself, where it can be read
	}
	if _, err := home.Record(ctx, e); err != nil {
		a.out.Warn("this was not recorded: %v", err)
	}
	return cause
}
