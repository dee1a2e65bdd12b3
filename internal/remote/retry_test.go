package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

var errPressed = errors.New("the person pressed the key")

func contextWithCause(t *testing.T) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(t.Context())
	t.Cleanup(func() { cancel(nil) })
	return ctx, cancel
}

// later answers that the registry is busy until a date.
func later(after time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", time.Now().Add(after).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	const head = "HEAD /v2/shop/manifests/1"
	ok := remotetest.Status(http.StatusOK, "Content-Type", "application/vnd.oci.image.index.v1+json", "Content-Length", "1",
		"Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
	busy := func(code int, after string) http.HandlerFunc {
		return remotetest.Status(code, "Retry-After", after)
	}
	tests := []struct {
		name     string
		answers  []http.HandlerFunc
		min, max time.Duration // how long it takes
		code     int           // of the error, 0 for none
	}{
		{"at once", []http.HandlerFunc{ok}, 0, 0, 0},
		{"500", []http.HandlerFunc{busy(500, ""), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"502 twice, waiting longer", []http.HandlerFunc{busy(502, ""), busy(502, ""), ok}, 550 * time.Millisecond, 950 * time.Millisecond, 0},
		{"408", []http.HandlerFunc{busy(408, ""), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"429 with seconds", []http.HandlerFunc{busy(429, "7"), ok}, 7 * time.Second, 7 * time.Second, 0},
		{"503 with seconds", []http.HandlerFunc{busy(503, "7"), ok}, 7 * time.Second, 7 * time.Second, 0},
		{"503 with a date", []http.HandlerFunc{later(10 * time.Second), ok}, 9 * time.Second, 10 * time.Second, 0},
		{"a date that has passed", []http.HandlerFunc{later(-time.Hour), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"tomorrow", []http.HandlerFunc{busy(429, "86400"), ok}, time.Minute, time.Minute, 0},
		{"a date in a year", []http.HandlerFunc{later(365 * 24 * time.Hour), ok}, time.Minute, time.Minute, 0},
		{"more seconds than there are", []http.HandlerFunc{busy(429, "99999999999999999999"), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"less than nothing", []http.HandlerFunc{busy(429, "-7"), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"no time at all", []http.HandlerFunc{busy(429, "soon"), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"reset", []http.HandlerFunc{remotetest.Reset(0, silent), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"closed", []http.HandlerFunc{remotetest.Cut(0, silent), ok}, 150 * time.Millisecond, 350 * time.Millisecond, 0},
		{"silent", []http.HandlerFunc{remotetest.Silence, ok}, time.Minute, time.Minute + 350*time.Millisecond, 0},
		{"always 503", repeat(6, busy(503, "")), 5 * time.Second, 11 * time.Second, 503},
		{"not implemented", []http.HandlerFunc{busy(501, "1")}, 0, 0, 501},
		{"full", []http.HandlerFunc{busy(507, "1")}, 0, 0, 507},
		{"forbidden", []http.HandlerFunc{busy(403, "1")}, 0, 0, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				var script []remotetest.Exchange
				for _, answer := range tt.answers {
					script = append(script, remotetest.Exchange{Request: head, Answer: answer})
				}
				net.Serve(host, script...)
				start := time.Now()
				_, err := repository(t, net, remote.Options{}).Resolve(t.Context(), "1")
				resp := &errcode.ErrorResponse{}
				if errors.As(err, &resp); (err != nil) != (tt.code != 0) || resp.StatusCode != tt.code {
					t.Errorf("Resolve = %v, want status %d", err, tt.code)
				}
				if took := time.Since(start); took < tt.min || took > tt.max {
					t.Errorf("took %v, want between %v and %v", took, tt.min, tt.max)
				}
			})
		})
	}
}

// silent answers nothing: what breaks the connection comes at its first byte.
func silent(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }

func repeat(n int, answer http.HandlerFunc) (all []http.HandlerFunc) {
	for range n {
		all = append(all, answer)
	}
	return all
}

// A registry that never answers is given up after three times the timeout.
func TestNeverAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := remotetest.NewNetwork(t)
		net.Serve(host, remotetest.Exchange{Request: "HEAD /v2/shop/manifests/1", Times: 3, Answer: remotetest.Silence})
		start := time.Now()
		_, err := repository(t, net, remote.Options{IdleTimeout: 5 * time.Second}).Resolve(t.Context(), "1")
		var stall *remote.StallError
		if !errors.As(err, &stall) || stall.After != 5*time.Second || !remote.IsTransient(err) || !remote.IsUnreachable(err) {
			t.Errorf("Resolve = %v, want a StallError of 5s that may pass", err)
		}
		if took := time.Since(start); took < 15*time.Second || took > 17*time.Second {
			t.Errorf("took %v, want 15s and a little", took)
		}
	})
}

// Waiting for a busy registry ends with the context.
func TestCancelledWhileBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := remotetest.NewNetwork(t)
		net.Serve(host, remotetest.Exchange{Request: "HEAD /v2/shop/manifests/1", Answer: remotetest.Status(429, "Retry-After", "30")})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := repository(t, net, remote.Options{}).Resolve(ctx, "1")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Resolve = %v after %v, want %v after 1s", err, time.Since(start), context.DeadlineExceeded)
		}
	})
}

func TestIsTransient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&errcode.ErrorResponse{StatusCode: 429}, true},
		{fmt.Errorf("wrapped: %w", &errcode.ErrorResponse{StatusCode: 503}), true},
		{&errcode.ErrorResponse{StatusCode: 403}, false},
		{&errcode.ErrorResponse{StatusCode: 501}, false},
		{&remote.StallError{}, true},
		{&remote.RedirectError{}, false},
		{io.ErrUnexpectedEOF, true},
		{errdef.ErrNotFound, false},
	} {
		if got := remote.IsTransient(tt.err); got != tt.want {
			t.Errorf("IsTransient(%v) = %t, want %t", tt.err, got, tt.want)
		}
	}
}
