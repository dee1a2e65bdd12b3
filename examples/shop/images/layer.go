package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is one file, directory or symbolic link of an image.
type entry struct {
	mode    int64 // permission bits; 0 stands for 0644
	uid     int   // also the gid
	dir     bool
	link    string // target of a symbolic link
	content []byte
}

// tree maps clean paths without a leading slash to entries. Directories that no
// entry names are made with mode 0755 and belong to root.
type tree map[string]entry

// layer packs t so that the same tree gives the same bytes: sorted names, one
// time, no owner names, and a gzip header without name or time.
func layer(t tree, epoch time.Time) (v1.Layer, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if err := writeTar(z, t, epoch); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func writeTar(w io.Writer, t tree, epoch time.Time) error {
	all := maps.Clone(t)
	for name := range t {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = entry{dir: true, mode: 0o755}
			}
		}
	}
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := writeEntry(tw, name, all[name], epoch); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, name string, e entry, epoch time.Time) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: e.mode, Uid: e.uid, Gid: e.uid, Size: int64(len(e.content)), ModTime: epoch}
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	switch {
	case e.dir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case e.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := tw.Write(e.content)
	return err
}
