package artifact_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"

	"github.com/sealift/sealift/artifact"
)

func pushAll(t *testing.T, blobs ...artifact.Blob) *memory.Store {
	t.Helper()
	store := memory.New()
	for _, b := range blobs {
		if err := store.Push(t.Context(), b.Descriptor, strings.NewReader(string(b.Data))); err != nil {
			t.Fatal(err)
		}
	}
	return store
}

func TestBuildPolicy(t *testing.T) {
	t.Parallel()
	const text = "version: 5\n"
	parts, root, err := artifact.BuildPolicy(5, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.sealift.policy.v1",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="},` +
		`"layers":[{"mediaType":"application/vnd.sealift.policy.document.v1+yaml","digest":"sha256:08a7e65d21a2f5c0","size":11,"annotations":{"org.opencontainers.image.title":"policy.yaml"}}],` +
		`"annotations":{"org.opencontainers.image.version":"5"}}`
	layer := digest.FromString(text)
	if diff := cmp.Diff(strings.Replace(want, "sha256:08a7e65d21a2f5c0", layer.String(), 1), string(root.Data)); diff != "" {
		t.Errorf("the manifest (-want +got):\n%s", diff)
	}
	u, err := artifact.ReadPolicyUpdate(t.Context(), pushAll(t, append(parts, root)...), root.Descriptor)
	if err != nil || u.Version != 5 || u.Document.Digest != layer {
		t.Errorf("ReadPolicyUpdate() = %+v, %v", u, err)
	}
}

// An update has exactly one shape; all else is refused before anybody reads what it
// brings.
func TestReadPolicyUpdate(t *testing.T) {
	t.Parallel()
	_, sound, err := artifact.BuildPolicy(5, []byte("version: 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, old, new string
		want           error
		text           string
	}{
		{"another artifact", "vnd.sealift.policy.v1", "vnd.example.policy.v1", artifact.ErrNotPolicy, "not a sealift policy"},
		{"two layers", `"layers":[`, `"layers":[{"mediaType":"application/vnd.sealift.policy.document.v1+yaml","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},`, artifact.ErrInvalidPolicy, "has 2 layers, want one"},
		{"a huge layer", `"size":11`, `"size":1048577`, artifact.ErrInvalidPolicy, "has a policy of 1048577 bytes, more than the 1048576 accepted"},
		{"another layer", "policy.document.v1+yaml", "policy.document.v1+json", artifact.ErrInvalidPolicy, "has a layer of media type \"application/vnd.sealift.policy.document.v1+json\""},
		{"a config", `"config":{"mediaType":"application/vnd.oci.empty.v1+json"`, `"config":{"mediaType":"application/vnd.oci.image.config.v1+json"`, artifact.ErrInvalidPolicy, "has a config of media type"},
		{"a subject", `"annotations":{"org.opencontainers.image.version"`, `"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"annotations":{"org.opencontainers.image.version"`, artifact.ErrInvalidPolicy, "refers to another artifact"},
		{"no version", `image.version":"5"`, `image.other":"5"`, artifact.ErrInvalidPolicy, "has the version \"\""},
		{"version 0", `image.version":"5"`, `image.version":"0"`, artifact.ErrInvalidPolicy, "want a number from 1 on"},
		{"version 05", `image.version":"5"`, `image.version":"05"`, artifact.ErrInvalidPolicy, "has the version \"05\""},
		{"version +5", `image.version":"5"`, `image.version":"+5"`, artifact.ErrInvalidPolicy, "has the version \"+5\""},
		{"a version without end", `image.version":"5"`, `image.version":"` + strings.Repeat("5", 200) + `"`, artifact.ErrInvalidPolicy, "want a number from 1 on"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			raw := strings.Replace(string(sound.Data), tt.old, tt.new, 1)
			if raw == string(sound.Data) {
				t.Fatal("nothing was changed")
			}
			root := artifact.Blob{Descriptor: artifact.Describe(ocispec.MediaTypeImageManifest, []byte(raw)), Data: []byte(raw)}
			u, err := artifact.ReadPolicyUpdate(t.Context(), fetcher{root}, root.Descriptor)
			if !errors.Is(err, tt.want) || u != nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("ReadPolicyUpdate() = %+v, %v, want %v that says %q", u, err, tt.want, tt.text)
			}
		})
	}
	index := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","artifactType":"application/vnd.sealift.policy.v1","manifests":[]}`)
	root := artifact.Blob{Descriptor: artifact.Describe(ocispec.MediaTypeImageIndex, index), Data: index}
	if _, err := artifact.ReadPolicyUpdate(t.Context(), fetcher{root}, root.Descriptor); !errors.Is(err, artifact.ErrInvalidPolicy) {
		t.Errorf("ReadPolicyUpdate(index) = %v, want %v", err, artifact.ErrInvalidPolicy)
	}
	changed := sound
	changed.Data = []byte(strings.Replace(string(sound.Data), `"5"`, `"6"`, 1))
	if _, err := artifact.ReadPolicyUpdate(t.Context(), fetcher{changed}, sound.Descriptor); !errors.Is(err, content.ErrMismatchedDigest) {
		t.Errorf("ReadPolicyUpdate(changed bytes) = %v, want %v", err, content.ErrMismatchedDigest)
	}
}

func FuzzReadPolicyUpdate(f *testing.F) {
	_, sound, err := artifact.BuildPolicy(5, []byte("version: 5\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound.Data)
	f.Add([]byte(`{"artifactType":"application/vnd.sealift.policy.v1","config":{},"layers":[{}]}`))
	f.Add(bytes.Replace(sound.Data, []byte(`"layers":[`), []byte(`"layers":[],"layers":[`), 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		root := artifact.Blob{Descriptor: artifact.Describe(ocispec.MediaTypeImageManifest, raw), Data: raw}
		u, err := artifact.ReadPolicyUpdate(t.Context(), fetcher{root}, root.Descriptor)
		if err == nil && (u.Version < 1 || u.Document.MediaType != artifact.MediaTypePolicy || u.Document.Size > artifact.MaxPolicyBytes || u.Document.Digest.Validate() != nil) {
			t.Errorf("ReadPolicyUpdate(%q) = %+v", raw, u)
		}
	})
}

// fetcher has one blob, whose bytes may not be those of its digest.
type fetcher struct{ artifact.Blob }

func (f fetcher) Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.Data)), nil
}
