package test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealift/sealift/internal/ui/uitest"
)

// terminal is a program that runs on a terminal of its own.
type terminal struct {
	cmd    *exec.Cmd
	master *os.File
	screen *uitest.Screen
	shown  chan struct{} // closed when the program has left the terminal

	mu  sync.Mutex
	raw []byte // all that was written
}

// Write shows what the program writes.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.raw = append(t.raw, p...)
	t.mu.Unlock()
	return t.screen.Write(p)
}

// cmdTerminal starts a program on a terminal of its own, which the script ends with
// left.
func cmdTerminal(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	need(ts, !neg && len(args) >= 2 && s.terminal == nil, "terminal COLUMNSxROWS PROGRAM ARG...")
	size := parseSize(ts, args[0])
	program, err := exec.LookPath(args[1])
	if own := ts.Getenv("BIN") + "/" + args[1]; err != nil || args[1] == "sealift" {
		program = own
	}
	t := &terminal{cmd: exec.CommandContext(context.Background(), program, args[2:]...), screen: uitest.NewScreen(int(size.Cols), int(size.Rows)), shown: make(chan struct{})}
	t.cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "TERM", "NO_COLOR", "SEALIFT_HOME", "COSIGN_PASSWORD", "GORACE"} {
		t.cmd.Env = append(t.cmd.Env, name+"="+ts.Getenv(name))
	}
	t.master, err = pty.StartWithSize(t.cmd, size)
	ts.Check(err)
	s.terminal = t
	ts.Defer(func() {
		_ = t.cmd.Process.Kill() // unless it ended long ago
		_ = t.master.Close()
	})
	go func() {
		defer close(t.shown)
		_, _ = io.Copy(t, t.master) // ends with EIO on Linux
	}()
}

func parseSize(ts *testscript.TestScript, text string) *pty.Winsize {
	size := &pty.Winsize{}
	_, err := fmt.Sscanf(text, "%dx%d", &size.Cols, &size.Rows)
	ts.Check(err)
	return size
}

func terminalOf(ts *testscript.TestScript, ok bool, usage string) *terminal {
	t := sceneOf(ts).terminal
	need(ts, ok && t != nil, usage+", behind terminal")
	return t
}

// cmdScreen waits until each pattern matches one of the lines on the terminal, and
// all at once.
func cmdScreen(ts *testscript.TestScript, neg bool, args []string) {
	t := terminalOf(ts, !neg && len(args) > 0, "screen REGEXP...")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		lines := t.screen.Lines()
		missing := slices.IndexFunc(args, func(pattern string) bool {
			return !slices.ContainsFunc(lines, regexp.MustCompile(pattern).MatchString)
		})
		if missing < 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no line matches %s on the terminal:\n%s", args[missing], strings.Join(lines, "\n"))
		}
	}
}

// cmdResize gives the terminal another size.
func cmdResize(ts *testscript.TestScript, neg bool, args []string) {
	t := terminalOf(ts, !neg && len(args) == 1, "resize COLUMNSxROWS")
	size := parseSize(ts, args[0])
	t.screen.Resize(int(size.Cols), int(size.Rows))
	ts.Check(pty.Setsize(t.master, size))
}

// cmdPress types a word, or control and a letter where it is two letters, ^ the first.
func cmdPress(ts *testscript.TestScript, neg bool, args []string) {
	t := terminalOf(ts, !neg && len(args) > 0, "press WORD|^C…")
	for _, arg := range args {
		keys := []byte(arg)
		if len(arg) == 2 && arg[0] == '^' {
			keys = []byte{arg[1] & 0x1f}
		}
		_, err := t.master.Write(keys)
		ts.Check(err)
	}
}

// cmdLeft waits until the program on the terminal ends, checks its exit code, and
// that it left the cursor at the start of an empty line, and writes what the person
// sees then to the file "screen", and all that was ever written to "raw".
func cmdLeft(ts *testscript.TestScript, neg bool, args []string) {
	t := terminalOf(ts, !neg && len(args) == 1, "left CODE")
	sceneOf(ts).terminal = nil
	_ = t.cmd.Wait() // the exit code says it
	select {
	case <-t.shown:
	case <-time.After(time.Minute):
		ts.Fatalf("the program ended, and somebody still holds its terminal")
	}
	if got := strconv.Itoa(t.cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s; on the terminal:\n%s", got, args[0], strings.Join(t.screen.Lines(), "\n"))
	}
	lines := t.screen.Lines()
	if row, col := t.screen.Cursor(); row != len(lines) || col != 0 {
		ts.Fatalf("the cursor was left in row %d, column %d, behind %d lines:\n%s", row, col, len(lines), strings.Join(lines, "\n"))
	}
	if unknown := t.screen.Unknown(); len(unknown) > 0 {
		ts.Fatalf("unknown control sequences %q", unknown)
	}
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("raw"), t.raw, 0o644))
}
