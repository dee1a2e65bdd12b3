package ui_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// piece is content of some kind and size.
func piece(mediaType string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(fmt.Sprint(mediaType, size)), Size: size}
}

func short(desc ocispec.Descriptor) string { return desc.Digest.Encoded()[:12] }

// amount is of so many pieces and bytes.
func amount(blobs int, bytes int64) mirror.Amount { return mirror.Amount{Blobs: blobs, Bytes: bytes} }

// told is what a program reads of a progress.
type told struct {
	Type        string
	Verb        string
	Bytes       int64
	Total, Rate int64
	ETA         *int64
	Blobs       int64
	State       string
	Error       string
}

func read(t *testing.T, lines *bytes.Buffer) (events []told) {
	t.Helper()
	for line := range strings.Lines(lines.String()) {
		var e told
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		events = append(events, e)
	}
	return events
}

// The rate is that of the last ten seconds, and of what moved only.
func TestRate(t *testing.T) {
	t.Parallel()
	const mb = 1_000_000
	layer := piece(ocispec.MediaTypeImageLayer, 1000*mb)
	tests := []struct {
		name           string
		total, missing int64
		work           func(g mirror.Progress) // ends half a second behind an event
		bytes, rate    int64
		eta            int64 // < 0 for none
	}{
		{"steady", 1000 * mb, 1000 * mb, func(g mirror.Progress) { each(g, layer, 20, mb) }, 20 * mb, mb, 980},
		{"slow after it was fast", 1000 * mb, 1000 * mb, func(g mirror.Progress) {
			each(g, layer, 20, 40*mb)
			each(g, layer, 20, mb)
		}, 820 * mb, mb, 180},
		{"fast after it was slow", 1000 * mb, 1000 * mb, func(g mirror.Progress) {
			each(g, layer, 60, mb)
			each(g, layer, 10, 50*mb)
		}, 560 * mb, 50 * mb, 9},
		{"resumed", 1000 * mb, 500 * mb, func(g mirror.Progress) { each(g, layer, 5, mb) }, 505 * mb, mb, 495},
		{"resumed in the middle of a blob", 1000 * mb, 1000 * mb, func(g mirror.Progress) {
			g.Adjust(layer, 700*mb)
			each(g, layer, 5, mb)
		}, 705 * mb, mb, 295},
		{"taken back", 1000 * mb, 1000 * mb, func(g mirror.Progress) {
			each(g, layer, 10, mb)
			g.Adjust(layer, -10*mb)
			each(g, layer, 5, mb)
		}, 5 * mb, mb, 995},
		{"more taken back than there was", 1000 * mb, 1000 * mb, func(g mirror.Progress) {
			g.Adjust(layer, -mb)
			each(g, layer, 1, 0)
		}, 0, 0, -1},
		{"stalled", 1000 * mb, 1000 * mb, func(g mirror.Progress) {
			each(g, layer, 5, mb)
			each(g, layer, 12, 0)
		}, 5 * mb, 0, -1},
		{"more than there should be", 10 * mb, 10 * mb, func(g mirror.Progress) { each(g, layer, 11, mb) }, 10 * mb, mb, 0},
		{"nothing to do", 10 * mb, 0, func(g mirror.Progress) { each(g, layer, 1, 0) }, 10 * mb, 0, -1},
		{"without an end", math.MaxInt64, math.MaxInt64, func(g mirror.Progress) { each(g, layer, 5, 1) }, 5, 1, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var stderr bytes.Buffer
				g := ui.New(ui.Options{Err: &stderr, Format: ui.JSON}).Progress("copying")
				g.Begin(amount(9, tt.total), amount(3, tt.missing))
				tt.work(g)
				g.End()
				events := read(t, &stderr)
				got := events[len(events)-1]
				want := told{Type: "progress", Verb: "copying", Bytes: tt.bytes, Total: tt.total, Rate: tt.rate, Blobs: 6}
				if tt.eta >= 0 {
					want.ETA = &tt.eta
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("last event (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// each moves n bytes in each of some seconds, in the middle of it at first.
func each(g mirror.Progress, desc ocispec.Descriptor, seconds int, n int64) {
	for range seconds {
		time.Sleep(500 * time.Millisecond)
		g.Advance(desc, n)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
	}
}

// Events of blobs say what became of each; those of the whole come once a second.
func TestEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stderr bytes.Buffer
		p := ui.New(ui.Options{Err: &stderr, Format: ui.JSON})
		layer, config := piece(ocispec.MediaTypeImageLayer, 100), piece(ocispec.MediaTypeImageConfig, 10)
		for range 2 { // a progress can be used again
			g := p.Progress("verifying")
			g.Begin(amount(2, 110), amount(2, 110))
			g.Start(layer)
			g.Start(config)
			g.Stored(config)
			for range 2500 {
				time.Sleep(time.Millisecond)
				g.Advance(layer, 0)
			}
			g.Failed(layer, errors.New("damaged"))
			g.End()
			var states []string
			for _, e := range read(t, &stderr) {
				states = append(states, e.Type+" "+e.State+e.Error)
			}
			want := []string{"blob started", "blob started", "blob stored", "progress ", "progress ", "blob faileddamaged"}
			if diff := cmp.Diff(want, states); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			stderr.Reset()
		}
	})
}

// Without a terminal there is a line every five seconds, and none at all for what is
// over before.
func TestLines(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		opts  ui.Options
		lasts time.Duration
		want  string
	}{
		{"short", ui.Options{}, 4900 * time.Millisecond, ""},
		{"long", ui.Options{}, 11 * time.Second, "verifying 4.0 MB of 9.0 MB, 44%, 800 kB/s, 6s left, 0 of 1 blobs\nverifying 9.0 MB of 9.0 MB, 100%, 900 kB/s, 0s left, 0 of 1 blobs\n"},
		{"quiet", ui.Options{Quiet: true}, 11 * time.Second, ""},
		{"quiet, for a program", ui.Options{Quiet: true, Format: ui.JSON}, 11 * time.Second, ""},
		{"quiet, on a terminal", ui.Options{Quiet: true, Terminal: true}, 11 * time.Second, ""},
		{"shorter than the eye sees, on a terminal", ui.Options{Terminal: true}, 90 * time.Millisecond, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var stderr bytes.Buffer
				tt.opts.Err = &stderr
				g := ui.New(tt.opts).Progress("verifying")
				layer := piece(ocispec.MediaTypeImageLayer, 9_000_000)
				g.Begin(amount(1, layer.Size), amount(1, layer.Size))
				g.Start(layer)
				for end := time.Now().Add(tt.lasts); time.Now().Before(end); g.Advance(layer, 1_000_000) {
					time.Sleep(min(time.Until(end), 1100*time.Millisecond))
				}
				g.Stored(layer)
				g.End()
				if diff := cmp.Diff(tt.want, stderr.String()); diff != "" {
					t.Errorf("stderr (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// BenchmarkAdvance is what each buffer that is copied pays, with eight blobs under
// way and bars on a terminal.
func BenchmarkAdvance(b *testing.B) {
	for _, bench := range []struct {
		name string
		opts ui.Options
	}{{"terminal", ui.Options{Terminal: true}}, {"json", ui.Options{Format: ui.JSON}}, {"quiet", ui.Options{Quiet: true}}} {
		b.Run(bench.name, func(b *testing.B) {
			bench.opts.Err = &bytes.Buffer{}
			g := ui.New(bench.opts).Progress("copying")
			g.Begin(amount(8, math.MaxInt64), amount(8, math.MaxInt64))
			var blobs []ocispec.Descriptor
			for i := range int64(8) {
				blobs = append(blobs, piece(ocispec.MediaTypeImageLayer, math.MaxInt64-i))
				g.Start(blobs[i])
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					g.Advance(blobs[i%8], 1<<15)
				}
			})
			g.End()
		})
	}
}
