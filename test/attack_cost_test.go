package test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// cost is an attack on time and memory, of a size.
type cost struct {
	name  string
	craft func(t *testing.T, s *stage, n int)
	// small and large are the sizes compared. What is made of more is to cost as much
	// more and not its square, and where it is capped no more memory.
	small, large int
	capped       bool
	args         func(s *stage) []string
}

func verifying(s *stage) []string { return append([]string{"verify", s.ref}, s.trust...) }

func inspecting(*stage) []string { return []string{"inspect", "shop"} }

func listing(*stage) []string { return []string{"policy", "list"} }

var costs = []cost{
	{"signatures at the tag", func(t *testing.T, s *stage, n int) {
		s.disc().strip(t, s.root)
		s.payload(t, cosignPayload(s.root.Digest), n)
	}, 1_000, 10_000, false, verifying},
	{"referrers", func(t *testing.T, s *stage, n int) {
		s.disc().strip(t, s.root)
		s.disc().crowd(t, s.root, n)
	}, 1_000, 10_000, false, verifying},
	{"bundle nested deeply", func(t *testing.T, s *stage, n int) {
		s.disc().strip(t, s.root)
		s.disc().attach(t, s.root, s.disc().put(t, typeBundle, nested(n)))
	}, 50_000, 500_000, false, verifying},
	{"release nested deeply", func(t *testing.T, s *stage, n int) {
		s.stand(t, s.disc().put(t, s.root.MediaType, nested(n)))
	}, 200_000, 2_000_000, false, verifying},
	{"huge bundle", func(t *testing.T, s *stage, n int) {
		s.disc().strip(t, s.root)
		s.disc().attach(t, s.root, s.disc().huge(t, typeBundle, n))
	}, 2 << 20, 64 << 20, true, verifying},
	{"huge signature manifest", func(t *testing.T, s *stage, n int) {
		s.disc().strip(t, s.root)
		s.atTag(t, s.root, s.disc().huge(t, ocispec.MediaTypeImageManifest, n))
	}, 5 << 20, 64 << 20, true, verifying},
	{"huge policy", func(t *testing.T, s *stage, n int) {
		check(t, os.Truncate(filepath.Join(s.home, "policy.yaml"), int64(n)))
	}, 2 << 20, 64 << 20, true, listing},
	{"huge evidence", func(t *testing.T, s *stage, n int) {
		s.must(t, s.home, "import", s.media)
		check(t, os.Truncate(filepath.Join(s.home, "evidence", "sha256-"+s.root.Digest.Encoded()+".json"), int64(n)))
	}, 6 << 20, 64 << 20, true, inspecting},
	{"keys of a policy", func(t *testing.T, s *stage, n int) {
		writeTo(t, filepath.Join(s.home, "policy.yaml"), []byte(manyKeys(n)), 0o600)
	}, 10_000, 100_000, false, listing},
	{"rules of a policy", func(t *testing.T, s *stage, n int) {
		s.policy(t, func(p string) string { return manyRules(p, n) })
	}, 100, 900, false, listing},
}

// TestAttackCosts runs alone: what it measures is this process.
func TestAttackCosts(t *testing.T) {
	w := newWorld(t)
	for _, c := range costs {
		t.Run(c.name, func(t *testing.T) {
			var bytes [2]uint64
			var took [2]time.Duration
			for i, n := range []int{c.small, c.large} {
				s := w.newStage(t)
				c.craft(t, s, n)
				bytes[i], took[i] = s.measure(t, c.args(s))
			}
			// The least that is measured is noise: a command allocates and takes that much.
			grows := 3 * uint64(c.large/c.small)
			if c.capped {
				grows = 2
			}
			if most := grows * max(bytes[0], 8<<20); bytes[1] > most {
				t.Errorf("of %d it allocates %d bytes, of %d %d: want %d at most", c.small, bytes[0], c.large, bytes[1], most)
			}
			if most := time.Duration(grows) * max(took[0], 50*time.Millisecond); took[1] > most && !c.capped {
				t.Errorf("of %d it takes %v, of %d %v: want %v at most", c.small, took[0], c.large, took[1], most)
			}
		})
	}
}

// measure returns the bytes that a command allocates and how long it takes; of what is
// short, the best of two.
func (s *stage) measure(t *testing.T, args []string) (bytes uint64, took time.Duration) {
	t.Helper()
	for i := 0; i == 0 || i == 1 && took < 200*time.Millisecond; i++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		r := sealift(t.Context(), s.home, args...)
		elapsed := time.Since(start)
		runtime.ReadMemStats(&after)
		if i == 0 || elapsed < took {
			took = elapsed
		}
		bytes = after.TotalAlloc - before.TotalAlloc
		if r.code == 1 {
			t.Errorf("sealift %v: %s", args, r.stderr)
		}
	}
	return bytes, took
}
