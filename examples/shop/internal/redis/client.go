// Package redis is the little of the Redis protocol that the shop needs: one
// connection, opened when it is first used and again after it broke, and six
// commands over RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec/).
// [New] makes a client from a redis:// URL; [Client.Ping] tells whether the
// server answers. Replies are read with fixed caps, so that a broken server
// cannot exhaust the memory of the caller.
package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

const (
	defaultPort    = "6379"
	dialTimeout    = 3 * time.Second
	commandTimeout = 5 * time.Second
)

// Client speaks to one Redis server. It may be used concurrently: commands take
// turns on one connection.
type Client struct {
	addr string
	auth []string // the AUTH command, nil without a password
	slot chan *connection
}

type connection struct {
	net.Conn
	r *bufio.Reader
}

// New returns a client for a URL like redis://[user]:password@host:port. It
// opens no connection; the first command does. Errors never show the password.
func New(rawURL string) (*Client, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("redis URL: not a valid URL") // err quotes the URL, and the URL holds the password
	}
	if u.Scheme != "redis" || u.Hostname() == "" {
		return nil, errors.New("redis URL: want redis://[user]:password@host:port")
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	c := &Client{addr: net.JoinHostPort(u.Hostname(), port), slot: make(chan *connection, 1)}
	if password, ok := u.User.Password(); ok {
		c.auth = []string{"AUTH"}
		if user := u.User.Username(); user != "" {
			c.auth = append(c.auth, user)
		}
		c.auth = append(c.auth, password)
	}
	c.slot <- nil
	return c, nil
}

// Close ends the connection, if there is one. A later command opens a new one.
func (c *Client) Close() error {
	conn := <-c.slot
	c.slot <- nil
	if conn == nil {
		return nil
	}
	return conn.Close()
}

// Ping reports whether the server answers and accepts the password.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.repeatable(ctx, "PING")
	return err
}

// Incr adds one to the number at key and returns the result. After a lost
// connection it may be sent twice, so that a number can be skipped, but none is
// returned twice.
func (c *Client) Incr(ctx context.Context, key string) (int64, error) {
	return asInt(c.repeatable(ctx, "INCR", key))
}

// Append adds value at the end of the list at key and returns its new length.
// It is sent once: when the connection is lost the value may or may not be in
// the list.
func (c *Client) Append(ctx context.Context, key, value string) (int64, error) {
	return asInt(c.once(ctx, "RPUSH", key, value))
}

// Len returns the length of the list at key, 0 when there is none.
func (c *Client) Len(ctx context.Context, key string) (int64, error) {
	return asInt(c.repeatable(ctx, "LLEN", key))
}

// Last returns the last n values of the list at key in their order.
func (c *Client) Last(ctx context.Context, key string, n int) ([]string, error) {
	reply, err := c.repeatable(ctx, "LRANGE", key, fmt.Sprint(-n), "-1")
	if err != nil {
		return nil, err
	}
	list, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("redis: %w: want an array, got %T", ErrProtocol, reply)
	}
	values := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("redis: %w: want strings, got %T", ErrProtocol, v)
		}
		values = append(values, s)
	}
	return values, nil
}

func asInt(reply any, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	n, ok := reply.(int64)
	if !ok {
		return 0, fmt.Errorf("redis: %w: want an integer, got %T", ErrProtocol, reply)
	}
	return n, nil
}

// repeatable sends a command that does no harm when it is carried out twice: a
// connection that turns out to be dead is replaced and the command sent again.
func (c *Client) repeatable(ctx context.Context, args ...string) (any, error) {
	return c.do(ctx, true, args)
}

func (c *Client) once(ctx context.Context, args ...string) (any, error) {
	return c.do(ctx, false, args)
}

func (c *Client) do(ctx context.Context, repeat bool, args []string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var conn *connection
	select {
	case conn = <-c.slot:
	case <-ctx.Done():
		return nil, fmt.Errorf("redis %s: %w", args[0], ctx.Err())
	}
	reused := conn != nil
	conn, reply, err := c.try(ctx, conn, args)
	if conn == nil && reused && repeat && ctx.Err() == nil {
		conn, reply, err = c.try(ctx, nil, args)
	}
	c.slot <- conn
	if err != nil {
		return nil, fmt.Errorf("redis %s: %w", args[0], err)
	}
	return reply, nil
}

// try runs one command over conn, or over a new connection when conn is nil. It
// returns the connection when it can be used again, else nil.
func (c *Client) try(ctx context.Context, conn *connection, args []string) (*connection, any, error) {
	if conn == nil {
		var err error
		if conn, err = c.dial(ctx); err != nil {
			return nil, nil, err
		}
	}
	reply, err := conn.exchange(ctx, args)
	var refused ServerError
	if err != nil && !errors.As(err, &refused) {
		_ = conn.Close() // already broken; the cause is err
		return nil, nil, err
	}
	return conn, reply, err
}

func (c *Client) dial(ctx context.Context) (*connection, error) {
	d := net.Dialer{Timeout: dialTimeout}
	raw, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: raw, r: bufio.NewReader(raw)}
	if c.auth != nil {
		if _, err := conn.exchange(ctx, c.auth); err != nil {
			_ = conn.Close() // never used; the cause is err
			return nil, fmt.Errorf("authenticate: %w", err)
		}
	}
	return conn, nil
}

// exchange sends one command and reads its reply. When ctx ends first the
// deadline is moved into the past, which frees both the write and the read.
func (c *connection) exchange(ctx context.Context, args []string) (any, error) {
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	reply, err := c.roundTrip(args)
	if !stop() {
		return nil, ctx.Err() // the deadline may hit the next command: give the connection up
	}
	return reply, err
}

func (c *connection) roundTrip(args []string) (any, error) {
	if _, err := c.Write(encode(args)); err != nil {
		return nil, err
	}
	return readReply(c.r, maxDepth)
}
