package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// mediaState is what is to be said of a directory itself, beside what it holds.
type mediaState struct {
	Directory string `json:"directory"`
	// Index is a layout.IndexState, "" for one that is sound.
	Index layout.IndexState `json:"index,omitempty"`
	// Label says why sealift/media.json cannot be read.
	Label string `json:"label,omitempty"`
}

// mediaStates looks at the directories that list was found in. Of those about which
// there is nothing to say nothing is returned.
func mediaStates(list []delivery.Found) (states []mediaState) {
	at := func(dir string) *mediaState {
		dir = directory(dir)
		i := slices.IndexFunc(states, func(s mediaState) bool { return s.Directory == dir })
		if i < 0 {
			i, states = len(states), append(states, mediaState{Directory: dir})
		}
		return &states[i]
	}
	if len(list) == 0 || list[0].Media == nil {
		return nil
	}
	media := list[0].Media
	for _, s := range media.Standings() {
		at(s.Dir).Index = s.State
	}
	for _, e := range labelErrors(media) {
		at(e.Dir).Label = e.Err.Error()
	}
	return states
}

// labelErrors returns the labels of media that cannot be read.
func labelErrors(media *layout.Layout) (list []*layout.LabelError) {
	_, err := media.Labels()
	for _, err := range parts(err) {
		var e *layout.LabelError
		if errors.As(err, &e) {
			list = append(list, e)
		}
	}
	return list
}

// text writes a line for each remark; torn is what to say of an index.json that is
// torn, "" where that was said before.
func (m mediaState) text(w io.Writer, torn string) {
	for _, line := range m.lines(torn) {
		fmt.Fprintln(w, line)
	}
}

func (m mediaState) lines(torn string) (lines []string) {
	dir := ui.Value(m.Directory)
	switch {
	case m.Index == layout.IndexTorn && torn != "":
		lines = append(lines, "index.json of "+dir+" is DAMAGED: other programs cannot read it; "+torn)
	case m.Index == layout.IndexBehind:
		lines = append(lines, "remark: index.json of "+dir+" is the one before the last change, which was cut off; other programs read that. The next change completes it")
	case m.Index == layout.IndexChanged:
		lines = append(lines, "remark: index.json of "+dir+" was changed by another program since sealift last wrote it; what it says now counts")
	}
	if m.Label != "" {
		lines = append(lines, "remark: sealift/media.json of "+dir+" cannot be read, so that nothing says what is absent for a reason: "+ui.Line(m.Label))
	}
	return lines
}

// warnMedia tells the remarks where there is no result to show them in.
func (a *app) warnMedia(states []mediaState) {
	for _, m := range states {
		m.Label = "" // is part of the error where it matters
		for _, line := range m.lines("") {
			a.out.Warn("%s", strings.TrimPrefix(line, "remark: "))
		}
	}
}

// torn says how an index.json comes back.
func torn(dir string) string {
	return fmt.Sprintf("sealift verify %s --repair SRC writes it again, as every sealift mirror onto it does", dir)
}

// mediaErrors adds to err, which may be nil, what is wrong with the directories
// themselves.
func mediaErrors(list []delivery.Found, err error) error {
	if len(list) == 0 || list[0].Media == nil {
		return err
	}
	media, before := list[0].Media, err
	for _, s := range media.Standings() {
		if s.State != layout.IndexTorn {
			continue
		}
		e := error(&damageError{&layout.TornIndexError{Dir: s.Dir},
			[]ui.Damage{{Was: mirror.Corrupt, Of: ocispec.ImageIndexFile, At: []string{filepath.Join(s.Dir, ocispec.ImageIndexFile)}}}})
		if before == nil {
			e = withHint(e, "all else is sound; %s", torn(directory(s.Dir)))
		}
		err = errors.Join(err, e)
	}
	unread := labelErrors(media)
	if len(unread) == 0 || before == nil {
		return err
	}
	missing, other := missingOnly(before)
	if !missing {
		return err
	}
	return unexplained(err, unread, !other)
}

// unexplained adds to err, which is about content that is missing, that labels cannot be
// read which may say why; alone says that nothing else is wrong.
func unexplained(err error, unread []*layout.LabelError, alone bool) error {
	var dirs []string
	for _, e := range unread {
		dirs = append(dirs, e.Dir)
		err = errors.Join(err, fmt.Errorf("%w; what is absent for a reason cannot be told from damage", e))
	}
	if !alone {
		return err
	}
	return withHint(err, "have media.json written again, by the sealift mirror that made %s (a volume: into an empty directory); or add what has the rest: sealift verify %s DIR",
		directories(dirs), directories(dirs))
}

// missingOnly reports whether content is missing, and whether anything else is wrong.
func missingOnly(err error) (missing, other bool) {
	for _, d := range ui.DamageOf(err) {
		missing, other = missing || d.Was == mirror.Missing, other || d.Was != mirror.Missing
	}
	for _, refused := range []error{signer.ErrUnsigned, signer.ErrNotAccepted, signer.ErrInvalid, delivery.ErrMisnamed} {
		other = other || errors.Is(err, refused)
	}
	return missing, other
}

// wholeMedia returns what of index.json itself is damaged, when list is all that the
// media holds: listed manifests that are gone, as a walk never finds a signature that
// is; and, where all else is sound, damaged ones that no artifact of list reaches.
// Those that are named are known.
func wholeMedia(ctx context.Context, ref string, list []delivery.Found, named map[digest.Digest]bool) error {
	loc, err := location(ref)
	if err != nil || loc.Place != artifact.PlaceMedia || loc.Repository != "" || loc.Reference() != "" || len(list) == 0 {
		return nil //nolint:nilerr // a bad reference was reported before
	}
	media := list[0].Media
	damage := new(mirror.DamageError)
	err = mirror.MissingListed(ctx, media, media.Entries())
	switch {
	case errors.As(err, &damage):
		damage.Missing = slices.DeleteFunc(damage.Missing, func(d ocispec.Descriptor) bool { return named[d.Digest] })
	case err != nil:
		return fmt.Errorf("index.json of %s: %w", media.Dir(), err)
	case len(named) == 0:
		damage.Corrupt, damage.Unreadable, err = listedDamage(media, media.Damage(ctx))
		if err != nil {
			return err
		}
	}
	e := &damageError{err: fmt.Errorf("index.json of %s: %w", media.Dir(), damage)}
	for was, list := range map[string][]ocispec.Descriptor{mirror.Corrupt: damage.Corrupt, mirror.Unreadable: damage.Unreadable, mirror.Missing: damage.Missing} {
		for _, d := range list {
			e.pieces = append(e.pieces, ui.Damage{Digest: d.Digest.String(), Size: d.Size, Was: was, Of: "what index.json leads to"})
		}
	}
	if len(e.pieces) == 0 {
		return nil
	}
	e.sort()
	return e
}

// listedDamage sorts out what [layout.Layout.Damage] returned; rest is what is no
// damage to a manifest.
func listedDamage(media *layout.Layout, err error) (corrupt, unreadable []ocispec.Descriptor, rest error) {
	sizes := map[digest.Digest]int64{}
	for _, e := range media.Entries() {
		sizes[e.Digest] = e.Size
	}
	for _, err := range parts(err) {
		var e *layout.ManifestError
		if !errors.As(err, &e) {
			rest = errors.Join(rest, err)
			continue
		}
		d := ocispec.Descriptor{Digest: e.Digest, Size: sizes[e.Digest]}
		if artifact.IsUnreadable(e) {
			unreadable = append(unreadable, d)
		} else {
			corrupt = append(corrupt, d)
		}
	}
	return corrupt, unreadable, rest
}

// parts returns what [errors.Join] has joined.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// lostIndex says what is left to do when nothing tells what media held.
func lostIndex(err error, refs []string) error {
	if !errors.Is(err, layout.ErrCorruptIndex) {
		return err
	}
	var lost, rest []string
	for _, ref := range refs {
		loc, locErr := location(ref)
		if locErr != nil {
			continue
		}
		if _, openErr := delivery.OpenMedia(loc.Path); errors.Is(openErr, layout.ErrCorruptIndex) {
			lost = append(lost, directory(loc.Path))
		} else if openErr == nil {
			rest = append(rest, directory(loc.Path))
		}
	}
	advice := fmt.Sprintf("nothing says any more what %s held; mirror it again, into an empty directory", strings.Join(lost, " "))
	if len(rest) > 0 {
		advice += "; the rest can be checked without it: sealift verify " + strings.Join(rest, " ")
	}
	return withHint(err, "%s", advice)
}
