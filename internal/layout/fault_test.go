package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

// scenario is a disk that is filled: a new layout, blobs of which one breaks
// off, one is in segments, one arrives in two parts and one is damaged, a
// release, another one, and a third in another session. Run again, it ends at
// the same place.
type scenario struct {
	requested int  // bytes that were asked for
	deleted   bool // the damaged blob, which is done once
}

const (
	scenarioLimit = 9_000
	scenarioRead  = 1_000
)

var (
	scenarioBlobs = [][]byte{noise(5_000), bytes.Repeat([]byte("abcdefg\n"), 1_000), noise(20_000)}
	scenarioSplit = bytes.Repeat([]byte("0123456789abcdefghijk\n"), 1_000) // is 22 kB
	errCable      = errors.New("cable pulled")
)

func (s *scenario) open(content []byte, cut int) func(context.Context, int64) (io.ReadCloser, error) {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		r := bytes.NewReader(content[offset:])
		left := cut - int(offset)
		return io.NopCloser(readerFunc(func(p []byte) (int, error) {
			if cut > 0 && left <= 0 {
				return 0, errCable
			}
			n, err := r.Read(p[:min(len(p), scenarioRead)])
			left -= n
			s.requested += n
			return n, err
		})), nil
	}
}

func (s *scenario) run(t *testing.T, m *machine) error {
	if err := s.session(t, m, s.first); err != nil {
		return err
	}
	return s.session(t, m, s.second)
}

// session ends like a process does: locks go, whatever the disk says.
func (s *scenario) session(t *testing.T, m *machine, fill func(context.Context, *layout.Writer) error) error {
	options := layout.WriterOptions{MaxFileBytes: scenarioLimit}
	if m.weak {
		options = layout.Weak(options)
	}
	w, err := layout.OpenWriterBefore(t.Context(), m.dir, options, m.before)
	if err != nil {
		return err
	}
	err = fill(t.Context(), w)
	return errors.Join(err, w.Close())
}

func (s *scenario) first(ctx context.Context, w *layout.Writer) error {
	for i, b := range scenarioBlobs {
		desc := describe("x/y", b)
		if i > 0 { // all but the first break off
			if err := w.Ingest(ctx, desc, s.open(b, len(b)*2/3)); err != nil && !errors.Is(err, errCable) {
				return err
			}
		}
		if err := w.Ingest(ctx, desc, s.open(b, 0)); err != nil {
			return err
		}
	}
	if err := w.WriteFile(ctx, "sealift/media.json", 0o644, strings.NewReader(`{"volume":1}`)); err != nil {
		return err
	}
	if err := s.release(ctx, w, 1); err != nil {
		return err
	}
	return s.release(ctx, w, 2)
}

func (s *scenario) second(ctx context.Context, w *layout.Writer) error {
	split := describe("x/y", scenarioSplit)
	for part := range 2 {
		keep := func(n int) bool { return n%2 == part }
		have, err := w.Segments(ctx, split)
		if err != nil {
			return err
		}
		if slices.Contains(have, part) && slices.Contains(have, part+2) { // of four, as a copy does that knows their digests
			continue
		}
		if _, err := w.IngestSegments(ctx, split, 6_000, keep, s.open(scenarioSplit, 0)); err != nil {
			return err
		}
	}
	damaged := describe("x/y", scenarioBlobs[2])
	if !s.deleted {
		if err := w.Delete(ctx, damaged); err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return err
		}
		s.deleted = true
	}
	if err := w.Ingest(ctx, damaged, s.open(scenarioBlobs[2], 0)); err != nil {
		return err
	}
	if err := w.WriteFile(ctx, "sealift/media.json", 0o644, strings.NewReader(`{"volume":1,"of":2}`)); err != nil {
		return err
	}
	return s.release(ctx, w, 3)
}

// release commits a manifest under a name and a referrer of it.
func (s *scenario) release(ctx context.Context, w *layout.Writer, n int) error {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d"}}`, ocispec.MediaTypeImageIndex, n)
	desc := describe(ocispec.MediaTypeImageIndex, raw)
	about := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageIndex, desc.MediaType, desc.Digest, desc.Size)
	ref := describe(ocispec.MediaTypeImageIndex, about)
	return errors.Join(
		w.Ingest(ctx, desc, s.open(raw, 0)), w.Ingest(ctx, ref, s.open(about, 0)),
		w.SetRoot(fmt.Sprintf("registry.example.com/app:%d", n), fmt.Sprintf("app-%d", n), desc), w.AddUntagged(ref), w.Commit(ctx))
}

// checkCrashed looks at a layout as the next reader does: it opens, or is not
// one yet; what has a name is whole.
func checkCrashed(t *testing.T, dir string) {
	t.Helper()
	checkBlobs(t, dir)
	l, err := layout.Open(dir)
	if errors.Is(err, layout.ErrNotLayout) || errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	if err := l.Damage(t.Context()); err != nil {
		t.Error(err)
	}
	for _, e := range l.Entries() {
		if ok, err := l.Exists(t.Context(), e); err != nil || !ok {
			t.Errorf("%s is in the index, and not in the layout: %v", e.Digest, err)
		}
	}
	for _, b := range append(slices.Clone(scenarioBlobs), scenarioSplit) {
		desc := describe("x/y", b)
		if ok, err := l.Exists(t.Context(), desc); err != nil || ok && !bytes.Equal(fetch(t, l, desc), b) {
			t.Errorf("blob %s is there and wrong: %v", desc.Digest, err)
		}
		numbers, err := l.Segments(t.Context(), desc)
		if err != nil {
			t.Error(err)
		}
		for _, n := range numbers {
			raw := read(t, segmentPath(dir, desc.Digest, fmt.Sprintf("%03d", n)))
			if !bytes.Contains(b, raw) {
				t.Errorf("segment %d of blob %s is there and wrong", n, desc.Digest)
			}
		}
	}
}

// checkLabel looks whether media.json is whole, where it is replaced as one step.
func checkLabel(t *testing.T, dir string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "sealift", "media.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasSuffix(string(raw), "}") {
		t.Errorf("media.json is %q, %v", raw, err)
	}
}

// tree is everything below a directory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		all[filepath.ToSlash(rel)] = info.Mode().String()
		if d.Type().IsRegular() {
			all[filepath.ToSlash(rel)] += " " + string(read(t, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// At whatever step a writer is killed, or the power fails: what is left is
// sound, and running again ends with the very same files.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	sound := &machine{dir: filepath.Join(t.TempDir(), "media", "disc")}
	undisturbed := &scenario{}
	if err := undisturbed.run(t, sound); err != nil {
		t.Fatal(err)
	}
	checkCrashed(t, sound.dir)
	want := tree(t, sound.dir)
	if sound.steps < 240 {
		t.Errorf("the scenario has %d steps, want hundreds", sound.steps)
	}
	variants := map[string]struct {
		make func() machine
		// again is how many bytes may be asked for a second time: after a kill
		// those of one write, after a power failure a blob and what went on from
		// where it was torn.
		again int
	}{
		"kill":             {func() machine { return machine{} }, scenarioRead},
		"half a write":     {func() machine { return machine{half: true} }, scenarioRead},
		"power failure":    {powerFailure(1, false), 2 * len(scenarioSplit)},
		"kill, then power": {powerFailure(2, true), 3 * len(scenarioSplit)},
	}
	split := describe("x/y", scenarioSplit).Digest.Encoded()
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var crashes, worst int
			var at string
			for step := 1; step <= sound.steps; step++ {
				m := v.make()
				m.crashAt, m.durable = step, map[string][]byte{}
				if m.half && m.power == nil && sound.ops[step-1] != "write" {
					continue // it is as a kill is
				}
				crashes++
				again := crash(t, &m, want) - undisturbed.requested
				switch {
				case strings.Contains(m.last, split):
					again -= len(scenarioSplit) // what is kept of it has gaps
				case sound.ops[max(0, step-2)] == "remove":
					again -= len(scenarioBlobs[2]) // deleted, and to be deleted again
				}
				if again > worst {
					worst, at = again, fmt.Sprintf("step %d, %s", step, m.last)
				}
			}
			t.Logf("%d crashes; at most %d of %d bytes asked for again, at %s", crashes, worst, undisturbed.requested, at)
			if worst > v.again {
				t.Errorf("%d bytes asked for again at %s, want at most %d", worst, at, v.again)
			}
		})
	}
}

// On FAT files are written in place and flushed again; a kill at any step is as
// harmless.
func TestEveryFaultOnFAT(t *testing.T) {
	t.Parallel()
	sound := &machine{dir: filepath.Join(t.TempDir(), "media", "disc"), weak: true}
	if err := (&scenario{}).run(t, sound); err != nil {
		t.Fatal(err)
	}
	want := tree(t, sound.dir)
	renames := 0
	for _, op := range sound.ops {
		if op == "rename" {
			renames++
		}
	}
	if blobs := len(scenarioBlobs) + 10; renames > blobs { // three releases, segments twice, one once more
		t.Errorf("%d renames, want only those of %d blobs", renames, blobs)
	}
	for step := 1; step <= sound.steps; step++ {
		crash(t, &machine{crashAt: step, durable: map[string][]byte{}, weak: true, half: step%2 == 0}, want)
	}
}

func powerFailure(seed uint64, twice bool) func() machine {
	power := rand.New(rand.NewPCG(seed, 0))
	return func() machine { return machine{half: true, power: power, twice: twice} }
}

// inMemory is a directory for disks that only seem to be some, since a real one
// would add nothing but time.
func inMemory() string {
	const dir = "/dev/shm"
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return dir
	}
	return ""
}

// crash runs the scenario on a machine that fails, and again on a sound one,
// and returns how many bytes both asked for.
func crash(t *testing.T, m *machine, want map[string]string) int {
	home, err := os.MkdirTemp(inMemory(), "sealift-fault-") //nolint:usetesting // see inMemory
	if err != nil {
		t.Error(err)
		return 0
	}
	defer os.RemoveAll(home)
	m.dir = filepath.Join(home, "media", "disc")
	s := &scenario{}
	if err := s.run(t, m); err != nil && !errors.Is(err, errCrash) {
		t.Errorf("%d, %s: %v", m.crashAt, m.last, err)
	}
	if m.twice {
		m.crashAt = m.steps + 1 + m.power.IntN(40)
		if err := s.run(t, m); err != nil && !errors.Is(err, errCrash) {
			t.Errorf("%d, %s: %v", m.crashAt, m.last, err)
		}
	}
	m.fail(t)
	checkCrashed(t, m.dir)
	if !m.weak {
		checkLabel(t, m.dir)
	}
	again := &machine{dir: m.dir, weak: m.weak}
	if err := s.run(t, again); err != nil {
		t.Errorf("again after %d, %s: %v", m.crashAt, m.last, err)
		return 0
	}
	got := tree(t, m.dir)
	if m.twice {
		want, got = withoutSlots(t, want), withoutSlots(t, got)
		withoutSpare(got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after %d, %s (-undisturbed +again):\n%s", m.crashAt, m.last, diff)
	}
	return s.requested
}

// withoutSpare leaves out what arrived of segments that are all in their place: the
// power took back its removal, and a copy that knows their digests does not ask for
// them again. It is in nobody's way.
func withoutSpare(files map[string]string) {
	spare := "sealift/partial/sha256/" + describe("x/y", scenarioSplit).Digest.Encoded() + ".parts"
	if _, is := files[spare]; !is {
		return
	}
	for _, name := range []string{"sealift/partial", "sealift/partial/sha256", spare, spare + "/000", spare + "/001", spare + "/002", spare + "/003"} {
		delete(files, name)
	}
}

// withoutSlots leaves the slots out, which count on when a torn one is above one
// that may still be carried forward.
func withoutSlots(t *testing.T, files map[string]string) map[string]string {
	t.Helper()
	rest := maps.Clone(files)
	var slots int
	for name := range files {
		if ok, _ := filepath.Match("sealift/index.*.json", name); ok {
			slots++
			delete(rest, name)
		}
	}
	if slots != 2 {
		t.Errorf("%d slots, want 2", slots)
	}
	return rest
}

// changing are the names of functions of os and *os.Root, and of methods of
// *os.File, that change a disk.
var changing = []string{
	"Chmod", "Chown", "Chtimes", "Create", "CreateTemp", "Lchown", "Link", "Mkdir", "MkdirAll", "MkdirTemp", "OpenFile", "Remove", "RemoveAll", "Rename",
	"Symlink", "Sync", "Truncate", "WriteAt", "WriteFile", "WriteString",
}

// Every change goes through the type disk, or the test above misses it.
func TestOnlyDiskChangesFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, file := range files {
		found := changes(t, file)
		switch {
		case strings.HasSuffix(file, "_test.go"):
		case file == "disk.go":
			if len(found) < 8 {
				t.Errorf("disk.go has %d changes, %v: the test no longer sees them", len(found), found)
			}
		default:
			looked++
			if len(found) > 0 {
				t.Errorf("%s changes files itself: %v", file, found)
			}
		}
	}
	if looked < 15 {
		t.Errorf("looked at %d files only", looked)
	}
}

// changes lists the calls and mentions of changing in a file.
func changes(t *testing.T, file string) []string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(changing, sel.Sel.Name) {
			found = append(found, fmt.Sprintf("%s at line %d", sel.Sel.Name, set.Position(sel.Pos()).Line))
		}
		return true
	})
	return found
}
