// Package remote opens repositories of OCI registries
// (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) with
// the credentials the person already has, retrying what passes.
//
// [NewClient] is made once for a command; [Client.Repository] opens one
// repository without touching the network. The protocol itself is oras-go's.
package remote

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/sealift/sealift/artifact"
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
	// MaxFetches bounds the blobs of one registry that are open for reading at
	// once, over all its repositories; ≤ 0 means 6.
	MaxFetches int
	// IdleTimeout is how long a registry may keep silent before a request counts
	// as broken: with its answer, or in the middle of one, where 1 KiB must arrive
	// in that time. For its answer to an upload it has ten times as long. ≤ 0 means
	// a minute.
	IdleTimeout time.Duration
	// Transport is copied for the settings of connections; nil means that of
	// net/http.
	Transport *http.Transport
}

// Client opens repositories that share connections, tokens and credentials. It
// may be used concurrently.
type Client struct {
	auth       *auth.Client
	plainHTTP  bool
	maxFetches int

	mu    sync.Mutex
	slots map[string]slots       // by host
	repos map[string]*Repository // by name
}

// NewClient returns a client. It fails only when a Docker configuration is asked
// for and cannot be read.
func NewClient(opts Options) (*Client, error) {
	if opts.MaxFetches <= 0 {
		opts.MaxFetches = defaultMaxFetches
	}
	if opts.IdleTimeout <= 0 {
		opts.IdleTimeout = defaultIdleTimeout
	}
	transport := &retry.Transport{
		Base:   &patient{newLanes(opts.Transport), opts.IdleTimeout},
		Policy: func() retry.Policy { return repeats{} },
	}
	header := http.Header{}
	if opts.UserAgent != "" {
		header.Set("User-Agent", opts.UserAgent)
	}
	c := &Client{
		auth: &auth.Client{
			Client: &http.Client{Transport: transport, CheckRedirect: redirects{opts.PlainHTTP}.check},
			Header: header,
			Cache:  auth.NewCache(),
		},
		plainHTTP:  opts.PlainHTTP,
		maxFetches: opts.MaxFetches,
		slots:      map[string]slots{},
		repos:      map[string]*Repository{},
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
	client redacting
	slots  slots
	ways   *ways
}

// Repository opens the repository called name, HOST/REPO, or returns the one that is
// open, which all who ask for it share: so it is known after a few questions whether it
// has an API for referrers. It is kept as long as the client.
func (c *Client) Repository(name string) (*Repository, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open := c.repos[name]; open != nil {
		return open, nil
	}
	repo, err := c.open(name)
	if err != nil {
		return nil, fmt.Errorf("open repository %s: %w", name, err)
	}
	opened := &Repository{Repository: repo, client: redacting{c.auth}, slots: c.fetches(repo.Reference.Host()), ways: &ways{}}
	for capable, way := range map[bool]**remote.Repository{true: &opened.ways.api, false: &opened.ways.tags} {
		if *way, err = c.open(name); err == nil {
			err = (*way).SetReferrersCapability(capable)
		}
		if err != nil {
			return nil, fmt.Errorf("open repository %s: %w", name, err)
		}
	}
	c.repos[name] = opened
	return opened, nil
}

// open makes a repository of oras-go with the settings of all.
func (c *Client) open(name string) (*remote.Repository, error) {
	repo, err := remote.NewRepository(name)
	if err != nil {
		return nil, err
	}
	client := redacting{c.auth}
	repo.Client = client
	repo.PlainHTTP = c.plainHTTP || isLoopback(repo.Reference.Host())
	// Registries that keep no referrers often refuse deletion too; an old
	// fallback index left behind is garbage, not an error.
	repo.SkipReferrersGC = true
	repo.ReferrerListMaxPages, repo.TagListMaxPages = maxPages, maxPages
	// One more than an answer may have, so that the bound of our own is met, which
	// says so.
	repo.MaxMetadataBytes = artifact.MaxManifestBytes + 1
	return repo, nil
}

// fetches returns the slots of a registry; the caller has mu.
func (c *Client) fetches(host string) slots {
	if c.slots[host] == nil {
		c.slots[host] = make(slots, c.maxFetches)
	}
	return c.slots[host]
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
