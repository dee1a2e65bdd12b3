package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// finder finds artifacts with the person's own credentials, and in the site's library.
func (a *app) finder() delivery.Finder {
	f := delivery.Finder{Open: func(name string) (delivery.Store, error) { return a.client.Repository(name) }}
	if home, err := a.homeDir(); err == nil {
		f.Library = site.LibraryDir(home)
	}
	return f
}

// location reads a REF of the command line.
func location(ref string) (artifact.Location, error) {
	loc, err := artifact.ParseLocation(ref)
	switch {
	case err != nil && isWord(ref):
		return loc, withHint(usagef("%q is neither a registry nor a directory", ref), "write ./%s for a directory", ref)
	case err != nil:
		return loc, usagef("%v", err)
	}
	return loc, nil
}

// notInLibrary is the error of a word that names nothing in the library; where there is
// none, who typed it meant something else.
func notInLibrary(ref string, err error) error {
	advice := fmt.Sprintf("write ./%s for a directory, or HOST/%s for a registry", ref, ref)
	if errors.Is(err, delivery.ErrNoLibrary) {
		return withHint(usagef("%q is neither a registry nor a directory", ref), "%s", advice)
	}
	return withHint(err, "see what the library has: sealift list; %s", advice)
}

// isWord reports whether ref begins with a word that is no host and no path.
func isWord(ref string) bool {
	end := strings.IndexAny(ref, "/:@\\")
	if end < 0 {
		end = len(ref)
	}
	rest := ref[end:]
	port := strings.HasPrefix(rest, ":") && strings.ContainsAny(rest, "/\\")
	return end > 0 && !strings.Contains(ref[:end], ".") && !port
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
	case errors.Is(err, errdef.ErrNotFound) && loc.Place == artifact.PlaceLibrary:
		return nil, notInLibrary(ref, err)
	case errors.Is(err, errdef.ErrNotFound) && loc.Place == artifact.PlaceMedia && loc.Repository == "" && loc.Reference() == "":
		return nil, nothingFinished([]string{loc.Path})
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
	err := usagef("%s holds several: %s", ref, strings.Join(several.Names, ", "))
	place, placeErr := artifact.ParseLocation(ref)
	if placeErr == nil && place.Place == artifact.PlaceLibrary {
		return withHint(err, "name one; see their ids and versions: sealift list")
	}
	one, nameErr := artifact.ParseLocation(several.Names[0])
	if placeErr != nil || nameErr != nil {
		return err // cannot be: they were found
	}
	one.Place, one.Path = artifact.PlaceMedia, place.Path
	return withHint(err, "name one, as %s", one)
}

// findTogether is find for several directories, which are read as one.
func (a *app) findTogether(ctx context.Context, refs []string) ([]delivery.Found, error) {
	if len(refs) == 1 {
		return a.find(ctx, refs[0])
	}
	l, dirs, err := openAll(refs)
	if err != nil {
		return nil, err
	}
	list, err := delivery.FindIn(ctx, l, artifact.Location{Place: artifact.PlaceMedia, Path: l.Dir()})
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nothingFinished(dirs)
	}
	return list, err
}

// openAll opens directories as one layout.
func openAll(refs []string) (_ *layout.Layout, dirs []string, err error) {
	var all []*layout.Layout
	for _, ref := range refs {
		loc, err := artifact.ParseLocation(ref)
		if err := noDirectory(ref, loc, err, len(refs) > 1); err != nil {
			return nil, nil, err
		}
		l, err := delivery.OpenMedia(loc.Path)
		if err != nil {
			return nil, nil, err
		}
		all, dirs = append(all, l), append(dirs, loc.Path)
	}
	l, err := layout.Join(all...)
	return l, dirs, err
}

// noDirectory is the error of a ref that is not media as a whole, nil for one that is;
// several says that others stand beside it.
func noDirectory(ref string, loc artifact.Location, err error, several bool) error {
	fault := usagef("%q is no directory to read from", ref)
	switch {
	case err != nil && !isWord(ref):
		return withHint(fault, "%v", err)
	case err != nil, loc.Place == artifact.PlaceLibrary:
		return withHint(fault, "write ./%s for a directory here", ref)
	case loc.Place == artifact.PlaceMedia && loc.Repository == "" && loc.Reference() == "":
		return nil
	case loc.Place == artifact.PlaceMedia && several:
		return withHint(fault, "several directories are read as one and whole, without a name: %s; or give %s alone", directory(loc.Path), ref)
	case loc.Place == artifact.PlaceMedia:
		return withHint(fault, "give all of it: %s", directory(loc.Path))
	case several:
		return withHint(fault, "what is in a registry is named alone, one REF at a time; several are directories")
	}
	return withHint(fault, "a registry serves itself; copy it first: sealift mirror %s DIR", ref)
}

// unfinishedError says that media holds content and names none of it yet.
type unfinishedError struct {
	where string
	mirror.IncompleteError
}

func (e *unfinishedError) Error() string {
	return fmt.Sprintf("nothing finished is on %s; %s of a copy have arrived", e.where, ui.Bytes(e.Stored))
}

// Unwrap returns what it is an instance of.
func (e *unfinishedError) Unwrap() error { return &e.IncompleteError }

// nothingFinished says of media on which nothing is named whether a copy was begun.
func nothingFinished(dirs []string) error {
	e := &unfinishedError{where: directories(dirs)}
	for _, dir := range dirs {
		e.Stored += delivery.Arrived(dir)
	}
	if e.Stored > 0 {
		return withHint(e, "run the same sealift mirror again, of a set with the next volume; it continues where it stopped")
	}
	return withHint(fmt.Errorf("nothing is on %s: %w", e.where, errdef.ErrNotFound), "copy something there: sealift mirror REF %s", directory(dirs[0]))
}

// directories writes the paths of several media as a command line takes them.
func directories(paths []string) string {
	words := make([]string, len(paths))
	for i, path := range paths {
		words[i] = directory(path)
	}
	return strings.Join(words, " ")
}

// directory writes the path of media as a command line takes it.
func directory(path string) string {
	return shellWord(artifact.Location{Place: artifact.PlaceMedia, Path: path}.String())
}

// shellWord quotes a word for a shell, where that is needed: who names a disk may choose
// where it is mounted.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+=,-{}") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// typed writes where media is as a command line takes it.
func typed(media *layout.Layout) string { return directory(media.Dir()) }
