package test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
	"github.com/rogpeppe/go-internal/testscript"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sealift/sealift/artifact"
)

// fault is what a registry does once it has sent a number of bytes of blobs.
type fault int

const (
	faultNone  fault = iota
	faultCut         // break that connection, then go on as if nothing was
	faultDown        // break that connection and every later one, until it is up
	faultStall       // send nothing more, and say so
)

// testRegistry is a real registry that counts what is asked of it and fails when
// it is told to.
type testRegistry struct {
	handler        http.Handler
	user, password string
	stalled        chan struct{} // closed once a request stalls
	cut            chan struct{} // closed to break that request's connection

	mu     sync.Mutex
	counts map[string]int64
	fault  fault
	budget int64 // bytes of blobs until the fault
	down   bool
	// refusal is the body of the error that manifests are answered with, "" for none.
	refusal string
}

// cmdRegistry starts an empty registry for each variable and sets the variable to
// its host:port.
func cmdRegistry(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "registry [-sparse] [-auth USER:PASSWORD] [-refuse JSON] [-cut N | -down N | -stall N] VAR..."
	credentials, refusal, kind, budget := "", "", faultNone, int64(0)
	sparse := len(args) > 0 && args[0] == "-sparse"
	if sparse {
		args = args[1:]
	}
	for len(args) > 2 && strings.HasPrefix(args[0], "-") {
		var err error
		switch args[0] {
		case "-auth":
			credentials = args[1]
		case "-refuse":
			refusal = args[1]
		case "-cut", "-down", "-stall":
			kind = map[string]fault{"-cut": faultCut, "-down": faultDown, "-stall": faultStall}[args[0]]
			budget, err = strconv.ParseInt(args[1], 10, 64)
		default:
			err = errors.New("no such flag")
		}
		need(ts, err == nil, usage)
		args = args[2:]
	}
	need(ts, !neg && len(args) > 0 && !strings.HasPrefix(args[0], "-"), usage)
	for _, name := range args {
		store := newRegistry(sparse)
		r := &testRegistry{handler: store, stalled: make(chan struct{}), cut: make(chan struct{}), counts: map[string]int64{}, fault: kind, budget: budget, refusal: refusal}
		r.user, r.password, _ = strings.Cut(credentials, ":")
		server := httptest.NewServer(r)
		ts.Defer(func() {
			server.CloseClientConnections()
			server.Close()
			_ = store.Close()
		})
		sceneOf(ts).registries[name] = r
		ts.Setenv(name, strings.TrimPrefix(server.URL, "http://"))
	}
}

// newRegistry makes a real registry in memory.
func newRegistry(sparse bool) *olareg.Server {
	return olareg.New(config.Config{
		Storage: config.ConfigStorage{StoreType: config.StoreMem},
		API:     config.ConfigAPI{Manifest: config.ConfigAPIManifest{SparseIndex: &sparse}},
		Log:     slog.New(slog.DiscardHandler),
	})
}

var (
	manifestPath = regexp.MustCompile(`/manifests/[^/]+$`)
	blobPath     = regexp.MustCompile(`/blobs/[^/]+$`)
)

// ServeHTTP counts, and breaks what is to be broken.
func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.isDown() {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
	if user, password, _ := req.BasicAuth(); r.user != "" && (user != r.user || password != r.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch get := req.Method == http.MethodGet; {
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		r.count("writes", 1)
	case get && manifestPath.MatchString(req.URL.Path):
		r.count("manifests", 1)
		if r.refusal != "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, r.refusal)
			return
		}
	case get && blobPath.MatchString(req.URL.Path):
		r.count("blobs", 1)
		if req.Header.Get("Range") != "" {
			r.count("ranges", 1)
		}
		b := &blobWriter{ResponseWriter: w, registry: r, done: req.Context().Done()}
		r.handler.ServeHTTP(b, req)
		if b.broken {
			_ = http.NewResponseController(w).Flush() // what was sent arrives
			panic(http.ErrAbortHandler)
		}
		return
	}
	r.handler.ServeHTTP(w, req)
}

func (r *testRegistry) isDown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down
}

func (r *testRegistry) count(what string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

// spend counts up to n bytes of a blob and returns how many may be sent and what
// happens behind them.
func (r *testRegistry) spend(n int64) (int64, fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	happens := faultNone
	if r.fault != faultNone && n > r.budget {
		n, happens = r.budget, r.fault
		switch r.fault {
		case faultCut:
			r.fault = faultNone
		case faultDown:
			r.down = true
		case faultStall:
			r.fault = faultNone
			close(r.stalled)
		}
	}
	r.budget -= n
	r.counts["bytes"] += n
	return n, happens
}

// blobWriter sends a blob under the registry's budget.
type blobWriter struct {
	http.ResponseWriter
	registry *testRegistry
	done     <-chan struct{} // the client is gone
	broken   bool
}

func (b *blobWriter) Write(p []byte) (int, error) {
	allowed, happens := b.registry.spend(int64(len(p)))
	n, err := b.ResponseWriter.Write(p[:allowed])
	if happens == faultNone || err != nil {
		return n, err
	}
	if happens == faultStall {
		_ = http.NewResponseController(b.ResponseWriter).Flush()
		select {
		case <-b.done:
		case <-b.registry.cut:
		}
	}
	b.broken = true
	return n, io.ErrClosedPipe
}

// cmdUp brings a registry that went down back, without any further fault.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1 && sceneOf(ts).registries[args[0]] != nil, "up VAR")
	r := sceneOf(ts).registries[args[0]]
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.down {
		ts.Fatalf("%s is not down", args[0])
	}
	r.down, r.fault = false, faultNone
}

// cmdReconnect breaks the connection of a registry that stalls, which then answers
// again.
func cmdReconnect(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 1 && sceneOf(ts).registries[args[0]] != nil, "reconnect VAR")
	close(sceneOf(ts).registries[args[0]].cut)
}

// cmdRequests checks how often something was asked of a registry since the last
// reset: manifests and blobs read, ranges among the blobs, the bytes of those blobs,
// and writes of any kind. N is a number, or one behind < or >.
func cmdRequests(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && (len(args) == 3 || len(args) == 2 && args[1] == "reset") && sceneOf(ts).registries[args[0]] != nil,
		"requests VAR manifests|blobs|ranges|bytes|writes [<|>]N, or requests VAR reset")
	r := sceneOf(ts).registries[args[0]]
	r.mu.Lock()
	defer r.mu.Unlock()
	if args[1] == "reset" {
		clear(r.counts)
		return
	}
	got := r.counts[args[1]]
	number := strings.TrimLeft(args[2], "<>")
	want, err := strconv.ParseInt(number, 10, 64)
	ts.Check(err)
	ok := map[string]bool{"": got == want, "<": got < want, ">": got > want}
	if !ok[strings.TrimSuffix(args[2], number)] {
		ts.Fatalf("%s: %d %s, want %s", args[0], got, args[1], args[2])
	}
}

// openRepository opens HOST/REPO of a registry of the script, past its counters.
func openRepository(ts *testscript.TestScript, name string) *remote.Repository {
	repo, err := remote.NewRepository(name)
	ts.Check(err)
	repo.PlainHTTP = true
	return repo
}

// cmdTag gives what REPO:TAG names another tag, as anybody with a registry's
// password may.
func cmdTag(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 2, "tag HOST/REPO:TAG NEW_TAG")
	name, tag := splitTag(args[0])
	repo := openRepository(ts, name)
	desc, err := repo.Resolve(context.Background(), tag)
	ts.Check(err)
	ts.Check(repo.Tag(context.Background(), desc, args[1]))
}

// cmdPushPolicy pushes a file as an update of a policy to the version that its manifest
// says, whatever is in it, as somebody may with another tool.
func cmdPushPolicy(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) == 3, "pushpolicy HOST/REPO:TAG FILE VERSION")
	name, tag := splitTag(args[0])
	version, err := strconv.Atoi(args[2])
	ts.Check(err)
	parts, root, err := artifact.BuildPolicy(version, []byte(ts.ReadFile(args[1])))
	ts.Check(err)
	repo := openRepository(ts, name)
	for _, b := range append(parts, root) {
		ts.Check(repo.Push(context.Background(), b.Descriptor, bytes.NewReader(b.Data)))
	}
	ts.Check(repo.Tag(context.Background(), root.Descriptor, tag))
}

// splitTag splits HOST/REPO:TAG.
func splitTag(ref string) (name, tag string) {
	i := strings.LastIndexByte(ref, ':')
	return ref[:i], ref[i+1:]
}
