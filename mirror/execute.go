package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ExecuteOptions configure a copy. The zero value is a good default.
type ExecuteOptions struct {
	// Concurrency bounds what is copied at once; ≤ 0 means 4.
	Concurrency int
	// Attempts bounds the tries for one piece of content; ≤ 0 means 5. Requests
	// that failed before any content moved are the transport's to repeat.
	Attempts int
	// Piecemeal copies what the source has even where it lacks some, as one volume
	// of several does. The copy is an [IncompleteError] then, and names nothing.
	Piecemeal bool
	// Progress is told what happens; nil for nobody.
	Progress Progress
}

// Execute copies what the destination lacks and then records the roots. Blobs go
// in parallel, the largest first; manifests follow, also in parallel, each behind
// what it names. A failure is an [IncompleteError]: running the copy again continues
// where it stopped. Where the source is known to lack content nothing is begun,
// with [AbsentError].
func (p *Plan) Execute(ctx context.Context, opts ExecuteOptions) error {
	if opts.Concurrency <= 0 {
		opts.Concurrency = 4
	}
	if opts.Attempts <= 0 {
		opts.Attempts = 5
	}
	if opts.Progress == nil {
		opts.Progress = silent{}
	}
	absent := p.Complete()
	if absent != nil && !opts.Piecemeal {
		return absent
	}
	total, missing := p.amounts()
	x := &execution{plan: p, opts: opts}
	x.stored.Store(p.Summary().Stored.Bytes)
	opts.Progress.Begin(total, missing)
	defer opts.Progress.End()
	err := x.run(ctx, absent)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return &IncompleteError{Stored: x.stored.Load(), Total: total.Bytes, Err: err}
	}
	return nil
}

type execution struct {
	plan   *Plan
	opts   ExecuteOptions
	stored atomic.Int64
}

// run ends with absent, when there is such an error, before anything is named.
func (x *execution) run(ctx context.Context, absent error) error {
	blobs := slices.Clone(x.plan.Blobs)
	slices.SortStableFunc(blobs, func(a, b Step) int { return cmp.Compare(b.Descriptor.Size, a.Descriptor.Size) })
	if err := x.storeAll(ctx, blobs); err != nil {
		return err
	}
	if absent != nil {
		return absent
	}
	for _, steps := range levels(x.plan.Manifests) {
		if err := x.storeAll(ctx, steps); err != nil {
			return err
		}
	}
	for _, root := range x.plan.Roots {
		if err := x.plan.dst.Name(ctx, root); err != nil {
			return &CopyError{"destination", "record " + root.Name + " as", root.Descriptor, err}
		}
	}
	if err := x.plan.dst.Commit(ctx); err != nil {
		return fmt.Errorf("record the names at the destination: %w", err)
	}
	return nil
}

// levels sorts manifests into groups that name only what is in groups before
// theirs. A digest cannot be part of what it is the digest of, so there are no
// rings.
func levels(manifests []Step) [][]Step {
	at := make(map[digest.Digest]int, len(manifests)) // places in manifests
	for i, s := range manifests {
		at[s.Descriptor.Digest] = i
	}
	level := make([]int, len(manifests)) // counted from 1, 0 for not known yet
	var find func(i int) int
	find = func(i int) int {
		if level[i] > 0 {
			return level[i]
		}
		n := 1
		for _, d := range manifests[i].behind {
			if j, planned := at[d]; planned {
				n = max(n, find(j)+1)
			}
		}
		level[i] = n
		return n
	}
	var out [][]Step
	for i, s := range manifests {
		n := find(i)
		for len(out) < n {
			out = append(out, nil)
		}
		out[n-1] = append(out[n-1], s)
	}
	return out
}

// storeAll copies, in parallel, what is not stored.
func (x *execution) storeAll(ctx context.Context, steps []Step) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(x.opts.Concurrency)
	for _, s := range steps {
		if !s.Missing() || s.Absent {
			continue
		}
		g.Go(func() error {
			// A slot may come free after another copy failed.
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return x.store(ctx, s)
		})
	}
	return g.Wait()
}

// store copies one piece of content, trying again what may pass.
func (x *execution) store(ctx context.Context, s Step) error {
	if d, ok := x.plan.dst.(Discarder); ok && s.Damaged {
		if err := d.Discard(ctx, s.Descriptor); err != nil {
			return &CopyError{"destination", "remove damaged", s.Descriptor, err}
		}
	}
	x.opts.Progress.Start(s.Descriptor)
	for attempt := 1; ; attempt++ {
		begun, err := x.attempt(ctx, s)
		if err == nil {
			x.stored.Add(s.Descriptor.Size)
			x.opts.Progress.Stored(s.Descriptor)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if attempt >= x.opts.Attempts || !mayPass(err, begun) {
			x.opts.Progress.Failed(s.Descriptor, err)
			return err
		}
		wait := 250 * time.Millisecond << (attempt - 1)
		x.opts.Progress.Retrying(s.Descriptor, err, wait)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// attempt copies one piece of content once; begun reports whether any of it was
// read.
func (x *execution) attempt(ctx context.Context, s Step) (begun bool, err error) {
	src := &source{fetch: fetchFrom(s.item.Source), desc: s.Descriptor, progress: x.opts.Progress}
	if s.data != nil {
		src.fetch = func(_ context.Context, _ ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(s.data[min(offset, int64(len(s.data))):])), nil
		}
	}
	err = x.write(ctx, s, src)
	delivered, cause := src.stop()
	if err == nil || errors.Is(err, errdef.ErrAlreadyExists) {
		// Content that was there already, or mounted, was not read.
		x.opts.Progress.Adjust(s.Descriptor, s.Descriptor.Size-delivered)
		return true, nil
	}
	x.opts.Progress.Adjust(s.Descriptor, -delivered)
	switch {
	case cause != nil:
		return delivered > 0, cause
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrTrailingData):
		// The destination notices, but it is the source that is wrong.
		return delivered > 0, &CopyError{"source", "verify", s.Descriptor, err}
	}
	return delivered > 0, &CopyError{"destination", "write", s.Descriptor, err}
}

// write hands the content to the destination in the best way it offers.
func (x *execution) write(ctx context.Context, s Step, src *source) error {
	dst := x.plan.dst
	if in, ok := dst.(SegmentIngester); ok && s.spread != nil {
		return in.IngestSegments(ctx, s.Descriptor, s.spread.Bytes, s.spread.keep, src.open)
	}
	if in, ok := dst.(Ingester); ok {
		return in.Ingest(ctx, s.Descriptor, src.open)
	}
	if s.data != nil {
		// A reader that an HTTP client knows how to rewind.
		return dst.Push(ctx, s.Descriptor, bytes.NewReader(s.data))
	}
	push := func() error {
		rc, err := src.open(ctx, 0)
		if err != nil {
			return err
		}
		defer rc.Close()
		return dst.Push(ctx, s.Descriptor, rc)
	}
	m, ok := dst.(registry.Mounter)
	if !ok || s.item.MountFrom == "" {
		return push()
	}
	pushed := false
	err := m.Mount(ctx, s.Descriptor, s.item.MountFrom, func() (io.ReadCloser, error) {
		pushed = true
		return src.open(ctx, 0)
	})
	if err != nil && !pushed && ctx.Err() == nil {
		return push() // a mount only saves work, nothing depends on it
	}
	return err
}

// source reads one piece of content at the source, counts it and remembers
// whether it was the reading that failed. An HTTP transport may go on reading
// after its request has failed, which must neither race nor be counted.
type source struct {
	fetch    func(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	desc     ocispec.Descriptor
	progress Progress

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

func (s *source) count(n int64, tell func(ocispec.Descriptor, int64)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.delivered += n
		tell(s.desc, n)
	}
}

// fail remembers err, met while doing op.
func (s *source) fail(op string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.failure = &CopyError{"source", op, s.desc, err}
	}
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
		s.fail("open", err)
		return nil, err
	}
	if offset > 0 {
		s.count(offset, s.progress.Adjust)
	}
	return &counted{s, rc, s.desc.Size - offset}, nil
}

// counted is the content of a source from some offset on.
type counted struct {
	*source
	rc   io.ReadCloser
	left int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.rc.Read(b)
	c.left -= int64(n)
	if err == io.EOF && c.left > 0 {
		err = io.ErrUnexpectedEOF // a short source must not look like a full disk
	}
	c.count(int64(n), c.progress.Advance)
	if err != nil && err != io.EOF {
		c.fail("read", err)
	}
	return n, err
}

func (c *counted) Close() error { return c.rc.Close() }

// mayPass reports whether trying again may help: connections that broke and
// registries that are busy, but not a full disk, a missing blob or a wrong
// digest. begun says that content was moved. Before that, a busy registry and a
// timeout are the transport's to try again, which it has done; only a request
// whose body is half sent it cannot repeat.
func mayPass(err error, begun bool) bool {
	if resp := new(errcode.ErrorResponse); errors.As(err, &resp) {
		return begun && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500)
	}
	// What began to arrive can arrive, whatever broke it off.
	if side := new(CopyError); errors.As(err, &side) && side.Side == "source" && side.Op == "read" {
		return true
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() && !begun {
		return false
	}
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		return false
	}
	// Not net.Error: every syscall.Errno is one, that of a full disk too.
	return errors.As(err, new(*url.Error)) || errors.As(err, new(*net.OpError)) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

type silent struct{}

func (silent) Begin(_, _ Amount)                                 {}
func (silent) Start(ocispec.Descriptor)                          {}
func (silent) Advance(ocispec.Descriptor, int64)                 {}
func (silent) Adjust(ocispec.Descriptor, int64)                  {}
func (silent) Retrying(ocispec.Descriptor, error, time.Duration) {}
func (silent) Stored(ocispec.Descriptor)                         {}
func (silent) Failed(ocispec.Descriptor, error)                  {}
func (silent) End()                                              {}
