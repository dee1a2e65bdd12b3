package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// Segments
//
// A blob larger than a file may be, or than a volume is, is a directory of
// segments, sealift/parts/<alg>/<hex>/<nnn>, counted from 000. All have one
// size but the last, which has the rest. Nothing says how many there are: the
// descriptor's size does. On a volume of a set some may be missing.

const (
	// partsDir holds the segments of blobs too large for one file.
	partsDir = privateDir + "/parts"
	// maxSegments is how many one blob may have: 40 TiB on FAT.
	maxSegments = 10_000
	// maxSegmentNames is how many names are read in a directory of segments
	// before it counts as somebody's trap.
	maxSegmentNames = 2 * maxSegments
)

// segmentsDir is the slash-separated path of a blob's segments.
func segmentsDir(d digest.Digest) string {
	return path.Join(partsDir, d.Algorithm().String(), d.Encoded())
}

func segmentName(dir string, n int) string { return path.Join(dir, fmt.Sprintf("%03d", n)) }

// parseSegment is the inverse of segmentName, for a name without its directory.
func parseSegment(name string) (int, bool) {
	n, err := strconv.ParseUint(name, 10, 16)
	return int(n), err == nil && n < maxSegments && fmt.Sprintf("%03d", n) == name
}

// segmentCount is how many segments of a size a blob has. Errors:
// errdef.ErrSizeExceedsLimit.
func segmentCount(size, segment int64) (int, error) {
	n := size / segment
	if size%segment != 0 {
		n++
	}
	if n > maxSegments {
		return 0, fmt.Errorf("%d segments of %d bytes, over the limit of %d: %w", n, segment, maxSegments, errdef.ErrSizeExceedsLimit)
	}
	return int(n), nil
}

// segmentSize is the size of the n-th segment.
func segmentSize(size, segment int64, n int) int64 {
	return min(segment, size-int64(n)*segment)
}

// listSegments returns the sizes of the segments in a directory. What is no
// regular file under a segment's name is passed over, as is a directory that
// is none: media is hostile.
func listSegments(root *os.Root, dir string) (map[int]int64, error) {
	info, err := root.Lstat(dir)
	if absent(err) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := readNames(root, dir, maxSegmentNames)
	if err != nil {
		return nil, err
	}
	sizes := map[int]int64{}
	for _, name := range names {
		n, ok := parseSegment(name)
		if !ok {
			continue
		}
		info, err := root.Lstat(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() && info.Size() > 0 {
			sizes[n] = info.Size()
		}
	}
	return sizes, nil
}

// readNames lists a directory. Errors: fs.ErrInvalid when it has more than
// limit entries.
func readNames(root *os.Root, dir string, limit int) ([]string, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(limit + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > limit {
		return nil, misplaced("directory %s has more than %d entries", dir, limit)
	}
	return names, nil
}

// fitting returns, of the segments found, one of the right size for each
// number, and the size of all but the last. That is the largest that is there:
// only the last segment is smaller.
func fitting(size int64, found map[int][]piece) (pieces map[int]piece, segment int64) {
	for _, copies := range found {
		for _, p := range copies {
			segment = max(segment, p.size)
		}
	}
	pieces = map[int]piece{}
	for n, copies := range found {
		want := segmentSize(size, segment, n)
		if i := slices.IndexFunc(copies, func(p piece) bool { return p.size == want }); i >= 0 {
			pieces[n] = copies[i]
		}
	}
	return pieces, segment
}

// complete returns the segments of a blob in order where all of them are there in one
// size, of several directories, whatever else is beside them: one that was cut or grew,
// or one too many, on one volume hides nothing that another has. It is nil where they
// are not.
func complete(size int64, found map[int][]piece) []piece {
	var sizes []int64
	dirs := map[string]bool{}
	for _, copies := range found {
		for _, p := range copies {
			sizes = append(sizes, p.size)
			dirs[p.dir] = true
		}
	}
	if len(dirs) < 2 {
		return nil // what is too much there is damage
	}
	slices.Sort(sizes)
	slices.Reverse(sizes)
	sizes = slices.Compact(sizes)
	const tries = 16 // sizes of copies that differ
	for _, segment := range sizes[:min(len(sizes), tries)] {
		count, err := segmentCount(size, segment)
		if err != nil || count > len(found) {
			continue
		}
		pieces := make([]piece, 0, count)
		for n := range count {
			want := segmentSize(size, segment, n)
			i := slices.IndexFunc(found[n], func(p piece) bool { return p.size == want })
			if i < 0 {
				break
			}
			pieces = append(pieces, found[n][i])
		}
		if len(pieces) == count {
			return pieces
		}
	}
	return nil
}

// assemble puts the segments of a blob in order.
func assemble(desc ocispec.Descriptor, found map[int][]piece) ([]piece, error) {
	if pieces := complete(desc.Size, found); pieces != nil {
		return pieces, nil
	}
	fit, segment := fitting(desc.Size, found)
	if segment == 0 {
		return nil, notFound("blob " + desc.Digest.String())
	}
	if len(fit) != len(found) {
		var got int64
		for _, copies := range found {
			got += copies[0].size
		}
		return nil, &SizeError{Digest: desc.Digest, Want: desc.Size, Got: got}
	}
	count, err := segmentCount(desc.Size, segment)
	if err != nil { // what is there is cut, and nothing to go by
		return nil, notFound("blob " + desc.Digest.String())
	}
	if len(fit) < count {
		return nil, notFound(fmt.Sprintf("all of blob %s but segments %v", desc.Digest, slices.Sorted(maps.Keys(fit))))
	}
	pieces := make([]piece, count)
	for n := range pieces {
		pieces[n] = fit[n]
	}
	return pieces, nil
}

// Segments returns the numbers of the segments of a blob that are here, in
// order, and none when it is here as one file or not at all. Those whose size
// cannot be right are left out; the content is not read.
func (l *Layout) Segments(_ context.Context, desc ocispec.Descriptor) ([]int, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	found := map[int][]piece{}
	for _, dir := range l.dirs {
		if _, err := look(dir, desc, none, found); err == nil {
			return nil, nil
		} else if !unusable(err) {
			return nil, err
		}
	}
	fit, _ := fitting(desc.Size, found)
	return slices.Sorted(maps.Keys(fit)), nil
}

// Partial returns how many bytes an interrupted [Writer.Ingest] left of a blob
// that is not here. They are not verified, so the number is good for plans
// only: ingesting may find them to be wrong. It is 0 when there are none, or
// more than the blob has.
func (l *Layout) Partial(_ context.Context, desc ocispec.Descriptor) (int64, error) {
	if err := checkDescriptor(desc); err != nil {
		return 0, err
	}
	for _, dir := range l.dirs {
		n, err := partialBytes(dir, desc)
		if err != nil || n > 0 {
			return n, err
		}
	}
	return 0, nil
}

func partialBytes(dir string, desc ocispec.Descriptor) (int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	var total int64
	info, err := root.Lstat(partialName(desc.Digest))
	switch {
	case err == nil && info.Mode().IsRegular():
		total = info.Size()
	case err == nil || absent(err):
		sizes, err := listSegments(root, partialSegments(desc.Digest))
		if err != nil {
			return 0, err
		}
		for n := 0; sizes[n] > 0; n++ {
			total += sizes[n]
		}
	default:
		return 0, err
	}
	if total > desc.Size {
		return 0, nil
	}
	return total, nil
}
