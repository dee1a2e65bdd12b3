package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// store is one repository to read from, of a registry or inside media.
type store interface {
	content.ReadOnlyStorage
	content.Resolver
	registry.ReferrerLister
	registry.TagLister
}

// found is one artifact that a REF names.
type found struct {
	// Name is HOST/REPO:TAG, or HOST/REPO@DIGEST.
	Name       string
	Repository string
	Tag        string
	Store      store
	Descriptor ocispec.Descriptor
}

// signatureTag matches tags that are not names of artifacts but hang signatures
// and referrers on one.
var signatureTag = regexp.MustCompile(`^sha(256|512)-[0-9a-f]{64,128}(\.[a-z]+)?$`)

// find returns what ref names: one artifact of a registry, or all that media
// holds under the directory, repository, version or digest given.
func (a *app) find(ctx context.Context, ref string) ([]found, error) {
	loc, err := artifact.ParseLocation(ref)
	if err != nil {
		return nil, usagef("%v", err)
	}
	switch loc.Place {
	case artifact.PlaceRegistry:
		f, err := a.findRemote(ctx, loc)
		return []found{f}, err
	case artifact.PlaceMedia:
		return findMedia(ctx, loc)
	}
	return nil, withHint(usagef("%q is neither a registry nor a directory", ref),
		"write ./%s for a directory, or HOST/%s for a registry", ref, ref)
}

// findOne is find for commands that work on one artifact.
func (a *app) findOne(ctx context.Context, ref string) (found, error) {
	list, err := a.find(ctx, ref)
	if err != nil {
		return found{}, err
	}
	if len(list) > 1 {
		names := make([]string, len(list))
		for i, f := range list {
			names[i] = f.Name
		}
		return found{}, withHint(usagef("%s holds several: %s", ref, strings.Join(names, ", ")), "name one, as %s//%s", strings.TrimRight(ref, "/"), names[0])
	}
	return list[0], nil
}

func (a *app) findRemote(ctx context.Context, loc artifact.Location) (found, error) {
	if loc.Reference() == "" {
		return found{}, withHint(usagef("%s names no version", loc), "add one, as %s:1.0.0", loc)
	}
	repo, err := a.client.Repository(loc.Repository)
	if err != nil {
		return found{}, usagef("%v", err)
	}
	desc, err := repo.Resolve(ctx, loc.Reference())
	if errors.Is(err, errdef.ErrNotFound) {
		// The library's text would name it again.
		return found{}, withHint(fmt.Errorf("%s: %w", loc, errdef.ErrNotFound), "check the name of the repository and the version")
	} else if err != nil {
		return found{}, fmt.Errorf("resolve %s: %w", loc, err)
	}
	return found{Name: loc.Name(), Repository: loc.Repository, Tag: loc.Tag, Store: repo, Descriptor: desc}, nil
}

func findMedia(ctx context.Context, loc artifact.Location) ([]found, error) {
	l, err := openMedia(loc.Path)
	if err != nil {
		return nil, err
	}
	var list []found
	for _, name := range l.Repositories() {
		if loc.Repository != "" && loc.Repository != name && loc.Repository != fullName(name) {
			continue
		}
		repo := l.Repository(name)
		err := repo.Tags(ctx, "", func(tags []string) error {
			for _, tag := range tags {
				if signatureTag.MatchString(tag) || loc.Tag != "" && loc.Tag != tag {
					continue
				}
				desc, err := repo.Resolve(ctx, tag)
				if err != nil {
					return fmt.Errorf("resolve %s:%s on %s: %w", name, tag, loc.Path, err)
				}
				if loc.Digest == "" || loc.Digest == desc.Digest {
					list = append(list, found{Name: fullName(name) + ":" + tag, Repository: name, Tag: tag, Store: repo, Descriptor: desc})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(list) == 0 {
		return nil, withHint(fmt.Errorf("%s: %w", loc, errdef.ErrNotFound), "see what the media holds: sealift inspect %s", artifact.Location{Place: artifact.PlaceMedia, Path: loc.Path})
	}
	return list, nil
}

// fullName gives a repository without a host, which another tool's layout shows
// under the name of its directory, one: localhost, for what was made here.
func fullName(repository string) string {
	if strings.Contains(repository, "/") {
		return repository
	}
	return "localhost/" + repository
}

// openMedia opens media for reading; a directory that is not there is told from
// one that is no layout.
func openMedia(dir string) (*layout.Layout, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("open media: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("open media %s: not a directory: %w", dir, layout.ErrNotLayout)
	}
	l, err := layout.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open media %s: %w", dir, err)
	}
	return l, nil
}

// release is a found artifact that is a release of an app.
type release struct {
	found
	*artifact.Release
}

// releases returns those of list that are releases, in descending order of
// version. A name that disagrees with what the release says of itself is an
// error: names come from unsigned places.
func releases(ctx context.Context, list []found) ([]release, error) {
	var out []release
	for _, f := range list {
		r, err := artifact.ReadRelease(ctx, f.Store, f.Descriptor)
		if errors.Is(err, artifact.ErrNotRelease) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if v := r.App.Template.Version; f.Tag != "" && f.Tag != v && !strings.HasPrefix(f.Tag, "digest-") {
			if artifact.CheckVersion(f.Tag) == nil {
				return nil, fmt.Errorf("%s is tagged %s but its signed content says %s %s: %w", f.Name, f.Tag, r.App.Template.ID, v, errRefused)
			}
		}
		out = append(out, release{f, r})
	}
	slices.SortStableFunc(out, func(a, b release) int {
		return artifact.CompareVersions(b.App.Template.Version, a.App.Template.Version)
	})
	return out, nil
}
