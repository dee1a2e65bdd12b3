//go:build real

package real

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manifest is what the tests read of a manifest or an index.
type manifest struct {
	Manifests []struct {
		Digest      string
		Platform    struct{ Architecture string }
		Annotations map[string]string
	}
	Layers []struct{ Digest string }
}

// blob is where media holds a blob.
func blob(media, digest string) string {
	return filepath.Join(media, "blobs", filepath.FromSlash(strings.Replace(digest, ":", "/", 1)))
}

// readManifest reads a manifest or an index on media.
func readManifest(t testing.TB, media, digest string) manifest {
	t.Helper()
	data, err := os.ReadFile(blob(media, digest))
	if err != nil {
		t.Fatal(err)
	}
	return decode[manifest](t, string(data))
}

// flip turns one bit in the middle of a blob.
func flip(t testing.TB, media, digest string) {
	t.Helper()
	path := blob(media, digest)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkBlobs fails unless every blob on media is what its name says.
func checkBlobs(t testing.TB, media string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(media, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, f); err != nil {
			return err
		}
		if got := hex.EncodeToString(hash.Sum(nil)); got != filepath.Base(path) {
			t.Errorf("%s has digest %s", path, got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
