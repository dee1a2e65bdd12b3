package redis

import (
	"bufio"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		want any
		err  error
	}{
		"simple string":   {"+OK\r\n", "OK", nil},
		"integer":         {":-42\r\n", int64(-42), nil},
		"bulk":            {"$5\r\na\r\nbc\r\n", "a\r\nbc", nil},
		"empty bulk":      {"$0\r\n\r\n", "", nil},
		"null":            {"$-1\r\n", nil, nil},
		"null array":      {"*-1\r\n", nil, nil},
		"array":           {"*2\r\n:1\r\n$1\r\nx\r\n", []any{int64(1), "x"}, nil},
		"error":           {"-ERR no\r\n", nil, ServerError("ERR no")},
		"error in array":  {"*2\r\n-ERR no\r\n:1\r\n", nil, ErrProtocol},
		"no CR":           {"+OK\n", nil, ErrProtocol},
		"unknown type":    {"%1\r\n", nil, ErrProtocol},
		"empty line":      {"\r\n", nil, ErrProtocol},
		"bad integer":     {":1.5\r\n", nil, ErrProtocol},
		"bad length":      {"$-2\r\n", nil, ErrProtocol},
		"huge bulk":       {"$2000000\r\n", nil, ErrProtocol},
		"huge array":      {"*20000\r\n", nil, ErrProtocol},
		"unended bulk":    {"$2\r\nabcd", nil, ErrProtocol},
		"long line":       {"+" + strings.Repeat("x", 8<<10) + "\r\n", nil, ErrProtocol},
		"nested too deep": {strings.Repeat("*1\r\n", 6) + ":1\r\n", nil, ErrProtocol},
		"cut in bulk":     {"$5\r\nab", nil, io.ErrUnexpectedEOF},
		"nothing":         {"", nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readReply(bufio.NewReader(strings.NewReader(tc.in)), maxDepth)
			if !errors.Is(err, tc.err) || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("readReply(%q) = %#v, %v, want %#v, %v", tc.in, got, err, tc.want, tc.err)
			}
		})
	}
}

func FuzzReadReply(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-ERR\r\n", ":1\r\n", "$3\r\nabc\r\n", "*2\r\n:1\r\n$-1\r\n", "*1\r\n*1\r\n*-1\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		v, err := readReply(bufio.NewReader(strings.NewReader(in)), maxDepth)
		if err != nil && v != nil {
			t.Errorf("readReply(%q) = %v with the error %v, want no value", in, v, err)
		}
	})
}
