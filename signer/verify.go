package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Errors of [Verify], to be told apart with errors.Is. They exclude each other.
var (
	// ErrUnsigned says that no signature of the subject was found.
	ErrUnsigned = errors.New("not signed")
	// ErrNotAccepted says that there are signatures, none of them known to be
	// wrong, and none by a key given. A simple signing payload does not say
	// whose it is, so that one with a damaged signature counts here too.
	ErrNotAccepted = errors.New("no signature by an accepted key")
	// ErrInvalid says that none by a key given was found and that at least one
	// is wrong: its bytes do not have their digest, are absent or too large; it
	// is of another subject; or it claims an accepted key and does not verify.
	ErrInvalid = errors.New("invalid signature")
)

// Evidence is what [Verify] found out about a subject.
type Evidence struct {
	Subject ocispec.Descriptor `json:"subject"`
	// Signatures are by keys that were given, at least one.
	Signatures []Signature `json:"signatures"`
	// Rejected were found beside them and count for nothing.
	Rejected []Rejected `json:"rejected,omitempty"`
	// Decision is the policy's, nil where keys were given.
	Decision *Decision `json:"decision,omitempty"`
}

// Keys returns the fingerprints of the keys that signed, sorted, each once.
func (e *Evidence) Keys() []string {
	var keys []string
	for _, s := range e.Signatures {
		keys = append(keys, s.Key)
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
	Err      error      // ErrUnsigned, ErrNotAccepted, ErrInvalid or an error of the source
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
// keys. One sound signature by one of the keys suffices, whatever stands beside
// it. Of the subject only the digest counts; its content is not read.
//
// Only what signs is considered: an attestation (an SBOM, a scan report) by an
// accepted key is not a signature.
//
// Verify returns a *VerifyError that wraps ErrUnsigned, ErrNotAccepted or
// ErrInvalid; or, when nothing was accepted and src could not be read to the
// end, the error of src. At most 64 signatures at the tag and 64 referrers are
// looked at.
func Verify(ctx context.Context, src Source, subject ocispec.Descriptor, keys []*Key) (*Evidence, error) {
	if err := checkSubject(subject); err != nil {
		return nil, fmt.Errorf("verify signatures: %w", err)
	}
	evidence := &Evidence{Subject: plain(subject)}
	verdict := ErrUnsigned
	for _, c := range find(ctx, src, subject) {
		key, err := c.verify(ctx, src, subject, keys)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("verify signatures of %s: %w", subject.Digest, context.Cause(ctx))
		}
		switch {
		case err == nil:
			c.Key = key.Fingerprint()
			evidence.Signatures = append(evidence.Signatures, c.Signature)
		case !errors.Is(err, errNotSignature):
			evidence.Rejected = append(evidence.Rejected, Rejected{Signature: c.Signature, Reason: err.Error()})
			verdict = worse(verdict, err)
		}
	}
	if len(evidence.Signatures) == 0 {
		return nil, &VerifyError{Subject: evidence.Subject, Rejected: evidence.Rejected, Err: verdict}
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

// verify returns the key by which the candidate is a sound signature of the
// subject.
func (c *candidate) verify(ctx context.Context, src Source, subject ocispec.Descriptor, keys []*Key) (*Key, error) {
	raw, err := c.layer(ctx, src)
	if err != nil {
		return nil, err
	}
	if c.Form != FormBundle {
		return verifyPayload(ctx, raw, c.sig, subject.Digest, keys)
	}
	if b, _, err := parseBundle(raw); err == nil {
		c.Key = bundleKey(b)
	}
	return verifyBundle(ctx, raw, subject.Digest, keys)
}

// Signatures lists what claims to sign the subject, without any trust: nothing
// is verified but digests. The key is what a bundle claims; the other forms do
// not say. What can be listed is returned even with an error, which tells of
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
		if err == nil && c.Form == FormBundle {
			b, _, parseErr := parseBundle(raw)
			if errors.Is(parseErr, errNotSignature) {
				continue
			}
			if parseErr == nil {
				c.Key = bundleKey(b)
			} else {
				err = parseErr
			}
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
