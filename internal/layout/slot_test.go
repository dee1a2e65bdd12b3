package layout_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

const (
	oneName = "registry.example.com/a/one:1.0.0"
	twoName = "registry.example.com/a/two:1.0.0"
)

// twoCommits makes a layout of two commits, returning index.json after each.
func twoCommits(t *testing.T) (dir string, first, second []byte) {
	t.Helper()
	dir = t.TempDir()
	w := writer(t, dir)
	setRoot(t, w, oneName, "one-1.0.0", image(t, w, "one"))
	commit(t, w)
	first = read(t, dir, "index.json")
	setRoot(t, w, twoName, "two-1.0.0", image(t, w, "two"))
	commit(t, w)
	closeWriter(t, w)
	return dir, first, read(t, dir, "index.json")
}

func TestOpenPicksTheIndexThatCounts(t *testing.T) {
	t.Parallel()
	both := oneName + " " + twoName
	foreign := func(t *testing.T, dir string) []byte {
		return bytes.ReplaceAll(read(t, dir, "index.json"), []byte("a/two:"), []byte("a/foreign:"))
	}
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string, first []byte)
		want   string
		state  layout.IndexState
	}{
		{"sound", func(*testing.T, string, []byte) {}, both, layout.IndexSound},
		{"zero length", func(t *testing.T, dir string, _ []byte) { write(t, nil, dir, "index.json") }, both, layout.IndexTorn},
		{"torn", func(t *testing.T, dir string, _ []byte) {
			raw := read(t, dir, "index.json")
			write(t, raw[:len(raw)/2], dir, "index.json")
		}, both, layout.IndexTorn},
		{"zeroed block", func(t *testing.T, dir string, _ []byte) {
			raw := read(t, dir, "index.json")
			clear(raw[len(raw)/2:])
			write(t, raw, dir, "index.json")
		}, both, layout.IndexTorn},
		{"missing", func(t *testing.T, dir string, _ []byte) {
			if err := os.Remove(filepath.Join(dir, "index.json")); err != nil {
				t.Fatal(err)
			}
		}, both, layout.IndexTorn},
		{"commit cut off before index.json", func(t *testing.T, dir string, first []byte) {
			write(t, first, dir, "index.json")
		}, both, layout.IndexBehind},
		{"torn newest slot", func(t *testing.T, dir string, _ []byte) {
			write(t, []byte(`{"generation":2,`), slots(t, dir)[1])
		}, both, layout.IndexSound},
		{"flipped bit in the newest slot and torn index", func(t *testing.T, dir string, _ []byte) {
			name := slots(t, dir)[1]
			write(t, bytes.Replace(read(t, name), []byte("a/two"), []byte("a/twp"), 1), name)
			write(t, nil, dir, "index.json")
		}, oneName, layout.IndexTorn},
		{"commit cut off in its slot", func(t *testing.T, dir string, _ []byte) {
			write(t, read(t, slots(t, dir)[1])[:100], dir, "sealift", "index.3.json")
		}, both, layout.IndexSound},
		{"slot under another's number", func(t *testing.T, dir string, _ []byte) {
			write(t, read(t, slots(t, dir)[0]), dir, "sealift", "index.9.json")
			write(t, nil, dir, "index.json")
		}, both, layout.IndexTorn},
		{"foreign edit", func(t *testing.T, dir string, _ []byte) {
			write(t, foreign(t, dir), dir, "index.json")
		}, "registry.example.com/a/foreign:1.0.0 " + oneName, layout.IndexChanged},
		{"foreign edit of the first index", func(t *testing.T, dir string, first []byte) {
			write(t, append(first, ' '), dir, "index.json")
		}, oneName, layout.IndexChanged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, first, _ := twoCommits(t)
			tt.damage(t, dir, first)
			l := open(t, dir)
			if got := rootNames(l); got != tt.want {
				t.Errorf("Open: roots %q, want %q", got, tt.want)
			}
			state := layout.IndexSound
			for _, s := range l.Standings() {
				state = s.State
			}
			if state != tt.state {
				t.Errorf("Standings: %q, want %q", state, tt.state)
			}
			// A writer mends what it finds, and goes on from it.
			w := writer(t, dir)
			commit(t, w)
			closeWriter(t, w)
			if got := rootNames(open(t, dir)); got != tt.want {
				t.Errorf("after OpenWriter: roots %q, want %q", got, tt.want)
			}
			if _, err := layout.ParseIndex(read(t, dir, "index.json")); err != nil {
				t.Errorf("after OpenWriter: index.json: %v", err)
			}
			w = writer(t, dir)
			setRoot(t, w, "registry.example.com/z:1", "", image(t, w, "z"))
			commit(t, w)
			if n := len(slots(t, dir)); n != 2 {
				t.Errorf("%d slots after a commit, want 2", n)
			}
			if got, want := rootNames(open(t, dir)), tt.want+" registry.example.com/z:1"; got != want {
				t.Errorf("after a commit: roots %q, want %q", got, want)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	version := []byte(`{"imageLayoutVersion":"1.0.0"}`)
	tests := []struct {
		name  string
		files map[string][]byte
		want  error
	}{
		{"empty directory", nil, layout.ErrNotLayout},
		{"oci-layout is no JSON", map[string][]byte{"oci-layout": []byte("x")}, layout.ErrNotLayout},
		{"unknown version", map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"2.0.0"}`)}, errdef.ErrUnsupportedVersion},
		{"no index", map[string][]byte{"oci-layout": version}, layout.ErrCorruptIndex},
		{"empty index", map[string][]byte{"oci-layout": version, "index.json": nil}, layout.ErrCorruptIndex},
		{"path as digest", map[string][]byte{"oci-layout": version,
			"index.json": []byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}`)}, errdef.ErrInvalidDigest},
		{"negative size", map[string][]byte{"oci-layout": version,
			"index.json": []byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":-1}]}`)}, layout.ErrCorruptIndex},
		{"huge index", map[string][]byte{"oci-layout": version, "index.json": bytes.Repeat([]byte(" "), 64<<20+1)}, errdef.ErrSizeExceedsLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, content := range tt.files {
				write(t, content, dir, name)
			}
			if _, err := layout.Open(dir); !errors.Is(err, tt.want) {
				t.Errorf("Open = %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := layout.Open(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open of no directory = %v, want %v", err, os.ErrNotExist)
	}
}

// A layout with an unknown digest algorithm belongs to someone: it opens, and
// the entry survives a commit.
func TestUnknownAlgorithmSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, []byte(`{"imageLayoutVersion":"1.0.0"}`), dir, "oci-layout")
	write(t, []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"blake3:`+strings.Repeat("a", 64)+`","size":7,"annotations":{"org.opencontainers.image.ref.name":"1.0"}}]}`), dir, "index.json")
	w := writer(t, dir)
	setRoot(t, w, oneName, "", image(t, w, "one"))
	commit(t, w)
	l := open(t, dir)
	if got := len(l.Entries()); got != 2 {
		t.Errorf("%d entries, want 2", got)
	}
	if _, err := l.Resolve(t.Context(), "1.0"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Resolve = %v, want %v", err, errdef.ErrNotFound)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"annotations":{"org.opencontainers.image.ref.name":"a.example/b:1","io.containerd.image.name":"a.example/b:1"}}]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":null,"annotations":{"<":"&"}}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:..","size":-1}]}`))
	f.Add([]byte("{}\x00\x00"))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[null],"manifests":[]}`))
	f.Add(bytes.Repeat([]byte(`{"manifests":[`), 20_000))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		index, err := layout.ParseIndex(raw)
		if err != nil {
			return
		}
		once, err := layout.FormatIndex(index)
		if err != nil {
			t.Fatal(err)
		}
		again, err := layout.ParseIndex(once)
		if err != nil {
			t.Fatalf("ParseIndex(%s) = %v", once, err)
		}
		twice, err := layout.FormatIndex(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("not stable:\n%s%s", once, twice)
		}
	})
}

func FuzzParseSlot(f *testing.F) {
	f.Add([]byte(`{"generation":1,"digest":"sha256:8db3ef4b5d2ae36ea2c21ea0ecb2b2b0ba0e41ff0e6a1b3e8d9d0ccb34e8e1c9","index":{"schemaVersion":2,"manifests":[]}}`))
	f.Add([]byte(`{"generation":18446744073709551615,"digest":"sha256:","index":null}`))
	f.Add([]byte(`{"generation":1`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := layout.SlotIndex(raw); err != nil {
			return
		}
		if _, _, err := layout.ParseSlot(raw); err != nil {
			t.Fatal(err)
		}
	})
}
