package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"oras.land/oras-go/v2/errdef"
)

// A list of nothing, [{},{},…], is read into fifty times its bytes, and so are maps
// of short words. So the values of a document are counted before it is decoded, and
// the elements of its lists looked at one by one, which ends at the first bad one.

// How many values a document may have. Of index.json the shortest entries that say
// anything fill its 64 MiB with a third of that, of a label with half of it.
const (
	maxIndexValues = 4_000_000
	maxLabelValues = 2_000_000
)

// checkValues refuses documents of more values than they may have. Errors:
// errdef.ErrSizeExceedsLimit.
func checkValues(raw []byte, limit int) error {
	if n := countCommas(raw); n >= limit {
		return fmt.Errorf("more than %d values: %w", limit, errdef.ErrSizeExceedsLimit)
	}
	return nil
}

// countCommas counts the commas between values. It reads broken documents too.
func countCommas(raw []byte) int {
	n, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			quoted = !quoted
		case '\\':
			i++
		case ',':
			if !quoted {
				n++
			}
		}
	}
	return n
}

// decodeList decodes a list of at most limit elements and gives each to take, which
// ends it with an error. Errors: errdef.ErrSizeExceedsLimit.
func decodeList[T any](raw []byte, limit int, take func(element T) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	switch first, err := dec.Token(); {
	case err != nil:
		return err
	case first == nil:
		return nil
	case first != json.Delim('['):
		return errors.New("not a list")
	}
	for n := 0; dec.More(); n++ {
		if n >= limit {
			return fmt.Errorf("more than %d elements: %w", limit, errdef.ErrSizeExceedsLimit)
		}
		var element T
		err := dec.Decode(&element)
		if err == nil {
			err = take(element)
		}
		if err != nil {
			return fmt.Errorf("[%d]: %w", n, err)
		}
	}
	return nil
}
