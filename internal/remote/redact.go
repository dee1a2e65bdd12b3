package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/artifact"
)

// redacted stands for what must not be shown: a terminal is recorded, and a log is
// sent to others.
const redacted = "REDACTED"

// shown lists the query parameters of the protocol itself. Registries redirect to
// storage with signed URLs, whose query is a credential for as long as it is valid.
var shown = []string{"artifactType", "digest", "from", "last", "mount", "n", "ns", "scope", "service"}

// redactURL returns u without user information and without the values of query
// parameters that are not shown.
func redactURL(u *url.URL) *url.URL {
	if u == nil {
		return nil
	}
	safe := *u
	if u.User != nil {
		safe.User = url.User(redacted)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		safe.RawQuery = redacted
		return &safe
	}
	for name, values := range query {
		switch {
		case slices.Contains(shown, name):
		case strings.Join(values, "") == "": // the name is all there is to it
			delete(query, name)
			query.Set(redacted, "")
		default:
			query[name] = []string{redacted}
		}
	}
	safe.RawQuery = query.Encode()
	return &safe
}

// redactError rewrites the URLs that err, just made by a request, shows.
func redactError(err error) {
	switch e := err.(type) { //nolint:errorlint // each link of the chain is looked at
	case *url.Error:
		if u, parseErr := url.Parse(e.URL); parseErr == nil {
			e.URL = redactURL(u).String()
		} else {
			e.URL = redacted
		}
	case *errcode.ErrorResponse:
		e.URL = redactURL(e.URL)
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			redactError(inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			redactError(inner)
		}
	}
}

// redacting is a client whose errors, and the errors made of its responses, show no
// credentials. It must stand around oras-go's client, which needs to see where it
// was redirected.
type redacting struct{ *auth.Client }

// Do sends a request.
func (c redacting) Do(req *http.Request) (*http.Response, error) {
	resp, err := c.Client.Do(req)
	if err != nil {
		redactError(err)
		return nil, err
	}
	if hasBody(resp) && !isBlob(req) {
		resp.Body = bound(req.Context(), resp.Body)
	}
	// Errors name the request of the response. Where the response says what to ask
	// next, relative to that, it is left whole.
	answers := resp.StatusCode/100 == 2 && (resp.Header.Get("Location") != "" || resp.Header.Get("Link") != "")
	if resp.Request != nil && !answers {
		safe := *resp.Request
		safe.URL = redactURL(safe.URL)
		resp.Request = &safe
	}
	return resp, nil
}

// Push writes desc. A manifest is handed on from memory: a request that has to be
// sent twice, because the first was answered with a challenge, must be rewound.
func (r *Repository) Push(ctx context.Context, desc ocispec.Descriptor, body io.Reader) error {
	if _, rewinds := body.(*bytes.Reader); rewinds || !artifact.IsManifest(desc.MediaType) {
		return r.Repository.Push(ctx, desc, body)
	}
	if desc.Size > artifact.MaxManifestBytes {
		return errors.New("manifest " + desc.Digest.String() + " is larger than registries accept")
	}
	data, err := content.ReadAll(body, desc)
	if err != nil {
		return err
	}
	return r.Repository.Push(ctx, desc, bytes.NewReader(data))
}
