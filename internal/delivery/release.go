package delivery

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/signer"
)

// ErrMisnamed reports a name or tag that disagrees with what the signed content
// says of itself. Names come from unsigned places.
var ErrMisnamed = errors.New("name disagrees with the signed content")

// SeveralError reports a location that names more than one artifact or app where
// one is wanted.
type SeveralError struct {
	// Names are the full names to choose from.
	Names []string
}

// Error lists the names.
func (e *SeveralError) Error() string { return "there are several: " + strings.Join(e.Names, ", ") }

// VersionError reports a version that is not there.
type VersionError struct {
	Version string
	Have    []string
}

// Error names what is there instead.
func (e *VersionError) Error() string {
	return fmt.Sprintf("no version %s, only %s", e.Version, strings.Join(e.Have, ", "))
}

// Choose returns, of the releases in list, which must be of one app, the one of
// version, or with version "" the highest. It goes by what each root says of
// itself and reads nothing else, so that a damaged or hostile release beside the
// one that is wanted is in nobody's way; what was chosen is to be verified next.
// It fails with artifact.ErrNotRelease, *SeveralError and *VersionError.
func Choose(ctx context.Context, list []Found, version string) (Found, error) {
	var chosen *Found
	var highest, id string
	var names, have []string
	var damage []error
	several := false
	for i, f := range list {
		if f.Damage != nil {
			damage = append(damage, f.Damage)
			continue
		}
		m, _, err := artifact.FetchManifest(ctx, f.Store, f.Descriptor)
		if err != nil {
			damage = append(damage, fmt.Errorf("%s: %w", f.Name, err))
			continue
		}
		if m.ArtifactType != artifact.TypeRelease {
			continue
		}
		several = several || id != "" && id != m.Annotations[artifact.AnnotationID]
		id = m.Annotations[artifact.AnnotationID]
		v := m.Annotations[ocispec.AnnotationVersion]
		if err := checkName(f, m.Annotations[artifact.AnnotationID], v); err != nil {
			damage = append(damage, err)
			continue
		}
		names, have = append(names, f.Name), append(have, v)
		if version != "" && v != version || artifact.CheckVersion(v) != nil {
			continue
		}
		if chosen == nil || artifact.CompareVersions(v, highest) > 0 {
			chosen, highest = &list[i], v
		}
	}
	switch {
	case several:
		return Found{}, &SeveralError{names}
	case chosen != nil:
		return *chosen, nil
	case len(damage) > 0:
		return Found{}, errors.Join(damage...)
	case len(names) == 0:
		return Found{}, artifact.ErrNotRelease
	}
	return Found{}, &VersionError{version, have}
}

// Release is a verified release.
type Release struct {
	Found
	*artifact.Release
	Evidence *signer.Evidence
}

// Verify checks the signatures of f, and only then reads the release. It fails as
// [VerifySignature] and [artifact.ReadRelease] do, and with [ErrMisnamed] for a
// release under the version of another.
func Verify(ctx context.Context, f Found, t Trust) (*Release, error) {
	evidence, err := VerifySignature(ctx, f, t)
	if err != nil {
		return nil, err
	}
	r, err := ReadRelease(ctx, f)
	if err != nil {
		return nil, err
	}
	return &Release{f, r, evidence}, nil
}

// SignatureError reports an artifact without an acceptable signature. It wraps
// the error of [signer.Verify].
type SignatureError struct {
	Name string
	// Given are the fingerprints of the keys and the identities that were accepted,
	// Claimed those that the signatures found claim to be by.
	Given, Claimed []string
	// Identities says that identities are among those given.
	Identities bool
	Err        error
}

// Error says in one sentence what is wrong; Err has every signature looked at.
func (e *SignatureError) Error() string {
	switch {
	case errors.Is(e.Err, signer.ErrUnsigned):
		return e.Name + " is not signed"
	case errors.Is(e.Err, signer.ErrNotAccepted):
		given := "the key"
		if e.Identities {
			given = "the key or identity"
		}
		text := fmt.Sprintf("%s is not signed by %s given (%s)", e.Name, given, strings.Join(e.Given, ", "))
		if len(e.Claimed) > 0 {
			text += "; it claims to be signed by " + strings.Join(e.Claimed, ", ")
		}
		if failed := new(signer.VerifyError); errors.As(e.Err, &failed) && failed.More {
			text += "; it has more signatures than are looked at"
		}
		return text
	}
	return e.Name + ": " + e.Err.Error()
}

// Unwrap returns the error of the verification.
func (e *SignatureError) Unwrap() error { return e.Err }

func signatureError(name string, t Trust, err error) error {
	e := &SignatureError{Name: name, Identities: len(t.Identities) > 0, Err: err}
	for _, k := range t.Keys {
		e.Given = append(e.Given, k.Fingerprint())
	}
	for _, id := range t.Identities {
		e.Given = append(e.Given, id.String())
	}
	var verify *signer.VerifyError
	if errors.As(err, &verify) {
		for _, r := range verify.Rejected {
			if by := r.Signer(); by != "" && !slices.Contains(e.Claimed, by) {
				e.Claimed = append(e.Claimed, by)
			}
		}
	}
	return e
}

// ReadRelease reads a release and compares the name it was found under with what
// it says of itself. Its signature is not looked at.
func ReadRelease(ctx context.Context, f Found) (*artifact.Release, error) {
	if f.Damage != nil {
		return nil, f.Damage
	}
	r, err := artifact.ReadRelease(ctx, f.Store, f.Descriptor)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return r, checkName(f, r.App.Template.ID, r.App.Template.Version)
}

// versionLike matches what people read as a version: 1.1.0, 1.1, v2.
var versionLike = regexp.MustCompile(`^v?[0-9]`)

// checkName fails with [ErrMisnamed] when the tag of f cannot be that of the
// release of id and version: it may be the version, the alias of it, a piece of
// its digest, or a word that is no version at all, such as latest.
func checkName(f Found, id, version string) error {
	if f.called(path.Base(id), version) {
		return nil
	}
	return fmt.Errorf("%s says of itself that it is %s %s: %w", f.Name, id, version, ErrMisnamed)
}

// CheckName fails with [ErrMisnamed] where a release, or an update of a policy, says of
// itself that it is another than the name it was found under. Anything else says
// nothing of itself. Its signature is not looked at. It fails as
// [artifact.FetchManifest] does.
func CheckName(ctx context.Context, f Found) error {
	if f.Damage != nil {
		return f.Damage
	}
	m, _, err := artifact.FetchManifest(ctx, f.Store, f.Descriptor)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	switch m.ArtifactType {
	case artifact.TypeRelease:
		return checkName(f, m.Annotations[artifact.AnnotationID], m.Annotations[ocispec.AnnotationVersion])
	case artifact.TypePolicy:
		_, err = readPolicy(ctx, f)
	}
	return err
}

// called reports whether the tag of f can be that of a version of what is called short.
func (f Found) called(short, version string) bool {
	tag := strings.TrimPrefix(f.Tag, short+"-")
	hex, byDigest := strings.CutPrefix(f.Tag, "digest-")
	return tag == version || byDigest && strings.HasPrefix(f.Descriptor.Digest.Encoded(), hex) || !byDigest && !versionLike.MatchString(tag)
}
