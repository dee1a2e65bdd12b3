package audit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealift/sealift/internal/audit"
)

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// written makes a log of n entries and returns its path and heads.
func written(t testing.TB, n int) (path string, heads []audit.Head) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.jsonl")
	var known audit.Head
	for i := range n {
		head, err := audit.Append(open(t, path), known, audit.Entry{Time: time.Unix(int64(i), 0), Event: "install", Instance: fmt.Sprintf("shop-%d", i+1)})
		if err != nil {
			t.Fatal(err)
		}
		if head.Seq != i+1 {
			t.Fatalf("entry %d has the number %d", i+1, head.Seq)
		}
		known = head
		heads = append(heads, head)
	}
	return path, heads
}

func verify(t testing.TB, log []byte, anchors ...audit.Anchor) audit.Report {
	t.Helper()
	r, err := audit.Verify(bytes.NewReader(log), anchors, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifySound(t *testing.T) {
	t.Parallel()
	path, heads := written(t, 5)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := verify(t, raw, audit.Anchor{Head: heads[4], Where: "trust.json"}, audit.Anchor{Head: heads[1], Where: "revision 1"})
	if len(r.Problems) > 0 || r.Entries != 5 || r.Head != heads[4] {
		t.Errorf("Verify() = %+v, want 5 sound entries", r)
	}
	if r := verify(t, nil); len(r.Problems) > 0 || r.Entries != 0 {
		t.Errorf("an empty log: %+v", r)
	}
}

// Whatever is done to a log, an anchor at its end tells, and which line it is.
func TestVerifyChanged(t *testing.T) {
	t.Parallel()
	path, heads := written(t, 6)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(raw), "\n"), "\n")
	lines[5] += "\n"
	edited := func(n int, old, with string) []string {
		l := slices.Clone(lines)
		l[n-1] = strings.Replace(l[n-1], old, with, 1)
		if l[n-1] == lines[n-1] {
			t.Fatalf("%q is not in line %d", old, n)
		}
		return l
	}
	tests := []struct {
		name  string
		lines []string
		line  int
		want  string
	}{
		{"a word", edited(3, "shop-3", "shop-9"), 4, "does not follow from the line before it"},
		{"a blank", edited(3, ":", ": "), 4, "does not follow"},
		{"the last line", edited(6, "shop-6", "shop-9"), 6, "is not the entry 6 that trust.json knows"},
		{"a number", edited(3, `"seq":3`, `"seq":7`), 3, "is entry 7; entries 3 to 6 before it are not there"},
		{"no entry", edited(2, "{", ""), 2, "is no entry"},
		{"cut out", slices.Delete(slices.Clone(lines), 2, 4), 3, "is entry 5; entries 3 to 4 before it are not there"},
		{"cut off", lines[:4], 0, "entry 6 is not there, and trust.json knows it"},
		{"beheaded", lines[2:], 1, "is entry 3; entries 1 to 2 before it are not there"},
		{"all gone", nil, 0, "entry 6 is not there"},
		{"twice", append(slices.Clone(lines), lines[5]), 7, "is entry 6, behind entry 6"},
		{"swapped", []string{lines[0], lines[2], lines[1], lines[3], lines[4], lines[5]}, 2, "is entry 3; entries 2 to 2"},
		{"torn", append(slices.Clone(lines), `{"seq":7`), 7, "was torn"},
		{"very long", append(slices.Clone(lines), strings.Repeat("x", 3*audit.MaxEntryBytes)), 7, "is longer than any entry"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := verify(t, []byte(strings.Join(tt.lines, "")), audit.Anchor{Head: heads[5], Where: "trust.json"})
			if !slices.ContainsFunc(r.Problems, func(p audit.Problem) bool { return p.Line == tt.line && strings.Contains(p.Text, tt.want) }) {
				t.Errorf("problems %+v, want line %d and %q", r.Problems, tt.line, tt.want)
			}
		})
	}
}

// A log that is written anew from some line on is a sound chain, and another one than
// the anchor knows.
func TestVerifyForged(t *testing.T) {
	t.Parallel()
	_, heads := written(t, 4)
	forged := filepath.Join(t.TempDir(), "audit.jsonl")
	var known audit.Head
	for i := range 4 {
		var err error
		if known, err = audit.Append(open(t, forged), known, audit.Entry{Time: time.Unix(int64(i), 0), Event: "install", Instance: "other"}); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(forged)
	if err != nil {
		t.Fatal(err)
	}
	if r := verify(t, raw); len(r.Problems) > 0 {
		t.Fatalf("the forgery is no chain: %+v", r)
	}
	if r := verify(t, raw, audit.Anchor{Head: heads[2], Where: "revision 1 of shop"}); len(r.Problems) != 1 || r.Problems[0].Line != 3 {
		t.Errorf("problems %+v, want one at line 3", r.Problems)
	}
}

// A kill in the middle of a line leaves the line before it as the head, and a log
// that was cut off goes on where it was known to be.
func TestAppendAfterLoss(t *testing.T) {
	t.Parallel()
	path, heads := written(t, 3)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
	for cut := last; cut < len(raw); cut++ {
		torn := filepath.Join(t.TempDir(), "audit.jsonl")
		if err := os.WriteFile(torn, raw[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		head, err := audit.Append(open(t, torn), heads[1], audit.Entry{Event: "install"})
		if err != nil || head.Seq != 3 {
			t.Fatalf("cut at %d: %+v, %v", cut, head, err)
		}
		log, err := os.ReadFile(torn)
		if err != nil {
			t.Fatal(err)
		}
		if r := verify(t, log, audit.Anchor{Head: head, Where: "trust.json"}); len(r.Problems) > 0 {
			t.Fatalf("cut at %d: %+v", cut, r.Problems)
		}
	}
	if err := os.Truncate(path, int64(bytes.IndexByte(raw, '\n')+1)); err != nil {
		t.Fatal(err)
	}
	head, err := audit.Append(open(t, path), heads[2], audit.Entry{Event: "install"})
	if err != nil || head.Seq != 4 {
		t.Fatalf("Append() = %+v, %v, want entry 4", head, err)
	}
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := verify(t, log, audit.Anchor{Head: head, Where: "trust.json"})
	if len(r.Problems) != 1 || r.Problems[0].Line != 2 || !strings.Contains(r.Problems[0].Text, "entries 2 to 3 before it are not there") {
		t.Errorf("problems %+v, want the gap", r.Problems)
	}
}

func TestAppendLongReason(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if _, err := audit.Append(open(t, path), audit.Head{}, audit.Entry{Event: "refused", Reason: strings.Repeat("é", 100_000)}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) > 3000 {
		t.Errorf("a line of %d bytes, %v", len(raw), err)
	}
}

func FuzzVerify(f *testing.F) {
	path, heads := written(f, 3)
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, log []byte) {
		r, err := audit.Verify(bytes.NewReader(log), []audit.Anchor{{Head: heads[2], Where: "x"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Problems) == 0 && !bytes.HasPrefix(log, raw) {
			t.Errorf("no problem was found in %q", log)
		}
	})
}
