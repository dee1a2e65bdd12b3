package signer

import (
	"context"
	"reflect"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Counted verifies as the functions of the names of its methods do. Certificates may be
// verified Left times, which counts down.
type Counted struct{ Left int }

func (c *Counted) Verify(ctx context.Context, src Source, subject ocispec.Descriptor, identities ...Identity) (*Evidence, error) {
	by := newAccepted(nil, identities)
	by.left = c.Left
	evidence, err := by.verify(ctx, src, subject)
	c.Left = by.left
	return evidence, err
}

func (c *Counted) Attestations(ctx context.Context, src Source, subject ocispec.Descriptor, identities ...Identity) ([]Attestation, []error) {
	by := newAccepted(nil, identities)
	by.left = c.Left
	found, errs := listAttestations(ctx, src, subject, nil, by)
	c.Left = by.left
	return found, errs
}

// AreCompiled reports whether the expressions of an identity are not compiled again.
func (i Identity) AreCompiled() bool {
	again, err := i.compiled()
	return err == nil && again == i
}

// PolicyFields are the fields of each object in a policy, sorted.
func PolicyFields() map[string][]string {
	all := map[string][]string{}
	for name, v := range map[string]any{"policy": policyFile{}, "key": fileKey{}, "rule": fileRule{}, "require": fileRequire{}, "updates": fileUpdates{}, "trustedRoot": fileRoot{}, "identity": fileIdentity{}, "attestation": fileAttestation{}} {
		for i := range reflect.TypeOf(v).NumField() {
			all[name] = append(all[name], reflect.TypeOf(v).Field(i).Tag.Get("json"))
		}
		slices.Sort(all[name])
	}
	return all
}
