package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// Media types of a policy that travels.
const (
	// TypePolicy is the artifactType of the manifest of an update of a policy.
	TypePolicy = "application/vnd.sealift.policy.v1"
	// MediaTypePolicy is the media type of its one layer, the policy as it is written.
	MediaTypePolicy = "application/vnd.sealift.policy.document.v1+yaml"
)

// PolicyFile is the title of that layer, and the name of the file at a site.
const PolicyFile = "policy.yaml"

// MaxPolicyBytes is the largest policy accepted.
const MaxPolicyBytes = 1 << 20

// ErrNotPolicy reports that an artifact is sound but no update of a policy.
var ErrNotPolicy = errors.New("not a sealift policy")

// ErrInvalidPolicy reports an update of a policy whose bytes are those that were
// published, and that breaks the format or contradicts itself. Where it is the policy
// in it that is wrong, its [FindingsError] is in the chain too.
var ErrInvalidPolicy = errors.New("invalid policy update")

// PolicyUpdate is a policy that travels, as its manifest says.
type PolicyUpdate struct {
	// Root names the manifest.
	Root ocispec.Descriptor
	// Version is that of the policy, which the policy itself has to agree with.
	Version int
	// Document is the policy as it is written.
	Document ocispec.Descriptor
}

// BuildPolicy makes the documents of an update of a policy from the bytes of the
// policy and its version: those to push first, and the manifest, which is encoded as
// `oras push` writes it. The same bytes always make the same digest.
func BuildPolicy(version int, data []byte) (parts []Blob, root Blob, err error) {
	document := Blob{Describe(MediaTypePolicy, data), data}
	empty := ocispec.DescriptorEmptyJSON
	parts = []Blob{{Describe(ocispec.MediaTypeEmptyJSON, empty.Data), empty.Data}, document}
	layer := document.Descriptor
	layer.Annotations = map[string]string{ocispec.AnnotationTitle: PolicyFile}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: TypePolicy,
		Config:       empty,
		Layers:       []ocispec.Descriptor{layer},
		Annotations:  map[string]string{ocispec.AnnotationVersion: strconv.Itoa(version)},
	})
	if err != nil {
		return nil, Blob{}, fmt.Errorf("encode policy update: %w", err)
	}
	desc := Describe(ocispec.MediaTypeImageManifest, raw)
	desc.ArtifactType = TypePolicy
	return parts, Blob{desc, raw}, nil
}

// ReadPolicyUpdate reads the manifest of the update at root; the policy itself is not
// read, nor are signatures. It fails with [ErrNotPolicy] for any other artifact, with
// [ErrInvalidPolicy] for a manifest that [BuildPolicy] would not have made in this
// shape, and with other errors when content is missing or not what its digest says.
func ReadPolicyUpdate(ctx context.Context, src content.Fetcher, root ocispec.Descriptor) (*PolicyUpdate, error) {
	m, _, err := FetchManifest(ctx, src, root)
	if err != nil {
		return nil, fmt.Errorf("read policy update: %w", err)
	}
	if m.ArtifactType != TypePolicy {
		return nil, fmt.Errorf("%s: %w", root.Digest, ErrNotPolicy)
	}
	u := &PolicyUpdate{Root: root}
	if err := u.fill(m); err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrInvalidPolicy, root.Digest, err)
	}
	return u, nil
}

// fill takes from a manifest what an update is, and fails unless that is all there is.
func (u *PolicyUpdate) fill(m *Manifest) error {
	switch {
	case u.Root.MediaType != ocispec.MediaTypeImageManifest:
		return fmt.Errorf("has media type %q", u.Root.MediaType)
	case m.Subject != nil:
		return fmt.Errorf("refers to another artifact, %s", m.Subject.Digest)
	case len(m.Blobs) != 2:
		return fmt.Errorf("has %d layers, want one", len(m.Blobs)-1)
	case m.Blobs[0].MediaType != ocispec.MediaTypeEmptyJSON:
		return fmt.Errorf("has a config of media type %q, want none", m.Blobs[0].MediaType)
	}
	u.Document = m.Blobs[1]
	if u.Document.MediaType != MediaTypePolicy {
		return fmt.Errorf("has a layer of media type %q, want %s", u.Document.MediaType, MediaTypePolicy)
	}
	if u.Document.Size > MaxPolicyBytes {
		return fmt.Errorf("has a policy of %d bytes, more than the %d accepted", u.Document.Size, MaxPolicyBytes)
	}
	text := m.Annotations[ocispec.AnnotationVersion]
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || strconv.Itoa(n) != text {
		return fmt.Errorf("has the version %.100q, want a number from 1 on", text)
	}
	u.Version = n
	return nil
}
