// Package compare tells what changes from one artifact to another: of releases the
// components, parameters and files, of images the configs, of both the layers, the
// bytes and who signed.
//
// [ReadSide] reads what a comparison needs, which is manifests and configs and no
// layer; [Sides] compares, and is pure. Values that may be secrets are in no result.
package compare

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// Diff is what changes from one artifact to another. Every list is sorted by name.
type Diff struct {
	// Same says that nothing differs: it is one root with the same referrers and
	// signatures.
	Same bool       `json:"same"`
	Old  Identified `json:"old"`
	New  Identified `json:"new"`
	// App are the fields of the template beside components and parameters. It and
	// the next three are nil unless both are releases.
	App        []Change        `json:"app,omitempty"`
	Components []ComponentDiff `json:"components,omitempty"`
	Parameters []ParameterDiff `json:"parameters,omitempty"`
	Files      []FileDiff      `json:"files,omitempty"`
	// Images counts the distinct images of releases.
	Images *Counts `json:"images,omitempty"`
	// Configs are those of images, nil when either is a release.
	Configs []ConfigDiff `json:"configs,omitempty"`
	// Platforms are those of images.
	Platforms *NameDiff `json:"platforms,omitempty"`
	Layers    SetDiff   `json:"layers"`
	// Bytes begins with the whole; then, where there are several platforms, it has
	// each of them.
	Bytes []BytesDiff `json:"bytes"`
}

// Identified says what is compared.
type Identified struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"`
	ID      string `json:"id,omitempty"`
	Version string `json:"version,omitempty"`
	// Lacks counts the manifests that it names and that are not where it was read:
	// what they name is in no count.
	Lacks   int     `json:"lacks,omitempty"`
	Signers Signers `json:"signers"`
}

// Pair is a text before and after, "" where there is none.
type Pair struct {
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

// Counts compare two sets by number.
type Counts struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Shared  int `json:"shared"`
}

// NameDiff compares two sets of names.
type NameDiff struct {
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// SetDiff compares two sets of content.
type SetDiff struct {
	Counts
	AddedBytes   int64 `json:"addedBytes"`
	RemovedBytes int64 `json:"removedBytes"`
	SharedBytes  int64 `json:"sharedBytes"`
}

// BytesDiff compares everything two artifacts reach, manifests and signatures
// included.
type BytesDiff struct {
	// Platform is what was counted, "" for all.
	Platform string `json:"platform,omitempty"`
	Old      int64  `json:"old"`
	New      int64  `json:"new"`
	Shared   int64  `json:"shared"`
	// Needed is what a place that has the old lacks of the new.
	Needed int64 `json:"needed"`
}

// ComponentDiff is a component that differs.
type ComponentDiff struct {
	Key string `json:"key"`
	// Change is Added, Removed or Changed.
	Change string `json:"change"`
	// RenamedFrom is the key it had, by its aliases.
	RenamedFrom string `json:"renamedFrom,omitempty"`
	// Image and Digest are nil where they are what they were.
	Image  *Pair `json:"image,omitempty"`
	Digest *Pair `json:"digest,omitempty"`
	// Layers are those of the image, nil unless there was one and is another.
	Layers *SetDiff `json:"layers,omitempty"`
	Fields []Change `json:"fields,omitempty"`
}

// FileDiff is a carried file that differs.
type FileDiff struct {
	Name string `json:"name"`
	// Change is Added, Removed or Changed.
	Change  string `json:"change"`
	Digest  Pair   `json:"digest"`
	OldSize int64  `json:"oldSize"`
	NewSize int64  `json:"newSize"`
	// Unified is the difference line by line, of small texts when it is asked for.
	Unified string `json:"unified,omitempty"`
}

// ConfigDiff is the config of an image for one platform that differs.
type ConfigDiff struct {
	Platform string   `json:"platform"`
	Fields   []Change `json:"fields,omitempty"`
	// Unknown says that one is not there to be compared.
	Unknown bool `json:"unknown,omitempty"`
}

// Options configure [Sides].
type Options struct {
	// Files compares small texts among the carried files line by line.
	Files bool
}

// maxComparedBytes bounds what is compared line by line.
const maxComparedBytes = 64 << 10

// Sides returns what changes from one side to the other. It is pure.
func Sides(before, after *Side, opts Options) *Diff {
	d := &Diff{Old: before.identified(), New: after.identified(), Layers: compareSets(before.layers(before.Closure.Root), after.layers(after.Closure.Root))}
	d.Same = sameClosure(before.Closure, after.Closure)
	if before.Release != nil && after.Release != nil {
		d.compareReleases(before, after, opts)
	} else {
		d.compareImages(before, after)
	}
	d.compareBytes(before, after)
	return d
}

// sameClosure reports whether two closures are one. The root's digest settles what
// is below it, whatever of that either lacks, but not what refers to it.
func sameClosure(a, b *mirror.Closure) bool {
	if a.Root.Digest != b.Root.Digest {
		return false
	}
	for id, m := range a.Members {
		if other, both := b.Members[id]; both && !maps.Equal(digests(m.Proofs), digests(other.Proofs)) {
			return false
		}
	}
	return true
}

func digests(list []ocispec.Descriptor) map[digest.Digest]bool {
	set := map[digest.Digest]bool{}
	for _, d := range list {
		set[d.Digest] = true
	}
	return set
}

func (s *Side) identified() Identified {
	i := Identified{Name: s.Name, Digest: s.Closure.Root.Digest.String(), Lacks: len(s.Closure.Absent), Signers: s.Signers}
	if s.Release != nil {
		i.ID, i.Version = s.Release.App.Template.ID, s.Release.App.Template.Version
	}
	return i
}

func (d *Diff) compareReleases(before, after *Side, opts Options) {
	d.App = changes(parseDocument(before.Release).app(), parseDocument(after.Release).app())
	d.Components = compareComponents(before, after)
	d.Parameters = compareParameters(before.Release, after.Release)
	d.Files = compareFiles(before.Release.App.Files, after.Release.App.Files, opts)
	sets := compareSets(distinct(before.Release.Images), distinct(after.Release.Images))
	d.Images = &sets.Counts
}

func distinct(images map[string]ocispec.Descriptor) map[digest.Digest]ocispec.Descriptor {
	set := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range images {
		set[d.Digest] = d
	}
	return set
}

func compareComponents(before, after *Side) []ComponentDiff {
	old, new := parseDocument(before.Release).objects("components"), parseDocument(after.Release).objects("components")
	formerly := renamed(before.Release.App.Template, after.Release.App.Template)
	gone := maps.Clone(before.Release.App.Template.Components)
	list := []ComponentDiff{}
	for _, key := range after.Release.App.Template.Keys() {
		was := cmp.Or(formerly[key], key)
		d := ComponentDiff{Key: key, RenamedFrom: formerly[key], Fields: changes(fieldsOf(old[was]), fieldsOf(new[key]))}
		oldImage, had := before.Release.Images[was]
		newImage := after.Release.Images[key]
		d.Change = kindOf(had, true)
		d.Image = pairOf(before.Release.App.Template.Components[was].Image, after.Release.App.Template.Components[key].Image)
		if d.Digest = pairOf(oldImage.Digest.String(), newImage.Digest.String()); d.Digest != nil && had {
			layers := compareSets(before.layers(oldImage), after.layers(newImage))
			d.Layers = &layers
		}
		if d.Change == Added || d.RenamedFrom != "" || d.Image != nil || d.Digest != nil || len(d.Fields) > 0 {
			list = append(list, d)
		}
		delete(gone, was)
	}
	for key := range gone {
		list = append(list, ComponentDiff{Key: key, Change: Removed,
			Image:  &Pair{Old: before.Release.App.Template.Components[key].Image},
			Digest: &Pair{Old: before.Release.Images[key].Digest.String()}})
	}
	slices.SortFunc(list, func(a, b ComponentDiff) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

// pairOf returns nil for what is the same.
func pairOf(before, after string) *Pair {
	if before == after {
		return nil
	}
	return &Pair{before, after}
}

// renamed returns the former key of each component that has another one now, by
// its aliases, which no two components share.
func renamed(before, after *artifact.Template) map[string]string {
	formerly := map[string]string{}
	for _, key := range after.Keys() {
		if _, same := before.Components[key]; same {
			continue
		}
		for _, alias := range after.Components[key].Aliases {
			if _, was := before.Components[alias]; was {
				formerly[key] = alias
			}
		}
	}
	return formerly
}

func compareFiles(before, after map[string][]byte, opts Options) []FileDiff {
	list := []FileDiff{}
	for _, name := range slices.Sorted(maps.Keys(union(before, after))) {
		old, had := before[name]
		new, has := after[name]
		if had && has && bytes.Equal(old, new) {
			continue
		}
		d := FileDiff{Name: name, Change: kindOf(had, has), OldSize: int64(len(old)), NewSize: int64(len(new))}
		if had {
			d.Digest.Old = digest.FromBytes(old).String()
		}
		if has {
			d.Digest.New = digest.FromBytes(new).String()
		}
		if opts.Files && isSmallText(old) && isSmallText(new) {
			unified := diff.Diff(name, old, name, new)
			_, body, _ := bytes.Cut(unified, []byte("\n")) // without the line "diff"
			d.Unified = string(body)
		}
		list = append(list, d)
	}
	return list
}

func isSmallText(data []byte) bool {
	return len(data) <= maxComparedBytes && utf8.Valid(data) && !bytes.ContainsRune(data, 0)
}

// layers returns the layers of the images below from: neither what a release
// carries itself, nor what attests to an image or signs it.
func (s *Side) layers(from ocispec.Descriptor) map[digest.Digest]ocispec.Descriptor {
	layers, seen := map[digest.Digest]ocispec.Descriptor{}, map[digest.Digest]bool{}
	for queue := []ocispec.Descriptor{from}; len(queue) > 0; queue = queue[1:] {
		m, there := s.Closure.Members[queue[0].Digest]
		if !there || seen[queue[0].Digest] || m.ArtifactType == artifact.TypeApp || queue[0].Platform != nil && queue[0].Platform.OS == "unknown" {
			continue
		}
		seen[queue[0].Digest] = true
		queue = append(queue, m.Entries...)
		for _, d := range m.Blobs[min(1, len(m.Blobs)):] {
			layers[d.Digest] = d
		}
	}
	return layers
}

func compareSets(before, after map[digest.Digest]ocispec.Descriptor) (s SetDiff) {
	for id, d := range after {
		if _, both := before[id]; both {
			s.Shared, s.SharedBytes = s.Shared+1, sum(s.SharedBytes, d.Size)
		} else {
			s.Added, s.AddedBytes = s.Added+1, sum(s.AddedBytes, d.Size)
		}
	}
	for id, d := range before {
		if _, both := after[id]; !both {
			s.Removed, s.RemovedBytes = s.Removed+1, sum(s.RemovedBytes, d.Size)
		}
	}
	return s
}

// sum adds sizes, which nobody has checked, without wrapping around.
func sum(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// compareImages compares what is no pair of releases.
func (d *Diff) compareImages(before, after *Side) {
	d.Platforms = &NameDiff{}
	old, new := before.platforms(), after.platforms()
	for _, name := range slices.Sorted(maps.Keys(union(old, new))) {
		switch {
		case !old[name]:
			d.Platforms.Added = append(d.Platforms.Added, name)
		case !new[name]:
			d.Platforms.Removed = append(d.Platforms.Removed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before.Configs)) {
		was, is := before.Configs[name], after.Configs[name]
		if _, both := after.Configs[name]; !both {
			continue
		}
		c := ConfigDiff{Platform: name, Unknown: (was == nil) != (is == nil)}
		if was != nil && is != nil {
			c.Fields = changes(was.fields(), is.fields())
			hide(c.Fields, func(field string) bool { return strings.HasPrefix(field, "env") })
		}
		if c.Unknown || len(c.Fields) > 0 {
			d.Configs = append(d.Configs, c)
		}
	}
}

func (c *ImageConfig) fields() map[string]any {
	fields := map[string]any{}
	env := map[string]any{}
	for name, value := range c.Env {
		env[name] = value
	}
	if len(env) > 0 {
		fields["env"] = env
	}
	for name, list := range map[string][]string{"entrypoint": c.Entrypoint, "cmd": c.Cmd} {
		if len(list) > 0 {
			fields[name] = list
		}
	}
	for name, text := range map[string]string{"user": c.User, "workingDir": c.WorkingDir} {
		if text != "" {
			fields[name] = text
		}
	}
	return fields
}

// platforms returns what a side is for.
func (s *Side) platforms() map[string]bool {
	set := map[string]bool{}
	if s.Release != nil {
		for _, name := range s.Release.App.Template.Platforms {
			if p, err := mirror.ParsePlatform(name); err == nil {
				set[mirror.FormatPlatform(p)] = true
			}
		}
	} else {
		for _, name := range s.Closure.Platforms() {
			set[name] = true
		}
	}
	for name := range s.Configs {
		if name != "" {
			set[name] = true
		}
	}
	return set
}

// maxComparedPlatforms is how many platforms are counted each by itself, for which
// the whole graph is walked: no image is for more, but an index can name thousands.
const maxComparedPlatforms = 100

// compareBytes counts the whole, and each platform of several.
func (d *Diff) compareBytes(before, after *Side) {
	d.Bytes = []BytesDiff{bytesOf("", before.Closure.Content(before.Closure.Root), after.Closure.Content(after.Closure.Root))}
	old, new := before.platforms(), after.platforms()
	names := slices.Sorted(maps.Keys(union(old, new)))
	if len(names) < 2 {
		return
	}
	for _, name := range names[:min(len(names), maxComparedPlatforms)] {
		p, err := mirror.ParsePlatform(name)
		if err != nil {
			continue // no platform that anything is carried for
		}
		var had, has map[digest.Digest]ocispec.Descriptor // nothing where a side is not for it
		if old[name] {
			had = before.Closure.Content(before.Closure.Root, p)
		}
		if new[name] {
			has = after.Closure.Content(after.Closure.Root, p)
		}
		d.Bytes = append(d.Bytes, bytesOf(name, had, has))
	}
}

func bytesOf(platform string, before, after map[digest.Digest]ocispec.Descriptor) BytesDiff {
	s := compareSets(before, after)
	return BytesDiff{Platform: platform, Old: sum(s.SharedBytes, s.RemovedBytes), New: sum(s.SharedBytes, s.AddedBytes), Shared: s.SharedBytes, Needed: s.AddedBytes}
}
