// Package delivery brings a release from where it is to where it is used: it
// finds artifacts in registries and on media, chooses a release, verifies it,
// and answers for its images while an engine pulls them.
//
// [Finder.Find] resolves a location to what it names; [Choose] and [Verify] make
// a verified release of it; [Finder.Answer] answers where its images are pulled from.
// [Gather] and [Items] say what a copy is of, and under which names.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// Store is one repository to read from, of a registry or inside media.
type Store interface {
	content.ReadOnlyStorage
	content.Resolver
	registry.ReferrerLister
	registry.TagLister
}

// Found is one artifact that a location names.
type Found struct {
	// Name is HOST/REPO:TAG, or HOST/REPO@DIGEST.
	Name string
	// Repository is HOST/REPO as the store calls it; a layout of another tool
	// may have repositories without a host.
	Repository string
	Tag        string
	Store      Store
	Descriptor ocispec.Descriptor
	// Media is the layout the artifact is in, nil for a registry.
	Media *layout.Layout
	// Damage says why a name on media cannot be resolved; the descriptor is what
	// index.json lists then, zero where that is not one thing.
	Damage error
}

// NoTagError reports a registry's repository without a tag or digest.
type NoTagError struct{ Location artifact.Location }

// Error names the repository.
func (e *NoTagError) Error() string { return fmt.Sprintf("%s names no version", e.Location) }

// Finder finds artifacts.
type Finder struct {
	// Open opens the repository HOST/REPO of a registry.
	Open func(name string) (Store, error)
	// Library is the directory of the site's library, which need not be there.
	Library string
}

// Find returns what loc names: one artifact of a registry, all that media holds
// under the directory, repository, tag or digest given, or releases of the library as
// [FindLibrary] does. It fails with errdef.ErrNotFound when there is none and with
// [NoTagError].
func (f Finder) Find(ctx context.Context, loc artifact.Location) ([]Found, error) {
	switch loc.Place {
	case artifact.PlaceMedia:
		return FindMedia(ctx, loc)
	case artifact.PlaceLibrary:
		return FindLibrary(ctx, f.Library, loc)
	}
	if loc.Reference() == "" {
		return nil, &NoTagError{loc}
	}
	repo, err := f.Open(loc.Repository)
	if err != nil {
		return nil, err
	}
	desc, err := repo.Resolve(ctx, loc.Reference())
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", loc, errdef.ErrNotFound) // the library's text names it again
	} else if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", loc, err)
	}
	return []Found{{Name: loc.Name(), Repository: loc.Repository, Tag: loc.Tag, Store: repo, Descriptor: desc}}, nil
}

// FindMedia is [Finder.Find] for media. A name whose manifest is damaged is among
// what is found, with its Damage.
func FindMedia(ctx context.Context, loc artifact.Location) ([]Found, error) {
	l, err := OpenMedia(loc.Path)
	if err != nil {
		return nil, err
	}
	return FindIn(ctx, l, loc)
}

// FindIn is [FindMedia] for media that is open, as volumes that were joined are; of
// loc it takes what is named there, and Path for its errors.
func FindIn(ctx context.Context, l *layout.Layout, loc artifact.Location) ([]Found, error) {
	var list []Found
	for _, name := range l.Repositories() {
		full := FullName(name)
		if loc.Repository != "" && loc.Repository != name && loc.Repository != full {
			continue
		}
		repo := l.Repository(name)
		err := repo.Tags(ctx, "", func(tags []string) error {
			for _, tag := range tags {
				if _, _, signature := artifact.ParseSignatureTag(tag); signature || loc.Tag != "" && loc.Tag != tag {
					continue
				}
				found := Found{Name: full + ":" + tag, Repository: name, Tag: tag, Store: repo, Media: l}
				var err error
				if found.Descriptor, err = repo.Resolve(ctx, tag); err != nil {
					found.Damage = fmt.Errorf("resolve %s on %s: %w", found.Name, loc.Path, err)
					found.Descriptor, _ = repo.Entry(ctx, tag)
				}
				if loc.Digest == "" || loc.Digest == found.Descriptor.Digest {
					list = append(list, found)
				}
			}
			return ctx.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	if len(list) == 0 && loc.Repository == "" && loc.Tag == "" {
		list = untagged(ctx, l, loc)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w", loc, errdef.ErrNotFound)
	}
	return list, nil
}

// untagged returns the manifests of a layout without any names, as crane and
// skopeo write it for a single image.
func untagged(ctx context.Context, l *layout.Layout, loc artifact.Location) []Found {
	var list []Found
	for _, name := range l.Repositories() {
		repo := l.Repository(name)
		for _, entry := range l.Entries() {
			desc, err := repo.Resolve(ctx, entry.Digest.String())
			if err != nil || loc.Digest != "" && loc.Digest != desc.Digest {
				continue
			}
			if m, _, err := artifact.FetchManifest(ctx, repo, desc); err != nil || m.Subject != nil {
				continue // a signature is not what is meant
			}
			list = append(list, Found{Name: FullName(name) + "@" + desc.Digest.String(), Repository: name, Store: repo, Descriptor: desc, Media: l})
		}
	}
	return list
}

// FullName gives a repository without a host, which another tool's layout shows
// under the name of its directory, one: localhost, for what was made here.
func FullName(repository string) string {
	if strings.Contains(repository, "/") {
		return repository
	}
	return "localhost/" + repository
}

// OpenMedia opens media for reading; a directory that is not there is told from
// one that is no layout.
func OpenMedia(dir string) (*layout.Layout, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory: %w", dir, layout.ErrNotLayout)
	}
	return layout.Open(dir)
}

// Arrived returns the bytes of content on the media in dir, what has arrived of
// unfinished blobs included, whether or not anything names it. What cannot be looked
// at does not count, nor what is beyond a million files.
func Arrived(dir string) int64 {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0
	}
	defer func() { _ = root.Close() }() // was only read
	var sum int64
	left := 1_000_000
	for _, below := range []string{"blobs", "sealift/partial", "sealift/parts"} {
		_ = fs.WalkDir(root.FS(), below, func(_ string, e fs.DirEntry, err error) error { // see above
			if left--; left < 0 {
				return fs.SkipAll
			}
			if err != nil || !e.Type().IsRegular() {
				return nil //nolint:nilerr // it does not count
			}
			if info, err := e.Info(); err == nil {
				sum += info.Size()
			}
			return nil
		})
	}
	return sum
}
