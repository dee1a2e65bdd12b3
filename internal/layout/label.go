package layout

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// labelName is what media says of itself beyond index.json.
const labelName = privateDir + "/media.json"

const (
	labelVersion  = "sealift/v1"
	labelKind     = "Media"
	maxLabelBytes = 64 << 20
	maxVolumes    = 10_000

	maxLabelPlatforms = 100   // of a root, as in an inventory
	maxLabelBase      = 1_000 // of a root
	maxBaseNameBytes  = 512
)

// MaxLabelRoots is how many roots a label tells of.
const MaxLabelRoots = 100_000

// labelPlatformRegexp is the grammar of platforms; the label is shown to people.
var labelPlatformRegexp = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$`)

// Label is what media says of itself: why something that its index leads to is
// not there. It stands in sealift/media.json, is written by whoever wrote the
// media, and is advice for people: nothing is trusted or used because of it. The
// zero value is that of media without one.
type Label struct {
	// Tool is the program that wrote it last, as "sealift 1.0.0".
	Tool string
	// Roots are sorted by name and digest.
	Roots []LabelRoot
	// Left are the blobs that deltas have left and that are not here, sorted: nothing
	// else is excused by a base.
	Left []digest.Digest
	// Set is nil unless the media is a volume of a set.
	Set *LabelSet
}

// LabelRoot says how much of a root is carried.
type LabelRoot struct {
	// Name is the full reference, HOST/REPO:TAG.
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
	// Platforms are those carried, as linux/amd64, sorted; none means all.
	Platforms []string `json:"platforms,omitempty"`
	// Base are the roots that hold what a delta left, sorted by digest.
	Base []LabelBase `json:"base,omitempty"`
}

// LabelBase is a root that a delta builds on.
type LabelBase struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
}

// LabelSet is the volume set that media belongs to.
type LabelSet struct {
	// ID is the same on all volumes of a set.
	ID string `json:"id"`
	// Volume counts from 1.
	Volume int `json:"volume"`
	// Capacity is in bytes, FileBytes the largest file, 0 for no bound.
	Capacity  int64 `json:"capacity"`
	FileBytes int64 `json:"fileBytes,omitempty"`
	// Volumes list, for each volume, the blobs that are there and not on every
	// volume, sorted.
	Volumes [][]digest.Digest `json:"volumes"`
	// Segments say where blobs are that no volume holds whole.
	Segments map[digest.Digest]LabelSegments `json:"segments,omitempty"`

	on map[digest.Digest][]int // by blob, of a set that was parsed
}

// LabelSegments are the segments of one blob.
type LabelSegments struct {
	// Bytes is the size of every segment but the last.
	Bytes int64 `json:"bytes"`
	// Volumes holds, for each segment, the number of its volume.
	Volumes []int `json:"volumes"`
	// Digests holds those of the segments on this volume, by their numbers, and ""
	// for the rest. It is empty on media that does not say.
	Digests []digest.Digest `json:"digests,omitempty"`
}

func (s LabelSegments) check(volumes int) error {
	if s.Bytes <= 0 || len(s.Volumes) > maxSegments || slices.ContainsFunc(s.Volumes, func(n int) bool { return n < 1 || n > volumes }) {
		return errors.New("on volumes that are not there")
	}
	if len(s.Digests) > 0 && len(s.Digests) != len(s.Volumes) {
		return fmt.Errorf("%d digests of %d segments", len(s.Digests), len(s.Volumes))
	}
	for _, d := range s.Digests {
		if d == "" {
			continue
		}
		if err := checkDigest(d); err != nil {
			return err
		}
	}
	return nil
}

// LabelPiece is a segment that is said to be on a volume.
type LabelPiece struct {
	Segment int // counted from 0
	Bytes   int64
	Digest  digest.Digest // "" when the label does not state it
}

// Pieces returns the segments of a blob that the volume with this label has, in
// order, and none where what is said of them cannot be.
func (s *LabelSet) Pieces(desc ocispec.Descriptor) (list []LabelPiece) {
	if s == nil {
		return nil
	}
	segments, ok := s.Segments[desc.Digest]
	if !ok {
		return nil
	}
	if n, err := segmentCount(desc.Size, segments.Bytes); err != nil || n != len(segments.Volumes) {
		return nil
	}
	for n, volume := range segments.Volumes {
		if volume != s.Volume {
			continue
		}
		p := LabelPiece{Segment: n, Bytes: segmentSize(desc.Size, segments.Bytes, n)}
		if len(segments.Digests) > 0 {
			p.Digest = segments.Digests[n]
		}
		list = append(list, p)
	}
	return list
}

// Root returns what the label says of a root, and false when it says nothing of it
// or speaks of another digest under its name. Roots have to be sorted, as those of a
// label that was read are.
func (l Label) Root(name string, d digest.Digest) (LabelRoot, bool) {
	i, found := slices.BinarySearchFunc(l.Roots, LabelRoot{Name: name, Digest: d}, compareRoots)
	if !found {
		return LabelRoot{}, false
	}
	return l.Roots[i], true
}

func compareRoots(a, b LabelRoot) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Digest, b.Digest))
}

// On returns the numbers of the volumes that hold d, none when the label does not
// say or when it is on every volume.
func (s *LabelSet) On(d digest.Digest) []int {
	if s == nil {
		return nil
	}
	if segments, ok := s.Segments[d]; ok {
		return slices.Compact(slices.Sorted(slices.Values(segments.Volumes)))
	}
	if s.on != nil {
		return slices.Clone(s.on[d])
	}
	var on []int
	for i, blobs := range s.Volumes {
		if _, found := slices.BinarySearch(blobs, d); found {
			on = append(on, i+1)
		}
	}
	return on
}

// sortOut makes On fast, which is asked of every blob.
func (s *LabelSet) sortOut() {
	if s == nil {
		return
	}
	s.on = map[digest.Digest][]int{}
	for i, blobs := range s.Volumes {
		for _, d := range slices.Compact(slices.Clone(blobs)) {
			s.on[d] = append(s.on[d], i+1)
		}
	}
}

// label is the document.
type label struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Tool       string          `json:"tool,omitempty"`
	Roots      labelList       `json:"roots"`
	Left       []digest.Digest `json:"left,omitempty"`
	Set        *LabelSet       `json:"set,omitempty"`
}

// labelList is the list of roots, checked as it is read.
type labelList []LabelRoot

// UnmarshalJSON implements json.Unmarshaler.
func (l *labelList) UnmarshalJSON(raw []byte) error {
	*l = nil
	err := decodeList(raw, MaxLabelRoots, func(r LabelRoot) error {
		*l = append(*l, r)
		return r.check()
	})
	if err != nil {
		return fmt.Errorf("roots%w", err)
	}
	return nil
}

// ParseLabel parses and checks a media.json. Errors: errdef.ErrUnsupportedVersion
// for one of a later format, errdef.ErrSizeExceedsLimit.
func ParseLabel(raw []byte) (Label, error) {
	if len(raw) > maxLabelBytes {
		return Label{}, fmt.Errorf("label of %d bytes: %w", len(raw), errdef.ErrSizeExceedsLimit)
	}
	if err := checkValues(raw, maxLabelValues); err != nil {
		return Label{}, fmt.Errorf("label of %w", err)
	}
	var doc label
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Label{}, fmt.Errorf("parse label: %w", err)
	}
	if doc.APIVersion != labelVersion || doc.Kind != labelKind {
		return Label{}, fmt.Errorf("label of apiVersion %q, kind %q: %w", doc.APIVersion, doc.Kind, errdef.ErrUnsupportedVersion)
	}
	l := Label{Tool: doc.Tool, Roots: doc.Roots, Left: doc.Left, Set: doc.Set}
	if err := errors.Join(l.checkLeft(), l.Set.check()); err != nil {
		return Label{}, err
	}
	l.sort()
	l.Set.sortOut()
	return l, nil
}

func (l Label) check() error {
	if len(l.Roots) > MaxLabelRoots {
		return fmt.Errorf("label of %d roots: %w", len(l.Roots), errdef.ErrSizeExceedsLimit)
	}
	for _, r := range l.Roots {
		if err := r.check(); err != nil {
			return err
		}
	}
	return errors.Join(l.checkLeft(), l.Set.check())
}

func (l Label) checkLeft() error {
	for _, d := range l.Left {
		if err := checkDigest(d); err != nil {
			return err
		}
	}
	return nil
}

// HasLeft reports whether a delta has left d.
func (l Label) HasLeft(d digest.Digest) bool {
	_, found := slices.BinarySearch(l.Left, d)
	return found
}

func (r LabelRoot) check() error {
	if _, _, ok := splitName(r.Name); !ok {
		return fmt.Errorf("root name %q is not HOST/REPOSITORY:TAG: %w", r.Name, errdef.ErrInvalidReference)
	}
	if err := checkDigest(r.Digest); err != nil {
		return err
	}
	if len(r.Platforms) > maxLabelPlatforms || len(r.Base) > maxLabelBase {
		return fmt.Errorf("root %s of %d platforms and a base of %d roots: %w", r.Name, len(r.Platforms), len(r.Base), errdef.ErrSizeExceedsLimit)
	}
	for _, p := range r.Platforms {
		if !labelPlatformRegexp.MatchString(p) {
			return fmt.Errorf("root %s has the platform %.100q", r.Name, p)
		}
	}
	for _, b := range r.Base {
		if len(b.Name) > maxBaseNameBytes || !utf8.ValidString(b.Name) || strings.ContainsFunc(b.Name, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return fmt.Errorf("root %s has a base named %.100q: %w", r.Name, b.Name, errdef.ErrInvalidReference)
		}
		if err := checkDigest(b.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (s *LabelSet) check() error {
	switch {
	case s == nil:
		return nil
	case s.ID == "" || len(s.ID) > 64:
		return fmt.Errorf("volume set with the id %q", s.ID)
	case len(s.Volumes) > maxVolumes:
		return fmt.Errorf("volume set of %d volumes: %w", len(s.Volumes), errdef.ErrSizeExceedsLimit)
	case s.Volume < 1 || s.Volume > len(s.Volumes):
		return fmt.Errorf("volume %d of %d", s.Volume, len(s.Volumes))
	case s.Capacity < 0 || s.FileBytes < 0:
		return fmt.Errorf("volumes of %d bytes", s.Capacity)
	}
	for _, blobs := range s.Volumes {
		for _, d := range blobs {
			if err := checkDigest(d); err != nil {
				return err
			}
		}
	}
	for d, segments := range s.Segments {
		if err := checkDigest(d); err != nil {
			return err
		}
		if err := segments.check(len(s.Volumes)); err != nil {
			return fmt.Errorf("segments of blob %s: %w", d, err)
		}
	}
	return nil
}

// sort makes the same label of the same facts.
func (l *Label) sort() {
	slices.SortStableFunc(l.Roots, compareRoots)
	for i := range l.Roots {
		slices.Sort(l.Roots[i].Platforms)
		slices.SortFunc(l.Roots[i].Base, func(a, b LabelBase) int { return cmp.Or(cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Name, b.Name)) })
	}
	slices.Sort(l.Left)
	if l.Set != nil {
		for _, blobs := range l.Set.Volumes {
			slices.Sort(blobs)
		}
	}
}

// Format is the inverse of [ParseLabel]. The same label makes the same bytes.
func (l Label) Format() ([]byte, error) {
	l.Roots = slices.Clone(l.Roots)
	if l.Roots == nil {
		l.Roots = []LabelRoot{}
	}
	l.sort()
	if err := l.check(); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(label{labelVersion, labelKind, l.Tool, l.Roots, l.Left, l.Set}); err != nil {
		return nil, err
	}
	if out.Len() > maxLabelBytes {
		return nil, fmt.Errorf("label of %d bytes: %w", out.Len(), errdef.ErrSizeExceedsLimit)
	}
	if err := checkValues(out.Bytes(), maxLabelValues); err != nil {
		return nil, fmt.Errorf("label of %w", err)
	}
	return out.Bytes(), nil
}

// Label reads what the media says of itself; media without a label has the zero
// one. Of several volumes read as one it is that of the first. It is read once, and
// belongs to all who ask: nobody may change it. Errors are those of [ParseLabel];
// who only wants to know why something is not there may go on without.
func (l *Layout) Label() (Label, error) { return l.label(0) }

// Labels reads the label of each of the volumes that are read as one, as
// [Layout.Label] does. One that cannot be read is the zero one among them; the error
// joins a [*LabelError] for each.
func (l *Layout) Labels() ([]Label, error) {
	labels := make([]Label, len(l.dirs))
	var failed []error
	for i := range l.dirs {
		var err error
		if labels[i], err = l.label(i); err != nil {
			failed = append(failed, err)
		}
	}
	return labels, errors.Join(failed...)
}

// LabelError says that the label of media cannot be read.
type LabelError struct {
	Dir string
	Err error
}

// Error names the file.
func (e *LabelError) Error() string { return fmt.Sprintf("%s of %s: %v", labelName, e.Dir, e.Err) }

// Unwrap returns Err.
func (e *LabelError) Unwrap() error { return e.Err }

func (l *Layout) label(volume int) (Label, error) {
	l.mu.Lock()
	if l.labels == nil {
		l.labels = make([]func() (Label, error), len(l.dirs))
	}
	if l.labels[volume] == nil {
		l.labels[volume] = sync.OnceValues(func() (Label, error) { return readLabel(l.dirs[volume]) })
	}
	read := l.labels[volume]
	l.mu.Unlock()
	return read()
}

func readLabel(dir string) (Label, error) {
	raw, err := readFileIn(dir, labelName, maxLabelBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Label{}, nil
	} else if err != nil {
		return Label{}, &LabelError{dir, err}
	}
	label, err := ParseLabel(raw)
	if err != nil {
		return Label{}, &LabelError{dir, err}
	}
	return label, nil
}

// known returns the roots that the index has, uncommitted ones too. What a label
// says of others says nothing.
func (w *Writer) known(roots []LabelRoot) []LabelRoot {
	full := w.current().full
	return slices.DeleteFunc(slices.Clone(roots), func(r LabelRoot) bool { return full[r.Name].Digest != r.Digest })
}

// forgetLabel makes the next who asks read the label again.
func (w *Writer) forgetLabel() {
	w.Layout.mu.Lock()
	defer w.Layout.mu.Unlock()
	w.Layout.labels = nil
}

// SetLabel writes the label durably, unless it stands there already. When it is too
// large, roots are left out that the index does not have.
func (w *Writer) SetLabel(ctx context.Context, label Label) error {
	raw, err := label.Format()
	if errors.Is(err, errdef.ErrSizeExceedsLimit) {
		label.Roots = w.known(label.Roots)
		raw, err = label.Format()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", labelName, err)
	}
	w.mu.Lock()
	w.written[labelName] = digest.FromBytes(raw)
	w.mu.Unlock()
	if have, err := w.ReadFile(labelName, maxLabelBytes); err == nil && bytes.Equal(have, raw) {
		return nil
	}
	return w.writeFile(ctx, labelName, 0o644, bytes.NewReader(raw))
}
