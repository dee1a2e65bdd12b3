package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/sealift/sealift/signer"
)

const (
	typeBundle  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	typePayload = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeOCI11   = "application/vnd.dev.cosign.artifact.sig.v1+json"
	annSig      = "dev.cosignproject.cosign/signature"
	annPredType = "dev.sigstore.bundle.predicateType"
)

// newRepository returns an empty repository of a registry in this process.
func newRepository(t testing.TB, referrersAPI bool) *remote.Repository {
	t.Helper()
	handler := olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		API:     config.ConfigAPI{Referrer: config.ConfigAPIReferrer{Enabled: &referrersAPI}},
		Log:     slog.New(slog.DiscardHandler),
	})
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		_ = handler.Close()
	})
	repo, err := remote.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	// The default client loses its connections whenever some other test server ends.
	repo.Client = &auth.Client{Client: server.Client()}
	return repo
}

func push(t testing.TB, dst content.Pusher, mediaType string, raw []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := dst.Push(t.Context(), desc, bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	return desc
}

func pushJSON(t testing.TB, dst content.Pusher, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return push(t, dst, mediaType, raw)
}

// pushRelease pushes an index with one image and returns both.
func pushRelease(t testing.TB, dst content.Pusher, name string) (index, image ocispec.Descriptor) {
	t.Helper()
	image = pushJSON(t, dst, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    push(t, dst, ocispec.MediaTypeImageConfig, []byte("{}")),
		Layers:    []ocispec.Descriptor{push(t, dst, ocispec.MediaTypeImageLayer, []byte(name))},
	})
	index = pushJSON(t, dst, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{image},
	})
	return index, image
}

// payload is one simple signing payload with its signature.
type payload struct {
	raw []byte
	sig string
	// annotations, where they are set, have the signature and more.
	annotations map[string]string
}

func payloadManifest(t testing.TB, dst content.Pusher, payloads []payload) ocispec.Manifest {
	t.Helper()
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    push(t, dst, ocispec.MediaTypeImageConfig, []byte("{}")),
	}
	for _, p := range payloads {
		layer := push(t, dst, typePayload, p.raw)
		if layer.Annotations = p.annotations; p.annotations == nil {
			layer.Annotations = map[string]string{annSig: p.sig}
		}
		m.Layers = append(m.Layers, layer)
	}
	return m
}

// attachTag puts payloads at the signature tag of the subject.
func attachTag(t testing.TB, dst *remote.Repository, subject ocispec.Descriptor, payloads ...payload) {
	t.Helper()
	desc := pushJSON(t, dst, ocispec.MediaTypeImageManifest, payloadManifest(t, dst, payloads))
	if err := dst.Tag(t.Context(), desc, sigTag(subject)); err != nil {
		t.Fatal(err)
	}
}

// attachOCI11 attaches payloads as a referrer, as cosign does experimentally.
func attachOCI11(t testing.TB, dst *remote.Repository, subject ocispec.Descriptor, payloads ...payload) {
	t.Helper()
	m := payloadManifest(t, dst, payloads)
	m.ArtifactType = typeOCI11
	m.Config.MediaType = typeOCI11
	m.Subject = &subject
	pushJSON(t, dst, ocispec.MediaTypeImageManifest, m)
}

// attachBundle attaches a bundle as a referrer.
func attachBundle(t testing.TB, dst content.Pusher, subject ocispec.Descriptor, raw []byte) ocispec.Descriptor {
	t.Helper()
	return pushJSON(t, dst, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: typeBundle,
		Config:       push(t, dst, ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []ocispec.Descriptor{push(t, dst, typeBundle, raw)},
		Subject:      &subject,
	})
}

func sigTag(subject ocispec.Descriptor) string {
	return strings.Replace(subject.Digest.String(), ":", "-", 1) + ".sig"
}

func fetch(t testing.TB, src content.Fetcher, desc ocispec.Descriptor) []byte {
	t.Helper()
	raw, err := content.FetchAll(t.Context(), src, desc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// parts returns both signatures of the subject by s, as Sign writes them.
func parts(t testing.TB, repo *remote.Repository, subject ocispec.Descriptor, s *signer.Signer) (payload, []byte) {
	t.Helper()
	written, err := signer.Sign(t.Context(), repo, subject, "registry.example/team/app", s, signer.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var bundle, tagged ocispec.Manifest
	for i, m := range []*ocispec.Manifest{&bundle, &tagged} {
		if err := json.Unmarshal(fetch(t, repo, written[i]), m); err != nil {
			t.Fatal(err)
		}
	}
	layer := tagged.Layers[len(tagged.Layers)-1]
	return payload{raw: fetch(t, repo, layer), sig: layer.Annotations[annSig]}, fetch(t, repo, bundle.Layers[0])
}

// tampered is a source that answers for some content as fetch says, which
// returns nil for what it leaves alone.
type tampered struct {
	signer.Source
	fetch func(desc ocispec.Descriptor, raw []byte) (io.ReadCloser, error)
}

func (s tampered) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	raw, err := content.FetchAll(ctx, s.Source, desc)
	if err != nil {
		return nil, err
	}
	if rc, err := s.fetch(desc, raw); rc != nil || err != nil {
		return rc, err
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// lyingReferrers answers with the referrers of something else.
type lyingReferrers struct {
	signer.Source
	lie ocispec.Descriptor
}

func (s lyingReferrers) Referrers(ctx context.Context, _ ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	return s.Source.Referrers(ctx, s.lie, artifactType, fn)
}
