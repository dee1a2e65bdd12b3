package mirror

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
)

// source reads one piece of content at the source, counts it and remembers
// whether it was the reading that failed. An HTTP transport may go on reading
// after its request has failed, which must neither race nor be counted.
type source struct {
	fetch    func(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	desc     ocispec.Descriptor
	progress Progress
	tries    *tries
	pace     *pace // nil for content in memory

	mu        sync.Mutex
	stopped   bool
	delivered int64
	failure   error
}

// stop ends the counting and returns what was delivered, and why it was not
// more.
func (s *source) stop() (delivered int64, failure error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return s.delivered, s.failure
}

// count counts n bytes as delivered and tells of them.
func (s *source) count(n int64, tell func(ocispec.Descriptor, int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.delivered += n
		tell(s.desc, n)
	}
}

// fail remembers err, met while doing op, and returns it as it will be reported.
func (s *source) fail(op string, err error) error {
	failed := &CopyError{"source", op, s.desc, err}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.failure = failed
	}
	return failed
}

// again decides whether reading goes on after err. Nobody waits for the rest once
// the attempt is over.
func (s *source) again(ctx context.Context, err error) bool {
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if stopped || !s.tries.again(ctx, err, true) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.failure = nil
	}
	return !s.stopped
}

// fetchFrom returns how content of src is fetched from an offset on: in one step
// where it can, by seeking, or by reading and throwing away, which is part of the
// reading and not of the opening.
func fetchFrom(src content.Fetcher) func(context.Context, ocispec.Descriptor, int64) (io.ReadCloser, error) {
	if r, ok := src.(RangeFetcher); ok {
		return func(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
			if offset == 0 {
				return src.Fetch(ctx, desc)
			}
			return r.FetchFrom(ctx, desc, offset)
		}
	}
	return func(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
		rc, err := src.Fetch(ctx, desc)
		if err != nil || offset == 0 {
			return rc, err
		}
		if seeker, ok := rc.(io.Seeker); ok {
			if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
				return nil, errors.Join(err, rc.Close())
			}
			return rc, nil
		}
		return &tail{rc, offset}, nil
	}
}

// tail is content without its first bytes, which are read and thrown away before
// the rest.
type tail struct {
	io.ReadCloser
	skip int64
}

func (t *tail) Read(b []byte) (int, error) {
	if t.skip > 0 {
		n, err := io.CopyN(io.Discard, t.ReadCloser, t.skip)
		if t.skip -= n; err != nil {
			return 0, err
		}
	}
	return t.ReadCloser.Read(b)
}

// open returns the content from offset on.
func (s *source) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := s.fetch(ctx, s.desc, offset)
	if err != nil {
		_ = s.fail("open", err)
		return nil, err
	}
	if offset > 0 {
		s.count(offset, s.progress.Adjust)
	}
	return &reader{source: s, ctx: ctx, rc: rc, offset: offset}, nil
}

// openVerified returns the whole content, whose last bytes are not handed out
// unless all of it has the digest: what a destination cannot see to be wrong must
// not reach it complete.
func (s *source) openVerified(ctx context.Context) (io.ReadCloser, error) {
	if err := s.desc.Digest.Validate(); err != nil {
		return nil, err
	}
	rc, err := s.open(ctx, 0)
	if err != nil {
		return nil, err
	}
	rc.(*reader).verifier = s.desc.Digest.Verifier()
	return rc, nil
}

// reader is the content of a source from some offset on. Where reading breaks off
// it goes on from there, as long as there are tries left: the destination, be it a
// file or a half-sent request, does not notice.
type reader struct {
	*source
	ctx      context.Context //nolint:containedctx // lives for one attempt
	verifier digest.Verifier // nil where the destination verifies
	offset   int64

	mu     sync.Mutex // guards rc, which is closed while it may be read
	rc     io.ReadCloser
	closed bool
}

func (r *reader) Read(b []byte) (int, error) {
	if r.offset == r.desc.Size {
		return 0, r.end()
	}
	b = b[:min(int64(len(b)), r.desc.Size-r.offset)]
	for {
		n, err := r.read(b)
		r.offset += int64(n)
		r.count(int64(n), r.progress.Advance)
		r.tries.reached(r.offset)
		if r.verifier != nil {
			_, _ = r.verifier.Write(b[:n]) // a hash never fails
		}
		switch {
		case r.offset == r.desc.Size && r.verifier != nil && !r.verifier.Verified():
			_ = r.fail("verify", content.ErrMismatchedDigest)
			return 0, content.ErrMismatchedDigest
		case err == nil || r.offset == r.desc.Size: // the digest decides, not what follows
			return n, nil
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF // a short source must not look like a full disk
		}
		if err := r.resume(err); err != nil || n > 0 {
			return n, err
		}
	}
}

// read reads once, at the pace of the whole copy.
func (r *reader) read(b []byte) (int, error) {
	if r.pace != nil {
		b = b[:min(len(b), r.pace.chunk)]
	}
	n, err := r.rc.Read(b)
	if paceErr := r.pace.wait(r.ctx, n); err == nil {
		err = paceErr
	}
	return n, err
}

// resume opens the rest again, after err; it returns what ends the reading.
func (r *reader) resume(err error) error {
	for op := "read"; ; op = "open" {
		failed := r.fail(op, err)
		_ = r.rc.Close()
		if !r.again(r.ctx, failed) {
			return err
		}
		var rc io.ReadCloser
		if rc, err = r.fetch(r.ctx, r.desc, r.offset); err == nil {
			return r.replace(rc)
		}
	}
}

func (r *reader) replace(rc io.ReadCloser) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.Join(context.Canceled, rc.Close())
	}
	r.rc = rc
	return nil
}

// end looks for what must not be behind the content.
func (r *reader) end() error {
	if r.verifier != nil && !r.verifier.Verified() { // of no bytes at all
		_ = r.fail("verify", content.ErrMismatchedDigest)
		return content.ErrMismatchedDigest
	}
	var one [1]byte
	for range 10 { // a reader may return nothing a few times
		switch n, err := r.rc.Read(one[:]); {
		case n > 0:
			_ = r.fail("read", content.ErrTrailingData)
			return content.ErrTrailingData
		case err != nil:
			return io.EOF
		}
	}
	return io.EOF
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.rc.Close()
}
