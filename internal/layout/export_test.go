package layout

import (
	"context"
	"os"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Internals the tests of package layout_test look at.
var (
	ParseIndex   = parseIndex
	FormatIndex  = formatIndex
	ParseSlot    = parseSlot
	SplitName    = splitName
	LocalName    = localName
	ParseSegment = parseSegment
	SegmentName  = segmentName
)

// SlotIndex parses a slot and formats its index again.
func SlotIndex(raw []byte) ([]byte, error) {
	_, index, err := parseSlot(raw)
	if err != nil {
		return nil, err
	}
	return formatIndex(index)
}

// Known returns the limits of a file system of which only the name is known.
func Known(name string) Limits { return Limits{FileSystem: name}.known() }

// FileBytes is what a writer finds on a file system that calls itself name, when
// it is about to write a blob.
func FileBytes(w *Writer, name string, size int64) (int64, error) {
	w.space.FileSystem = name
	return w.fileBytes(size)
}

// Weak makes a writer work as on FAT.
func Weak(options WriterOptions) WriterOptions {
	options.weak = true
	return options
}

// Change is a step a writer is about to take.
type Change struct {
	Op, Name, To string
	File         *os.File
	Data         []byte
}

// ErrDone says that the test took a step itself.
var ErrDone = errDone

// OpenWriterBefore opens a writer that calls before ahead of each step.
func OpenWriterBefore(ctx context.Context, dir string, options WriterOptions, before func(Change) error) (*Writer, error) {
	return openWriter(ctx, dir, options, func(c change) error {
		return before(Change{Op: c.op, Name: c.name, To: c.to, File: c.file, Data: c.data})
	})
}

// SetGraphLimits changes what may be read of a layout's manifests.
func SetGraphLimits(l *Layout, manifests, links int, bytes int64) {
	l.limits = graphLimits{manifests: manifests, links: links, bytes: bytes}
}

// ManifestLinks parses a manifest and returns what it leads to.
func ManifestLinks(raw []byte) (children, blobs int, err error) {
	n, err := parseManifest(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex}, raw)
	if err != nil {
		return 0, 0, err
	}
	return len(n.children), len(n.blobs), nil
}

// Holder parses who has a lock and formats it again.
func Holder(text string) string { return parseHolder(text).String() }

// SettleWithin decides contested names anew with a limit on the layers compared.
func (l *Layout) SettleWithin(ctx context.Context, limit int) error {
	g, err := l.graph(ctx)
	if err != nil {
		return err
	}
	clear(g.settled)
	g.forks = nil
	return g.settle(ctx, l, limit)
}

// CountReading has a layout count what it reads in search of sound copies.
func CountReading(l *Layout, n *atomic.Int64) { l.reading = func(read int64) { n.Add(read) } }
