package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

// memory is a source that holds what it was given.
type memory struct {
	blobs     map[digest.Digest][]byte
	tags      map[string]ocispec.Descriptor
	referrers []ocispec.Descriptor
}

func newMemory() *memory {
	return &memory{blobs: map[digest.Digest][]byte{}, tags: map[string]ocispec.Descriptor{}}
}

func (m *memory) Push(_ context.Context, desc ocispec.Descriptor, r io.Reader) error {
	raw, err := io.ReadAll(r)
	m.blobs[desc.Digest] = raw
	return err
}

func (m *memory) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	raw, ok := m.blobs[desc.Digest]
	if !ok {
		return nil, errdef.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func (m *memory) Resolve(_ context.Context, tag string) (ocispec.Descriptor, error) {
	desc, ok := m.tags[tag]
	if !ok {
		return desc, errdef.ErrNotFound
	}
	return desc, nil
}

func (m *memory) Referrers(_ context.Context, _ ocispec.Descriptor, _ string, fn func([]ocispec.Descriptor) error) error {
	return fn(m.referrers)
}

// attach attaches a bundle and lists it.
func (m *memory) attach(t testing.TB, subject ocispec.Descriptor, raw []byte) {
	t.Helper()
	desc := attachBundle(t, m, subject, raw)
	desc.ArtifactType = typeBundle
	m.referrers = append(m.referrers, desc)
}

func isVerdict(err error) bool {
	return errors.Is(err, signer.ErrUnsigned) || errors.Is(err, signer.ErrNotAccepted) || errors.Is(err, signer.ErrInvalid)
}

// FuzzPayload signs whatever payload it is given with the accepted key: what
// is accepted must still name the subject.
func FuzzPayload(f *testing.F) {
	s := newScene(f)
	f.Add(s.sound.raw)
	f.Add(s.foreign.raw)
	f.Add([]byte(`{"critical":{"image":{"docker-manifest-digest":"` + s.index.Digest.String() + `"},"type":""}}`))
	f.Add([]byte(`{"critical":null,"optional":{"a":[]}}`))
	f.Add(bytes.Replace(s.sound.raw, []byte(`{"critical"`), []byte(`{"critical":{},"critical"`), 1))
	f.Add(bytes.Replace(s.sound.raw, []byte(`{"critical"`), []byte(`{"Critical":{},"critical"`), 1))
	f.Add(bytes.Repeat([]byte("["), 20_000))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		src := newMemory()
		manifest := payloadManifest(t, src, []payload{s.sign(t, raw)})
		src.tags[sigTag(s.index)] = pushJSON(t, src, ocispec.MediaTypeImageManifest, manifest)
		_, err := signer.Verify(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()})
		if err != nil {
			if !isVerdict(err) {
				t.Errorf("Verify() = %v, want a verdict", err)
			}
			return
		}
		var said struct {
			Critical struct {
				Image struct {
					Digest string `json:"docker-manifest-digest"`
				} `json:"image"`
				Type string `json:"type"`
			} `json:"critical"`
		}
		if err := json.Unmarshal(raw, &said); err != nil ||
			said.Critical.Image.Digest != s.index.Digest.String() || said.Critical.Type != "cosign container image signature" {
			t.Errorf("accepted %q", raw)
		}
	})
}

// FuzzBundle changes a bundle of another release by the accepted key or identity, and must
// never end in a signature of this one.
func FuzzBundle(f *testing.F) {
	s := newScene(f)
	f.Add(s.foreignBundle)
	f.Add(flipBundleSignature(f, s.foreignBundle))
	f.Add(append([]byte(`{"mediaType":"`+typeBundle+`",`), s.foreignBundle[1:]...))
	f.Add(bytes.Repeat([]byte("["), 20_000))
	f.Add([]byte(`{"mediaType":"` + typeBundle + `","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{}}`))
	f.Add([]byte(`{"mediaType":"` + typeBundle + `","verificationMaterial":{},"dsseEnvelope":{"signatures":[null]}}`))
	f.Add([]byte(`{}`))
	sigstore := sigstoretest.New(f)
	id := accept(parseRoot(f, sigstore.TrustedRoot(f, everything)))
	f.Add(sigstore.Bundle(f, release, s.image.Digest, sigstoretest.SignType, nil))
	v2 := release
	v2.Log, v2.LogV2 = false, true
	f.Add(sigstore.Bundle(f, v2, s.image.Digest, sigstoretest.SignType, nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		src := newMemory()
		src.attach(t, s.index, raw)
		_, err := signer.Verify(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()}, id)
		if !isVerdict(err) {
			t.Errorf("Verify() = %v for %q, want a verdict", err, raw)
		}
	})
}

// FuzzManifest reads any bytes as the manifest at the signature tag and as a
// referrer.
func FuzzManifest(f *testing.F) {
	s := newScene(f)
	f.Add([]byte(`{"layers":[{"mediaType":"`+typePayload+`","digest":"sha256:x","size":-1}]}`), "")
	f.Add([]byte(`{"artifactType":"`+typeBundle+`","layers":[{"mediaType":"`+typeBundle+`"}],"subject":{"digest":"`+s.index.Digest.String()+`"}}`), typeBundle)
	f.Add([]byte(`{"config":{"mediaType":"`+typeOCI11+`"},"subject":null}`), typeOCI11)
	f.Add([]byte(`{"subject":null,"subject":{"digest":"`+s.index.Digest.String()+`"},"Layers":[],"layers":[]}`), typeBundle)
	f.Add(bytes.Repeat([]byte(`{"a":`), 20_000), "")
	f.Fuzz(func(t *testing.T, raw []byte, artifactType string) {
		src := newMemory()
		desc := push(t, src, ocispec.MediaTypeImageManifest, raw)
		src.tags[sigTag(s.index)] = desc
		desc.ArtifactType = artifactType
		src.referrers = []ocispec.Descriptor{desc}
		if _, err := signer.Verify(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()}); !isVerdict(err) {
			t.Errorf("Verify() = %v, want a verdict", err)
		}
	})
}
