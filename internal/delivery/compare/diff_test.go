package compare_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery/compare"
	"github.com/sealift/sealift/mirror"
)

// named describes content that is named by what it is.
func named(name string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(name), Size: size}
}

// sideOf makes a release of a template of which each component runs an image with
// the layers that images names, two bytes each.
func sideOf(t *testing.T, config string, files map[string]string, images map[string][]string) *compare.Side {
	t.Helper()
	template, err := artifact.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	r := &artifact.Release{App: &artifact.App{Template: template, Config: []byte(config), Files: map[string][]byte{}}, Images: map[string]ocispec.Descriptor{}}
	for name, text := range files {
		r.App.Files[name] = []byte(text)
	}
	c := &mirror.Closure{Root: named(config+fmt.Sprint(files, images), 100), Members: map[digest.Digest]mirror.Member{}}
	root := mirror.Member{Descriptor: c.Root}
	for key, layers := range images {
		d := named("image of "+strings.Join(layers, " "), 10)
		d.MediaType = ocispec.MediaTypeImageManifest
		m := mirror.Member{Descriptor: d, Blobs: []ocispec.Descriptor{named("config", 1)}}
		for _, l := range layers {
			m.Blobs = append(m.Blobs, named(l, 2))
		}
		c.Members[d.Digest] = m
		r.Images[key] = d
		root.Entries = append(root.Entries, d)
	}
	c.Members[c.Root.Digest] = root
	return &compare.Side{Name: "example.com/shop:" + template.Version, Release: r, Closure: c}
}

// stored is a template as a release has it.
func stored(t *testing.T, version, parameters, components string) string {
	t.Helper()
	text := fmt.Sprintf(`{"apiVersion":"sealift/v1","kind":"App","id":"example.com/shop","version":%q,"platforms":["linux/amd64"],"parameters":{%s},"components":{%s}}`,
		version, parameters, components)
	var tree any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	raw, err := json.Marshal(tree) // canonical, of what is that simple
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestCompareComponents(t *testing.T) {
	t.Parallel()
	const web = `"web":{"image":"example.com/web:1"}`
	one := map[string][]string{"web": {"base", "web"}}
	for _, tt := range []struct {
		name                  string
		before, after         string
		oldImages, newImages  map[string][]string
		want                  []compare.ComponentDiff
		wantImages            compare.Counts
		wantLayers, wantBytes int64 // added layers, needed
	}{
		{
			name: "nothing", before: web, after: web, oldImages: one, newImages: one,
			want: []compare.ComponentDiff{}, wantImages: compare.Counts{Shared: 1}, wantBytes: 100, // the other root
		},
		{
			name:   "fields, and the short form of a port is no change",
			before: `"web":{"image":"example.com/web:1","env":{"A":1,"B":"b"},"ports":{"http":80}}`,
			after:  `"web":{"image":"example.com/web:1","args":["x"],"env":{"A":1,"C":false},"ports":{"http":{"port":80}}}`, oldImages: one, newImages: one,
			want: []compare.ComponentDiff{{Key: "web", Change: compare.Changed, Fields: []compare.Change{
				{Field: "args", New: []any{"x"}}, {Field: "env.B", Old: "b"}, {Field: "env.C", New: false},
			}}},
			wantImages: compare.Counts{Shared: 1}, wantBytes: 100,
		},
		{
			name:   "another image under the same reference",
			before: web, after: web, oldImages: one, newImages: map[string][]string{"web": {"base", "new", "newer"}},
			want: []compare.ComponentDiff{{Key: "web", Change: compare.Changed,
				Digest: &compare.Pair{Old: digest.FromString("image of base web").String(), New: digest.FromString("image of base new newer").String()},
				Layers: &compare.SetDiff{Counts: compare.Counts{Added: 2, Removed: 1, Shared: 1}, AddedBytes: 4, RemovedBytes: 2, SharedBytes: 2}}},
			wantImages: compare.Counts{Added: 1, Removed: 1}, wantLayers: 2, wantBytes: 114,
		},
		{
			name:      "renamed, and added",
			before:    `"db":{"image":"example.com/db:1"},` + web,
			after:     `"store":{"image":"example.com/db:1","aliases":["old","db"]},"third":{"image":"example.com/db:1","aliases":["fourth"]},` + web,
			oldImages: map[string][]string{"web": {"base"}, "db": {"base"}},
			newImages: map[string][]string{"web": {"base"}, "store": {"base"}, "third": {"base"}},
			want: []compare.ComponentDiff{
				{Key: "store", Change: compare.Changed, RenamedFrom: "db"},
				{Key: "third", Change: compare.Added, Image: &compare.Pair{New: "example.com/db:1"}, Digest: &compare.Pair{New: digest.FromString("image of base").String()}},
			},
			wantImages: compare.Counts{Shared: 1}, wantBytes: 100,
		},
		{
			name:   "removed",
			before: `"db":{"image":"example.com/db:1"},` + web, after: web,
			oldImages: map[string][]string{"web": {"base", "web"}, "db": {"db"}}, newImages: one,
			want: []compare.ComponentDiff{{Key: "db", Change: compare.Removed,
				Image: &compare.Pair{Old: "example.com/db:1"}, Digest: &compare.Pair{Old: digest.FromString("image of db").String()}}},
			wantImages: compare.Counts{Removed: 1, Shared: 1}, wantBytes: 100,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := compare.Sides(sideOf(t, stored(t, "1.0.0", "", tt.before), nil, tt.oldImages),
				sideOf(t, stored(t, "1.1.0", "", tt.after), nil, tt.newImages), compare.Options{})
			if diff := cmp.Diff(tt.want, d.Components); diff != "" {
				t.Errorf("Components (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(&tt.wantImages, d.Images); diff != "" {
				t.Errorf("Images (-want +got):\n%s", diff)
			}
			if int64(d.Layers.Added) != tt.wantLayers || d.Bytes[0].Needed != tt.wantBytes {
				t.Errorf("%d layers and %d bytes are new, want %d and %d", d.Layers.Added, d.Bytes[0].Needed, tt.wantLayers, tt.wantBytes)
			}
			if b := d.Bytes[0]; b.New != b.Shared+b.Needed || len(d.Bytes) != 1 {
				t.Errorf("Bytes = %+v, want one sum that adds up", d.Bytes)
			}
			if diff := cmp.Diff([]compare.Change{{Field: "version", Old: "1.0.0", New: "1.1.0"}}, d.App); diff != "" {
				t.Errorf("App (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCompareParameters(t *testing.T) {
	t.Parallel()
	const hidden = "(not shown)"
	for _, tt := range []struct {
		name, before, after string
		want                []compare.ParameterDiff
	}{
		{"nothing", `"a":{"type":"string"}`, `"a":{"type":"string"}`, []compare.ParameterDiff{}},
		{"new with a default", ``, `"a":{"type":"string","default":"x"}`, []compare.ParameterDiff{
			{Name: "a", Change: compare.Added, Fields: []compare.Change{{Field: "default", New: "x"}, {Field: "type", New: "string"}}},
		}},
		{"new and required", ``, `"a":{"type":"string"}`, []compare.ParameterDiff{
			{Name: "a", Change: compare.Added, Required: true, Fields: []compare.Change{{Field: "type", New: "string"}}},
		}},
		{"without its default", `"a":{"type":"integer","default":1,"maximum":9}`, `"a":{"type":"integer","maximum":5}`, []compare.ParameterDiff{
			{Name: "a", Change: compare.Changed, Required: true, Fields: []compare.Change{{Field: "default", Old: 1.0}, {Field: "maximum", Old: 9.0, New: 5.0}}},
		}},
		{"required as it was", `"a":{"type":"string"}`, `"a":{"type":"string","pattern":"x"}`, []compare.ParameterDiff{
			{Name: "a", Change: compare.Changed, Fields: []compare.Change{{Field: "pattern", New: "x"}}},
		}},
		{"generated", ``, `"a":{"type":"string","secret":true,"generate":{"length":24}}`, []compare.ParameterDiff{
			{Name: "a", Change: compare.Added, Fields: []compare.Change{{Field: "generate.length", New: 24.0}, {Field: "secret", New: true}, {Field: "type", New: "string"}}},
		}},
		{"removed", `"a":{"type":"string","secret":true,"default":"hunter2"}`, ``, []compare.ParameterDiff{{Name: "a", Change: compare.Removed}}},
		{"secret that was none", `"a":{"type":"string","default":"hunter2"}`, `"a":{"type":"string","secret":true,"enum":["hunter3"]}`, []compare.ParameterDiff{
			{Name: "a", Change: compare.Changed, Required: true, Fields: []compare.Change{
				{Field: "default", Old: hidden, Secret: true}, {Field: "enum", New: hidden, Secret: true}, {Field: "secret", New: true},
			}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			images := map[string][]string{"web": {"web"}}
			const web = `"web":{"image":"example.com/web:1"}`
			d := compare.Sides(sideOf(t, stored(t, "1.0.0", tt.before, web), nil, images), sideOf(t, stored(t, "1.0.0", tt.after, web), nil, images), compare.Options{})
			if diff := cmp.Diff(tt.want, d.Parameters); diff != "" {
				t.Errorf("Parameters (-want +got):\n%s", diff)
			}
			if raw, err := json.Marshal(d); err != nil || strings.Contains(string(raw), "hunter") {
				t.Errorf("a secret is told (%v): %s", err, raw)
			}
		})
	}
}

func TestCompareFiles(t *testing.T) {
	t.Parallel()
	images := map[string][]string{"web": {"web"}}
	config := stored(t, "1.0.0", "", `"web":{"image":"example.com/web:1"}`)
	before := sideOf(t, config, map[string]string{"same": "x", "gone": "bye\n", "text": "a\nb\n", "binary": "\x00a", "latin": "\xe9", "large": strings.Repeat("x\n", 40_000)}, images)
	after := sideOf(t, config, map[string]string{"same": "x", "come": "hi\n", "text": "a\nc\n", "binary": "\x00b", "latin": "\xe8", "large": "x\n"}, images)
	want := map[string]string{
		"binary": "changed", "come": "added --- come\n+++ come\n@@ -0,0 +1,1 @@\n+hi\n", "gone": "removed --- gone\n+++ gone\n@@ -1,1 +0,0 @@\n-bye\n",
		"large": "changed", "latin": "changed", "text": "changed --- text\n+++ text\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n",
	}
	got := map[string]string{}
	for _, f := range compare.Sides(before, after, compare.Options{Files: true}).Files {
		got[f.Name] = strings.TrimSpace(f.Change+" "+f.Unified) + map[bool]string{true: "\n"}[f.Unified != ""]
		if (f.Digest.Old == "") != (f.Change == compare.Added) || (f.Digest.New == "") != (f.Change == compare.Removed) {
			t.Errorf("%s is %s, with digests %+v", f.Name, f.Change, f.Digest)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Files (-want +got):\n%s", diff)
	}
	for _, f := range compare.Sides(before, after, compare.Options{}).Files {
		if f.Unified != "" {
			t.Errorf("%s was compared line by line without being asked for", f.Name)
		}
	}
}

// imageSide is an index of one image for each platform.
func imageSide(name string, platforms ...ocispec.Platform) *compare.Side {
	c := &mirror.Closure{Root: named(name, 100), Members: map[digest.Digest]mirror.Member{}}
	root := mirror.Member{Descriptor: c.Root}
	for _, p := range platforms {
		d := named(name+" "+p.Architecture, 10)
		d.Platform = &p
		c.Members[d.Digest] = mirror.Member{Descriptor: d, Blobs: []ocispec.Descriptor{named("config", 1), named("layer "+p.Architecture, math.MaxInt64-5)}}
		root.Entries = append(root.Entries, d)
	}
	c.Members[c.Root.Digest] = root
	return &compare.Side{Name: name, Closure: c, Configs: map[string]*compare.ImageConfig{}}
}

func TestCompareImages(t *testing.T) {
	t.Parallel()
	amd64, arm64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}, ocispec.Platform{OS: "linux", Architecture: "arm64"}
	attestation := ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	before, after := imageSide("one", amd64), imageSide("two", amd64, arm64, attestation)
	before.Configs["linux/amd64"] = &compare.ImageConfig{Entrypoint: []string{"/web"}, User: "1", Env: map[string]string{"GONE": "a", "SAME": "b", "TOKEN": "hunter2"}}
	after.Configs["linux/amd64"] = &compare.ImageConfig{Entrypoint: []string{"/bin/sh"}, User: "", Env: map[string]string{"SAME": "b", "TOKEN": "hunter3"}}
	after.Configs["linux/arm64"] = nil
	d := compare.Sides(before, after, compare.Options{})
	want := []compare.ConfigDiff{{Platform: "linux/amd64", Fields: []compare.Change{
		{Field: "entrypoint", Old: []string{"/web"}, New: []string{"/bin/sh"}},
		{Field: "env.GONE", Old: "(not shown)", Secret: true},
		{Field: "env.TOKEN", Old: "(not shown)", New: "(not shown)", Secret: true},
		{Field: "user", Old: "1"},
	}}}
	if diff := cmp.Diff(want, d.Configs); diff != "" {
		t.Errorf("Configs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&compare.NameDiff{Added: []string{"linux/arm64"}}, d.Platforms); diff != "" {
		t.Errorf("Platforms (-want +got):\n%s", diff)
	}
	// The layer of the attestation is none of an image's.
	if got := d.Layers.Counts; got != (compare.Counts{Added: 1, Shared: 1}) {
		t.Errorf("Layers = %+v, want one added and one shared", got)
	}
	// Sizes are what somebody wrote: they must not wrap around.
	for _, b := range d.Bytes {
		if b.Old < 0 || b.New < b.Shared || b.Needed < 0 {
			t.Errorf("Bytes = %+v", b)
		}
	}
	if len(d.Bytes) != 3 || d.Bytes[2].Platform != "linux/arm64" || d.Bytes[2].Old != 0 {
		t.Errorf("Bytes = %+v, want the whole, and arm64, of which there was nothing, last", d.Bytes)
	}
	// A config that is not there is told, and differs from nothing.
	after.Configs["linux/amd64"] = nil
	if diff := cmp.Diff([]compare.ConfigDiff{{Platform: "linux/amd64", Unknown: true}}, compare.Sides(before, after, compare.Options{}).Configs); diff != "" {
		t.Errorf("Configs (-want +got):\n%s", diff)
	}
}

// One root is the same wherever some of it is absent, until what refers to it differs.
func TestCompareSame(t *testing.T) {
	t.Parallel()
	amd64 := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	whole, sparse := imageSide("one", amd64), imageSide("one")
	if !compare.Sides(whole, sparse, compare.Options{}).Same {
		t.Error("one root that is sparse is not the same")
	}
	signed := imageSide("one", amd64)
	root := signed.Closure.Members[signed.Closure.Root.Digest]
	root.Proofs = append(root.Proofs, named("signature", 10))
	signed.Closure.Members[signed.Closure.Root.Digest] = root
	if compare.Sides(whole, signed, compare.Options{}).Same {
		t.Error("one root with another signature is the same")
	}
	if compare.Sides(whole, imageSide("two", amd64), compare.Options{}).Same {
		t.Error("two roots are the same")
	}
}

// TestCompareManyPlatforms: each platform that is counted by itself is a walk of the
// whole graph, and an index can name thousands.
func TestCompareManyPlatforms(t *testing.T) {
	t.Parallel()
	const platforms = 20_000
	side := func(prefix string) *compare.Side {
		root := mirror.Member{Descriptor: named(prefix, 10)}
		for i := range platforms {
			d := named(fmt.Sprint(prefix, i), 1)
			d.Platform = &ocispec.Platform{OS: "linux", Architecture: fmt.Sprint(prefix, i)}
			root.Entries = append(root.Entries, d)
		}
		return &compare.Side{Name: prefix, Closure: &mirror.Closure{Root: root.Descriptor, Members: map[digest.Digest]mirror.Member{root.Descriptor.Digest: root}}}
	}
	d := compare.Sides(side("a"), side("b"), compare.Options{})
	if got, want := len(d.Bytes), 1+100; got != want {
		t.Errorf("%d rows of bytes, want %d", got, want)
	}
	if got := [2]int{len(d.Platforms.Added), len(d.Platforms.Removed)}; got != [2]int{platforms, platforms} {
		t.Errorf("%d platforms added and removed, want %d each", got, platforms)
	}
}
