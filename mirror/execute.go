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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ExecuteOptions configure a copy. The zero value is a good default.
type ExecuteOptions struct {
	// Concurrency bounds the blobs copied at once; ≤ 0 means 4.
	Concurrency int
	// Attempts bounds the tries for one piece of content; ≤ 0 means 5.
	Attempts int
	// Progress is told what happens; nil for nobody.
	Progress Progress
}

// Execute copies what the destination lacks and then records the roots. Blobs go
// in parallel, the largest first; manifests follow one by one, each behind what
// it names. A failure is an [IncompleteError]: running the copy again continues
// where it stopped.
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
	total, missing := p.Size()
	x := &execution{plan: p, opts: opts}
	x.stored.Store(total - missing)
	opts.Progress.Begin(p)
	if err := x.run(ctx); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return &IncompleteError{Stored: x.stored.Load(), Total: total, Err: err}
	}
	return nil
}

type execution struct {
	plan   *Plan
	opts   ExecuteOptions
	stored atomic.Int64
}

func (x *execution) run(ctx context.Context) error {
	blobs := slices.Clone(x.plan.Blobs)
	slices.SortStableFunc(blobs, func(a, b Step) int { return cmp.Compare(b.Descriptor.Size, a.Descriptor.Size) })
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(x.opts.Concurrency)
	for _, s := range blobs {
		if s.Stored {
			continue
		}
		g.Go(func() error {
			// A slot may come free after another copy failed.
			if gctx.Err() != nil {
				return gctx.Err()
			}
			return x.store(gctx, s)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, s := range x.plan.Manifests {
		if s.Stored {
			continue
		}
		if err := x.store(ctx, s); err != nil {
			return err
		}
	}
	for _, root := range x.plan.Roots {
		if err := x.plan.dst.Name(ctx, root); err != nil {
			return &CopyError{"destination", "record " + root.Name + " as", root.Descriptor, err}
		}
	}
	return nil
}

// store copies one piece of content, trying again what may pass.
func (x *execution) store(ctx context.Context, s Step) error {
	for attempt := 1; ; attempt++ {
		err := x.attempt(ctx, s)
		if err == nil {
			x.stored.Add(s.Descriptor.Size)
			x.opts.Progress.Stored(s.Descriptor)
			return nil
		}
		if attempt >= x.opts.Attempts || ctx.Err() != nil || !mayPass(err) {
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

func (x *execution) attempt(ctx context.Context, s Step) error {
	src := &source{fetch: fetchFrom(s.item.Source), desc: s.Descriptor, progress: x.opts.Progress}
	if s.data != nil {
		src.fetch = func(_ context.Context, _ ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(s.data[min(offset, int64(len(s.data))):])), nil
		}
	}
	err := x.write(ctx, s, src)
	delivered, cause := src.stop()
	if err == nil || errors.Is(err, errdef.ErrAlreadyExists) {
		// Content that was there already, or mounted, was not read.
		x.opts.Progress.Advance(s.Descriptor.Size - delivered)
		return nil
	}
	x.opts.Progress.Advance(-delivered)
	switch {
	case cause != nil:
		return cause
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrTrailingData):
		// The destination notices, but it is the source that is wrong.
		return &CopyError{"source", "verify", s.Descriptor, err}
	}
	return &CopyError{"destination", "write", s.Descriptor, err}
}

// write hands the content to the destination in the best way it offers.
func (x *execution) write(ctx context.Context, s Step, src *source) error {
	dst := x.plan.dst
	if in, ok := dst.(Ingester); ok {
		return in.Ingest(ctx, s.Descriptor, src.open)
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
	if !ok || s.data != nil || s.item.MountFrom == "" {
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

func (s *source) count(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.delivered += n
		s.progress.Advance(n)
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
// where it can, by seeking, or by reading and throwing away.
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
		if err == nil && offset > 0 {
			if err = skip(rc, offset); err != nil {
				return nil, errors.Join(err, rc.Close())
			}
		}
		return rc, err
	}
}

// open returns the content from offset on.
func (s *source) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	rc, err := s.fetch(ctx, s.desc, offset)
	if err != nil {
		s.fail("open", err)
		return nil, err
	}
	if offset > 0 {
		s.count(offset)
	}
	return &counted{s, rc, s.desc.Size - offset}, nil
}

func skip(rc io.Reader, n int64) error {
	if seeker, ok := rc.(io.Seeker); ok {
		_, err := seeker.Seek(n, io.SeekStart)
		return err
	}
	_, err := io.CopyN(io.Discard, rc, n)
	return err
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
	c.count(int64(n))
	if err != nil && err != io.EOF {
		c.fail("read", err)
	}
	return n, err
}

func (c *counted) Close() error { return c.rc.Close() }

// mayPass reports whether trying again may help: connections that broke and
// registries that are busy, but not a full disk, a missing blob or a wrong
// digest.
func mayPass(err error) bool {
	var resp *errcode.ErrorResponse
	if errors.As(err, &resp) {
		return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500
	}
	// What began to arrive can arrive, whatever broke it off.
	if side := new(CopyError); errors.As(err, &side) && side.Side == "source" && side.Op == "read" {
		return true
	}
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		return false
	}
	// Not net.Error: every syscall.Errno is one, that of a full disk too.
	return errors.As(err, new(*url.Error)) || errors.As(err, new(*net.OpError)) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

type silent struct{}

func (silent) Begin(*Plan)                                       {}
func (silent) Advance(int64)                                     {}
func (silent) Stored(ocispec.Descriptor)                         {}
func (silent) Retrying(ocispec.Descriptor, error, time.Duration) {}

// Repository is a destination in a registry.
type Repository struct {
	registry.Repository
}

// Name tags root and its signature tags; the root is tagged last, because its
// tag is what others wait for.
func (r Repository) Name(ctx context.Context, root Root) error {
	for _, t := range root.Tags {
		if err := r.tag(ctx, t.Descriptor, t.Name); err != nil {
			return err
		}
	}
	_, tag, tagged := cutTag(root.Name)
	if !tagged {
		return nil
	}
	return r.tag(ctx, root.Descriptor, tag)
}

// tag writes a tag unless it stands already: a registry whose tags are immutable
// refuses even the same again.
func (r Repository) tag(ctx context.Context, desc ocispec.Descriptor, name string) error {
	if have, err := r.Resolve(ctx, name); err == nil && have.Digest == desc.Digest {
		return nil
	}
	if err := r.Tag(ctx, desc, name); err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return nil
}

// Mount takes a blob from another repository of the same registry.
func (r Repository) Mount(ctx context.Context, desc ocispec.Descriptor, from string, get func() (io.ReadCloser, error)) error {
	m, ok := r.Repository.(registry.Mounter)
	if !ok {
		return errdef.ErrUnsupported
	}
	return m.Mount(ctx, desc, from, get)
}

var _ content.Pusher = Repository{}

// cutTag splits HOST/REPO:TAG; tagged is false for a name with a digest or
// without anything behind the repository.
func cutTag(name string) (repository, tag string, tagged bool) {
	if repository, _, ok := strings.Cut(name, "@"); ok {
		return repository, "", false
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:], true
	}
	return name, "", false
}
