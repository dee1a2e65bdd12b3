package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	// The algorithms a digest may name: go-digest panics on one that is not
	// linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/errdef"
)

// maxCandidates bounds the list of repositories an ambiguous name could mean.
const maxCandidates = 20

var tagRegexp = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

type routeKind int

const (
	kindBase routeKind = iota
	kindCatalog
	kindManifest
	kindBlob
	kindTags
	kindReferrers
)

// route is a parsed request path. The name is a legal repository name; ref is
// what the path says, unchecked.
type route struct {
	kind routeKind
	name string
	ref  string
}

// parsePath reads a decoded URL path from its end, since a repository may be
// called a/manifests/b.
func parsePath(path string) (route, error) {
	notFound := newError(http.StatusNotFound, codeUnsupported, "no such endpoint in this registry")
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || path == "/v2/":
		return route{kind: kindBase}, nil
	case !ok:
		return route{}, notFound
	case rest == "_catalog":
		return route{kind: kindCatalog}, nil
	}

	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return route{}, notFound
	}
	rest, ref := rest[:i], rest[i+1:]
	i = strings.LastIndexByte(rest, '/')
	if i < 0 {
		return route{}, notFound
	}
	name, verb := rest[:i], rest[i+1:]

	rt := route{name: name, ref: ref}
	switch {
	case verb == "manifests":
		rt.kind = kindManifest
	case verb == "blobs" && ref != "uploads":
		rt.kind = kindBlob
	case verb == "tags" && ref == "list":
		rt.kind = kindTags
	case verb == "referrers":
		rt.kind = kindReferrers
	case verb == "uploads" && strings.HasSuffix(name, "/blobs"):
		return route{}, newError(http.StatusNotFound, codeUploadUnknown, "this registry is read-only: it has no uploads")
	default:
		return route{}, notFound
	}
	if _, err := ParseURLName(name); err != nil {
		return route{}, newError(http.StatusBadRequest, codeNameInvalid,
			"not a repository name of at most %d bytes (a port is written HOST%sPORT)", maxNameBytes, portSeparator)
	}
	return rt, nil
}

// lookup returns the repository meant by the name in a URL, in the order [New]
// documents.
func (h *handler) lookup(ctx context.Context, urlName, ns string) (Repository, error) {
	full, err := ParseURLName(urlName)
	if err != nil {
		return nil, err
	}
	names := []string{full}
	if ns != "" {
		names = []string{ns + "/" + urlName, full}
	}
	for _, name := range names {
		repo, err := h.catalog.Repository(ctx, name)
		if err == nil {
			return repo, nil
		}
		if !errors.Is(err, errdef.ErrNotFound) {
			return nil, fmt.Errorf("repository %s: %w", name, err)
		}
	}
	if ns != "" {
		return nil, newError(http.StatusNotFound, codeNameUnknown, "no repository %s of that host here", urlName)
	}
	return h.lookupShort(ctx, urlName)
}

// lookupShort finds the one repository whose name without the host is short.
func (h *handler) lookupShort(ctx context.Context, short string) (Repository, error) {
	all, err := h.catalog.Repositories(ctx)
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	var found []string
	for _, name := range all {
		if _, repo, _ := strings.Cut(name, "/"); repo == short {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)

	unknown := newError(http.StatusNotFound, codeNameUnknown, "no repository %s here", short)
	switch len(found) {
	case 0:
		return nil, unknown
	case 1:
		repo, err := h.catalog.Repository(ctx, found[0])
		if errors.Is(err, errdef.ErrNotFound) {
			return nil, unknown
		}
		if err != nil {
			return nil, fmt.Errorf("repository %s: %w", found[0], err)
		}
		return repo, nil
	}
	e := newError(http.StatusNotFound, codeNameUnknown,
		"%s could be any of %d repositories: name one with its host", short, len(found))
	candidates := make([]string, 0, min(len(found), maxCandidates))
	for _, name := range found[:min(len(found), maxCandidates)] {
		candidates = append(candidates, URLName(name))
	}
	e.detail = map[string][]string{"candidates": candidates}
	return nil, e
}

func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", newError(http.StatusBadRequest, codeDigestInvalid, "not a digest of a supported algorithm")
	}
	return d, nil
}
