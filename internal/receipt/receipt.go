// Package receipt is the proof that a site gives afterwards: which releases it accepted,
// on what evidence, and what it has installed, as an in-toto statement about them
// (https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/README.md).
//
// [Receipt.Seal] writes one, signed in a sigstore bundle, and [Read] takes nothing that
// Seal does not write: what is said twice, elsewhere or too much would be read by another
// program as something else. The same content makes the same bytes. docs/format.md tells
// how to check one with cosign, or with openssl alone.
package receipt

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/signer"
)

// PredicateType says that the predicate of a statement is a [Receipt].
const PredicateType = "https://sealift.dev/receipt/v1"

// MaxBytes is the size of the largest file that is read or written as a receipt: some
// 15,000 releases.
const MaxBytes = 16 << 20

const statementType = "https://in-toto.io/Statement/v1"

// Receipt is what a site says: the predicate of the statement. Its times are in UTC.
type Receipt struct {
	// Site is what the site calls itself, in one line of at most 200 bytes; "" for a site
	// that does not say. The key that signed says who speaks, not this.
	Site string    `json:"site,omitempty"`
	Time time.Time `json:"time"`
	// Sealift is the version of the program.
	Sealift string `json:"sealift"`
	// For are the patterns for ids that the receipt is limited to, as they were given;
	// none for all that the site has.
	For []string `json:"for,omitempty"`
	// Policy is the site's policy as it stood, nil for none.
	Policy *Policy `json:"policy,omitempty"`
	// Audit is the newest entry of the site's audit log, and with it all before.
	Audit audit.Head `json:"audit"`
	// Accepted are the releases that were accepted, at least one, sorted by id, version
	// and root. They are the subjects of the statement.
	Accepted []Release `json:"accepted"`
	// Instances are sorted by name.
	Instances []Instance `json:"instances,omitempty"`
}

// Policy is a policy by its version, and by the digest of its bytes.
type Policy struct {
	Version int           `json:"version"`
	Digest  digest.Digest `json:"digest"`
}

// Release is a release that was accepted, and why.
type Release struct {
	ID      string        `json:"id"`
	Version string        `json:"version"`
	Root    digest.Digest `json:"root"`
	// Time is when it was accepted first, Event what it was accepted for, as import or
	// install, and Entry the number of the entry in the audit log that says so.
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	Entry int       `json:"entry"`
	// Signers are who had signed it, as the log says: the fingerprints of keys, and the
	// names of who has none; sorted, each once.
	Signers []string `json:"signers,omitempty"`
	// Policy is the version of the policy that decided and Rule the number of the rule in
	// it; both 0 where a key was given.
	Policy int `json:"policy,omitempty"`
	Rule   int `json:"rule,omitempty"`
	// Overrides are the options by which somebody insisted, then or later, as
	// allow-downgrade; sorted, each once.
	Overrides []string `json:"overrides,omitempty"`
	// Signatures are those that verified, as the site recorded them; sorted, each once.
	Signatures []Signature `json:"signatures,omitempty"`
}

// Signature is a signature that verified.
type Signature struct {
	// Signer is the one of Signers whose it is, and Form how it was stored.
	Signer string      `json:"signer"`
	Form   signer.Form `json:"form"`
	// Manifest carries it, and Layer is the signature itself.
	Manifest digest.Digest `json:"manifest"`
	Layer    digest.Digest `json:"layer"`
}

// Instance is an app installed at the site, or one whose last change did not end well.
type Instance struct {
	Name   string `json:"name"`
	Target string `json:"target"`
	// Current is what is installed, nil for nothing.
	Current *Installed `json:"current,omitempty"`
	// Last is the last change, which Current need not be of.
	Last Change `json:"last"`
}

// Installed is what is installed.
type Installed struct {
	Revision int           `json:"revision"`
	ID       string        `json:"id"`
	Version  string        `json:"version"`
	Root     digest.Digest `json:"root"`
	Since    time.Time     `json:"since"`
}

// Change is one install, upgrade, rollback or uninstall.
type Change struct {
	Revision int           `json:"revision"`
	Action   string        `json:"action"`
	ID       string        `json:"id"`
	Version  string        `json:"version"`
	Root     digest.Digest `json:"root"`
	// Result is pending (under way, or interrupted), succeeded or failed.
	Result string `json:"result"`
	// Time is when it ended; while it is pending, when it began.
	Time time.Time `json:"time"`
}

// statement is the in-toto statement.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Receipt   `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// Statement returns the in-toto statement that the receipt is the predicate of, as RFC
// 8785 canonical JSON. What has no order is sorted. It fails for what [Read] would not
// take.
func (r Receipt) Statement() ([]byte, error) {
	r = r.sorted()
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	st := statement{Type: statementType, PredicateType: PredicateType, Predicate: r}
	for _, a := range r.Accepted {
		st.Subject = append(st.Subject, subject{a.ID + ":" + a.Version, map[string]string{a.Root.Algorithm().String(): a.Root.Encoded()}})
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if raw, err = jsoncanonicalizer.Transform(raw); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	return raw, nil
}

// Seal returns the file of a receipt: signed by s, a bundle of [signer.SealStatement];
// without s the statement and a newline, which nobody can verify.
func (r Receipt) Seal(s *signer.Signer) ([]byte, error) {
	raw, err := r.Statement()
	if err != nil {
		return nil, err
	}
	if s == nil {
		raw = append(raw, '\n')
	} else if raw, err = signer.SealStatement(raw, s); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("receipt: %d bytes, the limit is %d", len(raw), MaxBytes)
	}
	return raw, nil
}

// Error reports a file that is no receipt, or one that cannot be accepted.
type Error struct {
	// Err is or wraps [signer.ErrInvalid], [signer.ErrUnsigned] or
	// [signer.ErrNotAccepted].
	Err error
}

// Error says what is wrong.
func (e *Error) Error() string { return "receipt: " + e.Err.Error() }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Read returns the receipt in a file that one of the keys signed, and that key. It fails
// with an [*Error]: of signer.ErrUnsigned for a statement alone.
func Read(raw []byte, keys []*signer.Key) (Receipt, *signer.Key, error) {
	signed, err := isSigned(raw)
	if err == nil && !signed {
		if _, err = parse(bytes.TrimSuffix(raw, []byte("\n"))); err == nil {
			err = signer.ErrUnsigned
		}
	}
	if err != nil {
		return Receipt{}, nil, &Error{err}
	}
	statement, key, err := signer.OpenStatement(raw, keys)
	if err != nil {
		return Receipt{}, nil, &Error{err}
	}
	r, err := parse(statement)
	if err != nil {
		return Receipt{}, nil, &Error{err}
	}
	return r, key, nil
}

// ReadUnverified returns the receipt in a file, whoever wrote it, and the fingerprint of
// the key that it claims to be signed by, "" for none. Nothing is verified. It fails with
// an [*Error] of signer.ErrInvalid.
func ReadUnverified(raw []byte) (r Receipt, claimed string, err error) {
	statement := bytes.TrimSuffix(raw, []byte("\n"))
	signed, err := isSigned(raw)
	if err == nil && signed {
		statement, claimed, err = signer.OpenStatementUnverified(raw)
	}
	if err == nil {
		r, err = parse(statement)
	}
	if err != nil {
		return Receipt{}, "", &Error{err}
	}
	return r, claimed, nil
}

// isSigned tells a bundle from a statement alone.
func isSigned(raw []byte) (bool, error) {
	if len(raw) > MaxBytes {
		return false, fmt.Errorf("%w: %d bytes, the limit is %d", signer.ErrInvalid, len(raw), MaxBytes)
	}
	var head struct {
		MediaType string `json:"mediaType"`
		Type      string `json:"_type"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return false, fmt.Errorf("%w: %w", signer.ErrInvalid, err)
	}
	if head.MediaType == "" && head.Type == "" {
		return false, fmt.Errorf("%w: this is neither a bundle nor a statement", signer.ErrInvalid)
	}
	return head.MediaType != "", nil
}

// parse is the inverse of Statement.
func parse(raw []byte) (Receipt, error) {
	var kind struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return Receipt{}, fmt.Errorf("%w: statement: %w", signer.ErrInvalid, err)
	}
	if kind.Type != statementType || kind.PredicateType != PredicateType {
		return Receipt{}, fmt.Errorf("%w: this states %.80q, which is no receipt; want %s", signer.ErrInvalid, kind.PredicateType, PredicateType)
	}
	var st statement
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		return Receipt{}, fmt.Errorf("%w: statement: %w", signer.ErrInvalid, err)
	}
	again, err := st.Predicate.Statement()
	if err != nil {
		return Receipt{}, fmt.Errorf("%w: %w", signer.ErrInvalid, err)
	}
	if !bytes.Equal(raw, again) {
		return Receipt{}, fmt.Errorf("%w: the statement is not written as its receipt is: a field twice, subjects that were not accepted, no order, or more behind its end", signer.ErrInvalid)
	}
	return st.Predicate, nil
}

// sorted returns a copy in the order of receipts.
func (r Receipt) sorted() Receipt {
	r.Accepted = slices.Clone(r.Accepted)
	for i, a := range r.Accepted {
		a.Signers, a.Overrides = set(a.Signers), set(a.Overrides)
		a.Signatures = slices.SortedFunc(slices.Values(a.Signatures), compareSignatures)
		a.Signatures = slices.Compact(a.Signatures)
		r.Accepted[i] = a
	}
	slices.SortFunc(r.Accepted, func(a, b Release) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), artifact.CompareVersions(a.Version, b.Version), cmp.Compare(a.Root, b.Root))
	})
	r.Instances = slices.SortedFunc(slices.Values(r.Instances), func(a, b Instance) int { return cmp.Compare(a.Name, b.Name) })
	return r
}

func set(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }

func compareSignatures(a, b Signature) int {
	return cmp.Or(cmp.Compare(a.Signer, b.Signer), cmp.Compare(a.Form, b.Form), cmp.Compare(a.Manifest, b.Manifest), cmp.Compare(a.Layer, b.Layer))
}
