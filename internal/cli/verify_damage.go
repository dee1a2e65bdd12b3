package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// maxDamageShown is how many damaged pieces of one artifact people are told of;
// programs are told of all.
const maxDamageShown = 10

// damageError is the damage of one artifact with what each piece is there.
type damageError struct {
	err    error // names the artifact
	pieces []ui.Damage
}

// placeDamage adds to err, which is about damage of f, what the pieces belong to.
func placeDamage(ctx context.Context, f delivery.Found, damage *mirror.DamageError, err error) error {
	e := &damageError{err: err}
	at := map[digest.Digest][]string{}
	if f.Media != nil {
		for _, flaw := range f.Media.Flaws() {
			at[flaw.Blob.Digest] = append(at[flaw.Blob.Digest], flaw.Place())
		}
	}
	for was, list := range map[string][]ocispec.Descriptor{"corrupt": damage.Corrupt, "unreadable": damage.Unreadable, "missing": damage.Missing} {
		places := delivery.Places(ctx, f, list)
		for _, d := range list {
			e.pieces = append(e.pieces, ui.Damage{Artifact: f.Name, Digest: d.Digest.String(), Size: d.Size, Was: was, Of: placeText(places[d.Digest]), At: at[d.Digest]})
		}
	}
	e.sort()
	return e
}

func (e *damageError) sort() {
	slices.SortStableFunc(e.pieces, func(a, b ui.Damage) int { return cmp.Compare(a.Was, b.Was) })
}

// Error names the first pieces, each in a line.
func (e *damageError) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines returns the lines of Error.
func (e *damageError) Lines() []string {
	lines := []string{e.err.Error()}
	for _, p := range e.pieces[:min(len(e.pieces), maxDamageShown)] {
		if p.Digest == "" {
			continue // a file that err names
		}
		line := p.Was + ": " + p.Digest + ", " + ui.Bytes(p.Size)
		if p.Of != "" {
			line += ", " + p.Of
		}
		if len(p.At) > 0 {
			line += ": " + strings.Join(p.At[:min(len(p.At), maxDamageShown)], "; ")
		}
		lines = append(lines, line)
	}
	if more := len(e.pieces) - maxDamageShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return lines
}

// Unwrap returns the error without places.
func (e *damageError) Unwrap() error { return e.err }

// Damage returns every piece.
func (e *damageError) Damage() []ui.Damage { return e.pieces }

// damagedRoot is the error of an artifact whose root cannot be read.
func damagedRoot(f delivery.Found) error {
	d := f.Descriptor
	if d.Digest == "" {
		return f.Damage // a name that stands for several things
	}
	damage, was := &mirror.DamageError{}, mirror.Corrupt
	switch {
	case errors.Is(f.Damage, errdef.ErrNotFound):
		damage.Missing, was = []ocispec.Descriptor{d}, mirror.Missing
	case artifact.IsUnreadable(f.Damage):
		damage.Unreadable, was = []ocispec.Descriptor{d}, mirror.Unreadable
	case artifact.IsDamage(f.Damage):
		damage.Corrupt = []ocispec.Descriptor{d}
	default:
		return f.Damage
	}
	return &damageError{fmt.Errorf("%s: %w", f.Name, damage),
		[]ui.Damage{{Artifact: f.Name, Digest: d.Digest.String(), Size: d.Size, Was: was, Of: placeText(delivery.Place{Role: "root"})}}}
}

func placeText(p delivery.Place) string {
	text := p.Role
	switch p.Role {
	case "proof":
		text = "signature or attestation"
	case "root":
		text = "what names all the rest"
	}
	if p.Component != "" {
		text += " of " + ui.Value(p.Component)
	}
	if p.Platform != "" {
		text += " (" + ui.Value(p.Platform) + ")"
	}
	return text
}

// damagedCopy is a damaged file of content that another directory has sound.
type damagedCopy struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	// At says which file it is, for people; Directory is where.
	At        string `json:"at"`
	Directory string `json:"directory"`
}

// damagedCopies returns what was found damaged on media where all of list was sound
// in the end.
func damagedCopies(list []delivery.Found) (copies []damagedCopy) {
	seen := map[*layout.Layout]bool{nil: true}
	for _, f := range list {
		if seen[f.Media] {
			continue
		}
		seen[f.Media] = true
		for _, flaw := range f.Media.Flaws() {
			copies = append(copies, damagedCopy{flaw.Blob.Digest.String(), flaw.Blob.Size, flaw.Place(), flaw.Dir})
		}
	}
	return copies
}

// warnForks tells of signatures that are on media and do not count, since others of
// the same name do.
func (a *app) warnForks(ctx context.Context, list []delivery.Found) error {
	seen := map[*layout.Layout]bool{nil: true}
	for _, f := range list {
		if seen[f.Media] {
			continue
		}
		seen[f.Media] = true
		forks, err := f.Media.Forks(ctx)
		if err != nil {
			return err
		}
		for i, fork := range forks {
			if i == maxDamageShown {
				a.out.Warn("and %d more names like it", len(forks)-i)
				break
			}
			a.out.Warn("%v: %s counts, and what only %s has is passed over", fork.Conflict, fork.Chosen, fork.Left[0])
		}
	}
	return nil
}

// warnDamaged tells of damaged copies that others made up for.
func (a *app) warnDamaged(list []delivery.Found) {
	copies := damagedCopies(list)
	for i, c := range copies {
		if i == maxDamageShown {
			a.out.Warn("and %d more damaged copies", len(copies)-i)
			break
		}
		a.out.Warn("%s is damaged: %s; another sound copy was read", c.At, c.Digest)
	}
}
