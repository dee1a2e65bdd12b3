package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/content"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

// ReadBack reads what p has copied to the media once more, from the device and not
// from memory, and compares it with its digests; then it opens the media anew and
// looks for the roots. What was there and what no entry of index.json reached when the
// media was opened is read too: an interrupted copy has written it, and nobody has
// read it yet. Where a reading back was cut off or left out before, see [Media.Unread],
// all that is there is read. On Linux the page cache is dropped before a file is read; what
// a device keeps in a memory of its own is not in anybody's hands. Of blobs that are
// spread over volumes the segments here are compared with the digests they had when
// they were written. It fails with [DamageError] for what the device does not give
// back. progress may be nil.
func (m *Media) ReadBack(ctx context.Context, p *Plan, progress Progress) (Amount, error) {
	if progress == nil {
		progress = silent{}
	}
	read := m.fresh(ctx, p)
	if m.behind {
		read = append(read, m.others(ctx, p)...)
	}
	if err := ctx.Err(); err != nil {
		return Amount{}, context.Cause(ctx) // or something was not found to be there
	}
	var sum Amount
	for _, s := range read {
		sum.add(s.here())
	}
	v := &verification{src: uncached{m.w.Layout}, opts: VerifyOptions{
		Progress: progress,
		Absent:   func(ocispec.Descriptor) string { return "on another volume" },
	}}
	progress.Begin(sum, sum)
	defer progress.End()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers())
	for _, s := range read {
		g.Go(func() error { return v.blob(gctx, s.Descriptor, s.spread == nil && !s.Absent) })
	}
	if err := g.Wait(); err != nil {
		return Amount{}, fmt.Errorf("read back: %w", err)
	}
	if err := v.damage.found(); err != nil {
		return Amount{}, fmt.Errorf("read back: %w", err)
	}
	if err := m.findAgain(ctx, p); err != nil {
		return sum, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled, m.known, m.behind = m.w.Entries(), nil, false
	return sum, m.setUnread(ctx, false)
}

// Unread reports whether the media has something that was written and not read back: by
// this copy, or by one before that was cut off or did without.
func (m *Media) Unread() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unread
}

// setUnread notes on the media whether it has. The caller holds mu.
func (m *Media) setUnread(ctx context.Context, unread bool) error {
	if m.unread == unread || m.mended {
		return nil
	}
	if err := m.w.SetUnread(ctx, unread); err != nil {
		return err
	}
	m.unread = unread
	return nil
}

// announce is called ahead of writing desc. Where index.json leads to it already, it
// will not be new to whoever continues this copy.
func (m *Media) announce(ctx context.Context, desc ocispec.Descriptor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unread || m.mended || !m.settles(ctx, desc) {
		return ctx.Err()
	}
	return m.setUnread(ctx, true)
}

// settles reports whether desc is among what was there before. The caller holds mu.
func (m *Media) settles(ctx context.Context, desc ocispec.Descriptor) bool {
	if m.known == nil {
		known := map[digest.Digest]bool{}
		for d := range reached(ctx, m, m.settled) {
			known[d] = true
		}
		if ctx.Err() != nil {
			return false
		}
		m.known = known
	}
	return m.known[desc.Digest]
}

// fresh returns what p has copied, and what it found there that nothing settled
// reaches.
func (m *Media) fresh(ctx context.Context, p *Plan) (list []*Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range p.steps() {
		if s.Absent {
			continue
		}
		if s.Missing() || s.Stored && !m.settles(ctx, s.Descriptor) {
			list = append(list, s)
		}
	}
	return list
}

// others returns what the media has and p does not speak of. Whether something should
// be there and is not, its own plan has said.
func (m *Media) others(ctx context.Context, p *Plan) (list []*Step) {
	planned := map[digest.Digest]bool{}
	for s := range p.steps() {
		planned[s.Descriptor.Digest] = true
	}
	for id, d := range reached(ctx, m, m.w.Entries()) {
		if planned[id] {
			continue
		}
		if there, err := m.w.Exists(ctx, d); there || err != nil {
			list = append(list, &Step{Descriptor: d})
		} else if segments, err := m.w.Segments(ctx, d); len(segments) > 0 || err != nil {
			list = append(list, &Step{Descriptor: d, Absent: true})
		}
	}
	return list
}

// reached returns what roots lead to on src. What is below a manifest that cannot be
// read is not among it.
func reached(ctx context.Context, src content.Fetcher, roots []ocispec.Descriptor) map[digest.Digest]ocispec.Descriptor {
	seen := map[digest.Digest]ocispec.Descriptor{}
	for queue := slices.Clone(roots); len(queue) > 0; {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if _, again := seen[d.Digest]; again {
			continue
		}
		seen[d.Digest] = plain(d)
		if !artifact.IsManifest(d.MediaType) {
			continue
		}
		if m, _, err := artifact.FetchManifest(ctx, src, d); err == nil {
			queue = append(append(queue, m.Blobs...), m.Manifests...)
		}
	}
	return seen
}

// findAgain opens the media as its next reader will.
func (m *Media) findAgain(ctx context.Context, p *Plan) error {
	if err := m.w.CheckWritten(); err != nil {
		return err
	}
	l, err := layout.OpenUncached(m.w.Dir())
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	for _, r := range p.Roots {
		d, err := l.Resolve(ctx, rootName(r))
		if err == nil && d.Digest != r.Descriptor.Digest {
			err = errors.New("is " + d.Digest.String())
		}
		if err != nil {
			return fmt.Errorf("read back: %s: %w", rootName(r), err)
		}
	}
	return nil
}

func nothingAbsent(ocispec.Descriptor) string { return "" }

// uncached is a layout that is read from its device.
type uncached struct{ *layout.Layout }

func (u uncached) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return u.FetchUncached(ctx, desc)
}

func (u uncached) VerifySegments(ctx context.Context, desc ocispec.Descriptor, advance func(n int64)) error {
	return u.VerifySegmentsUncached(ctx, desc, advance)
}
