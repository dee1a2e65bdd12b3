package mirror_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/mirror"
)

// What a disk cannot hold is found before anything is copied. The layer is not
// there: nobody has one of an exabyte.
func TestFindRoom(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("huge"), Size: 1 << 59}
	src.tag(src.image("huge", nil, layer), "huge")
	src.tag(src.image("small", nil, src.layer("small")), "small")

	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	room, err := plan(t, mirror.Empty(), item(src, "small")).FindRoom(dir)
	if err != nil || room.Need <= 0 || room.Need > 1<<20 {
		t.Errorf("FindRoom for a small image = %+v, %v, want a need of some blocks", room, err)
	}
	room, err = plan(t, mirror.Empty(), item(src, "huge")).FindRoom(dir)
	if room.FileSystem == "" {
		t.Skip("nothing is known of file systems on this platform")
	}
	var full *mirror.RoomError
	if !errors.As(err, &full) || !errors.Is(err, syscall.ENOSPC) || full.Need < 1<<59 || full.MaxEntries != 0 {
		t.Errorf("FindRoom for an exabyte = %+v, %v, want a RoomError like %v", room, err, syscall.ENOSPC)
	}
	if entries := (&mirror.RoomError{Entries: 2, MaxEntries: 1}); errors.Is(entries, syscall.ENOSPC) {
		t.Error("too many entries are a full disk, want a matter of its own")
	}
}

// Nothing that is left or stored needs room.
func TestFindRoomForARest(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	newFixture(src)
	dir := t.TempDir()
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	if err := plan(t, media, item(src, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	if room, err := plan(t, media, item(src, "1.0.0")).FindRoom(dir); err != nil || room.Need != 0 {
		t.Errorf("FindRoom of what is there = %+v, %v, want no need", room, err)
	}
}

// What an interrupted copy has left needs no room again.
func TestFindRoomForTheRest(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	layer := lots(src, mega)[0]
	cut := &faulty{Source: src, digest: layer.Digest, times: -1, after: 600_000, err: io.ErrUnexpectedEOF}
	need := func() int64 {
		media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer media.Close()
		p := plan(t, media, item(cut, "1"))
		room, err := p.FindRoom(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1}); !errors.As(err, new(*mirror.IncompleteError)) {
			t.Fatalf("Execute = %v, want an IncompleteError", err)
		}
		return room.Need
	}
	if all, rest := need(), need(); rest > all-590_000 || rest < mega-600_000 {
		t.Errorf("the rest of a layer needs %d bytes, and all of it %d, want 600000 less", rest, all)
	}
}

func TestReadBack(t *testing.T) {
	t.Parallel()
	blob := func(dir string, d ocispec.Descriptor) string {
		return filepath.Join(dir, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
	}
	tests := []struct {
		name   string
		change func(t *testing.T, dir string, f fixture)
		want   string // "" for nothing
	}{
		{"sound", func(*testing.T, string, fixture) {}, ""},
		{"a manifest is not what was written", func(t *testing.T, dir string, f fixture) {
			path := blob(dir, f.amd64)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[0] ^= 1
			if err := errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "1 corrupt"},
		{"a signature is gone", func(t *testing.T, dir string, f fixture) {
			if err := os.Remove(blob(dir, f.signature)); err != nil {
				t.Fatal(err)
			}
		}, "1 missing"},
		{"the index is another's", func(t *testing.T, dir string, _ fixture) {
			if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"schemaVersion":2,"manifests":[]}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "index.json of"},
		{"the name is another's", func(t *testing.T, dir string, f fixture) {
			text := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":"example.com/shop:1.0.0"}}]}`,
				f.amd64.MediaType, f.amd64.Digest, f.amd64.Size)
			if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not what was written"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, dir := newStore(t), t.TempDir()
			f := newFixture(src)
			media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer media.Close()
			p := plan(t, media, item(src, "1.0.0"))
			if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
				t.Fatal(err)
			}
			tt.change(t, dir, f)
			w := &watcher{}
			read, err := media.ReadBack(t.Context(), p, w)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("ReadBack = %v, want %q", err, tt.want)
				}
				return
			}
			if total, _ := p.Size(); err != nil || read.Bytes != total || w.advanced != total {
				t.Errorf("ReadBack = %+v, %v, %d bytes told, want all %d", read, err, w.advanced, total)
			}
			w.orderly(t)
			if again, err := media.ReadBack(t.Context(), plan(t, media, item(src, "1.0.0")), nil); err != nil || again.Blobs != 0 {
				t.Errorf("ReadBack of a copy that copied nothing = %+v, %v, want nothing read", again, err)
			}
		})
	}
}

// What an interrupted copy has written is read back by the one that completes it, and
// what stands on the media for another root is not.
func TestReadBackContinues(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	shared, first := src.layer("shared"), src.layer(strings.Repeat("first ", 1000))
	src.tag(src.image("before", nil, shared), "1")
	last := src.layer("last")
	src.tag(src.image("now", nil, shared, first, last), "2")
	readBack := func(from mirror.Source, ref string) (mirror.Amount, error) {
		media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer media.Close()
		p := plan(t, media, item(from, ref))
		if err := p.Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1, Concurrency: 1}); err != nil {
			return mirror.Amount{}, err
		}
		return media.ReadBack(t.Context(), p, nil)
	}
	if read, err := readBack(src, "1"); err != nil || read.Blobs != 3 {
		t.Fatalf("the first copy reads back %+v, %v, want its 3 pieces", read, err)
	}
	cut := &faulty{Source: src, digest: last.Digest, times: -1, err: io.ErrUnexpectedEOF}
	if _, err := readBack(cut, "2"); !errors.As(err, new(*mirror.IncompleteError)) {
		t.Fatalf("Execute = %v, want an IncompleteError", err)
	}
	flip(t, blobPath(dir, first.Digest))
	if _, err := readBack(src, "2"); !errors.Is(err, mirror.ErrDamaged) {
		t.Errorf("ReadBack = %v, want what the first run wrote to be damaged", err)
	}
	flip(t, blobPath(dir, first.Digest))
	if read, err := readBack(src, "2"); err != nil || read.Blobs != 7 {
		t.Fatalf("a copy behind one that read damage reads back %+v, %v, want all 7 pieces", read, err)
	}
	src.tag(src.image("later", nil, shared, last), "3")
	if read, err := readBack(src, "3"); err != nil || read.Blobs != 2 {
		t.Errorf("the last copy reads back %+v, %v, want the 2 pieces that are new", read, err)
	}
}
