package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/signer"
)

// policyText is a policy that one key may replace.
func policyText(version int, key *signer.Key) string {
	pem := strings.ReplaceAll(strings.TrimSpace(string(key.PEM())), "\n", "\n      ")
	return fmt.Sprintf("apiVersion: sealift/v1\nkind: Policy\nversion: %d\nkeys:\n  officer:\n    pem: |\n      %s\nupdates: {keys: [officer]}\n", version, pem)
}

// policy adds an update under name, whatever it says, signed by s unless it is nil.
func (m media) policy(name string, version int, text string, s *signer.Signer) (root, document ocispec.Descriptor) {
	m.Helper()
	parts, made, err := artifact.BuildPolicy(version, []byte(text))
	if err != nil {
		m.Fatal(err)
	}
	colon := strings.LastIndexByte(name, ':')
	m.write(func(ctx context.Context, w *layout.Writer) error {
		repo := w.WritableRepository(name[:colon])
		for _, b := range append(parts, made) {
			if err := repo.Push(ctx, b.Descriptor, bytes.NewReader(b.Data)); err != nil {
				return err
			}
		}
		if err := repo.Tag(ctx, made.Descriptor, name[colon+1:]); err != nil || s == nil {
			return err
		}
		_, err := signer.Sign(ctx, repo, made.Descriptor, name[:colon], s, signer.SignOptions{})
		return err
	})
	return made.Descriptor, parts[1].Descriptor
}

func parsePolicy(t *testing.T, text string) *signer.Policy {
	t.Helper()
	p, err := signer.ParsePolicy("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChoosePolicy(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	five, six := policyText(5, s.Key()), policyText(6, s.Key())
	tests := []struct {
		name string
		make func(media)
		want string
		err  func(error) bool
	}{
		{"the highest", func(m media) {
			m.policy("r.example/policy:5", 5, five, s)
			m.policy("r.example/policy:10", 10, policyText(10, s.Key()), s)
		}, "r.example/policy:10", nil},
		{"among others", func(m media) {
			m.release("r.example/shop:1.0.0", "shop", "1.0.0", s)
			m.policy("r.example/policy:5", 5, five, nil)
		}, "r.example/policy:5", nil},
		{"under a word", func(m media) { m.policy("r.example/policy:latest", 5, five, s) }, "r.example/policy:latest", nil},
		{"twice the same", func(m media) { m.policy("r.example/a:5", 5, five, s); m.policy("r.example/b:5", 5, five, s) }, "r.example/a:5", nil},
		{"one version, two policies", func(m media) { m.policy("r.example/a:5", 5, five, s); m.policy("r.example/b:5", 5, five+"# x\n", s) }, "", isSeveral},
		{"none", func(m media) { m.release("r.example/shop:1.0.0", "shop", "1.0.0", s) }, "", is(artifact.ErrNotPolicy)},
		{"under another version", func(m media) { m.policy("r.example/policy:6", 5, five, s) }, "", is(delivery.ErrMisnamed)},
		{"under another version, beside a sound one", func(m media) { m.policy("r.example/policy:7", 6, six, s); m.policy("r.example/policy:5", 5, five, s) }, "r.example/policy:5", nil},
		{"damaged", func(m media) { root, _ := m.policy("r.example/policy:5", 5, five, s); m.flip(root) }, "", artifact.IsDamage},
		{"damaged beside a sound one", func(m media) {
			root, _ := m.policy("r.example/policy:6", 6, six, s)
			m.policy("r.example/policy:5", 5, five, s)
			m.flip(root)
		}, "r.example/policy:5", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMedia(t)
			tt.make(m)
			got, err := delivery.ChoosePolicy(t.Context(), m.find(""))
			if tt.err != nil && (err == nil || !tt.err(err)) || tt.err == nil && err != nil || got.Name != tt.want {
				t.Errorf("ChoosePolicy() = %s, %v, want %s", got.Name, err, tt.want)
			}
		})
	}
}

func isSeveral(err error) bool { return errors.As(err, new(*delivery.SeveralError)) }

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// What is not accepted is not read, and what is accepted is read strictly.
func TestVerifyPolicy(t *testing.T) {
	t.Parallel()
	officer, fresh := newSigner(t), newSigner(t)
	present := parsePolicy(t, policyText(4, officer.Key()))
	next := policyText(5, fresh.Key()) // which only knows the new key
	const broken = "apiVersion: sealift/v1\nkind: Policy\nversion: 5\nrule: []\n"
	tests := []struct {
		name string
		make func(media)
		err  func(error) bool // nil where it is accepted
	}{
		{"signed by who may", func(m media) { m.policy("r.example/policy:5", 5, next, officer) }, nil},
		{"signed only by a new key", func(m media) { m.policy("r.example/policy:5", 5, next, fresh) }, is(signer.ErrNotAccepted)},
		{"not signed", func(m media) { m.policy("r.example/policy:5", 5, next, nil) }, is(signer.ErrUnsigned)},
		{"no policy, and not signed", func(m media) { m.policy("r.example/policy:5", 5, broken, nil) }, is(signer.ErrUnsigned)},
		{"no policy", func(m media) { m.policy("r.example/policy:5", 5, broken, officer) }, func(err error) bool {
			return errors.Is(err, artifact.ErrInvalidPolicy) && errors.As(err, new(artifact.FindingsError)) && strings.Contains(err.Error(), `policy.yaml:4:1: rule: unknown field; did you mean "rules"?`)
		}},
		{"another version than its manifest says", func(m media) { m.policy("r.example/policy:6", 6, next, officer) }, is(artifact.ErrInvalidPolicy)},
		{"other bytes than the digest's", func(m media) { _, document := m.policy("r.example/policy:5", 5, next, officer); m.flip(document) }, artifact.IsDamage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMedia(t)
			tt.make(m)
			f, err := delivery.ChoosePolicy(t.Context(), m.find(""))
			if err != nil {
				t.Fatal(err)
			}
			got, err := delivery.VerifyPolicy(t.Context(), f, present, time.Now())
			if tt.err == nil {
				if err != nil || string(got.Data) != next || got.Policy.Version != 5 || got.Evidence.Keys()[0] != officer.Key().Fingerprint() {
					t.Errorf("VerifyPolicy() = %+v, %v", got, err)
				}
				return
			}
			if got != nil || err == nil || !tt.err(err) {
				t.Errorf("VerifyPolicy() = %v, %v", got, err)
			}
		})
	}
}

// An update that is no newer is in nobody's way, whoever signed it; the rest is verified.
func TestAccept(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	m := newMedia(t)
	for version := 4; version <= 6; version++ {
		m.policy(fmt.Sprintf("r.example/policy:%d", version), version, policyText(version, s.Key()), nil)
	}
	m.policy("r.example/policy:7", 7, policyText(7, s.Key()), s)
	m.release("r.example/shop:1.0.0", "shop", "1.0.0", s)
	present := parsePolicy(t, policyText(5, s.Key()))
	tests := []struct {
		name       string
		trust      delivery.Trust
		superseded int
		err        error
	}{
		{"r.example/policy:4", delivery.Trust{Policy: present}, 4, nil},
		{"r.example/policy:5", delivery.Trust{Policy: present}, 5, nil},
		{"r.example/policy:6", delivery.Trust{Policy: present}, 0, signer.ErrUnsigned},
		{"r.example/policy:7", delivery.Trust{Policy: present}, 0, nil},
		{"r.example/shop:1.0.0", delivery.Trust{Policy: present}, 0, signer.ErrNotAccepted},
		{"r.example/policy:4", delivery.Trust{Keys: []*signer.Key{s.Key()}}, 0, signer.ErrUnsigned},
		{"r.example/shop:1.0.0", delivery.Trust{Keys: []*signer.Key{s.Key()}}, 0, nil},
	}
	asked := 0
	for _, tt := range tests {
		for _, f := range m.find("") {
			if f.Name != tt.name {
				continue
			}
			asked++
			evidence, update, err := delivery.Accept(t.Context(), f, tt.trust)
			if !errors.Is(err, tt.err) || (update != nil) != (tt.superseded > 0) || update != nil && update.Version != tt.superseded {
				t.Errorf("Accept(%s) = %+v, %v, want superseded %d and %v", f.Name, update, err, tt.superseded, tt.err)
			}
			if accepted := tt.err == nil && tt.superseded == 0; (evidence != nil) != accepted {
				t.Errorf("Accept(%s) has evidence %+v, want any: %t", f.Name, evidence, accepted)
			}
		}
	}
	if asked != len(tests) {
		t.Errorf("%d of %d tests found what they name", asked, len(tests))
	}
	// Whoever is asked to verify an update verifies it, whatever its version.
	for _, f := range m.find("") {
		if _, err := delivery.VerifySignature(t.Context(), f, delivery.Trust{Policy: present}); f.Name == "r.example/policy:4" && !errors.Is(err, signer.ErrUnsigned) {
			t.Errorf("VerifySignature(%s) = %v, want %v", f.Name, err, signer.ErrUnsigned)
		}
	}
}
