package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	// chunkBytes is the unit of reading. At least one chunk is held back until
	// the hash is known, so it must not be under 64 KiB.
	chunkBytes = 128 << 10

	// maxVerdicts bounds each of the two generations of remembered verdicts:
	// some megabytes for the blobs of a large library.
	maxVerdicts = 16 << 10
)

// errCorrupt reports content that is not what its digest names.
var errCorrupt = errors.New("content does not match its digest")

// clientError reports that a client stopped listening.
type clientError struct{ err error }

func (e *clientError) Error() string { return "write to client: " + e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }

// fileID tells one state of one file from any other, as far as the operating
// system can. The zero value means that there is no telling.
type fileID struct {
	device, inode  uint64
	size           int64
	mtime, changed int64 // nanoseconds
}

// blobKey is the subject of a verdict.
type blobKey struct {
	digest digest.Digest
	file   fileID
}

// known reports whether a verdict on the key stays true while the key does.
// Without an identity a verdict is only a reason to look before sending.
func (k blobKey) known() bool { return k.file != fileID{} }

type verdict int

const (
	unseen verdict = iota
	good
	bad
	unreadable // it says nothing of the content, but it is read before it is sent
)

// verifier remembers which files have been hashed, with what result, and keeps
// concurrent requests from hashing a file twice.
type verifier struct {
	slots     chan struct{} // limits the passes reading the media at once
	searching chan struct{} // one of which may be a search

	mu sync.Mutex
	// Two generations bound the memory: when recent is full it becomes older.
	recent, older map[blobKey]verdict
	passes        map[passKey]*pass
}

// passKey is what a pass is for.
type passKey struct {
	blobKey
	search bool // for another copy
}

// pass is one reading of a whole blob, or one search for a copy of it, shared by all
// requests waiting for it.
type pass struct {
	done    chan struct{}
	err     error // valid once done is closed
	waiters int   // guarded by verifier.mu
	cancel  context.CancelFunc
}

func newVerifier() *verifier {
	return &verifier{
		slots:     make(chan struct{}, runtime.GOMAXPROCS(0)),
		searching: make(chan struct{}, 1),
		recent:    make(map[blobKey]verdict),
		passes:    make(map[passKey]*pass),
	}
}

func (v *verifier) verdict(key blobKey) verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.verdictLocked(key)
}

func (v *verifier) verdictLocked(key blobKey) verdict {
	if found, ok := v.recent[key]; ok {
		return found
	}
	found, ok := v.older[key]
	if ok {
		v.recordLocked(key, found) // in use: keep it for another generation
	}
	return found
}

func (v *verifier) record(key blobKey, found verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.recordLocked(key, found)
}

func (v *verifier) recordLocked(key blobKey, found verdict) {
	if len(v.recent) >= maxVerdicts {
		v.older, v.recent = v.recent, make(map[blobKey]verdict)
	}
	v.recent[key] = found
}

// check returns nil once the blob is known to be good and errCorrupt if it is
// not. It starts a pass over the blob, or waits for the one under way; a pass
// ends early when nobody waits for it any more.
func (v *verifier) check(ctx context.Context, key blobKey, open func(context.Context) (io.ReadCloser, error)) error {
	v.mu.Lock()
	switch v.verdictLocked(key) {
	case good:
		v.mu.Unlock()
		return nil
	case bad:
		v.mu.Unlock()
		return errCorrupt
	}
	return v.shareLocked(ctx, passKey{key, false}, func(ctx context.Context) error { return v.run(ctx, key, open) })
}

// search returns nil once find has found another copy of a blob that is bad, which is
// no longer held against those that are not told from it. Like a check, it is shared
// by all who wait for it.
func (v *verifier) search(ctx context.Context, key blobKey, find func(context.Context) error) error {
	v.mu.Lock()
	return v.shareLocked(ctx, passKey{key, true}, func(ctx context.Context) error {
		release, err := acquire(ctx, v.searching, v.slots)
		if err != nil {
			return err
		}
		defer release()
		if err := find(ctx); err != nil || key.known() {
			return err
		}
		v.record(key, unseen)
		return nil
	})
}

// shareLocked begins a pass, or joins the one under way, and waits for its result. It
// is called with mu held, and gives it back.
func (v *verifier) shareLocked(ctx context.Context, key passKey, run func(context.Context) error) error {
	p := v.passes[key]
	if p == nil {
		// The pass outlives the request that began it if others wait for it.
		passCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &pass{done: make(chan struct{}), cancel: cancel}
		v.passes[key] = p
		go func() {
			defer close(p.done)
			v.finish(key, p, run(passCtx))
		}()
	}
	p.waiters++
	v.mu.Unlock()

	select {
	case <-p.done:
	case <-ctx.Done():
	}

	v.mu.Lock()
	p.waiters--
	last := p.waiters == 0
	if last && v.passes[key] == p {
		delete(v.passes, key) // whoever comes now begins anew
	}
	v.mu.Unlock()
	if last {
		p.cancel()
		<-p.done
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return p.err
}

// finish ends a pass. A verdict is kept before it is gone, for who comes now.
func (v *verifier) finish(key passKey, p *pass, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p.err = err
	if v.passes[key] == p {
		delete(v.passes, key)
	}
	switch {
	case key.search:
	case err == nil:
		v.recordLocked(key.blobKey, good)
	case errors.Is(err, errCorrupt):
		v.recordLocked(key.blobKey, bad)
	}
}

// acquire takes a place in each channel, in their order, until release.
func acquire(ctx context.Context, slots ...chan struct{}) (release func(), err error) {
	var held []chan struct{}
	release = func() {
		for _, slot := range held {
			<-slot
		}
	}
	for _, slot := range slots {
		select {
		case slot <- struct{}{}:
			held = append(held, slot)
		case <-ctx.Done():
			release()
			return nil, ctx.Err()
		}
	}
	return release, nil
}

func (v *verifier) run(ctx context.Context, key blobKey, open func(context.Context) (io.ReadCloser, error)) error {
	release, err := acquire(ctx, v.slots)
	if err != nil {
		return err
	}
	defer release()
	rc, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = rc.Close() }()
	before := identify(rc)
	_, err = hashAll(ctx, rc, key.digest)
	if err != nil && !errors.Is(err, errCorrupt) {
		return err
	}
	if before != key.file || identify(rc) != key.file {
		return fmt.Errorf("blob %s changed while it was read", key.digest)
	}
	return err
}

// hashAll reads r to its end and returns its size, or errCorrupt if it is not
// what d names.
func hashAll(ctx context.Context, r io.Reader, d digest.Digest) (int64, error) {
	hash := d.Verifier()
	buf := make([]byte, chunkBytes)
	var size int64
	for {
		n, err := r.Read(buf)
		_, _ = hash.Write(buf[:n]) // a hash never fails
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return size, fmt.Errorf("read blob %s: %w", d, err)
		}
		if err := ctx.Err(); err != nil {
			return size, err
		}
	}
	if !hash.Verified() {
		return size, fmt.Errorf("blob %s: %w", d, errCorrupt)
	}
	return size, nil
}

// chunks are the buffers of one copyVerifying.
var chunks = sync.Pool{New: func() any { return new([3][chunkBytes]byte) }}

// copyVerifying copies r to w while hashing it, and keeps back the end, between
// one and two chunks, until the hash is known. It returns errCorrupt if r is
// not what d names or has not the given size (< 0: any), and a clientError if w
// fails; sent reports whether any byte was written.
//
// Chunk k is hashed while chunk k-1 is written and chunk k+1 is read: hashing
// is the slowest of the three, and alone decides the speed.
func copyVerifying(w io.Writer, r io.Reader, d digest.Digest, size int64) (sent bool, err error) {
	ring := chunks.Get().(*[3][chunkBytes]byte)
	hash := d.Verifier()
	work, idle := make(chan []byte), make(chan struct{})
	go func() {
		defer close(idle)
		for b := range work {
			_, _ = hash.Write(b)
		}
	}()
	stop := sync.OnceFunc(func() { close(work); <-idle })
	defer chunks.Put(ring)
	defer stop() // before the buffers go to someone else

	var held []byte
	var total int64
	for k := 0; ; k++ {
		// work is unbuffered: that chunk k-2 was accepted means that chunk k-3,
		// the last user of this buffer, is hashed; and it was written then too.
		buf := ring[k%len(ring)][:]
		n, err := io.ReadFull(r, buf)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return sent, err
		}
		total += int64(n)
		if size >= 0 && total > size {
			return sent, fmt.Errorf("more than %d bytes: %w", size, errCorrupt)
		}
		work <- buf[:n]
		if err != nil {
			stop()
			if size >= 0 && total != size || !hash.Verified() {
				return sent, errCorrupt
			}
			return writeChunks(w, sent, held, buf[:n])
		}
		if sent, err = writeChunks(w, sent, held); err != nil {
			return sent, err
		}
		held = buf
	}
}

func writeChunks(w io.Writer, sent bool, chunks ...[]byte) (bool, error) {
	for _, chunk := range chunks {
		if len(chunk) == 0 {
			continue
		}
		sent = true
		if _, err := w.Write(chunk); err != nil {
			return sent, &clientError{err}
		}
	}
	return sent, nil
}
