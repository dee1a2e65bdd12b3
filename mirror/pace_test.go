package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/mirror"
)

// flow notes when bytes arrive.
type flow struct {
	watcher
	mu   sync.Mutex
	at   []time.Time
	size []int64
}

func (f *flow) Advance(desc ocispec.Descriptor, n int64) {
	f.watcher.Advance(desc, n)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.size = append(f.at, time.Now()), append(f.size, n)
}

// All copies together keep to the rate, from the slowest to the fastest, evenly.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		rate, layers, size int64
	}{
		{1, 1, 20}, {100, 2, 500}, {10_000, 4, 5_000}, {1 << 20, 4, 1 << 20}, {100 << 20, 4, 4 << 20},
	} {
		t.Run(fmt.Sprint(tt.rate), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				src, dst, w := newStore(t), newDestination(t), &flow{}
				var layers []ocispec.Descriptor
				for i := range tt.layers {
					data := make([]byte, tt.size)
					data[0] = byte(i)
					layers = append(layers, src.layer(string(data)))
				}
				src.tag(src.image("image", nil, layers...), "1")
				p := plan(t, dst, item(src, "1"))
				start := time.Now()
				if err := p.Execute(t.Context(), mirror.ExecuteOptions{RateLimit: tt.rate, Progress: w}); err != nil {
					t.Fatal(err)
				}
				blobs := tt.layers * tt.size
				for _, s := range p.Blobs {
					if !slices.ContainsFunc(layers, func(d ocispec.Descriptor) bool { return d.Digest == s.Descriptor.Digest }) {
						blobs += s.Descriptor.Size
					}
				}
				want := time.Duration(float64(blobs) / float64(tt.rate) * float64(time.Second))
				if took := time.Since(start); took < want*9/10 || took > want*11/10 {
					t.Errorf("%d bytes at %d B/s took %v, want %v", blobs, tt.rate, took, want)
				}
				// No tenth of a second, or single byte, sees more than twice its share. What
				// comes behind the blobs was in memory.
				var blobsSeen int64
				for i := range w.at {
					if blobsSeen += w.size[i]; blobsSeen > blobs {
						w.at, w.size = w.at[:i], w.size[:i]
						break
					}
				}
				for i := range w.at {
					var n int64
					for j := i; j < len(w.at) && w.at[j].Sub(w.at[i]) < 100*time.Millisecond; j++ {
						n += w.size[j]
					}
					if n > max(2, tt.rate/5) {
						t.Fatalf("%d bytes within a tenth of a second, want about %d", n, tt.rate/10)
					}
				}
			})
		})
	}
}

// A copy that waits for its turn ends with the context.
func TestRateLimitCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newStore(t), newDestination(t)
		src.tag(src.image("image", nil, src.layer(string(noise(100_000)))), "1")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := plan(t, dst, item(src, "1")).Execute(ctx, mirror.ExecuteOptions{RateLimit: 10})
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
			t.Errorf("Execute = %v after %v, want %v after 3s", err, took, context.DeadlineExceeded)
		}
	})
}

// discard is a destination that has nothing and keeps nothing.
type discard struct{ *destination }

func (discard) Exists(context.Context, ocispec.Descriptor) (bool, error) { return false, nil }

func (discard) Name(context.Context, mirror.Root) error { return nil }

func (discard) Push(_ context.Context, _ ocispec.Descriptor, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// By the clock on the wall the rate is that too: timers that are late are made up
// for.
func TestRateLimitForReal(t *testing.T) {
	src := newStore(t)
	const limit, layers = 200 << 20, 4
	var all []ocispec.Descriptor
	for i := range layers {
		data := make([]byte, limit/4/layers) // a quarter of a second
		data[0] = byte(i)
		all = append(all, src.layer(string(data)))
	}
	src.tag(src.image("image", nil, all...), "1")
	p := plan(t, discard{newDestination(t)}, item(src, "1"))
	start := time.Now()
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{RateLimit: limit}); err != nil {
		t.Fatal(err)
	}
	t.Logf("took %v, want 250ms", time.Since(start))
	// Never faster; how much slower is up to what else the machine does.
	if took := time.Since(start); took < 230*time.Millisecond || took > 5*time.Second {
		t.Errorf("took %v, want about 250ms", took)
	}
}
