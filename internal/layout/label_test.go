package layout_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

var (
	labelA = digest.FromString("a")
	labelB = digest.FromString("b")
	labelC = digest.FromString("c")
)

func fullLabel() layout.Label {
	blobs := []digest.Digest{labelA, labelB}
	slices.Sort(blobs)
	return layout.Label{
		Tool: "sealift 1.0.0",
		Roots: []layout.LabelRoot{
			{Name: "registry.example.com/a/one:1.0.0", Digest: labelA, Platforms: []string{"linux/amd64", "linux/arm64"}},
			{Name: "registry.example.com/a/one:1.1.0", Digest: labelB, Base: []layout.LabelBase{{Name: "registry.example.com/a/one:1.0.0", Digest: labelA}}},
		},
		Left: []digest.Digest{labelC},
		Set: &layout.LabelSet{
			ID: "4f1c", Volume: 2, Capacity: 4_700_000_000, FileBytes: 1 << 30, Volumes: [][]digest.Digest{blobs, {}, {}},
			Segments: map[digest.Digest]layout.LabelSegments{labelC: {Bytes: 1 << 30, Volumes: []int{3, 2, 3}, Digests: []digest.Digest{"", labelA, ""}}},
		},
	}
}

func TestLabelRoundTrip(t *testing.T) {
	t.Parallel()
	want := fullLabel()
	raw, err := want.Format()
	if err != nil {
		t.Fatal(err)
	}
	got, err := layout.ParseLabel(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(layout.LabelSet{})); diff != "" {
		t.Errorf("ParseLabel(Format) (-want +got):\n%s", diff)
	}
	slices.Reverse(want.Roots)
	again, err := want.Format()
	if err != nil || !bytes.Equal(raw, again) {
		t.Errorf("another order of roots makes %s, %v, want the same bytes", again, err)
	}
}

// A label that another hand wrote is in no order.
func TestLabelHasLeft(t *testing.T) {
	t.Parallel()
	left := []digest.Digest{labelA, labelB, labelC}
	slices.Sort(left)
	slices.Reverse(left)
	l, err := layout.ParseLabel([]byte(`{"apiVersion":"sealift/v1","kind":"Media","left":["` + left[0].String() + `","` + left[1].String() + `","` + left[2].String() + `"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range left {
		if !l.HasLeft(d) {
			t.Errorf("HasLeft(%s) = false, want true", d)
		}
	}
	if d := digest.FromString("elsewhere"); l.HasLeft(d) {
		t.Errorf("HasLeft(%s) = true, want false", d)
	}
}

func TestLabelSetOn(t *testing.T) {
	t.Parallel()
	raw, err := fullLabel().Format()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := layout.ParseLabel(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []*layout.LabelSet{fullLabel().Set, parsed.Set} {
		testOn(t, set)
	}
	var none *layout.LabelSet
	if got := none.On(labelA); got != nil {
		t.Errorf("On without a set = %v, want none", got)
	}
}

func testOn(t *testing.T, set *layout.LabelSet) {
	t.Helper()
	for d, want := range map[digest.Digest][]int{labelA: {1}, labelC: {2, 3}, digest.FromString("elsewhere"): nil} {
		if got := set.On(d); !slices.Equal(got, want) {
			t.Errorf("On(%s) = %v, want %v", d, got, want)
		}
	}
}

func TestLabelRefuses(t *testing.T) {
	t.Parallel()
	const head = `{"apiVersion":"sealift/v1","kind":"Media",`
	root := `{"name":"a.example/b:1","digest":"` + labelA.String() + `"`
	base := `{"digest":"` + labelB.String() + `"`
	tests := []struct {
		name, raw string
		want      error // nil for any
	}{
		{"no JSON", `{`, nil},
		{"another version", `{"apiVersion":"sealift/v2","kind":"Media"}`, errdef.ErrUnsupportedVersion},
		{"another kind", `{"apiVersion":"sealift/v1","kind":"Plan"}`, errdef.ErrUnsupportedVersion},
		{"name without a host", head + `"roots":[{"name":"one:1","digest":"` + labelA.String() + `"}]}`, errdef.ErrInvalidReference},
		{"name that escapes", head + `"roots":[{"name":"../../etc/passwd:1","digest":"` + labelA.String() + `"}]}`, errdef.ErrInvalidReference},
		{"digest that is a path", head + `"roots":[{"name":"a.example/b:1","digest":"sha256:../../x"}]}`, errdef.ErrInvalidDigest},
		{"base that is no digest", head + `"roots":[{"name":"a.example/b:1","digest":"` + labelA.String() + `","base":[{"digest":"x"}]}]}`, errdef.ErrInvalidDigest},
		{"too many roots", head + `"roots":[` + strings.Repeat(root+"},", 100_000) + root + `}]}`, errdef.ErrSizeExceedsLimit},
		{"too many platforms", head + `"roots":[` + root + `,"platforms":[` + strings.Repeat(`"linux/amd64",`, 100) + `"linux/arm64"]}]}`, errdef.ErrSizeExceedsLimit},
		{"too much base", head + `"roots":[` + root + `,"base":[` + strings.Repeat(base+"},", 1_000) + base + `}]}]}`, errdef.ErrSizeExceedsLimit},
		{"platform of two lines", head + `"roots":[` + root + `,"platforms":["linux/amd64\nall is good"]}]}`, nil},
		{"platform that is none", head + `"roots":[` + root + `,"platforms":["linux"]}]}`, nil},
		{"base named in two lines", head + `"roots":[` + root + `,"base":[` + base + `,"name":"a\nall is good"}]}]}`, errdef.ErrInvalidReference},
		{"base named to a terminal", head + `"roots":[` + root + `,"base":[` + base + `,"name":"\u001b[2J"}]}]}`, errdef.ErrInvalidReference},
		{"base of a long name", head + `"roots":[` + root + `,"base":[` + base + `,"name":"` + strings.Repeat("a", 513) + `"}]}]}`, errdef.ErrInvalidReference},
		{"left that is no digest", head + `"left":["sha256:zz"]}`, errdef.ErrInvalidDigest},
		{"volume 0", head + `"set":{"id":"x","volume":0,"volumes":[[]]}}`, nil},
		{"volume beyond the last", head + `"set":{"id":"x","volume":2,"volumes":[[]]}}`, nil},
		{"set without an id", head + `"set":{"volume":1,"volumes":[[]]}}`, nil},
		{"too many volumes", head + `"set":{"id":"x","volume":1,"volumes":[` + strings.Repeat("[],", 10_000) + `[]]}}`, errdef.ErrSizeExceedsLimit},
		{"blob that is no digest", head + `"set":{"id":"x","volume":1,"volumes":[["x"]]}}`, errdef.ErrInvalidDigest},
		{"segments on a volume beyond the last", head + `"set":{"id":"x","volume":1,"volumes":[[]],"segments":{"` + labelA.String() + `":{"bytes":1,"volumes":[2]}}}}`, nil},
		{"segment digests for others", head + `"set":{"id":"x","volume":1,"volumes":[[]],"segments":{"` + labelA.String() + `":{"bytes":1,"volumes":[1],"digests":["",""]}}}}`, nil},
		{"segment digest that is a path", head + `"set":{"id":"x","volume":1,"volumes":[[]],"segments":{"` + labelA.String() + `":{"bytes":1,"volumes":[1],"digests":["sha256:../../x"]}}}}`, errdef.ErrInvalidDigest},
		{"too many segments", head + `"set":{"id":"x","volume":1,"volumes":[[]],"segments":{"` + labelA.String() + `":{"bytes":1,"volumes":[` + strings.Repeat("1,", 10_000) + `1]}}}}`, nil},
		{"segments of no size", head + `"set":{"id":"x","volume":1,"volumes":[[]],"segments":{"` + labelA.String() + `":{"bytes":0,"volumes":[1]}}}}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if l, err := layout.ParseLabel([]byte(tt.raw)); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("ParseLabel = %+v, %v, want error %v", l, err, tt.want)
			}
		})
	}
}

func TestLabelOnDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	if l, err := w.Label(); err != nil || len(l.Roots) > 0 || l.Set != nil {
		t.Errorf("Label of new media = %+v, %v, want the zero one", l, err)
	}
	if err := w.SetLabel(t.Context(), fullLabel()); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Label(); err != nil || len(got.Roots) != 2 {
		t.Errorf("Label of the writer = %+v, %v, want what it wrote", got, err)
	}
	l := open(t, dir)
	got, err := l.Label()
	if diff := cmp.Diff(fullLabel(), got, cmpopts.IgnoreUnexported(layout.LabelSet{})); err != nil || diff != "" {
		t.Errorf("Label, %v (-want +got):\n%s", err, diff)
	}
	remove(t, dir, "sealift/media.json")
	if again, err := l.Label(); err != nil || len(again.Roots) != 2 {
		t.Errorf("Label asked for once more = %+v, %v, want what was read", again, err)
	}
	if labels, err := l.Labels(); err != nil || len(labels) != 1 || len(labels[0].Roots) != 2 {
		t.Errorf("Labels = %+v, %v, want what was read", labels, err)
	}
}

func FuzzLabel(f *testing.F) {
	raw, err := fullLabel().Format()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"apiVersion":"sealift/v1","kind":"Media","roots":null}`))
	f.Add([]byte(`{"apiVersion":"sealift/v1","kind":"Media","set":{"id":"x","volume":1,"volumes":[null]}}`))
	f.Add(bytes.Replace(raw, []byte("{"), []byte(`{"roots":[],`), 1))
	f.Add(bytes.Repeat([]byte("["), 20_000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := layout.ParseLabel(raw)
		if err != nil {
			return
		}
		once, err := l.Format()
		if err != nil {
			t.Fatalf("Format of what was parsed: %v", err)
		}
		again, err := layout.ParseLabel(once)
		if err != nil {
			t.Fatalf("ParseLabel of what was formatted: %v", err)
		}
		if twice, err := again.Format(); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("Format is not stable: %s, then %s, %v", once, twice, err)
		}
		l.Set.On(labelA)
	})
}
