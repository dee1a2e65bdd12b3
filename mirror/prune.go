package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// PruneOptions configure [Prune]. The zero value is a good default.
type PruneOptions struct {
	// DryRun changes nothing and needs no writable media.
	DryRun bool
	// Progress is told of each piece of content that is removed, with the bytes it has
	// on the disk; nil for nobody. A dry run tells nothing.
	Progress Progress
}

// Pruned is what [Prune] removed, or would remove.
type Pruned struct {
	// Names are those that were given, sorted, each once.
	Names []string
	// Entries counts what else leaves index.json: referrers, and signature tags with
	// their aliases.
	Entries int
	// Freed is the content, segments of one blob and unfinished blobs counted as one
	// piece each, with its bytes on the disk.
	Freed Amount
	// Shared are the names that stay and need content that Names have too, sorted.
	Shared []string
}

// Prune removes artifacts from the media in dir and frees the space that they alone
// used. Names are full, HOST/REPO:TAG. Their aliases go with them, and the referrers
// and signature tags that nothing else needs, then the content that nothing leads to
// any more. That is also what nobody has named yet: the blobs, whole or begun, that an
// interrupted copy has left and another run would continue, since who prunes wants the
// space. Without names only that is removed. A release that has another name stays
// whole, and so does everything else that index.json names.
//
// index.json changes first, once, then files go, and last the label forgets what the
// index no longer names. Wherever it is interrupted the media is sound, and Prune
// without the names that are gone removes the rest. The label of a volume tells of its
// set as before.
//
// It returns what was removed also with an error. Errors: errdef.ErrNotFound for a
// name that is not there, and nothing is changed; [ErrDamaged] when something that
// stays is damaged or lacks a manifest without a reason on the label, since nobody knows
// what it needs: nothing is removed until it is repaired; fs.ErrNotExist and
// layout.ErrNotLayout for what is no media; and those of [OpenMedia], syscall.EROFS for
// read-only media.
func Prune(ctx context.Context, dir string, names []string, opts PruneOptions) (_ Pruned, err error) {
	held, err := layout.Open(dir)
	if err != nil {
		return Pruned{}, fmt.Errorf("open media %s: %w", dir, err)
	}
	if opts.DryRun {
		found, err := held.Garbage(ctx, names...)
		if err != nil {
			return Pruned{}, fmt.Errorf("prune: %w", err)
		}
		if err := knowsAll(ctx, held, found); err != nil {
			return Pruned{}, fmt.Errorf("prune media %s: %w", dir, err)
		}
		done := newPruned(found)
		done.Freed = Amount{found.Blobs, found.Bytes}
		return done, nil
	}
	if err := haveNames(held, names); err != nil { // before opening it changes anything
		return Pruned{}, fmt.Errorf("prune media %s: %w", dir, err)
	}
	media, err := OpenMedia(ctx, dir, MediaOptions{})
	if err != nil {
		return Pruned{}, err
	}
	defer func() { err = errors.Join(err, media.Close()) }()
	found, err := media.w.Garbage(ctx, names...)
	if err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	if err := knowsAll(ctx, media.w.Layout, found); err != nil {
		return Pruned{}, fmt.Errorf("prune media %s: %w", dir, err)
	}
	return media.prune(ctx, found, opts.Progress)
}

func newPruned(found *layout.Garbage) Pruned {
	return Pruned{Names: found.Names, Entries: found.Entries, Shared: found.Shared}
}

func (m *Media) prune(ctx context.Context, found *layout.Garbage, progress Progress) (Pruned, error) {
	if progress == nil {
		progress = silent{}
	}
	done := newPruned(found)
	progress.Begin(Amount{found.Blobs, found.Bytes}, Amount{found.Blobs, found.Bytes})
	defer progress.End()
	err := m.w.RemoveGarbage(ctx, found, func(d digest.Digest, bytes int64) {
		desc := ocispec.Descriptor{Digest: d, Size: bytes}
		progress.Start(desc)
		progress.Adjust(desc, bytes)
		progress.Stored(desc)
		done.Freed.add(bytes)
	})
	if err == nil {
		err = m.forget(ctx, found)
	}
	if err != nil {
		return done, fmt.Errorf("prune: %w", err)
	}
	return done, nil
}

// forget takes out of the label what the index no longer names, and what was left of
// it. A label that there is not, or that cannot be read, stays as it is.
func (m *Media) forget(ctx context.Context, found *layout.Garbage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := len(m.label.roots) + len(m.label.Left)
	m.tidyLabel()
	m.label.Left = slices.DeleteFunc(m.label.Left, func(d digest.Digest) bool { return !found.Leads(d) })
	if len(m.label.roots)+len(m.label.Left) == told {
		return nil
	}
	return m.w.SetLabel(ctx, m.label.label())
}

func haveNames(held *layout.Layout, names []string) error {
	have := map[string]bool{}
	for _, r := range held.Roots() {
		have[r.Name] = true
	}
	for _, name := range names {
		if !have[name] {
			return fmt.Errorf("%s: %w", name, errdef.ErrNotFound)
		}
	}
	return nil
}

// knowsAll returns a [DamageError] with the manifests that what stays has to have and
// lacks. Those for platforms that the label does not speak of are not carried.
func knowsAll(ctx context.Context, held *layout.Layout, found *layout.Garbage) error {
	if found.Lacking == 0 {
		return nil
	}
	label, err := held.Label()
	if err != nil {
		label = layout.Label{} // which gives no reasons
	}
	var damage DamageError
	explained, seen := map[digest.Digest]bool{}, map[string]map[digest.Digest]bool{}
	look := func(d ocispec.Descriptor, platforms []string) error {
		want, err := parsePlatforms(platforms)
		if err != nil {
			return err
		}
		key := strings.Join(platforms, " ")
		if seen[key] == nil {
			seen[key] = map[digest.Digest]bool{}
		}
		return damage.lacking(ctx, held, d, want, seen[key])
	}
	for _, r := range held.Roots() {
		said, ok := label.Root(r.Name, r.Descriptor.Digest)
		if !ok || slices.Contains(found.Names, r.Name) {
			continue
		}
		explained[r.Descriptor.Digest] = true
		if err := look(r.Descriptor, said.Platforms); err != nil {
			return err
		}
	}
	for _, d := range listedManifests(held.Entries()) {
		if explained[d.Digest] || !found.Leads(d.Digest) {
			continue
		}
		if err := look(d, nil); err != nil {
			return err
		}
	}
	damage.Missing = appendNew(nil, damage.Missing, map[digest.Digest]bool{})
	return damage.found()
}

func parsePlatforms(names []string) (list []ocispec.Platform, err error) {
	for _, name := range names {
		p, err := ParsePlatform(name)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// lacking adds the manifests that desc reaches, for the platforms wanted, and that src
// lacks. What is in seen was looked at.
func (e *DamageError) lacking(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, want []ocispec.Platform, seen map[digest.Digest]bool) error {
	for queue := []ocispec.Descriptor{desc}; len(queue) > 0; {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if !artifact.IsManifest(d.MediaType) || seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		m, _, err := artifact.FetchManifest(ctx, src, d)
		if errors.Is(err, errdef.ErrNotFound) {
			e.Missing = append(e.Missing, plain(d))
			continue
		}
		if err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		queue = append(queue, Member{Descriptor: d, Entries: m.Manifests}.carried(want)...)
	}
	return nil
}
