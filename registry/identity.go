package registry

import "io/fs"

// identify returns the identity of the regular file behind r, an *os.File or
// any other fs.File, or the zero value.
func identify(r any) fileID {
	f, ok := r.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return fileID{}
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return fileID{}
	}
	return fileIDOf(info)
}
