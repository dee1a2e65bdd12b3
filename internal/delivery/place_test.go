package delivery_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/delivery"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	root := m.release("registry.example.com/shop:1.0.0", "shop", "1.0.0", newSigner(t))
	f := m.find("")[0]
	nowhere := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("nowhere"), Size: 1}
	places := delivery.Places(t.Context(), f, []ocispec.Descriptor{root, nowhere})
	if diff := cmp.Diff(delivery.Place{Role: "root"}, places[root.Digest]); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
	if at, ok := places[nowhere.Digest]; ok {
		t.Errorf("a stranger is placed: %+v", at)
	}
}
