package layout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Garbage is what nothing in a layout leads to, as [Layout.Garbage] found it.
type Garbage struct {
	// Names were asked to go.
	Names []string
	// Entries of index.json go because of what they are about: referrers, and
	// signature tags.
	Entries int
	// Blobs and Bytes are the content that goes: files, blobs in segments, and what
	// arrived of blobs that are not there.
	Blobs int
	Bytes int64
	// Shared are the names that stay and lead to content that Names do too, sorted. The
	// empty descriptor of artifacts does not count; aliases and signature tags are not
	// told.
	Shared []string
	// Lacking are the manifests that something which stays leads to and that are not
	// there. What only they lead to is garbage: a layout may be sparse.
	Lacking int

	kept  *reach
	edits []edit        // that take the entries out
	rest  digest.Digest // of the index without them
	weak  bool
}

// Leads reports whether something that stays leads to a digest, be it there or not.
func (g *Garbage) Leads(d digest.Digest) bool { return checkDigest(d) == nil && g.kept.has(d) }

// Garbage finds what nothing would lead to any more without the full names given;
// with none, what nothing leads to as it is. It changes nothing and takes no lock.
//
// What stays is all that entries of index.json lead to, with the referrers and
// signature tags (sha256-<hex>.sig, .att, .sbom) of that, recursively. An entry
// leads on when it has a name that is no signature tag, or has none and is no
// referrer. The rest is garbage, whoever left it there: blobs and segments, and what
// an interrupted copy left of blobs that no entry leads to, too, though another run
// would continue it. Content whose digest this program does not know is not looked at.
//
// Nothing is guessed. Errors: a [*ManifestError] for each manifest that stays and is
// damaged, unreadable, or listed and not there, joined, since what it leads to is not
// known; errdef.ErrUnsupported and errdef.ErrInvalidDigest for entries that cannot be
// followed; errdef.ErrNotFound for a name that is not there;
// errdef.ErrSizeExceedsLimit. Volumes that were joined have no garbage in common,
// fs.ErrInvalid.
func (l *Layout) Garbage(ctx context.Context, without ...string) (*Garbage, error) {
	limits, err := LimitsOf(l.Dir())
	if err != nil {
		return nil, fmt.Errorf("find garbage in layout %s: %w", l.Dir(), err)
	}
	return l.garbage(ctx, limits.weak(), without)
}

// Garbage is [Layout.Garbage], with the changes that were not committed.
func (w *Writer) Garbage(ctx context.Context, without ...string) (*Garbage, error) {
	return w.garbage(ctx, w.disk.weak, without)
}

func (l *Layout) garbage(ctx context.Context, weak bool, without []string) (*Garbage, error) {
	g := &Garbage{Names: slices.Compact(slices.Sorted(slices.Values(without))), weak: weak}
	err := g.find(ctx, l)
	if err == nil {
		err = g.measure(ctx, l.Dir())
	}
	if err != nil {
		return nil, fmt.Errorf("find garbage in layout %s: %w", l.Dir(), err)
	}
	return g, nil
}

// find finds out what stays.
func (g *Garbage) find(ctx context.Context, l *Layout) error {
	if len(l.dirs) != 1 {
		return fmt.Errorf("of %d volumes read as one: %w", len(l.dirs), fs.ErrInvalid)
	}
	named := l.current().full
	list := newEntries(l.Entries())
	var gone []ocispec.Descriptor
	for _, name := range g.Names {
		desc, ok := named[name]
		if !ok {
			return notFound(name)
		}
		gone = append(gone, desc)
		e := edit{name: name}
		g.edits = append(g.edits, e)
		list.apply(e)
	}
	h, err := l.sortOut(ctx, list.manifests())
	if err != nil {
		return err
	}
	removed, shared := l.newReach(h), &sharing{from: map[digestKey][]digestKey{}}
	if len(gone) > 0 {
		// Damage of what goes is nobody's concern.
		if err := removed.from(ctx, slices.DeleteFunc(gone, func(e ocispec.Descriptor) bool { return followable(e) != nil })); err != nil {
			return err
		}
	}
	g.kept = l.newReach(h)
	if len(removed.marks) > 0 {
		shared.removed = removed
		g.kept.edge = shared.note
	}
	if err := g.kept.from(ctx, h.roots); err != nil {
		return err
	}
	if err := g.kept.damage(); err != nil {
		return err
	}
	g.Lacking = g.kept.lacks
	g.Shared = shared.names(list.manifests())
	for _, hang := range h.hanging {
		if !g.kept.has(hang.subject) {
			e := dropping(hang.entry)
			g.edits = append(g.edits, e)
			list.apply(e)
		}
	}
	g.Entries = len(h.roots) + len(h.hanging) - len(list.manifests())
	g.rest, err = fingerprint(list.manifests())
	return err
}

// dropping is the change that takes an entry out that nothing leads to.
func dropping(entry ocispec.Descriptor) edit {
	if full := fullName(entry); full != "" {
		return edit{name: full}
	}
	return edit{alias: entry.Annotations[ocispec.AnnotationRefName], desc: plain(entry), drop: true}
}

// fingerprint tells lists of entries apart.
func fingerprint(list []ocispec.Descriptor) (digest.Digest, error) {
	raw, err := formatIndex(ocispec.Index{Manifests: list})
	if err != nil {
		return "", err
	}
	return digest.FromBytes(raw), nil
}

// sharing finds the roots that lead to what names which go lead to.
type sharing struct {
	removed *reach // nil when nothing goes
	from    map[digestKey][]digestKey
	hits    []digestKey
}

// note files one step from what stays.
func (s *sharing) note(from digest.Digest, to link) {
	switch {
	case to.digest == ocispec.DescriptorEmptyJSON.Digest:
	case s.removed.has(to.digest):
		s.hits = append(s.hits, keyOf(from)) // and all above it
	case isManifest(to.mediaType):
		s.from[keyOf(to.digest)] = append(s.from[keyOf(to.digest)], keyOf(from))
	}
}

func (s *sharing) names(entries []ocispec.Descriptor) (names []string) {
	if s.removed == nil {
		return nil
	}
	shares := map[digestKey]bool{}
	for queue := s.hits; len(queue) > 0; {
		k := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !shares[k] {
			shares[k] = true
			queue = append(queue, s.from[k]...)
		}
	}
	for _, e := range entries {
		name := cmp.Or(fullName(e), e.Annotations[ocispec.AnnotationRefName])
		if _, signature := signs(e); name == "" || signature || e.Annotations[AnnotationAliasOf] != "" {
			continue
		}
		if shares[keyOf(e.Digest)] || s.removed.has(e.Digest) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// measure adds up what there is to be removed.
func (g *Garbage) measure(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range piles() {
		err := g.sweep(ctx, root, p, func(s scrap) error {
			g.Blobs++
			g.Bytes += s.bytes
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// RemoveGarbage removes what [Writer.Garbage] found, of this writer: first the
// entries, with one [Writer.Commit] where there are any, then the content. Wherever it is cut off, what is
// named is whole, and what is left is garbage for the next time. removed, unless nil,
// is told of each piece of content and its bytes on the disk, one at a time.
//
// Nothing else may write to the layout meanwhile, by this writer or beside it: what is
// not named yet is garbage. When index.json was changed since it was looked at, no
// content is removed, [ErrChanged]; nor is it when index.json does not come back from
// the device as it was written, [ErrCorruptIndex].
//
// Only regular files are removed, whose names are digests or segments of one, in the
// directories that are made for them, and directories of segments once they are empty.
// Links are left and not followed, so that a link does not keep what it leads to. On FAT and exFAT what is there whole and as unfinished too
// may be one content under two names, and stays.
func (w *Writer) RemoveGarbage(ctx context.Context, g *Garbage, removed func(d digest.Digest, bytes int64)) error {
	if err := w.removeGarbage(ctx, g, removed); err != nil {
		return fmt.Errorf("remove garbage from layout %s: %w", w.Dir(), err)
	}
	return nil
}

func (w *Writer) removeGarbage(ctx context.Context, g *Garbage, removed func(d digest.Digest, bytes int64)) error {
	for _, e := range g.edits {
		if err := w.edit(e); err != nil {
			return err
		}
	}
	if err := w.commitEdits(ctx); err != nil {
		return err
	}
	if st, err := readState(w.disk.root); err != nil {
		return err
	} else if rest, err := fingerprint(st.index.Manifests); err != nil {
		return err
	} else if rest != g.rest {
		return ErrChanged
	}
	for _, p := range piles() {
		for again := true; again; { // a directory that changes may be listed with gaps
			again = false
			err := g.sweep(ctx, w.disk.root, p, func(s scrap) error {
				gone, err := w.removeScrap(s)
				if again = again || gone; gone && removed != nil {
					removed(s.digest, s.bytes)
				}
				return err
			})
			if err == nil && again {
				err = w.disk.syncDir(p.name)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// commitEdits commits what there is to be committed, and reads it back.
func (w *Writer) commitEdits(ctx context.Context) error {
	w.mu.Lock()
	pending := len(w.edits) > 0
	w.mu.Unlock()
	if !pending {
		return nil
	}
	if err := w.Commit(ctx); err != nil {
		return err
	}
	return w.CheckWritten()
}

// removeScrap removes a file, or segments and then their directory.
func (w *Writer) removeScrap(s scrap) (bool, error) {
	for _, name := range s.files {
		if err := w.disk.remove(name); err != nil {
			return false, err
		}
	}
	if s.dir != "" {
		if err := w.disk.remove(s.dir); err != nil {
			return false, err
		}
	}
	w.forgetFlaws(s.digest)
	w.Layout.mu.Lock()
	defer w.Layout.mu.Unlock()
	delete(w.Layout.nodes, s.digest)
	w.Layout.view = nil
	return true, nil
}

// pile is a directory of content of one algorithm.
type pile struct {
	name   string
	alg    digest.Algorithm
	scraps func(root *os.Root, p pile, name string) (scrap, bool, error)
}

// scrap is a piece of content that is garbage.
type scrap struct {
	digest digest.Digest
	files  []string
	dir    string // of segments, "" when something else is in it
	bytes  int64
}

func piles() (list []pile) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA384, digest.SHA512} {
		list = append(list,
			pile{path.Join(ocispec.ImageBlobsDir, alg.String()), alg, blobScrap},
			pile{path.Join(partsDir, alg.String()), alg, segmentsScrap},
			pile{path.Join(partialDir, alg.String()), alg, partialScrap})
	}
	return list
}

// maxNamesAtOnce is how many names of a directory are in memory.
const maxNamesAtOnce = 1024

// sweep calls take for each piece of content in a directory that is garbage.
func (g *Garbage) sweep(ctx context.Context, root *os.Root, p pile, take func(scrap) error) error {
	if ok, err := isOwnDir(root, p.name); !ok || err != nil {
		return err
	}
	dir, err := root.Open(p.name)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(maxNamesAtOnce)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s, ok, err := p.scraps(root, p, name)
			if err == nil && ok && g.goes(root, s.digest) {
				err = take(s)
			}
			if err != nil {
				return err
			}
		}
	}
}

// goes reports whether content that is there is to be removed.
func (g *Garbage) goes(root *os.Root, d digest.Digest) bool {
	return !g.kept.has(d) && (!g.weak || !twice(root, d))
}

// isOwnDir reports whether a name is a directory without a link on the way to it.
func isOwnDir(root *os.Root, name string) (bool, error) {
	for at := name; at != "."; at = path.Dir(at) {
		info, err := root.Lstat(at)
		if absent(err) {
			return false, nil
		}
		if err != nil || !info.IsDir() {
			return false, err
		}
	}
	return true, nil
}

// twice reports whether content is there under its final name and as what arrives.
func twice(root *os.Root, d digest.Digest) bool {
	is := func(name string) bool {
		_, err := root.Lstat(name)
		return !absent(err)
	}
	return is(blobName(d)) && is(partialName(d)) || is(segmentsDir(d)) && is(partialSegments(d))
}

// blobScrap looks at a name in a directory of blobs.
func blobScrap(root *os.Root, p pile, name string) (scrap, bool, error) {
	d := digest.NewDigestFromEncoded(p.alg, name)
	if checkDigest(d) != nil {
		return scrap{}, false, nil
	}
	name = path.Join(p.name, name)
	info, err := root.Lstat(name)
	if absent(err) || err == nil && !info.Mode().IsRegular() {
		return scrap{}, false, nil
	}
	if err != nil {
		return scrap{}, false, err
	}
	return scrap{digest: d, files: []string{name}, bytes: info.Size()}, true, nil
}

// partialScrap looks at a name in a directory of what arrives.
func partialScrap(root *os.Root, p pile, name string) (scrap, bool, error) {
	if encoded, ok := strings.CutSuffix(name, partialSuffix); ok {
		return readSegments(root, digest.NewDigestFromEncoded(p.alg, encoded), path.Join(p.name, name))
	}
	return blobScrap(root, p, name)
}

// segmentsScrap looks at a name in a directory of directories of segments.
func segmentsScrap(root *os.Root, p pile, name string) (scrap, bool, error) {
	return readSegments(root, digest.NewDigestFromEncoded(p.alg, name), path.Join(p.name, name))
}

func readSegments(root *os.Root, d digest.Digest, dir string) (scrap, bool, error) {
	if checkDigest(d) != nil {
		return scrap{}, false, nil
	}
	if ok, err := isOwnDir(root, dir); !ok || err != nil {
		return scrap{}, false, err
	}
	names, err := readNames(root, dir, maxSegmentNames)
	if errors.Is(err, fs.ErrInvalid) {
		return scrap{}, false, nil
	}
	if err != nil {
		return scrap{}, false, err
	}
	s := scrap{digest: d, dir: dir}
	for _, name := range names {
		at := path.Join(dir, name)
		info, err := root.Lstat(at)
		if err != nil {
			return scrap{}, false, err
		}
		if _, ok := parseSegment(name); !ok || !info.Mode().IsRegular() {
			s.dir = ""
			continue
		}
		s.files = append(s.files, at)
		s.bytes += info.Size()
	}
	return s, s.dir != "" || len(s.files) > 0, nil
}
