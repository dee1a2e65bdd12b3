package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// Bounds on lists, which a registry sends page by page for as long as it likes.
const (
	maxPages     = 1000
	maxEntries   = 50_000
	maxListBytes = 32 << 20
)

// Referrers lists the manifests that refer to desc, page by page. A list beyond
// all measure is errdef.ErrSizeExceedsLimit, and a registry that says that it has an
// API for referrers and that it has none is [ErrReferrers].
func (r *Repository) Referrers(ctx context.Context, desc ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	return list(ctx, "referrers of "+desc.Digest.String(), fn, func(ctx context.Context, fn func([]ocispec.Descriptor) error) error {
		return r.ways.list(ctx, desc, artifactType, fn)
	})
}

// Predecessors returns what [Repository.Referrers] lists.
func (r *Repository) Predecessors(ctx context.Context, desc ocispec.Descriptor) (all []ocispec.Descriptor, err error) {
	err = r.Referrers(ctx, desc, "", func(page []ocispec.Descriptor) error {
		all = append(all, page...)
		return nil
	})
	return all, err
}

// Tags lists the tags behind last, page by page. A list beyond all measure is
// errdef.ErrSizeExceedsLimit.
func (r *Repository) Tags(ctx context.Context, last string, fn func([]string) error) error {
	return list(ctx, "tags of "+r.Reference.Repository, fn, func(ctx context.Context, fn func([]string) error) error {
		return r.Repository.Tags(ctx, last, fn)
	})
}

// list bounds the entries and bytes that ask hands to fn; it bounds its pages
// itself.
func list[T any](ctx context.Context, what string, fn func([]T) error, ask func(context.Context, func([]T) error) error) error {
	left := new(atomic.Int64)
	left.Store(maxListBytes)
	entries := 0
	err := ask(context.WithValue(ctx, budget{}, left), func(page []T) error {
		if entries += len(page); entries > maxEntries {
			return fmt.Errorf("more than %d: %w", maxEntries, errdef.ErrSizeExceedsLimit)
		}
		return fn(page)
	})
	if errors.Is(err, errdef.ErrTooManyPages) {
		err = fmt.Errorf("more than %d pages: %w", maxPages, errdef.ErrSizeExceedsLimit)
	}
	if errors.Is(err, errdef.ErrSizeExceedsLimit) {
		return fmt.Errorf("list %s: %w", what, err)
	}
	return err
}

// budget is the key of the bytes that the answers of one list may still have.
type budget struct{}

// bounded is an answer that is a document. More than a manifest may have is not
// read.
type bounded struct {
	io.ReadCloser
	left int64
	list *atomic.Int64 // nil for what is not part of a list
}

func bound(ctx context.Context, body io.ReadCloser) io.ReadCloser {
	total, _ := ctx.Value(budget{}).(*atomic.Int64)
	return &bounded{body, artifact.MaxManifestBytes, total}
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("an answer of more than %d MiB: %w", artifact.MaxManifestBytes>>20, errdef.ErrSizeExceedsLimit)
	}
	if b.list != nil && b.list.Add(-int64(n)) < 0 {
		return 0, fmt.Errorf("answers of more than %d MiB: %w", maxListBytes>>20, errdef.ErrSizeExceedsLimit)
	}
	return n, err
}

// hasBody reports whether resp has a body to bound.
func hasBody(resp *http.Response) bool { return resp.Body != nil && resp.Body != http.NoBody }
