package mirror_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// More roots than media can tell of are refused before anything is asked for.
func TestPlanOfTooManyRoots(t *testing.T) {
	t.Parallel()
	items := make([]mirror.Item, layout.MaxLabelRoots+1) // without a source
	if _, err := mirror.NewPlan(t.Context(), mirror.Empty(), items, mirror.PlanOptions{}); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("NewPlan = %v, want %v", err, errdef.ErrSizeExceedsLimit)
	}
}

// Media that tells of as many roots as it can takes no other, and goes on taking those
// it has, or others in their place.
func TestPlanForFullLabel(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	old, now := src.image("old", nil), src.image("new", nil)
	src.tag(now, "1")
	dir := t.TempDir()
	var entries, roots []string
	for i := range layout.MaxLabelRoots {
		name := fmt.Sprintf("a.example/b:%d", i)
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%q:%q}}`,
			old.MediaType, old.Digest, old.Size, ocispec.AnnotationRefName, name))
		roots = append(roots, fmt.Sprintf(`{"name":%q,"digest":%q}`, name, old.Digest))
	}
	for name, text := range map[string]string{
		"oci-layout":         `{"imageLayoutVersion":"1.0.0"}`,
		"index.json":         `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`,
		"sealift/media.json": `{"apiVersion":"sealift/v1","kind":"Media","roots":[` + strings.Join(roots, ",") + `]}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	peek, err := mirror.Peek(dir)
	if err != nil {
		t.Fatal(err)
	}
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	for _, dst := range []mirror.Destination{peek, media} {
		for name, want := range map[string]error{"a.example/b:7": nil, "a.example/b:new": errdef.ErrSizeExceedsLimit} {
			it := mirror.Item{Source: src, Reference: "1", Name: name}
			if _, err := mirror.NewPlan(t.Context(), dst, []mirror.Item{it}, mirror.PlanOptions{}); !errors.Is(err, want) {
				t.Errorf("NewPlan of %s = %v, want %v", name, err, want)
			}
		}
	}
	if _, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{{Source: src, Reference: "1", Name: "a.example/b:new"}}, mirror.PlanOptions{}); err != nil {
		t.Errorf("NewPlan for what has no label = %v", err)
	}
}
