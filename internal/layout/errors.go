package layout

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// Sentinel errors, always wrapped with the directory or name at fault.
var (
	// ErrNotLayout is returned when a directory has no oci-layout file, or one
	// that is not an image layout's.
	ErrNotLayout = errors.New("not an OCI image layout")
	// ErrCorruptIndex is returned when neither index.json nor any slot can be
	// read as an index.
	// It matches artifact.ErrDamaged.
	ErrCorruptIndex error = damage("corrupt index.json")
	// ErrChanged is returned when index.json is not as it was when it was looked at:
	// another program writes to the layout.
	ErrChanged = errors.New("index.json was changed by another program meanwhile")
	// ErrLocked is matched by [*LockedError].
	ErrLocked = errors.New("layout is locked")
)

// damage is a sentinel that is artifact.ErrDamaged too.
type damage string

func (d damage) Error() string { return string(d) }

func (damage) Is(target error) bool { return target == artifact.ErrDamaged }

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
// oras-go's content.ErrMismatchedDigest, and artifact.ErrDamaged.
type DigestError struct {
	Want digest.Digest // the digest the descriptor asked for
	Got  digest.Digest // the digest of the bytes
}

// Error names both digests.
func (e *DigestError) Error() string {
	return fmt.Sprintf("content has digest %s, want %s", e.Got, e.Want)
}

// Is reports whether target is one of the errors the type matches.
func (e *DigestError) Is(target error) bool {
	return target == content.ErrMismatchedDigest || target == artifact.ErrDamaged
}

// SizeError says that a blob is on the disk with another size than its
// descriptor's: it was truncated, or the descriptor is wrong. It matches oras-go's
// content.ErrInvalidDescriptorSize, and artifact.ErrDamaged.
type SizeError struct {
	Digest digest.Digest
	Want   int64 // bytes, from the descriptor
	Got    int64 // bytes on the disk
}

// Error names the digest and both sizes.
func (e *SizeError) Error() string {
	return fmt.Sprintf("blob %s has %d bytes, want %d", e.Digest, e.Got, e.Want)
}

// Is reports whether target is one of the errors the type matches.
func (e *SizeError) Is(target error) bool {
	return target == content.ErrInvalidDescriptorSize || target == artifact.ErrDamaged
}

// misplacedError says that something that cannot be a blob is in the place of one: a
// directory, a device, a link that leads nowhere. It matches fs.ErrInvalid, and
// artifact.ErrDamaged, as writing the blob again mends it.
type misplacedError string

func misplaced(format string, args ...any) error { return misplacedError(fmt.Sprintf(format, args...)) }

func (e misplacedError) Error() string { return string(e) }

func (e misplacedError) Is(target error) bool {
	return target == fs.ErrInvalid || target == artifact.ErrDamaged
}

// ManifestError says that a manifest the layout holds cannot be used: its
// bytes are damaged, it is no JSON, or it is over the size cap. It matches
// artifact.ErrDamaged.
type ManifestError struct {
	Digest digest.Digest
	Err    error
}

// Error names the manifest and the cause.
func (e *ManifestError) Error() string { return fmt.Sprintf("manifest %s: %v", e.Digest, e.Err) }

// Unwrap returns the cause.
func (e *ManifestError) Unwrap() error { return e.Err }

// Is reports whether target is artifact.ErrDamaged.
func (e *ManifestError) Is(target error) bool { return target == artifact.ErrDamaged }

func notFound(what string) error { return fmt.Errorf("%s: %w", what, errdef.ErrNotFound) }
