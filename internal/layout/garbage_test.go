package layout_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
)

const (
	v1 = "registry.example.com/shop:1"
	v2 = "registry.example.com/shop:2"
	v3 = "registry.example.com/other:1"
)

// pruned is a layout of releases that share content: 1 and 2 a layer, other an image
// with 2. Each has a referrer, a referrer of that, and signatures by tag.
type pruned struct {
	dir        string
	one, two   ocispec.Descriptor // roots
	only, both ocispec.Descriptor // images of one, and of two and other
	large      ocispec.Descriptor // layer of one, in segments
	begun      []digest.Digest    // blobs that are named and not there
	left       ocispec.Descriptor // what one names and does not carry
}

// manifestOf describes an image manifest.
func manifestOf(config ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Manifest {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers}
	m.SchemaVersion = 2
	return m
}

func newPruned(t *testing.T) *pruned {
	t.Helper()
	p := &pruned{dir: filepath.Join(t.TempDir(), "disc")}
	w := segmented(t, p.dir, 2000)
	shared := push(t, w, ocispec.MediaTypeImageLayer, []byte("shared layer"))
	p.large = push(t, w, ocispec.MediaTypeImageLayer, noise(5000))
	build := func(text string, layers ...ocispec.Descriptor) ocispec.Descriptor {
		config := push(t, w, ocispec.MediaTypeImageConfig, []byte(`{"author":"`+text+`"}`))
		own := push(t, w, ocispec.MediaTypeImageLayer, []byte("layer of "+text))
		return pushJSON(t, w, ocispec.MediaTypeImageManifest, manifestOf(config, append(layers, own)...))
	}
	p.only, p.both = build("only", shared, p.large), build("both", shared)
	p.left = describe(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"of":"another platform"}`))
	p.one = imageIndex(t, w, p.only, p.left)
	p.two = imageIndex(t, w, p.both, build("two"))
	other := imageIndex(t, w, p.both)
	for name, root := range map[string]ocispec.Descriptor{v1: p.one, v2: p.two, v3: other} {
		setRoot(t, w, name, strings.NewReplacer("registry.example.com/", "", ":", "-").Replace(name), root)
		sbom := referrer(t, w, root, sbomType, "sbom of "+name)
		sig := referrer(t, w, sbom, "application/x-signature", "signature of the sbom of "+name)
		for _, d := range []ocispec.Descriptor{sbom, sig} {
			if err := w.AddUntagged(d); err != nil {
				t.Fatal(err)
			}
		}
		repository, _, _ := layout.SplitName(name)
		for _, suffix := range artifact.SignatureSuffixes() {
			tag := artifact.SignatureTag(root.Digest, suffix)
			setRoot(t, w, repository+":"+tag, tag, image(t, w, suffix+" of "+name))
		}
	}
	commit(t, w)
	closeWriter(t, w)
	return p
}

// prune removes names and all garbage.
func prune(ctx context.Context, w *layout.Writer, names ...string) (*layout.Garbage, error) {
	g, err := w.Garbage(ctx, names...)
	if err != nil {
		return nil, err
	}
	return g, w.RemoveGarbage(ctx, g, nil)
}

func mustPrune(t *testing.T, dir string, names ...string) *layout.Garbage {
	t.Helper()
	w := writer(t, dir)
	g, err := prune(t.Context(), w, names...)
	if err != nil {
		t.Fatal(err)
	}
	closeWriter(t, w)
	return g
}

// contentOf lists the digests there are, in whatever form.
func contentOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	for _, at := range []string{"blobs/*/*", "sealift/parts/*/*", "sealift/partial/*/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(at)))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			list = append(list, strings.SplitN(at, "/*", 2)[0]+" "+filepath.Base(p))
		}
	}
	slices.Sort(list)
	return list
}

// wantContent lists what should be there, by a walk of its own: all that names lead to.
func wantContent(t *testing.T, dir string) (list []string) {
	t.Helper()
	l := open(t, dir)
	seen := map[digest.Digest]bool{}
	var walk func(d ocispec.Descriptor)
	walk = func(d ocispec.Descriptor) {
		if ok, err := l.Exists(t.Context(), d); err != nil || !ok || seen[d.Digest] {
			return
		}
		seen[d.Digest] = true
		place := "blobs "
		if d.Size > 2000 {
			place = "sealift/parts "
		}
		list = append(list, place+d.Digest.Encoded())
		if !artifact.IsManifest(d.MediaType) {
			return
		}
		m, _, err := artifact.FetchManifest(t.Context(), l, d)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range append(m.Blobs, m.Manifests...) {
			walk(c)
		}
	}
	for _, e := range l.Entries() {
		walk(e)
	}
	slices.Sort(list)
	return list
}

// checkWhole fails unless all that the index of a layout leads to is sound.
func (p *pruned) checkWhole(t *testing.T, dir string) {
	t.Helper()
	checkBlobs(t, dir)
	l := open(t, dir)
	if err := l.Damage(t.Context()); err != nil {
		t.Error(err)
	}
	for _, r := range l.Roots() {
		m, _, err := artifact.FetchManifest(t.Context(), l, r.Descriptor)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		for _, child := range m.Manifests {
			im, _, err := artifact.FetchManifest(t.Context(), l, child)
			if child.Digest == p.left.Digest && errors.Is(err, errdef.ErrNotFound) {
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
				continue
			}
			m.Blobs = append(m.Blobs, im.Blobs...)
		}
		for _, b := range m.Blobs {
			if _, err := content.FetchAll(t.Context(), l, b); err != nil && !slices.Contains(p.begun, b.Digest) {
				t.Errorf("%s: %v", r.Name, err)
			}
		}
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	const again = "registry.example.com/copy:1"
	tests := []struct {
		name    string
		prepare func(t *testing.T, w *layout.Writer, p *pruned)
		remove  []string
		roots   []string // that stay, without signature tags
		entries int      // that go
		blobs   int
		bytes   int64 // 0 is not looked at
		lacking int
		shared  []string
	}{
		{name: "nothing", roots: []string{v3, v1, v2}, lacking: 1},
		// Entries: two referrers, three signatures with an alias each. Content: root,
		// image, config, two layers; of each proof manifest and layer, and a config of
		// signatures: 5 + 2*2 + 3*3.
		{name: "a release", remove: []string{v1}, roots: []string{v3, v2}, entries: 8, blobs: 18, shared: []string{v3, v2}},
		{name: "a release that shares an image", remove: []string{v2}, roots: []string{v3, v1}, entries: 8, blobs: 17, lacking: 1, shared: []string{v3, v1}},
		{name: "two", remove: []string{v2, v1, v2}, roots: []string{v3}, entries: 16, blobs: 35, shared: []string{v3}},
		{name: "all", remove: []string{v1, v2, v3}, entries: 24, blobs: 54},
		{
			name:   "a release with two names",
			remove: []string{v1}, roots: []string{again, v3, v2}, lacking: 1, shared: []string{again, v3, v2},
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) { setRoot(t, w, again, "copy-1", p.one) },
		},
		{
			name:   "what is empty, with two names",
			remove: []string{v1 + "0"}, roots: []string{again, v3, v1, v2}, lacking: 1, shared: []string{again},
			prepare: func(t *testing.T, w *layout.Writer, _ *pruned) {
				for _, name := range []string{v1 + "0", again} {
					setRoot(t, w, name, "", imageIndex(t, w))
				}
			},
		},
		{
			// The empty config of its referrer does not count.
			name:   "a release that shares nothing",
			remove: []string{again}, roots: []string{v3, v1, v2}, lacking: 1, entries: 1, blobs: 3,
			prepare: func(t *testing.T, w *layout.Writer, _ *pruned) {
				root := imageIndex(t, w)
				setRoot(t, w, again, "", root)
				if err := w.AddUntagged(referrer(t, w, root, sbomType, "sbom")); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name:   "an image has a name of containerd that is no full one",
			remove: []string{v1}, roots: []string{v3, v2}, entries: 6, blobs: 14, shared: []string{v3, v2},
			prepare: func(t *testing.T, _ *layout.Writer, p *pruned) {
				about := referrers(t, open(t, p.dir).Repository("registry.example.com/shop"), p.one, "")[0]
				index, err := layout.ParseIndex(read(t, p.dir, "index.json"))
				if err != nil {
					t.Fatal(err)
				}
				for i, e := range index.Manifests {
					if e.Digest == about.Digest {
						index.Manifests[i].Annotations = map[string]string{"io.containerd.image.name": "sbom"}
					}
				}
				write(t, toJSON(t, index), p.dir, "index.json")
			},
		},
		{
			name:   "a release that is a part of another",
			remove: []string{v1}, roots: []string{again, v3, v2}, lacking: 1, shared: []string{again, v3, v2},
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) { setRoot(t, w, again, "", imageIndex(t, w, p.one)) },
		},
		{
			name:   "an image of a release has a name of another tool",
			remove: []string{v1}, roots: []string{v3, v2}, entries: 8, blobs: 14, shared: []string{v3, v2, "tool"},
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) { addEntry(t, p.dir, p.only, "tool") },
		},
		{
			name:   "an image of a release is listed without a name",
			remove: []string{v1}, roots: []string{v3, v2}, entries: 8, blobs: 14, shared: []string{v3, v2},
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) {
				if err := w.AddUntagged(p.only); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "content without a name", roots: []string{v3, v1, v2}, lacking: 1, blobs: 2 + 3 + 2 + 1, entries: 1,
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) {
				push(t, w, "x/y", noise(4100)) // segments
				push(t, w, "x/y", []byte("loose"))
				image(t, w, "loose")
				about := describe(ocispec.MediaTypeImageManifest, []byte("never"))
				if err := w.AddUntagged(referrer(t, w, about, "x/y", "of what never was")); err != nil {
					t.Fatal(err)
				}
				beginning(t, w, noise(1500))
			},
		},
		{
			name: "the beginning of what a name leads to", roots: []string{again, v3, v1, v2}, lacking: 1,
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) {
				beginning(t, w, noise(1500))
				beginning(t, w, noise(4500))
				m := manifestOf(describe("x/y", noise(1500)), describe("x/y", noise(4500)))
				setRoot(t, w, again, "", pushJSON(t, w, ocispec.MediaTypeImageManifest, m))
				p.begun = []digest.Digest{m.Config.Digest, m.Layers[0].Digest}
			},
		},
		{
			name: "a name that was moved", roots: []string{v3, v1, v2}, entries: 8, blobs: 18,
			prepare: func(t *testing.T, w *layout.Writer, p *pruned) {
				setRoot(t, w, v1, "shop-1", imageIndex(t, w, image(t, w, "new")))
				if err := w.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPruned(t)
			if tt.prepare != nil {
				w := segmented(t, p.dir, 2000)
				tt.prepare(t, w, p)
				commit(t, w)
				closeWriter(t, w)
			}
			before := tree(t, p.dir)
			reader := open(t, p.dir)
			found, err := reader.Garbage(t.Context(), tt.remove...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, tree(t, p.dir)); diff != "" {
				t.Errorf("looking changes files:\n%s", diff)
			}
			if found.Entries != tt.entries || found.Blobs != tt.blobs || found.Lacking != tt.lacking {
				t.Errorf("Garbage = %d entries, %d blobs, %d lacking, want %d, %d, %d", found.Entries, found.Blobs, found.Lacking, tt.entries, tt.blobs, tt.lacking)
			}
			if diff := cmp.Diff(tt.shared, found.Shared); diff != "" {
				t.Errorf("Shared (-want +got):\n%s", diff)
			}
			w := writer(t, p.dir)
			g, err := w.Garbage(t.Context(), tt.remove...)
			if err != nil {
				t.Fatal(err)
			}
			var blobs int
			var bytes int64
			err = w.RemoveGarbage(t.Context(), g, func(d digest.Digest, n int64) {
				if g.Leads(d) {
					t.Errorf("removed %s, which something leads to", d)
				}
				blobs++
				bytes += n
			})
			if err != nil || blobs != found.Blobs || bytes != found.Bytes {
				t.Errorf("RemoveGarbage = %v, removed %d blobs of %d bytes, want %d of %d", err, blobs, bytes, found.Blobs, found.Bytes)
			}
			closeWriter(t, w)
			after := open(t, p.dir)
			var names []string
			for _, r := range after.Roots() {
				if _, tag, _ := layout.SplitName(r.Name); !strings.HasPrefix(tag, "sha256-") {
					names = append(names, r.Name)
				}
			}
			if diff := cmp.Diff(tt.roots, names); diff != "" {
				t.Errorf("roots (-want +got):\n%s", diff)
			}
			p.checkWhole(t, p.dir)
			got := slices.DeleteFunc(contentOf(t, p.dir), func(s string) bool { return strings.HasPrefix(s, "sealift/partial") })
			if diff := cmp.Diff(wantContent(t, p.dir), got); diff != "" {
				t.Errorf("content (-led to +there):\n%s", diff)
			}
			checkKept(t, reader, after, tt.remove)
			next, err := after.Garbage(t.Context())
			if err != nil || next.Entries+next.Blobs != 0 || next.Bytes != 0 {
				t.Errorf("afterwards there is %+v, %v, want nothing", next, err)
			}
		})
	}
}

// checkKept fails unless what stays has its proofs, and a reader from before still
// reads it.
func checkKept(t *testing.T, before, after *layout.Layout, removed []string) {
	t.Helper()
	for _, r := range after.Roots() {
		if slices.Contains(removed, r.Name) {
			t.Errorf("%s is still there", r.Name)
		}
		repository, tag, _ := layout.SplitName(r.Name)
		was, now := before.Repository(repository), after.Repository(repository)
		if diff := cmp.Diff(referrers(t, was, r.Descriptor, ""), referrers(t, now, r.Descriptor, "")); diff != "" && !strings.HasPrefix(tag, "sha256-") {
			t.Errorf("referrers of %s (-before +after):\n%s", r.Name, diff)
		}
		if desc, err := was.Resolve(t.Context(), tag); err == nil {
			checkFetch(t, before, desc)
		}
		signature := artifact.SignatureTag(r.Descriptor.Digest, ".sig")
		_, had := was.Entry(t.Context(), signature)
		if _, has := now.Entry(t.Context(), signature); has != had {
			t.Errorf("%s has a signature: %t, had one: %t", r.Name, has, had)
		}
	}
}

// addEntry writes an entry as another tool does, in front.
func addEntry(t *testing.T, dir string, desc ocispec.Descriptor, name string) {
	t.Helper()
	index, err := layout.ParseIndex(read(t, dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	}
	index.Manifests = slices.Insert(index.Manifests, 0, desc)
	write(t, toJSON(t, index), dir, "index.json")
}

// beginning leaves half of a blob.
func beginning(t *testing.T, w *layout.Writer, blob []byte) {
	t.Helper()
	s := &scenario{}
	if err := w.Ingest(t.Context(), describe("x/y", blob), s.open(blob, len(blob)/2)); !errors.Is(err, errCable) {
		t.Fatalf("Ingest = %v, want %v", err, errCable)
	}
}

// The proofs of what is not carried stay with what names it.
func TestGarbageOfOtherPlatforms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, dir)
	absent := describe(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2}`))
	setRoot(t, w, v1, "", imageIndex(t, w, absent, absent))
	setRoot(t, w, v2, "", imageIndex(t, w, absent))
	if err := w.AddUntagged(referrer(t, w, absent, sbomType, "sbom")); err != nil {
		t.Fatal(err)
	}
	commit(t, w)
	if g, err := prune(t.Context(), w); err != nil || g.Entries+g.Blobs != 0 || g.Lacking != 1 {
		t.Errorf("Garbage = %+v, %v, want nothing but one manifest that is not there", g, err)
	}
}

// What cannot be known is not guessed: nothing is removed.
func TestGarbageRefuses(t *testing.T) {
	t.Parallel()
	spoil := func(t *testing.T, dir string, desc ocispec.Descriptor) {
		raw := read(t, layoutPath(dir, desc))
		raw[len(raw)/2] ^= 1
		write(t, raw, layoutPath(dir, desc))
	}
	proof := func(t *testing.T, dir string, subject ocispec.Descriptor) ocispec.Descriptor {
		return referrers(t, open(t, dir).Repository("registry.example.com/shop"), subject, "")[0]
	}
	signature := func(t *testing.T, dir string, subject ocispec.Descriptor) ocispec.Descriptor {
		desc, err := open(t, dir).Resolve(t.Context(), artifact.SignatureTag(subject.Digest, ".sig"))
		if err != nil {
			t.Fatal(err)
		}
		return desc
	}
	tests := []struct {
		name   string
		plant  func(t *testing.T, p *pruned) ocispec.Descriptor // that is to be named
		remove string
		want   error // nil when it is to go well
	}{
		{"damaged root", func(t *testing.T, p *pruned) ocispec.Descriptor { spoil(t, p.dir, p.two); return p.two }, v1, artifact.ErrDamaged},
		{"damaged root that goes", func(t *testing.T, p *pruned) ocispec.Descriptor { spoil(t, p.dir, p.one); return p.one }, v1, nil},
		{"damaged child", func(t *testing.T, p *pruned) ocispec.Descriptor { spoil(t, p.dir, p.both); return p.both }, v1, artifact.ErrDamaged},
		{"damaged child that goes", func(t *testing.T, p *pruned) ocispec.Descriptor { spoil(t, p.dir, p.only); return p.only }, v1, nil},
		{"cut child", func(t *testing.T, p *pruned) ocispec.Descriptor {
			write(t, []byte("{"), layoutPath(p.dir, p.both))
			return p.both
		}, v1, artifact.ErrDamaged},
		{"directory in the place of a child", func(t *testing.T, p *pruned) ocispec.Descriptor {
			remove(t, layoutPath(p.dir, p.both))
			fullDirectory(t, "", layoutPath(p.dir, p.both))
			return p.both
		}, v1, artifact.ErrDamaged},
		{"damaged referrer", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := proof(t, p.dir, p.two)
			spoil(t, p.dir, d)
			return d
		}, v1, artifact.ErrDamaged},
		// Nobody can tell what it is about.
		{"damaged referrer of what goes", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := proof(t, p.dir, p.one)
			spoil(t, p.dir, d)
			return d
		}, v1, artifact.ErrDamaged},
		{"damaged signature", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := signature(t, p.dir, p.two)
			spoil(t, p.dir, d)
			return d
		}, v1, artifact.ErrDamaged},
		{"damaged signature of what goes", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := signature(t, p.dir, p.one)
			spoil(t, p.dir, d)
			return d
		}, v1, nil},
		{"signature that is not there", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := signature(t, p.dir, p.two)
			remove(t, layoutPath(p.dir, d))
			return d
		}, v1, artifact.ErrDamaged},
		{"listed and not there", func(t *testing.T, p *pruned) ocispec.Descriptor {
			remove(t, layoutPath(p.dir, p.two))
			return p.two
		}, v1, artifact.ErrDamaged},
		{"no manifest", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := (&crafted{dir: p.dir}).blob(t, ocispec.MediaTypeImageManifest, "no JSON")
			addEntry(t, p.dir, d, "broken")
			return d
		}, v1, artifact.ErrDamaged},
		{"child of an unknown algorithm", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := (&crafted{dir: p.dir}).index(t, `{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"blake3:`+strings.Repeat("a", 64)+`","size":1}`)
			addEntry(t, p.dir, d, "strange")
			return d
		}, v1, errdef.ErrInvalidDigest},
		{"entry of an unknown algorithm", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest("blake3:" + strings.Repeat("a", 64)), Size: 1}
			addEntry(t, p.dir, d, "strange")
			return d
		}, v1, errdef.ErrInvalidDigest},
		{"entry of an unknown kind", func(t *testing.T, p *pruned) ocispec.Descriptor {
			d := (&crafted{dir: p.dir}).blob(t, "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1}`)
			addEntry(t, p.dir, d, "old")
			return d
		}, v1, errdef.ErrUnsupported},
		{"name that is not there", func(*testing.T, *pruned) ocispec.Descriptor { return ocispec.Descriptor{} }, v1 + "0", errdef.ErrNotFound},
		{"alias", func(*testing.T, *pruned) ocispec.Descriptor { return ocispec.Descriptor{} }, "shop-1", errdef.ErrNotFound},
		// It may be named with a wrong size too, where another names the right one.
		{"child with two sizes", func(t *testing.T, p *pruned) ocispec.Descriptor {
			wrong := p.both
			wrong.Size++
			addEntry(t, p.dir, (&crafted{dir: p.dir}).index(t, child1(wrong)), "liar")
			return p.both
		}, v1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPruned(t)
			desc := tt.plant(t, p)
			closeWriter(t, writer(t, p.dir))
			before := tree(t, p.dir)
			w := writer(t, p.dir)
			_, err := prune(t.Context(), w, tt.remove)
			closeWriter(t, w)
			if tt.want == nil {
				if err != nil {
					t.Errorf("prune = %v, want it to go well", err)
				}
				return
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), desc.Digest.String()) {
				t.Errorf("prune = %v, want %v that names %s", err, tt.want, desc.Digest)
			}
			if diff := cmp.Diff(before, tree(t, p.dir)); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
		})
	}
}

// Only what has the form of the layout's own content is removed.
func TestGarbageLeavesStrangers(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	hex := func(s string) string { return digest.FromString(s).Encoded() }
	outside := t.TempDir()
	write(t, []byte("outside"), outside, hex("outside"))
	kept := layoutPath(p.dir, p.two)
	write(t, []byte("x"), p.dir, "blobs", "sha256", "README")
	write(t, []byte("x"), p.dir, "blobs", "sha256", strings.ToUpper(hex("a")))
	write(t, []byte("x"), p.dir, "blobs", "sha256", hex("a")+".tmp")
	write(t, []byte("x"), p.dir, "blobs", "sha256", hex("a")[:63])
	write(t, []byte("x"), p.dir, "blobs", "sha256", hex("a directory"), hex("in it"))
	write(t, []byte("x"), p.dir, "blobs", "blake3", hex("a"))
	write(t, []byte("x"), p.dir, "blobs", hex("a"))
	write(t, []byte("x"), p.dir, "sealift", "bin", hex("a"))
	write(t, []byte("x"), p.dir, "sealift", "parts", "sha256", hex("a file"))
	write(t, []byte("x"), p.dir, "sealift", "parts", "sha256", hex("parts")+".parts", "000")
	write(t, []byte("x"), p.dir, "sealift", "parts", "sha256", hex("mixed"), "notes")
	write(t, []byte("x"), p.dir, "sealift", "parts", "sha256", hex("deep"), "000", "x")
	write(t, []byte("x"), p.dir, "sealift", "partial", "sha256", hex("a")+".part")
	symbolicLink(t, kept, filepath.Join(p.dir, "blobs", "sha256", hex("link")))
	symbolicLink(t, outside, filepath.Join(p.dir, "blobs", "sha512"))
	symbolicLink(t, filepath.Join(p.dir, "blobs", "sha256"), filepath.Join(p.dir, "blobs", "sha384"))
	symbolicLink(t, filepath.Dir(kept), filepath.Join(p.dir, "sealift", "parts", "sha256", hex("linked directory")))
	if err := os.Symlink(filepath.Join(outside, hex("outside")), filepath.Join(p.dir, "sealift", "parts", "sha256", hex("mixed"), "001")); err != nil {
		t.Fatal(err)
	}
	namedPipe(t, "", filepath.Join(p.dir, "blobs", "sha256", hex("pipe")))
	before := tree(t, p.dir)
	garbage := []string{
		"blobs/sha256/" + hex("garbage"), "sealift/parts/sha256/" + hex("mixed") + "/000", "sealift/partial/sha256/" + hex("garbage"),
		"sealift/partial/sha256/" + hex("segments") + ".parts/000", "sealift/parts/sha256/" + hex("segments") + "/000", "sealift/parts/sha256/" + hex("segments") + "/123",
	}
	for _, name := range garbage {
		write(t, []byte("garbage"), p.dir, filepath.FromSlash(name))
	}
	if g := mustPrune(t, p.dir); g.Blobs != 5 || g.Bytes != int64(len(garbage)*len("garbage")) {
		t.Errorf("Garbage = %d blobs of %d bytes, want 5 of 42", g.Blobs, g.Bytes)
	}
	if diff := cmp.Diff(before, tree(t, p.dir)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if got := string(read(t, outside, hex("outside"))); got != "outside" {
		t.Errorf("a file outside is %q", got)
	}
}

// Entries another tool adds in between may lead to what was garbage.
func TestGarbageOfChangedIndex(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, w *layout.Writer, p *pruned, loose ocispec.Descriptor){
		"another tool": func(t *testing.T, _ *layout.Writer, p *pruned, loose ocispec.Descriptor) {
			addEntry(t, p.dir, loose, "new")
		},
		"this writer": func(t *testing.T, w *layout.Writer, _ *pruned, loose ocispec.Descriptor) {
			setRoot(t, w, v1+"1", "", loose)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPruned(t)
			w := writer(t, p.dir)
			loose := image(t, w, "loose")
			g, err := w.Garbage(t.Context(), v1)
			if err != nil {
				t.Fatal(err)
			}
			change(t, w, p, loose)
			before := contentOf(t, p.dir)
			if err := w.RemoveGarbage(t.Context(), g, nil); !errors.Is(err, layout.ErrChanged) {
				t.Errorf("RemoveGarbage = %v, want %v", err, layout.ErrChanged)
			}
			if diff := cmp.Diff(before, contentOf(t, p.dir)); diff != "" {
				t.Errorf("content (-before +after):\n%s", diff)
			}
			if _, err := prune(t.Context(), w); err != nil {
				t.Error(err)
			}
			checkFetch(t, w.Layout, loose)
		})
	}
}

// The index of another tool is left as it is when none of its entries goes.
func TestGarbageOfAnotherTool(t *testing.T) {
	t.Parallel()
	c := craft(t)
	c.name(c.index(t), "one")
	c.name(c.index(t, child1(c.index(t))), "another")
	c.blob(t, "x/y", "loose")
	c.open(t)
	before := string(read(t, c.dir, "index.json"))
	if g := mustPrune(t, c.dir); g.Blobs != 1 {
		t.Errorf("%d blobs removed, want 1", g.Blobs)
	}
	if diff := cmp.Diff(before, string(read(t, c.dir, "index.json"))); diff != "" {
		t.Errorf("index.json (-before +after):\n%s", diff)
	}
}

// What is removed is gone for the writer too, which has read it.
func TestGarbageIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	w := writer(t, p.dir)
	repository := w.Repository("registry.example.com/shop")
	if _, err := repository.Resolve(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := prune(t.Context(), w, v1); err != nil {
		t.Fatal(err)
	}
	setRoot(t, w, v1, "", p.one)
	if _, err := repository.Resolve(t.Context(), "1"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Resolve = %v, want %v", err, errdef.ErrNotFound)
	}
}

// Files go when the index is durable, and so is it in the end that they are gone.
func TestGarbageOrder(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	type step struct{ op, name string }
	var steps []step
	w, err := layout.OpenWriterBefore(t.Context(), p.dir, layout.WriterOptions{}, func(c layout.Change) error {
		steps = append(steps, step{c.Op, c.Name})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	steps = nil
	if _, err := prune(t.Context(), w, v1); err != nil {
		t.Fatal(err)
	}
	named := slices.Index(steps, step{"syncdir", "."})
	for _, dir := range []string{"blobs/sha256", "sealift/parts/sha256"} {
		in := func(s step) bool { return s.op == "remove" && strings.HasPrefix(s.name, dir) }
		first := slices.IndexFunc(steps, in)
		slices.Reverse(steps)
		last, flushed := slices.IndexFunc(steps, in), slices.Index(steps, step{"syncdir", dir})
		slices.Reverse(steps)
		if named < 0 || first < named || flushed < 0 || flushed > last {
			t.Errorf("%s: removed from %d on, index at %d; flushed %d, last removed %d before the end", dir, first, named, flushed, last)
		}
	}
	closeWriter(t, w)
}

// Nothing is removed behind an index that the device does not give back.
func TestGarbageOfTornIndex(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	named := false
	w, err := layout.OpenWriterBefore(t.Context(), p.dir, layout.WriterOptions{}, func(c layout.Change) error {
		if named && c.Op == "remove" || c.Op == "syncdir" && named {
			return os.Truncate(filepath.Join(p.dir, "index.json"), 10)
		}
		named = named || c.Op == "rename" && c.To == "index.json"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := contentOf(t, p.dir)
	if _, err := prune(t.Context(), w, v1); !errors.Is(err, layout.ErrCorruptIndex) {
		t.Errorf("prune = %v, want %v", err, layout.ErrCorruptIndex)
	}
	if diff := cmp.Diff(before, contentOf(t, p.dir)); diff != "" {
		t.Errorf("content (-before +after):\n%s", diff)
	}
}

// A directory that changes may be listed with gaps: it is listed until nothing is left.
func TestGarbageThatComesMeanwhile(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	w := writer(t, p.dir)
	g, err := w.Garbage(t.Context(), v1)
	if err != nil {
		t.Fatal(err)
	}
	late := layoutPath(p.dir, describe("x/y", []byte("late")))
	err = w.RemoveGarbage(t.Context(), g, func(digest.Digest, int64) {
		if late != "" {
			write(t, []byte("late"), late)
			late = ""
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if g, err := w.Garbage(t.Context()); err != nil || g.Blobs != 0 {
		t.Errorf("Garbage = %+v, %v, want none", g, err)
	}
}

func TestGarbageOfVolumes(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	joined, err := layout.Join(open(t, p.dir), open(t, newPruned(t).dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := joined.Garbage(t.Context()); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Garbage = %v, want %v", err, fs.ErrInvalid)
	}
}

func TestGarbageEnds(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	w := writer(t, p.dir)
	g, err := w.Garbage(t.Context(), v1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	before := len(contentOf(t, p.dir))
	err = w.RemoveGarbage(ctx, g, func(digest.Digest, int64) { cancel() })
	if after := len(contentOf(t, p.dir)); !errors.Is(err, context.Canceled) || after != before-1 {
		t.Errorf("RemoveGarbage = %v with %d of %d left, want %v with one removed", err, after, before, context.Canceled)
	}
	if _, err := w.Garbage(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Garbage = %v, want %v", err, context.Canceled)
	}
}

// However long the chain of what hangs on what is, it is walked without recursion, and
// it goes as one.
func TestGarbageDeep(t *testing.T) {
	t.Parallel()
	c := craft(t)
	root := c.index(t)
	c.name(root, v1)
	subject := root
	for i := range 500 {
		about := c.blob(t, ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"subject":%s}`, child1(subject)))
		c.entries = append(c.entries, about)
		signature := c.blob(t, ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d"}}`, i))
		c.name(signature, artifact.SignatureTag(about.Digest, ".sig"))
		subject = signature
	}
	l := c.open(t)
	if g, err := l.Garbage(t.Context()); err != nil || g.Blobs+g.Entries != 0 {
		t.Errorf("Garbage = %+v, %v, want none", g, err)
	}
	if g, err := l.Garbage(t.Context(), v1); err != nil || g.Blobs != 1001 || g.Entries != 1000 {
		t.Errorf("Garbage = %+v, %v, want all", g, err)
	}
	layout.SetGraphLimits(l, 500, 1_000_000, 1<<30) // of 500 referrers, and 501 others
	if _, err := l.Garbage(t.Context()); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("Garbage = %v, want %v", err, errdef.ErrSizeExceedsLimit)
	}
}

// Referrers that are read only to be told apart count too.
func TestGarbageOfManyReferrers(t *testing.T) {
	t.Parallel()
	c := craft(t)
	root := c.index(t)
	c.name(root, v1)
	for i := range 20 {
		c.entries = append(c.entries, c.blob(t, ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"subject":%s,"annotations":{"n":"%d"}}`, child1(root), i)))
	}
	l := c.open(t)
	layout.SetGraphLimits(l, 10, 1_000_000, 1<<30)
	if _, err := l.Garbage(t.Context()); !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		t.Errorf("Garbage = %v, want %v", err, errdef.ErrSizeExceedsLimit)
	}
}

// On FAT one content may have two names, and removing both frees it twice.
func TestGarbageOnFAT(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	d := digest.FromString("garbage").Encoded()
	for _, name := range []string{"blobs/sha256/" + d, "sealift/partial/sha256/" + d, "sealift/parts/sha256/" + d + "/000", "sealift/partial/sha256/" + d + ".parts/000"} {
		write(t, []byte("garbage"), p.dir, filepath.FromSlash(name))
	}
	for _, tt := range []struct {
		options layout.WriterOptions
		blobs   int
	}{{layout.Weak(layout.WriterOptions{}), 0}, {layout.WriterOptions{}, 4}} {
		w, err := layout.OpenWriterOptions(t.Context(), p.dir, tt.options)
		if err != nil {
			t.Fatal(err)
		}
		before := len(contentOf(t, p.dir))
		g, err := prune(t.Context(), w)
		if err != nil || g.Blobs != tt.blobs || before-len(contentOf(t, p.dir)) != tt.blobs {
			t.Errorf("%+v, %v, %d removed, want %d blobs", g, err, before-len(contentOf(t, p.dir)), tt.blobs)
		}
		closeWriter(t, w)
	}
}

// At whatever step removing is cut off, what has a name is whole, and the next time
// ends with the very same files.
func TestGarbageEveryFault(t *testing.T) {
	t.Parallel()
	p := newPruned(t)
	w := segmented(t, p.dir, 2000)
	push(t, w, "x/y", noise(4100))
	beginning(t, w, noise(1500))
	beginning(t, w, noise(4500))
	closeWriter(t, w)
	run := func(t *testing.T, m *machine) error {
		options := layout.WriterOptions{}
		if m.weak {
			options = layout.Weak(options)
		}
		w, err := layout.OpenWriterBefore(t.Context(), m.dir, options, m.before)
		if err != nil {
			return err
		}
		var names []string
		for _, r := range w.Roots() {
			if r.Name == v1 {
				names = append(names, r.Name)
			}
		}
		_, err = prune(t.Context(), w, names...)
		return errors.Join(err, w.Close())
	}
	for name, make := range map[string]func() machine{
		"kill":            func() machine { return machine{half: true} },
		"kill on FAT":     func() machine { return machine{half: true, weak: true} },
		"power failure":   func() machine { return machine{half: true, power: rand.New(rand.NewPCG(3, 0))} },
		"another failure": func() machine { return machine{power: rand.New(rand.NewPCG(4, 0))} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sound := make()
			sound.power, sound.dir = nil, copyTree(t, p.dir)
			if err := run(t, &sound); err != nil {
				t.Fatal(err)
			}
			if removals := len(slices.DeleteFunc(slices.Clone(sound.ops), func(op string) bool { return op != "remove" })); removals < 25 {
				t.Errorf("%d removals, want those of a release", removals)
			}
			want := tree(t, sound.dir)
			for step := 1; step <= sound.steps; step++ {
				m := make()
				m.dir, m.crashAt, m.durable = copyTree(t, p.dir), step, map[string][]byte{}
				if err := run(t, &m); !errors.Is(err, errCrash) {
					t.Errorf("%d, %s: %v", step, m.last, err)
				}
				m.fail(t)
				p.checkWhole(t, m.dir)
				if err := run(t, &machine{dir: m.dir, weak: m.weak}); err != nil {
					t.Errorf("again after %d, %s: %v", step, m.last, err)
				}
				p.checkWhole(t, m.dir)
				if diff := cmp.Diff(withoutIndexes(want), withoutIndexes(tree(t, m.dir))); diff != "" {
					t.Errorf("after %d, %s (-undisturbed +again):\n%s", step, m.last, diff)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// withoutIndexes leaves the slots out, of which the second may be the one before.
func withoutIndexes(files map[string]string) map[string]string {
	rest := maps.Clone(files)
	maps.DeleteFunc(rest, func(name, _ string) bool {
		ok, _ := filepath.Match("sealift/index.*.json", name)
		return ok
	})
	return rest
}

func copyTree(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "disc")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
