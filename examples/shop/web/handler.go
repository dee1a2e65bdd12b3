package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/sealift/sealift/examples/shop/internal/release"
)

const maxFormBytes = 16 << 10

//go:embed page.html
var files embed.FS

var page = template.Must(template.ParseFS(files, "page.html"))

// view is what page.html shows.
type view struct {
	config
	Version string
	Colour  template.CSS
	Orders  []order
	Count   *int64 // nil in versions that do not count
	Problem string
}

type server struct {
	api     *api
	conf    config
	version string
	log     *slog.Logger
}

func newHandler(base *url.URL, conf config, version string, log *slog.Logger) http.Handler {
	s := &server{api: newAPI(base), conf: conf, version: version, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.show)
	mux.HandleFunc("POST /orders", s.place)
	mux.Handle("/api/", http.StripPrefix("/api", s.proxy()))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n") // fails only when the caller has gone
	})
	// Another site's page must not be able to place orders in a visitor's name.
	return http.NewCrossOriginProtection().Handler(mux)
}

func (s *server) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(s.api.base) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.log.Warn("api does not answer", "error", err)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, `{"error":"the api does not answer"}`+"\n") // fails only when the caller has gone
		},
	}
}

func (s *server) show(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, http.StatusOK, "")
}

func (s *server) place(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	body, err := json.Marshal(map[string]string{"item": r.FormValue("item")})
	if err != nil {
		s.render(w, r, http.StatusBadRequest, "The order could not be read.")
		return
	}
	if err := s.api.call(r.Context(), http.MethodPost, "/orders", body, nil); err != nil {
		s.log.Warn("order not placed", "error", err)
		status := http.StatusBadGateway
		var refused refusal
		if errors.As(err, &refused) && refused.status/100 == 4 {
			status = http.StatusBadRequest
		}
		s.render(w, r, status, "The order was not placed: "+err.Error()+".")
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// render writes the page into a buffer first: half a page must not go out with
// status 200.
func (s *server) render(w http.ResponseWriter, r *http.Request, status int, problem string) {
	v := view{config: s.conf, Version: s.version, Colour: template.CSS(release.Colour(s.version)), Problem: problem}
	if err := s.load(r.Context(), &v); err != nil {
		s.log.Warn("orders not read", "error", err)
		if problem == "" {
			status, v.Problem = http.StatusBadGateway, "The orders cannot be shown: "+err.Error()+"."
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		s.log.Error("page not rendered", "error", err)
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // fails only when the caller has gone
}

// load fills in the orders. The count is left out when it cannot be had: while
// an upgrade is under way the api may still be the version before.
func (s *server) load(ctx context.Context, v *view) error {
	if err := s.api.call(ctx, http.MethodGet, "/orders", nil, &v.Orders); err != nil {
		return err
	}
	if !release.Counts(s.version) {
		return nil
	}
	var count struct {
		Count int64 `json:"count"`
	}
	if err := s.api.call(ctx, http.MethodGet, "/orders/count", nil, &count); err != nil {
		s.log.Warn("orders not counted", "error", err)
		return nil
	}
	v.Count = &count.Count
	return nil
}
