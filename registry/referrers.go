package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
)

// maxReferrersBytes keeps an answer readable by every client: it is a manifest
// to them. The envelope around the descriptors fits in what is left of 4 MiB.
const maxReferrersBytes = maxManifestBytes - 4<<10

// serveReferrers answers with the manifests whose subject has the given digest.
// An unknown subject has none, which is an empty index and not an error.
func (h *handler) serveReferrers(w http.ResponseWriter, r *http.Request, repo Repository, ref string) error {
	d, err := parseDigest(ref)
	if err != nil {
		return err
	}
	ctx := r.Context()
	subject, err := repo.Resolve(ctx, d.String())
	if errors.Is(err, errdef.ErrNotFound) {
		subject, err = ocispec.Descriptor{Digest: d}, nil
	}
	if err != nil {
		return fmt.Errorf("resolve %s: %w", d, err)
	}

	query := r.URL.Query()
	artifactType := query.Get("artifactType")
	var all []ocispec.Descriptor
	err = repo.Referrers(ctx, subject, artifactType, func(page []ocispec.Descriptor) error {
		all = append(all, page...)
		return nil
	})
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return fmt.Errorf("list referrers of %s: %w", d, err)
	}
	if artifactType != "" {
		// Implementations may leave the filtering to their caller.
		all = slices.DeleteFunc(all, func(d ocispec.Descriptor) bool { return d.ArtifactType != artifactType })
		w.Header().Set(headerFilters, "artifactType")
	}

	manifests, more, err := h.referrersPage(all, query.Get("last"))
	if err != nil {
		return err
	}
	if more != "" {
		setNextLink(w, r, url.Values{"last": {more}})
	}
	return writeJSON(w, ocispec.MediaTypeImageIndex, struct {
		specs.Versioned
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}{specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex, manifests})
}

// referrersPage returns the encoded descriptors after the digest last, in the
// order of their digests, and the digest to go on after if they are not all.
func (h *handler) referrersPage(all []ocispec.Descriptor, last string) (page []json.RawMessage, more string, err error) {
	byDigest := func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) }
	slices.SortFunc(all, byDigest)
	all = slices.CompactFunc(all, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })

	page = []json.RawMessage{}
	size, previous := 0, ""
	for _, desc := range all {
		if desc.Digest.String() <= last {
			continue
		}
		body, err := encodeJSON(desc)
		if err != nil {
			return nil, "", err
		}
		size += len(body)
		// A single descriptor that is too large goes out alone: leaving it out
		// would hide a signature.
		if len(page) > 0 && (size > maxReferrersBytes || len(page) >= h.pageSize) {
			return page, previous, nil
		}
		page = append(page, body)
		previous = desc.Digest.String()
	}
	return page, "", nil
}
