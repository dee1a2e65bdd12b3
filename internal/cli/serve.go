package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/registry"
)

// defaultListen is where a site's registry answers; Docker takes plain HTTP from
// loopback addresses without any setting.
const defaultListen = "127.0.0.1:5050"

func newServe(a *app) *cobra.Command {
	listen := defaultListen
	cmd := &cobra.Command{
		Use:   "serve MEDIA",
		Short: "Serve media as a registry, in place",
		Long: `serve answers as a read-only OCI registry with what is on the media. Nothing is
copied and nothing is written; read-only mounts work. A repository
registry.example.com/shop on the media is pulled as ADDRESS/registry.example.com/shop,
or as ADDRESS/shop where that is unambiguous; a port is written HOST__PORT.

What is damaged is never served as good: manifests are checked before they are sent,
and a blob that turns out wrong while it is first read ends the connection.`,
		Example: "  sealift serve /media/usb\n  docker pull 127.0.0.1:5050/registry.example.com/shop@sha256:…",
		Args:    args(1, 1, "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.serve(cmd.Context(), args[0], listen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "answer at `ADDRESS`; other than loopback needs --plain-http")
	return cmd
}

func (a *app) serve(ctx context.Context, ref, listen string) error {
	loc, err := artifact.ParseLocation(ref)
	if err != nil || loc.Place != artifact.PlaceMedia || loc.Repository != "" || loc.Reference() != "" {
		return withHint(usagef("serve wants a directory, got %q", ref), "write ./%s for a directory here", ref)
	}
	if !a.plainHTTP && !loopback(listen) {
		return usagef("%s is reachable from other machines, and the registry speaks plain HTTP; pass --plain-http to agree", listen)
	}
	l, err := openMedia(loc.Path)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return withHint(fmt.Errorf("serve: %w", err), "choose another address: sealift serve %s --listen 127.0.0.1:5051", ref)
	}
	address := listener.Addr().String()
	doc := struct {
		Type         string   `json:"type"`
		Address      string   `json:"address"`
		Media        string   `json:"media"`
		Repositories []string `json:"repositories"`
	}{Type: "serving", Address: address, Media: loc.Path, Repositories: []string{}}
	for _, name := range l.Repositories() {
		doc.Repositories = append(doc.Repositories, registry.URLName(name))
	}
	err = a.out.Result(doc, func(w io.Writer) {
		fmt.Fprintf(w, "serving %s at http://%s\n", ui.Printable(loc.Path), address)
		for _, name := range doc.Repositories {
			fmt.Fprintf(w, "  %s/%s\n", address, name)
		}
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := a.answer(ctx, listener, l); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	a.out.Message("stopped")
	return nil
}

// answer serves l at listener until ctx ends.
func (a *app) answer(ctx context.Context, listener net.Listener, l *layout.Layout) error {
	server := &http.Server{
		Handler: registry.New(layoutCatalog{l}, registry.Options{Logger: slog.New(messageHandler{a.out})}),
		// No limit on a whole answer: a blob over a slow line takes its time.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // transfers under way are cut after the grace
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// layoutCatalog shows a layout's repositories to the registry.
type layoutCatalog struct{ *layout.Layout }

func (c layoutCatalog) Repositories(context.Context) ([]string, error) {
	return c.Layout.Repositories(), nil
}

func (c layoutCatalog) Repository(_ context.Context, name string) (registry.Repository, error) {
	if !slices.Contains(c.Layout.Repositories(), name) {
		return nil, fmt.Errorf("repository %s: %w", name, errdef.ErrNotFound)
	}
	return c.Layout.Repository(name), nil
}

// messageHandler shows what the registry logs, errors only, to the person.
type messageHandler struct{ out *ui.Printer }

func (messageHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h messageHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(attr slog.Attr) bool {
		text += " " + attr.String()
		return true
	})
	h.out.Warn("%s", text)
	return nil
}

func (h messageHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h messageHandler) WithGroup(string) slog.Handler      { return h }
