// Package uitest has a terminal for tests: a [Screen] shows what a person would see
// of the bytes written to it. It knows the few control sequences that sealift writes,
// as xterm does them, and remembers those that it does not know.
package uitest

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Screen is a terminal of some columns and rows. Its methods may be called
// concurrently.
type Screen struct {
	mu            sync.Mutex
	width, height int
	rows          [][]rune // those that scrolled away too
	top           int      // the row that is the first visible one
	row, col      int      // col is width behind the last column
	pending       []byte   // the beginning of a rune or a sequence
	unknown       []string
}

// NewScreen returns an empty terminal.
func NewScreen(width, height int) *Screen {
	return &Screen{width: width, height: height, rows: [][]rune{nil}}
}

// Size returns the columns and rows.
func (s *Screen) Size() (width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height
}

// Resize changes the columns and rows. What stands there stays as it is.
func (s *Screen) Resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width, s.height = width, height
	s.scroll()
}

// Lines returns all rows from the first to the last that has anything, those that
// scrolled away too, without spaces at their ends.
func (s *Screen) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, r := range s.rows {
		lines = append(lines, strings.TrimRight(string(r), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// Cursor returns the place of the next character, counted from 0; row counts as Lines
// does.
func (s *Screen) Cursor() (row, col int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.row, s.col
}

// Unknown returns the control sequences that were written and are not known.
func (s *Screen) Unknown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unknown)
}

// Write shows p, which may begin or end amid a rune or a sequence. It never fails.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, p...)
	for len(s.pending) > 0 {
		n := s.next(s.pending)
		if n == 0 {
			break
		}
		s.pending = s.pending[n:]
	}
	return len(p), nil
}

// next shows what b begins with and returns its length, 0 if more has to come.
func (s *Screen) next(b []byte) int {
	switch {
	case b[0] == '\r':
		s.col = 0
	case b[0] == '\n':
		s.row, s.col = s.row+1, 0
		s.scroll()
	case b[0] == 0x1b:
		return s.escape(b)
	case !utf8.FullRune(b):
		return 0
	default:
		r, n := utf8.DecodeRune(b)
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			s.unknown = append(s.unknown, string(r))
			return n
		}
		s.put(r)
		return n
	}
	return 1
}

func (s *Screen) put(r rune) {
	if s.col >= s.width {
		s.row, s.col = s.row+1, 0
		s.scroll()
	}
	line := s.rows[s.row]
	for len(line) <= s.col {
		line = append(line, ' ')
	}
	line[s.col] = r
	s.rows[s.row] = line
	s.col++
}

// escape obeys a sequence: cursor up, and erase to the end of the screen.
func (s *Screen) escape(b []byte) int {
	end := slices.IndexFunc(b, func(c byte) bool { return c >= '@' && c <= '~' && c != '[' })
	if end < 0 {
		return 0
	}
	sequence := string(b[:end+1])
	number, _ := strconv.Atoi(strings.Trim(sequence, "\x1b[AJ"))
	switch {
	case strings.HasPrefix(sequence, "\x1b[") && b[end] == 'A':
		s.row = max(s.row-max(number, 1), s.top)
	case sequence == "\x1b[J":
		s.rows = s.rows[:s.row+1]
		s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
	default:
		s.unknown = append(s.unknown, sequence)
	}
	return end + 1
}

// scroll keeps the cursor's row there and visible.
func (s *Screen) scroll() {
	for len(s.rows) <= s.row {
		s.rows = append(s.rows, nil)
	}
	s.top = max(s.top, s.row-s.height+1)
}
