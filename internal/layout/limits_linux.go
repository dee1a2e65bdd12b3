package layout

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMountLine caps a line of mountinfo, where paths and options are.
const maxMountLine = 1 << 20

// magics names file systems by the number statfs gives them. Of the rest but
// FUSE, which only the table of mounts tells apart, nothing needs to be known.
var magics = map[int64]string{
	unix.EXT4_SUPER_MAGIC:      "ext4", // ext2 and ext3 too
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.MSDOS_SUPER_MAGIC:     "vfat", // msdos too
	unix.EXFAT_SUPER_MAGIC:     "exfat",
	0x5346544e:                 "ntfs",
	0x7366746e:                 "ntfs3",
	unix.ISOFS_SUPER_MAGIC:     "iso9660",
	unix.UDF_SUPER_MAGIC:       "udf",
	unix.SQUASHFS_MAGIC:        "squashfs",
	unix.EROFS_SUPER_MAGIC_V1:  "erofs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.V9FS_MAGIC:            "9p",
	0x2fc12fc1:                 "zfs",
}

func statLimits(dir string) (Limits, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Limits{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	limits := Limits{
		FileSystem: magics[int64(st.Type)&0xffffffff],
		FreeBytes:  freeBytes(st.Bavail, uint64(st.Bsize)),
		ReadOnly:   st.Flags&unix.ST_RDONLY != 0,
	}
	if int64(st.Type)&0xffffffff == unix.FUSE_SUPER_MAGIC {
		var err error
		if limits.FileSystem, err = mountType(dir); err != nil {
			return Limits{}, err
		}
	}
	return limits, nil
}

// mountType finds the type of the mount a directory is on, fuse.NAME where a
// FUSE program says what it is. Some do not, and are then "fuse" or "fuseblk":
// what is on the device is unknown.
func mountType(dir string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	device := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxMountLine)
	for lines.Scan() {
		if name, source, ok := parseMount(lines.Text(), device); ok {
			return fuseName(name, source), nil
		}
	}
	return "fuse", lines.Err()
}

// parseMount returns type and source of a line of mountinfo when it is about
// the device.
func parseMount(line, device string) (name, source string, ok bool) {
	mount, about, ok := strings.Cut(line, " - ")
	fields, kinds := strings.Fields(mount), strings.Fields(about)
	if !ok || len(fields) < 3 || len(kinds) < 2 || fields[2] != device {
		return "", "", false
	}
	return kinds[0], kinds[1], true
}

// fuseName is the type, or, where that is only that it is FUSE, the source when
// it is the name of a program this package knows.
func fuseName(name, source string) string {
	if (name == "fuse" || name == "fuseblk") && fileSystemKind(source) != kindUnknown {
		return "fuse." + source
	}
	return name
}
