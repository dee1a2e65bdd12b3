package ui

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/mirror"
)

// How often progress is told: a terminal's line is redrawn, plain lines and JSON
// lines must not fill a log.
const (
	redrawEvery = 100 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// Progress returns a mirror.Progress that shows verb and how far it has come.
func (p *Printer) Progress(verb string) mirror.Progress {
	return &progress{printer: p, verb: verb}
}

type progress struct {
	printer *Printer
	verb    string
	started time.Time
	total   int64
	before  int64 // bytes that were there when it began
	done    atomic.Int64
	told    atomic.Int64 // time of the last output, in nanoseconds
}

// Begin notes the size of the work.
func (g *progress) Begin(total, missing mirror.Amount) {
	g.total, g.before = total.Bytes, total.Bytes-missing.Bytes
	g.started = g.printer.opts.Now()
	g.told.Store(g.started.UnixNano())
}

// Advance counts bytes and shows them now and then.
func (g *progress) Advance(_ ocispec.Descriptor, n int64) {
	done := g.done.Add(n)
	if g.printer.opts.Quiet {
		return
	}
	every := lineEvery
	if g.printer.opts.Terminal && g.printer.opts.Format == Text {
		every = redrawEvery
	}
	now, last := g.printer.opts.Now(), g.told.Load()
	if now.UnixNano()-last < int64(every) || !g.told.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	g.show(done, now)
}

func (g *progress) show(done int64, now time.Time) {
	p := g.printer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Format == JSON {
		p.event(struct {
			Type  string `json:"type"`
			Verb  string `json:"verb"`
			Bytes int64  `json:"bytes"`
			Total int64  `json:"total"`
		}{"progress", g.verb, g.before + done, g.total})
		return
	}
	line := fmt.Sprintf("%s %s of %s", g.verb, Bytes(g.before+done), Bytes(g.total))
	if seconds := now.Sub(g.started).Seconds(); seconds > 0.5 && done > 0 {
		rate := float64(done) / seconds
		left := time.Duration(float64(g.total-g.before-done) / rate * float64(time.Second))
		line += fmt.Sprintf(", %s/s, %s left", Bytes(int64(rate)), max(left, 0).Round(time.Second))
	}
	if p.opts.Terminal {
		p.redraw(line)
	} else {
		_, _ = fmt.Fprintln(p.opts.Err, line)
	}
}

// Adjust counts bytes that did not move.
func (g *progress) Adjust(_ ocispec.Descriptor, n int64) { g.done.Add(n) }

// Start, Stored, Failed and End are not shown: bytes tell more than counts.
func (g *progress) Start(ocispec.Descriptor)         {}
func (g *progress) Stored(ocispec.Descriptor)        {}
func (g *progress) Failed(ocispec.Descriptor, error) {}
func (g *progress) End()                             {}

// Retrying tells of a failure that may pass.
func (g *progress) Retrying(desc ocispec.Descriptor, err error, wait time.Duration) {
	g.printer.Message("%s: %v; trying again in %s", shortDigest(desc), err, wait)
}

func shortDigest(desc ocispec.Descriptor) string {
	hex := desc.Digest.Encoded()
	return hex[:min(12, len(hex))]
}

// redraw replaces the progress line.
func (p *Printer) redraw(line string) {
	pad := max(0, p.line-len(line))
	_, _ = fmt.Fprint(p.opts.Err, "\r"+line+strings.Repeat(" ", pad))
	p.line = len(line)
}

// clear removes the progress line before anything else is written.
func (p *Printer) clear() {
	if p.line > 0 {
		_, _ = fmt.Fprint(p.opts.Err, "\r"+strings.Repeat(" ", p.line)+"\r")
		p.line = 0
	}
}
