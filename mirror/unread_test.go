package mirror_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealift/sealift/mirror"
)

func openMedia(t *testing.T, dir string) *mirror.Media {
	t.Helper()
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { media.Close() })
	return media
}

func closeMedia(t *testing.T, media *mirror.Media) {
	t.Helper()
	if err := media.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyUnread carries out a copy and does not read it back.
func copyUnread(t *testing.T, media *mirror.Media, src mirror.Source, ref string) *mirror.Plan {
	t.Helper()
	p := plan(t, media, item(src, ref))
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1, Concurrency: 1}); err != nil {
		t.Fatal(err)
	}
	return p
}

// noted reports whether media says that something was not read back.
func noted(t *testing.T, dir string) bool {
	t.Helper()
	_, err := os.Lstat(filepath.Join(dir, "sealift", "unread"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// What was copied and not read back is read back by the next copy, of whatever it is,
// and only once.
func TestReadBackLater(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	layer := src.layer(strings.Repeat("first ", 1000))
	src.tag(src.image("first", nil, layer), "1")
	src.tag(src.image("second", nil, src.layer("second")), "2")

	media := openMedia(t, dir)
	if media.Unread() || noted(t, dir) {
		t.Error("media without anything says that it was not read back")
	}
	copyUnread(t, media, src, "1")
	if !media.Unread() || !noted(t, dir) {
		t.Error("media does not say that nobody has read it back")
	}
	closeMedia(t, media)

	flip(t, blobPath(dir, layer.Digest))
	for _, ref := range []string{"1", "2"} {
		media = openMedia(t, dir)
		if !media.Unread() {
			t.Error("media forgot that nobody has read it back")
		}
		if _, err := media.ReadBack(t.Context(), copyUnread(t, media, src, ref), nil); !errors.Is(err, mirror.ErrDamaged) {
			t.Errorf("ReadBack with a copy of %s = %v, want damage of 1", ref, err)
		}
		closeMedia(t, media)
		if !noted(t, dir) {
			t.Error("media that was read back with damage says that it is good")
		}
	}

	flip(t, blobPath(dir, layer.Digest)) // as it was
	for _, want := range []int{6, 0} {
		media = openMedia(t, dir)
		w := &watcher{}
		read, err := media.ReadBack(t.Context(), copyUnread(t, media, src, "2"), w)
		if err != nil || read.Blobs != want || w.advanced != read.Bytes {
			t.Errorf("ReadBack = %+v, %v, %d bytes told, want %d blobs", read, err, w.advanced, want)
		}
		w.orderly(t)
		if media.Unread() || noted(t, dir) {
			t.Error("media that was read back says that it was not")
		}
		closeMedia(t, media)
	}
}

// A copy that brings back what is gone, and is cut off, is known for that: its content
// is not new to the next.
func TestReadBackMended(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	first, last := src.layer(strings.Repeat("first ", 1000)), src.layer("last")
	src.tag(src.image("image", nil, first, last), "1")
	media := openMedia(t, dir)
	if _, err := media.ReadBack(t.Context(), copyUnread(t, media, src, "1"), nil); err != nil {
		t.Fatal(err)
	}
	closeMedia(t, media)
	for _, d := range []string{blobPath(dir, first.Digest), blobPath(dir, last.Digest)} {
		if err := os.Remove(d); err != nil {
			t.Fatal(err)
		}
	}
	media = openMedia(t, dir)
	cut := &faulty{Source: src, digest: last.Digest, times: -1, err: io.ErrUnexpectedEOF}
	if err := plan(t, media, item(cut, "1")).Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1, Concurrency: 1}); !errors.As(err, new(*mirror.IncompleteError)) {
		t.Fatalf("Execute = %v, want an IncompleteError", err)
	}
	closeMedia(t, media)
	if !noted(t, dir) {
		t.Error("media does not say that nobody has read back what came again")
	}
	flip(t, blobPath(dir, first.Digest))
	media = openMedia(t, dir)
	if _, err := media.ReadBack(t.Context(), copyUnread(t, media, src, "1"), nil); !errors.Is(err, mirror.ErrDamaged) {
		t.Errorf("ReadBack = %v, want what came again to be damaged", err)
	}
}

// What says which content there is was written too, and is looked at as the device has
// it: a disk that loses only that loses everything for others.
func TestReadBackOfTheIndex(t *testing.T) {
	t.Parallel()
	zero := func(name string) error {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, make([]byte, info.Size()), 0o600)
	}
	half := func(name string) error {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		return os.Truncate(name, info.Size()/2)
	}
	for _, name := range []string{"index.json", "sealift/media.json", "sealift/index.00000001.json"} {
		for how, lose := range map[string]func(string) error{"zeros": zero, "half": half, "gone": os.Remove, "sound": func(string) error { return nil }} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				src, dir := newStore(t), t.TempDir()
				src.tag(src.image("release", nil, src.layer("release")), "1")
				media := openMedia(t, dir)
				p := copyUnread(t, media, src, "1")
				file := filepath.Join(dir, filepath.FromSlash(name))
				if strings.HasPrefix(name, "sealift/index") {
					slots, err := filepath.Glob(filepath.Join(dir, "sealift", "index.*.json"))
					if err != nil || len(slots) == 0 {
						t.Fatalf("slots: %v, %v", slots, err)
					}
					file = slots[len(slots)-1]
				}
				if err := lose(file); err != nil {
					t.Fatal(err)
				}
				if _, err := media.ReadBack(t.Context(), p, nil); (err != nil) == (how == "sound") {
					t.Errorf("ReadBack() = %v", err)
				}
			})
		}
	}
}
