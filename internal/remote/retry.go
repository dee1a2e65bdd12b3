package remote

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	maxRepeats = 5
	// A registry that does not answer costs an idle timeout each time.
	maxRepeatsUnanswered = 2
	firstWait            = 250 * time.Millisecond
	// maxRetryAfter bounds what a registry can ask for; one that asks for more is
	// asked again then and not obeyed.
	maxRetryAfter = time.Minute
)

// repeats is the policy by which oras-go's transport repeats a request that got no
// answer, or one that says to come again. What breaks off in the middle of a body
// is for the reader of that body.
type repeats struct{}

// Retry returns how long to wait before the next try, negative for none.
func (repeats) Retry(attempt int, resp *http.Response, err error) (time.Duration, error) {
	limit := maxRepeats
	switch {
	case err == nil && !comesAgain(resp.StatusCode), err != nil && !broke(err):
		return -1, nil
	case IsTimeout(err):
		limit = maxRepeatsUnanswered
	}
	if attempt >= limit {
		return -1, nil
	}
	wait := firstWait << attempt
	wait += rand.N(wait/2) - wait/4 // so that many clients do not come back together
	if err == nil {
		wait = max(wait, min(retryAfter(resp.Header.Get("Retry-After"), time.Now()), maxRetryAfter))
	}
	return wait, nil
}

// retryAfter returns what a Retry-After header asks for, seconds or a date; 0 for
// anything else.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// comesAgain reports whether a registry that answers with code may answer
// otherwise soon.
func comesAgain(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage:
		return false
	}
	return code >= 500
}

// broke reports whether a connection was made and broke, or timed out.
func broke(err error) bool {
	return IsTimeout(err) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// IsTimeout reports whether err means that something took too long.
func IsTimeout(err error) bool {
	timeout := net.Error(nil)
	return errors.As(err, &timeout) && timeout.Timeout()
}

// IsTransient reports whether err, met while talking to a registry, may pass: a
// connection that could not be made or that broke, a timeout, a registry that is
// busy. A certificate that is not trusted and a redirect that is refused are not.
func IsTransient(err error) bool {
	if resp := new(errcode.ErrorResponse); errors.As(err, &resp) {
		return comesAgain(resp.StatusCode)
	}
	if errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(*RedirectError)) {
		return false
	}
	// Not net.Error: every syscall.Errno is one, that of a full disk too.
	return errors.As(err, new(*url.Error)) || errors.As(err, new(*net.OpError)) || errors.As(err, new(*StallError)) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
