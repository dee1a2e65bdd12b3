package mirror_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// releases are three of a library: 1 and 2 share a layer and the arm image, other is on
// its own. Each has a signature as a referrer and one by tag.
type releases struct {
	src  *store
	root map[string]ocispec.Descriptor // by tag
	amd  map[string]ocispec.Descriptor
	arm  ocispec.Descriptor
	own  map[string]ocispec.Descriptor // layer of the amd image
}

const (
	library1     = "example.com/shop:1"
	library2     = "example.com/shop:2"
	libraryOther = "example.com/shop:other"
)

func newReleases(t *testing.T) *releases {
	t.Helper()
	src := newStore(t)
	r := &releases{src: src, root: map[string]ocispec.Descriptor{}, amd: map[string]ocispec.Descriptor{}, own: map[string]ocispec.Descriptor{}}
	r.arm = on(t, "linux/arm64", src.image("arm", nil, src.layer("arm")))
	for _, tag := range []string{"1", "2", "other"} {
		r.own[tag] = src.layer("own of " + tag + strings.Repeat(".", 3000))
		layers, arm := []ocispec.Descriptor{src.layer("shared"), r.own[tag]}, r.arm
		if tag == "other" {
			layers, arm = layers[1:], on(t, "linux/arm64", src.image("other arm", nil, src.layer("other arm")))
		}
		r.amd[tag] = on(t, "linux/amd64", src.image("amd "+tag, nil, layers...))
		root := src.index(nil, r.amd[tag], arm)
		src.image("signature of "+tag, &root, src.layer("signature of "+tag))
		src.tag(src.image("tagged signature of "+tag, nil, src.layer("tagged signature of "+tag)), scheme(root, ".sig"))
		src.tag(root, tag)
		r.root[tag] = root
	}
	return r
}

// copy copies releases to new media.
func (r *releases) copy(t *testing.T, opts mirror.PlanOptions, items ...mirror.Item) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "library")
	for _, it := range items {
		copyItem(t, dir, it, opts)
	}
	return dir
}

func (r *releases) all(platform string) (items []mirror.Item) {
	for _, tag := range []string{"1", "2", "other"} {
		it := item(r.src, tag)
		it.Name = "example.com/shop:" + tag
		if platform != "" {
			it.Platforms = []ocispec.Platform{{OS: "linux", Architecture: strings.TrimPrefix(platform, "linux/")}}
		}
		items = append(items, it)
	}
	return items
}

// files lists the files below a directory, with their content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		all[rel] = string(readFile(t, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// contentFiles keeps what is content.
func contentFiles(all map[string]string) map[string]string {
	list := map[string]string{}
	for name, content := range all {
		if strings.HasPrefix(name, "blobs") || strings.Contains(name, "parts") || strings.Contains(name, "partial") {
			list[name] = content
		}
	}
	return list
}

// names lists the roots of media but for signatures, and what its label tells of.
func names(t *testing.T, dir string) (roots, told []string) {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Roots() {
		if !strings.Contains(r.Name, ":sha256-") {
			roots = append(roots, r.Name)
		}
	}
	label, err := l.Label()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range label.Roots {
		told = append(told, r.Name)
	}
	return roots, told
}

// checkRoots verifies what media has, as its label says it is.
func checkRoots(t *testing.T, dir string) {
	t.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	label, err := l.Label()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Roots() {
		repo, _ := l.Lookup(r.Name[:strings.LastIndexByte(r.Name, ':')])
		said, _ := label.Root(r.Name, r.Descriptor.Digest)
		opts := mirror.VerifyOptions{Absent: func(d ocispec.Descriptor) string {
			if len(said.Base) > 0 && label.HasLeft(d.Digest) {
				return "left"
			}
			return ""
		}}
		for _, p := range said.Platforms {
			opts.Platforms = append(opts.Platforms, *platformOf(t, p))
		}
		if _, err := mirror.Verify(t.Context(), repo, r.Descriptor, opts); err != nil {
			t.Errorf("Verify(%s) = %v", r.Name, err)
		}
	}
}

// To take a release away is as if it had never been there.
func TestPrune(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		platform string
		remove   []string
		roots    []string
		entries  int
		blobs    int
		shared   []string
	}{
		{"nothing", "", nil, []string{library1, library2, libraryOther}, 0, 0, nil},
		// The index, the image with config and layer, and two signatures of 3 pieces.
		{"one", "", []string{library1}, []string{library2, libraryOther}, 3, 10, []string{library2}},
		{"one that shares nothing", "", []string{libraryOther}, []string{library1, library2}, 3, 13, nil},
		{"two, one of them twice", "", []string{library2, library1, library2}, []string{libraryOther}, 6, 24, nil},
		{"all", "", []string{library2, library1, libraryOther}, nil, 9, 37, nil},
		{"one of a platform", "linux/amd64", []string{library1}, []string{library2, libraryOther}, 3, 10, []string{library2}},
		{"nothing of a platform", "linux/arm64", nil, []string{library1, library2, libraryOther}, 0, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newReleases(t)
			items := r.all(tt.platform)
			dir := r.copy(t, mirror.PlanOptions{}, items...)
			before := files(t, dir)
			dry, err := mirror.Prune(t.Context(), dir, tt.remove, mirror.PruneOptions{DryRun: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, files(t, dir)); diff != "" {
				t.Errorf("a dry run changes (-before +after):\n%s", diff)
			}
			w := &watcher{}
			got, err := mirror.Prune(t.Context(), dir, tt.remove, mirror.PruneOptions{Progress: w})
			if err != nil {
				t.Fatal(err)
			}
			w.orderly(t)
			if diff := cmp.Diff(dry, got); diff != "" {
				t.Errorf("Prune (-dry +wet):\n%s", diff)
			}
			want := mirror.Pruned{Names: slices.Compact(slices.Sorted(slices.Values(tt.remove))), Entries: tt.entries, Freed: mirror.Amount{Blobs: tt.blobs, Bytes: got.Freed.Bytes}, Shared: tt.shared}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Prune (-want +got):\n%s", diff)
			}
			roots, told := names(t, dir)
			if diff := cmp.Diff(tt.roots, roots); diff != "" {
				t.Errorf("roots (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.roots, told); diff != "" {
				t.Errorf("roots of the label (-want +got):\n%s", diff)
			}
			checkRoots(t, dir)
			// The same as media that never had it.
			items = slices.DeleteFunc(items, func(it mirror.Item) bool { return slices.Contains(tt.remove, it.Name) })
			never := map[string]string{}
			if len(items) > 0 {
				never = contentFiles(files(t, r.copy(t, mirror.PlanOptions{}, items...)))
			}
			if diff := cmp.Diff(never, contentFiles(files(t, dir)), cmp.Transformer("length", func(s string) int { return len(s) })); diff != "" {
				t.Errorf("content (-never there +pruned):\n%s", diff)
			}
			var bytes int64
			for _, content := range contentFiles(before) {
				bytes += int64(len(content))
			}
			for _, content := range contentFiles(files(t, dir)) {
				bytes -= int64(len(content))
			}
			if got.Freed.Bytes != bytes || w.total != bytes {
				t.Errorf("%d bytes freed, %d told, want %d", got.Freed.Bytes, w.total, bytes)
			}
		})
	}
}

// A release that is known under two names stays whole, whichever goes.
func TestPruneOneOfTwoNames(t *testing.T) {
	t.Parallel()
	const copied = "example.com/copy:1"
	for _, name := range []string{library1, copied} {
		r := newReleases(t)
		again := item(r.src, "1")
		again.Name = copied
		dir := r.copy(t, mirror.PlanOptions{}, append(r.all("")[:1], again)...)
		before := contentFiles(files(t, dir))
		got, err := mirror.Prune(t.Context(), dir, []string{name}, mirror.PruneOptions{})
		if err != nil || got.Freed.Blobs != 0 || got.Entries != 0 || len(got.Shared) != 1 {
			t.Errorf("Prune(%s) = %+v, %v, want nothing freed, shared by the other name", name, got, err)
		}
		if diff := cmp.Diff(before, contentFiles(files(t, dir))); diff != "" {
			t.Errorf("content (-before +after):\n%s", diff)
		}
		checkRoots(t, dir)
	}
}

// What a delta left stays explained while the delta is there, and no longer.
func TestPruneDelta(t *testing.T) {
	t.Parallel()
	r := newReleases(t)
	base := mirror.PlanOptions{Sites: []mirror.Site{{Items: r.all("")[:1]}}}
	dir := r.copy(t, base, r.all("")[1:]...)
	label := func() layout.Label {
		l, err := layout.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		label, err := l.Label()
		if err != nil {
			t.Fatal(err)
		}
		return label
	}
	if n := len(label().Left); n == 0 {
		t.Fatal("the delta leaves nothing")
	}
	before := label().Left
	if _, err := mirror.Prune(t.Context(), dir, []string{libraryOther}, mirror.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, label().Left); diff != "" {
		t.Errorf("left (-before +after):\n%s", diff)
	}
	checkRoots(t, dir)
	if _, err := mirror.Prune(t.Context(), dir, []string{library2}, mirror.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := label(); len(got.Left)+len(got.Roots) != 0 {
		t.Errorf("label = %+v, want nothing told of what is gone", got)
	}
}

// Two deltas each leave something; what only one of them left is forgotten with it.
func TestPruneOneOfTwoDeltas(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	a, b := src.layer("a"), src.layer("b")
	src.tag(src.image("base", nil, a, b), "base")
	src.tag(src.image("1", nil, a, src.layer("1")), "1")
	src.tag(src.image("2", nil, b, src.layer("2")), "2")
	dir := t.TempDir()
	for _, tag := range []string{"1", "2"} {
		it := item(src, tag)
		it.Name = "example.com/shop:" + tag
		copyItem(t, dir, it, mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(src, "base")}}}})
	}
	if _, err := mirror.Prune(t.Context(), dir, []string{library1}, mirror.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	l, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	label, err := l.Label()
	if diff := cmp.Diff([]digest.Digest{b.Digest}, label.Left); err != nil || diff != "" {
		t.Errorf("Left, %v (-want +got):\n%s", err, diff)
	}
}

// An interrupted copy leaves blobs, and the beginning of one.
func TestPruneInterruptedCopy(t *testing.T) {
	t.Parallel()
	r := newReleases(t)
	dir := r.copy(t, mirror.PlanOptions{}, r.all("")[:1]...)
	before := contentFiles(files(t, dir))
	media := openMedia(t, dir)
	cut := &faulty{Source: r.src, digest: r.own["2"].Digest, times: -1, after: 1000, err: errors.New("cut")}
	if err := plan(t, media, item(cut, "2")).Execute(t.Context(), mirror.ExecuteOptions{Attempts: 1, Concurrency: 1}); err == nil {
		t.Fatal("the copy was not interrupted")
	}
	closeMedia(t, media)
	if _, err := os.Stat(filepath.Join(dir, "sealift", "partial", "sha256", r.own["2"].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	got, err := mirror.Prune(t.Context(), dir, nil, mirror.PruneOptions{})
	if err != nil || got.Freed.Bytes < 1000 || got.Freed.Blobs < 1 {
		t.Errorf("Prune = %+v, %v, want what the copy has left", got, err)
	}
	if diff := cmp.Diff(before, contentFiles(files(t, dir))); diff != "" {
		t.Errorf("content (-before +after):\n%s", diff)
	}
}

// A volume of a set has segments of blobs, and lacks what is on others.
func TestPruneVolume(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	lots(src, 11*mega)
	set, err := plan(t, mirror.Empty(), item(src, "1")).Split(mirror.VolumeOptions{Bytes: 6 * mega})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	media, err := mirror.OpenMedia(t.Context(), dir, mirror.MediaOptions{Set: set, Volume: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan(t, mirror.Empty(), item(src, "1")).Volume(t.Context(), media, set, 1, mirror.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Execute(t.Context(), mirror.ExecuteOptions{}), media.Close()); err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	if parts, _ := filepath.Glob(filepath.Join(dir, "sealift", "parts", "sha256", "*", "*")); len(parts) == 0 {
		t.Fatal("the volume has no segments")
	}
	if got, err := mirror.Prune(t.Context(), dir, nil, mirror.PruneOptions{}); err != nil || got.Freed.Blobs != 0 {
		t.Errorf("Prune = %+v, %v, want nothing freed", got, err)
	}
	if diff := cmp.Diff(before, files(t, dir)); diff != "" {
		t.Errorf("files (-before +after):\n%s", diff)
	}
	roots, _ := names(t, dir)
	if _, err := mirror.Prune(t.Context(), dir, roots, mirror.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := contentFiles(files(t, dir)); len(left) > 0 {
		t.Errorf("left: %d files", len(left))
	}
	if again, volume, err := mirror.ReadSet(dir); err != nil || again.ID != set.ID || volume != 1 {
		t.Errorf("ReadSet = %v, %d, %v, want the volume it was", again, volume, err)
	}
}

func TestPruneRefuses(t *testing.T) {
	t.Parallel()
	gone := func(t *testing.T, dir string, desc ocispec.Descriptor) {
		if err := os.Remove(blobPath(dir, desc.Digest)); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(*testing.T, *releases, string) {}
	tests := []struct {
		name     string
		platform string
		plant    func(t *testing.T, r *releases, dir string)
		remove   string
		want     error // nil when it goes well
	}{
		{"another name, on media that opening tidies", "", func(t *testing.T, _ *releases, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "sealift", "left.new"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "example.com/shop:3", errdef.ErrNotFound},
		{"another name", "", nothing, "example.com/shop:3", errdef.ErrNotFound},
		{"alias", "", nothing, "shop-1", errdef.ErrNotFound},
		{"no full name", "", nothing, "1", errdef.ErrNotFound},
		{"no name", "", nothing, "", errdef.ErrNotFound},
		{"damaged root", "", func(t *testing.T, r *releases, dir string) { flip(t, blobPath(dir, r.root["2"].Digest)) }, library1, mirror.ErrDamaged},
		{"damaged root that goes", "", func(t *testing.T, r *releases, dir string) { flip(t, blobPath(dir, r.root["1"].Digest)) }, library1, nil},
		{"damaged layer", "", func(t *testing.T, r *releases, dir string) { flip(t, blobPath(dir, r.own["2"].Digest)) }, library1, nil},
		{"lost root", "", func(t *testing.T, r *releases, dir string) { gone(t, dir, r.root["2"]) }, library1, mirror.ErrDamaged},
		{"lost image", "", func(t *testing.T, r *releases, dir string) { gone(t, dir, r.amd["2"]) }, library1, mirror.ErrDamaged},
		{"lost image that goes", "", func(t *testing.T, r *releases, dir string) { gone(t, dir, r.amd["1"]) }, library1, nil},
		{"lost image of the platform", "linux/amd64", func(t *testing.T, r *releases, dir string) { gone(t, dir, r.amd["2"]) }, library1, mirror.ErrDamaged},
		{"lost image of the platform that goes", "linux/amd64", func(t *testing.T, r *releases, dir string) { gone(t, dir, r.amd["1"]) }, library1, nil},
		{"no label, all there", "", func(t *testing.T, _ *releases, dir string) {
			if err := os.Remove(filepath.Join(dir, "sealift", "media.json")); err != nil {
				t.Fatal(err)
			}
		}, library1, nil},
		{"no label", "linux/amd64", func(t *testing.T, _ *releases, dir string) {
			if err := os.Remove(filepath.Join(dir, "sealift", "media.json")); err != nil {
				t.Fatal(err)
			}
		}, library1, mirror.ErrDamaged},
		{"torn label", "linux/amd64", func(t *testing.T, _ *releases, dir string) {
			if err := os.Truncate(filepath.Join(dir, "sealift", "media.json"), 30); err != nil {
				t.Fatal(err)
			}
		}, library1, mirror.ErrDamaged},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newReleases(t)
			dir := r.copy(t, mirror.PlanOptions{}, r.all(tt.platform)...)
			tt.plant(t, r, dir)
			before := files(t, dir)
			for _, dry := range []bool{true, false} {
				_, err := mirror.Prune(t.Context(), dir, []string{tt.remove}, mirror.PruneOptions{DryRun: dry})
				if !errors.Is(err, tt.want) {
					t.Errorf("Prune, dry %t = %v, want %v", dry, err, tt.want)
				}
				if diff := cmp.Diff(before, files(t, dir)); diff != "" && (dry || tt.want != nil) {
					t.Errorf("dry %t, files (-before +after):\n%s", dry, diff)
				}
			}
		})
	}
}

// A label that is not there or cannot be read is not written.
func TestPruneLeavesLabel(t *testing.T) {
	t.Parallel()
	for name, plant := range map[string]func(name string) error{
		"none": os.Remove,
		"torn": func(name string) error { return os.Truncate(name, 30) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReleases(t)
			dir := r.copy(t, mirror.PlanOptions{}, r.all("")...)
			if err := plant(filepath.Join(dir, "sealift", "media.json")); err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)[filepath.Join("sealift", "media.json")]
			if _, err := mirror.Prune(t.Context(), dir, []string{library1}, mirror.PruneOptions{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, files(t, dir)[filepath.Join("sealift", "media.json")]); diff != "" {
				t.Errorf("label (-before +after):\n%s", diff)
			}
		})
	}
}

func TestPruneNoMedia(t *testing.T) {
	t.Parallel()
	r := newReleases(t)
	dir := r.copy(t, mirror.PlanOptions{}, r.all("")...)
	for _, dry := range []bool{true, false} {
		opts := mirror.PruneOptions{DryRun: dry}
		none := filepath.Join(dir, "none")
		if _, err := mirror.Prune(t.Context(), none, nil, opts); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Prune of no directory = %v, want %v", err, fs.ErrNotExist)
		}
		if _, err := os.Stat(none); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Prune has made %s", none)
		}
		if _, err := mirror.Prune(t.Context(), t.TempDir(), nil, opts); !errors.Is(err, layout.ErrNotLayout) {
			t.Errorf("Prune of an empty directory = %v, want %v", err, layout.ErrNotLayout)
		}
	}
	openMedia(t, dir) // holds the lock
	if _, err := mirror.Prune(t.Context(), dir, []string{library1}, mirror.PruneOptions{}); !errors.Is(err, layout.ErrLocked) {
		t.Errorf("Prune = %v, want %v", err, layout.ErrLocked)
	}
	if _, err := mirror.Prune(t.Context(), dir, []string{library1}, mirror.PruneOptions{DryRun: true}); err != nil {
		t.Errorf("a dry run beside a writer: %v", err)
	}
}

// Wherever it ends too early, what is named is whole and explained, and the next run
// removes the rest.
func TestPruneEndsEarly(t *testing.T) {
	t.Parallel()
	r := newReleases(t)
	dir := r.copy(t, mirror.PlanOptions{}, r.all("linux/amd64")...)
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.CopyFS(whole, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Prune(t.Context(), whole, []string{library1}, mirror.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	want := files(t, whole)
	cut := map[bool]int{}
	for n := 1; ; n += 3 {
		media := filepath.Join(t.TempDir(), "media")
		if err := os.CopyFS(media, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		_, ended := mirror.Prune(endingAt(t.Context(), n), media, []string{library1}, mirror.PruneOptions{})
		if ended != nil && !errors.Is(ended, context.Canceled) || n > 2000 {
			t.Fatalf("Prune = %v, want %v", ended, context.Canceled)
		}
		checkRoots(t, media)
		roots, told := names(t, media)
		for _, name := range roots {
			if !slices.Contains(told, name) {
				t.Errorf("after %d the index names %s, and the label does not tell of it", n, name)
			}
		}
		rest := slices.DeleteFunc(roots, func(name string) bool { return name != library1 })
		cut[len(rest) > 0]++
		if _, err := mirror.Prune(t.Context(), media, rest, mirror.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, files(t, media)); diff != "" {
			t.Fatalf("after %d (-undisturbed +again):\n%s", n, diff)
		}
		if ended == nil {
			break
		}
	}
	if cut[true] < 3 || cut[false] < 3 {
		t.Errorf("ended before the commit and behind it: %v, want several of each", cut)
	}
}
