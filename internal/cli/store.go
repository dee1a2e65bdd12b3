package cli

import (
	"context"
	"errors"
	"strings"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
)

// finder finds artifacts with the person's own credentials.
func (a *app) finder() delivery.Finder {
	return delivery.Finder{Open: func(name string) (delivery.Store, error) { return a.client.Repository(name) }}
}

// location reads a REF of the command line.
func location(ref string) (artifact.Location, error) {
	loc, err := artifact.ParseLocation(ref)
	if err != nil {
		return loc, usagef("%v", err)
	}
	if loc.Place == artifact.PlaceLibrary {
		return loc, withHint(usagef("%q is neither a registry nor a directory", ref), "write ./%s for a directory, or HOST/%s for a registry", ref, ref)
	}
	return loc, nil
}

// find returns what ref names, at least one artifact.
func (a *app) find(ctx context.Context, ref string) ([]delivery.Found, error) {
	loc, err := location(ref)
	if err != nil {
		return nil, err
	}
	list, err := a.finder().Find(ctx, loc)
	var noTag *delivery.NoTagError
	switch {
	case errors.As(err, &noTag):
		return nil, withHint(&usageError{err.Error()}, "add one, as %s:1.0.0", loc)
	case errors.Is(err, errdef.ErrNotFound) && loc.Place == artifact.PlaceMedia:
		return nil, withHint(err, "see what the media holds: sealift inspect %s", directory(loc.Path))
	case errors.Is(err, errdef.ErrNotFound):
		return nil, withHint(err, "check the name and the version; the registry answers but does not have it")
	}
	return list, err
}

// findOne is find for commands that work on one artifact.
func (a *app) findOne(ctx context.Context, ref string) (delivery.Found, error) {
	list, err := a.find(ctx, ref)
	if err != nil {
		return delivery.Found{}, err
	}
	if len(list) > 1 {
		several := &delivery.SeveralError{}
		for _, f := range list {
			several.Names = append(several.Names, f.Name)
		}
		return delivery.Found{}, nameOne(ref, several)
	}
	return list[0], list[0].Damage
}

// nameOne asks for one of several.
func nameOne(ref string, several *delivery.SeveralError) error {
	return withHint(usagef("%s holds several: %s", ref, strings.Join(several.Names, ", ")),
		"name one, as %s//%s", strings.TrimRight(ref, "/"), several.Names[0])
}

// directory writes the path of media as a command line takes it.
func directory(path string) string {
	return artifact.Location{Place: artifact.PlaceMedia, Path: path}.String()
}

// typed writes where media is as a command line takes it.
func typed(media *layout.Layout) string { return directory(media.Dir()) }
