package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/document"
)

// Media types of Docker's image format, schema 2, which registries and archives
// hold beside those of OCI.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Manifest is what a walk needs to know of a manifest or an index: what it
// names, and what it is about.
type Manifest struct {
	// ArtifactType is the declared type, or else the config's media type, as
	// the referrers API reports it.
	ArtifactType string
	// Annotations are the manifest's own.
	Annotations map[string]string
	// Subject is the manifest this one refers to, or nil.
	Subject *ocispec.Descriptor
	// Manifests are the children of an index, in order.
	Manifests []ocispec.Descriptor
	// Blobs are the config and the layers of an image manifest, in order.
	Blobs []ocispec.Descriptor
}

// IsManifest reports whether mediaType is that of a manifest or an index.
func IsManifest(mediaType string) bool {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, mediaTypeDockerManifest, mediaTypeDockerList:
		return true
	}
	return false
}

// IsIndex reports whether mediaType is that of an index or a manifest list.
func IsIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == mediaTypeDockerList
}

// SniffMediaType returns the media type that data, a manifest, declares or, for
// an OCI document that declares none, the one its fields imply. It returns ""
// when data is no manifest.
func SniffMediaType(data []byte) string {
	var m struct {
		MediaType string          `json:"mediaType"`
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(data, &m) != nil {
		return ""
	}
	switch {
	case IsManifest(m.MediaType):
		return m.MediaType
	case m.MediaType != "":
		return ""
	case m.Manifests != nil:
		return ocispec.MediaTypeImageIndex
	case m.Config != nil && m.Layers != nil:
		return ocispec.MediaTypeImageManifest
	}
	return ""
}

// ErrMalformed reports a manifest whose bytes are those that were published, and which
// is none, or can be read as two.
var ErrMalformed = errors.New("malformed manifest")

// ParseManifest reads a manifest or index of the given media type. Every
// descriptor it returns has a well-formed digest of a known algorithm and a size
// that is not negative. It fails on other media types, and with [ErrMalformed] on
// malformed JSON, on keys given twice, and on a document that carries the fields of both
// kinds.
func ParseManifest(mediaType string, data []byte) (*Manifest, error) {
	if !IsManifest(mediaType) {
		return nil, fmt.Errorf("media type %q is neither a manifest nor an index", mediaType)
	}
	m, err := parseManifest(mediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return m, nil
}

func parseManifest(mediaType string, data []byte) (*Manifest, error) {
	var m struct {
		MediaType    string               `json:"mediaType"`
		ArtifactType string               `json:"artifactType"`
		Annotations  map[string]string    `json:"annotations"`
		Subject      *ocispec.Descriptor  `json:"subject"`
		Config       *ocispec.Descriptor  `json:"config"`
		Layers       []ocispec.Descriptor `json:"layers"`
		Manifests    []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	if err := document.UniqueKeys(data); err != nil {
		return nil, fmt.Errorf("parse manifest: %w", err)
	}
	if m.MediaType != "" && m.MediaType != mediaType {
		// One document read as two types is how a signature over one thing is
		// made to cover another (CVE-2021-41190).
		return nil, fmt.Errorf("manifest declares media type %q, its descriptor says %q", m.MediaType, mediaType)
	}
	index := IsIndex(mediaType)
	if index && (m.Config != nil || m.Layers != nil) || !index && m.Manifests != nil {
		return nil, fmt.Errorf("%s carries the fields of both a manifest and an index", mediaType)
	}
	out := &Manifest{ArtifactType: m.ArtifactType, Annotations: m.Annotations, Subject: m.Subject, Manifests: m.Manifests}
	if m.Config != nil {
		out.Blobs = append(out.Blobs, *m.Config)
		if out.ArtifactType == "" {
			out.ArtifactType = m.Config.MediaType
		}
	}
	out.Blobs = append(out.Blobs, m.Layers...)
	if err := out.check(); err != nil {
		return nil, err
	}
	return out, nil
}

func (m *Manifest) check() error {
	all := append(append([]ocispec.Descriptor(nil), m.Manifests...), m.Blobs...)
	if m.Subject != nil {
		all = append(all, *m.Subject)
	}
	for _, d := range all {
		if err := CheckDescriptor(d); err != nil {
			return err
		}
	}
	return nil
}

// CheckDescriptor fails unless d has a well-formed digest of an available
// algorithm and a size that is not negative, which is what makes it safe to turn
// the digest into a path and the size into an allocation.
func CheckDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("descriptor with digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("descriptor %s has size %d", d.Digest, d.Size)
	}
	return nil
}

// Fetch reads the content desc names whole, at most limit bytes, and returns it
// only when size and digest match. What is larger is
// errdef.ErrSizeExceedsLimit.
func Fetch(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if desc.Size > limit {
		return nil, fmt.Errorf("%s is %d bytes, more than the %d accepted: %w", desc.Digest, desc.Size, limit, errdef.ErrSizeExceedsLimit)
	}
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := content.ReadAll(rc, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return data, nil
}

// FetchManifest reads and parses the manifest or index desc names; it returns
// the bytes too, because only they carry the digest.
func FetchManifest(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor) (*Manifest, []byte, error) {
	data, err := Fetch(ctx, src, desc, MaxManifestBytes)
	if err != nil {
		return nil, nil, err
	}
	m, err := ParseManifest(desc.MediaType, data)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return m, data, nil
}

// Describe returns the descriptor of data under mediaType, with its SHA-256.
func Describe(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}
