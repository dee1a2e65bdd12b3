package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
)

// DecodeStrict decodes raw, one JSON value, into v, which is a pointer, as
// encoding/json does, and refuses what other programs may read as something else: a
// key that v does not have in exactly these letters, and one that an object has
// twice. encoding/json itself takes any letter case, and the last of several. Where v
// takes anything, keys are only not to stand twice.
func DecodeStrict(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := checkKeys(dec, reflect.TypeOf(v)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return json.Unmarshal(raw, v)
}

// checkKeys reads one value that is to become a t, nil for anything.
func checkKeys(dec *json.Decoder, t reflect.Type) error {
	token, err := dec.Token()
	if err != nil {
		return err
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch token {
	case json.Delim('['):
		err = eachElement(dec, func() error { return checkKeys(dec, elementType(t)) })
	case json.Delim('{'):
		err = eachKey(dec, func(key string) error {
			of, known := fieldType(t, key)
			if !known {
				return fmt.Errorf("unknown key %q", key)
			}
			return checkKeys(dec, of)
		})
	}
	return err
}

// eachElement calls do in front of each element of an array that has been entered,
// which do has to read, and leaves it.
func eachElement(dec *json.Decoder, do func() error) error {
	for dec.More() {
		if err := do(); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// eachKey calls do behind each key of an object that has been entered; do has to read
// the value.
func eachKey(dec *json.Decoder, do func(key string) error) error {
	seen := map[string]bool{}
	return eachElement(dec, func() error {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string) // the decoder takes nothing else here
		if seen[key] {
			return fmt.Errorf("key %q stands twice", key)
		}
		seen[key] = true
		return do(key)
	})
}

func elementType(t reflect.Type) reflect.Type {
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

// fieldType returns what the value of a key becomes, and whether t has the key.
func fieldType(t reflect.Type, key string) (of reflect.Type, known bool) {
	if t == nil || t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
		return nil, true
	}
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	of, known = fieldsOf(t)[key]
	return of, known
}

// structFields are the fields of the types that were asked about: making them for
// every piece of a plan takes longer than reading it.
var structFields sync.Map

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	if fields, ok := structFields.Load(t); ok {
		return fields.(map[string]reflect.Type)
	}
	fields := map[string]reflect.Type{}
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		fields[name] = field.Type
	}
	structFields.Store(t, fields)
	return fields
}
