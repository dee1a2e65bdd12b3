package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
)

// remembered is trust.json: what the site must not forget.
type remembered struct {
	// Accepted are the versions of each app that were accepted, with their digests.
	Accepted map[string]map[string]digest.Digest `json:"accepted,omitempty"`
	// Policy is the policy that was last used, nil for none, and Coming the one that a
	// change is about to put in its place, or was when it was interrupted.
	Policy *PolicyMark   `json:"policy,omitempty"`
	Coming *comingPolicy `json:"coming,omitempty"`
	// Audit is the newest entry of the log.
	Audit audit.Head `json:"audit"`
}

func (h *Home) trustPath() string { return filepath.Join(h.dir, "trust.json") }

func (h *Home) auditPath() string { return filepath.Join(h.dir, "audit.jsonl") }

func (h *Home) remembered() (remembered, error) {
	var r remembered
	if err := readJSON(h.trustPath(), &r); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	return r, nil
}

// Record appends an entry to the site's log, with the time and the user, and remembers
// its head. It needs no lock of the home, for what is refused is recorded beside what
// is under way.
func (h *Home) Record(ctx context.Context, e audit.Entry) (audit.Head, error) {
	return h.record(ctx, e, func(*remembered) {})
}

// record is Record that remembers more in the same step.
func (h *Home) record(ctx context.Context, e audit.Entry, also func(*remembered)) (audit.Head, error) {
	return h.note(ctx, func(r *remembered) ([]audit.Entry, error) {
		also(r)
		return []audit.Entry{e}, nil
	})
}

// note changes what is remembered and, where change returns entries, the log, in one
// step. While change looks and decides, nobody else does; its error ends the step before
// anything is written, and comes back as it is.
func (h *Home) note(ctx context.Context, change func(*remembered) ([]audit.Entry, error)) (head audit.Head, err error) {
	var refused error
	defer func() {
		if refused != nil {
			err = refused
			return
		}
		if err != nil {
			err = fmt.Errorf("record in the audit log: %w", err)
		}
	}()
	if err := makeDir(h.dir); err != nil {
		return head, err
	}
	if err := checkOwner(h.dir); err != nil {
		return head, err
	}
	f, err := os.OpenFile(h.auditPath(), os.O_RDWR|os.O_CREATE|os.O_APPEND|noFollow, 0o600)
	if err != nil {
		return head, err
	}
	defer f.Close() // and with it the lock; what counts was synced
	if mine, err := outlast(ctx, f); err != nil || !mine {
		return head, cmp.Or(err, ErrLocked)
	}
	r, err := h.remembered()
	if err != nil {
		return head, err
	}
	entries, refused := change(&r)
	if refused != nil {
		return head, refused
	}
	for _, e := range entries {
		e.Time, e.User = h.opts.Now(), cmp.Or(e.User, userName())
		if head, err = audit.Append(f, r.Audit, e); err != nil {
			return head, err
		}
		r.Audit = head
	}
	return head, errors.Join(syncDir(h.dir), writeJSON(h.trustPath(), r))
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// recordBegin records that an operation begins, and what is accepted by it.
func (h *Home) recordBegin(ctx context.Context, op *operation) error {
	e := op.entry("begun")
	e.Keys, e.Policy, e.Override = op.signers, op.policy, op.override
	head, err := h.record(ctx, e, func(r *remembered) {
		if op.record.Action == ActionInstall || op.record.Action == ActionUpgrade {
			r.accept(op.record.App.ID, op.record.App.Version, op.record.Root)
		}
	})
	op.record.Audit = &head
	return err
}

// entry is what the log says of an operation in any case.
func (op *operation) entry(result string) audit.Entry {
	r := op.record
	return audit.Entry{Event: string(r.Action), Result: result, Instance: r.Instance, Revision: r.Number, ID: r.App.ID, Version: r.App.Version, Root: r.Root}
}

func (r *remembered) accept(id, version string, root digest.Digest) {
	if r.Accepted == nil {
		r.Accepted = map[string]map[string]digest.Digest{}
	}
	if r.Accepted[id] == nil {
		r.Accepted[id] = map[string]digest.Digest{}
	}
	r.Accepted[id][version] = root
}

// highest is the highest version of an app that was accepted, "" for none.
func (r remembered) highest(id string) string {
	versions := slices.Collect(maps.Keys(r.Accepted[id]))
	if len(versions) == 0 {
		return ""
	}
	return slices.MaxFunc(versions, artifact.CompareVersions)
}

// forward decides whether a release may be installed. What somebody chose among the
// versions of the library came in by [Home.Admit], and is not asked again whether it is
// older; the highest that is there may be lower than the highest that was accepted.
func (h *Home) forward(name string, d Delivery, opts InstallOptions) (override string, err error) {
	r, err := h.remembered()
	if err != nil {
		return "", err
	}
	t := d.Release.App.Template
	if d.Library && r.Accepted[t.ID][t.Version] == d.Release.Root.Digest {
		return "", nil
	}
	return r.admit(name, d.Release, opts.AllowDowngrade)
}

// overrideDowngrade is on record for InstallOptions.AllowDowngrade.
const overrideDowngrade = "allow-downgrade"

// admit refuses a release that is older than one that was accepted before, or another
// one of a version that was: somebody may be bringing back what was mended since.
// Override is what a person has to be recorded for, "" for nothing.
func (r remembered) admit(name string, release *artifact.Release, allowDowngrade bool) (override string, err error) {
	t := release.App.Template
	known, highest := r.Accepted[t.ID][t.Version], r.highest(t.ID)
	switch {
	case known != "" && known != release.Root.Digest:
		err = refuse(name, RefusedVersionReused, "%s %s was accepted here before with the digest %s, this one is %s: a version must never be used twice",
			t.ID, t.Version, known, release.Root.Digest)
	case highest != "" && artifact.CompareVersions(t.Version, highest) < 0:
		err = refuse(name, RefusedDowngrade, "%s %s was accepted here before, and %s is older", t.ID, highest, t.Version)
	}
	if err != nil && allowDowngrade {
		return overrideDowngrade, nil
	}
	return "", err
}

// accepted reports whether the very release was accepted.
func (r remembered) accepted(release *artifact.Release) bool {
	t := release.App.Template
	return r.Accepted[t.ID][t.Version] == release.Root.Digest
}

// admitAll is admit of arrivals that come in together, which overrides where they say
// so. What was accepted already is fine.
func (r remembered) admitAll(list []Arrival) error {
	for i, a := range list {
		if r.accepted(a.Release) {
			continue
		}
		insists := a.Override == overrideDowngrade
		if _, err := r.admit("", a.Release, insists); err != nil {
			return err
		}
		t, root := a.Release.App.Template, a.Release.Root.Digest
		for _, b := range list[:i] {
			if u := b.Release.App.Template; !insists && u.ID == t.ID && u.Version == t.Version && b.Release.Root.Digest != root {
				return refuse("", RefusedVersionReused, "%s %s comes twice, with the digests %s and %s: a version must never be used twice", t.ID, t.Version, b.Release.Root.Digest, root)
			}
		}
	}
	return nil
}

// VerifyAudit reads the log and compares it with itself and with every head that was
// written down: in trust.json, in the revisions of instances, and in what is handed in.
// See gets each entry, in order; it may be nil. A site without a log and without heads
// has an empty report.
func (h *Home) VerifyAudit(see func(audit.Entry), more ...audit.Anchor) (audit.Report, error) {
	anchors, err := h.anchors()
	if err != nil {
		return audit.Report{}, err
	}
	anchors = append(anchors, more...)
	f, err := os.Open(h.auditPath())
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Verify(eof{}, anchors, see)
	}
	if err != nil {
		return audit.Report{}, err
	}
	defer f.Close()
	return audit.Verify(f, anchors, see)
}

// eof is a log of which there is nothing.
type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func (h *Home) anchors() ([]audit.Anchor, error) {
	r, err := h.remembered()
	if err != nil {
		return nil, err
	}
	anchors := []audit.Anchor{{Head: r.Audit, Where: "trust.json"}}
	names, err := h.Instances()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := h.load(name)
		if err != nil {
			return nil, err
		}
		for _, r := range s.revisions {
			if r.Audit != nil {
				anchors = append(anchors, audit.Anchor{Head: *r.Audit, Where: fmt.Sprintf("revision %d of %s", r.Number, name)})
			}
		}
	}
	return anchors, nil
}
