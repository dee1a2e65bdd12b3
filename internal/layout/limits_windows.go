package layout

import (
	"os"

	"golang.org/x/sys/windows"
)

func statLimits(dir string) (Limits, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Limits{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	var limits Limits
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return Limits{}, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	limits.FreeBytes = freeBytes(free, 1)
	volume := make([]uint16, len(dir)+windows.MAX_PATH)
	if err := windows.GetVolumePathName(name, &volume[0], uint32(len(volume))); err != nil {
		return Limits{}, &os.PathError{Op: "GetVolumePathName", Path: dir, Err: err}
	}
	var flags uint32
	kind := make([]uint16, windows.MAX_PATH+1)
	if err := windows.GetVolumeInformation(&volume[0], nil, 0, nil, nil, &flags, &kind[0], uint32(len(kind))); err != nil {
		return Limits{}, &os.PathError{Op: "GetVolumeInformation", Path: dir, Err: err}
	}
	limits.FileSystem = windows.UTF16ToString(kind)
	limits.ReadOnly = flags&windows.FILE_READ_ONLY_VOLUME != 0
	return limits, nil
}
