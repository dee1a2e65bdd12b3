// Package registry serves repositories read-only over HTTP, as a container
// registry that any OCI client can pull from.
//
// It implements the pull and content discovery parts of the OCI distribution
// specification v1.1
// (https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md):
// manifests, blobs with ranges, tag lists, the referrers API, and Docker's
// /v2/_catalog. [New] turns a [Catalog] into an [http.Handler]; [URLName] gives
// the path under which a repository of the catalog is reached.
//
// Promises:
//   - Nothing is ever written. There is no code path from a request to a write:
//     the interfaces the handler is given cannot push, and every method other
//     than GET and HEAD is answered with 405.
//   - Corruption is never served as good. A manifest is hashed before its first
//     byte is sent. A blob is hashed while it is first read and its end is held
//     back until the hash is known; if it is wrong, the connection is cut, and
//     later requests for that file are refused.
//   - A manifest is sent as the bytes that were signed, with its own media type,
//     whatever the request's Accept header says.
//   - A repository serves what its [Repository] value holds and nothing else.
//
// Authentication, TLS, timeouts and access logs belong to the server around the
// handler.
package registry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
)

const (
	// defaultPageSize is large because clients that do not follow Link headers
	// exist; a page of the longest legal tags is then still about a megabyte.
	defaultPageSize = 10_000

	headerAPIVersion    = "Docker-Distribution-Api-Version"
	headerContentDigest = "Docker-Content-Digest"
	headerFilters       = "OCI-Filters-Applied"
)

// Repository is one repository to be served. All methods may be called
// concurrently.
//
// What the handler asks of each:
//   - Resolve takes a tag or a digest and returns the descriptor of a manifest;
//     it returns errdef.ErrNotFound for anything the repository does not hold.
//     It may also resolve a manifest that is named by an index of the
//     repository but absent; Fetch then reports it missing.
//   - Fetch returns errdef.ErrNotFound for absent content and for content that
//     is not part of the repository. A URL names a blob by digest only, so blobs
//     are fetched with Size -1 unless the repository is also a [BlobResolver]:
//     the size must not be checked then. The handler verifies what it reads,
//     so Fetch need not. The handler closes the reader. If it is an *os.File it
//     can be served without copying; if it is an io.Seeker, ranges are
//     supported.
//   - Tags lists all tags, in any order.
//   - Referrers lists the manifests whose subject is the given descriptor, each
//     with ArtifactType and Annotations filled as the referrers API wants them.
//     Of an unknown subject the descriptor has only a digest.
type Repository interface {
	content.ReadOnlyStorage
	content.Resolver
	registry.TagLister
	registry.ReferrerLister
}

// Catalog is the set of repositories to be served. All methods may be called
// concurrently.
type Catalog interface {
	// Repositories returns the names of all repositories as HOST/REPO, where
	// HOST may carry a port, in any order.
	Repositories(ctx context.Context) ([]string, error)

	// Repository returns the repository with exactly the given HOST/REPO name,
	// or errdef.ErrNotFound. It is called for each request and should be quick.
	Repository(ctx context.Context, name string) (Repository, error)
}

// Options configures [New]. The zero value is usable.
type Options struct {
	// Logger receives corrupt content and failing reads at level Error. The
	// default discards everything.
	Logger *slog.Logger

	// PageSize is the largest number of entries in one page of tags,
	// repositories or referrers; a client may ask for smaller pages. Values
	// ≤ 0 mean 10,000.
	PageSize int
}

// New returns a handler serving the repositories of catalog under /v2/. It may
// be used concurrently.
//
// A repository HOST/REPO is reached in three ways, tried in this order: by
// /v2/REPO/ with the query parameter ns=HOST, as containerd asks its mirrors;
// by /v2/ and its [URLName]; and by /v2/REPO/ alone where exactly one repository
// of the catalog has that REPO. A request with ns never falls back to the last:
// it names the host it means, and another host's repository is not it.
//
// When a blob turns out to be corrupt after a part of it was sent, the handler
// panics with [http.ErrAbortHandler], net/http's way of cutting a connection;
// middleware must let that through.
func New(catalog Catalog, opts Options) http.Handler {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.PageSize <= 0 {
		opts.PageSize = defaultPageSize
	}
	return &handler{
		catalog:  catalog,
		log:      opts.Logger,
		pageSize: opts.PageSize,
		verifier: newVerifier(),
	}
}

type handler struct {
	catalog  Catalog
	log      *slog.Logger
	pageSize int
	verifier *verifier
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set(headerAPIVersion, "registry/2.0")
	// Blobs and manifests are strangers' bytes, perhaps on the origin of a web
	// page: no browser may take them for anything but what they are declared.
	header.Set("X-Content-Type-Options", "nosniff")

	err := h.serve(w, r)
	if err == nil {
		return
	}
	var e *apiError
	if !errors.As(err, &e) {
		if r.Context().Err() != nil {
			// The client left, or the server is closing: returning would end
			// an empty 200 for content that is not empty.
			panic(http.ErrAbortHandler)
		}
		h.log.ErrorContext(r.Context(), "registry request failed", "path", r.URL.Path, "error", err)
		e = internalError("the content cannot be read: the server's log says why")
	}
	writeError(w, e)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return newError(http.StatusMethodNotAllowed, codeUnsupported, "this registry is read-only")
	}
	rt, err := parsePath(r.URL.Path)
	if err != nil {
		return err
	}
	switch rt.kind {
	case kindBase:
		return writeJSON(w, "application/json", struct{}{})
	case kindCatalog:
		return h.serveCatalog(w, r)
	}

	repo, err := h.lookup(r.Context(), rt.name, r.URL.Query().Get("ns"))
	if err != nil {
		return err
	}
	switch rt.kind {
	case kindManifest:
		return h.serveManifest(w, r, repo, rt.ref)
	case kindBlob:
		return h.serveBlob(w, r, repo, rt.ref)
	case kindTags:
		return h.serveTags(w, r, repo, rt.name)
	default:
		return h.serveReferrers(w, r, repo, rt.ref)
	}
}
