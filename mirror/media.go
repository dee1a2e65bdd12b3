package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// Media is a destination that is an OCI image layout in a directory.
type Media struct {
	w    *layout.Writer
	opts MediaOptions
	// settled are the entries of index.json as they were when the media was opened or
	// last read back: what they reach was written, and read, before. There are none
	// on media that was not read back when it was last written to.
	settled []ocispec.Descriptor
	// behind says that the media was such when it was opened.
	behind bool
	// mended says that whoever writes here reads all of it afterwards.
	mended bool

	mu      sync.Mutex
	unread  bool                   // what the media says of itself
	known   map[digest.Digest]bool // what settled reaches, nil until needed
	label   *ledger                // with what Commit has yet to write
	aliases map[string]string      // short names to the full ones they stand for, "" for others'; nil until needed
}

// MediaOptions configure media. The zero value is a good default.
type MediaOptions struct {
	// Tool is what media.json says wrote the media, as "sealift 1.0.0".
	Tool string
	// Set and Volume, counted from 1, make it a volume of a set. It must be empty
	// then, or begun as that volume: else [VolumeError].
	Set    *Set
	Volume int
	// MaxFileBytes stores larger blobs in segments; ≤ 0 means as large as the file
	// system takes.
	MaxFileBytes int64
	// Stays says that the disk is not carried anywhere: nothing is to be read back from
	// it, and it does not say that nothing was.
	Stays bool
}

// VolumeError reports media that is not the volume it should be.
type VolumeError struct {
	Dir string
	// Volume and Of are what the media says it is, 0 when it is no volume; Other
	// says that it is one of another set.
	Volume, Of int
	Other      bool
}

// Error says what it is.
func (e *VolumeError) Error() string {
	switch {
	case e.Volume == 0:
		return e.Dir + " holds something else already"
	case e.Other:
		return fmt.Sprintf("%s is volume %d of %d of another set", e.Dir, e.Volume, e.Of)
	}
	return fmt.Sprintf("%s is volume %d of %d", e.Dir, e.Volume, e.Of)
}

// OpenMedia opens the layout in dir for writing, making it when it is not there,
// and locks it against other writers until Close. A media.json that cannot be
// read is written anew.
func OpenMedia(ctx context.Context, dir string, opts MediaOptions) (*Media, error) {
	// Some read-only media answer a write with words of their own.
	if limits, err := layout.LimitsOf(dir); err == nil && limits.ReadOnly {
		return nil, &fs.PathError{Op: "open media for writing", Path: dir, Err: syscall.EROFS}
	}
	w, err := layout.OpenWriterOptions(ctx, dir, layout.WriterOptions{MaxFileBytes: opts.MaxFileBytes})
	if err != nil {
		return nil, fmt.Errorf("open media %s: %w", dir, err)
	}
	label, err := w.Label()
	if errors.Is(err, errdef.ErrUnsupportedVersion) {
		return nil, errors.Join(fmt.Errorf("open media %s: %w", dir, err), w.Close())
	} else if err != nil {
		label = layout.Label{} // advice, and damaged: the index is what counts
	}
	m := &Media{w: w, opts: opts, label: newLedger(label), settled: w.Entries()}
	if m.unread, err = w.Unread(); err != nil {
		return nil, errors.Join(fmt.Errorf("open media %s: %w", dir, err), w.Close())
	}
	if m.behind = m.unread; m.behind {
		m.settled = nil
	}
	if opts.Set == nil {
		return m, nil
	}
	if err := m.claim(ctx, dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return m, nil
}

// claim makes the media the volume it is to be, at once: an interrupted copy
// leaves media that says what it was going to be.
func (m *Media) claim(ctx context.Context, dir string) error {
	set, is := m.opts.Set.label(m.opts.Volume), m.label.Set
	switch {
	case is == nil && len(m.w.Entries()) > 0:
		return &VolumeError{Dir: dir}
	case is != nil && (is.ID != set.ID || is.Volume != set.Volume):
		return &VolumeError{dir, is.Volume, len(is.Volumes), is.ID != set.ID}
	case is != nil: // what was written before has its digests
		for d, s := range set.Segments {
			if known := is.Segments[d]; s.Bytes == known.Bytes && slices.Equal(s.Volumes, known.Volumes) {
				set.Segments[d] = known
			}
		}
	}
	m.label.Set, m.label.Tool = set, m.opts.Tool
	return m.w.SetLabel(ctx, m.label.label())
}

// label writes a set down as the volume n of it.
func (s *Set) label(n int) *layout.LabelSet {
	l := &layout.LabelSet{ID: s.ID, Volume: n, Capacity: s.Options.Bytes, FileBytes: s.Options.FileBytes}
	for _, v := range s.Volumes {
		l.Volumes = append(l.Volumes, append([]digest.Digest{}, v.Blobs...))
	}
	for d, segments := range s.Segments {
		if l.Segments == nil {
			l.Segments = map[digest.Digest]layout.LabelSegments{}
		}
		l.Segments[d] = layout.LabelSegments{Bytes: segments.Bytes, Volumes: segments.Volumes}
	}
	return l
}

// ReadSet reads from the media in dir, any volume of it, the set that it belongs
// to, and which volume of it this is; [Set.Check] finds out whether it can be. It
// fails with errdef.ErrNotFound when the media is no volume.
func ReadSet(dir string) (set *Set, volume int, err error) {
	l, err := layout.Open(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("open media %s: %w", dir, err)
	}
	label, err := l.Label()
	if err != nil {
		return nil, 0, fmt.Errorf("media %s: %w", dir, err)
	}
	if label.Set == nil {
		return nil, 0, fmt.Errorf("media %s is no volume of a set: %w", dir, errdef.ErrNotFound)
	}
	set = &Set{ID: label.Set.ID, Options: VolumeOptions{Bytes: label.Set.Capacity, FileBytes: label.Set.FileBytes}, Segments: map[digest.Digest]Segments{}}
	for _, blobs := range label.Set.Volumes {
		set.Volumes = append(set.Volumes, Volume{Blobs: blobs})
	}
	for d, segments := range label.Set.Segments {
		set.Segments[d] = Segments{segments.Bytes, segments.Volumes}
	}
	for _, r := range label.Roots {
		set.Roots = append(set.Roots, Base{r.Name, r.Digest})
	}
	return set, label.Set.Volume, nil
}

// Empty returns a destination that has nothing, for plans that say what there is in
// all.
func Empty() Destination { return peek{} }

// Close releases the lock.
func (m *Media) Close() error { return m.w.Close() }

// Exists reports whether the media has desc, by digest and size.
func (m *Media) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return m.w.Exists(ctx, desc)
}

// Fetch opens the content desc names.
func (m *Media) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return m.w.Fetch(ctx, desc)
}

// Push writes desc from its beginning.
func (m *Media) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := m.announce(ctx, desc); err != nil {
		return err
	}
	return m.w.Push(ctx, desc, r)
}

// Ingest writes desc, continuing what an earlier attempt left.
func (m *Media) Ingest(ctx context.Context, desc ocispec.Descriptor, open Opener) error {
	if err := m.announce(ctx, desc); err != nil {
		return err
	}
	return m.w.Ingest(ctx, desc, open)
}

// IngestSegments writes segments of desc, continuing what an earlier attempt left,
// and states their digests on the label.
func (m *Media) IngestSegments(ctx context.Context, desc ocispec.Descriptor, segmentBytes int64, keep func(n int) bool, open Opener) error {
	if err := m.announce(ctx, desc); err != nil {
		return err
	}
	digests, err := m.w.IngestSegments(ctx, desc, segmentBytes, keep, open)
	if err != nil || digests == nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.label.Set == nil {
		return nil
	}
	segments, ok := m.label.Set.Segments[desc.Digest]
	if !ok || segments.Bytes != segmentBytes || len(segments.Volumes) != len(digests) {
		return nil
	}
	segments.Digests = digests
	set := *m.label.Set
	set.Segments = maps.Clone(set.Segments)
	set.Segments[desc.Digest] = segments
	m.label.Set = &set
	return m.w.SetLabel(ctx, m.label.label())
}

// stated reports whether the label states the digests of all segments of desc that
// are on this volume. An interrupted copy may have left segments without.
func (m *Media) stated(desc ocispec.Descriptor) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.label.Set.Pieces(desc), func(p layout.LabelPiece) bool { return p.Digest == "" })
}

// Segments returns the segments of desc that the media has.
func (m *Media) Segments(ctx context.Context, desc ocispec.Descriptor) ([]int, error) {
	return m.w.Segments(ctx, desc)
}

// Partial returns how many bytes of desc an interrupted copy has left.
func (m *Media) Partial(ctx context.Context, desc ocispec.Descriptor) (int64, error) {
	return m.w.Partial(ctx, desc)
}

// WriteFile writes a file beside the content, durably and as one step.
func (m *Media) WriteFile(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	return m.w.WriteFile(ctx, name, mode, r)
}

// Repository returns the repository HOST/REPOSITORY of the media for reading and
// writing. What it is given is there for others after the next Commit.
func (m *Media) Repository(name string) *layout.WritableRepository {
	return m.w.WritableRepository(name)
}

// Discard removes a damaged file of desc's digest.
func (m *Media) Discard(ctx context.Context, desc ocispec.Descriptor) error {
	if err := m.w.Delete(ctx, desc); err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return nil
}

// Name lists root in index.json under its full name and under a tag-shaped
// alias, its signature tags likewise, and its referrers without a name, at the
// next Commit. A signature tag whose manifest there has all the signatures of the
// one that comes, and more, stays: each is the whole list, and the source's is older.
func (m *Media) Name(ctx context.Context, root Root) error {
	name := rootName(root)
	repository, tag, _ := cutTag(name)
	if err := m.w.SetRoot(name, m.alias(ctx, repository, tag, root.Descriptor), root.Descriptor); err != nil {
		return err
	}
	for _, d := range root.Referrers {
		if err := m.w.AddUntagged(d); err != nil {
			return err
		}
	}
	for _, t := range root.Tags {
		if m.hasMore(ctx, repository+":"+t.Name, t.Descriptor) {
			continue
		}
		if err := m.w.SetRoot(repository+":"+t.Name, t.Name, t.Descriptor); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.label.describe(name, root)
	return nil
}

// hasMore reports whether what the media has under the name of a signature tag has every
// layer of desc, and others.
func (m *Media) hasMore(ctx context.Context, name string, desc ocispec.Descriptor) bool {
	old, err := m.w.Resolve(ctx, name)
	if err != nil || old.Digest == desc.Digest {
		return false
	}
	before, _, err := artifact.FetchManifest(ctx, m.w, old)
	if err != nil {
		return false
	}
	now, _, err := artifact.FetchManifest(ctx, m.w, desc)
	if err != nil {
		return false // Commit fails
	}
	// One payload may be signed by several, each in a layer of its own.
	entries := func(m *artifact.Manifest) map[string]bool {
		list := map[string]bool{}
		for _, layer := range m.Blobs[min(1, len(m.Blobs)):] { // behind the config
			list[layer.Digest.String()+" "+layer.Annotations[annotationSignature]] = true
		}
		return list
	}
	kept, come := entries(before), entries(now)
	for entry := range come {
		if !kept[entry] {
			return false
		}
	}
	return len(kept) > len(come)
}

// annotationSignature holds a signature in a layer of cosign's tag scheme,
// https://github.com/sigstore/cosign/blob/v2.6.5/specs/SIGNATURE_SPEC.md.
const annotationSignature = "dev.cosignproject.cosign/signature"

// rootName is the name of a root on media. A layout knows names, and registries
// tags, only; what was asked for by digest gets a tag that says so.
func rootName(root Root) string {
	if repository, _, tagged := cutTag(root.Name); !tagged {
		return repository + ":digest-" + root.Descriptor.Digest.Encoded()[:12]
	}
	return root.Name
}

// Commit writes media.json and then index.json, once for all names since the last
// time: what is named is explained. Ahead of both the media notes that it is to be
// read back.
func (m *Media) Commit(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.opts.Stays && !reflect.DeepEqual(m.w.Entries(), m.settled) {
		if err := m.setUnread(ctx, true); err != nil {
			return err
		}
	}
	m.label.Tool = m.opts.Tool
	slices.Sort(m.label.Left)
	m.label.Left = slices.Compact(m.label.Left)
	if err := m.w.SetLabel(ctx, m.label.label()); err != nil {
		return err
	}
	if err := m.w.Commit(ctx); err != nil {
		return err
	}
	m.tidyLabel()
	return m.w.SetLabel(ctx, m.label.label())
}

// tidyLabel forgets roots that the index does not name, and blobs that are there by
// now or that no delta has left.
func (m *Media) tidyLabel() {
	named := map[Base]bool{}
	for _, r := range m.w.Roots() {
		named[Base{r.Name, r.Descriptor.Digest}] = true
	}
	delta := false
	maps.DeleteFunc(m.label.roots, func(key Base, _ layout.LabelRoot) bool { return !named[key] })
	for _, r := range m.label.roots {
		delta = delta || len(r.Base) > 0
	}
	slices.Sort(m.label.Left)
	m.label.Left = slices.DeleteFunc(slices.Compact(m.label.Left), func(d digest.Digest) bool {
		return !delta || m.holds(d)
	})
}

// holds reports whether a blob is there, whatever its size.
func (m *Media) holds(d digest.Digest) bool {
	_, err := os.Stat(m.w.BlobPath(d))
	return err == nil
}

// widen returns what two copies of one root carry together. A copy of as many
// platforms answers for what it left; a narrower one does not say whether the
// content of the others is there.
func widen(before, now layout.LabelRoot) layout.LabelRoot {
	out := now
	narrower := slices.ContainsFunc(before.Platforms, func(p string) bool { return !slices.Contains(now.Platforms, p) })
	if len(now.Platforms) > 0 && (len(before.Platforms) == 0 || narrower) {
		out.Base = append(slices.Clone(before.Base), now.Base...)
		slices.SortFunc(out.Base, func(a, b layout.LabelBase) int { return cmp.Compare(a.Digest, b.Digest) })
		out.Base = slices.CompactFunc(out.Base, func(a, b layout.LabelBase) bool { return a.Digest == b.Digest })
	}
	if len(before.Platforms) == 0 || len(now.Platforms) == 0 {
		out.Platforms = nil
		return out
	}
	out.Platforms = slices.Compact(slices.Sorted(slices.Values(slices.Concat(before.Platforms, now.Platforms))))
	return out
}

// alias returns the short name for tools that cannot address a full one. Where
// something else has it already, the repository's whole path is used, then a
// piece of the digest.
func (m *Media) alias(ctx context.Context, repository, tag string, desc ocispec.Descriptor) string {
	short := path.Base(repository)
	// The id is not compared with the template's: an alias only has to be free.
	if root, _, err := artifact.FetchManifest(ctx, m.w, desc); err == nil && root.ArtifactType == artifact.TypeRelease {
		if id := root.Annotations[artifact.AnnotationID]; id != "" {
			short = path.Base(id)
		}
	}
	long := strings.NewReplacer("/", "-", ":", "-", "[", "", "]", "").Replace(repository)
	for _, name := range []string{short, long} {
		if alias := name + "-" + tag; artifact.IsTag(alias) && m.free(alias, repository+":"+tag) {
			return alias
		}
	}
	return "digest-" + desc.Digest.Encoded()[:32]
}

// free reports whether alias is nobody's, or belongs to the root called name; it is
// that root's then.
func (m *Media) free(alias, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.aliases == nil {
		m.aliases = map[string]string{}
		for _, d := range m.w.Entries() {
			if ref := d.Annotations[ocispec.AnnotationRefName]; ref != "" {
				m.aliases[ref] = d.Annotations[layout.AnnotationAliasOf]
			}
		}
	}
	owner, taken := m.aliases[alias]
	if taken && owner != name {
		return false
	}
	m.aliases[alias] = name
	return true
}

// IsMedia reports whether dir is a layout already.
func IsMedia(dir string) bool {
	_, err := layout.Open(dir)
	return err == nil
}

// Peek returns a destination that only answers what the media in dir holds, for
// a plan that will not be executed. It creates nothing; a directory that is not
// there holds nothing.
func Peek(dir string) (Destination, error) {
	l, err := layout.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, layout.ErrNotLayout) {
		return peek{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("open media %s: %w", dir, err)
	}
	return peek{l}, nil
}

// peek is media to look at.
type peek struct {
	held *layout.Layout // nil for media that is not there
}

func (p peek) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if p.held == nil {
		return false, nil
	}
	return p.held.Exists(ctx, desc)
}

func (p peek) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if p.held == nil {
		return nil, errdef.ErrNotFound
	}
	return p.held.Fetch(ctx, desc)
}

func (p peek) Partial(ctx context.Context, desc ocispec.Descriptor) (int64, error) {
	if p.held == nil {
		return 0, nil
	}
	return p.held.Partial(ctx, desc)
}

func (peek) Push(context.Context, ocispec.Descriptor, io.Reader) error { return errdef.ErrUnsupported }

func (peek) Name(context.Context, Root) error { return errdef.ErrUnsupported }

func (peek) Commit(context.Context) error { return errdef.ErrUnsupported }

// OpenSource opens the repository called name, HOST/REPO, of the media in dir for
// reading. It writes nothing and takes no lock; it shows the media as it is now,
// and needs no closing. It fails with errdef.ErrNotFound when the media has no
// such repository.
func OpenSource(dir, name string) (Source, error) {
	l, err := layout.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open media %s: %w", dir, err)
	}
	r, ok := l.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("media %s: repository %s: %w", dir, name, errdef.ErrNotFound)
	}
	return r, nil
}
