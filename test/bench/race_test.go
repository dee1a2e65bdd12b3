//go:build real

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runKey holds, in the environment of this program's own child, the script that
// the child is to run and measure.
const runKey = "SEALIFT_BENCH_RUN"

// usage is what a command took.
type usage struct {
	Seconds float64
	// CPU is the seconds of processor time, which others who load the machine
	// lengthen less.
	CPU float64
	// Peak is the most memory that a process of it had, in bytes.
	Peak int64
	// Written is what it dirtied of files, in bytes, as the kernel counts it.
	Written int64
}

// runMeasured runs a script and prints its usage. It is a process of its own: a
// process that starts another hands down its own peak memory, and that of a
// benchmark, which serves content, is no small one.
func runMeasured(script string) int {
	if err := os.Unsetenv(runKey); err != nil {
		return 1
	}
	cmd := exec.Command("sh", "-ec", script)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	start := time.Now()
	err := cmd.Run()
	u := usage{Seconds: time.Since(start).Seconds()}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	u.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	u.Peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	raw, err := os.ReadFile("/proc/self/io") // children that ended are counted
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			u.Written, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	fmt.Println(encode(u))
	return 0
}

// measure runs a script in dir. What earlier commands left to be written is
// written first.
func measure(b *testing.B, dir, script string) (usage, error) {
	b.Helper()
	run(b, "sync", "-f", dir)
	cmd := exec.CommandContext(b.Context(), os.Args[0])
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), runKey+"="+script)
	var u usage
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return u, fmt.Errorf("%w: %s", err, exit.Stderr)
	} else if err != nil {
		return u, err
	}
	return u, json.Unmarshal(out, &u)
}

func run(b *testing.B, argv ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// rounds is how often each contender runs, in turn with the others.
func rounds(b *testing.B) int {
	b.Helper()
	n := 3
	if s := os.Getenv("SEALIFT_BENCH_ROUNDS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 1 {
			b.Fatalf("SEALIFT_BENCH_ROUNDS=%q is no number of rounds", s)
		}
	}
	return n
}

// contender is one command of a comparison.
type contender struct {
	name string
	// script runs by sh in an empty directory, or in dir where it is given.
	script, dir string
}

// results are the usages of each contender, by name.
type results map[string][]usage

// race runs the contenders in turn, each round beginning with another one: who
// comes behind a big one finds a busy disk. All write to the same place, since a part
// of a disk that was never written to can cost twice the time, and a warm-up has been
// there before. One that fails is out of the race.
func race(b *testing.B, contenders ...contender) results {
	b.Helper()
	got := results{}
	place := filepath.Join(b.TempDir(), "media")
	warmUp(b, place, contenders[0])
	out := map[string]bool{}
	for round := range rounds(b) {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			if out[c.name] {
				continue
			}
			dir := c.dir
			if dir == "" {
				dir = place
				if err := os.Mkdir(dir, 0o755); err != nil {
					b.Fatal(err)
				}
			}
			u, err := measure(b, dir, c.script)
			if err != nil {
				b.Logf("%s is out: %v", c.name, err)
				out[c.name] = true
				delete(got, c.name)
				continue
			}
			got[c.name] = append(got[c.name], u)
			if c.dir == "" {
				if err := os.RemoveAll(dir); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	if len(got[ours]) == 0 {
		b.Fatal("sealift does not work")
	}
	b.ReportMetric(0, "ns/op") // the whole is not one operation
	b.ReportMetric(got.seconds(ours), "s")
	return got
}

// warmUp runs a contender that writes once in place, and removes what it wrote.
func warmUp(b *testing.B, place string, c contender) {
	b.Helper()
	if c.dir != "" {
		return
	}
	err := os.Mkdir(place, 0o755)
	if err == nil {
		_, err = measure(b, place, c.script)
	}
	if err = errors.Join(err, os.RemoveAll(place)); err != nil {
		b.Fatal(err)
	}
}

// ours is the name of the contender that the others are measured against.
const ours = "sealift"

func (r results) each(name string, value func(usage) float64) []float64 {
	var list []float64
	for _, u := range r[name] {
		list = append(list, value(u))
	}
	slices.Sort(list)
	return list
}

func (r results) seconds(name string) float64 {
	list := r.each(name, func(u usage) float64 { return u.Seconds })
	return list[len(list)/2]
}

// detail gives every contender's median, and its fastest and slowest run.
func (r results) detail(names ...string) string {
	var words []string
	for _, name := range names {
		if list := r.each(name, func(u usage) float64 { return u.Seconds }); len(list) > 0 {
			cpu := r.each(name, func(u usage) float64 { return u.CPU })
			words = append(words, fmt.Sprintf("%s %.2f s (%.2f to %.2f; CPU %.2f)", name, list[len(list)/2], list[0], list[len(list)-1], cpu[len(cpu)/2]))
		} else {
			words = append(words, name+" failed")
		}
	}
	return strings.Join(words, ", ")
}

// ratio returns the median of one to the fastest one of names.
func (r results) ratio(of string, names ...string) (ratio float64, fastest string) {
	for _, name := range names {
		if len(r[name]) > 0 && (fastest == "" || r.seconds(name) < r.seconds(fastest)) {
			fastest = name
		}
	}
	if fastest == "" || len(r[of]) == 0 {
		return 0, ""
	}
	return r.seconds(of) / r.seconds(fastest), fastest
}

// peak is the most memory of any of our runs, in MiB.
func (r results) peak() float64 {
	list := r.each(ours, func(u usage) float64 { return float64(u.Peak) / (1 << 20) })
	return list[len(list)-1]
}

// recordRatio notes the ratio of one to the fastest of others; at budget 0 there is
// none.
func recordRatio(b *testing.B, name string, r results, budget float64, of string, others ...string) {
	b.Helper()
	ratio, fastest := r.ratio(of, others...)
	if fastest == "" {
		row{name: name, missing: "did not run: " + of + ", or what to compare with: " + strings.Join(others, ", ")}.record()
		return
	}
	record(b, name, fastest, ratio, budget, "×", r.detail(append([]string{of}, others...)...))
}

// sealift returns the built program.
func sealift(b *testing.B) string {
	b.Helper()
	path, err := filepath.Abs(filepath.Join(os.Getenv("SEALIFT_BUILD"), "sealift"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		b.Fatalf("SEALIFT_BUILD must name the directory of the built program: %v", err)
	}
	return path
}

// hashAll hashes files with openssl, on every core.
func hashAll(media string) string {
	return fmt.Sprintf("find %s/blobs -type f -print0 | xargs -0 -n 1 -P %d openssl dgst -sha256 >/dev/null", media, runtime.NumCPU())
}
