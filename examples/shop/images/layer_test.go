package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

var platforms = []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}

func testIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index, err := multiPlatform(platforms, func(p v1.Platform) (v1.Image, error) {
		return image(tree{"app": {mode: 0o755, content: []byte(p.Architecture)}}, v1.Config{Entrypoint: []string{"/app"}}, p, time.Unix(0, 0).UTC())
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestIndexListsPlatforms(t *testing.T) {
	t.Parallel()
	manifest, err := testIndex(t).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range manifest.Manifests {
		got = append(got, fmt.Sprintf("%s %s %s", m.Platform, m.MediaType, m.ArtifactType))
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	if want := []string{"linux/amd64 " + mediaType + " ", "linux/arm64 " + mediaType + " "}; !slices.Equal(got, want) {
		t.Errorf("manifests = %q, want %q without an artifactType", got, want)
	}
}

func TestLayerIsSortedAndPlain(t *testing.T) {
	t.Parallel()
	epoch := time.Unix(1_700_000_000, 0).UTC()
	l, err := layer(tree{
		"usr/bin/z":  {mode: 0o755, content: []byte("z")},
		"usr/bin/a":  {link: "z"},
		"etc/passwd": {content: []byte("root")},
		"data":       {dir: true, mode: 0o755, uid: 999},
	}, epoch)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("gzip header has name %q and time %v, want neither", z.Name, z.ModTime)
	}
	var got []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) || h.Uname != "" || h.Uid != h.Gid {
			t.Errorf("%s: time %v, owner %d:%d %q, want %v and numbers only", h.Name, h.ModTime, h.Uid, h.Gid, h.Uname, epoch)
		}
		got = append(got, h.FileInfo().Mode().String()+" "+h.Name)
	}
	want := []string{"drwxr-xr-x data/", "drwxr-xr-x etc/", "-rw-r--r-- etc/passwd", "drwxr-xr-x usr/", "drwxr-xr-x usr/bin/", "Lrwxrwxrwx usr/bin/a", "-rwxr-xr-x usr/bin/z"}
	if !slices.Equal(got, want) {
		t.Errorf("entries = %q, want %q", got, want)
	}
}

func TestWriteLayoutAndPush(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "app-1.0.0")
	first, err := writeLayout(dir, "1.0.0", testIndex(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := writeLayout(dir, "1.0.0", testIndex(t))
	if err != nil || first != second {
		t.Fatalf("the second build = %v, %v, want %v again", second, err, first)
	}
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	ref := strings.TrimPrefix(srv.URL, "http://") + "/shop/app:1.0.0"
	pushed, err := pushLayout(t.Context(), dir, ref)
	if err != nil || pushed != first {
		t.Fatalf("pushLayout() = %v, %v, want %v", pushed, err, first)
	}
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := remote.Head(tag); err != nil || got.Digest != first {
		t.Errorf("the registry has %v, %v, want %v", got, err, first)
	}
}

func TestWriteLayoutKeepsForeignDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := writeLayout(dir, "1.0.0", testIndex(t)); err == nil {
		t.Error("writeLayout() over a directory that is no layout gave no error")
	}
	if _, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

func TestPushNeedsABuild(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"-out", t.TempDir(), "-push", "127.0.0.1:1"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "not built yet") {
		t.Errorf("run(-push) = %v, want: not built yet", err)
	}
}

func TestSourceDate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"": 0, "0": 0, "1700000000": 1_700_000_000} {
		if got, err := sourceDate(in); err != nil || got.Unix() != want {
			t.Errorf("sourceDate(%q) = %v, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"-1", "yesterday"} {
		if _, err := sourceDate(in); err == nil {
			t.Errorf("sourceDate(%q) gave no error", in)
		}
	}
}
