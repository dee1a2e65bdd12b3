// Package audit keeps a log of what was done, whose lines are chained: each has the
// hash of the line before it. Whoever changes a line, or cuts lines out, breaks the
// chain; whoever cuts off the end, or writes all of it anew, contradicts the anchors,
// heads of the chain that were written down elsewhere.
//
// A log is JSON lines, only ever appended to. [Append] survives a kill and a power
// failure at any point: what was torn is taken off again, and a log that lost lines
// goes on from where it was known to be, so that the gap stays in sight.
package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// MaxEntryBytes bounds one line of a log.
const MaxEntryBytes = 64 << 10

// Entry is one line of a log.
type Entry struct {
	// Seq counts the entries from 1, and Previous is the digest of the line before,
	// "" for none. Append fills in both.
	Seq      int           `json:"seq"`
	Previous digest.Digest `json:"previous,omitempty"`
	Time     time.Time     `json:"time"`
	// User did it, as the system calls the account.
	User string `json:"user,omitempty"`
	// Event is what was done: import, prune, install, upgrade, rollback, uninstall, policy,
	// receipt, or refused.
	Event string `json:"event"`
	// Result is how it went: begun, succeeded, failed, interrupted, or incomplete where an
	// import waits for the next disc.
	Result string `json:"result,omitempty"`
	// Instance and Revision are those changed.
	Instance string `json:"instance,omitempty"`
	Revision int    `json:"revision,omitempty"`
	// ID, Version and Root are the release concerned.
	ID      string        `json:"id,omitempty"`
	Version string        `json:"version,omitempty"`
	Root    digest.Digest `json:"root,omitempty"`
	// Keys are the fingerprints of who signed it, or of what a policy accepts; who has no
	// key stands there by name.
	Keys []string `json:"keys,omitempty"`
	// Policy is the version of the policy that decided, or that was made.
	Policy int `json:"policy,omitempty"`
	// Receipt is the digest of the receipt that was made, as a file.
	Receipt digest.Digest `json:"receipt,omitempty"`
	// Override is the option by which a person insisted, as allow-downgrade.
	Override string `json:"override,omitempty"`
	// Reason says why, in a sentence; it is cut where it is long.
	Reason string `json:"reason,omitempty"`
}

// Head is an entry of a log, by which all before it are known too. The zero value
// is the head of an empty log.
type Head struct {
	Seq    int           `json:"seq"`
	Digest digest.Digest `json:"digest"`
}

const maxReasonBytes = 2000

// Append adds an entry to the log in f, which was opened for reading and appending
// and which nobody else appends to meanwhile, and returns its head once it has reached
// the disk. Known is the last head that was written down elsewhere: where the log does
// not come that far, its end was lost, and the entry follows known.
func Append(f *os.File, known Head, e Entry) (Head, error) {
	last, err := tail(f)
	if err != nil {
		return Head{}, fmt.Errorf("read the end of %s: %w", f.Name(), err)
	}
	if last.Seq < known.Seq || last.Seq == known.Seq && last.Digest != known.Digest {
		last = known
	}
	e.Seq, e.Previous = last.Seq+1, last.Digest
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	if len(e.Reason) > maxReasonBytes {
		e.Reason = string(bytes.ToValidUTF8([]byte(e.Reason[:maxReasonBytes]), nil)) + "…"
	}
	line, err := json.Marshal(e)
	if err != nil {
		return Head{}, fmt.Errorf("append to %s: %w", f.Name(), err)
	}
	if len(line) >= MaxEntryBytes {
		return Head{}, fmt.Errorf("append to %s: an entry of %d bytes", f.Name(), len(line))
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return Head{}, fmt.Errorf("append to %s: %w", f.Name(), err)
	}
	if err := f.Sync(); err != nil {
		return Head{}, fmt.Errorf("append to %s: %w", f.Name(), err)
	}
	return Head{e.Seq, digest.FromBytes(line)}, nil
}

// tail returns the head of a log, and takes off what of a last line was torn.
func tail(f *os.File) (Head, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return Head{}, err
	}
	from := max(0, size-2*MaxEntryBytes)
	end := make([]byte, size-from)
	if _, err := f.ReadAt(end, from); err != nil {
		return Head{}, err
	}
	whole := bytes.LastIndexByte(end, '\n') + 1
	if torn := len(end) - whole; torn > 0 {
		if whole == 0 && from > 0 {
			return Head{}, errors.New("its last line has no end")
		}
		if err := f.Truncate(size - int64(torn)); err != nil {
			return Head{}, err
		}
	}
	end = end[:whole]
	if len(end) == 0 {
		return Head{}, nil
	}
	line := end[:len(end)-1]
	line = line[bytes.LastIndexByte(line, '\n')+1:]
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		e.Seq = 0 // not an entry: what follows has nothing to follow, and Verify says so
	}
	return Head{e.Seq, digest.FromBytes(line)}, nil
}

// Problem is a place where a log is not what was written.
type Problem struct {
	// Line counts from 1; it is 0 for what is not there.
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
}

// String says where and what.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Text
	}
	return fmt.Sprintf("line %d %s", p.Line, p.Text)
}

// Report is what [Verify] found.
type Report struct {
	Entries  int       `json:"entries"`
	Head     Head      `json:"head"`
	Problems []Problem `json:"problems,omitempty"`
}

const maxProblems = 100

// Anchor is a head and where it was written down.
type Anchor struct {
	Head
	Where string
}

// Verify reads a log and finds where it was changed or cut, as far as its own chain
// and the anchors tell: what was appended behind the last anchor can be taken away
// again unseen. See is called with each line that is an entry, in order; it may be
// nil. The error is that of reading.
func Verify(r io.Reader, anchors []Anchor, see func(Entry)) (Report, error) {
	at := map[int][]Anchor{}
	for _, a := range anchors {
		if a.Seq > 0 {
			at[a.Seq] = append(at[a.Seq], a)
		}
	}
	v := verifying{anchors: at}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 2*MaxEntryBytes)
	s.Split(wholeLines)
	line := 0
	for s.Scan() {
		line++
		if e, ok := v.line(line, s.Bytes()); ok && see != nil {
			see(e)
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		v.problem(line+1, "is longer than any entry; what follows was not read")
	} else if err != nil {
		return v.report, err
	}
	v.unseen()
	return v.report, nil
}

// wholeLines splits at the ends of lines, which it leaves on.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// verifying is a log that is read.
type verifying struct {
	report  Report
	anchors map[int][]Anchor // that were not met yet
}

func (v *verifying) problem(line int, format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{line, fmt.Sprintf(format, args...)})
	}
}

// line checks a line against the one before and the anchors.
func (v *verifying) line(n int, raw []byte) (e Entry, ok bool) {
	line, ended := bytes.CutSuffix(raw, []byte("\n"))
	if !ended {
		v.problem(n, "was torn in the middle of being written; the next entry takes it off")
		return e, false
	}
	err := json.Unmarshal(line, &e)
	head := Head{e.Seq, digest.FromBytes(line)}
	before := v.report.Head
	switch {
	case err != nil:
		v.problem(n, "is no entry")
	case e.Seq == before.Seq+1 && e.Previous == before.Digest:
	case e.Seq > before.Seq+1:
		v.problem(n, "is entry %d; entries %d to %d before it are not there", e.Seq, before.Seq+1, e.Seq-1)
	case e.Seq != before.Seq+1:
		v.problem(n, "is entry %d, behind entry %d", e.Seq, before.Seq)
	default:
		v.problem(n, "does not follow from the line before it: one of the two was changed")
	}
	if err == nil {
		for _, a := range v.anchors[e.Seq] {
			if a.Digest != head.Digest {
				v.problem(n, "is not the entry %d that %s knows: it, or one before it, was changed", e.Seq, a.Where)
			}
		}
		delete(v.anchors, e.Seq)
		v.report.Entries++
	}
	v.report.Head = head
	return e, err == nil
}

// unseen reports anchors that no line was met for.
func (v *verifying) unseen() {
	for seq, anchors := range v.anchors {
		for _, a := range anchors {
			v.problem(0, "entry %d is not there, and %s knows it", seq, a.Where)
		}
	}
}
