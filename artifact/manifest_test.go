package artifact_test

import (
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
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	descriptorJSON = `{"mediaType":"application/x","digest":"` + someDigest + `","size":7}`
)

func TestParseManifest(t *testing.T) {
	t.Parallel()
	want := ocispec.Descriptor{MediaType: "application/x", Digest: someDigest, Size: 7}
	tests := []struct {
		name, mediaType, data string
		want                  *artifact.Manifest
	}{
		{"image", ocispec.MediaTypeImageManifest, `{"config":` + descriptorJSON + `,"layers":[` + descriptorJSON + `]}`,
			&artifact.Manifest{ArtifactType: "application/x", Blobs: []ocispec.Descriptor{want, want}}},
		{"docker image", dockerManifest, `{"mediaType":"` + dockerManifest + `","config":` + descriptorJSON + `,"layers":[]}`,
			&artifact.Manifest{ArtifactType: "application/x", Blobs: []ocispec.Descriptor{want}}},
		{"declared type wins", ocispec.MediaTypeImageManifest, `{"artifactType":"a/b","config":` + descriptorJSON + `,"layers":[],"annotations":{"k":"v"},"subject":` + descriptorJSON + `}`,
			&artifact.Manifest{ArtifactType: "a/b", Blobs: []ocispec.Descriptor{want}, Annotations: map[string]string{"k": "v"}, Subject: &want}},
		{"index", ocispec.MediaTypeImageIndex, `{"manifests":[` + descriptorJSON + `]}`, &artifact.Manifest{Manifests: []ocispec.Descriptor{want}}},
		{"list", dockerList, `{"manifests":[]}`, &artifact.Manifest{Manifests: []ocispec.Descriptor{}}},
	}
	for _, tt := range tests {
		got, err := artifact.ParseManifest(tt.mediaType, []byte(tt.data))
		if err != nil {
			t.Errorf("%s: ParseManifest = %v", tt.name, err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: ParseManifest (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	const image, index = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex
	bad := func(digest, size string) string {
		return `{"mediaType":"application/x","digest":"` + digest + `","size":` + size + `}`
	}
	tests := []struct{ name, mediaType, data string }{
		{"other type", "application/json", `{}`},
		{"docker schema 1", "application/vnd.docker.distribution.manifest.v1+json", `{}`},
		{"no JSON", image, `{`},
		{"list", image, `[]`},
		{"trailing", image, `{}{}`},
		{"declares another type", image, `{"mediaType":"` + index + `"}`},
		{"image under an index's type", index, `{"config":` + descriptorJSON + `,"layers":[]}`},
		{"index under an image's type", image, `{"manifests":[]}`},
		{"both", index, `{"manifests":[],"layers":[]}`},
		{"both, other letters", index, `{"manifests":[],"Layers":[]}`},
		{"key twice", index, `{"manifests":[],"manifests":[` + descriptorJSON + `]}`},
		{"key twice, other letters", image, `{"layers":[` + descriptorJSON + `],"Layers":[]}`},
		{"key of a descriptor twice", index, `{"manifests":[{"size":1,` + descriptorJSON[1:] + `]}`},
		{"empty digest", image, `{"config":{}}`},
		{"null layer", image, `{"layers":[null]}`},
		{"path as digest", image, `{"layers":[` + bad("sha256:../../../etc/passwd", "1") + `]}`},
		{"short digest", image, `{"layers":[` + bad("sha256:00", "1") + `]}`},
		{"unknown algorithm", image, `{"layers":[` + bad("md5:d41d8cd98f00b204e9800998ecf8427e", "1") + `]}`},
		{"upper-case digest", index, `{"manifests":[` + bad("sha256:"+strings.ToUpper(someDigest[7:]), "1") + `]}`},
		{"negative size", image, `{"config":` + bad(someDigest, "-1") + `}`},
		{"fraction as size", image, `{"config":` + bad(someDigest, "1.5") + `}`},
		{"size beyond int64", image, `{"config":` + bad(someDigest, "9223372036854775808") + `}`},
		{"bad subject", image, `{"subject":` + bad("x", "1") + `}`},
	}
	for _, tt := range tests {
		if got, err := artifact.ParseManifest(tt.mediaType, []byte(tt.data)); err == nil || got != nil {
			t.Errorf("%s: ParseManifest(%q, %s) = %+v, %v, want nothing and an error", tt.name, tt.mediaType, tt.data, got, err)
		} else if malformed := tt.mediaType == image || tt.mediaType == index; errors.Is(err, artifact.ErrMalformed) != malformed {
			t.Errorf("%s: ParseManifest = %v, is ErrMalformed: %v, want %v", tt.name, err, !malformed, malformed)
		}
	}
}

func TestSniffMediaType(t *testing.T) {
	t.Parallel()
	tests := []struct{ data, want string }{
		{`{"mediaType":"` + dockerManifest + `"}`, dockerManifest},
		{`{"manifests":[]}`, ocispec.MediaTypeImageIndex},
		{`{"config":{},"layers":[]}`, ocispec.MediaTypeImageManifest},
		{`{"config":{}}`, ""},
		{`{"mediaType":"application/json","manifests":[]}`, ""},
		{`{"layers":[]}`, ""}, {`[]`, ""}, {``, ""}, {`null`, ""}, {"\x1f\x8b", ""},
	}
	for _, tt := range tests {
		if got := artifact.SniffMediaType([]byte(tt.data)); got != tt.want {
			t.Errorf("SniffMediaType(%q) = %q, want %q", tt.data, got, tt.want)
		}
	}
}

// served answers every Fetch with the same bytes.
type served string

func (s served) Fetch(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(s))), nil
}

func TestFetch(t *testing.T) {
	t.Parallel()
	desc := artifact.Describe("text/plain", []byte("hello"))
	if got, err := artifact.Fetch(t.Context(), served("hello"), desc, 5); err != nil || string(got) != "hello" {
		t.Errorf("Fetch = %q, %v, want hello", got, err)
	}
	tests := []struct {
		name   string
		served served
		desc   ocispec.Descriptor
		is     error
	}{
		{"flipped", "hellO", desc, content.ErrMismatchedDigest},
		{"longer", "hello!", desc, content.ErrTrailingData},
		{"shorter", "hell", desc, io.ErrUnexpectedEOF},
		{"over the limit", "hello!", artifact.Describe("text/plain", []byte("hello!")), nil},
		{"bad digest", "hello", ocispec.Descriptor{Digest: "sha256:x", Size: 5}, digest.ErrDigestInvalidLength},
		{"negative size", "hello", ocispec.Descriptor{Digest: desc.Digest, Size: -1}, nil},
	}
	for _, tt := range tests {
		got, err := artifact.Fetch(t.Context(), tt.served, tt.desc, 5)
		if err == nil || got != nil || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: Fetch = %q, %v, want error %v", tt.name, got, err, tt.is)
		}
	}
	if _, err := artifact.Fetch(t.Context(), memory.New(), desc, 5); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Fetch from an empty store = %v, want %v", err, errdef.ErrNotFound)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	got := artifact.Describe("a/b", nil)
	if diff := cmp.Diff(ocispec.Descriptor{MediaType: "a/b", Digest: someDigest}, got); diff != "" {
		t.Errorf("Describe (-want +got):\n%s", diff)
	}
}
