package mirror

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// maxChunkBytes bounds one read, so that copies take turns.
const maxChunkBytes = 256 << 10

// pace bounds how fast content is read, over all copies together. A nil pace does
// not.
type pace struct {
	limiter *rate.Limiter
	// chunk is what is read at once: few bytes at a slow pace, which then come
	// evenly, and not all of a second at its beginning.
	chunk int
}

// newPace returns a pace of bytesPerSecond, nil for ≤ 0.
func newPace(bytesPerSecond int64) *pace {
	if bytesPerSecond <= 0 {
		return nil
	}
	// What is not used of a twentieth of a second is lost: enough for a timer that
	// is late, and too little to be seen as a burst.
	burst := int(max(1, min(bytesPerSecond/20, 1<<30)))
	limiter := rate.NewLimiter(rate.Limit(bytesPerSecond), burst)
	limiter.AllowN(time.Now(), burst) // begins without savings
	return &pace{limiter, min(burst, maxChunkBytes)}
}

// wait returns when n more bytes, which must be at most a chunk, are due. It fails
// only with ctx.
func (p *pace) wait(ctx context.Context, n int) error {
	if p == nil || n == 0 {
		return nil
	}
	return p.limiter.WaitN(ctx, n)
}
