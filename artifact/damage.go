package artifact

import (
	"errors"
	"syscall"

	"oras.land/oras-go/v2/content"
)

// ErrDamaged is matched by every error of this program's own stores and checks
// that says: the content is there and is not what its digest promises.
var ErrDamaged = errors.New("damaged")

// IsDamage reports whether err says that content is not what its descriptor
// promises, whoever found out: [ErrDamaged] or one of oras-go's errors of a
// digest, a size or trailing bytes. That content is absent is no damage.
func IsDamage(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, content.ErrMismatchedDigest) ||
		errors.Is(err, content.ErrTrailingData) || errors.Is(err, content.ErrInvalidDescriptorSize)
}

// IsUnreadable reports whether err is a disk's own word that it cannot give back
// what was written to it.
func IsUnreadable(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EBADMSG)
}
