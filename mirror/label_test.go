package mirror_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// What media says it carries adds up over copies of the same root, and is
// forgotten with a root that took its name.
func TestLabelOfCopies(t *testing.T) {
	t.Parallel()
	type step struct {
		ref, platform string // of the copy; "" for all platforms
		delta         bool   // to release 1
	}
	tests := []struct {
		name      string
		steps     []step
		platforms []string
		base      bool
	}{
		{"whole", []step{{"2", "", false}}, nil, false},
		{"one platform", []step{{"2", "linux/amd64", false}}, []string{"linux/amd64"}, false},
		{"one after the other", []step{{"2", "linux/arm64", false}, {"2", "linux/amd64", false}}, []string{"linux/amd64", "linux/arm64"}, false},
		{"one, then all", []step{{"2", "linux/arm64", false}, {"2", "", false}}, nil, false},
		{"all, then one", []step{{"2", "", false}, {"2", "linux/arm64", false}}, nil, false},
		{"a delta", []step{{"2", "", true}}, nil, true},
		{"whole, then a delta that leaves nothing", []step{{"2", "", false}, {"2", "", true}}, nil, false},
		{"a delta, then whole", []step{{"2", "", true}, {"2", "", false}}, nil, false},
		{"a delta, then one platform of it whole", []step{{"2", "", true}, {"2", "linux/amd64", false}}, nil, true},
		{"one platform as a delta, then whole", []step{{"2", "linux/amd64", true}, {"2", "", false}}, nil, false},
		{"another release under the name", []step{{"2", "linux/amd64", true}, {"1", "", false}}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, dir := newStore(t), t.TempDir()
			shared := src.layer("shared")
			release := func(n string) ocispec.Descriptor {
				return src.index(nil, on(t, "linux/amd64", src.image("amd "+n, nil, shared, src.layer("amd "+n))), on(t, "linux/arm64", src.image("arm "+n, nil, shared, src.layer("arm "+n))))
			}
			src.tag(release("1"), "1")
			src.tag(release("2"), "2")
			for _, s := range tt.steps {
				it := mirror.Item{Source: src, Reference: s.ref, Name: "example.com/shop:latest"}
				if s.platform != "" {
					it.Platforms = []ocispec.Platform{*platformOf(t, s.platform)}
				}
				var opts mirror.PlanOptions
				if s.delta {
					opts.Sites = []mirror.Site{{Items: []mirror.Item{item(src, "1")}}}
				}
				copyItem(t, dir, it, opts)
			}
			l, err := layout.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			label, err := l.Label()
			if err != nil || len(label.Roots) != 1 {
				t.Fatalf("Label = %+v, %v, want one root", label, err)
			}
			if diff := cmp.Diff(tt.platforms, label.Roots[0].Platforms); diff != "" {
				t.Errorf("platforms (-want +got):\n%s", diff)
			}
			if base := len(label.Roots[0].Base) > 0; base != tt.base {
				t.Errorf("base = %v, want one: %t", label.Roots[0].Base, tt.base)
			}
		})
	}
}

// A blob that a delta left and that arrived with something else is not said to be left.
func TestLabelForgetsWhatArrived(t *testing.T) {
	t.Parallel()
	src, dir := newStore(t), t.TempDir()
	a, b := src.layer("a"), src.layer("b")
	src.tag(src.image("1", nil, a, b), "1")
	src.tag(src.image("2", nil, a, b, src.layer("2")), "2")
	src.tag(src.image("other", nil, a), "other")
	copyItem(t, dir, item(src, "2"), mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(src, "1")}}}})
	for _, arrived := range []bool{false, true} {
		if arrived {
			copyItem(t, dir, item(src, "other"), mirror.PlanOptions{})
		}
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		label, err := l.Label()
		if err != nil || label.HasLeft(a.Digest) == arrived || !label.HasLeft(b.Digest) {
			t.Errorf("Left = %v, %v, want b, and a: %t", label.Left, err, !arrived)
		}
	}
}

func copyItem(t *testing.T, dir string, it mirror.Item, opts mirror.PlanOptions) {
	t.Helper()
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	p, err := mirror.NewPlan(t.Context(), media, []mirror.Item{it}, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// uncommitted is media that a copy does not commit.
type uncommitted struct{ *mirror.Media }

func (uncommitted) Commit(context.Context) error { return nil }

// ending is a context that ends when it is asked for the nth time whether it has.
type ending struct {
	context.Context
	left   atomic.Int64
	cancel context.CancelFunc
}

func endingAt(ctx context.Context, n int) *ending {
	e := &ending{}
	e.Context, e.cancel = context.WithCancel(ctx)
	e.left.Store(int64(n))
	return e
}

func (e *ending) Err() error {
	if e.left.Add(-1) < 0 {
		e.cancel()
	}
	return e.Context.Err()
}

// Wherever a commit ends too early, what the index names is explained: its label
// stands before the index does, and speaks of what had the name before until the
// index does not.
func TestCommitEndsEarly(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	a, b := src.layer("a"), src.layer("b")
	src.tag(src.image("1", nil, a, b), "1")
	roots := []ocispec.Descriptor{src.image("2", nil, a, src.layer("2")), src.image("3", nil, b, src.layer("3"))}
	src.tag(roots[0], "2")
	src.tag(roots[1], "3")
	opts := mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(src, "1")}}}}
	latest := func(ref string) mirror.Item {
		return mirror.Item{Source: src, Reference: ref, Name: "example.com/shop:latest"}
	}
	named := map[digest.Digest]int{} // how many of the commits have left what under the name
	for n := 0; ; n++ {
		dir := t.TempDir()
		copyItem(t, dir, latest("2"), opts)
		media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Tool: "another"})
		if err != nil {
			t.Fatal(err)
		}
		p, err := mirror.NewPlan(t.Context(), uncommitted{media}, []mirror.Item{latest("3")}, opts)
		if err == nil {
			err = p.Execute(t.Context(), mirror.ExecuteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		ended := media.Commit(endingAt(t.Context(), n))
		if err := media.Close(); err != nil {
			t.Fatal(err)
		}
		named[explained(t, dir)]++
		if ended == nil {
			break
		}
		if !errors.Is(ended, context.Canceled) || n == 100 {
			t.Fatalf("Commit = %v, want %v", ended, context.Canceled)
		}
	}
	for i, root := range roots {
		if named[root.Digest] < 2 {
			t.Errorf("%d commits end with root %d named, want several: the test cuts in one place only", named[root.Digest], i)
		}
	}
}

// explained fails the test unless the label of the media in dir says of its one root
// why layers of it are not there; it returns the root.
func explained(t *testing.T, dir string) digest.Digest {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	label, err := l.Label()
	if err != nil || len(l.Roots()) != 1 {
		t.Fatalf("Label = %v, Roots = %+v, want one", err, l.Roots())
	}
	root := l.Roots()[0]
	raw, err := content.FetchAll(t.Context(), l, root.Descriptor)
	if err != nil {
		t.Fatal(err)
	}
	absent := 0
	for _, d := range blobsOf(t, raw) {
		if has, err := l.Exists(t.Context(), d); err != nil {
			t.Error(err)
		} else if has {
			continue
		}
		absent++
		said, ok := label.Root(root.Name, root.Descriptor.Digest)
		if !ok || len(said.Base) != 1 || !label.HasLeft(d.Digest) {
			t.Errorf("the index names %s, and the label does not say why %s is not there: %+v", root.Descriptor.Digest, d.Digest, label)
		}
	}
	if absent != 1 {
		t.Errorf("%d blobs are not there, want the one that the delta left", absent)
	}
	return root.Descriptor.Digest
}
