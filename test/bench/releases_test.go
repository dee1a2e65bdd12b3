//go:build real

package bench

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/signer"
)

const (
	releases       = 1000
	releaseBytes   = 256 << 10 // of the one layer of each
	signatureForms = 2         // that every release is signed in
)

// BenchmarkReleases verifies media with many signed releases; the bound is openssl
// hashing the same files on every core, and verifying as many signatures.
func BenchmarkReleases(b *testing.B) {
	bin := sealift(b)
	media, key := signedMedia(b, releases, releaseBytes)
	hash := fmt.Sprintf("find %s/blobs -type f -print0 | xargs -0 -n 200 -P %d openssl dgst -sha256 >/dev/null", media, runtime.NumCPU())
	r := race(b,
		contender{name: ours, script: bin + " verify -q --key " + key + " " + media},
		contender{name: "openssl", script: hash},
	)
	if len(r["openssl"]) == 0 {
		row{name: rowReleases, missing: "openssl did not run"}.record()
		return
	}
	signatures := releases * signatureForms / opensslVerifies(b) / float64(runtime.NumCPU())
	bound := r.seconds("openssl") + signatures
	record(b, rowReleases, "openssl hashing, and its rate of verifying", r.seconds(ours)/bound, 0, "×",
		fmt.Sprintf("%s, and %.2f s for %d signatures", r.detail(ours, "openssl"), signatures, releases*signatureForms))
}

// BenchmarkImport takes a large signed release into a library; the bound is a copy of the
// media that is flushed too, while openssl hashes it.
func BenchmarkImport(b *testing.B) {
	bin := sealift(b)
	media, key := signedMedia(b, 8, largeBytes()/8)
	r := race(b,
		contender{name: ours, script: bin + " import -q --home home --yes --key " + key + " " + media},
		contender{name: "cp", script: fmt.Sprintf("(%s) & cp -r %s copy && sync -f copy && wait", hashAll(media), media)},
	)
	recordRatio(b, rowImport, r, 1.1, ours, "cp")
}

// opensslVerifies returns how many ECDSA P-256 signatures a core verifies in a second.
func opensslVerifies(b *testing.B) float64 {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "openssl", "speed", "-seconds", "1", "-mr", "ecdsap256").Output()
	if err != nil {
		b.Fatal(err)
	}
	// +F4:CURVE:BITS:SIGNATURES A SECOND:VERIFICATIONS A SECOND
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if fields[0] != "+F4" || len(fields) < 5 {
			continue
		}
		rate, err := strconv.ParseFloat(fields[4], 64)
		if err != nil || rate < 1 {
			b.Fatalf("openssl speed says %q", line)
		}
		return rate
	}
	b.Fatalf("openssl speed does not say how fast it verifies:\n%s", out)
	return 0
}

// signedMedia makes media with n releases of one layer each, and the key they are signed
// by.
func signedMedia(b *testing.B, n int, layerBytes int64) (media, key string) {
	b.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	s, err := signer.NewSigner(private)
	if err != nil {
		b.Fatal(err)
	}
	key, media = filepath.Join(b.TempDir(), "vendor.pub"), filepath.Join(b.TempDir(), "m")
	if err := os.WriteFile(key, s.Key().PEM(), 0o600); err != nil {
		b.Fatal(err)
	}
	w, err := layout.OpenWriter(b.Context(), media)
	if err != nil {
		b.Fatal(err)
	}
	repo := w.WritableRepository("registry.example.com/shop")
	for i := range n {
		release(b, repo, fmt.Sprintf("1.%d.0", i), layerBytes, s)
	}
	if err := w.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return media, key
}

// release writes one signed release of an image with a layer of its own.
func release(b *testing.B, repo *layout.WritableRepository, version string, layerBytes int64, s *signer.Signer) {
	b.Helper()
	yaml := "apiVersion: sealift/v1\nkind: App\nid: example.com/shop\nversion: " + version +
		"\nplatforms: [linux/amd64]\ncomponents:\n  web: {image: example.com/web:1}\n"
	app, err := artifact.ParseTemplate("app.yaml", []byte(yaml), os.DirFS(b.TempDir()))
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, layerBytes)
	_, _ = rand.Read(data) // never fails
	config, layer := blobOf(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"amd64"}`)), blobOf(ocispec.MediaTypeImageLayer, data)
	raw := encode(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config.Descriptor, Layers: []ocispec.Descriptor{layer.Descriptor}})
	image := blobOf(ocispec.MediaTypeImageManifest, []byte(raw))
	parts, root, err := artifact.BuildRelease(app, map[string]artifact.Image{"web": {Descriptor: image.Descriptor, Source: "example.com/web:1"}}, time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	for _, blob := range append(parts, config, layer, image, root) {
		if err := repo.Push(b.Context(), blob.Descriptor, bytes.NewReader(blob.Data)); err != nil {
			b.Fatal(err)
		}
	}
	if err := repo.Tag(b.Context(), root.Descriptor, version); err != nil {
		b.Fatal(err)
	}
	if _, err := signer.Sign(b.Context(), repo, root.Descriptor, "registry.example.com/shop", s, signer.SignOptions{}); err != nil {
		b.Fatal(err)
	}
}

func blobOf(mediaType string, data []byte) artifact.Blob {
	return artifact.Blob{Descriptor: artifact.Describe(mediaType, data), Data: data}
}
