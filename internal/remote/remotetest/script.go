package remotetest

import (
	"bytes"
	"net/http"
	"sync"
	"time"
)

// Exchange is one request that a script expects, and its answer.
type Exchange struct {
	// Request is METHOD PATH or METHOD PATH?QUERY.
	Request string
	// Header holds what the request must carry; "" for a header it must not.
	Header map[string]string
	// Times is how often it is asked: 0 means once, < 0 any number of times, none
	// included.
	Times int
	// Answer writes the answer.
	Answer http.HandlerFunc
}

// Script is a registry that follows one.
type Script struct {
	report Reporter
	host   string

	mu    sync.Mutex
	left  []Exchange
	asked []string
}

// Serve answers at hostport by the script: a request takes the first exchange for
// it that is left. What is not expected, or expected and never asked, fails the
// test.
func (n *Network) Serve(hostport string, exchanges ...Exchange) *Script {
	s := &Script{report: n.report, host: hostport}
	for _, e := range exchanges {
		if e.Times == 0 {
			e.Times = 1
		}
		s.left = append(s.left, e)
	}
	n.report.Cleanup(func() {
		for _, e := range s.left {
			if e.Times > 0 {
				n.report.Errorf("%s was not asked: %s, %d more", hostport, e.Request, e.Times)
			}
		}
	})
	n.Handle(hostport, s)
	return s
}

// Asked returns the requests so far, in order.
func (s *Script) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// ServeHTTP answers one request.
func (s *Script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	line := r.Method + " " + r.URL.RequestURI()
	e, ok := s.take(line)
	if !ok {
		s.report.Errorf("%s was asked %s, which its script does not expect", s.host, line)
		w.WriteHeader(http.StatusNotImplemented)
		return
	}
	for name, want := range e.Header {
		if got := r.Header.Get(name); got != want {
			s.report.Errorf("%s was asked %s with %s %q, want %q", s.host, line, name, got, want)
		}
	}
	e.Answer(w, r)
}

func (s *Script) take(line string) (Exchange, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, line)
	for i := range s.left {
		if e := &s.left[i]; e.Request == line && e.Times != 0 {
			if e.Times > 0 {
				e.Times--
			}
			return *e, true
		}
	}
	return Exchange{}, false
}

// Status answers with a code and headers, given as name, value, name, value.
func Status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		setAll(w, header)
		w.WriteHeader(code)
	}
}

// Content answers with data, whole or the range asked for.
func Content(data []byte, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		setAll(w, header)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// Whole answers with all of data and its length, whatever range was asked for.
func Whole(data []byte, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		Content(data, header...)(w, r)
	}
}

// Chunked answers with all of data and without its length.
func Chunked(data []byte, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		setAll(w, header)
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(data)
	}
}

// Cut closes the connection after n bytes of the answer's body; after 0, nothing
// was answered.
func Cut(n int, answer http.HandlerFunc) http.HandlerFunc {
	return broken(n, answer, func(http.ResponseWriter, *http.Request) {})
}

// Reset resets the connection after n bytes of the answer's body, as Cut closes it.
func Reset(n int, answer http.HandlerFunc) http.HandlerFunc {
	return broken(n, answer, func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.(*conn).reset.Store(true)
			_ = c.Close()
		}
	})
}

// Stall sends nothing more after n bytes of the answer's body, until the client
// has gone.
func Stall(n int, answer http.HandlerFunc) http.HandlerFunc {
	return broken(n, answer, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

// Silence never answers.
func Silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Trickle sends one byte of data each interval, without the length.
func Trickle(data []byte, interval time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := range data {
			if _, err := w.Write(data[i : i+1]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(interval):
			case <-r.Context().Done():
				return
			}
		}
	}
}

func setAll(w http.ResponseWriter, header []string) {
	for i := 0; i+1 < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
}

// broken lets n bytes of an answer's body through and then does what end does.
func broken(n int, answer http.HandlerFunc, end http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer(&brokenWriter{w, n, func() {
			if n > 0 {
				_ = http.NewResponseController(w).Flush()
			}
			end(w, r)
			panic(http.ErrAbortHandler)
		}}, r)
	}
}

type brokenWriter struct {
	http.ResponseWriter
	left int
	end  func()
}

func (b *brokenWriter) Write(p []byte) (int, error) {
	if b.left == 0 {
		b.end()
	}
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	if b.left -= n; err == nil && b.left == 0 {
		b.end()
	}
	return n, err
}

// Unwrap gives http.ResponseController the writer.
func (b *brokenWriter) Unwrap() http.ResponseWriter { return b.ResponseWriter }
