// Package archive reads images out of tar archives in place, without unpacking:
// OCI archives (a tar of an OCI image layout, image-spec v1.1), whose bytes are
// taken as they are, and what `docker save` writes
// (https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md), which has no
// manifest, so that one is made, always the same for the same archive.
//
// [Open] lists the archive; the result is a read-only store of its content.
package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// maxEntries bounds the files listed of one archive.
const maxEntries = 1 << 20

// Archive is an open archive. Its methods may be called concurrently.
type Archive struct {
	path    string
	file    *os.File
	entries map[string]entry
	// made holds the documents that the archive lacks.
	made map[digest.Digest][]byte
	// blobs maps digests to entries.
	blobs  map[digest.Digest]string
	images []image
}

type entry struct {
	offset, size int64
	link         string
}

// image is one image of the archive under the names it has there.
type image struct {
	desc  ocispec.Descriptor
	names []string
}

// Open lists the archive at path. It fails for compressed archives, which cannot
// be read in place, and for tars of other content.
func Open(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a := &Archive{path: path, file: f, entries: map[string]entry{}, made: map[digest.Digest][]byte{}, blobs: map[digest.Digest]string{}}
	if err := a.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s: %w", path, err), f.Close())
	}
	return a, nil
}

// Close closes the file; content opened before must not be read any more.
func (a *Archive) Close() error { return a.file.Close() }

func (a *Archive) load() error {
	var magic [4]byte
	if _, err := io.ReadFull(a.file, magic[:]); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if magic[0] == 0x1f && magic[1] == 0x8b || bytes.Equal(magic[:], []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return errors.New("is compressed and cannot be read in place; decompress it first")
	}
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := a.list(); err != nil {
		return err
	}
	// Recent engines write both forms into one archive; the OCI one has the
	// manifests that were pulled.
	if _, ok := a.entries["index.json"]; ok {
		return a.loadLayout()
	}
	if _, ok := a.entries["manifest.json"]; ok {
		return a.loadDocker()
	}
	return errors.New("holds neither an OCI layout (index.json) nor a saved image (manifest.json)")
}

// list notes where each file of the tar stands.
func (a *Archive) list() error {
	for r := tar.NewReader(a.file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if len(a.entries) >= maxEntries {
			return fmt.Errorf("has more than %d entries", maxEntries)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			// The reader does not read ahead, so the content starts here.
			offset, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.entries[name] = entry{offset: offset, size: h.Size}
		case tar.TypeSymlink:
			a.entries[name] = entry{link: path.Join(path.Dir(name), h.Linkname)}
		case tar.TypeLink:
			a.entries[name] = entry{link: path.Clean(h.Linkname)}
		}
	}
}

// section opens the content of one file.
func (a *Archive) section(name string) (*io.SectionReader, error) {
	for range 8 {
		e, ok := a.entries[path.Clean(name)]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, errdef.ErrNotFound)
		}
		if e.link == "" {
			return io.NewSectionReader(a.file, e.offset, e.size), nil
		}
		name = e.link
	}
	return nil, fmt.Errorf("%s: too many links", name)
}

func (a *Archive) read(name string) ([]byte, error) {
	r, err := a.section(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > artifact.MaxManifestBytes {
		return nil, fmt.Errorf("%s is %d bytes, more than the %d accepted", name, r.Size(), artifact.MaxManifestBytes)
	}
	return io.ReadAll(r)
}

func (a *Archive) loadLayout() error {
	data, err := a.read("index.json")
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("parse index.json: %w", err)
	}
	for name := range a.entries {
		alg, hex, ok := strings.Cut(strings.TrimPrefix(name, "blobs/"), "/")
		if d := digest.NewDigestFromEncoded(digest.Algorithm(alg), hex); ok && strings.HasPrefix(name, "blobs/") && d.Validate() == nil {
			a.blobs[d] = name
		}
	}
	for _, d := range index.Manifests {
		if err := artifact.CheckDescriptor(d); err != nil {
			return fmt.Errorf("index.json: %w", err)
		}
		names := []string{d.Digest.String()}
		for _, key := range []string{ocispec.AnnotationRefName, "io.containerd.image.name"} {
			if n := d.Annotations[key]; n != "" {
				names = append(names, n)
			}
		}
		d.Annotations = nil
		a.images = append(a.images, image{d, names})
	}
	return nil
}

// Resolve returns the image called ref: a digest, a name in the archive, or ""
// for the only image there is.
func (a *Archive) Resolve(_ context.Context, ref string) (ocispec.Descriptor, error) {
	var names []string
	var found []ocispec.Descriptor
	for _, img := range a.images {
		names = append(names, img.names[len(img.names)-1])
		for _, n := range img.names {
			if ref == "" || n == ref || strings.HasSuffix(n, ":"+ref) {
				found = append(found, img.desc)
				break
			}
		}
	}
	for _, d := range found {
		if d.Digest != found[0].Digest {
			return ocispec.Descriptor{}, fmt.Errorf("%s holds several images, name one as PATH:TAG: %s", a.path, strings.Join(names, ", "))
		}
	}
	if len(found) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("%s holds no image %q, only %s: %w", a.path, ref, strings.Join(names, ", "), errdef.ErrNotFound)
	}
	return found[0], nil
}

// Exists reports whether the archive holds desc.
func (a *Archive) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	_, made := a.made[desc.Digest]
	_, held := a.blobs[desc.Digest]
	return made || held, nil
}

// Fetch opens the content desc names, which the caller must verify and close.
func (a *Archive) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if data, ok := a.made[desc.Digest]; ok {
		return content{bytes.NewReader(data)}, nil
	}
	name, ok := a.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s in archive %s: %w", desc.Digest, a.path, errdef.ErrNotFound)
	}
	r, err := a.section(name)
	if err != nil {
		return nil, err
	}
	return content{r}, nil
}

// Referrers lists the manifests of the archive's index that refer to desc.
func (a *Archive) Referrers(ctx context.Context, desc ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	var list []ocispec.Descriptor
	for _, img := range a.images {
		if !artifact.IsManifest(img.desc.MediaType) {
			continue
		}
		m, _, err := artifact.FetchManifest(ctx, a, img.desc)
		if err != nil {
			return err
		}
		if m.Subject == nil || m.Subject.Digest != desc.Digest || artifactType != "" && m.ArtifactType != artifactType {
			continue
		}
		d := img.desc
		d.ArtifactType, d.Annotations = m.ArtifactType, m.Annotations
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil
	}
	return fn(list)
}

type content struct{ io.ReadSeeker }

func (content) Close() error { return nil }
