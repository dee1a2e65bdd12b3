package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// Which index counts
//
// A rename is not atomic on FAT and exFAT when the power fails: index.json can
// come back empty, torn or not at all. So each commit first writes the new
// index into a slot of its own name, sealift/index.<generation>.json, with a
// digest over the index and the digest of the index.json it replaces, and only
// then index.json. Opening reads both:
//
//   - index.json cannot be parsed: a commit was cut off in the rename (or the
//     sector decayed). The newest valid slot is what it should have become.
//   - index.json is, byte for byte, the one the newest slot says it replaces:
//     a commit was cut off between the two. Its slot and all its blobs are on
//     the disk, so it is carried forward.
//   - anything else: index.json counts. Either it equals the newest slot, or
//     another tool (oras, crane, regctl) changed the layout after the last
//     commit, and that change must not be undone by a slot.
//
// The second rule is applied only when the newest slot by number is valid. A
// torn one above it proves that its own commit was finished, since a writer
// first carries forward what it finds and only then begins the next
// generation. What the rules cannot tell apart from a cut-off commit is
// someone restoring the very bytes index.json had before the last commit.

const (
	privateDir = "sealift" // this program's own corner of a layout
	slotPrefix = "index."
	slotSuffix = ".json"

	// maxSlots is how many slots are tried, newest first. Two are kept; more
	// are there only when removals were cut off, or on hostile media.
	maxSlots = 8
	// maxGeneration leaves room to count on whatever a file name claims.
	maxGeneration = 1 << 53
)

// slot is the content of sealift/index.<generation>.json.
type slot struct {
	Generation uint64 `json:"generation"`
	// Digest is that of the bytes of Index.
	Digest digest.Digest `json:"digest"`
	// Replaces is the digest of index.json before the commit, empty when there
	// was none.
	Replaces digest.Digest `json:"replaces,omitempty"`
	// Index is what index.json becomes, less its final newline.
	Index json.RawMessage `json:"index"`
}

// parseSlot parses a slot and checks its digest.
func parseSlot(raw []byte) (slot, ocispec.Index, error) {
	var s slot
	if err := checkValues(raw, maxIndexValues); err != nil {
		return slot{}, ocispec.Index{}, fmt.Errorf("slot of %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return slot{}, ocispec.Index{}, err
	}
	if got := digest.FromBytes(s.Index); got != s.Digest {
		return slot{}, ocispec.Index{}, &DigestError{Want: s.Digest, Got: got}
	}
	index, err := parseIndex(s.Index)
	if err != nil {
		return slot{}, ocispec.Index{}, err
	}
	return s, index, nil
}

// formatSlot is the inverse of parseSlot. The index is spliced in, since
// json.Marshal would be free to reformat it and so to break its digest.
func formatSlot(s slot) []byte {
	head := fmt.Sprintf(`{"generation":%d,"digest":%q,`, s.Generation, s.Digest)
	if s.Replaces != "" {
		head += fmt.Sprintf(`"replaces":%q,`, s.Replaces)
	}
	return slices.Concat([]byte(head+`"index":`), s.Index, []byte("}\n"))
}

func slotName(generation uint64) string {
	return path.Join(privateDir, slotPrefix+strconv.FormatUint(generation, 10)+slotSuffix)
}

// slotGeneration is the inverse of slotName, for a name without its directory.
func slotGeneration(name string) (uint64, bool) {
	text, ok := strings.CutPrefix(name, slotPrefix)
	if !ok {
		return 0, false
	}
	if text, ok = strings.CutSuffix(text, slotSuffix); !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n < maxGeneration && strconv.FormatUint(n, 10) == text
}

// state is what the disk says about the index.
type state struct {
	index ocispec.Index
	// onDisk is the digest of index.json as it stands, "" when there is none.
	onDisk digest.Digest
	// carried is the slot that counts instead of index.json, nil when
	// index.json counts.
	carried *slot
	// newest is the newest valid slot, nil when there is none.
	newest *slot
	// generation is the highest number of any slot, valid or not.
	generation uint64
	// indexState is how index.json stands to the slots.
	indexState IndexState
}

// readState reads index.json and the slots and decides which one counts.
// Errors: [ErrCorruptIndex] when none can be used, fs.ErrNotExist in addition
// when there is none at all.
func readState(root *os.Root) (state, error) {
	var st state
	raw, err := readFile(root, ocispec.ImageIndexFile, maxIndexBytes)
	if errors.Is(err, errdef.ErrSizeExceedsLimit) || errors.Is(err, fs.ErrPermission) {
		return state{}, err
	}
	var index ocispec.Index
	if err == nil {
		st.onDisk = digest.FromBytes(raw)
		index, err = parseIndex(raw)
	}
	slotIndex, slotErr := st.readSlots(root)
	if slotErr != nil {
		return state{}, slotErr
	}
	switch {
	case err == nil && !st.cutOff():
		st.index = index
	case st.newest != nil:
		st.index, st.carried = slotIndex, st.newest
	default:
		return state{}, fmt.Errorf("%w: %w", ErrCorruptIndex, err)
	}
	st.indexState = st.standing(err != nil)
	return st, nil
}

// cutOff reports whether the newest commit ended before index.json.
func (st *state) cutOff() bool {
	return st.newest != nil && st.newest.Generation == st.generation &&
		st.newest.Replaces == st.onDisk && st.newest.indexFile() != st.onDisk
}

// indexFile is the digest of the index.json a slot stands for.
func (s *slot) indexFile() digest.Digest {
	return digest.FromBytes(append(slices.Clip([]byte(s.Index)), '\n'))
}

// readSlots finds the newest valid slot. A slot that cannot be read is no
// error: that is what the others are for.
func (st *state) readSlots(root *os.Root) (ocispec.Index, error) {
	generations, err := listSlots(root)
	if err != nil {
		return ocispec.Index{}, err
	}
	if len(generations) > 0 {
		st.generation = generations[0]
	}
	for _, n := range generations[:min(len(generations), maxSlots)] {
		raw, err := readFile(root, slotName(n), maxIndexBytes+1024)
		if err != nil {
			continue
		}
		s, index, err := parseSlot(raw)
		if err != nil || s.Generation != n {
			continue
		}
		st.newest = &s
		return index, nil
	}
	return ocispec.Index{}, nil
}

// listSlots returns the generations that have a file, newest first.
func listSlots(root *os.Root) ([]uint64, error) {
	info, err := root.Stat(privateDir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	dir, err := root.Open(privateDir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var generations []uint64
	for _, name := range names {
		if n, ok := slotGeneration(name); ok {
			generations = append(generations, n)
		}
	}
	slices.Sort(generations)
	slices.Reverse(generations)
	return generations, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: %w", name, fs.ErrInvalid)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, over the limit of %d: %w", name, info.Size(), limit, errdef.ErrSizeExceedsLimit)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
