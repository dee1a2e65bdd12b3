package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// VolumeOptions say what one volume of a set holds. Only Bytes has to be given.
type VolumeOptions struct {
	// Bytes is the capacity of a volume as it is sold. A hundredth of it, and a
	// mebibyte, are left to the file system.
	Bytes int64
	// BlockBytes is what files are rounded up to; ≤ 0 means 4096.
	BlockBytes int64
	// FileBytes is the largest file; ≤ 0 means no bound but Bytes. A larger blob is
	// stored in segments.
	FileBytes int64
	// Entries is the most blobs in one directory; ≤ 0 means no bound.
	Entries int
	// NameBytes is the longest file name; ≤ 0 means no bound.
	NameBytes int
	// Extra is what else each volume will hold, in bytes.
	Extra int64
}

// The bytes of an entry of index.json and of one of media.json, with some room:
// both stand on every volume, the index up to four times while it is written.
const (
	indexEntryBytes = 4 * 700
	labelEntryBytes = 80
	labelBaseBytes  = 120 // and its name
	labelSplitBytes = 60  // of a blob in segments, besides those
	labelPieceBytes = 16  // of a segment, and its digest
	segmentUnit     = 1 << 20
	maxVolumes      = 10_000
	maxSegments     = 10_000 // of a blob, as media take
)

// Set spreads what a plan copies over volumes. Each volume holds all manifests, and
// all that belongs to a release besides layers and image configs, so that it can be
// looked at and verified without the others.
type Set struct {
	// ID is made of all below: the same plan and options make the same set.
	ID      string
	Options VolumeOptions
	Volumes []Volume
	// Segments say where the blobs are that no volume holds whole.
	Segments map[digest.Digest]Segments
	// Roots are what the set is of, under the names they have on media. Media whose
	// copy was interrupted does not say.
	Roots []Base
}

// Volume is what one volume of a set holds and not every volume.
type Volume struct {
	Blobs []digest.Digest // sorted
	// Bytes is what the volume will be filled with, all it holds included.
	Bytes int64
}

// Segments are the pieces of a blob that is larger than a volume.
type Segments struct {
	// Bytes is the size of every segment but the last.
	Bytes int64
	// Volumes holds the number of the volume of each segment, counted from 1.
	Volumes []int
}

// count returns how many segments a blob of size has.
func (s Segments) count(size int64) int64 { return (size + s.Bytes - 1) / s.Bytes }

// size returns the bytes of segment n of a blob of size.
func (s Segments) size(n int, size int64) int64 { return min(s.Bytes, size-int64(n)*s.Bytes) }

// VolumeSizeError reports volumes that what has to be on every one of them leaves no
// room. It is an errdef.ErrSizeExceedsLimit.
type VolumeSizeError struct {
	// Bytes is the capacity asked for, Held what every volume holds, and Least the
	// smallest capacity that is large enough.
	Bytes, Held, Least int64
}

// Error says what is on every volume.
func (e *VolumeSizeError) Error() string {
	return fmt.Sprintf("volumes of %d bytes have no room beside the %d bytes that every one of them holds", e.Bytes, e.Held)
}

// Unwrap returns errdef.ErrSizeExceedsLimit.
func (e *VolumeSizeError) Unwrap() error { return errdef.ErrSizeExceedsLimit }

// reservedBytes of a volume, and a hundredth of it, are left to the file system.
const reservedBytes = 1 << 20

// usable is what volumes of so many bytes are filled with.
func usable(capacity int64) int64 { return capacity - capacity/100 - reservedBytes }

// least is the smallest capacity of which so many bytes are usable.
func least(bytes int64) int64 {
	capacity := (bytes + reservedBytes) / 99 * 100
	for usable(capacity) < bytes {
		capacity++
	}
	return capacity
}

// Split spreads the plan's content over volumes: largest first, each to the first
// volume that has room. It fails with [VolumeSizeError] when what has to be on every
// volume leaves no room, and with errdef.ErrSizeExceedsLimit for more than 10,000
// volumes, or segments of a blob.
func (p *Plan) Split(opts VolumeOptions) (*Set, error) {
	if opts.BlockBytes <= 0 {
		opts.BlockBytes = 4096
	}
	s := &splitting{opts: opts, set: &Set{Options: opts, Segments: map[digest.Digest]Segments{}}}
	if err := s.reserve(p); err != nil {
		return nil, err
	}
	pieces, err := s.pieces(p)
	if err != nil {
		return nil, err
	}
	for _, piece := range pieces {
		if err := s.place(piece); err != nil {
			return nil, err
		}
	}
	if len(s.set.Volumes) == 0 {
		s.set.Volumes = []Volume{{Bytes: s.fixed}}
	}
	for _, r := range p.Roots {
		s.set.Roots = append(s.set.Roots, Base{rootName(r), r.Descriptor.Digest})
	}
	s.set.identify(p)
	return s.set, nil
}

// splitting is one call of Split.
type splitting struct {
	opts    VolumeOptions
	set     *Set
	fixed   int64 // bytes on every volume
	room    int64 // for the rest
	vital   int   // blobs on every volume
	entries []int // blobs on each volume
}

// piece is a blob, or a segment of one, that is on one volume only.
type piece struct {
	digest  digest.Digest
	size    int64
	segment int // -1 for a whole blob
}

func (s *splitting) rounded(n int64) int64 {
	return (n + s.opts.BlockBytes - 1) / s.opts.BlockBytes * s.opts.BlockBytes
}

// reserve finds out what every volume holds and how much room it leaves.
func (s *splitting) reserve(p *Plan) error {
	s.fixed = s.opts.Extra
	for step := range p.steps() {
		if n := len(step.Descriptor.Digest.Encoded()); s.opts.NameBytes > 0 && n > s.opts.NameBytes {
			return fmt.Errorf("%s has a name of %d letters, and such media take %d: %w", step.Descriptor.Digest, n, s.opts.NameBytes, errdef.ErrSizeExceedsLimit)
		}
		if step.vital {
			s.vital++
			s.fixed += s.rounded(step.Descriptor.Size)
		} else {
			s.fixed += labelEntryBytes
		}
	}
	for _, r := range p.Roots {
		s.fixed += int64(2+len(r.Referrers)+2*len(r.Tags)) * indexEntryBytes
		for _, b := range r.Base {
			s.fixed += labelBaseBytes + int64(len(b.Name))
		}
	}
	// What the label says of segments leaves less room, which makes for more of them.
	room := usable(s.opts.Bytes)
	s.room = room - s.fixed
	for said := int64(-1); s.room >= segmentUnit; {
		more := s.segmentLabel(p)
		if more <= said {
			break
		}
		s.fixed += more - max(said, 0)
		s.room, said = room-s.fixed, more
	}
	if s.room < segmentUnit {
		return &VolumeSizeError{s.opts.Bytes, s.fixed, least(s.fixed + segmentUnit)}
	}
	if s.opts.Entries > 0 && s.vital >= s.opts.Entries {
		return fmt.Errorf("%d manifests and proofs are on every volume, and a directory there takes %d: %w", s.vital, s.opts.Entries, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

// segmentLabel returns how many bytes a label has of blobs in segments: the volume of
// each segment, and at most the digest of each.
func (s *splitting) segmentLabel(p *Plan) (sum int64) {
	for i := range p.Blobs {
		step := &p.Blobs[i]
		if d := step.Descriptor; s.inSegments(step) {
			n := min(Segments{Bytes: s.segmentBytes()}.count(d.Size), maxSegments) // more are refused
			sum += labelSplitBytes + n*(labelPieceBytes+int64(len(d.Digest)))
		}
	}
	return sum
}

// inSegments reports whether a blob is too large for the room there is.
func (s *splitting) inSegments(step *Step) bool {
	return !step.vital && step.Left == "" && s.rounded(step.Descriptor.Size) > s.room
}

// pieces returns what is to be spread, the largest first.
func (s *splitting) pieces(p *Plan) ([]piece, error) {
	var list []piece
	for i := range p.Blobs {
		step := &p.Blobs[i]
		if step.vital || step.Left != "" {
			continue
		}
		d := step.Descriptor
		if !s.inSegments(step) {
			list = append(list, piece{d.Digest, d.Size, -1})
			continue
		}
		segments := Segments{Bytes: s.segmentBytes()}
		n := segments.count(d.Size)
		if n > maxSegments {
			return nil, fmt.Errorf("%s is said to have %d bytes, which are more than %d segments of %d: %w", d.Digest, d.Size, maxSegments, segments.Bytes, errdef.ErrSizeExceedsLimit)
		}
		segments.Volumes = make([]int, n)
		for i := range segments.Volumes {
			list = append(list, piece{d.Digest, segments.size(i, d.Size), i})
		}
		s.set.Segments[d.Digest] = segments
	}
	slices.SortFunc(list, func(a, b piece) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.digest, b.digest), cmp.Compare(a.segment, b.segment))
	})
	return list, nil
}

// segmentBytes is the size of a segment: whole mebibytes, as many as go on a volume
// and into a file.
func (s *splitting) segmentBytes() int64 {
	size := s.room
	if s.opts.FileBytes > 0 {
		size = min(size, max(s.opts.FileBytes, segmentUnit))
	}
	return size / segmentUnit * segmentUnit
}

// place puts a piece on the first volume that takes it.
func (s *splitting) place(p piece) error {
	at := 0
	for at < len(s.set.Volumes) && !s.takes(at, p) {
		at++
	}
	if at == maxVolumes {
		return fmt.Errorf("more than %d volumes: %w", maxVolumes, errdef.ErrSizeExceedsLimit)
	}
	if at == len(s.set.Volumes) {
		s.set.Volumes = append(s.set.Volumes, Volume{Bytes: s.fixed})
		s.entries = append(s.entries, s.vital)
	}
	v := &s.set.Volumes[at]
	v.Bytes += s.rounded(p.size)
	s.entries[at]++
	if p.segment < 0 {
		v.Blobs = append(v.Blobs, p.digest)
		return nil
	}
	s.set.Segments[p.digest].Volumes[p.segment] = at + 1
	return nil
}

// takes reports whether a volume has room for a piece.
func (s *splitting) takes(at int, p piece) bool {
	return s.set.Volumes[at].Bytes-s.fixed+s.rounded(p.size) <= s.room && (s.opts.Entries <= 0 || s.entries[at] < s.opts.Entries)
}

// identify sorts the set and names it by what it holds.
func (s *Set) identify(p *Plan) {
	var text strings.Builder
	fmt.Fprintf(&text, "%d %d\n", s.Options.Bytes, s.Options.FileBytes)
	for _, r := range p.Roots {
		fmt.Fprintf(&text, "%s %s\n", r.Name, r.Descriptor.Digest)
	}
	for i := range s.Volumes {
		slices.Sort(s.Volumes[i].Blobs)
		fmt.Fprintf(&text, "%d %v\n", i+1, s.Volumes[i].Blobs)
	}
	var keys []digest.Digest
	for d := range s.Segments {
		keys = append(keys, d)
	}
	slices.Sort(keys)
	for _, d := range keys {
		fmt.Fprintf(&text, "%s %v\n", d, s.Segments[d])
	}
	s.ID = digest.FromString(text.String()).Encoded()[:16]
}

// Check fails unless the set spreads what p copies: a set that was read from media is
// as true as the media. Errors: [ErrMoved] when it was made of something else,
// [ErrDamaged] when it contradicts itself.
func (s *Set) Check(p *Plan) error {
	_, err := s.places(p)
	return err
}

// places returns the volume of each blob that is whole on one.
func (s *Set) places(p *Plan) (map[digest.Digest]int, error) {
	if err := s.isOf(p); err != nil {
		return nil, err
	}
	at := map[digest.Digest]int{}
	for i, v := range s.Volumes {
		for _, d := range v.Blobs {
			if _, split := s.Segments[d]; split || at[d] > 0 {
				return nil, s.damaged("%s is in more than one place", d)
			}
			at[d] = i + 1
		}
	}
	var nowhere []ocispec.Descriptor
	for i := range p.Blobs {
		step := &p.Blobs[i]
		d := step.Descriptor
		if step.vital || step.Left != "" {
			continue
		}
		if segments, split := s.Segments[d.Digest]; split {
			if !segments.cover(d.Size, len(s.Volumes)) {
				return nil, s.damaged("the segments of %s are not %d bytes on %d volumes", d.Digest, d.Size, len(s.Volumes))
			}
		} else if at[d.Digest] == 0 {
			nowhere = append(nowhere, d)
		}
	}
	if len(nowhere) > 0 {
		return nil, &MovedError{Source: []string{fmt.Sprintf("%d blobs are on no volume of the set, the first is %s", len(nowhere), nowhere[0].Digest)}}
	}
	return at, nil
}

func (s *Set) damaged(format string, args ...any) error {
	return fmt.Errorf("set %s: %s: %w", s.ID, fmt.Sprintf(format, args...), ErrDamaged)
}

// isOf fails unless the set was made of the roots of p and has its own name.
func (s *Set) isOf(p *Plan) error {
	for _, r := range p.Roots {
		if want := (Base{rootName(r), r.Descriptor.Digest}); len(s.Roots) > 0 && !slices.Contains(s.Roots, want) {
			return &MovedError{Source: []string{fmt.Sprintf("the set is of %s %s, and not of %s %s", s.Roots[0].Name, s.Roots[0].Digest, want.Name, want.Digest)}}
		}
	}
	again := Set{Options: s.Options, Segments: s.Segments}
	for _, v := range s.Volumes {
		again.Volumes = append(again.Volumes, Volume{Blobs: slices.Clone(v.Blobs)})
	}
	if again.identify(p); again.ID != s.ID {
		return &MovedError{Source: []string{fmt.Sprintf("the set %s is of something else, or its media.json was changed", s.ID)}}
	}
	return nil
}

// cover reports whether the segments make up a blob of size, each on one of so many
// volumes.
func (s Segments) cover(size int64, volumes int) bool {
	if len(s.Volumes) == 0 || s.Bytes <= 0 || s.Bytes > maxBlobBytes || s.count(size) != int64(len(s.Volumes)) {
		return false
	}
	return !slices.ContainsFunc(s.Volumes, func(n int) bool { return n < 1 || n > volumes })
}

// SegmentIngester is a destination that stores some segments of a blob: keep says
// which, counted from 0. The whole is read, and nothing is stored unless it has the
// digest.
type SegmentIngester interface {
	IngestSegments(ctx context.Context, desc ocispec.Descriptor, segmentBytes int64, keep func(n int) bool, open Opener) error
	// Segments returns the segments that are stored, in order.
	Segments(ctx context.Context, desc ocispec.Descriptor) ([]int, error)
}

// spread is what of a blob in segments is on one volume.
type spread struct {
	Segments
	volume int
}

// bytes returns how much of a blob of size is kept.
func (s *spread) bytes(size int64) (sum int64) {
	for n := range s.Volumes {
		if s.keep(n) {
			sum += s.Segments.size(n, size)
		}
	}
	return sum
}

func (s *spread) keep(n int) bool { return n < len(s.Volumes) && s.Volumes[n] == s.volume }

// stored returns how many bytes of what is kept dst has, and whether that is all. It
// is not where their digests are not known: the blob is read once more for them.
func (s *spread) stored(ctx context.Context, dst Destination, desc ocispec.Descriptor) (here int64, all bool, err error) {
	in, ok := dst.(SegmentIngester)
	if !ok {
		return 0, false, nil
	}
	have, err := in.Segments(ctx, desc)
	if err != nil {
		return 0, false, err
	}
	for _, n := range have {
		if s.keep(n) {
			here += s.Segments.size(n, desc.Size)
		}
	}
	all = here == s.bytes(desc.Size)
	if m, ok := dst.(*Media); ok && all {
		all = m.stated(desc)
	}
	return here, all, nil
}

// Pieces counts the segments that the plan of a volume stores of blobs which no
// volume has whole, and their bytes. The label of the volume states their digests;
// that of the blob proves them when the volumes are together.
func (p *Plan) Pieces() (n int, bytes int64) {
	for s := range p.steps() {
		if s.spread == nil || s.Left != "" {
			continue
		}
		for i := range s.spread.Volumes {
			if s.spread.keep(i) {
				n++
			}
		}
		bytes += s.here()
	}
	return n, bytes
}

// Volume returns the plan of one volume of a set, counted from 1, for dst, which it
// asks what is there already. It counts what is on that volume; the rest is left. It
// fails as [Set.Check] does.
func (p *Plan) Volume(ctx context.Context, dst Destination, set *Set, n int, opts PlanOptions) (*Plan, error) {
	if n < 1 || n > len(set.Volumes) {
		return nil, fmt.Errorf("volume %d of %d: %w", n, len(set.Volumes), errdef.ErrNotFound)
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = defaultReads
	}
	at, err := set.places(p)
	if err != nil {
		return nil, err
	}
	v := *p
	v.dst = dst
	v.Manifests, v.Blobs = slices.Clone(p.Manifests), slices.Clone(p.Blobs)
	for s := range v.steps() { // what another destination has says nothing of this one
		s.Stored, s.Damaged, s.Partial = false, false, 0
	}
	for i := range v.Blobs {
		s := &v.Blobs[i]
		if s.vital || s.Left != "" {
			continue
		}
		first, here := at[s.Descriptor.Digest], false
		if segments, split := set.Segments[s.Descriptor.Digest]; split {
			s.spread = &spread{segments, n}
			first, here = slices.Min(segments.Volumes), slices.Contains(segments.Volumes, n)
		}
		if !here && first != n {
			s.Left = fmt.Sprintf("volume %d", first)
		}
	}
	return &v, v.probe(ctx, opts)
}
