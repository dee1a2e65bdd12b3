package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/signer"
)

// ActionPolicy is what holds the lock while the policy is changed. It makes no
// revision.
const ActionPolicy Action = "change of the policy"

// EventWarning is something about the home that a person should look at.
const EventWarning target.EventType = "warning"

// PolicyPath is where the site's policy stands, whether or not there is one.
func (h *Home) PolicyPath() string { return filepath.Join(h.dir, artifact.PolicyFile) }

// Policy returns the site's policy and the bytes it was read from; fs.ErrNotExist when
// there is none, and the findings of [signer.ParsePolicy]. One that others could have
// changed is a [*RefusedError], and so is one of a lower version than was used before,
// or none where one was: keys that were taken out may be coming back.
//
// A policy that was edited by hand is recorded in the log, and used. Where the version
// stayed, and where this process may not write to the home, a warning is reported.
func (h *Home) Policy(ctx context.Context) (*signer.Policy, []byte, error) {
	p, data, err := h.readPolicy()
	if err != nil {
		return nil, nil, err
	}
	r, err := h.remembered()
	switch {
	case errors.Is(err, fs.ErrPermission):
		h.warn("whether the policy was edited by hand is not known: %v", err)
		return present(p, data, h.PolicyPath())
	case err != nil:
		return nil, nil, err
	case r.Policy == nil && p == nil, r.Policy != nil && p != nil && *r.Policy == markOf(p, data):
		return present(p, data, h.PolicyPath())
	}
	// Both are read again where nobody else changes what is remembered: a command that
	// replaces the policy may be at work.
	warning := ""
	_, err = h.note(ctx, func(r *remembered) (entries []audit.Entry, err error) {
		if p, data, err = h.readPolicy(); err == nil {
			entries, warning, err = r.notice(p, data)
		}
		return entries, err
	})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		warning = fmt.Sprintf("the policy is not the one last used here, and this could not be recorded: %v", err)
		_, _, err = r.notice(p, data)
	}
	if err != nil {
		return nil, nil, err
	}
	if warning != "" {
		h.warn("%s", warning)
	}
	return present(p, data, h.PolicyPath())
}

// present fails with fs.ErrNotExist where there is no policy.
func present(p *signer.Policy, data []byte, path string) (*signer.Policy, []byte, error) {
	if p == nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return p, data, nil
}

func (h *Home) warn(format string, args ...any) {
	h.opts.Report(target.Event{Type: EventWarning, Message: fmt.Sprintf(format, args...)})
}

// readPolicy reads the policy, nil where there is none.
func (h *Home) readPolicy() (*signer.Policy, []byte, error) {
	path := h.PolicyPath()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("policy %s is no regular file: %w", path, fs.ErrInvalid)
	}
	if err := errors.Join(checkOwner(h.dir), checkOwner(path)); err != nil {
		return nil, nil, err
	}
	data, err := readUpTo(path, signer.MaxPolicyBytes+1) // more is a finding
	if err != nil {
		return nil, nil, err
	}
	p, err := signer.ParsePolicy(path, data)
	return p, data, err
}

// readUpTo reads the first limit bytes of a file.
func readUpTo(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, limit))
}

// PolicyMark tells one policy of a site from another.
type PolicyMark struct {
	Version int           `json:"version"`
	Digest  digest.Digest `json:"digest"`
}

// String is the mark for people.
func (m PolicyMark) String() string { return fmt.Sprintf("version %d, %s", m.Version, m.Digest) }

func markOf(p *signer.Policy, data []byte) PolicyMark {
	return PolicyMark{p.Version, digest.FromBytes(data)}
}

// comingPolicy is a policy that a command was about to put in place.
type comingPolicy struct {
	PolicyMark
	// Update is the signed update that brought it, "" for a change made here.
	Update digest.Digest `json:"update,omitempty"`
}

// notice takes in what stands as the policy, nil for none: what a command of ours has
// put there, and otherwise what somebody edited; then nothing is coming any more. It
// refuses what is older than what was used before, whoever put it there. The entries are
// for the log, and the warning for a person.
func (r *remembered) notice(p *signer.Policy, data []byte) (entries []audit.Entry, warning string, err error) {
	switch {
	case p == nil && r.Policy == nil:
		return nil, "", nil
	case p == nil:
		return nil, "", refuse("", RefusedPolicyGone, "this site has no policy any more; %s was used before", r.Policy)
	}
	now, before := markOf(p, data), r.Policy
	switch {
	case before != nil && *before == now:
		return nil, "", nil
	case before != nil && now.Version < before.Version:
		return nil, "", refuse("", RefusedPolicyOlder, "the policy is version %d, and version %d was used here before: it never goes down", now.Version, before.Version)
	case r.Coming != nil && r.Coming.PolicyMark == now:
		update := r.Coming.Update
		r.Policy, r.Coming = &now, nil
		if update == "" {
			return nil, "", nil
		}
		return []audit.Entry{{Event: "policy", Result: "succeeded", Policy: now.Version, Root: update}}, "", nil
	}
	entries = r.interrupt()
	r.Policy = &now
	entry := audit.Entry{Event: "policy", Policy: now.Version, Reason: fmt.Sprintf("edited by hand: %s", now)}
	if before != nil {
		entry.Reason += fmt.Sprintf("; it was %s", before)
	}
	if before != nil && before.Version == now.Version {
		warning = fmt.Sprintf("the policy was edited by hand and is still version %d; raise its version whenever you edit it, so that one can be told from the other", now.Version)
	}
	return append(entries, entry), warning, nil
}

// interrupt gives up the policy that was coming, and says so where there was one.
func (r *remembered) interrupt() []audit.Entry {
	if r.Coming == nil {
		return nil
	}
	e := audit.Entry{Event: "policy", Result: "interrupted", Policy: r.Coming.Version, Root: r.Coming.Update}
	r.Coming = nil
	return []audit.Entry{e}
}

// AddRule adds a rule to the site's policy, making one where there is none, and returns
// the policy as it is then. It fails as [signer.AddRule] and [Home.Policy] do and with
// [*LockedError].
func (h *Home) AddRule(ctx context.Context, rule signer.RuleToAdd) (*signer.Policy, error) {
	unlock, err := h.lock(ctx, ActionPolicy)
	if err != nil {
		return nil, err
	}
	defer unlock()
	_, before, err := h.Policy(ctx)
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
	return p, h.replacePolicy(ctx, comingPolicy{PolicyMark: markOf(p, after)}, after,
		audit.Entry{Event: "policy", Policy: p.Version, Keys: []string{rule.Signer()}, Reason: "accepted for " + strings.Join(rule.IDs, ", ")})
}

// PolicyUpdate is a signed update of the policy that the present one accepts.
type PolicyUpdate struct {
	Policy *signer.Policy
	// Data is the policy as it is written.
	Data []byte
	// Root is the digest of the update, and Signers are the fingerprints of those whose
	// signatures of it counted.
	Root    digest.Digest
	Signers []string
	// Present is the digest of the policy that accepted it; where another stands there
	// by now, the update is refused as RefusedPolicyMoved.
	Present digest.Digest
}

// CheckUpdate fails where [Home.UpdatePolicy] would refuse the version: it has to be
// higher than that of any policy that was used here. The very policy that is in use
// is fine.
func (h *Home) CheckUpdate(ctx context.Context, u PolicyUpdate) error {
	_, err := h.checkUpdate(ctx, u)
	return err
}

// checkUpdate returns the policy that is in use.
func (h *Home) checkUpdate(ctx context.Context, u PolicyUpdate) (PolicyMark, error) {
	p, data, err := h.Policy(ctx)
	if err != nil {
		return PolicyMark{}, err
	}
	now, next := markOf(p, data), markOf(u.Policy, u.Data)
	switch {
	case now == next:
	case now.Digest != u.Present:
		err = refuse("", RefusedPolicyMoved, "the policy was changed after the update was verified: it is %s now", now)
	case next.Version == now.Version:
		err = refuse("", RefusedPolicyVersion, "version %d of the policy is in use with other content: a version must never be used twice", now.Version)
	case next.Version < now.Version:
		err = refuse("", RefusedPolicyVersion, "the update is version %d of the policy, and version %d is in use: it never goes down", next.Version, now.Version)
	}
	return now, err
}

// UpdatePolicy puts a policy in the place of the present one, which has to have accepted
// it. It is recorded before and after; killed in between, the site has the one policy or
// the other, whole, and the same call completes it. The very policy that is in use
// changes nothing. It fails with [*RefusedError] and [*LockedError].
func (h *Home) UpdatePolicy(ctx context.Context, u PolicyUpdate) error {
	unlock, err := h.lock(ctx, ActionPolicy)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := h.checkUpdate(ctx, u)
	if next := markOf(u.Policy, u.Data); err == nil && now != next {
		err = h.replacePolicy(ctx, comingPolicy{next, u.Root}, u.Data, audit.Entry{
			Event: "policy", Result: "begun", Policy: next.Version, Root: u.Root, Keys: u.Signers,
			Reason: fmt.Sprintf("update from %s, to %s", now, next),
		})
	}
	return err
}

// replacePolicy writes a policy between two steps of what is remembered. The caller
// holds the lock.
func (h *Home) replacePolicy(ctx context.Context, next comingPolicy, data []byte, begun audit.Entry) error {
	r, err := h.remembered()
	if err != nil {
		return err
	}
	if r.Coming != nil { // and it is not what stands there, or it would have been noticed
		_, err := h.note(ctx, func(r *remembered) ([]audit.Entry, error) { return r.interrupt(), nil })
		if err != nil {
			return err
		}
	}
	_, err = h.note(ctx, func(r *remembered) ([]audit.Entry, error) {
		r.Coming = &next
		return []audit.Entry{begun}, h.sweep()
	})
	if err != nil {
		return err
	}
	if err := writeFile(h.PolicyPath(), data, nil); err != nil {
		return fmt.Errorf("write the policy: %w", err)
	}
	_, _, err = h.Policy(ctx) // which notices it
	return err
}

// sweep removes files of the home that a kill left half written. The caller holds the
// lock, and is within note.
func (h *Home) sweep() error {
	entries, err := os.ReadDir(h.dir)
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), tmpPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(h.dir, e.Name())))
		}
	}
	return err
}

// AcceptedIDs returns the ids of the apps of which releases were accepted or are
// installed here, sorted.
func (h *Home) AcceptedIDs() ([]string, error) {
	r, err := h.remembered()
	if err != nil {
		return nil, err
	}
	ids := map[string]bool{}
	for id := range r.Accepted {
		ids[id] = true
	}
	names, err := h.Instances()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := h.load(name)
		if err != nil {
			return nil, err
		}
		if now := s.current(); now != nil {
			ids[now.App.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(ids)), nil
}
