package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/mirror"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
	}{
		{"short", io.EOF},
		{"cut", io.ErrUnexpectedEOF},
		{"reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}},
		{"broken in its own way", errors.New("http2: stream closed")},
	}
	for _, tt := range tests {
		for _, resume := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, resumed %t", tt.name, resume), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					src, dst, w := newStore(t), newDestination(t), &watcher{}
					f := newFixture(src)
					m, err := content.FetchAll(t.Context(), src, f.arm64)
					if err != nil {
						t.Fatal(err)
					}
					layer := blobsOf(t, m)[2]
					cut := &faulty{Source: src, digest: layer.Digest, times: 2, after: 5000, err: tt.err}
					var to mirror.Destination = dst
					in := &ingester{destination: dst, partial: map[digest.Digest][]byte{}}
					if resume {
						to = in
					}
					p := plan(t, to, item(cut, "1.0.0"))
					if err := p.Execute(t.Context(), mirror.ExecuteOptions{Progress: w, Concurrency: 1}); err != nil {
						t.Fatalf("Execute = %v", err)
					}
					w.orderly(t)
					if cut.fetched != 3 || len(w.retried) != 2 || !about(w.retried[0], 500*time.Millisecond) || !about(w.retried[1], 1500*time.Millisecond) {
						t.Errorf("fetched %d times, retried after %v, want 3 and twice, longer each time", cut.fetched, w.retried)
					}
					if total, _ := p.Size(); w.advanced != total {
						t.Errorf("progress = %d bytes, want %d", w.advanced, total)
					}
					// Manifests are at hand; only an ingester is seen to read them.
					adjusted := int64(0)
					if !resume {
						for _, s := range p.Manifests {
							adjusted += s.Descriptor.Size
						}
					}
					if w.adjusted != adjusted {
						t.Errorf("progress = %d bytes adjusted, want %d", w.adjusted, adjusted)
					}
					if slices.Max(append(in.offsets, 0)) != 0 || resume && len(in.offsets) != p.Missing() {
						t.Errorf("offsets = %v, want each content begun once: the destination does not notice", in.offsets)
					}
				})
			})
		}
	}
}

// about reports whether a wait is want, a quarter more or less.
func about(got, want time.Duration) bool { return got >= want*3/4 && got <= want*5/4 }

func TestRetryGivesUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		attempts     int
		source       error // what reading gives
		destination  error // what writing gives
		side         string
		wantAttempts int
	}{
		{"source", 0, io.ErrUnexpectedEOF, nil, "source", 5},
		{"one attempt", 1, io.ErrUnexpectedEOF, nil, "source", 1},
		{"registry is busy from the start", 3, nil, &errcode.ErrorResponse{Method: "POST", URL: &url.URL{}, StatusCode: http.StatusServiceUnavailable}, "destination", 1},
		{"registry times out from the start", 3, nil, &url.Error{Op: "Post", Err: os.ErrDeadlineExceeded}, "destination", 1},
		{"registry refuses", 3, nil, &errcode.ErrorResponse{Method: "PUT", URL: &url.URL{}, StatusCode: http.StatusForbidden}, "destination", 1},
		{"connection refused", 3, nil, &url.Error{Op: "Put", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, "destination", 3},
		{"disk full", 3, nil, &fs.PathError{Op: "write", Err: syscall.ENOSPC}, "destination", 1},
		{"file too large for FAT", 3, nil, &fs.PathError{Op: "write", Err: syscall.EFBIG}, "destination", 1},
		{"stick pulled out", 3, nil, &fs.PathError{Op: "write", Err: syscall.EIO}, "destination", 1},
		{"not allowed", 3, nil, &fs.PathError{Op: "open", Err: syscall.EACCES}, "destination", 1},
		{"wrong bytes", 3, nil, content.ErrMismatchedDigest, "source", 2},
		{"too many bytes", 3, nil, content.ErrTrailingData, "source", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src, dst, w := newStore(t), newDestination(t), &watcher{}
				layer := src.layer("layer")
				src.tag(src.image("image", nil, layer), "1")
				bad := &faulty{Source: src, digest: layer.Digest, after: 2}
				if tt.source != nil {
					bad.times, bad.err = -1, tt.source
				}
				dst.fail = func(_ context.Context, d ocispec.Descriptor) error {
					if d.Digest != layer.Digest {
						return nil
					}
					return tt.destination
				}
				err := plan(t, dst, item(bad, "1")).Execute(t.Context(), mirror.ExecuteOptions{Attempts: tt.attempts, Progress: w, Concurrency: 1})
				var incomplete *mirror.IncompleteError
				var failed *mirror.CopyError
				if !errors.As(err, &incomplete) || !errors.As(err, &failed) {
					t.Fatalf("Execute = %v, want an IncompleteError with a CopyError", err)
				}
				if failed.Side != tt.side || failed.Desc.Digest != layer.Digest {
					t.Errorf("CopyError = %v, want one of the %s for the layer", failed, tt.side)
				}
				if bad.fetched != tt.wantAttempts || len(w.retried) != tt.wantAttempts-1 {
					t.Errorf("tried %d times, said so %d times, want %d attempts", bad.fetched, len(w.retried), tt.wantAttempts)
				}
				if w.ended != 1 || len(w.disorder) > 0 {
					t.Errorf("progress: %d ended, out of order %q", w.ended, w.disorder)
				}
				if w.advanced != incomplete.Stored {
					t.Errorf("progress = %d bytes, want the %d stored", w.advanced, incomplete.Stored)
				}
				if len(dst.named) != 0 || dst.committed != 0 {
					t.Error("the root was named")
				}
			})
		})
	}
}

// The transport repeats a request that was refused before any content moved. Once
// half of it is sent nobody else can.
func TestRetryOfHalfSentContent(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
	}{
		{"busy", &errcode.ErrorResponse{Method: "PUT", URL: &url.URL{}, StatusCode: http.StatusServiceUnavailable}},
		{"too many requests", &errcode.ErrorResponse{Method: "PUT", URL: &url.URL{}, StatusCode: http.StatusTooManyRequests}},
		{"timeout", &url.Error{Op: "Put", Err: os.ErrDeadlineExceeded}},
	} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := newStore(t), newDestination(t)
			layer := src.layer("layer")
			src.tag(src.image("image", nil, layer), "1")
			tries := map[digest.Digest]int{}
			var mu sync.Mutex
			dst.failAfter = func(_ context.Context, d ocispec.Descriptor) error {
				mu.Lock()
				defer mu.Unlock()
				if tries[d.Digest]++; tries[d.Digest] < 3 && d.Digest == layer.Digest {
					return tt.err
				}
				return nil
			}
			if err := plan(t, dst, item(src, "1")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil || tries[layer.Digest] != 3 {
				t.Errorf("%s: Execute = %v after %d tries, want nil after 3", tt.name, err, tries[layer.Digest])
			}
		})
	}
	// A manifest is sent from memory, so that the transport repeats that too.
	src, dst := newStore(t), newDestination(t)
	root := src.image("image", nil)
	src.tag(root, "1")
	tries := 0
	dst.failAfter = func(_ context.Context, d ocispec.Descriptor) error {
		if d.Digest != root.Digest {
			return nil
		}
		tries++
		return &errcode.ErrorResponse{Method: "PUT", URL: &url.URL{}, StatusCode: http.StatusServiceUnavailable}
	}
	if err := plan(t, dst, item(src, "1")).Execute(t.Context(), mirror.ExecuteOptions{}); err == nil || tries != 1 {
		t.Errorf("Execute = %v after %d tries of the manifest, want an error after 1", err, tries)
	}
}

// plainReader is a source whose content cannot be sought in.
type plainReader struct{ mirror.Source }

func (p plainReader) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := p.Source.Fetch(ctx, d)
	return struct{ io.ReadCloser }{rc}, err
}

// Continuing from a source that knows no ranges reads the beginning again; a break
// there is a break while reading.
func TestRetryWhileSkipping(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{io.EOF, errors.New("http2: stream closed")} {
		synctest.Test(t, func(t *testing.T) {
			src, w := newStore(t), &watcher{}
			f := newFixture(src)
			m, err := content.FetchAll(t.Context(), src, f.arm64)
			if err != nil {
				t.Fatal(err)
			}
			layer := blobsOf(t, m)[2]
			data, err := content.FetchAll(t.Context(), src, layer)
			if err != nil {
				t.Fatal(err)
			}
			in := &ingester{destination: newDestination(t), partial: map[digest.Digest][]byte{layer.Digest: data[:9000]}}
			cut := &faulty{Source: plainReader{src}, digest: layer.Digest, times: 2, after: 4000, err: cause}
			p := plan(t, in, item(cut, "1.0.0"))
			if err := p.Execute(t.Context(), mirror.ExecuteOptions{Progress: w, Concurrency: 1}); err != nil {
				t.Fatalf("Execute = %v", err)
			}
			if total, _ := p.Size(); cut.fetched != 3 || w.advanced != total {
				t.Errorf("fetched %d times with %d bytes of progress, want 3 and %d", cut.fetched, w.advanced, total)
			}
			// Without attempts left, the error says what broke.
			in = &ingester{destination: newDestination(t), partial: map[digest.Digest][]byte{layer.Digest: data[:9000]}}
			cut.times = -1
			err = plan(t, in, item(cut, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1})
			var failed *mirror.CopyError
			if !errors.As(err, &failed) || failed.Side != "source" || failed.Op != "read" || cause == io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("Execute = %v, want the reading of the source to have failed", err)
			}
		})
	}
}
