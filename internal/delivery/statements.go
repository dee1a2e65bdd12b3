package delivery

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// Statement is something that refers to an artifact or to a part of it and is no
// signature: an attestation, or an SBOM or a report that nobody signed.
type Statement struct {
	// Component and Platform say which part it is about; both are "" for the whole.
	Component string `json:"component,omitempty"`
	Platform  string `json:"platform,omitempty"`
	// Type is the type of its predicate, a URI, or its artifact type.
	Type string `json:"type"`
	// Manifest carries it.
	Manifest digest.Digest `json:"manifest"`
	// Signed says that it claims to be signed, and Key by which key, or Certificate
	// by whom; nothing is verified.
	Signed      bool                `json:"signed,omitempty"`
	Key         string              `json:"key,omitempty"`
	Certificate *signer.Certificate `json:"certificate,omitempty"`
}

// maxStated bounds the manifests that are asked what refers to them.
const maxStated = 500

// Statements lists what is stated about f and, where it is a release, about the images
// it runs and their manifests for platforms, in that order. What can be listed is
// returned with an error too, which tells of what is damaged.
func Statements(ctx context.Context, f Found, r *artifact.Release) ([]Statement, error) {
	var all []Statement
	var errs []error
	asked := map[digest.Digest]bool{}
	ask := func(desc ocispec.Descriptor, component, platform string) {
		if asked[desc.Digest] || len(asked) == maxStated || desc.Digest.Algorithm() != digest.SHA256 {
			return
		}
		asked[desc.Digest] = true
		list, err := statementsOf(ctx, f.Store, desc)
		for _, s := range list {
			s.Component, s.Platform = component, platform
			all = append(all, s)
		}
		errs = append(errs, err)
	}
	ask(f.Descriptor, "", "")
	if r == nil {
		return all, errors.Join(errs...)
	}
	for _, key := range r.App.Template.Keys() {
		image := r.Images[key]
		ask(image, key, "")
		m, _, err := artifact.FetchManifest(ctx, f.Store, image)
		if errors.Is(err, errdef.ErrNotFound) {
			continue // media may lack it
		} else if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, d := range m.Manifests {
			if d.Platform != nil && d.Platform.OS != "" && d.Platform.OS != "unknown" {
				ask(d, key, mirror.FormatPlatform(*d.Platform))
			}
		}
	}
	return all, errors.Join(errs...)
}

// statementsOf lists what is stated about one manifest.
func statementsOf(ctx context.Context, store Store, desc ocispec.Descriptor) ([]Statement, error) {
	var all []Statement
	attested, err := signer.Attestations(ctx, store, desc, nil)
	seen := map[digest.Digest]bool{}
	for _, a := range attested {
		seen[a.Manifest.Digest] = true
		all = append(all, Statement{Type: a.Type, Manifest: a.Manifest.Digest, Signed: true, Key: a.Key, Certificate: a.Certificate})
	}
	signatures, _ := signer.Signatures(ctx, store, desc) // told of where signatures are listed
	for _, s := range signatures {
		seen[s.Manifest.Digest] = true
	}
	var others []Statement
	listErr := store.Referrers(ctx, desc, "", func(page []ocispec.Descriptor) error {
		for _, d := range page {
			if !seen[d.Digest] && len(others) < maxStated {
				seen[d.Digest] = true
				others = append(others, Statement{Type: cmp.Or(d.ArtifactType, d.MediaType), Manifest: d.Digest})
			}
		}
		return nil
	})
	if errors.Is(listErr, errdef.ErrNotFound) {
		listErr = nil
	}
	slices.SortFunc(others, func(a, b Statement) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Manifest, b.Manifest))
	})
	return append(all, others...), errors.Join(err, listErr)
}
