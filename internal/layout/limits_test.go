package layout_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/sealift/sealift/internal/layout"
)

func TestLimitsOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want, err := layout.LimitsOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := layout.LimitsOf(filepath.Join(dir, "a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	got.FreeBytes, want.FreeBytes = 0, 0 // others write there too
	if got != want {
		t.Errorf("LimitsOf a directory to be made = %+v, want %+v", got, want)
	}
	file := filepath.Join(dir, "file")
	write(t, nil, file)
	if _, err := layout.LimitsOf(filepath.Join(file, "x")); err == nil {
		t.Error("LimitsOf a directory below a file = nil")
	}
}

// The limits a writer works with are the file system's, or less.
func TestWriterLimits(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]int64{-1: 0, 0: 0, 1000: 1000, math.MaxInt64: math.MaxInt64} {
		w := segmented(t, t.TempDir(), most)
		own, err := layout.LimitsOf(w.Dir())
		if err != nil {
			t.Fatal(err)
		}
		if own.FileBytes > 0 && (want == 0 || own.FileBytes < want) {
			want = own.FileBytes
		}
		if got := w.Limits(); got.FileBytes != want || got.FileSystem != own.FileSystem {
			t.Errorf("Limits with MaxFileBytes %d = %+v, want FileBytes %d", most, got, want)
		}
	}
}

func TestKnownFileSystems(t *testing.T) {
	t.Parallel()
	const fat = 4<<30 - 1
	for name, want := range map[string]layout.Limits{
		"vfat":         {FileBytes: fat, DirEntries: 10_900},
		"FAT32":        {FileBytes: fat, DirEntries: 10_900},
		"fuse.fusefat": {FileBytes: fat, DirEntries: 10_900},
		"exfat":        {}, "exFAT": {}, "ext4": {}, "fuseblk": {}, "fuse": {}, "": {}, "NTFS": {}, "fuse.ntfs-3g": {},
		"iso9660": {ReadOnly: true}, "fuse.fuseiso": {ReadOnly: true}, "CDFS": {ReadOnly: true},
	} {
		want.FileSystem = name
		if got := layout.Known(name); got != want {
			t.Errorf("limits of %q = %+v, want %+v", name, got, want)
		}
	}
}
