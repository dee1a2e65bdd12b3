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
// a digest that is not valid. A blob stored in segments has no such file. Of
// volumes joined, the first that has the file counts. Opening it directly skips
// what [Layout.Fetch] checks; in particular it may be a symbolic link.
func (l *Layout) BlobPath(d digest.Digest) string {
	if checkDigest(d) != nil {
		return ""
	}
	name := filepath.FromSlash(blobName(d))
	for _, dir := range l.dirs {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return filepath.Join(l.Dir(), name)
}

// Exists reports whether the layout has a blob of the descriptor's digest and
// size, as one file or in segments of which none is missing. Files of another
// size do not count: they will be replaced when the blob is ingested. The
// content is not read.
func (l *Layout) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := checkDescriptor(desc); err != nil {
		return false, err
	}
	_, err := l.locate(desc)
	if unusable(err) {
		return false, nil
	}
	return err == nil, err
}

// unusable reports whether an error of locate says that there is no such blob,
// or none that could be one.
func unusable(err error) bool {
	var size *SizeError
	return errors.Is(err, errdef.ErrNotFound) || errors.As(err, &size) || errors.Is(err, fs.ErrInvalid)
}

// Fetch opens a blob. The reader is an *os.File, or an io.ReadSeekCloser when
// the blob is stored in segments, positioned at its start; the caller closes it
// and verifies what it reads. Errors: errdef.ErrNotFound when it is not there,
// or not all of it; [*SizeError] when it has another size, fs.ErrInvalid when
// something that is no file has its place, both of which match artifact.ErrDamaged;
// errdef.ErrInvalidDigest.
func (l *Layout) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return l.open(desc)
}

func (l *Layout) open(desc ocispec.Descriptor) (io.ReadSeekCloser, error) {
	pieces, err := l.locate(desc)
	if err != nil {
		return nil, err
	}
	if len(pieces) > 1 {
		return &blobReader{pieces: pieces, size: desc.Size}, nil
	}
	f, err := pieces[0].open()
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", desc.Digest, err)
	}
	return f, nil
}

// piece is a file that holds a blob, or a part of one.
type piece struct {
	dir  string
	name string // slash-separated, below dir
	size int64
}

// open goes through os.Root, so that a symbolic link on hostile media cannot
// lead out of the layout, and looks before it opens, since opening a named
// pipe blocks.
func (p piece) open() (*os.File, error) {
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(p.name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() != p.size {
		return nil, fmt.Errorf("%s changed while it was read: %w", p.name, fs.ErrInvalid)
	}
	return root.Open(p.name)
}

// locate finds the files of a blob, in order: one that holds all of it in any
// of the layout's directories, else its segments, wherever each is. A file that was
// found to be damaged counts where there is no other. Errors:
// errdef.ErrNotFound, [*SizeError], fs.ErrInvalid and artifact.ErrDamaged when
// something else is in the blob's place, errdef.ErrInvalidDigest.
func (l *Layout) locate(desc ocispec.Descriptor) ([]piece, error) {
	if err := checkDescriptor(desc); err != nil {
		return nil, err
	}
	sound, failed := l.files(desc, l.flawed)
	pieces, err := sound.assemble(desc, failed)
	if err == nil || l.countFlaws() == 0 {
		return pieces, err
	}
	all, failed := l.files(desc, none)
	for n, copies := range sound.segments { // each segment for itself
		all.segments[n] = append(copies, all.segments[n]...)
	}
	return all.assemble(desc, failed)
}

// none passes over no file.
func none(_, _ string) bool { return false }

// files are those that hold a blob.
type files struct {
	whole    []piece // one file, or none
	segments map[int][]piece
}

// files finds the files of a blob, without those that skip answers for; failed is the
// first reason, other than that it is not there, why one does not count.
func (l *Layout) files(desc ocispec.Descriptor, skip func(dir, name string) bool) (f files, failed error) {
	f.segments = map[int][]piece{}
	for _, dir := range l.dirs {
		whole, err := look(dir, desc, skip, f.segments)
		if err == nil {
			f.whole = []piece{whole}
			return f, nil
		}
		if failed == nil && !errors.Is(err, errdef.ErrNotFound) {
			failed = err
		}
	}
	return f, failed
}

// assemble chooses among the files; failed is what else it is that is wrong.
func (f files) assemble(desc ocispec.Descriptor, failed error) ([]piece, error) {
	if f.whole != nil {
		return f.whole, nil
	}
	pieces, err := assemble(desc, f.segments)
	if err != nil && failed != nil {
		err = failed
	}
	return pieces, err
}

// look looks for a blob in one directory, passing over what skip answers for. What
// there is of its segments is added to found when the blob is not there as one file.
func look(dir string, desc ocispec.Descriptor, skip func(dir, name string) bool, found map[int][]piece) (piece, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return piece{}, err
	}
	defer root.Close()
	err = checkBlob(root, desc)
	if err == nil && skip(dir, blobName(desc.Digest)) {
		err = notFound("blob " + desc.Digest.String())
	}
	if err == nil {
		return piece{dir: dir, name: blobName(desc.Digest), size: desc.Size}, nil
	}
	segments, listErr := listSegments(root, segmentsDir(desc.Digest))
	if listErr != nil {
		return piece{}, listErr
	}
	for n, size := range segments {
		if name := segmentName(segmentsDir(desc.Digest), n); !skip(dir, name) {
			found[n] = append(found[n], piece{dir: dir, name: name, size: size})
		}
	}
	return piece{}, err
}

// checkBlob returns nil when the blob is there as one regular file of its size.
func checkBlob(root *os.Root, desc ocispec.Descriptor) error {
	name := blobName(desc.Digest)
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return notFound("blob " + desc.Digest.String())
	}
	if err != nil {
		if link, lerr := root.Lstat(name); lerr == nil && link.Mode()&fs.ModeSymlink != 0 {
			return misplaced("blob %s is a link that leads nowhere in the layout", desc.Digest)
		}
		return fmt.Errorf("stat blob %s: %w", desc.Digest, err)
	}
	if !info.Mode().IsRegular() {
		return misplaced("blob %s is no regular file", desc.Digest)
	}
	if info.Size() != desc.Size {
		return &SizeError{Digest: desc.Digest, Want: desc.Size, Got: info.Size()}
	}
	return nil
}

// readManifest reads and verifies the bytes of a manifest. Every volume of a
// set carries all manifests, so a damaged one is looked for in the others.
func (l *Layout) readManifest(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	raw, err := l.readVerified(desc)
	if err == nil || len(l.dirs) == 1 || errors.Is(err, errdef.ErrNotFound) || desc.Size > artifact.MaxManifestBytes {
		return raw, err
	}
	if l.FindSound(ctx, desc) != nil {
		return nil, err
	}
	return l.readVerified(desc)
}

func (l *Layout) readVerified(desc ocispec.Descriptor) ([]byte, error) {
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
