package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// The error codes of the distribution specification, and three of
// distribution's own that say more than any of those: tagInvalid, rangeInvalid
// and paginationNumberInvalid.
const (
	codeBlobUnknown       = "BLOB_UNKNOWN"
	codeUploadUnknown     = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid     = "DIGEST_INVALID"
	codeManifestInvalid   = "MANIFEST_INVALID"
	codeManifestUnknown   = "MANIFEST_UNKNOWN"
	codeNameInvalid       = "NAME_INVALID"
	codeNameUnknown       = "NAME_UNKNOWN"
	codePaginationInvalid = "PAGINATION_NUMBER_INVALID"
	codeRangeInvalid      = "RANGE_INVALID"
	codeTagInvalid        = "TAG_INVALID"
	codeUnknown           = "UNKNOWN"
	codeUnsupported       = "UNSUPPORTED"
)

// apiError is an answer to the client: a status and one entry of the
// specification's error document.
type apiError struct {
	status  int
	code    string
	message string
	detail  any
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message)
}

func newError(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func internalError(format string, args ...any) *apiError {
	return newError(http.StatusInternalServerError, codeUnknown, format, args...)
}

// badContent logs why content cannot be served and returns the answer for the
// client, which is told what is wrong and who can mend it but not the server's
// paths.
func (h *handler) badContent(ctx context.Context, code, what string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	state := "cannot be read from this media"
	if errors.Is(err, errCorrupt) {
		state = "is corrupt on this media"
	}
	h.log.ErrorContext(ctx, "content cannot be served", "content", what, "error", err)
	return newError(http.StatusInternalServerError, code,
		"%s %s: whoever runs this registry has to check the media and replace what is damaged", what, state)
}

// writeError answers with e. The headers a handler may have prepared for the
// content it was about to send do not describe the error and are taken back.
func writeError(w http.ResponseWriter, e *apiError) {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	header := w.Header()
	for _, key := range []string{"ETag", "Accept-Ranges", "Link", headerContentDigest, headerFilters} {
		header.Del(key)
	}
	body, err := encodeJSON(map[string][]entry{"errors": {{e.code, e.message, e.detail}}})
	if err != nil {
		http.Error(w, e.message, e.status)
		return
	}
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.status)
	// A client that went away is not an error of this handler, here and below.
	_, _ = w.Write(body)
}

func writeJSON(w http.ResponseWriter, mediaType string, v any) error {
	body, err := encodeJSON(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// encodeJSON encodes without HTML escapes: annotations are counted and sent as
// they were written.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return buf.Bytes(), nil
}
