package layout_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Media is hostile: what only looks like segments is no blob, and never blocks,
// leads out or costs more than a look.
func TestHostileSegments(t *testing.T) {
	t.Parallel()
	blob := noise(2500)
	desc := describe("x/y", blob)
	parts := [][]byte{blob[:1000], blob[1000:2000], blob[2000:]}
	for name, tt := range map[string]struct {
		damage   func(t *testing.T, dir string)
		segments []int
		want     error
	}{
		"sound":         {func(*testing.T, string) {}, []int{0, 1, 2}, nil},
		"gap":           {func(t *testing.T, dir string) { remove(t, dir, "001") }, []int{0, 2}, errdef.ErrNotFound},
		"no first":      {func(t *testing.T, dir string) { remove(t, dir, "000") }, []int{1, 2}, errdef.ErrNotFound},
		"no last":       {func(t *testing.T, dir string) { remove(t, dir, "002") }, []int{0, 1}, errdef.ErrNotFound},
		"truncated":     {func(t *testing.T, dir string) { write(t, parts[1][:10], dir, "001") }, []int{0, 2}, content.ErrInvalidDescriptorSize},
		"last too long": {func(t *testing.T, dir string) { write(t, parts[1][:501], dir, "002") }, []int{0, 1}, content.ErrInvalidDescriptorSize},
		"one too many":  {func(t *testing.T, dir string) { write(t, parts[1], dir, "003") }, []int{0, 1, 2}, content.ErrInvalidDescriptorSize},
		"empty segment": {func(t *testing.T, dir string) { write(t, nil, dir, "001") }, []int{0, 2}, errdef.ErrNotFound},
		"other names": {func(t *testing.T, dir string) {
			for _, name := range []string{"0", "00", "0000", "0001", "+01", "-01", "1e1", "10000", "99999999999999999999", "001 ", "001.new", "٠٠١"} {
				write(t, []byte("x"), dir, name)
			}
		}, []int{0, 1, 2}, nil},
		"directory as segment": {func(t *testing.T, dir string) { remove(t, dir, "001"); write(t, nil, dir, "001", "x") }, []int{0, 2}, errdef.ErrNotFound},
		"link as segment": {func(t *testing.T, dir string) {
			remove(t, dir, "001")
			link(t, filepath.Join(dir, "000"), dir, "001")
		}, []int{0, 2}, errdef.ErrNotFound},
		"link as directory": {func(t *testing.T, dir string) {
			if err := os.Rename(dir, dir+"x"); err != nil {
				t.Fatal(err)
			}
			link(t, dir+"x", dir)
		}, nil, errdef.ErrNotFound},
		"file as directory": {func(t *testing.T, dir string) { remove(t, dir); write(t, nil, dir) }, nil, errdef.ErrNotFound},
		"names without end": {func(t *testing.T, dir string) {
			for i := range 20_000 {
				if err := os.WriteFile(filepath.Join(dir, "x"+strconv.Itoa(i)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, nil, os.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			closeWriter(t, writer(t, dir))
			for n, part := range parts {
				write(t, part, segmentPath(dir, desc.Digest, fmt.Sprintf("%03d", n)))
			}
			tt.damage(t, segmentPath(dir, desc.Digest, ""))
			l := open(t, dir)
			rc, err := l.Fetch(t.Context(), desc)
			if err == nil {
				rc.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Fetch = %v, want %v", err, tt.want)
			}
			if ok, err := l.Exists(t.Context(), desc); err != nil || ok != (tt.want == nil) {
				t.Errorf("Exists = %v, %v, want %v", ok, err, tt.want == nil)
			}
			got, err := l.Segments(t.Context(), desc)
			if err != nil && !errors.Is(err, tt.want) {
				t.Errorf("Segments: %v", err)
			}
			if diff := cmp.Diff(tt.segments, got); diff != "" {
				t.Errorf("Segments (-want +got):\n%s", diff)
			}
			// A writer mends all of it.
			w := segmented(t, dir, 1000)
			if err := w.Ingest(t.Context(), desc, (&source{content: blob}).open); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(fetch(t, w, desc), blob) {
				t.Error("Fetch returns other bytes")
			}
		})
	}
}
