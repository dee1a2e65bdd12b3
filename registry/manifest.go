package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

const (
	// maxManifestBytes is the limit the specification lets clients rely on.
	maxManifestBytes = artifact.MaxManifestBytes

	// maxSparseSearch bounds the manifests read to explain one missing
	// manifest: asking for what is not there must stay cheap.
	maxSparseSearch = 64

	mediaTypeUnknown = "application/octet-stream"
)

// serveManifest answers with a manifest by tag or digest. The Accept header is
// not consulted: there is only one form of a manifest, the bytes its digest
// names. A registry that refuses them because a client forgot a type makes a
// good image look absent, and one that converts them breaks every signature;
// the client can read the answer's Content-Type.
func (h *handler) serveManifest(w http.ResponseWriter, r *http.Request, repo Repository, ref string) error {
	var want digest.Digest
	if strings.Contains(ref, ":") {
		d, err := parseDigest(ref)
		if err != nil {
			return err
		}
		want = d
	} else if !tagRegexp.MatchString(ref) {
		// 404, not 400: clients probe with whatever they were given, and a tag
		// that cannot exist does not.
		return newError(http.StatusNotFound, codeTagInvalid, "not a tag: at most 128 letters, digits and ._-")
	}

	ctx := r.Context()
	desc, err := repo.Resolve(ctx, ref)
	if errors.Is(err, errdef.ErrNotFound) {
		if want != "" && namedByIndex(ctx, repo, want) {
			return notCarried(want)
		}
		return newError(http.StatusNotFound, codeManifestUnknown, "no manifest %s in this repository", ref)
	}
	if err != nil {
		return h.badContent(ctx, codeManifestInvalid, "manifest "+ref, err)
	}
	if want != "" && desc.Digest != want {
		return fmt.Errorf("resolve %s: the repository answered %s", ref, desc.Digest)
	}

	body, err := readManifest(ctx, repo, desc)
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		return notCarried(desc.Digest)
	case errors.Is(err, errdef.ErrSizeExceedsLimit):
		return newError(http.StatusInternalServerError, codeManifestInvalid,
			"manifest %s has %d bytes, more than the %d a registry serves", desc.Digest, desc.Size, maxManifestBytes)
	case err != nil:
		return h.badContent(ctx, codeManifestInvalid, "manifest "+desc.Digest.String(), err)
	}

	header := w.Header()
	header.Set("Content-Type", manifestMediaType(desc.MediaType, body))
	header.Set(headerContentDigest, desc.Digest.String())
	header.Set("ETag", etag(desc.Digest))
	if r, err = singleRange(r, int64(len(body))); err != nil {
		return err
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	return nil
}

func notCarried(d digest.Digest) *apiError {
	return newError(http.StatusNotFound, codeManifestUnknown,
		"manifest %s is named by an index here but was not carried on this media (another platform?)", d)
}

// readManifest returns the verified bytes of a manifest.
func readManifest(ctx context.Context, fetcher content.Fetcher, desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("manifest %q: %w", desc.Digest, err)
	}
	if desc.Size > maxManifestBytes {
		return nil, fmt.Errorf("manifest %s of %d bytes: %w", desc.Digest, desc.Size, errdef.ErrSizeExceedsLimit)
	}
	rc, err := fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("fetch manifest %s: %w", desc.Digest, err)
	}
	defer func() { _ = rc.Close() }()
	body, err := io.ReadAll(io.LimitReader(rc, maxManifestBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", desc.Digest, err)
	}
	if int64(len(body)) != desc.Size || desc.Digest.Algorithm().FromBytes(body) != desc.Digest {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, errCorrupt)
	}
	return body, nil
}

// manifestMediaType prefers the descriptor's media type, then what the manifest
// says of itself or its shape implies. Types outside application/ are not passed on:
// the manifest's author must not choose what a browser does with it.
func manifestMediaType(declared string, body []byte) string {
	if isSpecific(declared) {
		return declared
	}
	if m := artifact.SniffMediaType(body); m != "" {
		return m
	}
	var m struct {
		MediaType string `json:"mediaType"`
	}
	if json.Unmarshal(body, &m) == nil && isSpecific(m.MediaType) {
		return m.MediaType // of another kind of manifest
	}
	return mediaTypeUnknown
}

func isSpecific(mediaType string) bool {
	base, _, err := mime.ParseMediaType(mediaType)
	return err == nil && strings.HasPrefix(base, "application/") &&
		base != mediaTypeUnknown && base != "application/json"
}

// namedByIndex reports whether a tagged index of the repository names d. It
// only chooses between two messages, so it gives up early and swallows errors.
func namedByIndex(ctx context.Context, repo Repository, d digest.Digest) bool {
	var queue []ocispec.Descriptor
	// The error is the callback's own way of stopping, or as good as none.
	_ = repo.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			if len(queue) >= maxSparseSearch {
				return errdef.ErrTooManyPages
			}
			if _, _, ok := artifact.ParseSignatureTag(tag); ok {
				continue // signatures, not indexes
			}
			if desc, err := repo.Resolve(ctx, tag); err == nil {
				queue = append(queue, desc)
			}
		}
		return nil
	})
	seen := map[digest.Digest]bool{}
	for len(queue) > 0 && len(seen) < maxSparseSearch {
		desc := queue[0]
		queue = queue[1:]
		if seen[desc.Digest] {
			continue
		}
		seen[desc.Digest] = true
		body, err := readManifest(ctx, repo, desc)
		if err != nil {
			continue
		}
		var index ocispec.Index
		if json.Unmarshal(body, &index) != nil {
			continue
		}
		for _, child := range index.Manifests {
			if child.Digest == d {
				return true
			}
			if artifact.IsIndex(child.MediaType) {
				queue = append(queue, child)
			}
		}
	}
	return false
}
