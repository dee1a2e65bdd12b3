package redis_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeServer speaks enough RESP2 for the client: AUTH and the commands of the
// shop over lists and numbers in memory.
type fakeServer struct {
	net.Listener
	password string

	mu       sync.Mutex
	lists    map[string][]string
	numbers  map[string]int
	received []string
	conns    []net.Conn
	done     sync.WaitGroup
}

func newServer(t *testing.T, password string) *fakeServer {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{Listener: l, password: password, lists: map[string][]string{}, numbers: map[string]int{}}
	s.done.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		s.cut()
		s.done.Wait()
	})
	return s
}

func (s *fakeServer) url(password string) string {
	return fmt.Sprintf("redis://:%s@%s", password, s.Addr())
}

func (s *fakeServer) accept() {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		s.done.Go(func() { s.serve(c) })
	}
}

// cut ends all connections, as a restart of Redis does.
func (s *fakeServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

func (s *fakeServer) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.received...)
}

func (s *fakeServer) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	allowed := s.password == ""
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		reply := "-NOAUTH Authentication required.\r\n"
		switch {
		case args[0] == "AUTH" && args[len(args)-1] == s.password:
			allowed, reply = true, "+OK\r\n"
		case args[0] == "AUTH":
			reply = "-WRONGPASS invalid username-password pair\r\n"
		case allowed:
			reply = s.execute(args)
		}
		if _, err := io.WriteString(c, reply); err != nil {
			return
		}
	}
}

func (s *fakeServer) execute(args []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, args[0])
	switch args[0] {
	case "PING":
		return "+PONG\r\n"
	case "INCR":
		s.numbers[args[1]]++
		return fmt.Sprintf(":%d\r\n", s.numbers[args[1]])
	case "RPUSH":
		s.lists[args[1]] = append(s.lists[args[1]], args[2])
		return fmt.Sprintf(":%d\r\n", len(s.lists[args[1]]))
	case "LLEN":
		return fmt.Sprintf(":%d\r\n", len(s.lists[args[1]]))
	case "LRANGE":
		list := s.lists[args[1]]
		if n, err := strconv.Atoi(args[2]); err == nil && len(list) > -n {
			list = list[len(list)+n:]
		}
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(list))
		for _, v := range list {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(v), v)
		}
		return b.String()
	}
	return "-ERR unknown command\r\n"
}

func readCommand(r *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		var size int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}
