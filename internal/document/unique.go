package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// maxKeptKeys is how many keys a set may have had that is used for another object:
// emptying a large one costs as much as filling it did.
const maxKeptKeys = 16

// nesting is a value that is open: an object with the keys that were read, and the last
// of them, or a list with the key that leads to it.
type nesting struct {
	object, exact bool
	keys          map[string]bool
	last          string
}

// UniqueKeys fails where an object in raw, which is valid JSON, has a key twice, in
// whatever letter case: encoding/json takes the last of them, other programs another,
// and one signature would be of two things. In an object called annotations, or optional
// as in a signing payload, keys of different case are different: those are everybody's.
func UniqueKeys(raw []byte) error {
	open := []nesting{{}}
	key := false
	for i := 0; i < len(raw); i++ {
		top := &open[len(open)-1]
		switch c := raw[i]; c {
		case '{', '[':
			key = c == '{'
			open = enter(open, key, top.last)
		case '}', ']':
			open, key = open[:len(open)-1], false
		case ',':
			key = top.object
		case '"':
			end := endOfString(raw, i)
			if key {
				top.last, key = unquote(raw[i:end]), false
				name := top.last
				if !top.exact {
					name = strings.ToLower(name)
				}
				if top.keys[name] {
					return fmt.Errorf("key %.100q stands twice", top.last)
				}
				top.keys[name] = true
			}
			i = end - 1
		}
	}
	return nil
}

// enter opens an object or a list, in the place that another had before.
func enter(open []nesting, object bool, under string) []nesting {
	n := len(open)
	if n == cap(open) {
		open = append(open, nesting{})
	}
	open = open[:n+1]
	top := &open[n]
	if !object {
		top.object, top.last = false, under
		return open
	}
	if top.keys == nil || len(top.keys) > maxKeptKeys {
		top.keys = map[string]bool{}
	}
	clear(top.keys)
	top.object, top.exact, top.last = true, under == "annotations" || under == "optional", ""
	return open
}

// endOfString returns where the string that begins at i ends.
func endOfString(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func unquote(raw []byte) (s string) {
	if !bytes.ContainsRune(raw, '\\') {
		return string(raw[1 : len(raw)-1])
	}
	_ = json.Unmarshal(raw, &s) // was valid
	return s
}
