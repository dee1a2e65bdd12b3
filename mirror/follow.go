package mirror

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealift/sealift/artifact"
)

const maxDifferences = 20 // told of, there may be more

// MovedError reports that a plan cannot be carried out as it was written down.
type MovedError struct {
	// Source and Destination say what is different there, in sentences; together
	// they hold at least one.
	Source, Destination []string
}

// ErrMoved is matched by [MovedError].
var ErrMoved = errors.New("not as planned any more")

// Error lists what is different.
func (e *MovedError) Error() string {
	all := slices.Concat(e.Source, e.Destination)
	text := strings.Join(all[:min(len(all), maxDifferences)], "; ")
	if more := len(all) - maxDifferences; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Is reports whether target is [ErrMoved].
func (e *MovedError) Is(target error) bool { return target == ErrMoved }

// Follow fails with a [MovedError] unless carrying out p does what d says: the same
// roots with the same content, sizes, parts and bases, the same left, and nothing
// copied or left that was not to be. Referrers that are new or gone are said once of
// each root. That the destination has by now what was to be
// copied or left is no difference. Where a root is another one, that is all that is
// said of it.
func (p *Plan) Follow(d Document) error {
	e := &MovedError{}
	now := p.Document(nil)
	moved := e.compareRoots(d.Roots, now.Roots)
	was := make(map[string]DocumentStep, len(d.Content))
	for _, s := range d.Content {
		was[s.identity()] = s
	}
	referrers := map[string]bool{} // names of roots whose referrers are others
	for _, s := range now.Content {
		before, ok := was[s.identity()]
		delete(was, s.identity())
		switch {
		case moved[s.Root], ok && moved[before.Root]:
		case !ok && s.Part == LabelReferrers:
			e.referrers(referrers, s.Root)
		case !ok:
			e.Source = append(e.Source, fmt.Sprintf("%s of %s is new at the source", s.Digest, s.Root))
		default:
			e.compareSteps(before, s)
		}
	}
	for _, s := range d.Content {
		switch _, gone := was[s.identity()]; {
		case !gone || moved[s.Root]:
		case s.Part == LabelReferrers:
			e.referrers(referrers, s.Root)
		default:
			e.Source = append(e.Source, fmt.Sprintf("%s of %s is no longer at the source", s.Digest, s.Root))
		}
	}
	if len(moved) == 0 && !slices.Equal(d.Left, now.Left) {
		e.Source = append(e.Source, fmt.Sprintf("%d manifests are left for other platforms, and the plan has %d others or in another order", len(now.Left), len(d.Left)))
	}
	if len(e.Source)+len(e.Destination) == 0 {
		return nil
	}
	return e
}

// referrers says once of a root that its referrers are others: what is new or gone of
// them has digests that tell people nothing.
func (e *MovedError) referrers(said map[string]bool, root string) {
	if !said[root] {
		said[root] = true
		e.Source = append(e.Source, fmt.Sprintf("the signatures or other referrers of %s have changed", root))
	}
}

// compareRoots returns the names of the roots of which nothing more is to be said.
func (e *MovedError) compareRoots(was, now []DocumentRoot) (moved map[string]bool) {
	moved = map[string]bool{}
	for i := range max(len(was), len(now)) {
		switch {
		case i >= len(now):
			moved[was[i].Name] = true
			e.Source = append(e.Source, was[i].Name+" is no longer asked for")
		case i >= len(was):
			moved[now[i].Name] = true
			e.Source = append(e.Source, now[i].Name+" is not in the plan")
		case was[i].Name != now[i].Name:
			moved[was[i].Name], moved[now[i].Name] = true, true
			e.Source = append(e.Source, fmt.Sprintf("%s stands in the place of %s", now[i].Name, was[i].Name))
		case was[i].Digest != now[i].Digest:
			moved[now[i].Name] = true
			e.Source = append(e.Source, fmt.Sprintf("%s is %s now, the plan has %s", now[i].Name, now[i].Digest, was[i].Digest))
		case !slices.Equal(was[i].Platforms, now[i].Platforms):
			moved[now[i].Name] = true
			e.Source = append(e.Source, fmt.Sprintf("%s is wanted for %v, the plan has %v", now[i].Name, now[i].Platforms, was[i].Platforms))
		case !slices.Equal(was[i].Base, now[i].Base):
			e.Destination = append(e.Destination, fmt.Sprintf("%s builds on %d roots, and the plan has %d others or in another order", now[i].Name, len(now[i].Base), len(was[i].Base)))
		}
	}
	return moved
}

// compareSteps compares what is to become of one piece of content.
func (e *MovedError) compareSteps(was, now DocumentStep) {
	switch {
	case was.Size != now.Size:
		e.Source = append(e.Source, fmt.Sprintf("%s has %d bytes, the plan has %d", now.Digest, now.Size, was.Size))
	case was.Root != now.Root || was.Part != now.Part:
		e.Source = append(e.Source, fmt.Sprintf("%s belongs to %s %s, in the plan to %s %s", now.Digest, now.Root, now.Part, was.Root, was.Part))
	case copies(now.Action) && !copies(was.Action):
		e.Destination = append(e.Destination, was.lost())
	case now.Action == ActionLeave && (was.Action != ActionLeave || was.Reason != now.Reason):
		e.Destination = append(e.Destination, fmt.Sprintf("%s of %s is left to %s, the plan has %s %s", now.Digest, now.Root, now.Reason, was.Action, was.Reason))
	}
}

// lost says that content that was not to be copied would be now.
func (s DocumentStep) lost() string {
	if s.Action == ActionLeave {
		return fmt.Sprintf("%s of %s is no longer in the base", s.Digest, s.Root)
	}
	return fmt.Sprintf("the destination no longer has %s of %s", s.Digest, s.Root)
}

func (s DocumentStep) identity() string {
	kind := "blob"
	if artifact.IsManifest(s.MediaType) {
		kind = s.MediaType
	}
	return kind + " " + string(s.Digest)
}

func copies(action string) bool { return action == ActionCopy || action == ActionReplace }
