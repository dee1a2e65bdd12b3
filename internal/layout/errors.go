package layout

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// Sentinel errors, always wrapped with the directory or name at fault.
var (
	// ErrNotLayout is returned when a directory has no oci-layout file, or one
	// that is not an image layout's.
	ErrNotLayout = errors.New("not an OCI image layout")
	// ErrCorruptIndex is returned when neither index.json nor any slot can be
	// read as an index.
	ErrCorruptIndex = errors.New("corrupt index.json")
	// ErrLocked is matched by [*LockedError].
	ErrLocked = errors.New("layout is locked")
)

// LockedError says that another process writes to the layout. It matches
// [ErrLocked].
type LockedError struct {
	// Path is the lock file.
	Path string
	// Holder is what the holder wrote about itself ("pid 12 on host a"), empty
	// when it could not be read.
	Holder string
}

// Error names the lock file and its holder.
func (e *LockedError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%s: %v by another process", e.Path, ErrLocked)
	}
	return fmt.Sprintf("%s: %v by %s", e.Path, ErrLocked, e.Holder)
}

// Is reports whether target is [ErrLocked].
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// DigestError says that bytes are not those their digest promises. It matches
// oras-go's content.ErrMismatchedDigest.
type DigestError struct {
	Want digest.Digest // the digest the descriptor asked for
	Got  digest.Digest // the digest of the bytes
}

// Error names both digests.
func (e *DigestError) Error() string {
	return fmt.Sprintf("content has digest %s, want %s", e.Got, e.Want)
}

// Is reports whether target is content.ErrMismatchedDigest.
func (e *DigestError) Is(target error) bool { return target == content.ErrMismatchedDigest }

// SizeError says that a blob is on the disk with another size than its
// descriptor's: it was truncated, or the descriptor is wrong.
type SizeError struct {
	Digest digest.Digest
	Want   int64 // bytes, from the descriptor
	Got    int64 // bytes on the disk
}

// Error names the digest and both sizes.
func (e *SizeError) Error() string {
	return fmt.Sprintf("blob %s has %d bytes, want %d", e.Digest, e.Got, e.Want)
}

// ManifestError says that a manifest the layout holds cannot be used: its
// bytes are damaged, it is no JSON, or it is over the size cap.
type ManifestError struct {
	Digest digest.Digest
	Err    error
}

// Error names the manifest and the cause.
func (e *ManifestError) Error() string { return fmt.Sprintf("manifest %s: %v", e.Digest, e.Err) }

// Unwrap returns the cause.
func (e *ManifestError) Unwrap() error { return e.Err }

func notFound(what string) error { return fmt.Errorf("%s: %w", what, errdef.ErrNotFound) }
