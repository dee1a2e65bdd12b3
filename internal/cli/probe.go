package cli

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// newProbe is what containers run to find out whether they work; see
// target.RenderInput. It is of no use to people.
func newProbe() *cobra.Command {
	timeout := 5 * time.Second
	cmd := &cobra.Command{
		Use:    "probe http URL | probe tcp ADDRESS",
		Short:  "Check a component from inside its container",
		Hidden: true,
		Args:   args(2, 2, "http and a URL, or tcp and an address"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			switch args[0] {
			case "http":
				return probeHTTP(ctx, args[1])
			case "tcp":
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", args[1])
				if err != nil {
					return errors.New(err.Error()) // hints about registries are not meant
				}
				return conn.Close()
			}
			return usagef("probe knows http and tcp, got %q", args[0])
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after `DURATION`")
	return cmd
}

// probeHTTP succeeds with a status from 200 to 399; a redirect is an answer, and
// is not followed.
func probeHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usagef("%v", err)
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return errors.New(err.Error()) // hints about registries are not meant
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("%s answers with status %d", url, resp.StatusCode)
	}
	return nil
}

// staticSelf returns the path of the running program when it can run in any
// container, "" when it needs a loader or libraries of this host.
func staticSelf() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := elf.Open(path)
	if err != nil {
		return "" // not Linux
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return ""
		}
	}
	return path
}
