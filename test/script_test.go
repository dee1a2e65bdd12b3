package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	_ "github.com/sealift/sealift/internal/cli" // so that results are not kept for another program
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

// TestScript runs testdata/script/*.txtar, the specification of the command
// line. With UPDATE=1 in the environment it rewrites the golden files in them.
//
// Every script has $BIN, the directory of sealift alone, to leave PATH without
// anything else, and a site's home of its own.
func TestScript(t *testing.T) {
	t.Parallel()
	bin := buildSealift(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(env *testscript.Env) error { return setup(env, bin) },
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"answers":    cmdAnswers,
			"blob":       cmdBlob,
			"dockersave": cmdDockerSave,
			"exited":     cmdExited,
			"exits":      cmdExits,
			"flip":       cmdFlip,
			"freeport":   cmdFreePort,
			"image":      cmdImage,
			"interrupt":  cmdInterrupt,
			"keyless":    cmdKeyless,
			"keys":       cmdKeys,
			"left":       cmdLeft,
			"plainkey":   cmdPlainKey,
			"lock":       cmdLock,
			"press":      cmdPress,
			"pushimage":  cmdPushImage,
			"pushpolicy": cmdPushPolicy,
			"reconnect":  cmdReconnect,
			"registry":   cmdRegistry,
			"relabel":    cmdRelabel,
			"requests":   cmdRequests,
			"resize":     cmdResize,
			"screen":     cmdScreen,
			"scrub":      cmdScrub,
			"sigstore":   cmdSigstore,
			"static":     cmdStatic,
			"tag":        cmdTag,
			"terminal":   cmdTerminal,
			"truncate":   cmdTruncate,
			"up":         cmdUp,
		},
	})
}

// scene is what a script has beside its files.
type scene struct {
	registries  map[string]*testRegistry // by variable
	sigstores   map[string]*sigstoretest.Sigstore
	interrupted *exec.Cmd
	terminal    *terminal
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

func setup(env *testscript.Env, bin string) error {
	env.Setenv("BIN", bin)
	env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
	env.Setenv("SEALIFT_HOME", filepath.Join(env.WorkDir, ".site"))
	// The race detector keeps every process a second longer by default.
	env.Setenv("GORACE", "atexit_sleep_ms=0")
	env.Values[sceneKey{}] = &scene{registries: map[string]*testRegistry{}, sigstores: map[string]*sigstoretest.Sigstore{}}
	return nil
}

// buildSealift builds the program as it is shipped, with the race detector if
// this test has it, and returns its directory. testscript could run this very
// binary instead, but the registry linked into it hashes a password each time it
// starts, which under the race detector takes a second.
func buildSealift(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-ldflags", stamps, "-o", filepath.Join(dir, "sealift")}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(t.Context(), "go", append(args, "../cmd/sealift")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// stamps give the programs of the scripts one version, as make does.
const stamps = "-X github.com/sealift/sealift/internal/cli.version=0.0.0-script -X github.com/sealift/sealift/internal/delivery/tool.stamp=sealift-version:0.0.0-script;"

// cmdStatic builds the program that can travel, for this machine, into a directory:
// static, and stamped with the version that the scripts' own program has.
func cmdStatic(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "static DIR")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath",
		"-ldflags", stamps, "-o", filepath.Join(ts.MkAbs(args[0]), "sealift-linux-"+runtime.GOARCH), "../cmd/sealift")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := cmd.CombinedOutput()
	if err != nil {
		ts.Fatalf("%v\n%s", err, out)
	}
}

// smallDisk says why a disk of a few kilobytes cannot be mounted here, nil when
// it can.
var smallDisk = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "smalldisk")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(dir) }()
	return exec.CommandContext(context.Background(), "unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", dir).Run()
})

func condition(name string) (bool, error) {
	if name == "smalldisk" {
		return smallDisk() == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// need ends the script unless it uses a command as usage says.
func need(ts *testscript.TestScript, ok bool, usage string) {
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

// cmdExits runs a program and checks its exact exit code; testscript's own "!"
// checks only that it is not zero.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) >= 2, "exits CODE PROGRAM ARG...")
	err := ts.Exec(args[1], args[2:]...)
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	} else if got := exit.ExitCode(); err != nil && strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
	if err == nil && args[0] != "0" {
		ts.Fatalf("exit code 0, want %s", args[0])
	}
}

// cmdInterrupt waits until the registry in VAR has stalled and then interrupts
// the one program that runs in the background, which the script must wait for.
func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	s := sceneOf(ts)
	running := ts.BackgroundCmds()
	need(ts, !neg && len(args) == 1 && s.registries[args[0]] != nil && len(running) == 1, "interrupt VAR")
	select {
	case <-s.registries[args[0]].stalled:
	case <-time.After(time.Minute):
		ts.Fatalf("the registry was never asked for a blob")
	}
	s.interrupted = running[0]
	ts.Check(s.interrupted.Process.Signal(os.Interrupt))
}

// cmdExited checks the exit code of the program that was interrupted and waited
// for.
func cmdExited(ts *testscript.TestScript, neg bool, args []string) {
	cmd := sceneOf(ts).interrupted
	need(ts, !neg && len(args) == 1 && cmd != nil && len(ts.BackgroundCmds()) == 0, "exited CODE")
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// keyPassword encrypts the private keys of the scripts.
const keyPassword = "sesame"

type keyPair struct {
	private, public []byte
	fingerprint     string
	err             error
}

// keyPairs holds a function for each name, because a key is dear to make and
// dear to keep apart.
var keyPairs sync.Map

func pairOf(name string) keyPair {
	once, _ := keyPairs.LoadOrStore(name, sync.OnceValue(func() keyPair {
		p, err := makePair()
		p.err = err
		return p
	}))
	return once.(func() keyPair)()
}

// makePair makes a key pair like those of sealift keygen, but encrypted in the
// cheapest way that is understood.
func makePair() (keyPair, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return keyPair{}, err
	}
	box, err := encrypted.EncryptWithCustomKDFParameters(der, []byte(keyPassword), encrypted.Legacy)
	if err != nil {
		return keyPair{}, err
	}
	s, err := signer.NewSigner(private)
	if err != nil {
		return keyPair{}, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: box})
	return keyPair{private: block, public: s.PublicKeyPEM(), fingerprint: s.Key().Fingerprint()}, nil
}

// cmdKeys writes NAME.key and NAME.pub, one pair for all scripts of a run, sets
// NAME_fingerprint, and gives the password in COSIGN_PASSWORD.
func cmdKeys(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "keys NAME...")
	ts.Setenv("COSIGN_PASSWORD", keyPassword)
	for _, name := range args {
		p := pairOf(name)
		ts.Check(p.err)
		ts.Check(os.WriteFile(ts.MkAbs(name+".key"), p.private, 0o600))
		ts.Check(os.WriteFile(ts.MkAbs(name+".pub"), p.public, 0o644))
		ts.Setenv(name+"_fingerprint", p.fingerprint)
	}
}

// cmdPlainKey writes an ECDSA key to a file, as openssl does.
func cmdPlainKey(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "plainkey FILE")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// cmdLock holds the writer's lock of media until the script ends.
func cmdLock(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "lock MEDIA")
	w, err := layout.OpenWriter(context.Background(), ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { _ = w.Close() })
}

// cmdScrub writes the last stdout or stderr, or a file, to the file "scrubbed",
// with $VAR for the value of each variable named, so that it can be compared
// with a golden file.
func cmdScrub(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) >= 2, "scrub FILE VAR...")
	text := ts.ReadFile(args[0])
	for _, name := range args[1:] {
		value := ts.Getenv(name)
		need(ts, value != "", "scrub FILE VAR... with variables that are set")
		text = strings.ReplaceAll(text, value, "$"+name)
	}
	ts.Check(os.WriteFile(ts.MkAbs("scrubbed"), []byte(text), 0o644))
}

// cmdFreePort sets VAR to an address of this machine that nothing listens on.
func cmdFreePort(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "freeport VAR")
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

// cmdAnswers waits until a registry answers at an address.
func cmdAnswers(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1, "answers HOST:PORT")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+args[0]+"/v2/", nil)
		ts.Check(err)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				tick.Stop()
				return
			}
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("nothing answers at %s", args[0])
		case <-tick.C:
		}
	}
}
