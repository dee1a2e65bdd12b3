// Package ui is what people and programs see: results on standard output,
// progress, messages and errors on standard error, as text or as JSON.
//
// A [Printer] is made once for a command. Text for people follows the terminal:
// bars that redraw themselves where there is one, plain lines where there is none.
// JSON is one document for a result and one line for everything
// else, each with a "type".
package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/sealift/sealift/artifact"
)

// Format is how results and messages are written.
type Format string

// The formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Options describe where output goes.
type Options struct {
	Out, Err io.Writer
	// Format defaults to Text.
	Format Format
	// Quiet drops progress and messages, not results and errors.
	Quiet bool
	// Terminal says that Err is a terminal on which lines may be redrawn.
	Terminal bool
	// Size returns the columns and rows of the terminal as they are now. Without
	// it, or where it returns none, there are 80 and 24.
	Size func() (width, height int)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Printer writes the output of one command. Its methods may be called
// concurrently.
type Printer struct {
	opts  Options
	mu    sync.Mutex
	above io.Writer // writes lines above the bars that stand on the terminal, nil without
}

// New returns a printer.
func New(opts Options) *Printer {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Format == "" {
		opts.Format = Text
	}
	return &Printer{opts: opts}
}

// Result writes a command's result: v as one JSON document, or what text writes.
func (p *Printer) Result(v any, text func(w io.Writer)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Format == JSON {
		return p.document(v)
	}
	var b strings.Builder
	text(&b)
	_, err := io.WriteString(p.opts.Out, strings.Map(visible, b.String()))
	return err
}

// Version is the format of JSON output. Fields may be added under it, never
// changed.
const Version = "sealift/v1"

// document writes v, which encodes as an object, headed by the version.
func (p *Printer) document(v any) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	rest := strings.TrimPrefix(escapeInvisible(body.String()), "{")
	if !strings.HasPrefix(rest, "}") {
		rest = "," + rest
	}
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(`{"apiVersion":"`+Version+`"`+rest), "", "  "); err != nil {
		return err
	}
	_, err := out.WriteTo(p.opts.Out)
	return err
}

// Message tells the person what is going on, one line.
func (p *Printer) Message(format string, args ...any) {
	if !p.opts.Quiet {
		p.say("message", fmt.Sprintf(format, args...), "")
	}
}

// Question shows what the person is about to be asked about, even when quiet.
func (p *Printer) Question(format string, args ...any) {
	p.say("question", fmt.Sprintf(format, args...), "")
}

// Warn tells the person of something to look at, even when quiet.
func (p *Printer) Warn(format string, args ...any) {
	p.say("warning", fmt.Sprintf(format, args...), "warning: ")
}

func (p *Printer) say(kind, text, prefix string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.opts.Format == JSON {
		p.event(struct {
			Type string `json:"type"`
			Text string `json:"text"`
		}{kind, text})
		return
	}
	p.write(prefix + printable(text) + "\n")
}

// Damage is one piece of damaged content, of an error that has a method Damage.
type Damage struct {
	// Artifact is the full name of what it belongs to, "" for what belongs to the
	// media itself. Digest is "" for index.json.
	Artifact string `json:"artifact,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Size     int64  `json:"size"`
	// Was is corrupt, unreadable or missing.
	Was string `json:"was"`
	// Of says what it is there, as "layer of web (linux/amd64)"; "" when nothing tells.
	Of string `json:"of,omitempty"`
	// At says which files of it are damaged, for people, as "segment 001 on volume 2,
	// in /media/disc"; none when nothing tells.
	At []string `json:"at,omitempty"`
}

// DamageOf collects what all errors in err tell of.
func DamageOf(err error) (all []Damage) {
	switch e := err.(type) { //nolint:errorlint // the whole tree is looked at
	case interface{ Damage() []Damage }:
		return e.Damage()
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			all = append(all, DamageOf(part)...)
		}
		return all
	}
	if inner := errors.Unwrap(err); inner != nil {
		return DamageOf(inner)
	}
	return nil
}

// Error writes the error a command ends with, and what to do next. What comes from
// outside and stands in it makes no lines of its own.
func (p *Printer) Error(err error, hint string, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := errorLines(err)
	if p.opts.Format == JSON {
		var findings artifact.FindingsError
		errors.As(err, &findings)
		p.event(struct {
			Type  string `json:"type"`
			Code  int    `json:"code"`
			Error string `json:"error"`
			Hint  string `json:"hint,omitempty"`
			// Findings are those of a template.
			Findings artifact.FindingsError `json:"findings,omitempty"`
			Damage   []Damage               `json:"damage,omitempty"`
		}{"error", code, strings.Join(lines, "\n"), hint, findings, DamageOf(err)})
		return
	}
	text := ""
	for _, line := range lines {
		text += "sealift: error: " + printable(line) + "\n"
	}
	if hint != "" {
		text += "sealift: hint: " + printable(hint) + "\n"
	}
	p.write(text)
}

// write writes whole lines to standard error. A failing standard error leaves nobody
// to tell.
func (p *Printer) write(lines string) {
	w := p.opts.Err
	if p.above != nil {
		w = p.above
	}
	_, _ = io.WriteString(w, lines)
}

// size returns the columns and rows of the terminal.
func (p *Printer) size() (width, height int) {
	if p.opts.Size != nil {
		width, height = p.opts.Size()
	}
	if width <= 0 || height <= 0 {
		return 80, 24 // one that does not say
	}
	return width, height
}

// event writes one JSON line to standard error.
func (p *Printer) event(v any) {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	_, _ = io.WriteString(p.opts.Err, escapeInvisible(line.String()))
}

// escapeInvisible returns the same JSON with what a terminal does not show as it
// stands escaped: it can only be within strings.
func escapeInvisible(text string) string {
	hidden := func(r rune) bool { return r >= 0x7f && r != '\uFFFD' && visible(r) != r }
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if !hidden(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// printable makes one line of s that keeps what may come from hostile media from
// speaking to a terminal.
func printable(s string) string { return strings.Map(visible, strings.ReplaceAll(s, "\n", "\uFFFD")) }

// visible replaces what a terminal does not show as it stands, other than tab and
// the end of a line: control characters, marks that change the direction of
// writing, and what has no width.
func visible(r rune) rune {
	if unicode.IsGraphic(r) || r == '\t' || r == '\n' {
		return r
	}
	return '\uFFFD'
}

// Value returns s, or s quoted where something in it would not be shown as it stands
// or could pass for lines or columns of our own. It is for values from manifests,
// labels and annotations, wherever they stand in a text.
func Value(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == '\t' || r == '\n' || visible(r) != r }) {
		return strconv.Quote(s)
	}
	return s
}

// Line returns the first line of s, for text of unknown origin that must not
// pass for lines of our own.
func Line(s string) string {
	first, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		first += " …"
	}
	return first
}

// Bytes writes a size for people, in powers of 1000 as disks are sold.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB"} {
		value /= 1000
		if value < 999.5 {
			break
		}
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}
