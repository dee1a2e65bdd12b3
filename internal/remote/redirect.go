package remote

import (
	"fmt"
	"net/http"
	"net/url"
)

const maxRedirects = 10

// RedirectError says that a registry redirected to where it is not followed.
type RedirectError struct {
	// To is the place without its query, "" when it cannot be read.
	To string
	// Reason says why not.
	Reason string
}

// Error names the place and the reason.
func (e *RedirectError) Error() string {
	if e.To == "" {
		return "the registry redirects: " + e.Reason
	}
	return fmt.Sprintf("the registry redirects to %s: %s", e.To, e.Reason)
}

func refuseRedirect(to *url.URL, reason string) error {
	return &RedirectError{To: (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String(), Reason: reason}
}

// redirects decides which redirects are followed. That credentials stay behind
// when the host changes is oras-go's doing, before this is asked.
type redirects struct{ plainHTTP bool }

func (r redirects) check(req *http.Request, via []*http.Request) error {
	// net/http names the place before, whose query may be a signature.
	req.Header.Del("Referer")
	last := via[len(via)-1].URL
	switch {
	case len(via) >= maxRedirects:
		return refuseRedirect(req.URL, fmt.Sprintf("more than %d redirects in a row", maxRedirects))
	case req.URL.Scheme != "https" && req.URL.Scheme != "http":
		return refuseRedirect(req.URL, "neither https nor http")
	case last.Scheme == "https" && req.URL.Scheme == "http" && !r.plainHTTP:
		return refuseRedirect(req.URL, "from https to http")
	}
	return nil
}

// checkLocation refuses a Location that is no URL, since net/http and oras-go
// would show it whole in their errors.
func checkLocation(resp *http.Response) error {
	location := resp.Header.Get("Location")
	if location == "" {
		return nil
	}
	if _, err := url.Parse(location); err != nil {
		_ = resp.Body.Close()
		return &RedirectError{Reason: "its Location is no URL"}
	}
	return nil
}
