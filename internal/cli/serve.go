package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
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
		Use:   "serve [MEDIA…]",
		Short: "Serve the library or media as a registry, in place",
		Long: `serve answers as a read-only OCI registry with what is in the site's library, or on
the media given. Nothing is copied and nothing is written; read-only mounts work. What
is imported into the library meanwhile is served too. A repository
registry.example.com/shop on the media is pulled as ADDRESS/registry.example.com/shop,
or as ADDRESS/shop where that is unambiguous; a port is written HOST__PORT.

Several MEDIA are served as one: the volumes of a set, or a delta and what it builds
on, whichever they are in.

What is damaged is never served as good: manifests are checked before they are sent,
and a blob that turns out wrong while it is first read ends the connection.`,
		Example: "  sealift serve\n  sealift serve /media/usb\n  docker pull 127.0.0.1:5050/registry.example.com/shop@sha256:…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.serve(cmd.Context(), args, listen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "answer at `ADDRESS`; other than loopback needs --plain-http")
	return cmd
}

func (a *app) serve(ctx context.Context, refs []string, listen string) error {
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return withHint(usagef("--listen wants HOST:PORT, got %q", listen), "for this machine only: --listen 127.0.0.1:5051")
	}
	if !a.plainHTTP && !loopback(listen) {
		return usagef("%s is reachable from other machines, and the registry speaks plain HTTP; pass --plain-http to agree", listen)
	}
	source, err := a.served(ctx, refs)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return withHint(fmt.Errorf("serve: %w", err), "choose another address: %s --listen 127.0.0.1:5051", strings.Join(append([]string{"sealift serve"}, refs...), " "))
	}
	names, err := source.catalog.Repositories(ctx)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	address := listener.Addr().String()
	doc := struct {
		Type         string   `json:"type"`
		Address      string   `json:"address"`
		Media        string   `json:"media"`
		MediaDirs    []string `json:"mediaDirs"`
		Repositories []string `json:"repositories"`
		// Lacks tells of artifacts that are not whole.
		Lacks []lack `json:"lacks,omitempty"`
	}{"serving", address, strings.Join(source.dirs, " "), source.dirs, []string{}, source.lacks}
	for _, name := range names {
		doc.Repositories = append(doc.Repositories, registry.URLName(name))
	}
	err = a.out.Result(doc, func(w io.Writer) {
		fmt.Fprintf(w, "serving %s at http://%s\n", source.name, address)
		for _, name := range doc.Repositories {
			fmt.Fprintf(w, "  %s/%s\n", address, name)
		}
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := delivery.Serve(ctx, listener, source.catalog, slog.New(a.out.Handler())); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	a.out.Message("stopped")
	return nil
}

// served is what a registry answers with.
type served struct {
	name    string
	dirs    []string
	catalog registry.Catalog
	lacks   []lack // of media
}

// served opens media, or the library where none is named.
func (a *app) served(ctx context.Context, refs []string) (served, error) {
	if len(refs) == 0 {
		home, err := a.openState()
		if err != nil {
			return served{}, err
		}
		return served{"the library, " + home.LibraryDir() + ",", []string{home.LibraryDir()}, delivery.LibraryCatalog(home.LibraryDir(), slog.New(a.out.Handler())), nil}, nil
	}
	l, dirs, err := openAll(refs)
	if err != nil {
		return served{}, err
	}
	lacks, err := a.tellLacks(ctx, l, dirs)
	return served{strings.Join(dirs, " "), dirs, delivery.Catalog(l), lacks}, err
}

// lack says what is not there of an artifact, for the reason that media gives.
type lack struct {
	Name   string `json:"name"`
	Blobs  int    `json:"blobs,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// tellLacks warns of what is asked for in vain later, when nobody sees why. It looks
// whether content is there and does not read it.
func (a *app) tellLacks(ctx context.Context, l *layout.Layout, dirs []string) (lacks []lack, err error) {
	list, err := delivery.FindIn(ctx, l, artifact.Location{Place: artifact.PlaceMedia, Path: l.Dir()})
	if errors.Is(err, errdef.ErrNotFound) {
		a.out.Warn("%v", nothingFinished(dirs))
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := a.warnForks(ctx, list); err != nil {
		return nil, err
	}
	found, err := delivery.Lacking(ctx, list)
	for _, l := range found {
		part := newLack(l)
		a.out.Warn("%s lacks %s", l.Name, part.text())
		lacks = append(lacks, *part)
	}
	return lacks, err
}

func newLack(l delivery.Lack) *lack {
	part := &lack{l.Name, l.Blobs, l.Bytes, l.Reason}
	if l.Err != nil {
		part.Reason = l.Err.Error()
	}
	return part
}

func (p lack) text() string {
	switch {
	case p.Blobs == 0:
		return "manifests: " + ui.Value(p.Reason)
	case p.Reason == "":
		return fmt.Sprintf("%s, %s", count(p.Blobs, "blob"), ui.Bytes(p.Bytes))
	}
	return fmt.Sprintf("%s, %s: %s", count(p.Blobs, "blob"), ui.Bytes(p.Bytes), ui.Value(p.Reason))
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
