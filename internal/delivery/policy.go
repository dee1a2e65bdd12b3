package delivery

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/signer"
)

// FoundPolicy is an update of a policy that a location names. Until it was verified,
// its version is a claim.
type FoundPolicy struct {
	Found
	*artifact.PolicyUpdate
}

// ChoosePolicy returns, of the updates of a policy in list, the one with the highest
// version. It goes by what each manifest says and reads nothing else; what was chosen
// is to be verified next. One that is damaged or invalid is in nobody's way while there
// is another. It fails with artifact.ErrNotPolicy, and with *SeveralError for two of one
// version.
func ChoosePolicy(ctx context.Context, list []Found) (FoundPolicy, error) {
	var chosen []FoundPolicy // of the highest version
	var damage []error
	for _, f := range list {
		p, err := readPolicy(ctx, f)
		switch {
		case errors.Is(err, artifact.ErrNotPolicy):
		case err != nil:
			damage = append(damage, err)
		case len(chosen) == 0 || p.Version > chosen[0].Version:
			chosen = []FoundPolicy{p}
		case p.Version == chosen[0].Version:
			chosen = append(chosen, p)
		}
	}
	switch {
	case len(chosen) == 0 && len(damage) == 0:
		return FoundPolicy{}, artifact.ErrNotPolicy
	case len(chosen) == 0:
		return FoundPolicy{}, errors.Join(damage...)
	}
	several := &SeveralError{}
	for _, p := range chosen {
		several.Names = append(several.Names, p.Name)
	}
	if slices.ContainsFunc(chosen, func(p FoundPolicy) bool { return p.Document.Digest != chosen[0].Document.Digest }) {
		return FoundPolicy{}, several
	}
	return chosen[0], nil
}

// readPolicy reads the manifest of an update and compares its name with it.
func readPolicy(ctx context.Context, f Found) (FoundPolicy, error) {
	if f.Damage != nil {
		return FoundPolicy{}, f.Damage
	}
	u, err := artifact.ReadPolicyUpdate(ctx, f.Store, f.Descriptor)
	if err != nil {
		return FoundPolicy{}, fmt.Errorf("%s: %w", f.Name, err)
	}
	if !f.called(path.Base(f.Repository), strconv.Itoa(u.Version)) {
		return FoundPolicy{}, fmt.Errorf("%s is version %d of a policy: %w", f.Name, u.Version, ErrMisnamed)
	}
	return FoundPolicy{f, u}, nil
}

// IsPolicy reports whether f is an update of a policy. It fails as
// [artifact.FetchManifest] does.
func IsPolicy(ctx context.Context, f Found) (bool, error) {
	m, _, err := artifact.FetchManifest(ctx, f.Store, f.Descriptor)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Name, err)
	}
	return m.ArtifactType == artifact.TypePolicy, nil
}

// superseded returns the update that f is where it is to the version of a policy that the
// policy of t has already, or an older one: it can change nothing, whoever signed it, and
// those who did may have no say any more. For all else it returns nil. It fails as
// [artifact.ReadPolicyUpdate] does, but not for what is no update.
func (t Trust) superseded(ctx context.Context, f Found) (*artifact.PolicyUpdate, error) {
	if t.Policy == nil {
		return nil, nil
	}
	u, err := artifact.ReadPolicyUpdate(ctx, f.Store, f.Descriptor)
	switch {
	case errors.Is(err, artifact.ErrNotPolicy):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	case u.Version > t.Policy.Version:
		return nil, nil
	}
	return u, nil
}

// ReadPolicy returns the policy that an update brings, and its bytes; signatures are not
// looked at. It fails with artifact.ErrInvalidPolicy, which wraps the findings of
// [signer.ParsePolicy], and with other errors when content is missing or not what its
// digest says.
func ReadPolicy(ctx context.Context, f FoundPolicy) (*signer.Policy, []byte, error) {
	data, err := artifact.Fetch(ctx, f.Store, f.Document, artifact.MaxPolicyBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: read the policy: %w", f.Name, err)
	}
	p, err := signer.ParsePolicy(artifact.PolicyFile, data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", f.Name, artifact.ErrInvalidPolicy, err)
	}
	if p.Version != f.Version {
		return nil, nil, fmt.Errorf("%s: %w: its manifest says version %d, and its policy %d", f.Name, artifact.ErrInvalidPolicy, f.Version, p.Version)
	}
	return p, data, nil
}

// VerifiedPolicy is an update of a policy that the present one accepts.
type VerifiedPolicy struct {
	FoundPolicy
	Policy *signer.Policy
	// Data is the policy as it is written.
	Data     []byte
	Evidence *signer.Evidence
}

// VerifyPolicy checks that those who may replace the present policy have signed an
// update, and only then reads what it brings. It fails as
// [signer.Policy.VerifyUpdate] and [ReadPolicy] do. Versions are not compared.
func VerifyPolicy(ctx context.Context, f FoundPolicy, present *signer.Policy, now time.Time) (*VerifiedPolicy, error) {
	evidence, err := VerifySignature(ctx, f.Found, Trust{Policy: present, Now: now})
	if err != nil {
		return nil, err
	}
	p, data, err := ReadPolicy(ctx, f)
	if err != nil {
		return nil, err
	}
	return &VerifiedPolicy{f, p, data, evidence}, nil
}

// Brings reports whether an update brings the very policy that data is.
func (f FoundPolicy) Brings(data []byte) bool { return f.Document.Digest == digest.FromBytes(data) }
