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

// Import has carry bring releases into the library. Their evidence is kept before, and
// behind it they are remembered as accepted; begin and end of each are in the log. What
// was cut off is finished by the same again. It fails as carry does, and as
// [Home.Record].
func (h *Home) Import(ctx context.Context, list []Arrival, carry func(ctx context.Context) error) error {
	if err := makeDir(h.dir); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	for _, a := range list {
		r := a.Release
		if _, err := h.Record(ctx, a.entry("begun")); err != nil {
			return err
		}
		if err := h.keepEvidence(r.Root.Digest, a.Evidence); err != nil {
			return fmt.Errorf("keep the evidence of %s %s: %w", r.App.Template.ID, r.App.Template.Version, err)
		}
	}
	failed := carry(ctx)
	result, reason := outcome(ctx, failed)
	var unrecorded error
	for _, a := range list {
		e := a.entry(result)
		e.Reason = reason
		_, err := h.record(context.WithoutCancel(ctx), e, func(m *remembered) {
			if failed == nil {
				m.accept(e.ID, e.Version, e.Root)
			}
		})
		unrecorded = errors.Join(unrecorded, err)
	}
	return errors.Join(failed, unrecorded)
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
	}
	return "failed", err.Error()
}
