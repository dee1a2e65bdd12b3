package remote

import (
	"context"
	"crypto/tls"
	"net/http"
)

// maxIdlePerHost keeps the connections of a plan's questions, eight manifests with
// four each, which all go to one registry; net/http keeps two.
const maxIdlePerHost = 32

// lanes are the connections of a client. Questions share one by HTTP/2, where a
// registry has that. Blobs and uploads get one each, by HTTP/1.1: through a single
// connection, whose bytes one goroutine decrypts and sorts, four of them took twice
// the time and the work, and one lost packet stops them all.
type lanes struct{ questions, blobs *http.Transport }

func newLanes(base *http.Transport) *lanes {
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
	}
	if base == nil { // somebody's own
		base = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	}
	l := &lanes{base.Clone(), base.Clone()}
	l.questions.MaxIdleConnsPerHost = maxIdlePerHost
	l.blobs.MaxIdleConnsPerHost = maxIdlePerHost
	l.blobs.Protocols = new(http.Protocols)
	l.blobs.Protocols.SetHTTP1(true)
	if l.blobs.TLSClientConfig == nil {
		l.blobs.TLSClientConfig = &tls.Config{}
	}
	l.blobs.TLSClientConfig.NextProtos = []string{"http/1.1"} // a transport that was used has h2 there
	return l
}

// RoundTrip sends one request.
func (l *lanes) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Value(bulk{}) != nil || req.Method == http.MethodPut {
		return l.blobs.RoundTrip(req)
	}
	return l.questions.RoundTrip(req)
}

// CloseIdleConnections closes what is open and not used.
func (l *lanes) CloseIdleConnections() {
	l.questions.CloseIdleConnections()
	l.blobs.CloseIdleConnections()
}

// bulk is the key that marks requests for blobs, wherever they are redirected.
type bulk struct{}

func inBulk(ctx context.Context) context.Context { return context.WithValue(ctx, bulk{}, true) }
