package ui

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// How often progress is told: lines of a terminal are redrawn, plain lines and JSON
// lines must not fill a log. What is over sooner shows nothing.
const (
	redrawEvery = 100 * time.Millisecond
	eventEvery  = time.Second
	lineEvery   = 5 * time.Second
)

// Progress returns a mirror.Progress that shows verb and how far it has come: bars
// on a terminal, else a line now and then. A printer shows one at a time; the next
// begins when the one before has ended.
func (p *Printer) Progress(verb string) mirror.Progress {
	return &progress{printer: p, verb: verb}
}

// progress counts, which is all that those who work wait for, and leaves the
// showing to a goroutine of its own. A terminal that is held up holds up nobody.
type progress struct {
	printer *Printer
	verb    string
	total   mirror.Amount

	moved    atomic.Int64 // bytes since Begin
	adjusted atomic.Int64 // bytes that are done without having moved, those before Begin too
	blobs    atomic.Int64 // that are done

	mu       sync.Mutex // held to change underway
	started  int
	underway atomic.Pointer[blobs] // never changed, but replaced

	stop, stopped chan struct{}
	bars          *bars // on a terminal only
}

type blobs map[digest.Digest]*blob

// blob is one piece of content that is being copied or read.
type blob struct {
	ocispec.Descriptor
	number int // in the order of their start
	done   atomic.Int64
}

// Begin notes the size of the work and starts to show it.
func (g *progress) Begin(total, missing mirror.Amount) {
	g.total = total
	g.moved.Store(0)
	g.adjusted.Store(total.Bytes - missing.Bytes)
	g.blobs.Store(int64(total.Blobs - missing.Blobs))
	g.underway.Store(&blobs{})
	if g.printer.opts.Quiet {
		return
	}
	every, show := lineEvery, g.line
	switch {
	case g.printer.opts.Format == JSON:
		every, show = eventEvery, g.event
	case g.printer.opts.Terminal:
		g.bars = newBars(g)
		every, show = redrawEvery, g.bars.draw
	}
	g.stop, g.stopped = make(chan struct{}), make(chan struct{})
	go g.tell(every, show)
}

// tell shows how far it has come until it is stopped.
func (g *progress) tell(every time.Duration, show func(standing)) {
	defer close(g.stopped)
	var pace pace
	pace.rate(g.printer.opts.Now(), 0)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			show(g.standing(pace.rate(g.printer.opts.Now(), g.moved.Load())))
		case <-g.stop:
			return
		}
	}
}

// End stops the showing, waits for it, and leaves a terminal as it was found.
func (g *progress) End() {
	if g.stop == nil {
		return
	}
	close(g.stop)
	<-g.stopped
	g.stop = nil
	if g.bars != nil {
		g.bars.close()
	}
}

// Advance counts bytes that moved.
func (g *progress) Advance(desc ocispec.Descriptor, n int64) {
	g.moved.Add(n)
	if b := (*g.underway.Load())[desc.Digest]; b != nil {
		b.done.Add(n)
	}
}

// Adjust counts bytes that did not move.
func (g *progress) Adjust(desc ocispec.Descriptor, n int64) {
	g.adjusted.Add(n)
	if b := (*g.underway.Load())[desc.Digest]; b != nil {
		b.done.Add(n)
	}
}

// Start shows desc among what is under way.
func (g *progress) Start(desc ocispec.Descriptor) {
	g.change(func(m blobs) {
		g.started++
		m[desc.Digest] = &blob{Descriptor: desc, number: g.started}
	})
	g.blobEvent(desc, blobEvent{State: "started"})
}

// Retrying tells of a failure that may pass.
func (g *progress) Retrying(desc ocispec.Descriptor, err error, wait time.Duration) {
	if g.printer.opts.Format == JSON {
		g.blobEvent(desc, blobEvent{State: "retrying", Error: err.Error(), Wait: wait.Seconds()})
		return
	}
	g.printer.Message("%s: %v; trying again in %s", shortDigest(desc), err, wait.Round(100*time.Millisecond))
}

// Stored counts desc as done.
func (g *progress) Stored(desc ocispec.Descriptor) {
	g.blobs.Add(1)
	g.change(func(m blobs) { delete(m, desc.Digest) })
	g.blobEvent(desc, blobEvent{State: "stored"})
}

// Failed shows desc no longer. What is wrong with it is told in the end.
func (g *progress) Failed(desc ocispec.Descriptor, err error) {
	g.change(func(m blobs) { delete(m, desc.Digest) })
	g.blobEvent(desc, blobEvent{State: "failed", Error: err.Error()})
}

// Absent counts desc as done: there is nothing to be read of it.
func (g *progress) Absent(desc ocispec.Descriptor, reason string) {
	g.blobs.Add(1)
	g.change(func(m blobs) { delete(m, desc.Digest) })
	g.blobEvent(desc, blobEvent{State: "absent", Reason: reason})
}

// change replaces what is under way, a handful, so that Advance needs no lock.
func (g *progress) change(f func(blobs)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := maps.Clone(*g.underway.Load())
	f(m)
	g.underway.Store(&m)
}

// standing is how far a progress has come.
type standing struct {
	bytes, total int64
	blobs, of    int64
	rate         int64         // bytes a second; < 0 while it is too early to tell
	left         time.Duration // < 0 when nobody can tell
}

func (g *progress) standing(rate float64) standing {
	s := standing{total: g.total.Bytes, blobs: g.blobs.Load(), of: int64(g.total.Blobs), rate: int64(rate), left: -1}
	s.bytes = min(max(g.moved.Load()+g.adjusted.Load(), 0), s.total)
	if seconds := float64(s.total-s.bytes) / rate; rate >= 1 && seconds < maxLeft.Seconds() {
		s.left = time.Duration(seconds * float64(time.Second)).Round(time.Second)
	}
	return s
}

// maxLeft is the longest time left that is worth telling.
const maxLeft = 100 * 24 * time.Hour

// amounts tells of bytes and times, such as "1.2 GB of 4.7 GB, 26%, 85 MB/s, 41s left".
func (s standing) amounts() string {
	text := fmt.Sprintf("%s of %s, %d%%", Bytes(s.bytes), Bytes(s.total), int64(s.done()*100))
	if s.rate >= 0 {
		text += ", " + Bytes(s.rate) + "/s"
	}
	if s.left >= 0 {
		text += ", " + span(s.left) + " left"
	}
	return text
}

// done is the part that is done, from 0 to 1.
func (s standing) done() float64 {
	if s.total <= 0 {
		return 1
	}
	return float64(s.bytes) / float64(s.total)
}

func (s standing) counts() string { return fmt.Sprintf("%d of %d blobs", s.blobs, s.of) }

// span writes a time for people: two units are precise enough.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// line writes a plain line.
func (g *progress) line(s standing) {
	g.printer.mu.Lock()
	defer g.printer.mu.Unlock()
	_, _ = fmt.Fprintf(g.printer.opts.Err, "%s %s, %s\n", g.verb, s.amounts(), s.counts())
}

// progressEvent is a JSON line. Fields may be added, never changed.
type progressEvent struct {
	Type       string `json:"type"`
	Verb       string `json:"verb"`
	Bytes      int64  `json:"bytes"`
	Total      int64  `json:"total"`
	Rate       int64  `json:"rate"`
	ETA        *int64 `json:"eta,omitempty"` // seconds
	Blobs      int64  `json:"blobs"`
	TotalBlobs int64  `json:"totalBlobs"`
}

func (g *progress) event(s standing) {
	e := progressEvent{Type: "progress", Verb: g.verb, Bytes: s.bytes, Total: s.total, Rate: max(s.rate, 0), Blobs: s.blobs, TotalBlobs: s.of}
	if s.left >= 0 {
		e.ETA = new(int64(s.left / time.Second))
	}
	g.printer.mu.Lock()
	defer g.printer.mu.Unlock()
	g.printer.event(e)
}

// blobEvent is a JSON line. Fields may be added, never changed.
type blobEvent struct {
	Type      string        `json:"type"`
	Verb      string        `json:"verb"`
	Digest    digest.Digest `json:"digest"`
	Size      int64         `json:"size"`
	MediaType string        `json:"mediaType"`
	State     string        `json:"state"`
	Error     string        `json:"error,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Wait      float64       `json:"wait,omitempty"` // seconds
}

// blobEvent tells programs of desc; for people there are the bars.
func (g *progress) blobEvent(desc ocispec.Descriptor, e blobEvent) {
	if g.printer.opts.Format != JSON || g.printer.opts.Quiet {
		return
	}
	e.Type, e.Verb, e.Digest, e.Size, e.MediaType = "blob", g.verb, desc.Digest, desc.Size, desc.MediaType
	g.printer.mu.Lock()
	defer g.printer.mu.Unlock()
	g.printer.event(e)
}

func shortDigest(desc ocispec.Descriptor) string {
	hex := desc.Digest.Encoded()
	return hex[:min(12, len(hex))]
}

// kind says in a word what content of a media type is.
func kind(mediaType string) string {
	switch {
	case artifact.IsIndex(mediaType):
		return "index"
	case artifact.IsManifest(mediaType):
		return "manifest"
	case strings.Contains(mediaType, "config"), strings.Contains(mediaType, "container.image"):
		return "config"
	case strings.Contains(mediaType, "layer"), strings.Contains(mediaType, "rootfs"):
		return "layer"
	case strings.Contains(mediaType, "simplesigning"), strings.Contains(mediaType, "sigstore.bundle"):
		return "signature"
	}
	return "blob"
}
