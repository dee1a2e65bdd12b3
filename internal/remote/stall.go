package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	defaultIdleTimeout = time.Minute
	// minProgressBytes must arrive within each idle timeout spent waiting: a
	// registry that sends a byte a minute would hold a copy for ever.
	minProgressBytes = 1 << 10
	// storeFactor times the idle timeout is what a registry has for its answer
	// once it has all of an upload, which it may have to move first.
	storeFactor = 10
)

// StallError says that a registry kept silent for too long. It is a timeout
// (net.Error), and trying again may help.
type StallError struct {
	// What the registry did not do.
	What string
	// After is how long it was waited for.
	After time.Duration
}

// Error says what the registry did not do, and for how long.
func (e *StallError) Error() string { return fmt.Sprintf("the registry %s for %v", e.What, e.After) }

// Timeout is true.
func (*StallError) Timeout() bool { return true }

// Temporary is true.
func (*StallError) Temporary() bool { return true }

// patient is a transport that ends requests on which nothing moves. Only waiting
// for the registry counts: a slow disk, or a limit on the rate, may take any time
// between two reads.
type patient struct {
	base http.RoundTripper
	idle time.Duration
}

// RoundTrip sends one request.
func (p *patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &watch{cancel: cancel}
	w.arm("did not answer", p.idle)
	sent := req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		sent.Body = &sending{req.Body, w, p.idle}
		if req.GetBody != nil {
			sent.GetBody = func() (io.ReadCloser, error) {
				body, err := req.GetBody()
				return &sending{body, w, p.idle}, err
			}
		}
	}
	resp, err := p.base.RoundTrip(sent)
	w.end()
	if err == nil {
		err = checkLocation(resp)
	}
	if err != nil {
		err = cause(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Request = req
	if hasBody(resp) {
		resp.Body = newReceiving(ctx, cancel, resp.Body, p.idle)
	} else {
		cancel(nil)
	}
	return resp, nil
}

// cause returns why ctx ended, where that is the stall behind err.
func cause(ctx context.Context, err error) error {
	if stall, ok := context.Cause(ctx).(*StallError); ok { //nolint:errorlint // as it was given
		return stall
	}
	return err
}

// watch ends a request unless it is armed again or ended in time.
type watch struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// arm gives the registry until after from now. It has no effect behind end.
func (w *watch) arm(what string, after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer = time.AfterFunc(after, func() { w.cancel(&StallError{what, after}) })
}

// rest stops the clock until the next arm.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

func (w *watch) end() {
	w.rest()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

// sending is the body of a request. While it is read the registry waits for us,
// otherwise we for the registry.
type sending struct {
	io.ReadCloser
	watch *watch
	idle  time.Duration
}

func (s *sending) Read(b []byte) (int, error) {
	s.watch.rest()
	n, err := s.ReadCloser.Read(b)
	if err != nil {
		s.watch.arm("did not answer the upload", storeFactor*s.idle)
	} else {
		s.watch.arm("took nothing", s.idle)
	}
	return n, err
}

// receiving is the body of an answer.
type receiving struct {
	body   io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	timer  *time.Timer
	// What was waited, and what arrived, since there was progress last.
	waited time.Duration
	got    int
}

func newReceiving(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, idle time.Duration) *receiving {
	r := &receiving{body: body, ctx: ctx, cancel: cancel, idle: idle}
	r.timer = time.AfterFunc(idle, func() {
		cancel(&StallError{fmt.Sprintf("sent less than %d bytes", minProgressBytes), idle})
	})
	r.timer.Stop()
	return r
}

func (r *receiving) Read(b []byte) (int, error) {
	start := time.Now()
	r.timer.Reset(r.idle - r.waited)
	n, err := r.body.Read(b)
	r.timer.Stop()
	r.waited += time.Since(start)
	if r.got += n; r.got >= minProgressBytes {
		r.got, r.waited = 0, 0
	}
	if err == io.EOF { //nolint:errorlint // readers give it bare
		r.cancel(nil)
	} else if err != nil {
		err = cause(r.ctx, err)
		r.cancel(nil)
	}
	return n, err
}

func (r *receiving) Close() error {
	err := r.body.Close()
	r.timer.Stop()
	r.cancel(nil)
	return err
}
