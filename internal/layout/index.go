package layout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// maxIndexBytes caps index.json, which lists every release and referrer of a
// layout and so outgrows the cap of a manifest.
const maxIndexBytes = 64 << 20

// maxEntries is how many descriptors, of 80 bytes and more, index.json can have.
const maxEntries = 800_000

const (
	// annotationImageName carries the full reference for containerd.
	annotationImageName = "io.containerd.image.name"
	// AnnotationAliasOf marks an alias entry with the root it stands for, so
	// that moving the root moves the alias and not some other tool's tag.
	AnnotationAliasOf = "dev.sealift.alias-of"
)

// parseIndex parses index.json. Everything in it that is used later without a
// further look is checked here; digests of algorithms unknown to this program
// are kept, as their entries are somebody's.
func parseIndex(raw []byte) (ocispec.Index, error) {
	if len(raw) > maxIndexBytes {
		return ocispec.Index{}, fmt.Errorf("index of %d bytes: %w", len(raw), errdef.ErrSizeExceedsLimit)
	}
	if err := checkValues(raw, maxIndexValues); err != nil {
		return ocispec.Index{}, fmt.Errorf("index of %w", err)
	}
	var doc struct {
		ocispec.Index
		Manifests entryList `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return ocispec.Index{}, err
	}
	if doc.SchemaVersion != 2 {
		return ocispec.Index{}, fmt.Errorf("schemaVersion is %d, want 2", doc.SchemaVersion)
	}
	doc.Index.Manifests = doc.Manifests
	return doc.Index, nil
}

// entryList is the list of an index, checked as it is read.
type entryList []ocispec.Descriptor

// UnmarshalJSON implements json.Unmarshaler.
func (l *entryList) UnmarshalJSON(raw []byte) error {
	*l = nil
	err := decodeList(raw, maxEntries, func(desc ocispec.Descriptor) error {
		*l = append(*l, desc)
		if err := checkDescriptor(desc); !isUnknownAlgorithm(err) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("manifests%w", err)
	}
	return nil
}

// formatIndex is the inverse of parseIndex. The same set of entries makes the
// same bytes.
func formatIndex(index ocispec.Index) ([]byte, error) {
	index.Versioned = specs.Versioned{SchemaVersion: 2}
	index.MediaType = ocispec.MediaTypeImageIndex
	index.Manifests = slices.Clone(index.Manifests)
	if index.Manifests == nil {
		index.Manifests = []ocispec.Descriptor{} // null is refused by other tools
	}
	sortEntries(index.Manifests)
	raw, err := json.Marshal(index)
	if err != nil {
		return nil, err
	}
	if len(raw) >= maxIndexBytes {
		return nil, fmt.Errorf("index of %d bytes: %w", len(raw), errdef.ErrSizeExceedsLimit)
	}
	if err := checkValues(raw, maxIndexValues); err != nil {
		return nil, fmt.Errorf("index of %w", err)
	}
	return append(raw, '\n'), nil
}

// sortEntries orders full references first, then other names, then untagged
// entries: tools that look at the first entry only find a root. Other tools
// append a second entry for a tag they move and let the last one win, so
// entries of one name keep their order.
func sortEntries(entries []ocispec.Descriptor) {
	type keyed struct {
		rank  int
		key   string
		entry ocispec.Descriptor
	}
	sorted := make([]keyed, len(entries))
	for i, e := range entries {
		sorted[i] = keyed{rank: rank(e), key: e.Annotations[ocispec.AnnotationRefName], entry: e}
		if sorted[i].rank == rankUntagged {
			sorted[i].key = e.Digest.String()
		}
	}
	slices.SortStableFunc(sorted, func(a, b keyed) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.key, b.key))
	})
	for i := range sorted {
		entries[i] = sorted[i].entry
	}
}

const (
	rankFull = iota
	rankNamed
	rankUntagged
)

func rank(entry ocispec.Descriptor) int {
	if fullName(entry) != "" {
		return rankFull
	}
	if entry.Annotations[ocispec.AnnotationRefName] != "" {
		return rankNamed
	}
	return rankUntagged
}

// fullName returns the full reference of an entry, "" when it has none.
// Archives of docker and containerd have it beside a ref.name that is only
// the tag.
func fullName(entry ocispec.Descriptor) string {
	for _, key := range []string{ocispec.AnnotationRefName, annotationImageName} {
		if name := entry.Annotations[key]; name != "" {
			if _, _, ok := splitName(name); ok {
				return name
			}
		}
	}
	return ""
}

// plain keeps what every source of a descriptor agrees on. Annotations and
// artifact types differ between registries with and without a referrers API,
// and would make index.json depend on where a delivery came from.
func plain(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}

// checkDescriptor refuses descriptors whose digest must not become a path.
func checkDescriptor(desc ocispec.Descriptor) error {
	if desc.Size < 0 {
		return fmt.Errorf("blob %q has size %d: %w", desc.Digest, desc.Size, content.ErrInvalidDescriptorSize)
	}
	return checkDigest(desc.Digest)
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", d, errdef.ErrInvalidDigest, err)
	}
	return nil
}
