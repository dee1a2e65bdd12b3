// Package artifact holds the documents of a delivery as pure data: the template
// that describes an application, the release that binds a template to the exact
// images it names, and the manifests a release is made of.
//
// A template is authored as YAML and read with [ParseTemplate], which reports
// every finding at once with its position. A release is an OCI image index
// (image-spec v1.1, https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md)
// built by [BuildRelease] and read back, from any store, with [ReadRelease].
// docs/format.md describes both byte by byte.
//
// The package does no I/O of its own: bytes come in as arguments, through an
// [io/fs.FS] or through an oras-go fetcher, and the same input always gives the
// same bytes. Everything read is taken to be hostile; sizes are capped and
// digests are checked before a byte is interpreted.
package artifact

import (
	// go-digest knows only the algorithms that are linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Media types and artifact types of a release.
const (
	// TypeRelease is the artifactType of a release's root index.
	TypeRelease = "application/vnd.sealift.release.v1"
	// TypeApp is the artifactType of the manifest that carries the template.
	TypeApp = "application/vnd.sealift.app.v1"
	// MediaTypeConfig is the media type of the template, stored as RFC 8785
	// canonical JSON in the config of the app manifest.
	MediaTypeConfig = "application/vnd.sealift.app.config.v1+json"
	// MediaTypeFile is the media type of one carried file, a layer of the app
	// manifest titled with the file's source path.
	MediaTypeFile = "application/vnd.sealift.app.file.v1"
)

// Annotations of a release beyond those that image-spec predefines.
const (
	// AnnotationID carries the application's id on the root index.
	AnnotationID = "dev.sealift.id"
	// AnnotationComponents lists, on each image of the root index, the keys of
	// the components that run it, sorted and separated by commas.
	AnnotationComponents = "dev.sealift.components"
	// AnnotationSource is the reference an image had when it was published.
	AnnotationSource = "dev.sealift.source"
	// AnnotationSynthesised marks a manifest that was made for an image whose
	// archive carried none; its value names the kind of archive.
	AnnotationSynthesised = "dev.sealift.synthesised"
)

// Caps on what is read whole into memory.
const (
	// MaxManifestBytes is the largest manifest or index accepted, the limit
	// that registries themselves apply.
	MaxManifestBytes = 4 << 20
	// MaxConfigBytes is the largest stored template accepted.
	MaxConfigBytes = 4 << 20
	// MaxFileBytes is the largest carried file accepted.
	MaxFileBytes = 16 << 20
	// MaxFilesBytes is the most that the carried files of a release may be
	// together.
	MaxFilesBytes = 64 << 20
)
