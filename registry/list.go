package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"oras.land/oras-go/v2/errdef"
)

// serveTags answers with the tags of a repository in byte order.
func (h *handler) serveTags(w http.ResponseWriter, r *http.Request, repo Repository, name string) error {
	var tags []string
	err := repo.Tags(r.Context(), "", func(page []string) error {
		tags = append(tags, page...)
		return nil
	})
	if err != nil && !errors.Is(err, errdef.ErrNotFound) {
		return fmt.Errorf("list tags of %s: %w", name, err)
	}
	tags, err = h.page(w, r, tags)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags})
}

// serveCatalog answers with all repositories by their names in URLs.
func (h *handler) serveCatalog(w http.ResponseWriter, r *http.Request) error {
	all, err := h.catalog.Repositories(r.Context())
	if err != nil {
		return fmt.Errorf("list repositories: %w", err)
	}
	names := make([]string, 0, len(all))
	for _, name := range all {
		path := URLName(name)
		if _, err := ParseURLName(path); err != nil {
			h.log.ErrorContext(r.Context(), "repository cannot be served", "name", name, "error", err)
			continue
		}
		names = append(names, path)
	}
	names, err = h.page(w, r, names)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// page sorts entries and returns those the request's n and last ask for, never
// nil, with a Link header if more follow.
func (h *handler) page(w http.ResponseWriter, r *http.Request, entries []string) ([]string, error) {
	query := r.URL.Query()
	limit := h.pageSize
	if s := query.Get("n"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, newError(http.StatusBadRequest, codePaginationInvalid, "n is not a number of entries")
		}
		limit = min(n, limit)
	}
	slices.Sort(entries)
	entries = slices.Compact(entries)
	if last := query.Get("last"); last != "" {
		i, found := slices.BinarySearch(entries, last)
		if found {
			i++
		}
		entries = entries[i:]
	}
	// n=0 is a question for nothing, and has no next page.
	if len(entries) > limit && limit > 0 {
		setNextLink(w, r, url.Values{"n": {strconv.Itoa(limit)}, "last": {entries[limit-1]}})
	}
	entries = entries[:min(len(entries), limit)]
	if entries == nil {
		entries = []string{}
	}
	return entries, nil
}

// setNextLink points to the page after this one: the same request with some
// parameters replaced.
func setNextLink(w http.ResponseWriter, r *http.Request, replace url.Values) {
	query := r.URL.Query()
	for key, values := range replace {
		query[key] = values
	}
	next := url.URL{Path: r.URL.Path, RawQuery: query.Encode()}
	w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
}
