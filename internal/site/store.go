package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/internal/target"
)

// state is what the disk says about one instance.
type state struct {
	name string
	dir  string
	// revisions are in order of their numbers.
	revisions []*Revision
	// secrets holds the secret values of each revision.
	secrets map[int]map[string]any
	journal *journal
}

// journal marks a change that is under way. It is written before anything else
// and removed after everything else.
type journal struct {
	Holder
	Revision int    `json:"revision"`
	Version  string `json:"version"`
}

// load reads an instance. An instance nothing is known of has no revisions.
func (h *Home) load(name string) (*state, error) {
	if !instanceName.MatchString(name) {
		return nil, refuse(name, RefusedName, "%q is no name for an instance; want lower-case letters, digits and -, at most 30, as shop-test", name)
	}
	s := &state{name: name, dir: h.instanceDir(name), secrets: map[int]map[string]any{}}
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		base, isJSON := strings.CutSuffix(entry.Name(), ".json")
		n, err := strconv.Atoi(base)
		if !isJSON || err != nil || n < 1 {
			continue
		}
		r := &Revision{}
		if err := readJSON(filepath.Join(s.dir, entry.Name()), r); err != nil {
			return nil, err
		}
		r.Number, r.Instance = n, name
		s.revisions = append(s.revisions, r)
	}
	slices.SortFunc(s.revisions, func(a, b *Revision) int { return a.Number - b.Number })
	if err := readJSON(filepath.Join(s.dir, "secrets.json"), &s.secrets); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	err = readJSON(filepath.Join(s.dir, "journal.json"), &s.journal)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s, nil
}

// Instances returns the names of the instances there are records of, sorted,
// uninstalled ones included.
func (h *Home) Instances() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(h.dir, "instances"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && instanceName.MatchString(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// current returns the newest revision that succeeded, nil when the instance is
// not installed.
func (s *state) current() *Revision {
	for _, r := range slices.Backward(s.revisions) {
		if r.Result != ResultSucceeded {
			continue
		}
		if r.Action == ActionUninstall {
			return nil
		}
		return r
	}
	return nil
}

// newest returns the newest revision, nil for none.
func (s *state) newest() *Revision {
	if len(s.revisions) == 0 {
		return nil
	}
	return s.revisions[len(s.revisions)-1]
}

func (s *state) revision(n int) *Revision {
	for _, r := range s.revisions {
		if r.Number == n {
			return r
		}
	}
	return nil
}

// next returns the number of the revision to come. A number in a journal was
// given out, even when its record was not reached.
func (s *state) next() int {
	n := 0
	if r := s.newest(); r != nil {
		n = r.Number
	}
	if s.journal != nil {
		n = max(n, s.journal.Revision)
	}
	for known := range s.secrets {
		n = max(n, known)
	}
	return n + 1
}

// interrupted returns the revision number of a change that was begun and not
// finished, 0 for none.
func (s *state) interrupted() int {
	if s.journal == nil {
		return 0
	}
	r := s.revision(s.journal.Revision)
	if r != nil && r.Result != ResultPending {
		return 0 // killed between the record and the journal's removal
	}
	return s.journal.Revision
}

func (s *state) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *state) saveRevision(r *Revision) error {
	return writeJSON(s.path(strconv.Itoa(r.Number)+".json"), r)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return writeFile(path, append(data, '\n'), nil)
}

// tmpPrefix begins the names of files that are being written.
const tmpPrefix = ".tmp-"

// sweep removes files that a kill left half written. The caller holds the lock.
func (s *state) sweep() error {
	recorded := map[string]bool{} // a release may carry a file of such a name
	for _, r := range s.revisions {
		for _, f := range r.Files {
			recorded[s.path(filepath.FromSlash(f.Path))] = true
		}
	}
	return filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !strings.HasPrefix(entry.Name(), tmpPrefix) || recorded[path] {
			return err
		}
		return os.Remove(path)
	})
}

// writeFile puts data at path, whole or not at all, readable by its owner alone
// unless prepare, called on the file before it gets its name, says otherwise.
func writeFile(path string, data []byte, prepare func(*os.File) error) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, tmpPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if prepare != nil {
		if err = prepare(tmp); err != nil {
			return err
		}
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDir makes dir and what is above it, durably and for the owner alone.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// writeRendered puts a rendering's file into the instance's directory and
// returns its record. Without the right to give a file to the user it is for,
// the file is made readable to all, below a directory only its owner enters;
// widened tells so.
func (s *state) writeRendered(f target.File) (record FileRecord, widened bool, err error) {
	path := s.path(filepath.FromSlash(f.Path))
	if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return FileRecord{}, false, fmt.Errorf("rendered file %q lies outside the instance", f.Path)
	}
	record = FileRecord{Path: f.Path, Digest: digest.FromBytes(f.Data)}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return FileRecord{}, false, err
	}
	// A container may have this very file bound: left alone when it is right.
	if s.checkFile(record) == nil {
		return record, false, nil
	}
	err = writeFile(path, f.Data, func(tmp *os.File) error {
		mode := fs.FileMode(f.Mode).Perm()
		if err := tmp.Chown(f.UID, f.GID); err != nil && (f.UID != 0 || f.GID != 0) {
			widened = true
			mode |= 0o444
		}
		return tmp.Chmod(mode)
	})
	return record, widened, err
}

// checkFile fails unless the recorded file is there as it was written.
func (s *state) checkFile(f FileRecord) error {
	if !filepath.IsLocal(filepath.FromSlash(f.Path)) {
		return fmt.Errorf("recorded file %q lies outside the instance", f.Path)
	}
	data, err := os.ReadFile(s.path(filepath.FromSlash(f.Path)))
	if err != nil {
		return err
	}
	if got := digest.FromBytes(data); got != f.Digest {
		return fmt.Errorf("%s is not as it was rendered: its digest is %s, want %s", f.Path, got, f.Digest)
	}
	return nil
}
