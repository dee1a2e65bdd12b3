package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/signer"
)

// ActionPolicy is what holds the lock while the policy is changed. It makes no
// revision.
const ActionPolicy Action = "change of the policy"

// PolicyPath is where the site's policy stands, whether or not there is one.
func (h *Home) PolicyPath() string { return filepath.Join(h.dir, "policy.yaml") }

// Policy returns the site's policy and the bytes it was read from; fs.ErrNotExist when
// there is none, and the findings of [signer.ParsePolicy]. One that others could have
// changed is a [*RefusedError].
func (h *Home) Policy() (*signer.Policy, []byte, error) {
	data, err := h.readPolicy()
	if err != nil {
		return nil, nil, err
	}
	p, err := signer.ParsePolicy(h.PolicyPath(), data)
	return p, data, err
}

func (h *Home) readPolicy() ([]byte, error) {
	path := h.PolicyPath()
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("policy %s is no regular file: %w", path, fs.ErrInvalid)
	case info.Size() > signer.MaxPolicyBytes:
		return nil, fmt.Errorf("policy %s is %d bytes, more than the %d accepted: %w", path, info.Size(), signer.MaxPolicyBytes, fs.ErrInvalid)
	}
	if err := errors.Join(checkOwner(h.dir), checkOwner(path)); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// AddRule adds a rule to the site's policy, making one where there is none, and returns
// the policy as it is then. It fails as [signer.AddRule] does and with [*LockedError].
func (h *Home) AddRule(ctx context.Context, rule signer.RuleToAdd) (*signer.Policy, error) {
	unlock, err := h.lock(ctx, ActionPolicy)
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := h.readPolicy()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	after, err := signer.AddRule(h.PolicyPath(), before, rule)
	if err != nil {
		return nil, err
	}
	p, err := signer.ParsePolicy(h.PolicyPath(), after)
	if err != nil || string(after) == string(before) {
		return p, err
	}
	_, err = h.Record(ctx, audit.Entry{Event: "policy", Policy: p.Version, Keys: []string{rule.Signer()}, Reason: "accepted for " + strings.Join(rule.IDs, ", ")})
	if err != nil {
		return nil, err
	}
	if err := writeFile(h.PolicyPath(), after, nil); err != nil {
		return nil, fmt.Errorf("write the policy: %w", err)
	}
	return p, nil
}
