package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// fakeAPI answers like the api and records what it is asked.
type fakeAPI struct {
	version string
	asked   []string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
	switch r.Method + " " + r.URL.Path {
	case "GET /orders":
		_, _ = io.WriteString(w, `[{"id":3,"item":"tea <b>"}]`)
	case "POST /orders":
		if strings.Contains(string(body), `"item":""`) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error":"item must have 1 to 200 bytes"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case "GET /orders/count":
		if f.version == "1.0.0" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"count":12}`)
	}
}

func start(t *testing.T, apiVersion, version string, conf config) (*fakeAPI, http.Handler) {
	t.Helper()
	f := &fakeAPI{version: apiVersion}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, newHandler(parse(t, srv.URL), conf, version, slog.New(slog.DiscardHandler))
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func ask(t *testing.T, h http.Handler, method, target, form string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		api, web    string
		conf        config
		want, never []string
	}{
		"1.0.0": {
			"1.0.0", "1.0.0", config{Name: "Corner & Co"},
			[]string{"Corner &amp; Co", "version 1.0.0", `<li value="3">tea &lt;b&gt;</li>`, "#1f5fbf", "Orders</h2>"}, []string{"in all", "banner\">"},
		},
		"1.1.0": {
			"1.1.0", "1.1.0", config{Name: "Shop", Banner: "Open on Sunday"},
			[]string{"version 1.1.0", "Orders (12 in all)", "Open on Sunday", "#0a7d45"}, []string{"#1f5fbf"},
		},
		"1.1.0 before the api is": {
			"1.0.0", "1.1.0", config{Name: "Shop"},
			[]string{"version 1.1.0", "Orders</h2>", "tea"}, []string{"in all", `role="alert"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, h := start(t, tc.api, tc.web, tc.conf)
			w := ask(t, h, http.MethodGet, "/", "")
			if w.Code != http.StatusOK {
				t.Fatalf("GET / = %d, want 200: %s", w.Code, w.Body)
			}
			for _, s := range tc.want {
				if !strings.Contains(w.Body.String(), s) {
					t.Errorf("the page lacks %q:\n%s", s, w.Body)
				}
			}
			for _, s := range tc.never {
				if strings.Contains(w.Body.String(), s) {
					t.Errorf("the page has %q:\n%s", s, w.Body)
				}
			}
		})
	}
}

func TestPlaceOrder(t *testing.T) {
	t.Parallel()
	f, h := start(t, "1.0.0", "1.0.0", config{Name: "Shop"})
	w := ask(t, h, http.MethodPost, "/orders", "item=green+tea")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Errorf("POST /orders = %d to %q, want 303 to /", w.Code, w.Header().Get("Location"))
	}
	if want := `POST /orders {"item":"green tea"}`; len(f.asked) != 1 || f.asked[0] != want {
		t.Errorf("the api was asked %q, want %q", f.asked, want)
	}
	w = ask(t, h, http.MethodPost, "/orders", "item=")
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "item must have") {
		t.Errorf("an empty order = %d, want 400 with the api's reason:\n%s", w.Code, w.Body)
	}
}

func TestForeignPageCannotOrder(t *testing.T) {
	t.Parallel()
	f, h := start(t, "1.0.0", "1.0.0", config{Name: "Shop"})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/orders", strings.NewReader("item=tea"))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || len(f.asked) != 0 {
		t.Errorf("a cross-site order = %d, the api was asked %q, want 403 and nothing", w.Code, f.asked)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	_, h := start(t, "1.1.0", "1.1.0", config{Name: "Shop"})
	if w := ask(t, h, http.MethodGet, "/api/orders/count", ""); w.Code != http.StatusOK || w.Body.String() != `{"count":12}` {
		t.Errorf("GET /api/orders/count = %d %s, want the api's answer", w.Code, w.Body)
	}
}

func TestAPIDown(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	h := newHandler(parse(t, gone.URL), config{Name: "Shop"}, "1.0.0", slog.New(slog.DiscardHandler))
	for target, want := range map[string]int{"/": 502, "/api/orders": 502, "/healthz": 200, "/nothing": 404} {
		if w := ask(t, h, http.MethodGet, target, ""); w.Code != want {
			t.Errorf("GET %s = %d, want %d", target, w.Code, want)
		}
	}
	if w := ask(t, h, http.MethodPost, "/orders", "item=tea"); w.Code != 502 || !strings.Contains(w.Body.String(), "The order was not placed") {
		t.Errorf("POST /orders = %d, want 502 saying so:\n%s", w.Code, w.Body)
	}
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		want config
		err  string
	}{
		"full":        {"# shop\n\nname = Corner Shop\nbanner=a = b\n", config{"Corner Shop", "a = b"}, ""},
		"no banner":   {"name = Shop\nbanner =\n", config{"Shop", ""}, ""},
		"no name":     {"banner = x\n", config{}, "name is not set"},
		"unknown key": {"name = Shop\ncolor = red\n", config{}, `line 2: unknown key "color"`},
		"no value":    {"name\n", config{}, "line 1: want key = value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseConfig(strings.NewReader(tc.in))
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
				t.Errorf("parseConfig(%q) = %+v, %v, want %+v, %s", tc.in, got, err, tc.want, tc.err)
			}
		})
	}
}
