// Package mirror moves graphs of OCI content between stores: from a registry to
// media, from media to a registry, between two of either.
//
// A delivery has two halves. [NewPlan] resolves the closure of each root –
// children, configs, layers, and the referrers and signature tags of every
// manifest, recursively – reading manifests only, and finds out what the
// destination has already, and whether it has it whole. [Plan.Execute] copies the rest: content before the
// manifests that name it, names last, so that whatever is interrupted leaves a
// destination that is sound and that the next run completes.
//
// Bytes are never changed: what arrives has the digests that left.
package mirror

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
)

// Source is one repository to copy from: of a registry, or inside a layout. Its
// methods are called concurrently.
type Source interface {
	content.Fetcher
	content.Resolver
	registry.ReferrerLister
}

// RangeFetcher is a source that can begin in the middle of a blob, so that
// continuing one does not send its beginning again. The caller closes the reader
// and verifies the whole.
type RangeFetcher interface {
	FetchFrom(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Redundant is a source that may have content more than once, as several media read as
// one do.
type Redundant interface {
	// FindSound looks for a copy of desc that has its digest, after Fetch has given
	// one that has not; it returns nil when Fetch will give that from now on. Errors:
	// errdef.ErrNotFound where there cannot be another; what is wrong with all that is
	// there, segments too, which matches [ErrDamaged] or is of a disk that does not
	// give it back.
	FindSound(ctx context.Context, desc ocispec.Descriptor) error
}

// SegmentVerifier is a source that may have segments of a blob, and not all of them, as
// a volume of a set has.
type SegmentVerifier interface {
	// VerifySegments reads what is there of a blob that is not whole or not sound, as
	// far as anything can be said of it, and tells advance of the bytes. It returns nil
	// where nothing is known to be wrong; of segments that are, errors that match
	// [ErrDamaged], errdef.ErrNotFound of one that should be there, or are of a disk
	// that does not give it back.
	VerifySegments(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error
}

// findSound has src, whose content err says is damaged, look for another copy of it.
// It returns nil when there is one, and errdef.ErrNotFound where nobody has looked.
func findSound(ctx context.Context, src any, desc ocispec.Descriptor, err error) error {
	r, ok := src.(Redundant)
	if !ok || err == nil || !spoilt(err) || ctx.Err() != nil {
		return errdef.ErrNotFound
	}
	return r.FindSound(ctx, desc)
}

// Destination is where content goes. Its methods are called concurrently, Push
// and Ingest never for the same content at once.
type Destination interface {
	content.ReadOnlyStorage
	content.Pusher
	// Name notes root and everything listed in it, once all of its content is
	// stored. It is called for one root at a time. What it notes may stand at
	// once or wait for Commit.
	Name(ctx context.Context, root Root) error
	// Commit makes all that was named durable. It is called once, behind the
	// last Name; a destination that is never committed may forget its names.
	Commit(ctx context.Context) error
}

// Ingester is a destination that continues what an earlier attempt began. open
// returns the content from offset on.
type Ingester interface {
	Ingest(ctx context.Context, desc ocispec.Descriptor, open Opener) error
}

// Opener opens content from an offset on, to be read to its end. The caller closes
// the reader.
type Opener = func(ctx context.Context, offset int64) (io.ReadCloser, error)

// Continuer is a destination that knows what an interrupted copy has left of a blob.
type Continuer interface {
	// Partial returns how many bytes are there; they are not verified.
	Partial(ctx context.Context, desc ocispec.Descriptor) (int64, error)
}

// Discarder is a destination that can remove content which turned out to be
// damaged, so that it can be written again. Other destinations are simply written
// to: a registry replaces what it has. It is not called Delete, because a
// registry's Delete takes along every tag of a manifest.
type Discarder interface {
	// Discard removes desc, which need not be there.
	Discard(ctx context.Context, desc ocispec.Descriptor) error
}

// Root is one artifact of a plan under the name it has at the destination.
type Root struct {
	// Name is the full reference, HOST/REPO:TAG or HOST/REPO@DIGEST.
	Name       string
	Descriptor ocispec.Descriptor
	// Referrers are all manifests that refer to the root or to anything it
	// reaches, in the order found.
	Referrers []ocispec.Descriptor
	// Tags are the signature tags of the root and of anything it reaches.
	Tags []Tag
	// Platforms are those that were asked for, none for all; Left are the manifests
	// that indexes of the root name for others, and that are not carried.
	Platforms []ocispec.Platform
	Left      []ocispec.Descriptor
	// Base are the roots whose content a delta has left, nil when it left none of
	// this root's.
	Base []Base
	// LeftBlobs are what it has left.
	LeftBlobs []digest.Digest
}

// Tag is a manifest that belongs to another by its tag alone, cosign's scheme
// from before there were referrers: sha256-<hex>.sig, .att or .sbom.
type Tag struct {
	Name       string
	Descriptor ocispec.Descriptor
}

// Amount measures content. Blobs counts its pieces, manifests too.
type Amount struct {
	Blobs int
	Bytes int64
}

func (a *Amount) add(bytes int64) {
	a.Blobs++
	a.Bytes += bytes
}

// Progress is told what happens. Begin comes first and End last; what lies between
// is called concurrently, and for each piece of content in the order Start, then
// Advance, Adjust and Retrying as often as need be, then Stored, Failed or Absent,
// unless the whole is ended before. Advance is called for every buffer and must be quick.
type Progress interface {
	// Begin is called once: of total, missing is to be copied or read.
	Begin(total, missing Amount)
	// Start says that desc is now being copied or read.
	Start(desc ocispec.Descriptor)
	// Advance counts n bytes of desc moved, or read to be verified; n is never
	// negative.
	Advance(desc ocispec.Descriptor, n int64)
	// Adjust counts n bytes of desc as done without that they moved: they were
	// there from an earlier attempt, or need not be copied. A negative n takes back
	// what has to be copied again.
	Adjust(desc ocispec.Descriptor, n int64)
	// Retrying says that a copy of desc failed and will be tried again.
	Retrying(desc ocispec.Descriptor, err error, wait time.Duration)
	// Stored says that desc is complete at the destination.
	Stored(desc ocispec.Descriptor)
	// Failed says that desc is given up: it cannot be copied, or is damaged.
	Failed(desc ocispec.Descriptor, err error)
	// Absent says that desc is not there and need not be, for the reason given; its
	// bytes are adjusted.
	Absent(desc ocispec.Descriptor, reason string)
	// End is called once, however the work ended, and nothing is called behind it.
	End()
}

// CopyError says which side of a copy failed, and at what.
type CopyError struct {
	// Side is "source" or "destination".
	Side string
	// Op is what was being done, as "read" or "write".
	Op   string
	Desc ocispec.Descriptor
	Err  error
}

// Error names operation, content and side.
func (e *CopyError) Error() string {
	return fmt.Sprintf("%s %s (%s): %v", e.Op, e.Desc.Digest, e.Side, e.Err)
}

// Unwrap returns the cause.
func (e *CopyError) Unwrap() error { return e.Err }

// IncompleteError reports a copy that stopped after some content was stored.
// Running it again continues there.
type IncompleteError struct {
	// Stored and Total count bytes of content, what was there before included.
	Stored, Total int64
	// Partial counts bytes of blobs that are not stored whole, from which running the
	// copy again goes on.
	Partial int64
	Err     error
}

// Error says how far the copy came.
func (e *IncompleteError) Error() string {
	partial := ""
	if e.Partial > 0 {
		partial = fmt.Sprintf(", and %d of unfinished blobs", e.Partial)
	}
	return fmt.Sprintf("incomplete, %d of %d bytes are stored%s: %v", e.Stored, e.Total, partial, e.Err)
}

// Unwrap returns the cause.
func (e *IncompleteError) Unwrap() error { return e.Err }
