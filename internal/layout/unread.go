package layout

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
)

// unreadName is there while the layout has something that was written and not read
// back from the device. Whatever stands under the name says so: a power failure may
// have torn it.
const unreadName = privateDir + "/unread"

const unreadText = "Not all of this was read back from the disk after it was written: sealift verify\n"

// Unread reports whether something was written to the layout that nobody has read back
// from the device, as far as [Writer.SetUnread] was told.
func (l *Layout) Unread() (bool, error) {
	for _, dir := range l.dirs {
		unread, err := unreadIn(dir)
		if unread || err != nil {
			return unread, err
		}
	}
	return false, nil
}

func unreadIn(dir string) (bool, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	_, err = root.Lstat(unreadName)
	if absent(err) {
		return false, nil
	}
	return err == nil, err
}

// SetUnread notes durably that something is about to be written that is to be read
// back, or that all was read back. A note that a power failure brings back only costs
// a reading.
func (w *Writer) SetUnread(ctx context.Context, unread bool) error {
	if err := w.setUnread(ctx, unread); err != nil {
		return fmt.Errorf("note in layout %s what was read back: %w", w.Dir(), err)
	}
	return nil
}

func (w *Writer) setUnread(ctx context.Context, unread bool) error {
	if unread {
		return w.writeFile(ctx, unreadName, 0o644, strings.NewReader(unreadText))
	}
	release, err := w.claim(ctx, digest.FromString(unreadName))
	if err != nil {
		return err
	}
	defer release()
	return w.disk.removeTree(unreadName)
}
