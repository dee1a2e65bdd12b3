package redis

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Caps of one reply. The shop reads a hundred short orders at a time.
const (
	maxLineBytes = 4 << 10
	maxBulkBytes = 1 << 20
	maxElements  = 10_000
	maxDepth     = 4
)

// ErrProtocol means that the server sent something that is not RESP2, or more
// than the caps of this package.
var ErrProtocol = errors.New("not a valid reply")

// ServerError is an error reply such as "WRONGPASS invalid username-password
// pair". The connection stays usable.
type ServerError string

// Error returns the server's text.
func (e ServerError) Error() string { return string(e) }

// encode writes a command as an array of bulk strings.
func encode(args []string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// readReply reads one value: a string, an int64, nil or a []any of these. An
// error reply comes back as a ServerError.
func readReply(r *bufio.Reader, depth int) (any, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, fmt.Errorf("%w: empty line", ErrProtocol)
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, ServerError(rest)
	case ':':
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: integer %q", ErrProtocol, rest)
		}
		return n, nil
	case '$':
		return readBulk(r, rest)
	case '*':
		return readArray(r, rest, depth)
	default:
		return nil, fmt.Errorf("%w: type %q", ErrProtocol, kind)
	}
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLineBytes {
			return "", fmt.Errorf("%w: line over %d bytes", ErrProtocol, maxLineBytes)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return "", fmt.Errorf("%w: line without CR LF", ErrProtocol)
	}
	return string(line[:len(line)-2]), nil
}

func readBulk(r *bufio.Reader, length string) (any, error) {
	n, err := readLength(length, maxBulkBytes)
	if err != nil || n < 0 {
		return nil, err
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if string(b[n:]) != "\r\n" {
		return nil, fmt.Errorf("%w: bulk string without CR LF", ErrProtocol)
	}
	return string(b[:n]), nil
}

func readArray(r *bufio.Reader, length string, depth int) (any, error) {
	n, err := readLength(length, maxElements)
	if err != nil || n < 0 {
		return nil, err
	}
	if depth == 0 {
		return nil, fmt.Errorf("%w: arrays nested over %d deep", ErrProtocol, maxDepth)
	}
	var list []any
	for range n {
		v, err := readReply(r, depth-1)
		if err != nil {
			var inner ServerError
			if errors.As(err, &inner) { // no command used here answers so, and the rest of the array would stay unread
				return nil, fmt.Errorf("%w: error inside an array", ErrProtocol)
			}
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// readLength parses a length; -1 means null.
func readLength(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < -1 || n > limit {
		return 0, fmt.Errorf("%w: length %q", ErrProtocol, s)
	}
	return n, nil
}
