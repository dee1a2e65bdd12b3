package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/registry"
)

// ErrElsewhere reports that something else answers where the images should be.
var ErrElsewhere = errors.New("does not serve this release")

// Serve answers as a registry with what l holds until ctx ends; transfers under
// way then get five seconds. It closes listener.
func Serve(ctx context.Context, listener net.Listener, l *layout.Layout, log *slog.Logger) error {
	server := &http.Server{
		Handler: registry.New(catalog{l}, registry.Options{Logger: log}),
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

// catalog shows a layout's repositories to the registry.
type catalog struct{ *layout.Layout }

func (c catalog) Repositories(context.Context) ([]string, error) {
	return c.Layout.Repositories(), nil
}

func (c catalog) Repository(_ context.Context, name string) (registry.Repository, error) {
	repo, ok := c.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("repository %s: %w", name, errdef.ErrNotFound)
	}
	return repo, nil
}

// Images returns the repository an engine on this host pulls r's images from. A
// release in a registry is pulled from there. One on media is pulled from the
// registry at address: the one that answers there, if it has the release, or one
// that is started here. stop ends the latter and must be called. It fails with
// [ErrElsewhere].
func (f Finder) Images(ctx context.Context, r *Release, address string, log *slog.Logger) (repository string, stop func() error, err error) {
	nothing := func() error { return nil }
	if r.Media == nil {
		return r.Repository, nothing, nil
	}
	repository = address + "/" + registry.URLName(r.Repository)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		repo, err := f.Open(repository)
		if err != nil {
			return "", nothing, err
		}
		if _, err := repo.Resolve(ctx, r.Found.Descriptor.Digest.String()); err != nil {
			return "", nothing, fmt.Errorf("what answers at %s %w: %w", address, ErrElsewhere, err)
		}
		return repository, nothing, nil
	} else if err != nil {
		return "", nothing, fmt.Errorf("serve the images: %w", err)
	}
	serving, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- Serve(serving, listener, r.Media, log) }()
	return repository, func() error {
		cancel()
		return <-done
	}, nil
}
