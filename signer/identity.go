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

	// What the expressions are compiled to, as long as they are those.
	issuer, subject *regexp.Regexp
}

// Check returns an error for an identity that leaves the issuer, the subject or the
// root open, or has an expression that is none.
func (i Identity) Check() error {
	_, err := i.compiled()
	return err
}

// compiled returns the identity with its expressions compiled. The error is that of
// Check.
func (i Identity) compiled() (_ Identity, err error) {
	if i.issuer, err = compileText(i.Issuer, i.IssuerRegexp, i.issuer); err != nil {
		return i, fmt.Errorf("issuer: %w", err)
	}
	if i.subject, err = compileText(i.Subject, i.SubjectRegexp, i.subject); err != nil {
		return i, fmt.Errorf("subject: %w", err)
	}
	if i.Root == nil {
		return i, errors.New("root: want a trusted root")
	}
	return i, nil
}

// compiled returns the identities that Check takes, compiled.
func compiled(identities []Identity) []Identity {
	var sound []Identity
	for _, id := range identities {
		if id, err := id.compiled(); err == nil {
			sound = append(sound, id)
		}
	}
	return sound
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
	i, err := i.compiled()
	return err == nil && isText(c.Issuer, i.Issuer, i.issuer) && isText(c.Subject, i.Subject, i.subject)
}

// isText reports whether s is what an expression is for, or where that is nil, the text.
func isText(s, text string, whole *regexp.Regexp) bool {
	if whole != nil {
		return whole.MatchString(s)
	}
	return s == text
}

// compileText compiles an expression to what is for the whole of a text, nil where the
// text itself is given. Known is returned if it is that. The expression is parsed by
// itself first: in a group a stray parenthesis could end the group.
func compileText(text, expr string, known *regexp.Regexp) (*regexp.Regexp, error) {
	switch {
	case text != "" && expr != "":
		return nil, errors.New("want the text or a regular expression, not both")
	case text == "" && expr == "":
		return nil, errors.New("want the text or a regular expression for it")
	case len(text)+len(expr) > maxIdentityBytes:
		return nil, fmt.Errorf("want at most %d bytes, got %d", maxIdentityBytes, len(text)+len(expr))
	case expr == "":
		return nil, nil
	}
	whole := `\A(?:` + expr + `)\z`
	if known != nil && known.String() == whole {
		return known, nil
	}
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	return regexp.Compile(whole)
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

	roots []string // fingerprints of all that bear it out, Root first
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
