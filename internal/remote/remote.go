// Package remote opens repositories of OCI registries
// (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) with
// the credentials the person already has, retrying what passes.
//
// [NewClient] is made once for a command; [Client.Repository] opens one
// repository without touching the network. The protocol itself is oras-go's.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// Options configure a Client. The zero value talks HTTPS, without credentials.
type Options struct {
	// UserAgent is sent with each request.
	UserAgent string
	// PlainHTTP uses HTTP for every registry. Registries on a loopback address
	// are always reached by HTTP.
	PlainHTTP bool
	// DockerConfig takes credentials from the Docker configuration and the
	// credential helpers it names.
	DockerConfig bool
	// Transport carries the requests; nil means one like http.DefaultTransport
	// that keeps more connections to one registry.
	Transport http.RoundTripper
}

// Client opens repositories that share connections, tokens and credentials. It
// may be used concurrently.
type Client struct {
	auth      *auth.Client
	plainHTTP bool
}

// maxIdlePerHost keeps the connections of a plan's questions, which all go to one
// registry; net/http keeps two.
const maxIdlePerHost = 16

func newTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // somebody's own
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = maxIdlePerHost
	return t
}

// NewClient returns a client. It fails only when a Docker configuration is asked
// for and cannot be read.
func NewClient(opts Options) (*Client, error) {
	if opts.Transport == nil {
		opts.Transport = newTransport()
	}
	header := http.Header{}
	if opts.UserAgent != "" {
		header.Set("User-Agent", opts.UserAgent)
	}
	c := &Client{
		auth: &auth.Client{
			Client: &http.Client{Transport: retry.NewTransport(opts.Transport)},
			Header: header,
			Cache:  auth.NewCache(),
		},
		plainHTTP: opts.PlainHTTP,
	}
	if opts.DockerConfig {
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("read the Docker configuration: %w", err)
		}
		c.auth.Credential = credentials.Credential(store)
	}
	return c, nil
}

// Repository is a repository of a registry. Its methods may be called
// concurrently.
type Repository struct {
	*remote.Repository
}

// Repository opens the repository called name, HOST/REPO.
func (c *Client) Repository(name string) (*Repository, error) {
	repo, err := remote.NewRepository(name)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", name, err)
	}
	repo.Client = redacting{c.auth}
	repo.PlainHTTP = c.plainHTTP || isLoopback(repo.Reference.Host())
	// Registries that keep no referrers often refuse deletion too; an old
	// fallback index left behind is garbage, not an error.
	repo.SkipReferrersGC = true
	return &Repository{repo}, nil
}

// FetchFrom opens the blob desc names from offset on, by one request with a
// range. A registry that does not know ranges sends the whole, of which the
// beginning is thrown away with the first Read; where it breaks off there, that is
// io.ErrUnexpectedEOF. The caller closes the reader and verifies the blob.
func (r *Repository) FetchFrom(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	ref := r.Reference
	ref.Reference = desc.Digest.String()
	ctx = auth.AppendRepositoryScope(ctx, ref, auth.ActionPull)
	scheme := "https"
	if r.PlainHTTP {
		scheme = "http"
	}
	blob := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, ref.Host(), ref.Repository, desc.Digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, blob, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, err
	}
	rest := fmt.Sprintf("bytes %d-%d/", offset, desc.Size-1)
	switch {
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), rest):
		return resp.Body, nil
	case resp.StatusCode == http.StatusOK:
		return &tail{resp.Body, offset}, nil
	case resp.StatusCode == http.StatusNotFound:
		err = fmt.Errorf("%s: %w", desc.Digest, errdef.ErrNotFound)
	case resp.StatusCode == http.StatusPartialContent:
		err = fmt.Errorf("asked for the blob from byte %d on, got %q", offset, resp.Header.Get("Content-Range"))
	default:
		err = &errcode.ErrorResponse{Method: req.Method, URL: resp.Request.URL, StatusCode: resp.StatusCode}
	}
	return nil, errors.Join(err, resp.Body.Close())
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

// isLoopback reports whether hostport names this machine, where there is no
// network to protect against.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// IsUnauthorized reports whether err says that credentials are missing, wrong or
// not sufficient.
func IsUnauthorized(err error) bool {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return true
	}
	var resp *errcode.ErrorResponse
	return errors.As(err, &resp) && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden)
}

// IsRefusal reports whether err is the answer of a registry that asking again
// will not change, such as 405 of one that is read-only.
func IsRefusal(err error) bool {
	var resp *errcode.ErrorResponse
	return errors.As(err, &resp) && resp.StatusCode/100 == 4 &&
		resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout
}

// IsUnreachable reports whether err means that no connection could be made or
// that one broke: the registry may be down, or there is no network.
func IsUnreachable(err error) bool {
	// The HTTP client gives every failure to get an answer as a url.Error.
	return errors.As(err, new(*url.Error)) || errors.As(err, new(*net.OpError))
}
