package redis_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealift/sealift/examples/shop/internal/redis"
)

func newClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	c, err := redis.New(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestNewRefusesOtherURLs(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"empty":       "",
		"scheme":      "http://:hunter2@db:6379",
		"no host":     "redis://:hunter2@",
		"not parsed":  "redis://:hunter2@db:port",
		"bare host":   "db:6379",
		"control hex": "redis://:hunter2@db:6379/%zz",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := redis.New(url)
			if err == nil {
				t.Fatalf("New(%q) gave no error", url)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("New(%q) shows the password: %v", url, err)
			}
		})
	}
}

func TestClientStoresAndLists(t *testing.T) {
	t.Parallel()
	s := newServer(t, "s3cret")
	c := newClient(t, s.url("s3cret"))
	ctx := t.Context()

	if err := c.Ping(ctx); err != nil {
		t.Fatalf("Ping() = %v", err)
	}
	for i, item := range []string{"tea", "crisps\r\nand soda", "grüner Tee"} {
		if n, err := c.Incr(ctx, "id"); err != nil || n != int64(i+1) {
			t.Fatalf("Incr() = %d, %v, want %d", n, err, i+1)
		}
		if n, err := c.Append(ctx, "list", item); err != nil || n != int64(i+1) {
			t.Fatalf("Append(%q) = %d, %v, want %d", item, n, err, i+1)
		}
	}
	if n, err := c.Len(ctx, "list"); err != nil || n != 3 {
		t.Errorf("Len() = %d, %v, want 3", n, err)
	}
	got, err := c.Last(ctx, "list", 2)
	if want := []string{"crisps\r\nand soda", "grüner Tee"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("Last(2) = %q, %v, want %q", got, err, want)
	}
	if got, err := c.Last(ctx, "none", 2); err != nil || len(got) != 0 {
		t.Errorf("Last of an absent list = %q, %v, want none", got, err)
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := newServer(t, "s3cret")
	err := newClient(t, s.url("guess")).Ping(t.Context())
	var refused redis.ServerError
	if !errors.As(err, &refused) || !strings.HasPrefix(string(refused), "WRONGPASS") {
		t.Fatalf("Ping() = %v, want WRONGPASS", err)
	}
	if strings.Contains(err.Error(), "guess") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestReconnectsAfterTheServerWasGone(t *testing.T) {
	t.Parallel()
	s := newServer(t, "s3cret")
	c := newClient(t, s.url("s3cret"))
	ctx := t.Context()
	if _, err := c.Append(ctx, "list", "tea"); err != nil {
		t.Fatal(err)
	}
	s.cut()
	if n, err := c.Incr(ctx, "id"); err != nil || n < 1 {
		t.Fatalf("Incr() after the cut = %d, %v", n, err)
	}
	if n, err := c.Append(ctx, "list", "milk"); err != nil || n != 2 {
		t.Fatalf("Append() after the cut = %d, %v, want 2", n, err)
	}
}

// An append may have been carried out although its reply was lost, so it must
// not be sent again.
func TestAppendIsSentOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	c := newClient(t, "redis://"+s.Addr().String())
	ctx := t.Context()
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	s.cut()
	if _, err := c.Append(ctx, "list", "tea"); err == nil {
		t.Error("Append() over a dead connection gave no error")
	}
	if got := s.commands(); slices.Contains(got, "RPUSH") {
		t.Errorf("the server received %q, want no RPUSH", got)
	}
	if _, err := c.Append(ctx, "list", "tea"); err != nil {
		t.Errorf("the next Append() = %v, want a new connection", err)
	}
}

func TestSilentServerDoesNotHoldTheCaller(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newClient(t, "redis://"+l.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ping() = %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := newServer(t, "s3cret")
	c := newClient(t, s.url("s3cret"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := c.Append(t.Context(), "list", "tea"); err != nil {
					t.Errorf("Append() = %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := c.Len(t.Context(), "list"); err != nil || n != 160 {
		t.Errorf("Len() = %d, %v, want 160", n, err)
	}
}
