package mirror

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sealift/sealift/internal/layout"
)

// fileOverhead is what a file takes at least, and is rounded up to, on most file
// systems.
const fileOverhead = 4096

// Room is what a plan needs of the file system it goes to.
type Room struct {
	// FileSystem is its name as the system has it, "" when it is not known.
	FileSystem string
	// Need is the bytes that will be written, Free what may be. Free is 0 when it is
	// not known; a disk that is full to the last byte is found by the copy.
	Need, Free int64
	// Segmented counts the blobs that are larger than a file may be there, and are
	// stored in segments, which other tools do not read.
	Segmented int
}

// RoomError reports that a plan does not fit where it goes.
type RoomError struct {
	Room
	// Entries is how many blobs a directory would hold, and MaxEntries how many it
	// may; both are 0 when it is the bytes that do not fit.
	Entries, MaxEntries int
}

// Error says what there is too little of.
func (e *RoomError) Error() string {
	if e.MaxEntries > 0 {
		return fmt.Sprintf("%s holds at most %d blobs in a directory, and %d are to be there", e.FileSystem, e.MaxEntries, e.Entries)
	}
	return fmt.Sprintf("%d bytes are to be written and %d are free", e.Need, e.Free)
}

// Is reports whether target is syscall.ENOSPC, which is what the copy would end
// with, where it is bytes that are missing.
func (e *RoomError) Is(target error) bool { return e.MaxEntries == 0 && target == syscall.ENOSPC }

// FindRoom looks, before anything is written, whether the file system that dir is on
// or would be takes what p copies there. It fails with [RoomError], and with
// syscall.EROFS where nothing can be written. What is not known of a file system is
// taken to be enough.
func (p *Plan) FindRoom(dir string) (Room, error) {
	limits, err := layout.LimitsOf(dir)
	if err != nil {
		return Room{}, fmt.Errorf("file system of %s: %w", dir, err)
	}
	room := Room{FileSystem: limits.FileSystem, Free: limits.FreeBytes}
	entries := 0
	for s := range p.steps() {
		if !s.Missing() {
			continue
		}
		entries++
		room.Need += max(0, s.here()-s.Partial)/fileOverhead*fileOverhead + fileOverhead
		if limits.FileBytes > 0 && s.Descriptor.Size > limits.FileBytes && s.spread == nil {
			room.Segmented++
		}
	}
	if room.Free > 0 && room.Need > room.Free {
		if limits, err = layout.SettledLimits(dir); err != nil {
			return room, fmt.Errorf("file system of %s: %w", dir, err)
		}
		room.Free = limits.FreeBytes
	}
	switch {
	case room.Need == 0:
	case limits.ReadOnly:
		return room, &fs.PathError{Op: "write to", Path: dir, Err: syscall.EROFS}
	case room.Free > 0 && room.Need > room.Free:
		return room, &RoomError{Room: room}
	case limits.DirEntries > 0:
		if entries += held(dir); entries > limits.DirEntries {
			return room, &RoomError{room, entries, limits.DirEntries}
		}
	}
	return room, nil
}

// held counts the blobs that are in dir already.
func held(dir string) int {
	names, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0 // the copy will meet it too, and say so
	}
	return len(names)
}
