package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// ErrNoLibrary reports a site that has nothing in its library. It is an
// errdef.ErrNotFound.
var ErrNoLibrary = fmt.Errorf("the library of this site is empty: %w", errdef.ErrNotFound)

// FindLibraryNames returns everything in a site's library, the layout in dir, under each
// name that it has there. It fails with [ErrNoLibrary].
func FindLibraryNames(ctx context.Context, dir string) ([]Found, error) {
	l, err := layout.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, layout.ErrNotLayout) {
		return nil, ErrNoLibrary
	} else if err != nil {
		return nil, err
	}
	all, err := FindIn(ctx, l, artifact.Location{Place: artifact.PlaceMedia, Path: dir})
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, ErrNoLibrary
	} else if err != nil {
		return nil, err
	}
	return all, nil
}

// FindLibrary returns the releases in a site's library, the layout in dir, that loc
// names: by their id, or the last word of it, and by their version or digest; all where
// it names none. Each is found once, whatever it is called there. What cannot be read is
// found by its name, HOST/REPO and tag, with its Damage. It fails with [ErrNoLibrary],
// and with errdef.ErrNotFound when there is none.
func FindLibrary(ctx context.Context, dir string, loc artifact.Location) ([]Found, error) {
	all, err := FindLibraryNames(ctx, dir)
	if err != nil {
		return nil, err
	}
	var list []Found
	seen := map[digest.Digest]bool{}
	for _, f := range all {
		id, version, err := FullName(f.Repository), f.Tag, f.Damage
		if err == nil {
			id, version, err = Claim(ctx, f)
		}
		switch {
		case errors.Is(err, artifact.ErrNotRelease):
			continue
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			id, version, f.Damage = FullName(f.Repository), f.Tag, err
		}
		named := loc.Repository == "" || loc.Repository == id || loc.Repository == path.Base(id)
		other := loc.Tag != "" && loc.Tag != version || loc.Digest != "" && loc.Digest != f.Descriptor.Digest
		if !named || other || f.Damage == nil && seen[f.Descriptor.Digest] {
			continue
		}
		seen[f.Descriptor.Digest] = seen[f.Descriptor.Digest] || f.Damage == nil
		list = append(list, f)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: not in the library: %w", loc, errdef.ErrNotFound)
	}
	return list, nil
}
