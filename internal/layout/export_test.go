package layout

import (
	"context"
	"os"
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
	w.limits.FileSystem = name
	return w.fileBytes(size)
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
