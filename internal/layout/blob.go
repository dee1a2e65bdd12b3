package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

func isUnknownAlgorithm(err error) bool { return errors.Is(err, digest.ErrDigestUnsupported) }

// blobName is the slash-separated path of a blob below the layout.
func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// BlobPath returns the file of a blob, whether it is there or not, and "" for
// a digest that is not valid. Opening it directly skips what [Layout.Fetch]
// checks; in particular it may be a symbolic link.
func (l *Layout) BlobPath(d digest.Digest) string {
	if checkDigest(d) != nil {
		return ""
	}
	return filepath.Join(l.dir, filepath.FromSlash(blobName(d)))
}

// Exists reports whether the layout has a blob of the descriptor's digest and
// size. A file of another size does not count: it will be replaced when the
// blob is ingested. The content is not read.
func (l *Layout) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := checkDescriptor(desc); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	return blobExists(root, desc)
}

func blobExists(root *os.Root, desc ocispec.Descriptor) (bool, error) {
	info, err := root.Stat(blobName(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stat blob %s: %w", desc.Digest, err)
	}
	return info.Mode().IsRegular() && info.Size() == desc.Size, nil
}

// Fetch opens a blob. The reader is an *os.File, positioned at its start; the
// caller closes it and verifies what it reads. Errors: errdef.ErrNotFound when
// there is no such file, [*SizeError] when it has another size,
// errdef.ErrInvalidDigest.
func (l *Layout) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := l.open(desc)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// open goes through os.Root, so that a symbolic link on hostile media cannot
// lead out of the layout, and looks before it opens, since opening a named
// pipe blocks.
func (l *Layout) open(desc ocispec.Descriptor) (*os.File, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	name := blobName(desc.Digest)
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("blob " + desc.Digest.String())
	}
	if err != nil {
		return nil, fmt.Errorf("stat blob %s: %w", desc.Digest, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("blob %s is no regular file: %w", desc.Digest, fs.ErrInvalid)
	}
	if info.Size() != desc.Size {
		return nil, &SizeError{Digest: desc.Digest, Want: desc.Size, Got: info.Size()}
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", desc.Digest, err)
	}
	return f, nil
}

// readManifest reads and verifies the bytes of a manifest.
func (l *Layout) readManifest(desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > artifact.MaxManifestBytes {
		return nil, fmt.Errorf("%d bytes: %w", desc.Size, errdef.ErrSizeExceedsLimit)
	}
	f, err := l.open(desc)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, artifact.MaxManifestBytes))
	if err != nil {
		return nil, err
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest {
		return nil, &DigestError{Want: desc.Digest, Got: got}
	}
	return raw, nil
}
