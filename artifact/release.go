package artifact

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
)

// ErrNotRelease reports that an artifact is sound but not a release of an app.
var ErrNotRelease = errors.New("not a sealift release")

// ErrInvalidRelease reports a release whose bytes are those that were published,
// and whose documents break the format or contradict each other. Nobody at a site
// can mend that. Where it is the template that is wrong, its [FindingsError] is
// in the chain too.
var ErrInvalidRelease = errors.New("invalid release")

// invalid marks err as the fault of what the release says.
func invalid(err error) error {
	if err == nil || errors.Is(err, ErrInvalidRelease) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalidRelease, err)
}

// Blob is a small piece of content with its descriptor.
type Blob struct {
	Descriptor ocispec.Descriptor
	Data       []byte
}

// Image is what one component's image resolved to at publish.
type Image struct {
	// Descriptor names the image's manifest or index; its Platform is kept and
	// its Annotations are kept where they are dev.sealift.synthesised.
	Descriptor ocispec.Descriptor
	// Source is the reference it was resolved from.
	Source string
}

// BuildRelease makes the documents of a release: those to push first, and the
// root index that names them and the images. The result depends on nothing but
// the arguments. created is written into the documents unless it is zero; images
// has one entry for each component key.
//
// The app manifest is encoded as `oras push` writes it and the root index as RFC
// 8785 canonical JSON, so that both can be made with other tools; docs/format.md
// has the recipe.
func BuildRelease(app *App, images map[string]Image, created time.Time) (parts []Blob, root Blob, err error) {
	parts, manifest, err := buildApp(app, created)
	if err != nil {
		return nil, Blob{}, err
	}
	parts = append(parts, manifest)
	index := ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageIndex,
		ArtifactType: TypeRelease,
		Annotations:  releaseAnnotations(app.Template, created),
	}
	first := manifest.Descriptor
	first.ArtifactType = TypeApp
	index.Manifests, err = children(app.Template, images)
	if err != nil {
		return nil, Blob{}, err
	}
	index.Manifests = slices.Insert(index.Manifests, 0, first)
	raw, err := json.Marshal(index)
	if err != nil {
		return nil, Blob{}, fmt.Errorf("encode release: %w", err)
	}
	if raw, err = jsoncanonicalizer.Transform(raw); err != nil {
		return nil, Blob{}, fmt.Errorf("canonicalise release: %w", err)
	}
	desc := Describe(ocispec.MediaTypeImageIndex, raw)
	desc.ArtifactType = TypeRelease
	return parts, Blob{desc, raw}, nil
}

// buildApp makes the config, the file layers and the app manifest.
func buildApp(app *App, created time.Time) (parts []Blob, manifest Blob, err error) {
	config := Blob{Describe(MediaTypeConfig, app.Config), app.Config}
	parts = []Blob{config}
	var layers []ocispec.Descriptor
	for _, source := range sortedKeys(app.Files) {
		desc := Describe(MediaTypeFile, app.Files[source])
		parts = append(parts, Blob{desc, app.Files[source]})
		desc.Annotations = map[string]string{ocispec.AnnotationTitle: source}
		layers = append(layers, desc)
	}
	if layers == nil {
		// image-spec wants a layer in every manifest and names this one for
		// artifacts that have none.
		layers = []ocispec.Descriptor{ocispec.DescriptorEmptyJSON}
		parts = append(parts, Blob{Describe(ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data), ocispec.DescriptorEmptyJSON.Data})
	}
	doc := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: TypeApp,
		Config:       config.Descriptor,
		Layers:       layers,
	}
	if !created.IsZero() {
		doc.Annotations = map[string]string{ocispec.AnnotationCreated: created.UTC().Format(time.RFC3339)}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, Blob{}, fmt.Errorf("encode app manifest: %w", err)
	}
	return parts, Blob{Describe(ocispec.MediaTypeImageManifest, raw), raw}, nil
}

func releaseAnnotations(t *Template, created time.Time) map[string]string {
	a := map[string]string{
		AnnotationID:              t.ID,
		ocispec.AnnotationTitle:   t.ShortName(),
		ocispec.AnnotationVersion: t.Version,
	}
	if t.Title != "" {
		a[ocispec.AnnotationTitle] = t.Title
	}
	if t.Vendor != "" {
		a[ocispec.AnnotationVendor] = t.Vendor
	}
	if t.Description != "" {
		a[ocispec.AnnotationDescription] = t.Description
	}
	if !created.IsZero() {
		a[ocispec.AnnotationCreated] = created.UTC().Format(time.RFC3339)
	}
	return a
}

// children returns one descriptor for each distinct image, ordered by the first
// component that runs it.
func children(t *Template, images map[string]Image) ([]ocispec.Descriptor, error) {
	var list []ocispec.Descriptor
	for _, key := range t.Keys() {
		image, ok := images[key]
		if !ok {
			return nil, fmt.Errorf("component %s has no image", key)
		}
		at := slices.IndexFunc(list, func(d ocispec.Descriptor) bool { return d.Digest == image.Descriptor.Digest })
		if at >= 0 {
			list[at].Annotations[AnnotationComponents] += "," + key
			continue
		}
		d := ocispec.Descriptor{
			MediaType:    image.Descriptor.MediaType,
			Digest:       image.Descriptor.Digest,
			Size:         image.Descriptor.Size,
			Platform:     image.Descriptor.Platform,
			ArtifactType: image.Descriptor.ArtifactType,
			Annotations:  map[string]string{AnnotationComponents: key, AnnotationSource: image.Source},
		}
		if s := image.Descriptor.Annotations[AnnotationSynthesised]; s != "" {
			d.Annotations[AnnotationSynthesised] = s
		}
		list = append(list, d)
	}
	return list, nil
}

// Release is a release read back from a store.
type Release struct {
	// Root names the release's index.
	Root ocispec.Descriptor
	App  *App
	// Images holds the descriptor of each component's image, by key.
	Images map[string]ocispec.Descriptor
}

// ReadRelease reads the release at root with its template and carried files,
// each verified against its digest. It fails with [ErrNotRelease] for any other
// artifact, with [ErrInvalidRelease] when the documents break the format or
// contradict each other, and with other errors when content is missing or not
// what its digest says. It does not look at signatures, nor at the images beyond
// their descriptors.
func ReadRelease(ctx context.Context, src content.Fetcher, root ocispec.Descriptor) (*Release, error) {
	index, _, err := FetchManifest(ctx, src, root)
	if err != nil {
		return nil, fmt.Errorf("read release: %w", err)
	}
	if root.MediaType != ocispec.MediaTypeImageIndex || index.ArtifactType != TypeRelease || len(index.Manifests) == 0 {
		return nil, fmt.Errorf("%s: %w", root.Digest, ErrNotRelease)
	}
	app, err := readApp(ctx, src, index.Manifests[0])
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", root.Digest, err)
	}
	r := &Release{Root: root, App: app, Images: map[string]ocispec.Descriptor{}}
	r.Root.ArtifactType = TypeRelease
	t := app.Template
	if id, v := index.Annotations[AnnotationID], index.Annotations[ocispec.AnnotationVersion]; id != t.ID || v != t.Version {
		return nil, invalid(fmt.Errorf("%s calls itself %s %s, its template says %s %s", root.Digest, id, v, t.ID, t.Version))
	}
	if err := r.addImages(index.Manifests[1:]); err != nil {
		return nil, invalid(fmt.Errorf("%s: %w", root.Digest, err))
	}
	return r, nil
}

// addImages assigns the images of a root index to the components they name. A
// child that names none is an addition that this version does not know.
func (r *Release) addImages(list []ocispec.Descriptor) error {
	t := r.App.Template
	for _, d := range list {
		keys, named := d.Annotations[AnnotationComponents]
		if !named {
			continue
		}
		if !IsManifest(d.MediaType) {
			return fmt.Errorf("the image of %s has media type %q", keys, d.MediaType)
		}
		for key := range strings.SplitSeq(keys, ",") {
			if _, known := t.Components[key]; !known && len(t.UnknownFeatures()) == 0 {
				return fmt.Errorf("has an image for component %q, which the template lacks", key)
			}
			if _, twice := r.Images[key]; twice {
				return fmt.Errorf("gives component %s two images", key)
			}
			r.Images[key] = d
		}
	}
	for _, key := range t.Keys() {
		if _, ok := r.Images[key]; !ok {
			return fmt.Errorf("has no image for component %s", key)
		}
	}
	return nil
}

func readApp(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor) (*App, error) {
	data, err := fetchPart(ctx, src, desc, MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(desc.MediaType, data)
	if err != nil {
		return nil, invalid(fmt.Errorf("manifest %s: %w", desc.Digest, err))
	}
	if desc.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != TypeApp || len(m.Blobs) == 0 || m.Blobs[0].MediaType != MediaTypeConfig {
		return nil, fmt.Errorf("first manifest %s is not an app manifest: %w", desc.Digest, ErrNotRelease)
	}
	app := &App{}
	if app.Config, err = fetchPart(ctx, src, m.Blobs[0], MaxConfigBytes); err != nil {
		return nil, err
	}
	if app.Template, err = ParseConfig(app.Config); err != nil {
		return nil, invalid(err)
	}
	if app.Files, err = readLayers(ctx, src, m.Blobs[1:]); err != nil {
		return nil, err
	}
	if err := app.checkFiles(); err != nil {
		return nil, invalid(err)
	}
	return app, nil
}

// fetchPart is Fetch for what a release names: that it names too much is its own
// fault.
func fetchPart(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor, limit int64) ([]byte, error) {
	data, err := Fetch(ctx, src, desc, limit)
	if errors.Is(err, errdef.ErrSizeExceedsLimit) {
		err = invalid(err)
	}
	return data, err
}

// readLayers reads the carried files. Their titles become paths when they are
// unpacked, so that none may lead elsewhere or stand for two contents.
func readLayers(ctx context.Context, src content.Fetcher, layers []ocispec.Descriptor) (map[string][]byte, error) {
	files := map[string][]byte{}
	total := int64(0)
	for _, l := range layers {
		if l.MediaType != MediaTypeFile {
			continue
		}
		title := l.Annotations[ocispec.AnnotationTitle]
		if _, twice := files[title]; twice || !validSource(title) {
			return nil, invalid(fmt.Errorf("carried file %s has a bad or repeated title, %q", l.Digest, title))
		}
		data, err := fetchPart(ctx, src, l, MaxFileBytes)
		if err != nil {
			return nil, err
		}
		if total += l.Size; total > MaxFilesBytes {
			return nil, invalid(fmt.Errorf("the carried files are more than the %d bytes accepted", MaxFilesBytes))
		}
		files[title] = data
	}
	return files, nil
}

// checkFiles fails when a component names a file that the release lacks.
func (a *App) checkFiles() error {
	for _, key := range a.Template.Keys() {
		for target, file := range a.Template.Components[key].Files {
			if _, ok := a.Files[file.Source]; !ok {
				return fmt.Errorf("component %s: file %s is not carried by the release (%s)", key, target, file.Source)
			}
		}
	}
	return nil
}
