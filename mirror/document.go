package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

const (
	documentVersion  = "sealift/v1"
	documentKind     = "Plan"
	maxDocumentBytes = 256 << 20
	maxDifferences   = 20 // told of, there may be more
)

// Actions of a [DocumentStep].
const (
	ActionCopy    = "copy"    // the destination lacks it
	ActionReplace = "replace" // the destination has it damaged
	ActionKeep    = "keep"    // the destination has it
	ActionLeave   = "leave"   // a delta leaves it, the reason is given
)

// Document is a plan as people review it and as it is carried out later.
type Document struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Request is what the program was asked for, in its own words.
	Request json.RawMessage `json:"request"`
	// Bytes and CopyBytes are sums over Content.
	Bytes     int64          `json:"bytes"`
	CopyBytes int64          `json:"copyBytes"`
	Roots     []DocumentRoot `json:"roots"`
	// Content is sorted by root, part and digest.
	Content []DocumentStep `json:"content"`
	// Left are manifests for other platforms.
	Left []DocumentLeft `json:"left,omitempty"`
}

// DocumentRoot is a root of a plan.
type DocumentRoot struct {
	Name      string         `json:"name"`
	Digest    digest.Digest  `json:"digest"`
	Platforms []string       `json:"platforms,omitempty"`
	Base      []DocumentBase `json:"base,omitempty"`
}

// DocumentBase is a root that a delta builds on.
type DocumentBase struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}

// DocumentStep is one piece of content.
type DocumentStep struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType,omitempty"`
	Size      int64         `json:"size"`
	// Root and Part say what it belongs to first, see [Part].
	Root   string `json:"root"`
	Part   string `json:"part,omitempty"`
	Action string `json:"action"`
	Reason string `json:"reason,omitempty"`
}

// DocumentLeft is a manifest for a platform that is not carried.
type DocumentLeft struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform,omitempty"`
}

// Document writes the plan down. request is kept as it is, nil for none.
func (p *Plan) Document(request json.RawMessage) Document {
	sum := p.Summary()
	if request == nil {
		request = json.RawMessage("null")
	}
	d := Document{APIVersion: documentVersion, Kind: documentKind, Request: request,
		Bytes: sum.All.Bytes, CopyBytes: sum.Copied.Bytes, Roots: []DocumentRoot{}, Content: []DocumentStep{}}
	for _, r := range p.Roots {
		root := DocumentRoot{Name: r.Name, Digest: r.Descriptor.Digest}
		for _, platform := range r.Platforms {
			root.Platforms = append(root.Platforms, FormatPlatform(platform))
		}
		for _, b := range r.Base {
			root.Base = append(root.Base, DocumentBase(b))
		}
		d.Roots = append(d.Roots, root)
	}
	for s := range p.steps() {
		part := p.Parts[s.Part]
		action := s.action()
		d.Content = append(d.Content, DocumentStep{Digest: s.Descriptor.Digest, MediaType: s.Descriptor.MediaType, Size: s.Descriptor.Size,
			Root: p.Roots[part.Root].Name, Part: part.Label, Action: action, Reason: s.Left})
	}
	for _, l := range p.LeftPlatforms() {
		left := DocumentLeft{Digest: l.Digest}
		if l.Platform != nil {
			left.Platform = FormatPlatform(*l.Platform)
		}
		d.Left = append(d.Left, left)
	}
	d.sort()
	return d
}

func (s *Step) action() string {
	switch {
	case s.Stored:
		return ActionKeep
	case s.Left != "":
		return ActionLeave
	case s.Damaged:
		return ActionReplace
	}
	return ActionCopy
}

func (d *Document) sort() {
	slices.SortStableFunc(d.Content, func(a, b DocumentStep) int {
		return strings.Compare(a.key(), b.key())
	})
}

func (s DocumentStep) key() string {
	return strings.Join([]string{s.Root, s.Part, string(s.Digest), s.MediaType}, "\x00")
}

// ParseDocument parses and checks a plan that was written down. Errors:
// errdef.ErrUnsupportedVersion for one of a later format,
// errdef.ErrSizeExceedsLimit.
func ParseDocument(raw []byte) (Document, error) {
	var d Document
	if len(raw) > maxDocumentBytes {
		return d, fmt.Errorf("plan of %d bytes: %w", len(raw), errdef.ErrSizeExceedsLimit)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return Document{}, fmt.Errorf("parse plan: %w", err)
	}
	if d.APIVersion != documentVersion || d.Kind != documentKind {
		return Document{}, fmt.Errorf("plan of apiVersion %q, kind %q: %w", d.APIVersion, d.Kind, errdef.ErrUnsupportedVersion)
	}
	if err := d.check(); err != nil {
		return Document{}, fmt.Errorf("plan: %w", err)
	}
	return d, nil
}

func (d *Document) check() error {
	for _, r := range d.Roots {
		if err := r.Digest.Validate(); err != nil {
			return fmt.Errorf("root %q: digest %q: %w", r.Name, r.Digest, err)
		}
	}
	actions := []string{ActionCopy, ActionReplace, ActionKeep, ActionLeave}
	for _, s := range d.Content {
		if err := s.Digest.Validate(); err != nil {
			return fmt.Errorf("content with digest %q: %w", s.Digest, err)
		}
		if s.Size < 0 || !slices.Contains(actions, s.Action) {
			return fmt.Errorf("content %s has size %d and action %q", s.Digest, s.Size, s.Action)
		}
	}
	return nil
}

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
// roots with the same content, and nothing copied that was not to be. That the
// destination has by now what was to be copied is no difference.
func (p *Plan) Follow(d Document) error {
	e := &MovedError{}
	now := p.Document(nil)
	e.compareRoots(d.Roots, now.Roots)
	was := map[string]DocumentStep{}
	for _, s := range d.Content {
		was[s.identity()] = s
	}
	for _, s := range now.Content {
		before, ok := was[s.identity()]
		delete(was, s.identity())
		if !ok {
			e.Source = append(e.Source, fmt.Sprintf("%s of %s is new at the source", s.Digest, s.Root))
		} else if copies(s.Action) && !copies(before.Action) {
			e.Destination = append(e.Destination, before.lost())
		}
	}
	for _, s := range d.Content {
		if _, gone := was[s.identity()]; gone {
			e.Source = append(e.Source, fmt.Sprintf("%s of %s is no longer at the source", s.Digest, s.Root))
		}
	}
	if len(e.Source)+len(e.Destination) == 0 {
		return nil
	}
	return e
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

func (e *MovedError) compareRoots(was, now []DocumentRoot) {
	for i := range max(len(was), len(now)) {
		switch {
		case i >= len(now):
			e.Source = append(e.Source, was[i].Name+" is no longer asked for")
		case i >= len(was):
			e.Source = append(e.Source, now[i].Name+" is not in the plan")
		case was[i].Name != now[i].Name:
			e.Source = append(e.Source, fmt.Sprintf("%s stands in the place of %s", now[i].Name, was[i].Name))
		case was[i].Digest != now[i].Digest:
			e.Source = append(e.Source, fmt.Sprintf("%s is %s now, the plan has %s", now[i].Name, now[i].Digest, was[i].Digest))
		case !slices.Equal(was[i].Platforms, now[i].Platforms):
			e.Source = append(e.Source, fmt.Sprintf("%s is wanted for %v, the plan has %v", now[i].Name, now[i].Platforms, was[i].Platforms))
		}
	}
}
