package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// memory is a store whose down field makes every call fail.
type memory struct {
	last int64
	list []string
	down bool
}

var errDown = errors.New("connection refused")

func (m *memory) fault() error {
	if m.down {
		return errDown
	}
	return nil
}

func (m *memory) Ping(context.Context) error { return m.fault() }

func (m *memory) Incr(context.Context, string) (int64, error) {
	m.last++
	return m.last, m.fault()
}

func (m *memory) Append(_ context.Context, _, value string) (int64, error) {
	m.list = append(m.list, value)
	return int64(len(m.list)), m.fault()
}

func (m *memory) Len(context.Context, string) (int64, error) { return int64(len(m.list)), m.fault() }

func (m *memory) Last(_ context.Context, _ string, n int) ([]string, error) {
	return m.list[max(0, len(m.list)-n):], m.fault()
}

func TestHandler(t *testing.T) {
	t.Parallel()
	const one = `{"id":1,"item":"tea"}`
	for name, tc := range map[string]struct {
		version, method, path, body string
		store                       memory
		status                      int
		want                        string
	}{
		"place":            {"1.0.0", "POST", "/orders", `{"item":" tea "}`, memory{}, 201, one},
		"the id is ours":   {"1.0.0", "POST", "/orders", `{"id":7,"item":"tea"}`, memory{}, 201, one},
		"no item":          {"1.0.0", "POST", "/orders", `{"item":"  "}`, memory{}, 400, `{"error":"item must have 1 to 200 bytes"}`},
		"long item":        {"1.0.0", "POST", "/orders", `{"item":"` + strings.Repeat("x", 201) + `"}`, memory{}, 400, `{"error":"item must have 1 to 200 bytes"}`},
		"not JSON":         {"1.0.0", "POST", "/orders", `item=tea`, memory{}, 400, `{"error":"the body must be JSON like {\"item\": \"tea\"}"}`},
		"place while down": {"1.0.0", "POST", "/orders", `{"item":"tea"}`, memory{down: true}, 503, `{"error":"the database does not answer"}`},
		"list":             {"1.0.0", "GET", "/orders", "", memory{list: []string{one}}, 200, "[" + one + "]"},
		"empty list":       {"1.0.0", "GET", "/orders", "", memory{}, 200, "[]"},
		"list while down":  {"1.0.0", "GET", "/orders", "", memory{down: true}, 503, `{"error":"the database does not answer"}`},
		"foreign value":    {"1.0.0", "GET", "/orders", "", memory{list: []string{"tea"}}, 500, `{"error":"a stored order cannot be read"}`},
		"count":            {"1.1.0", "GET", "/orders/count", "", memory{list: []string{one, one}}, 200, `{"count":2}`},
		"count while down": {"1.1.0", "GET", "/orders/count", "", memory{down: true}, 503, `{"error":"the database does not answer"}`},
		"no count in 1.0":  {"1.0.0", "GET", "/orders/count", "", memory{}, 404, "404 page not found"},
		"healthy":          {"1.0.0", "GET", "/healthz", "", memory{}, 200, `{"status":"ok"}`},
		"unhealthy":        {"1.0.0", "GET", "/healthz", "", memory{down: true}, 503, `{"error":"the database does not answer"}`},
		"version":          {"1.1.0", "GET", "/version", "", memory{down: true}, 200, `{"version":"1.1.0"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandler(&tc.store, tc.version, slog.New(slog.DiscardHandler))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, strings.NewReader(tc.body)))
			if got := strings.TrimSpace(w.Body.String()); w.Code != tc.status || got != tc.want {
				t.Errorf("%s %s = %d %s, want %d %s", tc.method, tc.path, w.Code, got, tc.status, tc.want)
			}
		})
	}
}

func TestListIsCapped(t *testing.T) {
	t.Parallel()
	m := &memory{}
	h := newHandler(m, "1.1.0", slog.New(slog.DiscardHandler))
	for range maxListed + 5 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders", strings.NewReader(`{"item":"tea"}`)))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/orders", nil))
	if got := strings.Count(w.Body.String(), `"id"`); got != maxListed {
		t.Errorf("listed %d orders, want the last %d", got, maxListed)
	}
}
