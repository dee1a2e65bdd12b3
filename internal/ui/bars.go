package ui

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync/atomic"

	"github.com/vbauerster/cupwriter"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	maxLines = 8  // for blobs under way, the oldest of them
	maxBar   = 30 // columns
	minBar   = 5
)

// Columns do not move while the numbers in them change.
const (
	nameWidth    = len("signature 0123456789ab ")
	amountsWidth = len(" 999 MB of 999 MB, 100%, 999 MB/s, 59m59s left")
)

// bars are what stands on a terminal while something is in progress: a line for each
// blob under way and below them one for the whole: what it is, a bar, how much of it.
// On a narrow terminal the bars go first and then the ends of lines. When a terminal
// becomes narrower, some break the lines that stand there; pieces of those are left
// above the bars, for who erased them might erase what is not ours.
//
// Beside Write, everything is called by the one goroutine that shows, or after it.
type bars struct {
	progress  *progress
	frame     atomic.Pointer[frame]
	refresh   chan any      // has the container draw
	gone      chan any      // closed when the container draws no more
	container *mpb.Progress // nil until something is drawn
	whole     *mpb.Bar
	lines     map[*blob]*mpb.Bar
}

// frame is what is drawn at once.
type frame struct {
	standing
	left int // columns of the names
	bar  int // columns of the bars, 0 for none
}

func (b *bars) newFrame(s standing) *frame {
	all := standing{blobs: s.of, of: s.of}
	f := &frame{standing: s, left: max(len(b.progress.verb+" "+all.counts()+" "), nameWidth)}
	width, _ := b.progress.printer.size()
	if f.bar = min(width-1-f.left-amountsWidth, maxBar); f.bar < minBar {
		f.bar = 0
	}
	return f
}

func newBars(g *progress) *bars {
	return &bars{progress: g, refresh: make(chan any), gone: make(chan any), lines: map[*blob]*mpb.Bar{}}
}

// draw shows s and what is under way.
func (b *bars) draw(s standing) {
	b.frame.Store(b.newFrame(s))
	if b.container == nil {
		b.open()
	}
	b.arrange()
	b.redraw()
}

// open puts the line for the whole on the terminal, and has all messages written
// above.
func (b *bars) open() {
	p := b.progress.printer
	p.mu.Lock()
	defer p.mu.Unlock()
	b.container = mpb.New(
		mpb.WithConsoleWriter(console{cupwriter.New(p.opts.Err, true), p}),
		mpb.WithManualRefresh(b.refresh), mpb.WithShutdownNotifier(b.gone))
	p.above = b
	b.whole = b.add(math.MaxInt,
		func(f *frame) string { return b.progress.verb + " " + f.counts() },
		func(f *frame) string { return f.amounts() },
		func(f *frame) float64 { return f.done() })
}

// arrange gives the oldest blobs under way a line each. A line that is over stands
// once more, complete; what comes after it has to wait for the room.
func (b *bars) arrange() {
	_, height := b.progress.printer.size()
	oldest := slices.SortedFunc(maps.Values(*b.progress.underway.Load()), func(x, y *blob) int { return cmp.Compare(x.number, y.number) })
	room := max(min(maxLines, height-2), 0)
	oldest = oldest[:min(room, len(oldest))]
	room -= len(b.lines)
	for o, bar := range b.lines {
		if !slices.Contains(oldest, o) {
			drop(bar)
			delete(b.lines, o)
		}
	}
	for _, o := range oldest {
		if b.lines[o] == nil && room > 0 {
			room--
			name := kind(o.MediaType) + " " + printable(shortDigest(o.Descriptor))
			b.lines[o] = b.add(o.number,
				func(*frame) string { return name },
				func(*frame) string { return Bytes(o.clamped()) + " of " + Bytes(o.Size) },
				func(*frame) float64 { return float64(o.clamped()) / float64(max(o.Size, 1)) })
		}
	}
}

func (o *blob) clamped() int64 { return min(max(o.done.Load(), 0), o.Size) }

// add makes a line; that of the greatest place is the lowest. It is nil when the
// terminal is lost.
func (b *bars) add(place int, name, amounts func(*frame) string, done func(*frame) float64) *mpb.Bar {
	style := mpb.BarStyle().Padding(" ").Build()
	text := func(format func(*frame) string) decor.Decorator {
		return decor.Any(func(decor.Statistics) string { return format(b.frame.Load()) })
	}
	// Without a total of its own it never believes itself complete, for what is
	// done may be taken back.
	bar, _ := b.container.Add(0, mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
		f := b.frame.Load()
		if f.bar == 0 {
			return nil
		}
		stat.Current, stat.Total, stat.RequestedWidth = int64(done(f)*1e6), 1e6, f.bar
		return style.Fill(w, stat)
	}), mpb.BarPriority(place), mpb.BarFillerTrim(),
		mpb.PrependDecorators(text(func(f *frame) string { return fmt.Sprintf("%-*s", f.left, name(f)) })),
		mpb.AppendDecorators(text(func(f *frame) string { return " " + amounts(f) })))
	return bar
}

func drop(bar *mpb.Bar) {
	if bar != nil {
		bar.Abort(true)
	}
}

// redraw has the container draw, unless the terminal is lost.
func (b *bars) redraw() {
	select {
	case b.refresh <- nil:
	case <-b.gone:
	}
}

// Write writes whole lines above the bars.
func (b *bars) Write(lines []byte) (int, error) {
	n, err := b.container.Write(lines)
	if err != nil {
		return b.progress.printer.opts.Err.Write(lines)
	}
	b.redraw()
	return n, nil
}

// close takes the bars away and leaves the cursor where the first one stood. Nothing
// else is written until then.
func (b *bars) close() {
	p := b.progress.printer
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.container == nil {
		return
	}
	p.above = nil
	for _, bar := range b.lines {
		drop(bar)
	}
	drop(b.whole)
	b.container.Wait()
}

// console is the terminal as the bars see it.
type console struct {
	*cupwriter.Writer
	printer *Printer
}

// IsTerminal is known to the printer.
func (console) IsTerminal() bool { return true }

// GetTermSize leaves the last column free, where terminals differ about the end of a
// line, and knows no height: arrange keeps to it.
func (c console) GetTermSize() (width, height int, err error) {
	width, _ = c.printer.size()
	return max(width-1, 1), math.MaxInt, nil
}
