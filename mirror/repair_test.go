package mirror_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// repairScene is media with one image on it, whole, and where it came from.
type repairScene struct {
	fixture
	src *counting
	dir string
	t   *testing.T
}

// counting is a source that counts what is fetched.
type counting struct {
	*store
	mu      sync.Mutex
	fetched map[digest.Digest]int
	// spoil changes what is given, lost is not there.
	spoil, lost digest.Digest
	// down is what every question is answered with.
	down error
}

func (c *counting) Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if c.down != nil || desc.Digest == c.lost {
		return false, c.down
	}
	return c.store.Exists(ctx, desc)
}

func (c *counting) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	c.mu.Lock()
	c.fetched[desc.Digest]++
	c.mu.Unlock()
	if desc.Digest == c.spoil {
		return io.NopCloser(strings.NewReader(strings.Repeat("x", int(desc.Size)))), nil
	}
	return c.store.Fetch(ctx, desc)
}

func newRepairScene(t *testing.T) *repairScene {
	t.Helper()
	s := &repairScene{src: &counting{store: newStore(t), fetched: map[digest.Digest]int{}}, dir: filepath.Join(t.TempDir(), "media"), t: t}
	s.fixture = newFixture(s.src.store)
	if err := copyTo(t, s.src.store, s.dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *repairScene) path(d ocispec.Descriptor) string {
	return filepath.Join(s.dir, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded())
}

func (s *repairScene) flip(d ocispec.Descriptor) {
	s.t.Helper()
	data, err := os.ReadFile(s.path(d))
	if err != nil {
		s.t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(s.path(d), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *repairScene) truncate(d ocispec.Descriptor) {
	s.t.Helper()
	if err := os.Truncate(s.path(d), d.Size/2); err != nil {
		s.t.Fatal(err)
	}
}

func (s *repairScene) remove(d ocispec.Descriptor) {
	s.t.Helper()
	if err := os.Remove(s.path(d)); err != nil {
		s.t.Fatal(err)
	}
}

// layer returns the layer of an image that only it has.
func (s *repairScene) layer(image ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	raw, err := content.FetchAll(s.t.Context(), s.src.store, image)
	if err != nil {
		s.t.Fatal(err)
	}
	blobs := blobsOf(s.t, raw)
	return blobs[len(blobs)-1]
}

// verify returns what is damaged, by its place in index.json and below the root.
func (s *repairScene) verify() *mirror.DamageError {
	s.t.Helper()
	damage := new(mirror.DamageError)
	if _, err := mirror.Verify(s.t.Context(), repository(s.t, s.dir), s.root, mirror.VerifyOptions{}); err != nil && !errors.As(err, &damage) {
		s.t.Fatalf("Verify = %v", err)
	}
	return damage
}

// whole fails the test unless everything is on the media, as it was.
func (s *repairScene) whole() {
	s.t.Helper()
	for _, m := range s.manifests() {
		raw, err := content.FetchAll(s.t.Context(), s.src.store, m)
		if err != nil {
			s.t.Fatal(err)
		}
		list := []ocispec.Descriptor{m}
		if m.MediaType == ocispec.MediaTypeImageManifest {
			list = append(list, blobsOf(s.t, raw)...)
		}
		for _, d := range list {
			if data, err := os.ReadFile(s.path(d)); err != nil || digest.FromBytes(data) != d.Digest {
				s.t.Errorf("%s is not whole on the media: %v", d.Digest, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "sealift", "partial")); !errors.Is(err, fs.ErrNotExist) {
		s.t.Errorf("partial blobs are left: %v", err)
	}
}

func (s *repairScene) repair(damage *mirror.DamageError, opts mirror.RepairOptions, more ...mirror.RepairSource) (mirror.Repaired, error) {
	items := []mirror.RepairItem{{Repository: "example.com/shop", Reference: "1.0.0", Damage: damage}}
	return mirror.Repair(s.t.Context(), s.dir, items, append([]mirror.RepairSource{{Name: "hub", Store: s.src}}, more...), opts)
}

// states maps what was replaced to what it was.
func states(done mirror.Repaired) map[digest.Digest]string {
	m := map[digest.Digest]string{}
	for _, r := range done.Pieces {
		m[r.Descriptor.Digest] = r.Was
	}
	return m
}

func TestRepair(t *testing.T) {
	t.Parallel()
	type damage map[digest.Digest]string
	for _, tt := range []struct {
		name string
		harm func(s *repairScene) damage
	}{
		{"nothing", func(*repairScene) damage { return damage{} }},
		{"flipped layer", func(s *repairScene) damage {
			s.flip(s.layer(s.arm64))
			return damage{s.layer(s.arm64).Digest: mirror.Corrupt}
		}},
		{"truncated layer", func(s *repairScene) damage {
			s.truncate(s.layer(s.arm64))
			return damage{s.layer(s.arm64).Digest: mirror.Corrupt}
		}},
		{"missing layer", func(s *repairScene) damage {
			s.remove(s.layer(s.amd64))
			return damage{s.layer(s.amd64).Digest: mirror.Missing}
		}},
		{"flipped manifest in the middle", func(s *repairScene) damage {
			s.flip(s.amd64)
			return damage{s.amd64.Digest: mirror.Corrupt}
		}},
		{"missing manifest that hides a flipped layer", func(s *repairScene) damage {
			s.remove(s.arm64)
			s.flip(s.layer(s.arm64))
			return damage{s.arm64.Digest: mirror.Missing, s.layer(s.arm64).Digest: mirror.Corrupt}
		}},
		{"flipped root that hides all the rest", func(s *repairScene) damage {
			s.flip(s.root)
			s.truncate(s.amd64)
			s.remove(s.layer(s.amd64))
			return damage{s.root.Digest: mirror.Corrupt, s.amd64.Digest: mirror.Corrupt, s.layer(s.amd64).Digest: mirror.Missing}
		}},
		{"missing root", func(s *repairScene) damage {
			s.remove(s.root)
			return damage{s.root.Digest: mirror.Missing}
		}},
		{"flipped referrer with its blob", func(s *repairScene) damage {
			s.flip(s.signature)
			s.flip(s.layer(s.signature))
			return damage{s.signature.Digest: mirror.Corrupt, s.layer(s.signature).Digest: mirror.Corrupt}
		}},
		{"missing referrer of a referrer", func(s *repairScene) damage {
			s.remove(s.sbomSignature)
			return damage{s.sbomSignature.Digest: mirror.Missing}
		}},
		{"flipped signature blob", func(s *repairScene) damage {
			s.flip(s.layer(s.sig))
			return damage{s.layer(s.sig).Digest: mirror.Corrupt}
		}},
		// A walk stops at the subject of a signature tag that cannot be resolved.
		{"flipped manifest at a signature tag and a layer of its subject", func(s *repairScene) damage {
			s.flip(s.childSig)
			s.flip(s.layer(s.arm64))
			return damage{s.childSig.Digest: mirror.Corrupt, s.layer(s.arm64).Digest: mirror.Corrupt}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newRepairScene(t)
			want := tt.harm(s)
			done, err := s.repair(nil, mirror.RepairOptions{})
			if err != nil {
				t.Fatalf("Repair = %v", err)
			}
			if diff := cmp.Diff(want, damage(states(done))); diff != "" {
				t.Errorf("Repair replaced (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(len(want), len(s.src.fetched)); diff != "" {
				t.Errorf("fetched of the source (-want +got):\n%s", diff)
			}
			s.whole()
			if left := s.verify(); len(left.Corrupt)+len(left.Missing)+len(left.Unreadable) > 0 {
				t.Errorf("Verify = %v after the repair", left)
			}
		})
	}
}

// What a verification has found is not looked for again.
func TestRepairOfKnownDamage(t *testing.T) {
	t.Parallel()
	s := newRepairScene(t)
	s.flip(s.amd64)
	s.flip(s.layer(s.amd64)) // hidden
	s.flip(s.childSig)       // hides that of its subject, which is sound
	s.remove(s.layer(s.arm64))
	done, err := s.repair(s.verify(), mirror.RepairOptions{})
	if err != nil {
		t.Fatalf("Repair = %v", err)
	}
	if len(done.Pieces) != 4 {
		t.Errorf("Repair replaced %d pieces, want 4", len(done.Pieces))
	}
	s.whole()
}

func TestRepairDryRun(t *testing.T) {
	t.Parallel()
	s := newRepairScene(t)
	s.flip(s.amd64)
	s.flip(s.layer(s.arm64))
	before := snapshot(t, s.dir)
	done, err := s.repair(s.verify(), mirror.RepairOptions{DryRun: true})
	if err != nil {
		t.Fatalf("Repair = %v", err)
	}
	want := map[digest.Digest]string{s.amd64.Digest: mirror.Corrupt, s.layer(s.arm64).Digest: mirror.Corrupt}
	if diff := cmp.Diff(want, states(done)); diff != "" {
		t.Errorf("Repair (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, snapshot(t, s.dir)); diff != "" {
		t.Errorf("a dry run wrote:\n%s", diff)
	}
	if len(s.src.fetched) > 0 {
		t.Errorf("a dry run fetched %v", s.src.fetched)
	}
}

// snapshot returns the files below dir.
func snapshot(t *testing.T, dir string) map[string]digest.Digest {
	t.Helper()
	files := map[string]digest.Digest{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = digest.FromBytes(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Sources are asked in order: what one lacks, gives wrong, or cannot be asked for
// comes from the next.
func TestRepairSources(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault func(s *repairScene)
	}{
		{"lacks it", func(s *repairScene) { s.src.lost = s.layer(s.arm64).Digest }},
		{"is damaged too", func(s *repairScene) { s.src.spoil = s.layer(s.arm64).Digest }},
		{"cannot be asked", func(s *repairScene) { s.src.down = errors.New("no route") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, other := newRepairScene(t), newRepairScene(t)
			s.flip(s.layer(s.arm64))
			tt.fault(s)
			copied, err := layout.Open(other.dir)
			if err != nil {
				t.Fatal(err)
			}
			done, err := s.repair(nil, mirror.RepairOptions{}, mirror.RepairSource{Name: "copy", Store: copied})
			if err != nil {
				t.Fatalf("Repair = %v", err)
			}
			if len(done.Pieces) != 1 || done.Pieces[0].Source != "copy" {
				t.Errorf("Repair = %v, want one piece of copy", done)
			}
			s.whole()
		})
	}
}

// What no source has is told, with each source; the rest is mended all the same,
// and what is damaged stays where it is.
func TestRepairLacking(t *testing.T) {
	t.Parallel()
	s := newRepairScene(t)
	lost, spoilt := s.layer(s.arm64), s.layer(s.amd64)
	for _, d := range []ocispec.Descriptor{lost, spoilt, s.sbom} {
		s.flip(d)
	}
	s.src.lost, s.src.spoil = lost.Digest, spoilt.Digest
	done, err := s.repair(nil, mirror.RepairOptions{})
	lacking := new(mirror.RepairError)
	if !errors.As(err, &lacking) || !errors.Is(err, mirror.ErrDamaged) || !errors.Is(err, errdef.ErrNotFound) {
		t.Fatalf("Repair = %v, want a RepairError", err)
	}
	var got []digest.Digest
	for _, l := range lacking.Lacking {
		got = append(got, l.Descriptor.Digest)
		if text := l.Reasons[0].Error(); len(l.Reasons) != 1 || !strings.HasPrefix(text, "hub: ") {
			t.Errorf("reasons for %s = %v, want one of hub", l.Descriptor.Digest, l.Reasons)
		}
	}
	want := []digest.Digest{lost.Digest, spoilt.Digest}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lacking (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[digest.Digest]string{s.sbom.Digest: mirror.Corrupt}, states(done)); diff != "" {
		t.Errorf("replaced (-want +got):\n%s", diff)
	}
	for _, d := range []ocispec.Descriptor{lost, spoilt} {
		if _, err := os.Stat(s.path(d)); err != nil {
			t.Errorf("a damaged file was removed without anything to replace it: %v", err)
		}
	}
}

// A large blob is continued where it was cut off.
func TestRepairContinues(t *testing.T) {
	t.Parallel()
	s := newRepairScene(t)
	layer := s.layer(s.arm64)
	s.remove(layer)
	partial := filepath.Join(s.dir, "sealift", "partial", "sha256", layer.Digest.Encoded())
	if err := os.MkdirAll(filepath.Dir(partial), 0o755); err != nil {
		t.Fatal(err)
	}
	raw, err := content.FetchAll(t.Context(), s.src.store, layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(partial, raw[:5000], 0o600); err != nil {
		t.Fatal(err)
	}
	watch := new(watcher)
	_, err = s.repair(nil, mirror.RepairOptions{Progress: func(verb string) mirror.Progress {
		if verb == "repairing" {
			return watch
		}
		return new(watcher)
	}})
	if err != nil {
		t.Fatalf("Repair = %v", err)
	}
	if watch.stored[layer.Digest] != 1 {
		t.Errorf("stored %v, want the layer once", watch.stored)
	}
	s.whole()
}

func TestRepairRefuses(t *testing.T) {
	t.Parallel()
	t.Run("what is no layout", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "nowhere")
		if _, err := mirror.Repair(t.Context(), dir, nil, nil, mirror.RepairOptions{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Repair = %v, want fs.ErrNotExist", err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Repair made %s", dir)
		}
	})
	t.Run("media another writes", func(t *testing.T) {
		t.Parallel()
		s := newRepairScene(t)
		m, err := mirror.OpenMedia(t.Context(), s.dir, mirror.MediaOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if _, err := s.repair(nil, mirror.RepairOptions{}); !errors.Is(err, layout.ErrLocked) {
			t.Errorf("Repair = %v, want ErrLocked", err)
		}
	})
}

// A blob that is too large to be looked at first is opened once, and only then
// makes room.
func TestRepairLarge(t *testing.T) {
	t.Parallel()
	s := &repairScene{src: &counting{store: newStore(t), fetched: map[digest.Digest]int{}}, dir: filepath.Join(t.TempDir(), "media"), t: t}
	layer := s.src.layer(strings.Repeat("large layer ", 500_000))
	s.root = s.src.image("large", nil, layer)
	s.src.tag(s.root, "1.0.0")
	if err := copyTo(t, s.src.store, s.dir, mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.flip(layer)
	s.src.lost = layer.Digest
	if _, err := s.repair(nil, mirror.RepairOptions{}); !errors.Is(err, mirror.ErrDamaged) {
		t.Fatalf("Repair = %v, want ErrDamaged", err)
	}
	if _, err := os.Stat(s.path(layer)); err != nil {
		t.Errorf("a damaged file was removed without anything to replace it: %v", err)
	}
	s.src.lost = ""
	done, err := s.repair(nil, mirror.RepairOptions{})
	if err != nil {
		t.Fatalf("Repair = %v", err)
	}
	if diff := cmp.Diff(map[digest.Digest]string{layer.Digest: mirror.Corrupt}, states(done)); diff != "" {
		t.Errorf("replaced (-want +got):\n%s", diff)
	}
	if n := s.src.fetched[layer.Digest]; n != 1 {
		t.Errorf("the layer was fetched %d times, want once", n)
	}
	if left := s.verify(); len(left.Corrupt)+len(left.Missing) > 0 {
		t.Errorf("Verify = %v after the repair", left)
	}
}

// A torn index.json comes back from its slot, and what it names with it.
func TestRepairIndex(t *testing.T) {
	t.Parallel()
	s := newRepairScene(t)
	index := filepath.Join(s.dir, "index.json")
	want, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(index, int64(len(want)/2)); err != nil {
		t.Fatal(err)
	}
	s.flip(s.amd64)
	for _, first := range []bool{true, false} {
		done, err := s.repair(nil, mirror.RepairOptions{})
		if err != nil {
			t.Fatalf("Repair = %v", err)
		}
		if done.Index != first || len(done.Pieces) == 1 != first {
			t.Errorf("Repair = %+v, first time %v", done, first)
		}
	}
	if got, err := os.ReadFile(index); err != nil || string(got) != string(want) {
		t.Errorf("index.json is not what it was (%v)", err)
	}
	s.whole()
}
