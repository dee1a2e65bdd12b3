package mirror

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/internal/remote"
)

const (
	// headwayBytes make a try one that got somewhere: a long blob on a bad line
	// breaks often, and a source that lets go after each byte must not be followed
	// for ever.
	headwayBytes = 1 << 20
	firstWait    = 500 * time.Millisecond
	waitFactor   = 3
)

// tries counts how often one piece of content was tried in a row to no avail.
type tries struct {
	desc     ocispec.Descriptor
	limit    int
	progress Progress

	mu    sync.Mutex
	lost  int   // tries in a row without headway
	far   int64 // the farthest offset reached by any try
	mark  int64 // far at the last headway
	wrong bool  // once it was not what its digest says
}

// reached notes that the content was read up to offset. What is read again after
// a try that began anew is no headway.
func (t *tries) reached(offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.far = max(t.far, offset)
}

// again decides whether another try may help after err, says so and waits for its
// time. begun says that content was moved.
func (t *tries) again(ctx context.Context, err error, begun bool) bool {
	wait, ok := t.next(err, begun)
	if !ok || ctx.Err() != nil {
		return false
	}
	t.progress.Retrying(t.desc, err, wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (t *tries) next(err error, begun bool) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.far-t.mark >= headwayBytes {
		t.lost, t.mark = 0, t.far
	}
	if t.lost++; t.lost >= t.limit {
		return 0, false
	}
	switch {
	case isWrong(err):
		// What is wrong may have been put together from two servers, or damaged on
		// the way; the same again is the source's own.
		if t.wrong {
			return 0, false
		}
		t.wrong = true
	case !mayPass(err, begun):
		return 0, false
	}
	wait = firstWait
	for range t.lost - 1 {
		wait *= waitFactor
	}
	return wait + rand.N(wait/2) - wait/4, true // so that copies that broke together do not come back so
}

// isWrong reports whether err says that content is not what its digest says.
func isWrong(err error) bool {
	return errors.Is(err, content.ErrMismatchedDigest) || errors.Is(err, content.ErrTrailingData)
}

// mayPass reports whether trying again may help: connections that broke and
// registries that are busy, but not a full disk, a missing blob or a wrong
// digest. begun says that content was moved. Before that, a busy registry and a
// timeout are the transport's to try again, which it has done; only a request
// whose body is half sent it cannot repeat.
func mayPass(err error, begun bool) bool {
	if !begun && (errors.As(err, new(*errcode.ErrorResponse)) || remote.IsTimeout(err)) {
		return false
	}
	// What began to arrive can arrive, whatever broke it off.
	if side := new(CopyError); errors.As(err, &side) && side.Side == "source" && side.Op == "read" {
		return true
	}
	return remote.IsTransient(err)
}
