// Package remotetest is a network in memory with registries that follow a script:
// [NewNetwork], [Network.Serve]. A registry refuses what its script does not
// expect, and breaks connections where the script says so. Nothing in it waits for
// the outside, so that tests in a synctest bubble see minutes pass at once.
package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
)

// Reporter is the part of a test that the scripts report to.
type Reporter interface {
	Errorf(format string, args ...any)
	Cleanup(func())
}

// Network connects clients with the registries served in it, by HOST:PORT. It may
// be used concurrently.
type Network struct {
	report Reporter

	mu    sync.Mutex
	hosts map[string]*listener
	dials int
}

// NewNetwork returns a network without hosts. Its servers end with the test.
func NewNetwork(report Reporter) *Network {
	return &Network{report: report, hosts: map[string]*listener{}}
}

// Transport returns a transport into the network. Its TLS is none: a https URL
// reaches the host at its port in the clear.
func (n *Network) Transport() *http.Transport {
	t := &http.Transport{DialContext: n.dial, DialTLSContext: n.dial}
	n.report.Cleanup(t.CloseIdleConnections)
	return t
}

// Dials counts the connections made so far.
func (n *Network) Dials() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

// Handle serves handler at hostport.
func (n *Network) Handle(hostport string, handler http.Handler) {
	l := &listener{conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	n.hosts[hostport] = l
	n.mu.Unlock()
	// A handler that has not read its request does not see that its client is gone.
	ctx, cancel := context.WithCancel(context.Background())
	srv := &http.Server{
		Handler: handler, ErrorLog: log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(l) })
	n.report.Cleanup(func() {
		cancel()
		_ = srv.Close()
		running.Wait()
	})
}

func (n *Network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.dials++
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("%s: %w", addr, syscall.ECONNREFUSED)}
	if l == nil {
		return nil, refused
	}
	client, server := net.Pipe()
	reset := new(atomic.Bool)
	select {
	case l.conns <- &conn{server, reset}:
		return &conn{client, reset}, nil
	case <-l.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// conn is one end of a connection that can be reset.
type conn struct {
	net.Conn
	reset *atomic.Bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) && c.reset.Load() {
		err = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return n, err
}

type listener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
