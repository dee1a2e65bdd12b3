package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// RepairItem is one artifact of media that is to be made whole.
type RepairItem struct {
	// Repository is what the media calls its repository, Reference the tag or
	// digest it has there.
	Repository, Reference string
	// Damage is what [Verify] found; nil has Repair verify the item itself, as
	// soon as its root can be read.
	Damage *DamageError
	// Verify says what of it is to be there; its Progress is not used.
	Verify VerifyOptions
}

// RepairSource is a store that replacements come from. It is asked for content by
// digest only, and what it gives is verified, so that it needs no trust.
type RepairSource struct {
	// Name is what people call it.
	Name  string
	Store content.ReadOnlyStorage
}

// RepairOptions configure [Repair]. The zero value is a good default.
type RepairOptions struct {
	// DryRun writes nothing and needs no writable media. What a damaged manifest
	// hides is not found then.
	DryRun bool
	// Progress is called for each pass over content, with what is done there,
	// "verifying" or "repairing"; nil for nobody.
	Progress func(verb string) Progress
}

// States of a piece that is not as it should be.
const (
	Corrupt    = "corrupt"
	Unreadable = "unreadable"
	Missing    = "missing"
)

// Repaired is what [Repair] did, or would do.
type Repaired struct {
	// Index says that index.json was torn, or behind what was last written, and stands
	// again as it should have been.
	Index bool
	// Pieces are sorted by digest.
	Pieces []Replaced
}

// Replaced is a piece of content that was replaced.
type Replaced struct {
	Descriptor ocispec.Descriptor
	// Was is one of the states.
	Was string
	// Source is the name of the source that it came from.
	Source string
}

// Lacking is a piece of content that no source could give.
type Lacking struct {
	Descriptor ocispec.Descriptor
	Was        string
	// Reasons has an error for each source, in their order.
	Reasons []error
}

// RepairError lists what stays damaged. It matches [ErrDamaged].
type RepairError struct {
	// Lacking is sorted by digest.
	Lacking []Lacking
}

// maxLackingShown keeps the text of a RepairError readable.
const maxLackingShown = 10

// Error has the lines of Lines.
func (e *RepairError) Error() string { return strings.Join(e.Lines(), "\n") }

// Lines has one for each of the first pieces.
func (e *RepairError) Lines() []string {
	var lines []string
	for i, l := range e.Lacking {
		if i == maxLackingShown {
			lines = append(lines, fmt.Sprintf("and %d more that cannot be replaced", len(e.Lacking)-i))
			break
		}
		var reasons []string
		for _, err := range l.Reasons {
			reasons = append(reasons, err.Error())
		}
		lines = append(lines, fmt.Sprintf("%s is %s and cannot be replaced: %s", l.Descriptor.Digest, l.Was, strings.Join(reasons, "; ")))
	}
	return lines
}

// Is reports whether target is [ErrDamaged].
func (e *RepairError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns the errors of the sources.
func (e *RepairError) Unwrap() []error {
	var all []error
	for _, l := range e.Lacking {
		all = append(all, l.Reasons...)
	}
	return all
}

// Repair replaces what is damaged or missing of items on the media in dir, and of
// the manifests that its index.json lists, with what the first source that has it
// gives. A damaged manifest hides what is below it, so that it goes on with what
// comes to light until there is nothing new. Nothing else is written.
//
// A damaged file stays until what replaces it has been opened at the source and,
// up to the size of a manifest, read and verified; a larger one makes room then,
// and is continued by the next run when it is cut off. What was replaced was
// verified as it was written; whoever wants to know that the disk gives it back
// verifies the media again.
//
// Opening the media for writing mends an index.json that was torn; where no slot of
// it is left either, there is nothing to go by, layout.ErrCorruptIndex.
//
// It returns what was replaced also with an error: [RepairError] for what no source
// could give; [IncompleteError] when the media or ctx ended the writing; and the
// errors of [OpenMedia], syscall.EROFS for read-only media.
func Repair(ctx context.Context, dir string, items []RepairItem, sources []RepairSource, opts RepairOptions) (_ Repaired, err error) {
	if opts.Progress == nil {
		opts.Progress = func(string) Progress { return silent{} }
	}
	held, err := layout.Open(dir)
	if err != nil {
		return Repaired{}, fmt.Errorf("open media %s: %w", dir, err)
	}
	before := indexFile(held)
	r := &repair{held: held, items: items, sources: sources, opts: opts,
		tried: map[digest.Digest]bool{}, fault: map[fault]error{}}
	if opts.DryRun {
		r.done.Index = slices.ContainsFunc(held.Standings(), func(s layout.IndexStanding) bool { return s.State != layout.IndexChanged })
	} else {
		if r.media, err = OpenMedia(ctx, dir, MediaOptions{}); err != nil {
			return Repaired{}, err
		}
		defer func() { err = errors.Join(err, r.media.Close()) }()
		r.media.mended = true
		r.held = r.media.w.Layout
		r.done.Index = !bytes.Equal(before, indexFile(held))
	}
	err = r.run(ctx)
	slices.SortFunc(r.done.Pieces, func(a, b Replaced) int { return byDigest(a.Descriptor, b.Descriptor) })
	slices.SortFunc(r.lacking, func(a, b Lacking) int { return byDigest(a.Descriptor, b.Descriptor) })
	if err == nil && len(r.lacking) > 0 {
		err = &RepairError{r.lacking}
	}
	return r.done, err
}

// indexFile returns the bytes of index.json as it stands, nil when it cannot be read.
func indexFile(l *layout.Layout) []byte {
	raw, err := l.ReadFile(ocispec.ImageIndexFile, maxIndexBytes)
	if err != nil {
		return nil // the layout has opened by a slot
	}
	return raw
}

// maxIndexBytes is the largest index.json a layout reads.
const maxIndexBytes = 64 << 20

func byDigest(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }

// repair is one call of Repair.
type repair struct {
	held    *layout.Layout
	media   *Media // nil when nothing is written
	items   []RepairItem
	sources []RepairSource
	opts    RepairOptions

	tried   map[digest.Digest]bool // each piece is replaced once, which ends the rounds
	fault   map[fault]error
	done    Repaired
	lacking []Lacking
	// suspect are manifests below which nobody has looked: those replaced, and
	// those said to be damaged that are not, because what belongs to them is.
	suspect []ocispec.Descriptor
}

// fault is what a source cannot give; without a digest, all of it.
type fault struct {
	source int
	digest digest.Digest
}

func (r *repair) run(ctx context.Context) error {
	found := r.listed(ctx)
	for _, item := range r.items {
		if item.Damage != nil {
			found = append(found, r.claimed(ctx, item.Damage)...)
		}
	}
	for first := true; first || len(found) > 0; first = false {
		if err := r.replace(ctx, found); err != nil {
			return err
		}
		var err error
		if found, err = r.look(ctx, first); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// listed returns the damage among the manifests in index.json. Referrers and
// signatures are found through it alone: to a walk, a damaged one does not exist.
func (r *repair) listed(ctx context.Context) (found []Lacking) {
	for _, d := range listedManifests(r.held.Entries()) {
		if was := state(ctx, r.held, d); was != "" {
			found = r.note(found, was, d)
		}
	}
	return found
}

// claimed returns what a verification found. A manifest is looked at again, for it
// stands there too when it is a signature of it that is damaged.
func (r *repair) claimed(ctx context.Context, e *DamageError) (found []Lacking) {
	for _, way := range []struct {
		was  string
		list []ocispec.Descriptor
	}{{Corrupt, e.Corrupt}, {Unreadable, e.Unreadable}, {Missing, e.Missing}} {
		for _, d := range way.list {
			if artifact.IsManifest(d.MediaType) && state(ctx, r.held, d) == "" {
				if !r.tried[d.Digest] {
					r.tried[d.Digest] = true
					r.suspect = append(r.suspect, d)
				}
				continue
			}
			found = r.note(found, way.was, plain(d))
		}
	}
	return found
}

// note adds a piece that was not tried before.
func (r *repair) note(found []Lacking, was string, d ocispec.Descriptor) []Lacking {
	if r.tried[d.Digest] {
		return found
	}
	r.tried[d.Digest] = true
	return append(found, Lacking{Descriptor: d, Was: was})
}

// look verifies what nobody has looked at yet and returns the damage there.
func (r *repair) look(ctx context.Context, first bool) (found []Lacking, err error) {
	suspect := r.suspect
	r.suspect = nil
	if r.media == nil {
		return nil, nil // what is below is not there to be looked at
	}
	for _, item := range r.items {
		repo := r.held.Repository(item.Repository)
		check := slices.Clone(suspect)
		if item.Damage == nil && first {
			// A root that cannot be resolved even now is the caller's to report.
			if root, err := repo.Resolve(ctx, item.Reference); err == nil {
				check = append(check, root)
			}
		}
		seen := map[digest.Digest]bool{}
		for _, d := range check {
			if ok, err := repo.Exists(ctx, d); err != nil || !ok || seen[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			damage := new(DamageError)
			want := item.Verify
			want.Progress = r.opts.Progress("verifying")
			_, err := Verify(ctx, repo, d, want)
			if errors.As(err, &damage) {
				found = append(found, r.claimed(ctx, damage)...)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// replace fetches pieces, each from the first source that has it, and goes to the
// next where one turns out not to.
func (r *repair) replace(ctx context.Context, pieces []Lacking) error {
	for len(pieces) > 0 {
		plan := &Plan{}
		if r.media != nil {
			plan.dst = replacer{r.media}
		}
		from := map[digest.Digest]int{}
		for _, piece := range pieces {
			at, ok, err := r.choose(ctx, piece.Descriptor)
			if err != nil {
				return err
			}
			if !ok {
				r.lack(piece)
				continue
			}
			from[piece.Descriptor.Digest] = at
			step := Step{Descriptor: piece.Descriptor, item: &Item{Source: piecewise{r.sources[at].Store}}, spread: r.spread(piece.Descriptor)}
			if artifact.IsManifest(piece.Descriptor.MediaType) {
				step.doc = &document{}
				plan.Manifests = append(plan.Manifests, step)
			} else {
				plan.Blobs = append(plan.Blobs, step)
			}
		}
		stored, err := r.execute(ctx, plan)
		var left []Lacking
		for _, piece := range pieces {
			at, had := from[piece.Descriptor.Digest]
			switch {
			case !had:
			case r.media == nil || stored[piece.Descriptor.Digest]:
				r.done.Pieces = append(r.done.Pieces, Replaced{piece.Descriptor, piece.Was, r.sources[at].Name})
				if artifact.IsManifest(piece.Descriptor.MediaType) {
					r.suspect = append(r.suspect, piece.Descriptor)
				}
			default:
				left = append(left, piece)
			}
		}
		if err != nil && !r.blame(ctx, err, from) {
			return fmt.Errorf("repair media %s: %w", r.held.Dir(), err)
		}
		pieces = left
	}
	return nil
}

// spread returns what of a blob the media is to have, which is a volume of a set that
// has segments of it, and nil of a blob that is to be whole.
func (r *repair) spread(desc ocispec.Descriptor) *spread {
	label, err := r.held.Label()
	if err != nil || len(label.Set.Pieces(desc)) == 0 {
		return nil
	}
	segments := label.Set.Segments[desc.Digest]
	return &spread{Segments{segments.Bytes, segments.Volumes}, label.Set.Volume}
}

// choose returns the first source that says that it has desc, and remembers why
// those before it do not count. A source that cannot be asked is not asked again.
func (r *repair) choose(ctx context.Context, desc ocispec.Descriptor) (int, bool, error) {
	for at, source := range r.sources {
		if r.fault[fault{at, ""}] != nil || r.fault[fault{at, desc.Digest}] != nil {
			continue
		}
		ok, err := source.Store.Exists(ctx, desc)
		switch {
		case ctx.Err() != nil:
			return 0, false, context.Cause(ctx)
		case err != nil:
			r.fault[fault{at, ""}] = err
		case !ok:
			r.fault[fault{at, desc.Digest}] = errdef.ErrNotFound
		default:
			return at, true, nil
		}
	}
	return 0, false, nil
}

// lack files a piece that no source has.
func (r *repair) lack(piece Lacking) {
	for at, source := range r.sources {
		err := cmp.Or(r.fault[fault{at, piece.Descriptor.Digest}], r.fault[fault{at, ""}])
		if spoilt(err) {
			err = fmt.Errorf("damaged there too: %w", err)
		}
		piece.Reasons = append(piece.Reasons, fmt.Errorf("%s: %w", source.Name, err))
	}
	r.lacking = append(r.lacking, piece)
}

// execute writes what plan says and returns what was stored, whatever the error.
func (r *repair) execute(ctx context.Context, plan *Plan) (map[digest.Digest]bool, error) {
	if r.media == nil || len(plan.Manifests)+len(plan.Blobs) == 0 {
		return nil, nil
	}
	n := &noting{Progress: r.opts.Progress("repairing"), stored: map[digest.Digest]bool{}}
	err := plan.Execute(ctx, ExecuteOptions{Progress: n})
	return n.stored, err
}

// blame notes that a source could not give what it said it has, and reports
// whether err was that and no more.
func (r *repair) blame(ctx context.Context, err error, from map[digest.Digest]int) bool {
	side := new(CopyError)
	if ctx.Err() != nil || !errors.As(err, &side) || side.Side != "source" {
		return false
	}
	at, ok := from[side.Desc.Digest]
	if !ok {
		return false
	}
	f := fault{at, side.Desc.Digest}
	if !spoilt(side.Err) && !errors.Is(side.Err, errdef.ErrNotFound) {
		f.digest = ""
	}
	r.fault[f] = side.Err
	return true
}

// noting is a Progress that remembers what was stored.
type noting struct {
	Progress
	mu     sync.Mutex
	stored map[digest.Digest]bool
}

func (n *noting) Stored(desc ocispec.Descriptor) {
	n.mu.Lock()
	n.stored[desc.Digest] = true
	n.mu.Unlock()
	n.Progress.Stored(desc)
}

// replacer is media on which content is replaced though a file of its name and
// size is there.
type replacer struct{ *Media }

// Commit has nothing to do: no name changes.
func (replacer) Commit(context.Context) error { return nil }

// Ingest removes a damaged file as late as it can. One of another size stands in
// nobody's way: it is replaced by the rename that ends the writing.
func (r replacer) Ingest(ctx context.Context, desc ocispec.Descriptor, open Opener) error {
	if in, err := r.Exists(ctx, desc); err != nil || !in {
		return r.Media.Ingest(ctx, desc, open)
	}
	return r.after(ctx, desc, open, func(open Opener) error {
		return r.Media.Ingest(ctx, desc, open)
	})
}

// IngestSegments removes the segments that are here, as late as it can: a damaged one
// has the size of a sound one.
func (r replacer) IngestSegments(ctx context.Context, desc ocispec.Descriptor, segmentBytes int64, keep func(n int) bool, open Opener) error {
	return r.after(ctx, desc, open, func(open Opener) error {
		return r.Media.IngestSegments(ctx, desc, segmentBytes, keep, open)
	})
}

// after discards what there is of a blob once what is to replace it is open, and then
// writes that.
func (r replacer) after(ctx context.Context, desc ocispec.Descriptor, open Opener, write func(Opener) error) error {
	held, err := open(ctx, 0)
	if err != nil {
		return err
	}
	defer held.Close() // again, where writing has closed it
	first := held
	if desc.Size <= artifact.MaxManifestBytes {
		data, err := content.ReadAll(held, desc)
		if err != nil {
			return err
		}
		first = io.NopCloser(bytes.NewReader(data))
	}
	if err := r.Discard(ctx, desc); err != nil {
		return err
	}
	return write(func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		if rc := first; rc != nil && offset == 0 {
			first = nil
			return rc, nil
		}
		return open(ctx, offset)
	})
}

// piecewise makes a Source of a store that is asked for content by digest only.
type piecewise struct{ content.ReadOnlyStorage }

func (piecewise) Resolve(context.Context, string) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errdef.ErrUnsupported
}

func (piecewise) Referrers(context.Context, ocispec.Descriptor, string, func([]ocispec.Descriptor) error) error {
	return errdef.ErrUnsupported
}

// FetchFrom begins in the middle in the best way the store has.
func (p piecewise) FetchFrom(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return fetchFrom(p.ReadOnlyStorage)(ctx, desc, offset)
}

var (
	_ RangeFetcher            = piecewise{}
	_ registry.ReferrerLister = piecewise{}
)
