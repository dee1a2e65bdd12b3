package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// sizeUnknown is the Size of a descriptor made from a URL, which has none.
const sizeUnknown = -1

// BlobResolver is an optional ability of a [Repository]: Blob returns the
// descriptor of a config or layer of the repository by its digest, or
// errdef.ErrNotFound. The handler then fetches with the right size; without it,
// with Size -1.
type BlobResolver interface {
	Blob(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error)
}

// SoundFinder is an optional ability of a [Repository] that may hold content more than
// once: after Fetch gave what is not what its digest says, or could not be read,
// FindSound looks for a copy that is, and returns nil when Fetch will give that from
// then on. It is called for one blob at a time, while who asks waits, and its ctx ends
// when nobody waits any more; that it failed is not remembered for it. Without it, what
// is damaged stays so.
type SoundFinder interface {
	FindSound(ctx context.Context, desc ocispec.Descriptor) error
}

// blob is one opened blob on its way to a client.
type blob struct {
	io.ReadCloser
	digest digest.Digest
	size   int64 // sizeUnknown if nothing says
	key    blobKey
	// open fetches the same blob once more.
	open func(context.Context) (io.ReadCloser, error)
	// findSound looks for another copy, nil where there is none.
	findSound func(context.Context) error
}

func (h *handler) serveBlob(w http.ResponseWriter, r *http.Request, repo Repository, ref string) error {
	d, err := parseDigest(ref)
	if err != nil {
		return err
	}
	b, err := openBlob(r.Context(), repo, d)
	if errors.Is(err, errdef.ErrNotFound) {
		return newError(http.StatusNotFound, codeBlobUnknown,
			"blob %s is not in this repository, or was not carried on this media", d)
	}
	if err != nil {
		return h.badBlob(r.Context(), d, err)
	}
	defer func() { _ = b.Close() }() // which may be another by then

	header := w.Header()
	header.Set("Content-Type", mediaTypeUnknown)
	header.Set(headerContentDigest, d.String())
	header.Set("ETag", etag(d))
	if matchesETag(r.Header.Get("If-None-Match"), etag(d)) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	err = h.send(w, r, b)
	if isSpoilt(err) && h.findSound(r.Context(), b) {
		other, openErr := openBlob(r.Context(), repo, d)
		if openErr != nil {
			return h.badBlob(r.Context(), d, openErr)
		}
		_ = b.Close()
		b = other
		err = h.send(w, r, b)
	}
	if err != nil && !errors.As(err, new(*apiError)) {
		return h.badBlob(r.Context(), d, err)
	}
	return err
}

// send answers with a blob. Unless it returns nil, nothing of it was sent.
func (h *handler) send(w http.ResponseWriter, r *http.Request, b *blob) error {
	if rs, ok := b.ReadCloser.(io.ReadSeeker); ok {
		return h.serveSeeker(w, r, b, rs)
	}
	return h.serveStream(w, r, b)
}

// isSpoilt reports whether content that failed with err may be sound elsewhere.
func isSpoilt(err error) bool {
	return errors.Is(err, errCorrupt) || artifact.IsDamage(err) || artifact.IsUnreadable(err) || errors.Is(err, io.ErrUnexpectedEOF)
}

// findSound looks for another copy of a blob, and reports whether there is one.
func (h *handler) findSound(ctx context.Context, b *blob) bool {
	if b.findSound == nil {
		return false
	}
	what := "blob " + b.digest.String()
	err := h.verifier.search(ctx, b.key, func(ctx context.Context) error {
		err := b.findSound(ctx)
		switch {
		case err == nil:
			h.log.WarnContext(ctx, "another copy is served from now on", "content", what)
		case ctx.Err() == nil:
			h.log.DebugContext(ctx, "no other copy", "content", what, "error", err)
		}
		return err
	})
	return err == nil
}

func openBlob(ctx context.Context, repo Repository, d digest.Digest) (*blob, error) {
	desc, err := resolveBlob(ctx, repo, d)
	if err != nil {
		return nil, fmt.Errorf("resolve blob %s: %w", d, err)
	}
	b := &blob{digest: d, size: desc.Size}
	if finder, ok := repo.(SoundFinder); ok {
		b.findSound = func(ctx context.Context) error { return finder.FindSound(ctx, desc) }
	}
	b.open = func(ctx context.Context) (io.ReadCloser, error) {
		rc, err := repo.Fetch(ctx, desc)
		if err != nil {
			return nil, fmt.Errorf("fetch blob %s: %w", d, err)
		}
		return rc, nil
	}
	if b.ReadCloser, err = b.open(ctx); err != nil {
		return nil, err
	}
	b.key = blobKey{d, identify(b.ReadCloser)}
	rs, ok := b.ReadCloser.(io.ReadSeeker)
	if !ok {
		return b, nil
	}
	size, err := rs.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = rs.Seek(0, io.SeekStart)
	}
	if err == nil && b.size >= 0 && b.size != size {
		err = fmt.Errorf("%d bytes instead of %d: %w", size, b.size, errCorrupt)
	}
	if err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	b.size = size
	return b, nil
}

func resolveBlob(ctx context.Context, repo Repository, d digest.Digest) (ocispec.Descriptor, error) {
	resolver, ok := repo.(BlobResolver)
	if !ok {
		return ocispec.Descriptor{MediaType: mediaTypeUnknown, Digest: d, Size: sizeUnknown}, nil
	}
	desc, err := resolver.Blob(ctx, d)
	if errors.Is(err, errdef.ErrNotFound) {
		// Registries keep manifests among the blobs, and some clients ask there.
		return repo.Resolve(ctx, d.String())
	}
	return desc, err
}

// serveSeeker serves a blob that can be read at any position, usually a file.
func (h *handler) serveSeeker(w http.ResponseWriter, r *http.Request, b *blob, rs io.ReadSeeker) error {
	r, err := singleRange(r, b.size)
	if err != nil {
		return err
	}
	known := h.verifier.verdict(b.key)
	// A part of a blob cannot be judged by itself, so it waits for a look at
	// the whole. HEAD sends nothing that could be wrong.
	conditional := r.Header.Get("Range") != "" || r.Header.Get("If-Match") != ""
	switch {
	case known == bad && b.key.known():
		return errCorrupt
	case known == good || r.Method == http.MethodHead:
	case known != unseen || conditional:
		if err := h.verifyFirst(r.Context(), b, rs); err != nil {
			return err
		}
	default:
		return h.sendVerifying(w, r, b)
	}
	http.ServeContent(w, r, "", time.Time{}, rs)
	return nil
}

// verifyFirst hashes the whole blob before anything of it is sent. Readers
// whose identity is known are hashed once, whoever asks and however many ask.
func (h *handler) verifyFirst(ctx context.Context, b *blob, rs io.ReadSeeker) error {
	var err error
	if b.key.known() {
		err = h.verifier.check(ctx, b.key, b.open)
	} else if _, err = hashAll(ctx, rs, b.digest); err == nil {
		_, err = rs.Seek(0, io.SeekStart)
	}
	h.remember(b, err)
	return err
}

// serveStream serves a blob that can only be read from start to end. There are
// no ranges then.
func (h *handler) serveStream(w http.ResponseWriter, r *http.Request, b *blob) error {
	w.Header().Set("Accept-Ranges", "none")
	// Without a size a HEAD has no answer but by reading, and a blob that was
	// found corrupt once is refused in full sentences rather than cut again.
	known := h.verifier.verdict(b.key)
	suspect := known == bad || known == unreadable
	if suspect || b.size < 0 && r.Method == http.MethodHead {
		size, err := hashAll(r.Context(), b, b.digest)
		if err != nil {
			h.remember(b, err)
			return err
		}
		rc, err := b.open(r.Context())
		if err != nil {
			return err
		}
		_ = b.Close()
		b.ReadCloser, b.size = rc, size
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Length", strconv.FormatInt(b.size, 10))
		return nil
	}
	return h.sendVerifying(w, r, b)
}

// sendVerifying sends a blob nobody has looked at yet, hashing it on the way.
func (h *handler) sendVerifying(w http.ResponseWriter, r *http.Request, b *blob) error {
	header := w.Header()
	if b.size >= 0 {
		header.Set("Content-Length", strconv.FormatInt(b.size, 10))
	}
	if header.Get("Accept-Ranges") == "" {
		header.Set("Accept-Ranges", "bytes")
	}
	sent, err := copyVerifying(w, b, b.digest, b.size)
	var gone *clientError
	switch {
	case err == nil:
		// Only what was still the same file at the end has been looked at.
		if b.key.known() && identify(b.ReadCloser) == b.key.file {
			h.verifier.record(b.key, good)
		}
		return nil
	case errors.As(err, &gone):
		return nil
	}
	h.remember(b, err)
	if sent {
		// The body is shorter than promised, which every client notices. Another copy
		// is looked for when one comes back, who can wait for it.
		_ = h.badBlob(r.Context(), b.digest, err)
		panic(http.ErrAbortHandler)
	}
	return err
}

// remember keeps what the reading of a whole blob came to, so that the next to ask is
// not sent a part of it again.
func (h *handler) remember(b *blob, err error) {
	switch {
	case errors.Is(err, errCorrupt):
		h.verifier.record(b.key, bad)
	case isSpoilt(err) && b.findSound != nil:
		h.verifier.record(b.key, unreadable)
	}
}

func (h *handler) badBlob(ctx context.Context, d digest.Digest, err error) error {
	return h.badContent(ctx, codeUnknown, "blob "+d.String(), err)
}

func etag(d digest.Digest) string { return `"` + d.String() + `"` }

// matchesETag reports whether an If-None-Match header names etag.
func matchesETag(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == etag || part == "*" {
			return true
		}
	}
	return false
}

func withoutRange(r *http.Request) *http.Request {
	if r.Header.Get("Range") == "" {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("Range")
	return r
}

// singleRange returns r with a Range header that is one satisfiable range of
// bytes, or none. As RFC 9110 allows, every other form is ignored; only a range
// that lies behind the end is an error.
func singleRange(r *http.Request, size int64) (*http.Request, error) {
	spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok || !dash || size == 0 || r.Method != http.MethodGet {
		return withoutRange(r), nil
	}
	from, errFrom := strconv.ParseUint(first, 10, 63)
	to, errTo := strconv.ParseUint(last, 10, 63)
	unsatisfiable := newError(http.StatusRequestedRangeNotSatisfiable, codeRangeInvalid,
		"there are %d bytes", size)
	switch {
	case first == "" && errTo == nil: // the last so many bytes
		if to == 0 {
			return nil, unsatisfiable
		}
	case errFrom != nil || last != "" && (errTo != nil || to < from):
		return withoutRange(r), nil
	case from >= uint64(size):
		return nil, unsatisfiable
	}
	return r, nil
}
