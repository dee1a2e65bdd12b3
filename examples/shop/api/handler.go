package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/sealift/sealift/examples/shop/internal/release"
)

const (
	keyOrders = "shop:orders"
	keyLastID = "shop:last-id"

	maxListed       = 100
	maxItemBytes    = 200
	maxRequestBytes = 64 << 10
	healthTimeout   = 2 * time.Second
)

// store is what the handlers need of Redis.
type store interface {
	Ping(ctx context.Context) error
	Incr(ctx context.Context, key string) (int64, error)
	Append(ctx context.Context, key, value string) (int64, error)
	Len(ctx context.Context, key string) (int64, error)
	Last(ctx context.Context, key string, n int) ([]string, error)
}

type order struct {
	ID   int64  `json:"id"`
	Item string `json:"item"`
}

type server struct {
	store store
	log   *slog.Logger
}

func newHandler(st store, version string, log *slog.Logger) http.Handler {
	s := &server{store: st, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.place)
	mux.HandleFunc("GET /orders", s.list)
	if release.Counts(version) {
		mux.HandleFunc("GET /orders/count", s.count)
	}
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"version": version})
	})
	return mux
}

func (s *server) place(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequestBytes)).Decode(&o); err != nil {
		refuse(w, http.StatusBadRequest, "the body must be JSON like {\"item\": \"tea\"}")
		return
	}
	if o.Item = strings.TrimSpace(o.Item); o.Item == "" || len(o.Item) > maxItemBytes {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("item must have 1 to %d bytes", maxItemBytes))
		return
	}
	if err := s.save(r.Context(), &o); err != nil {
		s.unavailable(w, err)
		return
	}
	answer(w, http.StatusCreated, o)
}

// save numbers and stores o. Incr comes first and replaces a dead connection,
// so that Append, which is sent only once, hardly ever meets one.
func (s *server) save(ctx context.Context, o *order) error {
	id, err := s.store.Incr(ctx, keyLastID)
	if err != nil {
		return err
	}
	o.ID = id
	value, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = s.store.Append(ctx, keyOrders, string(value))
	return err
}

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	values, err := s.store.Last(r.Context(), keyOrders, maxListed)
	if err != nil {
		s.unavailable(w, err)
		return
	}
	orders := make([]order, len(values))
	for i, v := range values {
		if err := json.Unmarshal([]byte(v), &orders[i]); err != nil {
			s.log.Error("stored order is not JSON", "error", err)
			refuse(w, http.StatusInternalServerError, "a stored order cannot be read")
			return
		}
	}
	answer(w, http.StatusOK, orders)
}

func (s *server) count(w http.ResponseWriter, r *http.Request) {
	n, err := s.store.Len(r.Context(), keyOrders)
	if err != nil {
		s.unavailable(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]int64{"count": n})
}

func (s *server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		s.unavailable(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *server) unavailable(w http.ResponseWriter, err error) {
	s.log.Warn("redis does not answer", "error", err)
	refuse(w, http.StatusServiceUnavailable, "the database does not answer")
}

func refuse(w http.ResponseWriter, status int, reason string) {
	answer(w, status, map[string]string{"error": reason})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only when the caller has gone
}
