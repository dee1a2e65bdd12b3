package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/receipt"
	"github.com/sealift/sealift/signer"
)

// ActionReceipt is what holds the lock while a receipt is made. It makes no revision.
const ActionReceipt Action = "receipt"

var (
	// ErrAudit reports an audit log that is not what was written.
	ErrAudit = errors.New("the audit log was changed or cut")
	// ErrContradicted reports revisions or evidence on record that are not what the audit
	// log has.
	ErrContradicted = errors.New("the site's records contradict its audit log")
)

// ReceiptOptions says what a receipt is to tell.
type ReceiptOptions struct {
	// Site is what the site calls itself, "" for nothing.
	Site string
	// Sealift is the version of the program.
	Sealift string
	// For are patterns for ids: of apps with another id nothing is told. None for all.
	For []artifact.IDGlob
}

func (o ReceiptOptions) wants(id string) bool {
	return len(o.For) == 0 || slices.ContainsFunc(o.For, func(g artifact.IDGlob) bool { return g.Match(id) })
}

// Receipt says what the site accepted and has installed, as the audit log has it. What
// only the evidence on record tells, the signatures and the rule, comes from where the
// log does not contradict it. It writes nothing, unless it finds a policy that was edited
// by hand: see [Home.Policy].
//
// It fails with ErrAudit when the log is not as it was written, with ErrContradicted when
// a revision or evidence that would be told of is not in it or is another one there, with
// ErrNotFound when there is nothing to tell, and as Policy does.
func (h *Home) Receipt(ctx context.Context, opts ReceiptOptions) (receipt.Receipt, error) {
	policy, err := h.policyDigest(ctx) // first: it may find an edit that the log has to have
	if err != nil {
		return receipt.Receipt{}, err
	}
	l := newLedger()
	report, err := h.VerifyAudit(l.see)
	if err != nil {
		return receipt.Receipt{}, err
	}
	if n := len(report.Problems); n > 0 {
		return receipt.Receipt{}, fmt.Errorf("%w: %s (%d in all)", ErrAudit, report.Problems[0], n)
	}
	r := receipt.Receipt{Site: opts.Site, Time: h.now(), Sealift: opts.Sealift, Audit: report.Head, Policy: policy}
	for _, g := range opts.For {
		r.For = append(r.For, g.String())
	}
	if r.Accepted, err = h.accepted(l, opts); err != nil {
		return r, err
	}
	if len(r.Accepted) == 0 {
		return r, fmt.Errorf("%s was accepted here: %w", nothing(r.For), ErrNotFound)
	}
	r.Instances, err = h.installed(l, opts)
	return r, err
}

func nothing(patterns []string) string {
	if len(patterns) == 0 {
		return "no release"
	}
	return "no release that matches " + strings.Join(patterns, " or ")
}

// IssueReceipt makes a receipt while nothing else changes the site, and records in the
// log that it was made. Seal makes the file of it, and gives it its place only after
// IssueReceipt has returned without an error: no receipt is out of which the log does not
// tell. Keys are the fingerprints of who signs it.
//
// It fails as Receipt does, and with a [*LockedError].
func (h *Home) IssueReceipt(ctx context.Context, opts ReceiptOptions, keys []string, seal func(receipt.Receipt) ([]byte, error)) (receipt.Receipt, error) {
	if _, err := h.Receipt(ctx, opts); err != nil {
		return receipt.Receipt{}, err // before a lock is made where there is no site
	}
	unlock, err := h.lock(ctx, ActionReceipt)
	if err != nil {
		return receipt.Receipt{}, err
	}
	defer unlock()
	r, err := h.Receipt(ctx, opts)
	if err != nil {
		return r, err
	}
	raw, err := seal(r)
	if err != nil {
		return r, err
	}
	e := audit.Entry{Event: "receipt", Receipt: digest.FromBytes(raw), Keys: keys}
	if len(r.For) > 0 {
		e.Reason = "for " + strings.Join(r.For, ", ")
	}
	_, err = h.Record(ctx, e)
	return r, err
}

func (h *Home) policyDigest(ctx context.Context) (*receipt.Policy, error) {
	p, data, err := h.Policy(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &receipt.Policy{Version: p.Version, Digest: digest.FromBytes(data)}, nil
}

// ledger is what the log says of releases and changes.
type ledger struct {
	// accepts are the entries by which a release was accepted, in order, and signers all
	// who are on record for it, by root, also where it came to nothing.
	accepts []audit.Entry
	signers map[digest.Digest][]string
	begun   map[int]audit.Entry // by their number
	ended   map[attempt]audit.Entry
	// succeeded are the newest revisions that did, by instance.
	succeeded map[string]int
}

// attempt is a change by the number of its revision, which a change that was killed before
// its record was written leaves to the next.
type attempt struct {
	instance string
	revision int
}

func newLedger() *ledger {
	return &ledger{signers: map[digest.Digest][]string{}, begun: map[int]audit.Entry{}, ended: map[attempt]audit.Entry{}, succeeded: map[string]int{}}
}

func (l *ledger) see(e audit.Entry) {
	switch {
	case e.Event == eventImport:
		l.signers[e.Root] = append(l.signers[e.Root], e.Keys...)
		if e.Result == string(ResultSucceeded) {
			l.accepts = append(l.accepts, e)
		}
		return
	case e.Result == "begun" && (e.Event == string(ActionInstall) || e.Event == string(ActionUpgrade)):
		l.signers[e.Root] = append(l.signers[e.Root], e.Keys...)
		l.accepts = append(l.accepts, e)
	}
	switch {
	case e.Revision == 0: // no change of an instance
	case e.Result == "begun":
		l.begun[e.Seq] = e
	default:
		l.ended[attempt{e.Instance, e.Revision}] = e
		if e.Result == string(ResultSucceeded) {
			l.succeeded[e.Instance] = max(l.succeeded[e.Instance], e.Revision)
		}
	}
}

// check fails unless the log has a revision as its record says it was.
func (l *ledger) check(r *Revision) error {
	seq := 0
	if r.Audit != nil {
		seq = r.Audit.Seq
	}
	e, ok := l.begun[seq]
	switch {
	case !ok || e.Instance != r.Instance || e.Revision != r.Number:
		return fmt.Errorf("%w: revision %d of %s is not in the log", ErrContradicted, r.Number, r.Instance)
	case e.Event != string(r.Action) || e.ID != r.App.ID || e.Version != r.App.Version || e.Root != r.Root || !l.endedAs(r):
		return fmt.Errorf("%w: revision %d of %s is another one in the log", ErrContradicted, r.Number, r.Instance)
	}
	return nil
}

// endedAs reports whether a record has the result that the log has. A kill can fall
// between the two: one of them then says nothing yet.
func (l *ledger) endedAs(r *Revision) bool {
	end, known := l.ended[attempt{r.Instance, r.Number}]
	switch {
	case !known:
		return true
	case end.Result == "interrupted":
		return r.Result == ResultFailed || r.Result == ResultPending
	}
	return end.Result == string(r.Result)
}

// accepted lists the releases that the log says were accepted.
func (h *Home) accepted(l *ledger, opts ReceiptOptions) ([]receipt.Release, error) {
	var list []receipt.Release
	for _, e := range l.accepts {
		if !opts.wants(e.ID) {
			continue
		}
		i := slices.IndexFunc(list, func(a receipt.Release) bool { return a.ID == e.ID && a.Version == e.Version && a.Root == e.Root })
		if i < 0 {
			a := receipt.Release{ID: e.ID, Version: e.Version, Root: e.Root, Time: e.Time, Event: e.Event, Entry: e.Seq, Signers: e.Keys, Policy: e.Policy}
			if err := h.proven(l, e, &a); err != nil {
				return nil, err
			}
			list, i = append(list, a), len(list)
		}
		if e.Override != "" {
			list[i].Overrides = append(list[i].Overrides, e.Override)
		}
	}
	return list, nil
}

// proven adds the signatures and the rule that the evidence of a release has, where there
// is any. Evidence can be of a later acceptance than e, with other signatures beside:
// what e does not know of is left out, and what no entry does is a contradiction.
func (h *Home) proven(l *ledger, e audit.Entry, a *receipt.Release) error {
	raw, where, err := h.evidenceOf(l, e)
	if err != nil || len(raw) == 0 {
		return err
	}
	var proof signer.Evidence
	if err := json.Unmarshal(raw, &proof); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	for _, sig := range proof.Signatures {
		by := sig.Signer()
		switch {
		case proof.Subject.Digest != e.Root || !slices.Contains(l.signers[e.Root], by):
			return fmt.Errorf("%w: %s is of other signatures", ErrContradicted, where)
		case slices.Contains(e.Keys, by):
			a.Signatures = append(a.Signatures, receipt.Signature{Signer: by, Form: sig.Form, Manifest: sig.Manifest.Digest, Layer: sig.Layer.Digest})
		}
	}
	if d := proof.Decision; d != nil && d.Policy == e.Policy {
		a.Rule = d.Rule
	}
	return nil
}

// evidenceOf returns the evidence of the acceptance that an entry is of, and what it is
// called; none where none is kept: a change can be killed before its record is written,
// and what leaves the library takes its evidence along.
func (h *Home) evidenceOf(l *ledger, e audit.Entry) (raw json.RawMessage, where string, err error) {
	if e.Event == eventImport {
		raw, err := h.Evidence(e.Root)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return raw, fmt.Sprintf("the evidence of %s %s", e.ID, e.Version), err
	}
	s, err := h.load(e.Instance)
	if err != nil {
		return nil, "", err
	}
	r := s.revision(e.Revision)
	if r == nil || r.Audit == nil || r.Audit.Seq != e.Seq {
		return nil, "", nil
	}
	return r.Evidence, fmt.Sprintf("the evidence of revision %d of %s", r.Number, r.Instance), l.check(r)
}

// installed lists the instances that are installed, or were meant to be.
func (h *Home) installed(l *ledger, opts ReceiptOptions) ([]receipt.Instance, error) {
	names, err := h.Instances()
	if err != nil {
		return nil, err
	}
	newest := map[string]int{} // revision that ended, by instance
	for at, e := range l.ended {
		if opts.wants(e.ID) {
			newest[at.instance] = max(newest[at.instance], at.revision)
			names = append(names, at.instance)
		}
	}
	slices.Sort(names)
	var list []receipt.Instance
	for _, name := range slices.Compact(names) {
		s, err := h.load(name)
		if err != nil {
			return nil, err
		}
		if n := newest[name]; n > 0 && s.revision(n) == nil {
			return nil, fmt.Errorf("%w: revision %d of %s is in the log, and its record is gone", ErrContradicted, n, name)
		}
		in, err := s.receipt(l, opts)
		if err != nil {
			return nil, err
		}
		if in != nil {
			list = append(list, *in)
		}
	}
	return list, nil
}

// newestSucceeded is the number of the newest revision that succeeded, 0 for none.
func (s *state) newestSucceeded() int {
	for _, r := range slices.Backward(s.revisions) {
		if r.Result == ResultSucceeded {
			return r.Number
		}
	}
	return 0
}

// receipt tells of an instance; nil where there is nothing to tell.
func (s *state) receipt(l *ledger, opts ReceiptOptions) (*receipt.Instance, error) {
	var last *Revision // a name can go from one app to another
	for _, r := range s.revisions {
		if opts.wants(r.App.ID) {
			last = r
		}
	}
	if last == nil {
		return nil, nil
	}
	if err := l.check(last); err != nil {
		return nil, err
	}
	if n := l.succeeded[s.name]; n > s.newestSucceeded() {
		return nil, fmt.Errorf("%w: revision %d of %s succeeded by the log, and not by its record", ErrContradicted, n, s.name)
	}
	if last.Action == ActionUninstall && last.Result == ResultSucceeded {
		return nil, nil
	}
	in := &receipt.Instance{Name: s.name, Target: last.Target, Last: receipt.Change{
		Revision: last.Number, Action: string(last.Action), ID: last.App.ID, Version: last.App.Version, Root: last.Root, Result: string(last.Result), Time: last.Started,
	}}
	if !last.Finished.IsZero() {
		in.Last.Time = last.Finished
	}
	current := s.current()
	if current == nil || !opts.wants(current.App.ID) {
		return in, nil
	}
	if err := l.check(current); err != nil {
		return nil, err
	}
	in.Current = &receipt.Installed{Revision: current.Number, ID: current.App.ID, Version: current.App.Version, Root: current.Root, Since: current.Finished}
	return in, nil
}
