package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
)

// Errors of [Verify], to be told apart with errors.Is. They exclude each other.
var (
	// ErrUnsigned says that no signature of the subject was found.
	ErrUnsigned = errors.New("not signed")
	// ErrNotAccepted says that there are signatures, none of them known to be
	// wrong, and none by a key or an identity given. A simple signing payload does not say
	// whose it is, so that one with a damaged signature counts here too.
	ErrNotAccepted = errors.New("no accepted signature")
	// ErrInvalid says that none by a key or an identity given was found and that
	// at least one is wrong: its bytes do not have their digest, are absent or too
	// large; it is of another subject; or it claims an accepted key or identity
	// and does not verify.
	ErrInvalid = errors.New("invalid signature")
)

// errMore says that signatures were not looked at, being too many.
var errMore = fmt.Errorf("%w: there are more signatures", ErrNotAccepted)

// Evidence is what [Verify] found out about a subject.
type Evidence struct {
	Subject ocispec.Descriptor `json:"subject"`
	// Signatures are by keys and identities that were given, at least one.
	Signatures []Signature `json:"signatures"`
	// Rejected were found beside them and count for nothing.
	Rejected []Rejected `json:"rejected,omitempty"`
	// Attestations are those that the policy wants beside signatures.
	Attestations []Attestation `json:"attestations,omitempty"`
	// Decision is the policy's, nil where there was none.
	Decision *Decision `json:"decision,omitempty"`
}

// Keys returns the fingerprints of the keys that signed, sorted, each once.
func (e *Evidence) Keys() []string {
	var keys []string
	for _, s := range e.Signatures {
		if s.Key != "" {
			keys = append(keys, s.Key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Rejected is a signature that does not count, or a place that could not be
// searched for signatures.
type Rejected struct {
	Signature
	Reason string `json:"reason"`
}

// VerifyError is the error of [Verify] once signatures have been looked for.
type VerifyError struct {
	Subject  ocispec.Descriptor
	Rejected []Rejected // everything that was looked at
	// More says that there is more than is looked at, which may have been sound.
	More bool
	Err  error // ErrUnsigned, ErrNotAccepted, ErrInvalid or an error of the source
}

// Error names the subject, says how many signatures were looked at, and why
// each was rejected.
func (e *VerifyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "verify signatures of %s: %v", e.Subject.Digest, e.Err)
	switch n := len(e.Rejected); n {
	case 0:
	case 1:
		b.WriteString(" (1 signature looked at)")
	default:
		fmt.Fprintf(&b, " (%d signatures looked at)", n)
	}
	const shown = 4
	for i, r := range e.Rejected {
		if i == shown {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; %s", r.Form)
		if r.Manifest.Digest != "" {
			fmt.Fprintf(&b, " %s", r.Manifest.Digest)
		}
		fmt.Fprintf(&b, ": %s", r.Reason)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *VerifyError) Unwrap() error { return e.Err }

// Verify looks for signatures of the subject in src and checks them against the
// keys and identities. One sound signature by one of them suffices, whatever stands
// beside it. Of the subject only the digest counts; its content is not read.
//
// Only what signs is considered: an attestation (an SBOM, a scan report) by an
// accepted key is not a signature. A certificate counts as of the time that a log or
// a timestamp authority of the identity's root gives; without one it does not.
//
// Verify returns a *VerifyError that wraps ErrUnsigned, ErrNotAccepted or
// ErrInvalid; or, when nothing was accepted and src could not be read to the
// end, the error of src. At most 64 signatures at the tag and 64 referrers are
// looked at, and certificates are verified at most 1024 times, once by each root of
// the identities that one claims.
func Verify(ctx context.Context, src Source, subject ocispec.Descriptor, keys []*Key, identities ...Identity) (*Evidence, error) {
	return newAccepted(keys, identities).verify(ctx, src, subject)
}

// verify is Verify for those who are accepted.
func (a *accepted) verify(ctx context.Context, src Source, subject ocispec.Descriptor) (*Evidence, error) {
	if err := checkSubject(subject); err != nil {
		return nil, fmt.Errorf("verify signatures: %w", err)
	}
	evidence := &Evidence{Subject: plain(subject)}
	verdict, more := ErrUnsigned, false
	for _, c := range find(ctx, src, subject) {
		err := c.verify(ctx, src, subject, a)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verify signatures of %s: %w", subject.Digest, context.Cause(ctx))
		}
		switch {
		case err == nil:
			evidence.Signatures = append(evidence.Signatures, c.Signature)
		case !errors.Is(err, errNotSignature):
			evidence.Rejected = append(evidence.Rejected, Rejected{Signature: c.Signature, Reason: err.Error()})
			verdict, more = worse(verdict, err), more || errors.Is(err, errMore)
		}
	}
	if len(evidence.Signatures) == 0 {
		return nil, &VerifyError{Subject: evidence.Subject, Rejected: evidence.Rejected, More: more, Err: verdict}
	}
	return evidence, nil
}

// worse folds the reason of one rejection into the verdict on all. What could
// not be read comes before what was found wrong: trying again may help.
func worse(verdict, reason error) error {
	rank := func(err error) int {
		switch {
		case err == ErrUnsigned: //nolint:errorlint // the verdict itself
			return 0
		case errors.Is(err, ErrNotAccepted):
			return 1
		case errors.Is(err, ErrInvalid):
			return 2
		}
		return 3
	}
	if rank(reason) <= rank(verdict) {
		return verdict
	}
	switch rank(reason) {
	case 1:
		return ErrNotAccepted
	case 2:
		return ErrInvalid
	}
	return reason
}

// verify fails unless the candidate is a sound signature of the subject. It notes whose
// it is, or claims to be.
func (c *candidate) verify(ctx context.Context, src Source, subject ocispec.Descriptor, by *accepted) error {
	raw, err := c.layer(ctx, src)
	if err != nil {
		return err
	}
	b, st, err := c.claim(raw)
	if err != nil {
		return err
	}
	var key *Key
	var certificate *Certificate
	switch {
	case c.Form != FormBundle:
		key, certificate, err = c.verifyPayload(ctx, raw, subject.Digest, by)
	case !st.names(subject.Digest):
		return fmt.Errorf("%w: statement names another subject", ErrInvalid)
	default:
		key, certificate, err = verifyBundle(ctx, b, subject.Digest, by)
	}
	switch {
	case err != nil:
		return err
	case key != nil:
		c.Key, c.Certificate = key.Fingerprint(), nil
	default:
		c.Certificate = certificate
	}
	return nil
}

// claim notes whose the candidate claims to be, and returns the bundle it is with its
// statement, nil for the other forms. A claim that cannot be read is none.
func (c *candidate) claim(raw []byte) (*bundle.Bundle, statement, error) {
	if c.Form == FormBundle {
		b, st, err := parseBundle(raw)
		if err == nil {
			c.Key = bundleKey(b)
			c.Certificate, _ = claimOf(b)
		}
		return b, st, err
	}
	if c.hasCertificate() {
		if b, err := c.payloadBundle(raw); err == nil {
			c.Certificate, _ = claimOf(b)
		}
	}
	return nil, statement{}, nil
}

// Signatures lists what claims to sign the subject, without any trust: nothing
// is verified but digests. The key or the certificate is what a signature claims; the
// forms that are no bundle do not name a key. What can be listed is returned even with an error, which tells of
// the places and signatures that could not be read.
func Signatures(ctx context.Context, src Source, subject ocispec.Descriptor) ([]Signature, error) {
	if err := checkSubject(subject); err != nil {
		return nil, fmt.Errorf("list signatures: %w", err)
	}
	var (
		found []Signature
		errs  []error
	)
	for _, c := range find(ctx, src, subject) {
		raw, err := c.layer(ctx, src)
		if err == nil {
			_, _, err = c.claim(raw)
		}
		if errors.Is(err, errNotSignature) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, c.Signature)
	}
	if err := errors.Join(errs...); err != nil {
		return found, fmt.Errorf("list signatures of %s: %w", subject.Digest, err)
	}
	return found, nil
}
