// Package layout is an OCI image layout on a disk that may be pulled out at
// any moment: reading it while others write, and writing it so that neither
// kill -9 nor a power failure leaves a wrong blob or a lost index.
//
// It implements the image layout of the OCI image specification v1.1
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md)
// and, for the views of its repositories, the referrers of the distribution
// specification v1.1. [Open] reads a layout of any tool; [OpenWriter] makes one
// or adds to it. Everything the package keeps beside the specified files is in
// the directory sealift/.
//
// What a layout says about itself is hostile input: digests are checked before
// they become paths, names before they are listed, manifests are verified as
// they are read, and no symbolic link leads out of the directory. The bytes of
// other blobs are verified when they are written, not when they are read.
package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
)

var (
	_ content.ReadOnlyStorage = (*Layout)(nil)
	_ content.Resolver        = (*Layout)(nil)
	_ content.ReadOnlyStorage = (*Repository)(nil)
	_ content.Resolver        = (*Repository)(nil)
	_ registry.ReferrerLister = (*Repository)(nil)
	_ registry.TagLister      = (*Repository)(nil)
	_ content.Storage         = (*Writer)(nil)
	_ content.Deleter         = (*Writer)(nil)
	_ content.Pusher          = (*WritableRepository)(nil)
	_ content.TagResolver     = (*WritableRepository)(nil)
)

// maxLayoutFileBytes caps oci-layout, which holds one short field.
const maxLayoutFileBytes = 4 << 10

// Layout reads an image layout. It shows the index as it was when the layout
// was opened; open it again to see later commits. All methods may be called
// concurrently. It holds no open file and needs no closing.
type Layout struct {
	dirs   []string // of the volumes, one of them but for a joined layout
	limits graphLimits

	mu      sync.Mutex
	entries *entries                // of the index, with a writer's uncommitted edits
	view    *view                   // of entries, made when needed
	nodes   map[digest.Digest]*node // manifests read so far
	labels  []func() (Label, error) // of the volumes, each read when first asked for
	flaws   map[pieceKey]*PieceError
	unsound map[blobClaim]error // blobs of which no copy is sound

	conflicts map[string]*conflict // by name, of volumes that were joined
	standings []IndexStanding      // what was not sound on opening

	searching chan struct{} // held by who looks for a sound copy
	reading   func(n int64) // told what is read in search of one; nil outside tests
}

// Root is a manifest with a full name: a release, an image, a signature of the
// tag scheme.
type Root struct {
	// Name is HOST/REPOSITORY:TAG.
	Name string
	// Descriptor has media type, digest and size.
	Descriptor ocispec.Descriptor
}

// Open opens the layout in dir for reading. It writes nothing and takes no
// lock, so it works on read-only media and beside a writer. When index.json
// was torn, the newest valid slot counts. Errors: fs.ErrNotExist when there is
// no such directory, [ErrNotLayout], [ErrCorruptIndex],
// errdef.ErrUnsupportedVersion, errdef.ErrSizeExceedsLimit.
func Open(dir string) (*Layout, error) {
	l, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := checkLayoutFile(root); err != nil {
		return nil, err
	}
	st, err := readState(root)
	if err != nil {
		return nil, err
	}
	l := newLayout(st.index.Manifests, dir)
	if st.indexState != IndexSound {
		l.standings = []IndexStanding{{dir, st.indexState}}
	}
	return l, nil
}

func newLayout(manifests []ocispec.Descriptor, dirs ...string) *Layout {
	return &Layout{dirs: dirs, limits: defaultGraphLimits, entries: newEntries(manifests), nodes: map[digest.Digest]*node{}, searching: make(chan struct{}, 1)}
}

// checkLayoutFile accepts version 1.0.0, the only one there is.
func checkLayoutFile(root *os.Root) error {
	raw, err := readFile(root, ocispec.ImageLayoutFile, maxLayoutFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: no %s", ErrNotLayout, ocispec.ImageLayoutFile)
	}
	if err != nil {
		return err
	}
	var file ocispec.ImageLayout
	if err := json.Unmarshal(raw, &file); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotLayout, ocispec.ImageLayoutFile, err)
	}
	if file.Version != ocispec.ImageLayoutVersion {
		return fmt.Errorf("image layout version %q: %w", file.Version, errdef.ErrUnsupportedVersion)
	}
	return nil
}

// Dir returns the directory the layout was opened with, of volumes that were
// joined the first.
func (l *Layout) Dir() string { return l.dirs[0] }

// current returns the view of the index as it is now.
func (l *Layout) current() *view {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view == nil {
		l.view = newView(l.entries.manifests(), localName(l.Dir()), l.conflicts)
	}
	return l.view
}

// Roots returns the entries of index.json that have a full name, sorted by it.
// Aliases and untagged entries are not among them.
func (l *Layout) Roots() []Root {
	v := l.current()
	roots := make([]Root, 0, len(v.full))
	for _, name := range v.fullNames {
		roots = append(roots, Root{Name: name, Descriptor: plain(v.full[name])})
	}
	return roots
}

// Entries returns every entry of index.json as it stands there, in its order.
func (l *Layout) Entries() []ocispec.Descriptor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries.manifests()
}

// Repositories returns the sorted names of the repositories that [Layout.Roots]
// belong to. Entries that other tools wrote with a bare tag, or with no name in
// a layout without any full name, are in a repository named after the layout's
// directory, in lower case and with "-" for what a name cannot hold.
func (l *Layout) Repositories() []string {
	return append([]string(nil), l.current().repositories...)
}

// Lookup returns the view of the repository called name, and false when
// [Layout.Repositories] would not list it.
func (l *Layout) Lookup(name string) (*Repository, bool) {
	if _, ok := l.current().tags[name]; !ok {
		return nil, false
	}
	return l.Repository(name), true
}

// Repository returns the view of one repository. A name the layout does not
// have makes a view in which nothing is found.
func (l *Layout) Repository(name string) *Repository {
	return &Repository{layout: l, name: name}
}

// Resolve finds a manifest by full name, by any other name an entry has (an
// alias, a bare tag), by digest, or by HOST/REPOSITORY@DIGEST. Of several
// entries with one name the last counts, as it does for other tools. Errors:
// errdef.ErrNotFound, also when the manifest itself is not in the layout;
// [*SizeError] when it is damaged in an obvious way; [*ConflictError].
func (l *Layout) Resolve(ctx context.Context, reference string) (ocispec.Descriptor, error) {
	if repository, d, ok := strings.Cut(reference, "@"); ok {
		if name, _, tagged := splitName(repository); tagged {
			repository = name
		}
		return l.Repository(repository).Resolve(ctx, d)
	}
	if l.current().conflicts[reference] != nil {
		g, err := l.graph(ctx)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d, err := g.decide(reference)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return g.manifest(d)
	}
	desc, ok := l.current().names[reference]
	if !ok {
		if checkDigest(digest.Digest(reference)) != nil {
			return ocispec.Descriptor{}, notFound(reference)
		}
		return l.resolveDigest(ctx, digest.Digest(reference))
	}
	if _, err := l.locate(desc); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", reference, err)
	}
	return plain(desc), nil
}

func (l *Layout) resolveDigest(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	g, err := l.graph(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return g.manifest(d)
}

// Damage reads every manifest that index.json leads to and returns an error
// joining a [*ManifestError] for each one that is there and cannot be used, nil
// when there is none. Such manifests, and what only they lead to, are absent
// from the views of repositories. Manifests and blobs that are not there are no
// damage, since a layout may be sparse.
func (l *Layout) Damage(ctx context.Context) error {
	g, err := l.graph(ctx)
	if err != nil {
		return err
	}
	return g.damage()
}
