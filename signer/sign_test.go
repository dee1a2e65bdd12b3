package signer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sealift/sealift/signer"
)

const repositoryName = "registry.example/team/app"

func sign(t testing.TB, dst signer.Target, subject ocispec.Descriptor, s *signer.Signer) []ocispec.Descriptor {
	t.Helper()
	written, err := signer.Sign(t.Context(), dst, subject, repositoryName, s, signer.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return written
}

// state lists what a repository says about signatures of the subject.
func state(t testing.TB, repo *remote.Repository, subject ocispec.Descriptor) []string {
	t.Helper()
	var all []string
	err := repo.Referrers(t.Context(), subject, "", func(page []ocispec.Descriptor) error {
		for _, desc := range page {
			all = append(all, desc.ArtifactType+" "+desc.Digest.String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := repo.Resolve(t.Context(), sigTag(subject))
	if err == nil {
		all = append(all, "tag "+desc.Digest.String())
	} else if !errors.Is(err, errdef.ErrNotFound) {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func TestSignTwiceAddsNothing(t *testing.T) {
	t.Parallel()
	for name, referrersAPI := range map[string]bool{"referrers API": true, "fallback tag": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := newRepository(t, referrersAPI)
			index, _ := pushRelease(t, repo, "1.0.0")
			s := newSigner(t)
			first := sign(t, repo, index, s)
			before := state(t, repo, index)
			counted := &faulty{Target: repo, left: 1 << 20}
			// Later and elsewhere: neither makes it another signature.
			second, err := signer.Sign(t.Context(), counted, index, "mirror.example/app", s, signer.SignOptions{Time: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("second Sign returned other manifests (-first +second):\n%s", diff)
			}
			if diff := cmp.Diff(before, state(t, repo, index)); diff != "" {
				t.Errorf("second Sign changed the repository:\n%s", diff)
			}
			if counted.writes != 0 {
				t.Errorf("second Sign wrote %d times, want 0", counted.writes)
			}
		})
	}
}

func TestSignIsReproducible(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	var written [2][]ocispec.Descriptor
	for i := range written {
		repo := newRepository(t, i == 0)
		index, _ := pushRelease(t, repo, "1.0.0")
		written[i] = sign(t, repo, index, s)
	}
	if diff := cmp.Diff(written[0], written[1]); diff != "" {
		t.Errorf("the same signature differs between registries:\n%s", diff)
	}
}

func TestSignWritesWhatCosignReads(t *testing.T) {
	t.Parallel()
	repo := newRepository(t, true)
	index, _ := pushRelease(t, repo, "1.0.0")
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.FixedZone("", 3600))
	written, err := signer.Sign(t.Context(), repo, index, repositoryName, newSigner(t), signer.SignOptions{Time: at})
	if err != nil {
		t.Fatal(err)
	}
	var bundle, tagged ocispec.Manifest
	for i, m := range []*ocispec.Manifest{&bundle, &tagged} {
		if err := json.Unmarshal(fetch(t, repo, written[i]), m); err != nil {
			t.Fatal(err)
		}
	}
	wantAnnotations := map[string]string{
		"dev.sigstore.bundle.content":      "dsse-envelope",
		annPredType:                        "https://sigstore.dev/cosign/sign/v1",
		"org.opencontainers.image.created": "2026-11-23T07:00:00Z",
	}
	if diff := cmp.Diff(wantAnnotations, bundle.Annotations); diff != "" {
		t.Errorf("annotations of the bundle's manifest (-want +got):\n%s", diff)
	}
	if bundle.ArtifactType != typeBundle || bundle.Config.MediaType != ocispec.MediaTypeEmptyJSON || bundle.Layers[0].MediaType != typeBundle {
		t.Errorf("bundle's manifest is %+v", bundle)
	}
	if diff := cmp.Diff(&index, bundle.Subject); diff != "" {
		t.Errorf("subject (-want +got):\n%s", diff)
	}
	if tagged.Subject != nil || tagged.Config.MediaType != ocispec.MediaTypeImageConfig || tagged.Layers[0].MediaType != typePayload {
		t.Errorf("tagged manifest is %+v", tagged)
	}
	want := `{"critical":{"identity":{"docker-reference":"` + repositoryName + `"},"image":{"docker-manifest-digest":"` +
		index.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`
	if got := string(fetch(t, repo, tagged.Layers[0])); got != want {
		t.Errorf("payload = %s, want %s", got, want)
	}
}

func TestSignKeepsSignaturesOfOthers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	attachTag(t, s.repo, s.index, s.foreign) // of no use to us, but not ours to remove
	first, second := newSigner(t), newSigner(t)
	sign(t, s.repo, s.index, first)
	sign(t, s.repo, s.index, second)
	for _, by := range []*signer.Signer{first, second} {
		evidence, err := signer.Verify(t.Context(), s.repo, s.index, []*signer.Key{by.Key()})
		if err != nil {
			t.Fatal(err)
		}
		if len(evidence.Signatures) != 2 || len(evidence.Rejected) != 3 {
			t.Errorf("Verify() = %+v, want 2 signatures and 3 rejected", evidence)
		}
	}
	listed, err := signer.Signatures(t.Context(), s.repo, s.index)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[signer.Form][]string{}
	for _, sig := range listed {
		claims[sig.Form] = append(claims[sig.Form], sig.Key)
	}
	bundles := []string{first.Key().Fingerprint(), second.Key().Fingerprint()}
	slices.Sort(bundles)
	slices.Sort(claims[signer.FormBundle])
	want := map[signer.Form][]string{signer.FormBundle: bundles, signer.FormTag: {"", "", ""}}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Errorf("Signatures() claim keys (-want +got):\n%s", diff)
	}
}

// A registry without a referrers API often forbids deletion too, and then
// cannot drop the list of referrers that the new one replaces.
func TestSignBesideOthersWithFallbackTag(t *testing.T) {
	t.Parallel()
	repo := newRepository(t, false)
	index, _ := pushRelease(t, repo, "1.0.0")
	var keys []*signer.Key
	for range 3 {
		s := newSigner(t)
		sign(t, repo, index, s)
		keys = append(keys, s.Key())
	}
	evidence, err := signer.Verify(t.Context(), repo, index, keys)
	if err != nil {
		t.Fatal(err)
	}
	if len(evidence.Signatures) != 6 || len(evidence.Keys()) != 3 {
		t.Errorf("Verify() = %+v, want both forms by 3 keys", evidence)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	absent := s.index
	absent.Digest = "sha256:" + "00000000000000000000000000000000" + "00000000000000000000000000000000"
	long := s.index
	long.Digest = "sha512:" + s.index.Digest[7:] + s.index.Digest[7:]
	occupied := newScene(t)
	if err := occupied.repo.Tag(t.Context(), occupied.index, sigTag(occupied.index)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name       string
		repo       *remote.Repository
		subject    ocispec.Descriptor
		repository string
		want       error
	}{
		{"absent subject", s.repo, absent, repositoryName, errdef.ErrNotFound},
		{"sha512 subject", s.repo, long, repositoryName, nil},
		{"no subject", s.repo, ocispec.Descriptor{}, repositoryName, nil},
		{"bad repository", s.repo, s.index, "Not A Repository", nil},
		{"tag that is no signature", occupied.repo, occupied.index, repositoryName, signer.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := signer.Sign(t.Context(), tt.repo, tt.subject, tt.repository, s.accepted, signer.SignOptions{})
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Errorf("Sign() = %v, want an error that is %v", err, tt.want)
			}
		})
	}
}

// faulty is a target whose writes fail once some have been done.
type faulty struct {
	signer.Target
	left, writes int
}

var errCrash = errors.New("crashed")

func (f *faulty) write() error {
	if f.writes++; f.writes > f.left {
		return errCrash
	}
	return nil
}

func (f *faulty) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.Target.Push(ctx, desc, r)
}

func (f *faulty) Tag(ctx context.Context, desc ocispec.Descriptor, tag string) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.Target.Tag(ctx, desc, tag)
}

func TestSignResumesAfterACrashAnywhere(t *testing.T) {
	t.Parallel()
	key := newSigner(t)
	for left := 0; ; left++ {
		repo := newRepository(t, true)
		index, _ := pushRelease(t, repo, "1.0.0")
		other := newSigner(t)
		sign(t, repo, index, other)
		_, err := signer.Sign(t.Context(), &faulty{Target: repo, left: left}, index, repositoryName, key, signer.SignOptions{})
		if err == nil {
			if left < 4 {
				t.Errorf("Sign needed %d writes only: the test proves nothing", left)
			}
			return
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		listed, err := signer.Signatures(t.Context(), repo, index)
		if err != nil || len(listed) < 2 {
			t.Errorf("after a crash at write %d: Signatures() = %v, %v; want those of the other key", left, listed, err)
		}
		sign(t, repo, index, key)
		for _, by := range []*signer.Signer{key, other} {
			evidence, err := signer.Verify(t.Context(), repo, index, []*signer.Key{by.Key()})
			if err != nil {
				t.Fatal(err)
			}
			if len(evidence.Signatures) != 2 || len(evidence.Rejected) != 2 {
				t.Errorf("crash at write %d, signed again: %+v, want 2 signatures and the 2 of the other key", left, evidence)
			}
		}
	}
}

// contended lets somebody else sign just before every move of the tag, some
// times.
type contended struct {
	signer.Target
	times   int
	intrude func()
}

func (c *contended) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	err := c.Target.Push(ctx, desc, r)
	if desc.MediaType == ocispec.MediaTypeImageConfig && c.times > 0 {
		c.times--
		c.intrude()
	}
	return err
}

func TestSignWithAnotherWriter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		times int
		want  error
	}{
		{name: "once", times: 1},
		{name: "always", times: 1 << 20, want: signer.ErrConflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			repo := newRepository(t, true)
			index, _ := pushRelease(t, repo, "1.0.0")
			s := newSigner(t)
			var others []*signer.Signer
			dst := &contended{Target: repo, times: tt.times, intrude: func() {
				others = append(others, newSigner(t))
				sign(t, repo, index, others[len(others)-1])
			}}
			_, err := signer.Sign(t.Context(), dst, index, repositoryName, s, signer.SignOptions{})
			if !errors.Is(err, tt.want) {
				t.Fatalf("Sign() = %v, want %v", err, tt.want)
			}
			all := others
			if tt.want == nil {
				all = append(all, s)
			}
			for _, by := range all {
				evidence, err := signer.Verify(t.Context(), repo, index, []*signer.Key{by.Key()})
				if err != nil {
					t.Fatal(err)
				}
				if len(evidence.Signatures) != 2 {
					t.Errorf("signatures of %s: %+v, want both forms", by.Key(), evidence.Signatures)
				}
			}
		})
	}
}

// listing answers with given entries for the referrers.
type listing struct {
	signer.Source
	entries []ocispec.Descriptor
}

func (l listing) Referrers(_ context.Context, _ ocispec.Descriptor, _ string, fn func([]ocispec.Descriptor) error) error {
	return fn(l.entries)
}

func TestVerifyReadsPoorReferrerLists(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	good := attachBundle(t, s.repo, s.index, s.bundle)
	for _, artifactType := range []string{"", ocispec.MediaTypeEmptyJSON, typeBundle} {
		entry := good
		entry.ArtifactType = artifactType
		src := listing{s.repo, []ocispec.Descriptor{entry, s.image, s.index}}
		evidence, err := signer.Verify(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()})
		if err != nil {
			t.Errorf("listed as %q: %v", artifactType, err)
			continue
		}
		if len(evidence.Rejected) != 0 {
			t.Errorf("listed as %q: rejected %v, want nothing", artifactType, evidence.Rejected)
		}
	}
}

// counting counts what is fetched.
type counting struct {
	signer.Source
	fetched int
}

func (c *counting) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	c.fetched++
	return c.Source.Fetch(ctx, desc)
}

func TestVerifyBoundsWhatItOpens(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	attachBundle(t, s.repo, s.index, s.bundle)
	var entries []ocispec.Descriptor
	for i := range 1000 {
		entries = append(entries, ocispec.Descriptor{
			MediaType:    ocispec.MediaTypeImageManifest,
			Digest:       digest.FromBytes([]byte{byte(i), byte(i >> 8)}),
			Size:         2,
			ArtifactType: typeBundle,
		})
	}
	src := &counting{Source: listing{s.repo, entries}}
	_, err := signer.Verify(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()})
	var verifyErr *signer.VerifyError
	if !errors.As(err, &verifyErr) || len(verifyErr.Rejected) != 65 || !errors.Is(err, signer.ErrInvalid) {
		t.Errorf("Verify() = %v, want ErrInvalid after 64", err)
	}
	if !verifyErr.More || !strings.Contains(err.Error(), "only the first 64 were looked at") {
		t.Errorf("Verify() = %v, want it to say that there are more", err)
	}
	if src.fetched != 64 {
		t.Errorf("Verify fetched %d times, want 64", src.fetched)
	}
}

func TestVerifyCancelled(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	attachTag(t, s.repo, s.index, s.sound)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := signer.Verify(ctx, s.repo, s.index, []*signer.Key{s.accepted.Key()})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Verify() = %v, want context.Canceled", err)
	}
}

func TestTrustedRootIsOneLine(t *testing.T) {
	t.Parallel()
	root := signer.TrustedRoot()
	if !json.Valid(root) || bytes.Count(root, []byte("\n")) != 1 {
		t.Errorf("TrustedRoot() = %q, want one line of JSON", root)
	}
}

var (
	_ signer.Source = (*remote.Repository)(nil)
	_ signer.Target = (*remote.Repository)(nil)
)
