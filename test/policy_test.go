package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/sealift/sealift/internal/delivery/tool"
)

const module = "github.com/sealift/sealift/"

// layers is the direction of imports: a package imports only packages of earlier
// lines. Change it in a commit of its own that says why, together with
// docs/ARCHITECTURE.md.
var layers = [][]string{
	{"internal/document", "internal/audit", "internal/sigstoretest"},
	{"artifact"},
	{"internal/layout", "internal/remote", "internal/remote/remotetest", "internal/archive"},
	{"signer"},
	{"mirror", "internal/receipt"},
	{"registry"},
	{"internal/target"},
	{"internal/publish", "internal/target/compose"},
	{"internal/site"},
	{"internal/delivery/tool"},
	{"internal/delivery"},
	{"internal/delivery/compare"},
	{"internal/ui", "internal/ui/uitest"},
	{"internal/cli"},
	{"cmd/sealift", "test"},
	{"test/bench", "test/real"},
}

// outside are the programs of the examples, which are no part of sealift and
// import nothing of it.
const outside = module + "examples/"

// libraryBans lists what no package below internal/cli may import, and why.
var libraryBans = map[string]string{
	"github.com/spf13/cobra": "flags belong to internal/cli",
	"testing":                "test helpers live in packages named *test",
}

type listed struct {
	ImportPath, Dir  string
	Imports, GoFiles []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	rank := map[string]int{}
	for i, layer := range layers {
		for _, p := range layer {
			rank[module+p] = i
		}
	}
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.ImportPath, outside) {
			for _, imp := range p.Imports {
				if strings.HasPrefix(imp, module) && !strings.HasPrefix(imp, outside) {
					t.Errorf("%s imports %s: the example must not need sealift", p.ImportPath, imp)
				}
			}
			continue
		}
		r, ok := rank[p.ImportPath]
		if !ok {
			t.Errorf("%s is in no layer", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if ri, ok := rank[imp]; ok && ri >= r {
				t.Errorf("%s must not import %s", p.ImportPath, imp)
			}
		}
		for ban, why := range libraryBans {
			if r < rank[module+"internal/cli"] && slices.Contains(p.Imports, ban) {
				t.Errorf("%s imports %s: %s", p.ImportPath, ban, why)
			}
		}
	}
}

// calls lists functions that only internal/cli and main may call, by package.
var calls = map[string][]string{
	"os":  {"Exit", "Getenv", "LookupEnv", "Environ", "Stdout", "Stderr", "Stdin", "Args"},
	"fmt": {"Print", "Println", "Printf"},
	"log": {"Print", "Println", "Printf", "Fatal", "Fatalf", "Panic"},
}

// TestLibraryIsSilent fails when a package below internal/cli prints, reads the
// environment or ends the process.
func TestLibraryIsSilent(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		if rel == "internal/cli" || rel == "cmd/sealift" || strings.HasPrefix(p.ImportPath, outside) {
			continue
		}
		for _, file := range p.GoFiles {
			for _, where := range bannedCalls(t, filepath.Join(p.Dir, file), nil) {
				t.Errorf("%s: %s belongs to internal/cli", rel, where)
			}
		}
	}
}

// bannedCalls returns the uses of calls in a file, or in src when it is given.
func bannedCalls(t *testing.T, file string, src any) []string {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); ok && slices.Contains(calls[pkg.Name], sel.Sel.Name) {
			found = append(found, fset.Position(sel.Pos()).String()+": "+pkg.Name+"."+sel.Sel.Name)
		}
		return true
	})
	return found
}

// TestGuardsBite plants the faults that the tests above look for.
func TestGuardsBite(t *testing.T) {
	t.Parallel()
	src := "package p\nimport (\"os\"; \"fmt\")\nfunc f() { fmt.Println(os.Getenv(\"X\")) }\n"
	if got := bannedCalls(t, "planted.go", src); len(got) != 2 {
		t.Errorf("bannedCalls(planted) = %v, want two findings", got)
	}
	if got := missingReasons([]string{"example.com/new"}); len(got) != 1 {
		t.Errorf("missingReasons(new module) = %v, want one", got)
	}
}

// TestPackageComments fails unless each package has exactly one comment.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	files := map[string][]string{} // directory to files holding a package comment
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != ".." && strings.HasPrefix(name, ".") || name == "testdata" || name == "build" || name == "demo" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		files[dir] = append(files[dir], nil...)
		if f.Doc != nil {
			files[dir] = append(files[dir], path)
		} else if files[dir] == nil {
			files[dir] = []string{}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("looked at %d packages only", len(files))
	}
	for dir, with := range files {
		if len(with) != 1 {
			t.Errorf("%s: want one package comment, have %d %v", dir, len(with), with)
		}
	}
}

// directModules says of each direct dependency what it is for.
var directModules = map[string]string{
	"github.com/containerd/platforms":                   "how platforms are written, and which runs what",
	"github.com/creack/pty":                             "tests: programs on a terminal of their own",
	"github.com/cyberphone/json-canonicalization":       "RFC 8785; sigstore uses it too",
	"github.com/google/go-cmp":                          "tests: differences",
	"github.com/google/go-containerregistry":            "types that cosign's API speaks; builds the example's images",
	"github.com/olareg/olareg":                          "tests: a conformant registry in the process",
	"github.com/opencontainers/go-digest":               "OCI",
	"github.com/opencontainers/image-spec":              "OCI",
	"github.com/rogpeppe/go-internal":                   "the diff of texts, and for tests testscript",
	"github.com/secure-systems-lab/go-securesystemslib": "cosign's encrypted keys, and DSSE",
	"github.com/sigstore/cosign/v2":                     "signatures that every cosign accepts",
	"github.com/sigstore/rekor":                         "only to silence its logger",
	"google.golang.org/protobuf":                        "reading bundles before the library does",
	"github.com/sigstore/protobuf-specs":                "what a bundle is made of, where a signature is none yet",
	"github.com/sigstore/sigstore":                      "keys and verifiers",
	"github.com/sigstore/sigstore-go":                   "sigstore bundles, and certificates under a trusted root",
	"github.com/spf13/cobra":                            "the command line",
	"github.com/vbauerster/cupwriter":                   "the terminal as mpb sees it",
	"github.com/vbauerster/mpb/v8":                      "bars on a terminal",
	"go.yaml.in/yaml/v3":                                "documents that people write, with the position of every value",
	"golang.org/x/mod":                                  "SemVer",
	"golang.org/x/sync":                                 "errgroup",
	"golang.org/x/sys":                                  "limits of file systems, and dropping the page cache",
	"golang.org/x/term":                                 "passwords, and whether a person is there",
	"golang.org/x/time":                                 "the limit on a copy's rate",
	"oras.land/oras-go/v2":                              "registries",
}

func missingReasons(modules []string) []string {
	return slices.DeleteFunc(slices.Clone(modules), func(m string) bool { return directModules[m] != "" })
}

// TestModules fails when a direct dependency has no reason, or a reason no
// dependency.
func TestModules(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range f.Require {
		if !r.Indirect {
			direct = append(direct, r.Mod.Path)
		}
	}
	for _, m := range missingReasons(direct) {
		t.Errorf("module %s has no reason in directModules", m)
	}
	for m := range directModules {
		if !slices.Contains(direct, m) {
			t.Errorf("module %s has a reason but is no direct dependency", m)
		}
	}
}

// TestPrograms fails when the platforms that are offered for --with-tool are not
// those that make dist builds for.
func TestPrograms(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	list, _, _ := strings.Cut(string(makefile[bytes.Index(makefile, []byte("\nPROGRAMS := "))+len("\nPROGRAMS := "):]), "\n")
	var names []string
	for _, name := range tool.KnownPlatforms() {
		name = strings.ReplaceAll(name, "/", "-")
		if strings.HasPrefix(name, "windows-") {
			name += ".exe"
		}
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != list {
		t.Errorf("programs are offered for %s, and make dist builds %s", got, list)
	}
}

// maxBinaryBytes is the budget of the static program.
const maxBinaryBytes = 45 << 20

func TestBinarySize(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "sealift")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "../cmd/sealift")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the program is %.1f MB", float64(info.Size())/1e6)
	if info.Size() > maxBinaryBytes {
		t.Errorf("the program is %d bytes, want at most %d", info.Size(), maxBinaryBytes)
	}
}
