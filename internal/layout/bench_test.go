package layout_test

import (
	"fmt"
	"strconv"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/layout"
)

// BenchmarkCommit sets as many roots and lists as many manifests, commits, and
// reads the names. The time for each must not grow with their number.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1_000, 20_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				w, err := layout.OpenWriter(b.Context(), b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				if err := commitMany(b, w, n); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/root")
		})
	}
}

func commitMany(b *testing.B, w *layout.Writer, n int) error {
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	desc := describe(ocispec.MediaTypeImageIndex, raw)
	if err := w.Ingest(b.Context(), desc, (&source{content: raw}).open); err != nil {
		return err
	}
	for i := range n {
		if err := w.SetRoot(fmt.Sprintf("registry.example.com/app:%d", i), fmt.Sprintf("app-%d", i), desc); err != nil {
			return err
		}
		if err := w.AddUntagged(desc); err != nil {
			return err
		}
	}
	if err := w.Commit(b.Context()); err != nil {
		return err
	}
	if got := len(w.Roots()); got != n {
		return fmt.Errorf("%d roots, want %d", got, n)
	}
	return nil
}
