package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sealift/sealift/internal/target"
)

// Options says how to find and drive an engine.
type Options struct {
	// LookPath finds a program by name; nil means exec.LookPath.
	LookPath func(name string) (string, error)
	// Env is the environment of the engine's commands, where DOCKER_HOST
	// counts; nil means that of this process.
	Env []string
	// Log receives every command run; nil discards.
	Log *slog.Logger
	// Settle is how long a component without a health check must run without
	// a restart before it counts as working; ≤ 0 means 2 s.
	Settle time.Duration
	// JobTimeout is how long a job may take to complete; ≤ 0 means 30 min.
	JobTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.LookPath == nil {
		o.LookPath = exec.LookPath
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Settle <= 0 {
		o.Settle = 2 * time.Second
	}
	if o.JobTimeout <= 0 {
		o.JobTimeout = 30 * time.Minute
	}
	return o
}

// Engine is a container engine that answers, with a Compose front end. It is a
// [target.Target], safe for concurrent use on different instances.
type Engine struct {
	Renderer
	opts Options
	// cli is the engine's own command and front that of Compose.
	cli   []string
	front []string
	info  Info
}

// Info describes an engine.
type Info struct {
	// Name is docker or podman.
	Name    string `json:"name"`
	Version string `json:"version"`
	// Platform is where its containers run, os/arch.
	Platform string `json:"platform"`
	// Compose is the front end's command and ComposeVersion what it says it is.
	Compose        string `json:"compose"`
	ComposeVersion string `json:"composeVersion"`
}

// String returns the engine on one line.
func (i Info) String() string {
	return fmt.Sprintf("%s %s (%s) with %s %s", i.Name, i.Version, i.Platform, i.Compose, i.ComposeVersion)
}

// Info returns what Detect found.
func (e *Engine) Info() Info { return e.info }

// candidates are the combinations looked for, best first.
var candidates = []struct{ cli, front []string }{
	{[]string{"docker"}, []string{"docker", "compose"}},
	{[]string{"docker"}, []string{"docker-compose"}},
	{[]string{"podman"}, []string{"podman", "compose"}},
	{[]string{"podman"}, []string{"podman-compose"}},
}

// Detect finds the first engine that answers and has a Compose front end:
// docker compose, docker-compose, podman compose, podman-compose. It fails with
// [target.ErrNoEngine], saying what each lacks.
func Detect(ctx context.Context, opts Options) (*Engine, error) {
	opts = opts.withDefaults()
	none := &target.NoEngineError{Engine: "container engine with compose"}
	for _, c := range candidates {
		e := &Engine{opts: opts}
		err := e.probe(ctx, c.cli, c.front)
		if err == nil {
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		what := fmt.Sprintf("%s: %v", strings.Join(c.front, " "), err)
		none.Tried = append(none.Tried, what)
		if none.Silent == "" && errors.Is(err, errNoAnswer) {
			none.Silent = what
		}
	}
	return nil, none
}

// errNoAnswer says that an engine is installed and does not run.
var errNoAnswer = errors.New("no answer")

// probe fills e, or says what the combination lacks.
func (e *Engine) probe(ctx context.Context, cli, front []string) error {
	for _, argv := range [][]string{cli, front} {
		if _, err := e.opts.LookPath(argv[0]); err != nil {
			return fmt.Errorf("%s not found", argv[0])
		}
	}
	e.cli, e.front = e.resolved(cli), e.resolved(front)
	e.info = Info{Name: cli[0], Compose: strings.Join(front, " ")}
	r := e.runner(nil)
	version, err := r.run(ctx, append(e.front, "version", "--short")...)
	if err != nil {
		// podman-compose knows no --short, and neither does a docker without
		// the plugin, which fails again.
		if version, err = r.run(ctx, append(e.front, "version")...); err != nil {
			return fmt.Errorf("no compose: %w", err)
		}
	}
	e.info.ComposeVersion = lastWord(string(version))
	if cli[0] == "podman" {
		return e.askPodman(ctx)
	}
	return e.askDocker(ctx)
}

func (e *Engine) askDocker(ctx context.Context) error {
	out, err := e.runner(nil).run(ctx, append(e.cli, "version", "--format", "{{json .Server}}")...)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	var server *struct{ Version, Os, Arch string }
	if err := json.Unmarshal(out, &server); err != nil || server == nil {
		return fmt.Errorf("%w: want the server's version, got %.200q", errNoAnswer, out)
	}
	e.info.Version, e.info.Platform = server.Version, server.Os+"/"+server.Arch
	return nil
}

func (e *Engine) askPodman(ctx context.Context) error {
	out, err := e.runner(nil).run(ctx, append(e.cli, "info", "--format", "json")...)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	var info struct {
		Version struct{ Version, OsArch string }
	}
	if err := json.Unmarshal(out, &info); err != nil || info.Version.OsArch == "" {
		return fmt.Errorf("%w: want podman's version, got %.200q", errNoAnswer, out)
	}
	e.info.Version, e.info.Platform = info.Version.Version, info.Version.OsArch
	return nil
}

// resolved replaces the program of argv by its path.
func (e *Engine) resolved(argv []string) []string {
	path, err := e.opts.LookPath(argv[0])
	if err != nil {
		path = argv[0]
	}
	// Capped, so that appending arguments copies.
	return append([]string{path}, argv[1:]...)[:len(argv):len(argv)]
}

func (e *Engine) runner(secrets []string) runner { return runner{e.opts, secrets} }

// engine runs a command of the engine itself.
func (e *Engine) engine(ctx context.Context, secrets []string, args ...string) ([]byte, error) {
	return e.runner(secrets).run(ctx, append(e.cli, args...)...)
}

// compose runs a command of the front end on a project.
func (e *Engine) compose(ctx context.Context, d target.Deployment, args ...string) error {
	argv := append(e.front, "-p", ProjectName(d.Instance), "-f", filepath.Join(d.Rendered, File))
	_, err := e.runner(d.Secrets).run(ctx, append(argv, args...)...)
	return err
}

// recreates reports whether the front end replaces a container whose definition
// changed. docker-compose 1 reads a field of image inspection that Docker 25
// began to leave out, and ends in a KeyError; podman-compose does not notice.
func (e *Engine) recreates() bool {
	if e.info.Name == "podman" {
		return false
	}
	major, _, _ := strings.Cut(e.info.Version, ".")
	n, err := strconv.Atoi(major)
	return !strings.HasPrefix(e.info.ComposeVersion, "1.") || err != nil || n < 25
}

// exposes reports whether the front end hands the values of the environment on
// as arguments of a process, for everybody on the host to read.
func (e *Engine) exposes() bool { return e.info.Name == "podman" }

func lastWord(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return ""
	}
	return strings.TrimPrefix(words[len(words)-1], "v")
}
