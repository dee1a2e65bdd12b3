package publish

import (
	"context"
	"errors"
	"slices"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// Policy is an update of a site's policy ready to be pushed.
type Policy struct {
	// Version is that of the policy, and in digits the tag.
	Version int
	Root    artifact.Blob

	parts []artifact.Blob
}

// PreparePolicy makes an update of a policy and its version, which has to be that in
// the policy.
func PreparePolicy(version int, data []byte) (*Policy, error) {
	parts, root, err := artifact.BuildPolicy(version, data)
	return &Policy{version, root, parts}, err
}

// PolicyTarget is a repository that an update is pushed to, of a registry or on media.
type PolicyTarget interface {
	content.Storage
	content.TagResolver
}

// Check fails with [ErrVersionTaken] when repo holds another policy under the version,
// and reports whether it holds this very one.
func (p *Policy) Check(ctx context.Context, repo content.Resolver) (published bool, err error) {
	return check(ctx, repo, p.tag(), p.Root.Descriptor)
}

func (p *Policy) tag() string { return strconv.Itoa(p.Version) }

// Push pushes the update, and then tags it with its version. BeforeTag is called when
// everything stands but the tag, to sign the root: nobody who finds the version finds it
// unsigned; it may be nil. Pushing the same update again changes nothing.
//
// It fails with [ErrVersionTaken] when the version has other content. Anything else
// that fails is a [*mirror.IncompleteError]: pushing again goes on there.
func (p *Policy) Push(ctx context.Context, repo PolicyTarget, beforeTag func(context.Context, ocispec.Descriptor) error) error {
	if _, err := p.Check(ctx, repo); err != nil {
		return err // what is taken needs no signature
	}
	var stored, total int64
	documents := append(slices.Clone(p.parts), p.Root)
	for _, b := range documents {
		total += b.Descriptor.Size
	}
	err := func() error {
		for _, b := range documents {
			if err := push(ctx, repo, b); err != nil {
				return err
			}
			stored += b.Descriptor.Size
		}
		if beforeTag != nil {
			if err := beforeTag(ctx, p.Root.Descriptor); err != nil {
				return err
			}
		}
		return tag(ctx, repo, p.tag(), p.Root.Descriptor)
	}()
	if err == nil || errors.Is(err, ErrVersionTaken) {
		return err
	}
	return &mirror.IncompleteError{Stored: stored, Total: total, Err: err}
}
