package signer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/signer"
)

// The files under testdata/cosign were written by cosign v2.6.5 for one
// manifest, with one key: "cosign sign --key cosign.key --tlog-upload=false"
// (payload.json, payload.sig), the same with --new-bundle-format (bundle.json),
// and "cosign attest --new-bundle-format --type custom" (attestation.json).
func TestVerifyWhatCosignWrote(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join("testdata", "cosign", name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	key, err := signer.ParseKey(read("cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	subject := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest,
		Digest:    "sha256:c84e221c1c868c3059c32501d7cd103cc9d6d3f794546dbe4414373fc4ab35c7",
		Size:      535,
	}
	simple := payload{raw: read("payload.json"), sig: strings.TrimSpace(string(read("payload.sig")))}
	tests := []struct {
		name   string
		attach func(src *memory)
		want   error
		form   signer.Form
	}{
		{
			name: "simple signing",
			attach: func(src *memory) {
				src.tags[sigTag(subject)] = pushJSON(t, src, ocispec.MediaTypeImageManifest, payloadManifest(t, src, []payload{simple}))
			},
			form: signer.FormTag,
		},
		{
			name:   "bundle",
			attach: func(src *memory) { src.attach(t, subject, read("bundle.json")) },
			form:   signer.FormBundle,
		},
		{
			name:   "attestation",
			attach: func(src *memory) { src.attach(t, subject, read("attestation.json")) },
			want:   signer.ErrUnsigned,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := newMemory()
			tt.attach(src)
			evidence, err := signer.Verify(t.Context(), src, subject, []*signer.Key{key})
			if !errors.Is(err, tt.want) {
				t.Fatalf("Verify() = %v, want %v", err, tt.want)
			}
			if err == nil && (evidence.Signatures[0].Form != tt.form || evidence.Signatures[0].Key != key.Fingerprint()) {
				t.Errorf("Verify() = %+v, want form %s by %s", evidence, tt.form, key)
			}
			listed, err := signer.Signatures(t.Context(), src, subject)
			if err != nil || (len(listed) == 1) != (tt.want == nil) {
				t.Errorf("Signatures() = %v, %v", listed, err)
			}
		})
	}
}
