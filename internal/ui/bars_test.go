package ui_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/internal/ui/uitest"
	"github.com/sealift/sealift/mirror"
)

// onTerminal returns a printer with a terminal of some size.
func onTerminal(width, height int) (*ui.Printer, *uitest.Screen) {
	screen := uitest.NewScreen(width, height)
	return ui.New(ui.Options{Out: io.Discard, Err: screen, Terminal: true, Size: screen.Size}), screen
}

// wait passes time until all that is due is drawn.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// shows fails the test unless the screen shows want.
func shows(t *testing.T, screen *uitest.Screen, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), append([]string{}, screen.Lines()...)); diff != "" {
		t.Errorf("the screen (-want +got):\n%s", diff)
	}
	if unknown := screen.Unknown(); len(unknown) > 0 {
		t.Errorf("unknown control sequences %q", unknown)
	}
}

// clean fails the test unless the cursor stands at the start of the first empty line.
func clean(t *testing.T, screen *uitest.Screen) {
	t.Helper()
	if row, col := screen.Cursor(); row != len(screen.Lines()) || col != 0 {
		t.Errorf("the cursor is in row %d, column %d behind %d lines", row, col, len(screen.Lines()))
	}
}

func TestBars(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, screen := onTerminal(84, 24)
		layer, config, manifest := piece(ocispec.MediaTypeImageLayerGzip, 40_000_000), piece(ocispec.MediaTypeImageConfig, 2_000), piece(ocispec.MediaTypeImageManifest, 500)
		p.Message("before")
		g := p.Progress("copying")
		g.Begin(amount(9, 100_000_000), amount(3, 50_000_000))
		g.Start(layer)
		g.Start(config)
		for range 20 {
			wait(100 * time.Millisecond)
			g.Advance(layer, 1_000_000)
		}
		wait(50 * time.Millisecond)
		shows(t, screen, "before",
			"layer "+short(layer)+"     [=====>      ] 19 MB of 40 MB",
			"config "+short(config)+"    [            ] 0 B of 2.0 kB",
			"copying 6 of 9 blobs   [=======>    ] 69 MB of 100 MB, 69%, 9.5 MB/s, 3s left")

		// What is stored is shown once more, and messages stand above.
		g.Advance(config, 2000)
		g.Stored(config)
		g.Start(manifest)
		p.Warn("look out\r\x1b[A")
		g.Retrying(layer, errors.New("connection reset"), time.Second)
		wait(200 * time.Millisecond)
		retry := short(layer) + ": connection reset; trying again in 1s"
		shows(t, screen, "before", "warning: look out\uFFFD\uFFFD[A", retry,
			"layer "+short(layer)+"     [=====>      ] 20 MB of 40 MB",
			"manifest "+short(manifest)+"  [            ] 0 B of 500 B",
			"copying 7 of 9 blobs   [=======>    ] 70 MB of 100 MB, 70%, 9.1 MB/s, 3s left")

		g.Adjust(layer, -20_000_000)
		g.Adjust(layer, 30_000_000)
		g.Failed(manifest, errors.New("damaged"))
		p.Question("still there?")
		wait(200 * time.Millisecond)
		shows(t, screen, "before", "warning: look out\uFFFD\uFFFD[A", retry, "still there?",
			"layer "+short(layer)+"     [========>   ] 30 MB of 40 MB",
			"copying 7 of 9 blobs   [=========>  ] 80 MB of 100 MB, 80%, 8.3 MB/s, 2s left")

		g.End()
		shows(t, screen, "before", "warning: look out\uFFFD\uFFFD[A", retry, "still there?")
		clean(t, screen)

		// What comes next begins anew, in the same place.
		g = p.Progress("verifying")
		g.Begin(amount(1, 10), amount(1, 10))
		wait(150 * time.Millisecond)
		g.End()
		p.Error(errors.Join(errors.New("first"), errors.New("second")), "do this", 12)
		shows(t, screen, "before", "warning: look out\uFFFD\uFFFD[A", retry, "still there?",
			"sealift: error: first", "sealift: error: second", "sealift: hint: do this")
		clean(t, screen)
	})
}

// However small the terminal is, no line is broken, and nothing is left behind.
func TestBarsOfAnySize(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{1, 5}, {2, 24}, {10, 24}, {23, 3}, {24, 2}, {39, 24}, {40, 24}, {61, 6}, {79, 4}, {80, 10}, {81, 24}, {300, 100}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, screen := onTerminal(size[0], size[1])
				g := p.Progress("copying")
				g.Begin(amount(1000, 1e12), amount(1000, 1e12))
				var blobs []ocispec.Descriptor
				for n := range 40 { // of which nine at a time
					blobs = append(blobs, piece(ocispec.MediaTypeImageLayer, 1e9+int64(n)))
					g.Start(blobs[n])
					if n >= 9 {
						g.Stored(blobs[n-9])
					}
					g.Advance(blobs[n], 123_456_789)
					wait(130 * time.Millisecond)
					lines := screen.Lines()
					if want := 1 + max(min(8, n+1, size[1]-2), 0); len(lines) > want || n > 10 && len(lines) < want-2 {
						t.Errorf("%d lines with %d blobs under way, want %d:\n%s", len(lines), min(n+1, 9), want, strings.Join(lines, "\n"))
					}
					for _, l := range lines {
						if w := len([]rune(l)); w >= size[0] && size[0] > 1 {
							t.Errorf("%d columns: %q", w, l)
						}
					}
				}
				g.End()
				shows(t, screen)
				clean(t, screen)
			})
		})
	}
}

// A terminal may be resized at any time. Messages stay whole.
func TestBarsResize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, screen := onTerminal(100, 24)
		g := p.Progress("copying")
		g.Begin(amount(4, 4000), amount(4, 4000))
		layer := piece(ocispec.MediaTypeImageLayer, 1000)
		g.Start(layer)
		var want []string
		for n, width := range []int{100, 30, 200, 15, 14, 80, 0} {
			screen.Resize(max(width, 12), 24)
			p.Warn("%d", n)
			want = append(want, fmt.Sprintf("warning: %d", n))
			wait(time.Second)
			if lines := screen.Lines(); !slices.Equal(lines[:len(lines)-2], want) || !strings.HasPrefix(lines[len(lines)-1], "copying") {
				t.Errorf("the screen at %d columns:\n%s", width, strings.Join(lines, "\n"))
			}
		}
		g.End()
		shows(t, screen, want...)
		clean(t, screen)
	})
}

// Where the terminal does not say how large it is, it is taken for one of 80 columns.
func TestBarsWithoutSize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		screen := uitest.NewScreen(80, 24)
		p := ui.New(ui.Options{Err: screen, Terminal: true, Size: func() (int, int) { return 0, 0 }})
		g := p.Progress("checking")
		g.Begin(amount(2, 1000), amount(1, 500))
		wait(time.Second)
		shows(t, screen, "checking 1 of 2 blobs  [===>    ] 500 B of 1.0 kB, 50%, 0 B/s")
		g.End()
		shows(t, screen)
	})
}

// Nothing of many messages is lost or torn while many blobs come and go, and all
// goroutines end: the bubble waits for them.
func TestBarsConcurrent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, screen := onTerminal(80, 24)
		var want []string
		for round := range 3 {
			g := p.Progress("copying")
			g.Begin(amount(320, 320_000), amount(320, 320_000))
			var workers sync.WaitGroup
			for w := range 8 {
				workers.Go(func() { work(p, g, round, w) })
			}
			workers.Wait()
			g.End()
			clean(t, screen)
			for w := range 8 {
				for n := range 40 {
					want = append(want, fmt.Sprintf("warning: %d %d %d", round, w, n))
				}
			}
		}
		got := screen.Lines()
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
	})
}

// work copies forty blobs and has something to say about each.
func work(p *ui.Printer, g mirror.Progress, round, w int) {
	for n := range 40 {
		blob := ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint(round, w, n)), Size: 1000}
		g.Start(blob)
		for range 10 {
			g.Advance(blob, 100)
			time.Sleep(time.Duration(w+1) * 7 * time.Millisecond)
		}
		p.Warn("%d %d %d", round, w, n)
		g.Stored(blob)
	}
}

// lost is a terminal whose window is closed after some writes.
type lost struct{ writes int }

func (l *lost) Write(p []byte) (int, error) {
	if l.writes--; l.writes < 0 {
		return 0, errors.New("input/output error")
	}
	return len(p), nil
}

// A terminal that is lost ends neither the work nor the program.
func TestBarsLost(t *testing.T) {
	t.Parallel()
	for writes := range 8 {
		t.Run(fmt.Sprint(writes), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := ui.New(ui.Options{Err: &lost{writes}, Terminal: true})
				g := p.Progress("copying")
				g.Begin(amount(10, 1000), amount(10, 1000))
				for n := range int64(10) {
					blob := piece(ocispec.MediaTypeImageLayer, n)
					g.Start(blob)
					wait(110 * time.Millisecond)
					p.Warn("number %d", n)
					g.Stored(blob)
				}
				g.End()
				p.Error(errors.New("over"), "", 1)
			})
		})
	}
}
