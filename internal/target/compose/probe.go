package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sealift/sealift/artifact"
)

// probe asks a running container's health check once, from the outside. It
// returns nil when the component works.
func probe(ctx context.Context, component artifact.Component, c container) error {
	h := component.Health
	name, ask := h.TCP, askTCP
	if h.HTTP != nil {
		name = h.HTTP.Port
		ask = func(ctx context.Context, addr string) error { return askHTTP(ctx, addr, h.HTTP.Path) }
	}
	// Each address has the whole time, and neither more than the caller.
	try := func(addr string) error {
		ctx, cancel := context.WithTimeout(ctx, timeout(h))
		defer cancel()
		return ask(ctx, addr)
	}
	port := component.Ports[name].Port
	err := errNoAddress
	if ip := c.address(); ip != "" {
		err = try(net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	host := c.hostAddress(port, "tcp")
	if err == nil || ctx.Err() != nil || host == "" || !unreachable(err) {
		return err
	}
	// The container's network is not this host's: a rootless or remote engine,
	// or one in a virtual machine.
	return try(host)
}

var errNoAddress = errors.New("the container has no address yet")

func unreachable(err error) bool {
	return errors.Is(err, errNoAddress) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

func askHTTP(ctx context.Context, addr, path string) error {
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s answers %s", path, resp.Status)
	}
	return nil
}

// askTCP connects and waits a moment: the proxy of a published port accepts on
// behalf of a component that does not listen, and hangs up at once.
func askTCP(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return err
	}
	var b [1]byte
	_, err = conn.Read(b[:])
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("connection to %s is closed at once: %w", addr, err)
}
