package delivery_test

import (
	"errors"
	"testing"

	"github.com/sealift/sealift/internal/delivery"
)

func TestParseRequest(t *testing.T) {
	t.Parallel()
	other := errors.New("another error")
	for raw, want := range map[string]error{
		`{"refs":["a"],"destination":"./b","check":false}`:                       nil,
		`{"refs":["a"],"destination":"./b","set":"./c","volume":2,"check":true}`: nil,
		`{"refs":["a"],"destination":"./b"}`:                                     delivery.ErrOldRequest,
		`{"refs":["a"],"destination":"./b","volumeSize":"dvd"}`:                  delivery.ErrOldRequest,
		`{"refs":[],"destination":"./b","check":false}`:                          delivery.ErrNoRequest,
		`null`: delivery.ErrNoRequest,
		`{"refs":["a"],"destination":"./b","volume":-1,"check":false}`: other,
		`{"refs":["a"],"destination":"./b","Check":false}`:             other,
	} {
		_, err := delivery.ParseRequest([]byte(raw))
		switch {
		case want == other && (err == nil || errors.Is(err, delivery.ErrOldRequest)):
			t.Errorf("ParseRequest(%s) = %v, want another error", raw, err)
		case want != other && !errors.Is(err, want):
			t.Errorf("ParseRequest(%s) = %v, want %v", raw, err, want)
		}
	}
}
