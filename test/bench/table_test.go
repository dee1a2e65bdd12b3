//go:build real

package bench

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The rows that a whole run makes, in this order.
const (
	rowMirror      = "mirror, registry to media, 2 GiB in 8 layers, without flushing, as others do"
	rowMirrorSync  = "the same, flushed"
	rowMirrorBoth  = "the same, flushed, against what flushes nothing"
	rowMirrorRAM   = "the same, peak memory"
	rowWritten     = "the same, bytes written per byte of content"
	rowSmall       = "mirror 60 small images"
	rowSmallAsked  = "mirror 60 small images, signature tags asked for by both"
	rowSmallAgain  = "mirror 60 small images again"
	rowAgainAsked  = "mirror 60 small images again, signature tags asked for by both"
	rowLargeRAM    = "mirror much content, peak memory"
	rowManyRAM     = "mirror 100,000 blobs, peak memory"
	rowManyGrowth  = "mirror, a blob's CPU time at 100,000 blobs, to that at 1,000"
	rowVerify      = "verify media"
	rowVerifyRAM   = "verify 100,000 blobs, peak memory"
	rowVerifyGrow  = "verify, a blob's CPU time at 100,000 blobs, to that at 1,000"
	rowImport      = "import 2 GiB of signed releases"
	rowReleases    = "verify 1,000 signed releases, to hashing and verifying alone"
	rowKill        = "after kill -9, sent again per worker and kill"
	unmeasured     = "not measured"
	benchTableFile = "bench.md"
)

var allRows = []string{
	rowMirror, rowMirrorSync, rowMirrorBoth, rowMirrorRAM, rowWritten, rowSmall, rowSmallAsked, rowSmallAgain, rowAgainAsked,
	rowLargeRAM, rowManyRAM, rowManyGrowth, rowVerify, rowVerifyRAM, rowVerifyGrow, rowImport, rowReleases, rowKill,
}

// row is one line of the result. Value and budget, 0 for none, are numbers of unit.
type row struct {
	name, against string
	value, budget float64
	unit          string
	detail        string
	missing       string // why there is no value
}

var table struct {
	sync.Mutex
	rows map[string]row
}

func (r row) record() {
	table.Lock()
	defer table.Unlock()
	if table.rows == nil {
		table.rows = map[string]row{}
	}
	table.rows[r.name] = r
}

// record notes a value with its budget, and reports it for the benchmark too.
func record(b *testing.B, name, against string, value, budget float64, unit, detail string) {
	b.Helper()
	row{name: name, against: against, value: value, budget: budget, unit: unit, detail: detail}.record()
	b.Logf("%s: %.2f %s (budget %.2f), %s", name, value, unit, budget, detail)
}

func (r row) cells() []string {
	if r.missing != "" {
		return []string{r.name, unmeasured, "", "", r.missing}
	}
	number := func(v float64) string { return strings.TrimSpace(fmt.Sprintf("%.3g %s", v, r.unit)) }
	budget, met := "≤ "+number(r.budget), "no; "
	switch {
	case r.budget == 0:
		budget, met = "", ""
	case r.value <= r.budget:
		met = "yes; "
	}
	return []string{r.name, cmp.Or(r.against, "-"), number(r.value), budget, met + r.detail}
}

// markdown writes the rows; those that are not there are missing.
func markdown(rows map[string]row, names []string) (text string, missing []string) {
	var out strings.Builder
	out.WriteString("| what | against | figure | budget | met; medians, and how far runs lay apart |\n|---|---|---|---|---|\n")
	for _, name := range names {
		r, ok := rows[name]
		if !ok {
			missing = append(missing, name)
			continue
		}
		out.WriteString("| " + strings.Join(r.cells(), " | ") + " |\n")
	}
	return out.String(), missing
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(runKey); spec != "" {
		os.Exit(runMeasured(spec))
	}
	code := m.Run()
	whole := flag.Lookup("test.bench").Value.String() == "."
	if len(table.rows) > 0 || whole {
		text, missing := markdown(table.rows, allRows)
		fmt.Print("\n" + text)
		err := os.WriteFile(filepath.Join(os.Getenv("SEALIFT_BUILD"), benchTableFile), []byte(text), 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if whole && len(missing) > 0 {
			fmt.Fprintln(os.Stderr, "bench: the table lacks:", strings.Join(missing, "; "))
			code = 1
		}
	}
	os.Exit(code)
}

// TestTable shows that a row which nobody made is missed, and that each is printed.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := map[string]row{}
	for _, name := range allRows[1:] {
		rows[name] = row{name: name, value: 2, budget: 1, unit: "MiB"}
	}
	rows[rowKill] = row{name: rowKill, missing: "no reason"}
	text, missing := markdown(rows, allRows)
	if !slices.Equal(missing, allRows[:1]) || strings.Count(text, "\n") != len(allRows)+1 {
		t.Errorf("markdown = %q and\n%s", missing, text)
	}
	if !strings.Contains(text, "2 MiB | ≤ 1 MiB | no; ") || !strings.Contains(text, unmeasured) {
		t.Errorf("markdown =\n%s", text)
	}
}

// encode is for what a measured command hands back.
func encode(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // of plain numbers
	}
	return string(raw)
}
