package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// Trust says whose signatures count. The zero value trusts nobody.
type Trust struct {
	// Keys and Identities are accepted for anything, any one of them, where there is
	// no Policy.
	Keys       []*signer.Key
	Identities []signer.Identity
	// Policy decides by the id of a release, and on an update of a policy by who may
	// replace it. Anything else is not accepted.
	Policy *signer.Policy
	// Now is what the windows of the policy are compared with.
	Now time.Time
}

// Any reports whether anybody's signature could count.
func (t Trust) Any() bool { return len(t.Keys)+len(t.Identities) > 0 || t.Policy != nil }

// VerifySignature checks the signatures of f, whatever it is. It fails as
// [signer.Verify] does, with [SignatureError], and under a policy as
// [signer.Policy.Verify] does. Damage to the media that may have hidden a signature is
// part of the error.
func VerifySignature(ctx context.Context, f Found, t Trust) (*signer.Evidence, error) {
	if f.Damage != nil {
		return nil, f.Damage
	}
	var evidence *signer.Evidence
	var err error
	if t.Policy != nil {
		evidence, err = t.decide(ctx, f)
	} else if evidence, err = signer.Verify(ctx, f.Store, f.Descriptor, t.Keys, t.Identities...); err != nil {
		err = signatureError(f.Name, t, err)
	}
	if f.Media != nil && errors.Is(err, signer.ErrUnsigned) {
		err = errors.Join(f.Media.Damage(ctx), err)
	}
	return evidence, err
}

// Accept decides whether f may be used or carried on. It is [VerifySignature], but lets be
// an update of the policy that is no newer than the policy of t, which is returned then in
// place of evidence: media must not turn bad by having been used. It fails also as
// [artifact.ReadPolicyUpdate] does, for what calls itself an update.
func Accept(ctx context.Context, f Found, t Trust) (*signer.Evidence, *artifact.PolicyUpdate, error) {
	if f.Damage != nil {
		return nil, nil, f.Damage
	}
	if update, err := t.superseded(ctx, f); update != nil || err != nil {
		return nil, update, err
	}
	evidence, err := VerifySignature(ctx, f, t)
	return evidence, nil, err
}

// decide has the policy decide on f: on an update of itself by who may replace it.
func (t Trust) decide(ctx context.Context, f Found) (*signer.Evidence, error) {
	if is, err := IsPolicy(ctx, f); err != nil {
		return nil, err
	} else if is {
		evidence, err := t.Policy.VerifyUpdate(ctx, f.Store, f.Descriptor, t.Now)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		return evidence, nil
	}
	id, version, err := Claim(ctx, f)
	if errors.Is(err, artifact.ErrNotRelease) {
		return nil, fmt.Errorf("%s: a policy goes by the id of a release: %w: %w", f.Name, err, signer.ErrNotAccepted)
	} else if err != nil {
		return nil, err
	}
	evidence, err := t.Policy.Verify(ctx, f.Store, f.Descriptor, id, version, t.Now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return evidence, nil
}

// Claim returns the id and the version of a release, as its root says. A signature of
// the root is one of them too; before it was verified they are only a claim. It fails
// with artifact.ErrNotRelease, and with artifact.ErrInvalidRelease for what cannot be
// an id or a version.
func Claim(ctx context.Context, f Found) (id, version string, err error) {
	m, _, err := artifact.FetchManifest(ctx, f.Store, f.Descriptor)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", f.Name, err)
	}
	if m.ArtifactType != artifact.TypeRelease {
		return "", "", fmt.Errorf("%s: %w", f.Name, artifact.ErrNotRelease)
	}
	id, version = m.Annotations[artifact.AnnotationID], m.Annotations[ocispec.AnnotationVersion]
	if artifact.CheckID(id) != nil || artifact.CheckVersion(version) != nil {
		return "", "", fmt.Errorf("%s: %w: it calls itself %.100q %.100q", f.Name, artifact.ErrInvalidRelease, id, version)
	}
	return id, version, nil
}

// LeftBehindError reports a copy that would not carry what a release was accepted for.
type LeftBehindError struct {
	// Name is the artifact, Digest what is left: the manifest of a signature, or of an
	// attestation that a rule wants.
	Name   string
	Digest digest.Digest
}

// Error names both.
func (e *LeftBehindError) Error() string {
	return fmt.Sprintf("%s was accepted for %s, which would stay behind: the source does not list it any more", e.Name, e.Digest)
}

// CheckCarried fails with [LeftBehindError] unless a plan carries, with its root, every
// signature and attestation that the root was accepted for: who lists them may have
// changed its mind in between. Without evidence, e nil, there are none.
func CheckCarried(root mirror.Root, e *signer.Evidence) error {
	if e == nil {
		return nil
	}
	carried := map[digest.Digest]bool{}
	for _, d := range root.Referrers {
		carried[d.Digest] = true
	}
	for _, t := range root.Tags {
		carried[t.Descriptor.Digest] = true
	}
	for _, s := range e.Signatures {
		if !carried[s.Manifest.Digest] {
			return &LeftBehindError{root.Name, s.Manifest.Digest}
		}
	}
	for _, a := range e.Attestations {
		if !carried[a.Manifest.Digest] {
			return &LeftBehindError{root.Name, a.Manifest.Digest}
		}
	}
	return nil
}
