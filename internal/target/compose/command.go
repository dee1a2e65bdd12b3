package compose

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/sealift/sealift/internal/target"
)

const (
	// maxOutput caps what is read of a command's answer.
	maxOutput = 64 << 20
	// maxStderr is how much of the end of standard error is kept.
	maxStderr = 4 << 10
	// killGrace is how long an interrupted command has to tidy up.
	killGrace = 5 * time.Second
)

// runner runs commands of the engine.
type runner struct {
	opts Options
	// secrets are blotted out of everything a command says.
	secrets []string
}

// run runs a command to its end and returns what it wrote to standard output.
func (r runner) run(ctx context.Context, argv ...string) ([]byte, error) {
	var out limitedBuffer
	err := r.stream(ctx, &out, io.Discard, argv...)
	return out.Bytes(), err
}

// stream runs a command with its outputs going to out and errOut. When ctx ends,
// the command and its children are asked to stop and, after a grace, killed.
func (r runner) stream(ctx context.Context, out, errOut io.Writer, argv ...string) error {
	var tail tailBuffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = r.opts.Env
	// What a user exported for another project must not steer this one.
	cmd.Env = append(cmd.Environ(),
		"COMPOSE_IGNORE_ORPHANS=true", "COMPOSE_REMOVE_ORPHANS=false", "COMPOSE_PROFILES=",
		"COMPOSE_ANSI=never", "COMPOSE_CONVERT_WINDOWS_PATHS=0", "PYTHONUTF8=1")
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(&tail, errOut)
	cmd.WaitDelay = killGrace + time.Second
	release := ownGroup(cmd)
	defer release()
	start := time.Now()
	err := cmd.Run()
	r.opts.Log.DebugContext(ctx, "run", "command", strings.Join(argv, " "), "took", time.Since(start), "err", err)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &CommandError{Command: commandLine(argv), Stderr: r.blot(tail.String()), Err: err}
}

// blot replaces the secrets in s.
func (r runner) blot(s string) string { return target.Blot(s, r.secrets) }

// commandLine shortens argv to what tells the commands apart.
func commandLine(argv []string) string {
	const most = 16
	if len(argv) > most {
		argv = append(append([]string{}, argv[:most]...), "…")
	}
	return strings.Join(argv, " ")
}

// limitedBuffer keeps the first maxOutput bytes.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// tailBuffer keeps the last maxStderr bytes; both outputs of a command may go to
// one.
type tailBuffer struct {
	mu   sync.Mutex
	data []byte
	cut  bool // the beginning is gone
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if extra := len(b.data) - maxStderr; extra > 0 {
		b.data, b.cut = append(b.data[:0], b.data[extra:]...), true
	}
	return len(p), nil
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	data := b.data
	if b.cut {
		// What is cut through may be a secret, whose rest would not be known
		// for one: begin with the next line, or in the middle of a long one.
		start := bytes.IndexByte(data, '\n') + 1
		if start == 0 {
			start = len(data) / 2
		}
		data = data[start:]
	}
	return strings.ToValidUTF8(string(data), "")
}
