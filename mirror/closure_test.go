package mirror_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// platformed stores an index of two images that say what they run on, and of an
// attestation to the first.
func platformed(s *store) (root, amd64, arm64, attestation ocispec.Descriptor) {
	shared := s.layer("shared")
	amd64, arm64 = s.image("amd64", nil, shared, s.layer("for amd64")), s.image("arm64", nil, shared, s.layer("for arm64"))
	amd64.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	attestation = s.image("attestation", nil, s.layer("attested"))
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{"vnd.docker.reference.digest": amd64.Digest.String()}
	root = s.index(nil, amd64, arm64, attestation)
	s.image("signature", &root, s.layer("signed"))
	return root, amd64, arm64, attestation
}

func TestClosure(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	root, amd64, arm64, attestation := platformed(s)
	c, err := mirror.ReadClosure(t.Context(), s, root)
	if err != nil {
		t.Fatalf("ReadClosure = %v", err)
	}
	if got := len(c.Members); got != 5 {
		t.Errorf("%d members, want 5", got)
	}
	if got := c.Members[root.Digest]; len(got.Entries) != 3 || len(got.Proofs) != 1 {
		t.Errorf("the root has %d entries and %d proofs, want 3 and 1", len(got.Entries), len(got.Proofs))
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, c.Platforms()); diff != "" {
		t.Errorf("Platforms (-want +got):\n%s", diff)
	}
	// 5 manifests, 4 configs, 5 layers; what is for one platform goes along with it.
	for _, tt := range []struct {
		want        string
		pieces      int
		has, hasNot ocispec.Descriptor
	}{
		{"", 14, attestation, ocispec.Descriptor{}},
		{"linux/amd64", 11, attestation, arm64},
		{"linux/arm64", 8, arm64, attestation},
		{"linux/s390x", 4, root, amd64},
	} {
		var want []ocispec.Platform
		if tt.want != "" {
			p, err := mirror.ParsePlatform(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, p)
		}
		got := c.Content(root, want...)
		if len(got) != tt.pieces {
			t.Errorf("Content(%q) has %d pieces, want %d", tt.want, len(got), tt.pieces)
		}
		if _, ok := got[tt.has.Digest]; !ok {
			t.Errorf("Content(%q) lacks %s", tt.want, tt.has.Digest)
		}
		if _, ok := got[tt.hasNot.Digest]; ok {
			t.Errorf("Content(%q) has %s", tt.want, tt.hasNot.Digest)
		}
	}
}

// without is a store that lacks something, and has no blobs at all.
type without struct {
	*store
	lost []digest.Digest
}

func (w without) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if slices.Contains(w.lost, desc.Digest) || !artifact.IsManifest(desc.MediaType) {
		return nil, errdef.ErrNotFound
	}
	return w.store.Fetch(ctx, desc)
}

// Only manifests are read, and one that is not there is passed over.
func TestClosureOfSparse(t *testing.T) {
	t.Parallel()
	full := newStore(t)
	root, amd64, arm64, attestation := platformed(full)
	sparse := without{full, []digest.Digest{arm64.Digest, attestation.Digest}}
	c, err := mirror.ReadClosure(t.Context(), sparse, root)
	if err != nil {
		t.Fatalf("ReadClosure = %v", err)
	}
	var absent []digest.Digest
	for _, d := range c.Absent {
		absent = append(absent, d.Digest)
	}
	slices.Sort(sparse.lost)
	if diff := cmp.Diff(sparse.lost, absent); diff != "" {
		t.Errorf("absent (-want +got):\n%s", diff)
	}
	if _, ok := c.Members[amd64.Digest]; len(c.Members) != 3 || !ok {
		t.Errorf("%d members, want the root, the image for amd64 and the signature", len(c.Members))
	}
	if _, err := mirror.ReadClosure(t.Context(), sparse, arm64); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("ReadClosure of what is not there = %v, want ErrNotFound", err)
	}
}
