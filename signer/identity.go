package signer

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// maxIdentityBytes bounds what an identity says, and what a certificate does.
const maxIdentityBytes = 1000

// Identity is somebody who signs without a key of their own: with a certificate that
// an authority of the root gives to whom the issuer vouches for, for minutes. The
// issuer is the URL of an OpenID Connect provider, and the subject whom it knows: an
// address, or the URL of a workflow. Each is given as text to be equal to or as a
// regular expression (https://pkg.go.dev/regexp/syntax) for the whole of it, never
// both.
type Identity struct {
	Issuer, IssuerRegexp   string
	Subject, SubjectRegexp string
	// Root has the authorities that are believed.
	Root *Root
}

// Check returns an error for an identity that leaves the issuer, the subject or the
// root open, or has an expression that is none.
func (i Identity) Check() error {
	_, issuer := textMatcher(i.Issuer, i.IssuerRegexp)
	_, subject := textMatcher(i.Subject, i.SubjectRegexp)
	switch {
	case issuer != nil:
		return fmt.Errorf("issuer: %w", issuer)
	case subject != nil:
		return fmt.Errorf("subject: %w", subject)
	case i.Root == nil:
		return errors.New("root: want a trusted root")
	}
	return nil
}

// String returns subject and issuer, expressions between slashes.
func (i Identity) String() string {
	show := func(text, expr string) string {
		if expr != "" {
			return "/" + expr + "/"
		}
		return text
	}
	return fmt.Sprintf("%s (%s)", show(i.Subject, i.SubjectRegexp), show(i.Issuer, i.IssuerRegexp))
}

// names reports whether the identity is that of a certificate. It says nothing about
// whether the certificate is sound. One that Check refuses is nobody's.
func (i Identity) names(c *Certificate) bool {
	issuer, err := textMatcher(i.Issuer, i.IssuerRegexp)
	if err != nil || !issuer(c.Issuer) {
		return false
	}
	subject, err := textMatcher(i.Subject, i.SubjectRegexp)
	return err == nil && subject(c.Subject)
}

// textMatcher matches text, or what an expression is for as a whole. The expression is
// parsed by itself first: in a group a stray parenthesis could end the group.
func textMatcher(text, expr string) (func(string) bool, error) {
	switch {
	case text != "" && expr != "":
		return nil, errors.New("want the text or a regular expression, not both")
	case text == "" && expr == "":
		return nil, errors.New("want the text or a regular expression for it")
	case len(text)+len(expr) > maxIdentityBytes:
		return nil, fmt.Errorf("want at most %d bytes, got %d", maxIdentityBytes, len(text)+len(expr))
	case expr == "":
		return func(s string) bool { return s == text }, nil
	}
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	whole, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, err
	}
	return whole.MatchString, nil
}

// Certificate is what a certificate says of who signed, and once it is verified, when
// that was and who vouches for it.
type Certificate struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	// Time is when it was signed, as TimeFrom says, the URL of a transparency log or a
	// timestamp authority. Both and Root are empty where nothing was verified.
	Time     time.Time `json:"time,omitzero"`
	TimeFrom string    `json:"timeFrom,omitempty"`
	// Root is the fingerprint of the trusted root that has them.
	Root string `json:"root,omitempty"`
}

// String returns subject and issuer, as that of an identity does.
func (c Certificate) String() string {
	return Identity{Issuer: c.Issuer, Subject: c.Subject}.String()
}

// sameSigner compares who two certificates are of.
func sameSigner(a, b Certificate) int {
	return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Issuer, b.Issuer))
}

// Certificates returns those of the signatures, sorted by subject and issuer, each
// signer once, with the earliest time.
func (e *Evidence) Certificates() []Certificate {
	var all []Certificate
	for _, s := range e.Signatures {
		if s.Certificate != nil {
			all = append(all, *s.Certificate)
		}
	}
	slices.SortStableFunc(all, func(a, b Certificate) int { return cmp.Or(sameSigner(a, b), a.Time.Compare(b.Time)) })
	return slices.CompactFunc(all, func(a, b Certificate) bool { return sameSigner(a, b) == 0 })
}

// Signers returns the fingerprints of the keys that signed, and behind them who signed
// with a certificate.
func (e *Evidence) Signers() []string {
	all := e.Keys()
	for _, c := range e.Certificates() {
		all = append(all, c.String())
	}
	return all
}
