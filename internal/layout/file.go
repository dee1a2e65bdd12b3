package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// newSuffix ends the names of files on their way to another name. They are in
// the private directory, and [OpenWriter] removes what is left of them.
const newSuffix = ".new"

// ReadFile returns a file beside the blobs, such as sealift/media.json. name is
// slash-separated and below the layout; limit is the most bytes it may have.
// Nothing outside the layout is ever read. Of volumes joined, the first that
// has the file counts. Errors: fs.ErrNotExist,
// fs.ErrInvalid when it is no regular file or name leads elsewhere,
// errdef.ErrSizeExceedsLimit.
func (l *Layout) ReadFile(name string, limit int64) ([]byte, error) {
	if !isFileName(name) {
		return nil, fmt.Errorf("read file %q of a layout: %w", name, fs.ErrInvalid)
	}
	for _, dir := range l.dirs {
		raw, err := readFileIn(dir, name, limit)
		if err == nil {
			return raw, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read file of layout %s: %w", dir, err)
		}
	}
	return nil, fmt.Errorf("read file %s of layout %s: %w", name, l.Dir(), fs.ErrNotExist)
}

func readFileIn(dir, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readFile(root, name, limit)
}

// WriteFile makes or replaces a file beside the blobs, durably and as one step:
// whoever reads sees the old content or the new one. On FAT and exFAT it is written
// in place, and may be found torn after a power failure. name is slash-separated;
// its directories are made. mode is that of a new file, less the process's
// umask. Several files may be written at the same time. After an error the old
// file is as it was. Errors: fs.ErrInvalid when name leads out of the layout,
// or is one that the layout keeps for itself (oci-layout, index.json, blobs/,
// and of sealift/ the slots, the lock, unread, partial/, parts/ and what ends in .new).
func (w *Writer) WriteFile(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	if !isFileName(name) || isOwnName(name) {
		return fmt.Errorf("write file %q into a layout: %w", name, fs.ErrInvalid)
	}
	if err := w.writeFile(ctx, name, mode, r); err != nil {
		return fmt.Errorf("write file %s into layout %s: %w", name, w.Dir(), err)
	}
	return nil
}

func (w *Writer) writeFile(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	key := digest.FromString(name)
	release, err := w.claim(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	if name == labelName {
		defer w.forgetLabel()
	}
	if err := w.disk.mkdir(path.Dir(name)); err != nil {
		return err
	}
	temp := path.Join(privateDir, key.Encoded()[:16]+newSuffix)
	if w.disk.weak {
		temp = name
	}
	err = w.disk.write(temp, mode, readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	}))
	if w.disk.weak {
		return err
	}
	if move := w.disk.rename; err == nil {
		if isPrivate(name) {
			move = w.disk.supplant
		}
		err = move(temp, name)
	}
	if err != nil {
		err = errors.Join(err, w.disk.removeAny(temp))
	}
	return err
}

// readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// isFileName reports whether name is a clean path below the layout on any
// platform and file system it may be carried to: Windows and FAT read a
// backslash and a colon as more than letters, and drop dots and blanks at the
// end of a name.
func isFileName(name string) bool {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\:\x00") || !filepath.IsLocal(filepath.FromSlash(name)) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(name, "/"), func(element string) bool {
		return strings.TrimRight(element, ". ") != element
	})
}

// isPrivate reports whether a name is one that nobody but this program gives.
func isPrivate(name string) bool { return isOwnName(name) || strings.HasPrefix(name, privateDir+"/") }

// isOwnName reports whether a name is one of the layout's own. Letters of
// either case are the same on most removable media.
func isOwnName(name string) bool {
	name = strings.ToLower(name)
	first, rest, _ := strings.Cut(name, "/")
	switch first {
	case ocispec.ImageLayoutFile, ocispec.ImageIndexFile, ocispec.ImageBlobsDir:
		return true
	case privateDir:
	default:
		return false
	}
	second, _, _ := strings.Cut(rest, "/")
	return second == "" || second == path.Base(partialDir) || second == path.Base(partsDir) || second == path.Base(unreadName) ||
		strings.HasPrefix(second, slotPrefix) || second == "lock" || strings.HasPrefix(second, "lock.") ||
		strings.HasSuffix(second, newSuffix)
}
