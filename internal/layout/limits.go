package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"oras.land/oras-go/v2/errdef"
)

const (
	// fatFileBytes is the size of the largest file on FAT.
	fatFileBytes = 4<<30 - 1
	// fatDirEntries is how many blobs a directory on FAT holds. It has 65,536
	// slots of 32 bytes; a name of 64 characters takes five for the name, with 13
	// characters each, and one for the file. A few are left over.
	fatDirEntries = 10_900

	mebibyte = 1 << 20
)

// Limits is what a file system can hold.
type Limits struct {
	// FileSystem is its name as the system has it, such as ext4, vfat or
	// fuse.fusefat; "" when it is not known.
	FileSystem string
	// FileBytes is the size of the largest file, 0 when there is no limit that
	// matters or none is known.
	FileBytes int64
	// DirEntries is how many blobs one directory holds, 0 as for FileBytes.
	DirEntries int
	// FreeBytes is what this user may still write, 0 also when it is not known.
	FreeBytes int64
	// ReadOnly tells that nothing can be written.
	ReadOnly bool
}

// LimitsOf returns the limits of the file system that dir is on, or would be:
// where dir does not exist, its nearest parent that does is asked. On platforms
// other than Linux, macOS and Windows all is unknown.
func LimitsOf(dir string) (Limits, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Limits{}, err
	}
	for {
		if _, err = os.Stat(abs); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(abs) == abs {
			break
		}
		abs = filepath.Dir(abs)
	}
	if err != nil {
		return Limits{}, fmt.Errorf("limits of %s: %w", dir, err)
	}
	limits, err := statLimits(abs)
	if err != nil {
		return Limits{}, fmt.Errorf("limits of the file system of %s: %w", abs, err)
	}
	return limits.known(), nil
}

// SettledLimits is [LimitsOf] after the file system has taken note of what was
// removed, which some do late: btrfs gives room back with its next commit.
func SettledLimits(dir string) (Limits, error) {
	settle(dir)
	return LimitsOf(dir)
}

// known adds what is known of the file system by its name.
func (l Limits) known() Limits {
	kind := fileSystemKind(l.FileSystem)
	if kind == kindFAT {
		l.FileBytes, l.DirEntries = fatFileBytes, fatDirEntries
	}
	l.ReadOnly = l.ReadOnly || kind == kindReadOnly
	return l
}

// weak reports whether a rename there is none until the file is flushed again, see
// disk. What FUSE mounts of block devices are is not told: exFAT, often.
func (l Limits) weak() bool {
	name := strings.TrimPrefix(strings.ToLower(l.FileSystem), "fuse.")
	return fileSystemKind(name) == kindFAT || name == "exfat" || name == "exfat-fuse" || name == "fuseblk"
}

type kind int

const (
	kindUnknown   kind = iota // may hide a limit
	kindUnlimited             // none that matters: 16 TiB a file and more
	kindFAT
	kindReadOnly
)

// fileSystems says what is known of file systems, by the names that Linux,
// macOS and Windows have for them.
var fileSystems = map[string]kind{
	"msdos": kindFAT, "vfat": kindFAT, "fat": kindFAT, "fat12": kindFAT, "fat16": kindFAT, "fat32": kindFAT, "fusefat": kindFAT,
	"iso9660": kindReadOnly, "fuseiso": kindReadOnly, "cd9660": kindReadOnly, "cdfs": kindReadOnly,
	"squashfs": kindReadOnly, "erofs": kindReadOnly,
	"exfat": kindUnlimited, "exfat-fuse": kindUnlimited, "ntfs": kindUnlimited, "ntfs3": kindUnlimited, "ntfs-3g": kindUnlimited, "refs": kindUnlimited,
	"ext4": kindUnlimited, "xfs": kindUnlimited, "btrfs": kindUnlimited, "f2fs": kindUnlimited, "tmpfs": kindUnlimited,
	"zfs": kindUnlimited, "overlay": kindUnlimited, "apfs": kindUnlimited, "hfs": kindUnlimited, "udf": kindUnlimited,
}

func fileSystemKind(name string) kind {
	return fileSystems[strings.TrimPrefix(strings.ToLower(name), "fuse.")]
}

// freeBytes multiplies what a system says of free blocks.
func freeBytes(blocks, size uint64) int64 {
	if size > 0 && blocks > math.MaxInt64/size {
		return math.MaxInt64
	}
	return int64(blocks * size)
}

// writerLimits are those of the file system with the options on top.
func writerLimits(dir string, options WriterOptions) (Limits, error) {
	limits, err := LimitsOf(dir)
	if err != nil {
		return Limits{}, err
	}
	if most := options.MaxFileBytes; most > 0 && (limits.FileBytes == 0 || most < limits.FileBytes) {
		limits.FileBytes = most
	}
	return limits, nil
}

// Limits returns the limits the writer works with: those of the file system,
// less what [WriterOptions] ask for. FreeBytes is as of when it was opened.
func (w *Writer) Limits() Limits {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.space
}

// segmentBytes says how a blob of a size is to be stored: in segments of that
// many bytes, or in one file when it is 0. asked is the size that is wanted, 0
// to leave the choice.
func (w *Writer) segmentBytes(size, asked int64) (int64, error) {
	limit, err := w.fileBytes(size)
	if err != nil {
		return 0, err
	}
	switch {
	case asked > 0 && limit > 0 && asked > limit:
		return 0, fmt.Errorf("segments of %d bytes on a file system with files of at most %d: %w", asked, limit, errdef.ErrSizeExceedsLimit)
	case asked >= size:
		return 0, nil
	case asked > 0:
		return asked, nil
	case limit == 0 || size <= limit:
		return 0, nil
	case limit > mebibyte:
		return limit - limit%mebibyte, nil
	}
	return limit, nil
}

// fileBytes returns the size of the largest file, 0 when size is within it as
// far as anybody knows. A file system that may hide a limit is asked when it
// matters for the first time.
func (w *Writer) fileBytes(size int64) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.space.FileBytes > 0 || size <= fatFileBytes || w.probed || fileSystemKind(w.space.FileSystem) == kindUnlimited {
		return w.space.FileBytes, nil
	}
	limited, err := w.disk.probeFileBytes()
	if err != nil {
		return 0, fmt.Errorf("find the largest file of %s: %w", w.Dir(), err)
	}
	w.probed = true
	if limited {
		w.space.FileBytes = fatFileBytes
	}
	return w.space.FileBytes, nil
}

// probeName is the file that is made to find a limit.
const probeName = privateDir + "/probe" + newSuffix

// probeFileBytes reports whether a file of 4 GiB is refused as too large. Any
// other refusal says nothing of that.
func (d *disk) probeFileBytes() (limited bool, err error) {
	f, err := d.create(probeName, 0o600)
	if err != nil {
		return false, err
	}
	sizeErr := f.truncate(fatFileBytes + 1)
	limited = errors.Is(sizeErr, syscall.EFBIG) || errors.Is(sizeErr, syscall.EINVAL)
	return limited, errors.Join(f.close(), d.remove(probeName))
}
