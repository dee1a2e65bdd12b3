package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/artifact"
)

const defaultMaxFetches = 6

// typeArtifactManifest is a manifest of release candidates of image-spec 1.1, which
// oras-go still knows as one.
const typeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

// Fetch opens the content desc names. The caller closes the reader and verifies
// the content. Opening a blob waits while as many of the registry are open as the
// client allows.
func (r *Repository) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if artifact.IsManifest(desc.MediaType) || desc.MediaType == typeArtifactManifest {
		return r.Repository.Fetch(ctx, desc)
	}
	return r.FetchFrom(ctx, desc, 0)
}

// FetchFrom opens the blob desc names from offset on, by one request with a
// range. A registry that does not know ranges, or that has others of its own, is
// asked for the whole, of which the beginning is thrown away with the first Read;
// where it breaks off there, that is io.ErrUnexpectedEOF. The caller closes the
// reader and verifies the blob.
func (r *Repository) FetchFrom(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset > 0 && offset >= desc.Size {
		return http.NoBody, nil
	}
	release, err := r.slots.take(ctx)
	if err != nil {
		return nil, err
	}
	body, err := r.open(ctx, desc, offset)
	if err != nil {
		release()
		return nil, err
	}
	return &fetched{body, release}, nil
}

// open makes the requests of FetchFrom.
func (r *Repository) open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset > 0 {
		resp, err := r.get(ctx, desc, offset)
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusPartialContent:
			if isRange(resp, desc, offset) {
				return resp.Body, nil
			}
		case http.StatusRequestedRangeNotSatisfiable:
		default:
			return whole(resp, desc, offset)
		}
		// Another range, or the word that there is none, only says that this
		// registry has no ranges.
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
	}
	resp, err := r.get(ctx, desc, 0)
	if err != nil {
		return nil, err
	}
	return whole(resp, desc, offset)
}

// isRange reports whether an answer is the blob from offset on.
func isRange(resp *http.Response, desc ocispec.Descriptor, offset int64) bool {
	got := resp.Header.Get("Content-Range")
	rest := fmt.Sprintf("bytes %d-%d/", offset, desc.Size-1)
	return got == rest+"*" || got == fmt.Sprint(rest, desc.Size)
}

// whole returns the blob from offset on out of an answer that is all of it.
func whole(resp *http.Response, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	var err error
	switch resp.StatusCode {
	case http.StatusOK:
		if err = checkWhole(resp, desc); err == nil {
			return &tail{resp.Body, offset}, nil
		}
	case http.StatusPartialContent:
		err = fmt.Errorf("%s: asked for the whole blob, got %q", desc.Digest, resp.Header.Get("Content-Range"))
	case http.StatusNotFound:
		err = fmt.Errorf("%s: %w", desc.Digest, errdef.ErrNotFound)
	default:
		err = &errcode.ErrorResponse{Method: http.MethodGet, URL: resp.Request.URL, StatusCode: resp.StatusCode}
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// checkWhole compares what an answer says of a blob with its descriptor.
func checkWhole(resp *http.Response, desc ocispec.Descriptor) error {
	if n := resp.ContentLength; n >= 0 && n != desc.Size {
		return fmt.Errorf("%s: the registry has %d bytes of it, want %d", desc.Digest, n, desc.Size)
	}
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && digest.Digest(got) != desc.Digest {
		return fmt.Errorf("%s: the registry answers with content %q", desc.Digest, got)
	}
	return nil
}

// get asks for a blob, from offset on.
func (r *Repository) get(ctx context.Context, desc ocispec.Descriptor, offset int64) (*http.Response, error) {
	ref := r.Reference
	ref.Reference = desc.Digest.String()
	ctx = inBulk(auth.AppendRepositoryScope(ctx, ref, auth.ActionPull))
	scheme := "https"
	if r.PlainHTTP {
		scheme = "http"
	}
	blob := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, ref.Host(), ref.Repository, desc.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, blob, nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	return r.client.Do(req)
}

// fetched is a blob that gives its place back at its end.
type fetched struct {
	io.ReadCloser
	release func()
}

func (f *fetched) Read(b []byte) (int, error) {
	n, err := f.ReadCloser.Read(b)
	if err != nil {
		f.release()
	}
	return n, err
}

func (f *fetched) Close() error {
	defer f.release()
	return f.ReadCloser.Close()
}

// tail is content without its first bytes.
type tail struct {
	io.ReadCloser
	skip int64
}

// Read skips what is to be skipped first: reading that breaks there is tried again
// as reading is, where opening would not be.
func (t *tail) Read(b []byte) (int, error) {
	if t.skip > 0 {
		n, err := io.CopyN(io.Discard, t.ReadCloser, t.skip)
		t.skip -= n
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
	}
	return t.ReadCloser.Read(b)
}

// slots bounds the blobs of one registry that are open at once. Nothing else waits
// for it, neither questions nor tokens nor uploads: a copy within a registry holds
// a blob open while it uploads it.
type slots chan struct{}

// take waits for a slot; release may be called twice.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return sync.OnceFunc(func() { <-s }), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// isBlob reports whether req asks for a blob's content; its path ends with
// blobs/DIGEST.
func isBlob(req *http.Request) bool {
	parts := strings.Split(req.URL.Path, "/")
	return req.Method == http.MethodGet && len(parts) > 2 && parts[len(parts)-2] == "blobs"
}
