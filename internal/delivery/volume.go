package delivery

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// VolumePlace stands in a destination for the number of a volume.
const VolumePlace = "{n}"

// maxSegmentBytes is the largest file of FAT32.
const maxSegmentBytes = 4<<30 - 1

// volumeKinds are volumes that people ask for by name. Discs have Joliet names, of
// at most 64 letters; a stick sold with 32 GB is the largest that is formatted as
// FAT32 by default, and a directory there takes about 10,900 blobs.
var volumeKinds = []struct {
	name    string
	options mirror.VolumeOptions
}{
	{"cd", mirror.VolumeOptions{Bytes: 703_125 * 1024, BlockBytes: 2048, NameBytes: 64}},
	{"dvd", mirror.VolumeOptions{Bytes: 4_700_372_992, BlockBytes: 2048, NameBytes: 64}},
	{"bd", mirror.VolumeOptions{Bytes: 25_025_314_816, BlockBytes: 2048, NameBytes: 64}},
	{"fat32", mirror.VolumeOptions{Bytes: 31_000_000_000, BlockBytes: 32 << 10, FileBytes: maxSegmentBytes, Entries: 10_900}},
}

// VolumeKinds returns the names of volumes that [VolumeKind] knows, smallest first.
func VolumeKinds() []string {
	var names []string
	for _, k := range volumeKinds {
		names = append(names, k.name)
	}
	return names
}

// VolumeKind returns what a volume of a kind takes, as cd or fat32, in capitals too.
func VolumeKind(name string) (mirror.VolumeOptions, bool) {
	for _, k := range volumeKinds {
		if strings.EqualFold(k.name, name) {
			return k.options, true
		}
	}
	return mirror.VolumeOptions{}, false
}

// VolumePath returns the directory of volume n of a destination, which is the
// destination itself where all go to one place.
func VolumePath(to artifact.Location, n int) artifact.Location {
	to.Path = strings.ReplaceAll(to.Path, VolumePlace, strconv.Itoa(n))
	return to
}

// BegunVolume returns the number of the volume that is at to already, when it is
// one of the set: an interrupted copy goes on there. It returns 1 otherwise.
func BegunVolume(set *mirror.Set, to artifact.Location) int {
	in, n, err := mirror.ReadSet(to.Path)
	if err != nil || in.ID != set.ID {
		return 1
	}
	return n
}

// RestError says that the rest of a copy is on other volumes.
type RestError struct {
	// Volumes are their numbers, sorted.
	Volumes []int
	// Pieces says that some of it is on no volume whole.
	Pieces bool
	Err    error
}

// Error names the volumes.
func (e *RestError) Error() string {
	return fmt.Sprintf("%v; the rest is on volume %s", e.Err, Numbers(e.Volumes))
}

// Unwrap returns what the copy failed with.
func (e *RestError) Unwrap() error { return e.Err }

// Rest returns what to say of absent content when all of it is on volumes that are
// not read, as media that was read says; else nil.
func Rest(carried []Carried, absent []ocispec.Descriptor) *RestError {
	rest := &RestError{}
	for _, d := range absent {
		on := elsewhere(carried, d.Digest)
		if len(on) == 0 {
			return nil
		}
		rest.Volumes = append(rest.Volumes, on...)
		rest.Pieces = rest.Pieces || slices.ContainsFunc(carried, func(c Carried) bool { return len(c.Set.On(d.Digest)) > 1 })
	}
	if len(rest.Volumes) == 0 {
		return nil
	}
	slices.Sort(rest.Volumes)
	rest.Volumes = slices.Compact(rest.Volumes)
	return rest
}

func elsewhere(carried []Carried, d digest.Digest) []int {
	for _, c := range carried {
		if on := c.Elsewhere(d); len(on) > 0 {
			return on
		}
	}
	return nil
}
