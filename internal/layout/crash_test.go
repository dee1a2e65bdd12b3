package layout_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealift/sealift/internal/layout"
)

// The test binary runs itself again as the process that gets killed.
const (
	childKey = "LAYOUT_TEST_CHILD"
	dirKey   = "LAYOUT_TEST_DIR"
)

var children = map[string]func(dir string) error{
	"ingest":          func(dir string) error { return ingestChild(dir, 0) },
	"ingest segments": func(dir string) error { return ingestChild(dir, crashSegment) },
	"commit":          commitChild,
}

func TestMain(m *testing.M) {
	run, ok := children[os.Getenv(childKey)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := run(os.Getenv(dirKey)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childKey+"="+name, dirKey+"="+dir)
	return cmd
}

// killAt starts a child, reads the numbers it prints, and kills it as soon as
// one is at least at.
func killAt(t *testing.T, name, dir string, at int) {
	t.Helper()
	cmd := child(t, name, dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	seen := -1
	for seen < at && lines.Scan() {
		if seen, err = strconv.Atoi(lines.Text()); err != nil {
			t.Error(err)
		}
	}
	if seen < at {
		t.Errorf("child ended at %d, before %d", seen, at)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // "signal: killed"
}

const (
	crashChunk   = 1000
	crashSegment = 300_000
)

// crashBlobs are two blobs of a thousand chunks each.
func crashBlobs() [][]byte {
	return [][]byte{bytes.Repeat([]byte("one."), crashChunk*250), bytes.Repeat([]byte("two."), crashChunk*250)}
}

// ingestChild ingests both blobs in small chunks, and prints before each read
// how many bytes it has ingested: those of earlier reads are in the file.
func ingestChild(dir string, limit int64) error {
	w, err := layout.OpenWriterOptions(context.Background(), dir, layout.WriterOptions{MaxFileBytes: limit})
	if err != nil {
		return err
	}
	total := 0
	for _, b := range crashBlobs() {
		src := &source{content: b, wrap: func(r io.Reader) io.Reader {
			return readerFunc(func(p []byte) (int, error) {
				fmt.Println(total)
				n, err := r.Read(p[:min(len(p), crashChunk)])
				total += n
				return n, err
			})
		}}
		if err := w.Ingest(context.Background(), describe("x/y", b), src.open); err != nil {
			return err
		}
	}
	select {} // to be killed
}

func TestKilledWhileIngesting(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int64{"ingest": 0, "ingest segments": crashSegment} {
		for _, at := range []int{0, crashChunk, 299_000, 300_000, 500_000, 999_000, 1_000_000, 1_001_000, 1_700_000, 2_000_000} {
			t.Run(name+" "+strconv.Itoa(at), func(t *testing.T) {
				t.Parallel()
				killedWhileIngesting(t, name, limit, at)
			})
		}
	}
}

func killedWhileIngesting(t *testing.T, name string, limit int64, at int) {
	dir := t.TempDir()
	killAt(t, name, dir, at)
	l := open(t, dir)
	checkBlobs(t, dir)
	for i, b := range crashBlobs() {
		desc := describe("x/y", b)
		if ok, err := l.Exists(t.Context(), desc); err != nil {
			t.Error(err)
		} else if ok && !bytes.Equal(fetch(t, l, desc), b) {
			t.Errorf("blob %d is there and wrong", i)
		}
	}

	w := segmented(t, dir, limit) // the lock died with its holder
	fetched := 0
	for i, b := range crashBlobs() {
		src := &source{content: b}
		if err := w.Ingest(t.Context(), describe("x/y", b), src.open); err != nil {
			t.Fatal(err)
		}
		for _, offset := range src.offsets {
			fetched += len(b) - int(offset)
		}
		// Bytes the child had before it was killed are not fetched again.
		had := min(len(b), max(0, at-i*len(b)))
		if had > 0 && had < len(b) && (len(src.offsets) > 0 && src.offsets[0] < int64(had)) {
			t.Errorf("blob %d fetched from %v, want at least %d", i, src.offsets, had)
		}
		if !bytes.Equal(fetch(t, w, describe("x/y", b)), b) {
			t.Errorf("blob %d is wrong", i)
		}
	}
	if want := 2_000_000 - at; fetched > want {
		t.Errorf("fetched %d bytes again, want at most %d", fetched, want)
	}
	checkBlobs(t, dir)
}

const crashName = "registry.example.com/app:v"

// commitChild commits one more root after the other, printing how many are in.
func commitChild(dir string) error {
	w, err := layout.OpenWriter(context.Background(), dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		raw := []byte(`{"schemaVersion":2,"n":` + strconv.Itoa(i) + `}`)
		desc := describe("application/vnd.oci.image.index.v1+json", raw)
		if err := w.Push(context.Background(), desc, bytes.NewReader(raw)); err != nil {
			return err
		}
		if err := w.SetRoot(crashName+strconv.Itoa(i), "", desc); err != nil {
			return err
		}
		if err := w.Commit(context.Background()); err != nil {
			return err
		}
		fmt.Println(i + 1)
	}
}

// Whatever was committed is there, and at most the commit under way besides.
func TestKilledWhileCommitting(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killAt(t, "commit", dir, 3)
	for at := range 12 {
		before := len(open(t, dir).Roots())
		killAt(t, "commit", dir, at+1)
		l := open(t, dir)
		roots := l.Roots()
		if len(roots) < max(before, at+1) {
			t.Fatalf("%d roots after %d were committed", len(roots), max(before, at+1))
		}
		for _, r := range roots {
			checkFetch(t, l, r.Descriptor)
		}
		checkBlobs(t, dir)
	}
}

func TestKilledHolderLosesTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killAt(t, "commit", dir, 1)
	raw := string(read(t, dir, "sealift", "lock"))
	if !strings.HasPrefix(raw, "pid ") {
		t.Fatalf("lock holds %q, want the killed child's pid", raw)
	}
	w := writer(t, dir)
	if now := string(read(t, dir, "sealift", "lock")); now == raw {
		t.Errorf("lock still names the killed child: %q", now)
	}
	closeWriter(t, w)
	if diff := cmp.Diff("", string(read(t, dir, "sealift", "lock"))); diff != "" {
		t.Errorf("released lock still names a holder:\n%s", diff)
	}
}
