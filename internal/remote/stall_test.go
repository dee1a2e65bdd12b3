package remote_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

// A blob that stops, or only trickles, counts as broken; one that is slow, or read
// slowly, does not.
func TestStall(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	slow := func(w http.ResponseWriter, _ *http.Request) { // 1.2 KiB a minute
		for b := data; len(b) > 0; b = b[20:] {
			_, _ = w.Write(b[:20])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Second)
			if len(b) < 40 {
				return
			}
		}
	}
	tests := []struct {
		name   string
		answer http.HandlerFunc
		idle   time.Duration // 0 for the default
		pause  time.Duration // between reads
		want   int           // bytes that arrive
		took   time.Duration // until the StallError, 0 for none
	}{
		{"whole", remotetest.Content(data), 0, 0, len(data), 0},
		{"stops", remotetest.Stall(5000, remotetest.Content(data)), 0, 0, 5000, time.Minute},
		{"stops, less patient", remotetest.Stall(5000, remotetest.Content(data)), 5 * time.Second, 0, 5000, 5 * time.Second},
		{"trickles", remotetest.Trickle(data, 1700*time.Millisecond), 0, 0, 36, time.Minute},
		{"trickles to the end", remotetest.Trickle(data[:50], time.Second), 0, 0, 50, 0},
		{"slow", slow, 0, 0, len(data) - len(data)%20, 0},
		{"read slowly", remotetest.Content(data), 0, 10 * time.Minute, len(data), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				net.Serve(host, exchange(blobPath(data), nil, 1, tt.answer))
				repo := repository(t, net, remote.Options{IdleTimeout: tt.idle})
				start := time.Now()
				rc, err := repo.Fetch(t.Context(), describe(data))
				if err != nil {
					t.Fatal(err)
				}
				defer rc.Close()
				got, err := io.ReadAll(&pausing{rc, tt.pause})
				var stall *remote.StallError
				if errors.As(err, &stall) != (tt.took > 0) || tt.took == 0 && err != nil {
					t.Fatalf("after %d bytes: %v, want a StallError: %t", len(got), err, tt.took > 0)
				}
				if len(got) != tt.want || !bytes.HasPrefix(data, got) {
					t.Errorf("%d bytes arrived, want the first %d", len(got), tt.want)
				}
				if tt.took > 0 && (time.Since(start) != tt.took || stall.After != tt.took || !remote.IsTransient(err)) {
					t.Errorf("%v after %v, want one that may pass after %v", err, time.Since(start), tt.took)
				}
			})
		})
	}
}

// pausing is a reader that lets time pass before each Read.
type pausing struct {
	io.Reader
	pause time.Duration
}

func (p *pausing) Read(b []byte) (int, error) {
	time.Sleep(p.pause)
	return p.Reader.Read(b[:min(len(b), 4096)])
}

// A caller that gives up is not a registry that stalls.
func TestStallIsNotCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := make([]byte, 10000)
		net := remotetest.NewNetwork(t)
		net.Serve(host, exchange(blobPath(data), nil, 1, remotetest.Stall(5000, remotetest.Content(data))))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		rc, err := repository(t, net, remote.Options{}).Fetch(ctx, describe(data))
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err = io.ReadAll(rc); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, new(*remote.StallError)) {
			t.Errorf("ReadAll = %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// An upload that is not taken, or not answered, ends; one whose content comes
// slowly does not.
func TestUploadStall(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	take := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	}
	tests := []struct {
		name  string
		put   http.HandlerFunc
		pause time.Duration // before each piece of the content
		took  time.Duration // until the StallError, 0 for none
	}{
		{"taken", take, 0, 0},
		{"content comes slowly", take, 30 * time.Minute, 0},
		{"stored slowly", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(9 * time.Minute)
			w.WriteHeader(http.StatusCreated)
		}, 0, 0},
		{"not taken", remotetest.Silence, 0, time.Minute},
		{"not answered", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, 0, 10 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				net.Serve(host,
					exchange("POST /v2/shop/blobs/uploads/", nil, 1, remotetest.Status(http.StatusAccepted, "Location", "/upload/1")),
					exchange("PUT /upload/1?digest="+strings.Replace(describe(data).Digest.String(), ":", "%3A", 1), nil, 1, tt.put))
				start := time.Now()
				err := repository(t, net, remote.Options{}).Push(t.Context(), describe(data), &pausing{bytes.NewReader(data), tt.pause})
				if errors.As(err, new(*remote.StallError)) != (tt.took > 0) || tt.took == 0 && err != nil {
					t.Errorf("Push = %v, want a StallError: %t", err, tt.took > 0)
				}
				if tt.took > 0 && time.Since(start) != tt.took {
					t.Errorf("took %v, want %v", time.Since(start), tt.took)
				}
				time.Sleep(time.Hour) // net/http reads on, to see that nothing follows
			})
		})
	}
}
