package delivery

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// TypeInventory is the media type of an inventory in its envelope.
const TypeInventory = "application/vnd.sealift.inventory.v1"

// MaxInventoryBytes is the size of the largest file that [ReadInventory] takes, an
// envelope or the text itself.
const MaxInventoryBytes = 24 << 20

const (
	inventoryTitle        = "sealift inventory v"
	inventoryHead         = inventoryTitle + "1"
	maxInventoryTextBytes = 16 << 20
	maxInventoryLines     = 100_000
	maxRootPlatforms      = 100
)

// Inventory is what a site says it holds. It is advice about what need not be sent
// there, and nothing is trusted because of it.
type Inventory struct {
	// Roots are held whole. They are sorted by digest, each once.
	Roots []InventoryRoot
	// Blobs are held, whatever they belong to; sorted, each once. A site lists them
	// for a vendor that cannot look up what the roots name.
	Blobs []digest.Digest
}

// InventoryRoot is a root that a site holds whole.
type InventoryRoot struct {
	Digest digest.Digest
	// ID and Version are what a release says of itself, both "" for a root that is
	// no release.
	ID, Version string
	// Platforms are those that are held, sorted as they are written; none for all.
	Platforms []ocispec.Platform
}

// InventoryError reports a file that is no inventory, or one that cannot be
// accepted.
type InventoryError struct {
	// Line counts from 1; 0 is the whole.
	Line int
	// Err is an error of the text; of errdef, ErrUnsupportedVersion for a later
	// format and ErrSizeExceedsLimit; or an error of [signer.Open].
	Err error
}

// Error says where and what.
func (e *InventoryError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("inventory, line %d: %v", e.Line, e.Err)
	}
	return fmt.Sprintf("inventory: %v", e.Err)
}

// Unwrap returns Err.
func (e *InventoryError) Unwrap() error { return e.Err }

// InventorySigner says whose an inventory is.
type InventorySigner struct {
	// Key verified the inventory, nil when no key was asked for.
	Key *signer.Key
	// Claimed are the fingerprints of the keys that an envelope claims to be signed
	// by when no key was asked for. Nobody has verified them.
	Claimed []string
}

// ReadInventory reads an inventory, as text or in its envelope. With keys, one of
// them must have signed it, and text alone is signer.ErrUnsigned. Without keys it
// is read whoever wrote it: a false one makes a delta that the site refuses as
// incomplete, and nothing worse. It fails with [InventoryError].
func ReadInventory(raw []byte, keys []*signer.Key) (Inventory, InventorySigner, error) {
	text, by, err := openInventory(raw, keys)
	if err != nil {
		return Inventory{}, InventorySigner{}, &InventoryError{Err: err}
	}
	inventory, err := ParseInventory(text)
	if err != nil {
		return Inventory{}, InventorySigner{}, err
	}
	return inventory, by, nil
}

func openInventory(raw []byte, keys []*signer.Key) (text []byte, by InventorySigner, err error) {
	sealed := bytes.HasPrefix(raw, []byte("{"))
	var head struct {
		PayloadType string `json:"payloadType"`
	}
	switch {
	case len(raw) > MaxInventoryBytes:
		err = fmt.Errorf("%d bytes, the limit is %d: %w", len(raw), MaxInventoryBytes, errdef.ErrSizeExceedsLimit)
	case sealed && json.Unmarshal(raw, &head) == nil && head.PayloadType == "":
		err = errors.New("this is neither a list nor an envelope with one")
	case !sealed && len(keys) > 0:
		err = signer.ErrUnsigned
	case !sealed:
		text = raw
	case len(keys) > 0:
		text, by.Key, err = signer.Open(raw, TypeInventory, keys)
	default:
		text, by.Claimed, err = signer.OpenUnverified(raw, TypeInventory)
	}
	return text, by, err
}

// ParseInventory parses and checks the text of an inventory. It is the inverse of
// [Inventory.Format] and takes nothing that Format does not write. It fails with
// [InventoryError].
func ParseInventory(text []byte) (Inventory, error) {
	if err := checkInventorySize(text); err != nil {
		return Inventory{}, &InventoryError{Err: err}
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		return Inventory{}, &InventoryError{Err: errors.New("does not end with a newline; it may be cut off")}
	}
	lines := strings.Split(string(text[:len(text)-1]), "\n")
	if lines[0] != inventoryHead {
		err := fmt.Errorf("want %q, got %.40q", inventoryHead, lines[0])
		if strings.HasPrefix(lines[0], inventoryTitle) {
			err = fmt.Errorf("%w: %w", err, errdef.ErrUnsupportedVersion)
		}
		return Inventory{}, &InventoryError{1, err}
	}
	var inventory Inventory
	for i, line := range lines[1:] {
		if err := inventory.add(line); err != nil {
			return Inventory{}, &InventoryError{i + 2, err}
		}
	}
	return inventory, nil
}

func checkInventorySize(text []byte) error {
	if len(text) > maxInventoryTextBytes {
		return fmt.Errorf("text of %d bytes, the limit is %d: %w", len(text), maxInventoryTextBytes, errdef.ErrSizeExceedsLimit)
	}
	if n := bytes.Count(text, []byte("\n")); n > maxInventoryLines {
		return fmt.Errorf("%d lines, the limit is %d: %w", n, maxInventoryLines, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

// add appends what a line says.
func (inv *Inventory) add(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	switch kind {
	case "root":
		root, err := parseRoot(rest)
		if err != nil {
			return err
		}
		if n := len(inv.Roots); len(inv.Blobs) > 0 || n > 0 && inv.Roots[n-1].Digest >= root.Digest {
			return fmt.Errorf("root %s is not in its place or there twice", root.Digest)
		}
		inv.Roots = append(inv.Roots, root)
	case "blob":
		d := digest.Digest(rest)
		if err := checkBlob(d); err != nil {
			return err
		}
		if n := len(inv.Blobs); n > 0 && inv.Blobs[n-1] >= d {
			return fmt.Errorf("blob %s is not in its place or there twice", d)
		}
		inv.Blobs = append(inv.Blobs, d)
	default:
		return fmt.Errorf("want a root or a blob, got %.40q", line)
	}
	return nil
}

func checkBlob(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %.80q: %w", string(d), err)
	}
	return nil
}

func parseRoot(text string) (InventoryRoot, error) {
	words := strings.Split(text, " ")
	if len(words) != 4 {
		return InventoryRoot{}, fmt.Errorf("want root DIGEST ID VERSION PLATFORMS, got %d words behind root", len(words))
	}
	root := InventoryRoot{Digest: digest.Digest(words[0])}
	if words[1] != "-" || words[2] != "-" {
		root.ID, root.Version = words[1], words[2]
		if root.ID == "" {
			return InventoryRoot{}, errors.New("a root without an id, which is written -")
		}
	}
	if words[3] != "*" {
		for name := range strings.SplitSeq(words[3], ",") {
			p, err := mirror.ParsePlatform(name)
			if err != nil {
				return InventoryRoot{}, err
			}
			root.Platforms = append(root.Platforms, p)
		}
	}
	if err := root.check(); err != nil {
		return InventoryRoot{}, err
	}
	if root.text() != text {
		return InventoryRoot{}, fmt.Errorf("platforms %.80q are not sorted or not as they are written, %.80q", words[3], root.platforms())
	}
	return root, nil
}

func (r InventoryRoot) check() error {
	if err := checkBlob(r.Digest); err != nil {
		return err
	}
	if r.ID != "" || r.Version != "" {
		if err := artifact.CheckID(r.ID); err != nil {
			return fmt.Errorf("id: %w", err)
		}
		if err := artifact.CheckVersion(r.Version); err != nil {
			return fmt.Errorf("version: %w", err)
		}
	}
	if n := len(r.Platforms); n > maxRootPlatforms {
		return fmt.Errorf("%d platforms, the limit is %d: %w", n, maxRootPlatforms, errdef.ErrSizeExceedsLimit)
	}
	for _, p := range r.Platforms {
		if _, err := mirror.ParsePlatform(mirror.FormatPlatform(p)); err != nil {
			return err
		}
	}
	return nil
}

// text is what stands behind the word root.
func (r InventoryRoot) text() string {
	return fmt.Sprintf("%s %s %s %s", r.Digest, cmp.Or(r.ID, "-"), cmp.Or(r.Version, "-"), r.platforms())
}

func (r InventoryRoot) platforms() string {
	if len(r.Platforms) == 0 {
		return "*"
	}
	names := make([]string, len(r.Platforms))
	for i, p := range r.Platforms {
		names[i] = mirror.FormatPlatform(p)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// Format writes the text of an inventory. The same inventory makes the same bytes
// in whatever order it is. It fails with [InventoryError] for one that
// [ParseInventory] would not take, such as one of more than 100,000 lines.
func (inv Inventory) Format() ([]byte, error) {
	roots := slices.SortedFunc(slices.Values(inv.Roots), func(a, b InventoryRoot) int { return cmp.Compare(a.Digest, b.Digest) })
	var out bytes.Buffer
	fmt.Fprintln(&out, inventoryHead)
	for _, r := range roots {
		if err := r.check(); err != nil {
			return nil, &InventoryError{Err: fmt.Errorf("root %s: %w", r.Digest, err)}
		}
		fmt.Fprintln(&out, "root", r.text())
	}
	for _, d := range slices.Sorted(slices.Values(inv.Blobs)) {
		if err := checkBlob(d); err != nil {
			return nil, &InventoryError{Err: err}
		}
		fmt.Fprintln(&out, "blob", d)
	}
	if _, err := ParseInventory(out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
