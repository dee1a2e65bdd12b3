package site

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
)

// What the log calls changes of the library.
const (
	eventImport = "import"
	eventPrune  = "prune"
)

// Arrival is a verified release on its way into the library.
type Arrival struct {
	Delivery
	// Override is the option by which a person insisted on it, "" for none.
	Override string
}

// LibraryDir is where the library of the site whose home is dir stands, an OCI image
// layout, whether or not there is one.
func LibraryDir(dir string) string { return filepath.Join(dir, "layout") }

// LibraryDir is [LibraryDir] of the home.
func (h *Home) LibraryDir() string { return LibraryDir(h.dir) }

// Admit decides by what the site remembers whether a release may come in. It refuses
// one that is older than the highest version that was accepted, as [RefusedDowngrade],
// and another digest of a version that was, as [RefusedVersionReused]. With
// allowDowngrade it lets both in; Override says so, and is to go with the arrival.
func (h *Home) Admit(d Delivery, allowDowngrade bool) (override string, err error) {
	r, err := h.remembered()
	if err != nil {
		return "", err
	}
	return r.admit("", d.Release, allowDowngrade)
}

// IncompleteError is for carry to say that what it has to bring is not all there, and
// that the rest is elsewhere, as on the next disc: nothing went wrong.
type IncompleteError struct{ Err error }

// Error is that of Err.
func (e *IncompleteError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *IncompleteError) Unwrap() error { return e.Err }

// Import has carry bring releases into the library. Their evidence is kept before, and
// behind it they are remembered as accepted, all or none; begin and end of each are in
// the log. Whether they may come in is decided again before and behind, for another
// import may have come between: then it fails with [*RefusedError]. What was cut off is
// finished by the same again. It fails as carry does, and as [Home.Record]; then no
// evidence is left that was not there before.
func (h *Home) Import(ctx context.Context, list []Arrival, carry func(ctx context.Context) error) error {
	if err := makeDir(h.dir); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	fresh, err := h.keepAll(list)
	if err != nil {
		return errors.Join(err, h.dropFresh(ctx, fresh))
	}
	begun, err := h.beginImport(ctx, list)
	if err == nil {
		err = carry(ctx)
	}
	return h.endImport(ctx, list, begun, fresh, err)
}

// keepAll keeps the evidence of arrivals, and returns those that had none.
func (h *Home) keepAll(list []Arrival) (fresh []Arrival, err error) {
	for _, a := range list {
		r := a.Release
		if _, err := os.Lstat(h.evidencePath(r.Root.Digest)); errors.Is(err, fs.ErrNotExist) {
			fresh = append(fresh, a)
		}
		if err := h.keepEvidence(r.Root.Digest, a.Evidence); err != nil {
			return fresh, fmt.Errorf("keep the evidence of %s %s: %w", r.App.Template.ID, r.App.Template.Version, err)
		}
	}
	return fresh, nil
}

// beginImport records that arrivals begin, and returns those of which it did.
func (h *Home) beginImport(ctx context.Context, list []Arrival) (begun []Arrival, err error) {
	for _, a := range list {
		_, err := h.note(ctx, func(r *remembered) ([]audit.Entry, error) {
			return []audit.Entry{a.entry("begun")}, r.admitAll(list)
		})
		if err != nil {
			return begun, err
		}
		begun = append(begun, a)
	}
	return begun, nil
}

// endImport remembers arrivals where nothing failed, and records how those that were
// begun ended. It returns what failed, with what fails here.
func (h *Home) endImport(ctx context.Context, list, begun, fresh []Arrival, failed error) error {
	result, reason := outcome(ctx, failed)
	ctx = context.WithoutCancel(ctx)
	if failed == nil {
		_, err := h.note(ctx, func(r *remembered) ([]audit.Entry, error) {
			if err := r.admitAll(list); err != nil {
				return nil, err
			}
			for _, a := range list {
				r.accept(a.Release.App.Template.ID, a.Release.App.Template.Version, a.Release.Root.Digest)
			}
			_, err := h.keepAll(list) // again: another import of the same may have failed meanwhile
			return ended(list, result, reason), err
		})
		if err == nil {
			return nil
		}
		failed, result, reason = err, "failed", err.Error()
	}
	_, err := h.note(ctx, func(*remembered) ([]audit.Entry, error) { return ended(begun, result, reason), nil })
	return errors.Join(failed, err, h.dropFresh(ctx, fresh))
}

// ended are the last entries of arrivals.
func ended(list []Arrival, result, reason string) []audit.Entry {
	var entries []audit.Entry
	for _, a := range list {
		e := a.entry(result)
		e.Reason = reason
		entries = append(entries, e)
	}
	return entries
}

// dropFresh forgets the evidence of arrivals, but of those that another import has
// brought meanwhile.
func (h *Home) dropFresh(ctx context.Context, fresh []Arrival) error {
	if len(fresh) == 0 {
		return nil
	}
	_, err := h.note(context.WithoutCancel(ctx), func(r *remembered) ([]audit.Entry, error) {
		var errs error
		for _, a := range fresh {
			if !r.accepted(a.Release) {
				errs = errors.Join(errs, h.dropEvidence(a.Release.Root.Digest))
			}
		}
		return nil, errs
	})
	return err
}

// entry is what the log says of an arrival.
func (a Arrival) entry(result string) audit.Entry {
	t := a.Release.App.Template
	return audit.Entry{Event: eventImport, Result: result, ID: t.ID, Version: t.Version, Root: a.Release.Root.Digest, Keys: a.Signers, Policy: a.Policy, Override: a.Override}
}

// maxEvidenceBytes bounds evidence, which tells of two times 64 signatures and a few
// attestations.
const maxEvidenceBytes = 4 << 20

// Evidence returns what the verification found when a release was imported. It fails with
// fs.ErrNotExist where it was not, and with artifact.ErrDamaged for what import does not
// write.
func (h *Home) Evidence(root digest.Digest) (json.RawMessage, error) {
	if err := root.Validate(); err != nil {
		return nil, err
	}
	data, err := readUpTo(h.evidencePath(root), maxEvidenceBytes+1)
	if err != nil {
		return nil, err
	}
	if len(data) > maxEvidenceBytes || !json.Valid(data) {
		return nil, fmt.Errorf("%s: %w: want JSON of at most %d bytes", h.evidencePath(root), artifact.ErrDamaged, maxEvidenceBytes)
	}
	return data, nil
}

func (h *Home) keepEvidence(root digest.Digest, evidence json.RawMessage) error {
	if len(evidence) == 0 {
		return nil
	}
	if err := makeDir(filepath.Dir(h.evidencePath(root))); err != nil {
		return err
	}
	return writeJSON(h.evidencePath(root), evidence)
}

// dropEvidence forgets the evidence of a release that left the library. One that was
// not kept is no error.
func (h *Home) dropEvidence(root digest.Digest) error {
	if err := root.Validate(); err != nil {
		return err
	}
	if err := os.Remove(h.evidencePath(root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (h *Home) evidencePath(root digest.Digest) string {
	return filepath.Join(h.dir, "evidence", root.Algorithm().String()+"-"+root.Encoded()+".json")
}

// Installed returns the current revision of each instance that is installed, sorted by
// instance.
func (h *Home) Installed() ([]*Revision, error) {
	names, err := h.Instances()
	if err != nil {
		return nil, err
	}
	var list []*Revision
	for _, name := range names {
		s, err := h.load(name)
		if err != nil {
			return nil, err
		}
		if r := s.current(); r != nil {
			list = append(list, r)
		}
	}
	return list, nil
}

// Pin says that an instance needs a release.
type Pin struct {
	Instance string `json:"instance"`
	// Revision is the newest of the instance's that has the release.
	Revision int `json:"revision"`
	// Current says that the instance runs it.
	Current bool `json:"current,omitempty"`
}

// Pinned returns the releases that instances need, by root: what each of them runs, and
// the keep releases before that it can go back to. A change that failed or was
// interrupted last counts too, for the same command finishes it.
func (h *Home) Pinned(keep int) (map[digest.Digest][]Pin, error) {
	names, err := h.Instances()
	if err != nil {
		return nil, err
	}
	pins := map[digest.Digest][]Pin{}
	for _, name := range names {
		s, err := h.load(name)
		if err != nil {
			return nil, err
		}
		current := s.current()
		if current == nil && s.interrupted() == 0 {
			continue // uninstalled, and installed anew from what is brought
		}
		seen := map[digest.Digest]bool{}
		for _, r := range slices.Backward(s.revisions) {
			returns := r.Result == ResultSucceeded && r.Action != ActionUninstall
			newest := r == s.newest() && r.Result != ResultSucceeded
			if seen[r.Root] || !returns && !newest || len(seen) > keep && r != current {
				continue
			}
			seen[r.Root] = true
			pins[r.Root] = append(pins[r.Root], Pin{name, r.Number, current != nil && r.Root == current.Root})
		}
	}
	return pins, nil
}

// Held is a release in the library.
type Held struct {
	ID      string        `json:"id"`
	Version string        `json:"version"`
	Root    digest.Digest `json:"digest"`
}

// Prune has remove take releases out of the library, on record; their evidence goes
// with them. That they were accepted stays remembered. It fails as remove does, and as
// [Home.Record].
func (h *Home) Prune(ctx context.Context, list []Held, remove func(ctx context.Context) error) error {
	entry := func(r Held, result string) audit.Entry {
		return audit.Entry{Event: eventPrune, Result: result, ID: r.ID, Version: r.Version, Root: r.Root}
	}
	for _, r := range list {
		if _, err := h.Record(ctx, entry(r, "begun")); err != nil {
			return err
		}
	}
	failed := remove(ctx)
	result, reason := outcome(ctx, failed)
	var errs error
	for _, r := range list {
		e := entry(r, result)
		e.Reason = reason
		_, err := h.Record(context.WithoutCancel(ctx), e)
		if failed == nil {
			err = errors.Join(err, h.dropEvidence(r.Root))
		}
		errs = errors.Join(errs, err)
	}
	return errors.Join(failed, errs)
}

// outcome is what the log says of how something ended.
func outcome(ctx context.Context, err error) (result, reason string) {
	switch {
	case err == nil:
		return "succeeded", ""
	case ctx.Err() != nil:
		return "interrupted", ""
	case errors.As(err, new(*IncompleteError)):
		return "incomplete", err.Error()
	}
	return "failed", err.Error()
}
