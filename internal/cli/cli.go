// Package cli turns command lines into calls on the library packages: flags,
// environment, output, exit codes and hints, one command a file. It holds no
// delivery logic.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/target/compose"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// version is the release of the program, stamped at build.
var version = ""

// Version returns the stamped version, or the one of the module when the program
// was installed with the Go tool.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// Process is what a command sees of the process it runs in. Tests pass their own.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string
	// Environ is the environment handed to programs that are started.
	Environ []string
	// Terminal says that a person sits at In and Err.
	Terminal bool
	// TerminalSize returns the columns and rows of Err's terminal as they are now, 0
	// where it does not say.
	TerminalSize func() (width, height int)
	// ReadPassword reads a line from the terminal without showing it. It may
	// block after ctx has ended.
	ReadPassword func() ([]byte, error)
	// RestoreTerminal shows what is typed again, when ReadPassword was left.
	RestoreTerminal func()
	Now             func() time.Time
}

// System returns the running process.
func System() Process {
	stdin, stderr := int(os.Stdin.Fd()), int(os.Stderr.Fd())
	state, _ := term.GetState(stdin) // nil where there is no terminal
	return Process{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ(),
		Terminal: term.IsTerminal(stdin) && term.IsTerminal(stderr),
		TerminalSize: func() (width, height int) {
			width, height, _ = term.GetSize(stderr)
			return width, height
		},
		ReadPassword: func() ([]byte, error) { return term.ReadPassword(stdin) },
		RestoreTerminal: func() {
			if state != nil {
				_ = term.Restore(stdin, state) // the process is about to end
			}
		},
		Now: time.Now,
	}
}

// app is what the commands share.
type app struct {
	Process
	out    *ui.Printer
	client *registries
	found  *compose.Engine // nil until one was

	format       string
	quiet        bool
	plainHTTP    bool
	home         string
	passwordFile string
}

// Main runs the command line args and returns the exit code.
func Main(ctx context.Context, args []string, process Process) int {
	quietLibraries()
	a := &app{Process: process}
	a.printer(formatOf(args)) // for errors before the flags are read
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errDiffer) {
		return exitFailure // which was asked for, and is no error to tell of
	}
	code := exitCode(ctx, err)
	advice := hint(err, code)
	if code == exitInterrupted && !errors.As(err, new(*mirror.IncompleteError)) {
		// What was cut off in which call is of no use to who cut it off.
		err, advice = errors.New("interrupted"), "run the same command again to finish it"
	}
	if advice == "" && errors.As(err, new(*usageError)) {
		advice = "see what it takes: " + cmd.CommandPath() + " --help"
	}
	a.out.Error(err, advice, code)
	return code
}

func (a *app) printer(format ui.Format) {
	a.out = ui.New(ui.Options{
		Out: a.Out, Err: a.Err, Format: format, Quiet: a.quiet, Now: a.Now, Size: a.TerminalSize,
		Terminal: a.Terminal && a.Getenv("TERM") != "dumb" && a.Getenv("NO_COLOR") == "",
	})
}

// formatOf finds the output format before flags are parsed, so that a mistake in
// the flags is reported in it too.
func formatOf(args []string) ui.Format {
	for i, arg := range args {
		if (arg == "-o" || arg == "--output") && i+1 < len(args) && args[i+1] == "json" || arg == "-ojson" || arg == "-o=json" || arg == "--output=json" {
			return ui.JSON
		}
	}
	return ui.Text
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "sealift",
		Short: "Deliver signed applications to places without a network",
		Long: `sealift publishes an application and its images as one signed OCI graph, carries
it on a disk, and installs, upgrades and rolls it back where there is no network.

  vendor:  sealift publish app.yaml registry.example.com/shop --key cosign.key
           sealift mirror registry.example.com/shop:1.0.0 /media/usb
  site:    sealift install /media/usb --key cosign.pub

Exit status: 0 done, 1 other failure, 10 wrong usage or invalid template, 11 not
found, 12 damaged or invalid signature, 13 credentials or password, 14 incomplete
(run again to continue), 15 refused, 130 interrupted.`,
		SilenceUsage:          true,
		SilenceErrors:         true,
		DisableFlagsInUseLine: true,
		Version:               Version(),
		Args:                  noSuchCommand,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != string(ui.Text) && a.format != string(ui.JSON) {
				return usagef("-o wants text or json, got %q", a.format)
			}
			a.printer(ui.Format(a.format))
			a.client = &registries{opts: remote.Options{UserAgent: "sealift/" + Version(), PlainHTTP: a.plainHTTP, DockerConfig: true}}
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.format, "output", "o", string(ui.Text), "write results as `text` or json (see sealift help output)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no messages, only results and errors")
	flags.BoolVar(&a.plainHTTP, "plain-http", false, "talk HTTP to every registry (loopback registries always)")
	flags.StringVar(&a.home, "home", "", "the site's home `DIR` (default $SEALIFT_HOME, else /var/lib/sealift for root, else $XDG_DATA_HOME/sealift or ~/.local/share/sealift)")
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err.Error()} })
	root.AddGroup(&cobra.Group{ID: "vendor", Title: "At the vendor:"}, &cobra.Group{ID: "media", Title: "On the way:"}, &cobra.Group{ID: "site", Title: "At the site:"})
	for group, commands := range map[string][]*cobra.Command{
		"vendor": {newKeygen(a), newPublish(a), newSign(a), newAttest(a)},
		"media":  {newMirror(a), newVerify(a), newInspect(a), newDiff(a), newFingerprint(a)},
		"site":   {newPolicy(a), newImport(a), newList(a), newPrune(a), newServe(a), newInstall(a), newUpgrade(a), newRollback(a), newStatus(a), newHistory(a), newUninstall(a), newInventory(a), newReceipt(a), newAudit(a)},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.AddCommand(newVersion(a), newProbe(), refTopic(), outputTopic())
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return root
}

// noSuchCommand says what is meant by what is left when no command was found.
func noSuchCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := usagef("there is no command %q", args[0])
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		return withHint(err, "did you mean sealift %s?", strings.Join(near, ", or sealift "))
	}
	return withHint(err, "see what there is: sealift --help")
}

// args returns a check for the number of arguments that says what is wanted.
func args(low, high int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || high >= 0 && len(args) > high {
			return usagef("%s wants %s, got %d arguments", cmd.Name(), want, len(args))
		}
		return nil
	}
}

// registries opens repositories of registries. The credentials are read at the
// first, so that a broken Docker configuration is no concern of commands that
// talk to no registry.
type registries struct {
	opts   remote.Options
	once   sync.Once
	client *remote.Client
	err    error
}

// Repository opens the repository called name, HOST/REPO.
func (r *registries) Repository(name string) (*remote.Repository, error) {
	r.once.Do(func() { r.client, r.err = remote.NewClient(r.opts) })
	if r.err != nil {
		return nil, r.err
	}
	return r.client.Repository(name)
}

// confirm asks the person to agree. Without a terminal nobody can, and the
// answer must be given by --yes.
func (a *app) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.Terminal {
		return withHint(usagef("%s Nobody is here to answer", question), "run the same command with --yes to agree")
	}
	_, _ = fmt.Fprint(a.Err, question+" [y/N] ")
	answer, err := ask(ctx, func() (string, error) {
		var word string
		_, err := fmt.Fscanln(a.In, &word)
		if err != nil && word == "" {
			return "", nil // an empty line, or the end: no
		}
		return word, nil
	})
	if err != nil {
		return err
	}
	if s := strings.ToLower(answer); s != "y" && s != "yes" {
		return errDeclined
	}
	return nil
}

// ask waits for an answer that a person types, or for ctx to end; the reading is
// then left behind, for the process is about to end.
func ask[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := read()
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// password asks for a password without showing it.
func (a *app) password(ctx context.Context, prompt string) ([]byte, error) {
	_, _ = fmt.Fprint(a.Err, prompt)
	defer func() { _, _ = fmt.Fprintln(a.Err) }()
	p, err := ask(ctx, a.ReadPassword)
	if err != nil {
		a.RestoreTerminal()
		return nil, fmt.Errorf("read password: %w", err)
	}
	return p, nil
}
