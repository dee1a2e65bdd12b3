package mirror

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/errdef"
)

const (
	documentVersion  = "sealift/v1"
	documentKind     = "Plan"
	maxDocumentBytes = 256 << 20
	maxElementBytes  = 16 << 20
	maxElements      = maxManifests + maxBlobs // of each list
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
	Name      string        `json:"name"`
	Digest    digest.Digest `json:"digest"`
	Platforms []string      `json:"platforms,omitempty"`
	Base      []Base        `json:"base,omitempty"`
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
	if request == nil {
		request = json.RawMessage("null")
	}
	d := Document{APIVersion: documentVersion, Kind: documentKind, Request: request, Roots: []DocumentRoot{}, Content: []DocumentStep{}}
	for _, r := range p.Roots {
		root := DocumentRoot{Name: r.Name, Digest: r.Descriptor.Digest, Base: slices.Clone(r.Base)}
		for _, platform := range r.Platforms {
			root.Platforms = append(root.Platforms, FormatPlatform(platform))
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
	d.Bytes, d.CopyBytes = d.sums()
	return d
}

// sums returns what Bytes and CopyBytes are to be.
func (d *Document) sums() (all, copied int64) {
	for _, s := range d.Content {
		all += s.Size
		if copies(s.Action) {
			copied += s.Size
		}
	}
	return all, copied
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

// ParseDocument parses and checks a plan that was written down. Keys are those of the
// document in exactly its letters, each once: what a reviewer's program shows and what
// is carried out must not differ. Lists end at the first element that is wrong. Errors:
// errdef.ErrUnsupportedVersion for one of a later format,
// errdef.ErrSizeExceedsLimit.
func ParseDocument(raw []byte) (Document, error) {
	var d Document
	if len(raw) > maxDocumentBytes {
		return d, fmt.Errorf("plan of %d bytes: %w", len(raw), errdef.ErrSizeExceedsLimit)
	}
	if err := d.decode(json.NewDecoder(bytes.NewReader(raw))); err != nil {
		return Document{}, fmt.Errorf("parse plan: %w", err)
	}
	if err := d.check(); err != nil {
		return Document{}, fmt.Errorf("plan: %w", err)
	}
	return d, nil
}

func (d *Document) decode(dec *json.Decoder) error {
	if token, err := dec.Token(); err != nil {
		return err
	} else if token != json.Delim('{') {
		return fmt.Errorf("%v, want an object", token)
	}
	if err := eachKey(dec, func(key string) error { return d.decodeKey(dec, key) }); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more behind it")
	}
	return nil
}

func (d *Document) decodeKey(dec *json.Decoder, key string) error {
	switch key {
	case "apiVersion":
		if err := decodeValue(dec, &d.APIVersion); err != nil {
			return err
		}
		return supported(key, d.APIVersion, documentVersion)
	case "kind":
		if err := decodeValue(dec, &d.Kind); err != nil {
			return err
		}
		return supported(key, d.Kind, documentKind)
	case "request":
		return decodeValue(dec, &d.Request)
	case "bytes":
		return decodeValue(dec, &d.Bytes)
	case "copyBytes":
		return decodeValue(dec, &d.CopyBytes)
	case "roots":
		return decodeList(dec, &d.Roots, DocumentRoot.check)
	case "content":
		return decodeList(dec, &d.Content, DocumentStep.check)
	case "left":
		return decodeList(dec, &d.Left, DocumentLeft.check)
	}
	return fmt.Errorf("unknown key %q", key)
}

// supported refuses another format as soon as it is seen: what follows may be anything.
func supported(key, got, want string) error {
	if got != want {
		return fmt.Errorf("%s is %q, want %q: %w", key, got, want, errdef.ErrUnsupportedVersion)
	}
	return nil
}

func decodeValue[T any](dec *json.Decoder, v *T) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return err
	}
	return DecodeStrict(raw, v)
}

// decodeList decodes and checks one element after the other.
func decodeList[T any](dec *json.Decoder, list *[]T, check func(T) error) error {
	if token, err := dec.Token(); err != nil || token == nil {
		return err
	} else if token != json.Delim('[') {
		return fmt.Errorf("%v, want a list", token)
	}
	*list = []T{}
	var raw json.RawMessage
	return eachElement(dec, func() error {
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if len(*list) == maxElements || len(raw) > maxElementBytes {
			return fmt.Errorf("a list of more than %d, or more than %d MiB in one: %w", maxElements, maxElementBytes>>20, errdef.ErrSizeExceedsLimit)
		}
		var element T
		if err := DecodeStrict(raw, &element); err != nil {
			return err
		}
		*list = append(*list, element)
		return check(element)
	})
}

func (r DocumentRoot) check() error {
	if err := r.Digest.Validate(); err != nil {
		return fmt.Errorf("root %q: digest %q: %w", r.Name, r.Digest, err)
	}
	for _, b := range r.Base {
		if err := b.Digest.Validate(); err != nil {
			return fmt.Errorf("base %q: digest %q: %w", b.Name, b.Digest, err)
		}
	}
	return nil
}

func (s DocumentStep) check() error {
	if err := s.Digest.Validate(); err != nil {
		return fmt.Errorf("content with digest %q: %w", s.Digest, err)
	}
	actions := []string{ActionCopy, ActionReplace, ActionKeep, ActionLeave}
	if s.Size < 0 || s.Size > maxBlobBytes || !slices.Contains(actions, s.Action) {
		return fmt.Errorf("content %s has size %d and action %q", s.Digest, s.Size, s.Action)
	}
	return nil
}

func (l DocumentLeft) check() error {
	if err := l.Digest.Validate(); err != nil {
		return fmt.Errorf("left: digest %q: %w", l.Digest, err)
	}
	return nil
}

// check looks at what elements are together.
func (d *Document) check() error {
	if err := cmp.Or(supported("apiVersion", d.APIVersion, documentVersion), supported("kind", d.Kind, documentKind)); err != nil {
		return err
	}
	seen := make(map[string]bool, len(d.Content))
	left := int64(maxBlobBytes + maxManifestBytes)
	for _, s := range d.Content {
		if seen[s.identity()] {
			return fmt.Errorf("content %s stands twice", s.Digest)
		}
		seen[s.identity()] = true
		if left -= s.Size; left < 0 {
			return fmt.Errorf("content of more than 1 EiB: %w", errdef.ErrSizeExceedsLimit)
		}
	}
	if all, copied := d.sums(); d.Bytes != all || d.CopyBytes != copied {
		return fmt.Errorf("bytes %d and copyBytes %d, and the content has %d and %d", d.Bytes, d.CopyBytes, all, copied)
	}
	return nil
}
