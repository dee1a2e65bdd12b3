package layout

import (
	"context"
	"errors"
	"io"
	"sync"
)

const (
	copyBufferBytes = 1 << 20
	maxEmptyReads   = 100 // in a row, before a reader counts as stuck
)

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferBytes]byte) }}

// copyBytes copies exactly size bytes and writes each as soon as it is read, so
// that a killed process on a slow line loses nothing that arrived.
func copyBytes(ctx context.Context, w io.Writer, r io.Reader, size int64) (int64, error) {
	buffer := copyBuffers.Get().(*[copyBufferBytes]byte)
	defer copyBuffers.Put(buffer)
	var done int64
	for empty := 0; done < size; {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		n, err := r.Read(buffer[:min(copyBufferBytes, size-done)])
		if n > 0 {
			empty = 0
			if _, err := w.Write(buffer[:n]); err != nil {
				return done, err
			}
			done += int64(n)
		} else if empty++; empty > maxEmptyReads {
			return done, io.ErrNoProgress
		}
		switch {
		case done == size:
			return done, nil // whatever came with the last byte shows up again
		case errors.Is(err, io.EOF):
			return done, io.ErrUnexpectedEOF
		case err != nil:
			return done, err
		}
	}
	return done, nil
}
