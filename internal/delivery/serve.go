package delivery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/registry"
)

// ErrElsewhere reports that something else answers where the images should be.
var ErrElsewhere = errors.New("does not serve this release")

// Serve answers as a registry with the repositories of c until ctx ends; transfers
// under way then get five seconds. It closes listener.
func Serve(ctx context.Context, listener net.Listener, c registry.Catalog, log *slog.Logger) error {
	server := &http.Server{
		Handler: registry.New(c, registry.Options{Logger: log}),
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

// Catalog shows the repositories of a layout, as it was opened, to a registry.
func Catalog(l *layout.Layout) registry.Catalog { return catalog{l} }

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

// LibraryCatalog shows the repositories of the layout in dir to a registry, as it is at
// each request: what is imported meanwhile appears. A layout that cannot be read shows
// what it did before, and why is logged once.
func LibraryCatalog(dir string, log *slog.Logger) registry.Catalog {
	return &libraryCatalog{dir: dir, log: log}
}

type libraryCatalog struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex
	told  string // the error that was logged last
	shown catalog
	index os.FileInfo // of index.json when it was read, nil before
}

// now returns the layout as it is.
func (c *libraryCatalog) now() (catalog, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	index, err := os.Stat(filepath.Join(c.dir, ocispec.ImageIndexFile))
	if err == nil && c.index != nil && os.SameFile(index, c.index) && index.ModTime().Equal(c.index.ModTime()) && index.Size() == c.index.Size() {
		return c.shown, nil
	}
	var l *layout.Layout
	if err == nil {
		l, err = layout.Open(c.dir)
	}
	switch {
	case err == nil:
		c.shown, c.index, c.told = catalog{l}, index, ""
	case c.index != nil: // it is being written, or the disk is away: what was shown before may still be read
		if text := err.Error(); text != c.told {
			c.log.Warn("the library cannot be read; what it held before is served", "error", text)
			c.told = text
		}
		err = nil
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("nothing is in the library: %w", errdef.ErrNotFound)
	}
	return c.shown, err
}

func (c *libraryCatalog) Repositories(ctx context.Context) ([]string, error) {
	now, err := c.now()
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return now.Repositories(ctx)
}

func (c *libraryCatalog) Repository(ctx context.Context, name string) (registry.Repository, error) {
	now, err := c.now()
	if err != nil {
		return nil, err
	}
	return now.Repository(ctx, name)
}

// ImageRepository returns the repository an engine on this host pulls the images of f
// from: of a release in a registry that one, else the registry at address.
func ImageRepository(f Found, address string) string {
	if f.Media == nil {
		return f.Repository
	}
	return address + "/" + registry.URLName(f.Repository)
}

// Answer makes sure that the registry at address has root in repository, which is at
// that address: the one that answers there, or one that is started here with c. stop
// ends the latter and must be called. It fails with [ErrElsewhere].
func (f Finder) Answer(ctx context.Context, address, repository string, root digest.Digest, c registry.Catalog, log *slog.Logger) (stop func() error, err error) {
	nothing := func() error { return nil }
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		repo, err := f.Open(repository)
		if err != nil {
			return nothing, err
		}
		if _, err := repo.Resolve(ctx, root.String()); err != nil {
			return nothing, fmt.Errorf("what answers at %s %w: %w", address, ErrElsewhere, err)
		}
		return nothing, nil
	} else if err != nil {
		return nothing, fmt.Errorf("serve the images: %w", err)
	}
	serving, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- Serve(serving, listener, c, log) }()
	return func() error {
		cancel()
		return <-done
	}, nil
}
