package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// config is the content of web.conf: lines of key = value, # begins a comment.
type config struct {
	Name   string // name: what the shop is called; required
	Banner string // banner: a line above the orders; empty for none
}

func loadConfig(path string) (config, error) {
	f, err := os.Open(path)
	if err != nil {
		return config{}, err // names the file already
	}
	defer f.Close()
	c, err := parseConfig(f)
	if err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseConfig(r io.Reader) (config, error) {
	var c config
	fields := map[string]*string{"name": &c.Name, "banner": &c.Banner}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return config{}, fmt.Errorf("line %d: want key = value", n)
		}
		field := fields[strings.TrimSpace(key)]
		if field == nil {
			return config{}, fmt.Errorf("line %d: unknown key %q", n, strings.TrimSpace(key))
		}
		*field = strings.TrimSpace(value)
	}
	if err := lines.Err(); err != nil {
		return config{}, err
	}
	if c.Name == "" {
		return config{}, fmt.Errorf("name is not set")
	}
	return c, nil
}
