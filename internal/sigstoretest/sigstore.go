// Package sigstoretest is a sigstore in memory for tests: a certificate authority, a
// transparency log and a timestamp authority that need no network. [New] makes one;
// its [Sigstore.TrustedRoot] is what believes it, and [Sigstore.Bundle] and
// [Sigstore.Payload] sign in its name, in the formats of cosign.
package sigstoretest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"time"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// SignType is the type of the predicate of a signature.
const SignType = "https://sigstore.dev/cosign/sign/v1"

// Sigstore vouches for whoever asks. It may be used concurrently.
type Sigstore struct{ ca *ca.VirtualSigstore }

// T is what of testing.TB is needed; scripts have none.
type T interface {
	Helper()
	Fatal(args ...any)
}

// New makes one with keys of its own. What it signs has to be within the next minutes,
// and is good as of then for ever.
func New(t T) *Sigstore {
	t.Helper()
	v, err := ca.NewVirtualSigstore()
	check(t, err)
	return &Sigstore{v}
}

func check(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Parts say what of a sigstore a trusted root has. Its certificate authority is always
// in it.
type Parts struct{ Log, Timestamps, CertificateLog bool }

// TrustedRoot returns a trusted_root.json.
func (s *Sigstore) TrustedRoot(t T, parts Parts) []byte {
	t.Helper()
	var logs, certificateLogs map[string]*root.TransparencyLog
	var timestamps []root.TimestampingAuthority
	if parts.Log {
		logs = withIDs(t, s.ca.RekorLogs())
	}
	if parts.CertificateLog {
		certificateLogs = withIDs(t, s.ca.CTLogs())
	}
	if parts.Timestamps {
		timestamps = s.ca.TimestampingAuthorities()
	}
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, s.ca.FulcioCertificateAuthorities(), certificateLogs, timestamps, logs)
	check(t, err)
	raw, err := r.MarshalJSON()
	check(t, err)
	return raw
}

// withIDs makes the ids of logs, which the library keeps as text, what they are in a
// document.
func withIDs(t T, logs map[string]*root.TransparencyLog) map[string]*root.TransparencyLog {
	t.Helper()
	for id, log := range logs {
		var err error
		log.ID, err = hex.DecodeString(id)
		check(t, err)
		log.SignatureHashFunc = log.HashFunc
	}
	return logs
}

// Signature says who signs, and what proves when.
type Signature struct {
	Issuer, Subject string
	// Log has an entry with the log's promise and proof, LogV2 one of Rekor v2, which
	// says nothing about time; and Timestamp a timestamp.
	Log, LogV2, Timestamp bool
}

// Bundle signs an in-toto statement about d with a predicate of the type, nil for none,
// and returns a sigstore bundle v0.3.
func (s *Sigstore) Bundle(t T, by Signature, d digest.Digest, predicateType string, predicate json.RawMessage) []byte {
	t.Helper()
	statement, err := json.Marshal(struct {
		Type          string          `json:"_type"`
		Subject       []any           `json:"subject"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate,omitempty"`
	}{"https://in-toto.io/Statement/v1", []any{map[string]any{"digest": map[string]string{d.Algorithm().String(): d.Encoded()}}}, predicateType, predicate})
	check(t, err)
	attest := s.ca.Attest
	if by.LogV2 {
		attest = s.ca.AttestHashedRekordV2
	} else if by.Log {
		attest = func(subject, issuer string, body []byte) (*ca.TestEntity, error) {
			return s.ca.AttestAtTime(subject, issuer, body, time.Now().Add(time.Minute), true)
		}
	}
	e, err := attest(by.Subject, by.Issuer, statement)
	check(t, err)
	signed, err := e.SignatureContent()
	check(t, err)
	b, err := bundle.NewBundle(&protobundle.Bundle{
		MediaType:            "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: s.material(t, by, e),
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: "application/vnd.in-toto+json",
			Signatures: []*protodsse.Signature{{Sig: signed.Signature()}},
		}},
	})
	check(t, err)
	raw, err := b.MarshalJSON()
	check(t, err)
	return raw
}

func (s *Sigstore) material(t T, by Signature, e *ca.TestEntity) *protobundle.VerificationMaterial {
	t.Helper()
	m := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_Certificate{
		Certificate: &protocommon.X509Certificate{RawBytes: certificate(t, e)},
	}}
	if by.Timestamp {
		m.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: timestamp(t, e)}},
		}
	}
	if by.Log || by.LogV2 {
		entries, err := e.TlogEntries()
		check(t, err)
		entry := entries[0].TransparencyLogEntry()
		if by.Log {
			_, promise := s.promise(t, entries[0])
			entry.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
			entry.InclusionPromise = &protorekor.InclusionPromise{SignedEntryTimestamp: promise}
		}
		m.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	return m
}

func certificate(t T, e verify.SignedEntity) []byte {
	t.Helper()
	content, err := e.VerificationContent()
	check(t, err)
	return content.Certificate().Raw
}

func timestamp(t T, e verify.SignedEntity) []byte {
	t.Helper()
	stamps, err := e.Timestamps()
	check(t, err)
	return stamps[0]
}

// promise returns what the log promises to include, and its signature.
func (s *Sigstore) promise(t T, entry *tlog.Entry) (tlog.RekorPayload, []byte) {
	t.Helper()
	p := tlog.RekorPayload{
		Body: entry.Body(), IntegratedTime: entry.IntegratedTime().Unix(), LogIndex: entry.LogIndex(),
		LogID: hex.EncodeToString([]byte(entry.LogKeyID())),
	}
	sig, err := s.ca.RekorSignPayload(p)
	check(t, err)
	return p, sig
}

// Payload signs a simple signing payload and returns the annotations of its layer.
func (s *Sigstore) Payload(t T, by Signature, raw []byte) map[string]string {
	t.Helper()
	e, err := s.ca.SignAtTime(by.Subject, by.Issuer, raw, time.Now().Add(time.Minute))
	check(t, err)
	signed, err := e.SignatureContent()
	check(t, err)
	annotations := map[string]string{
		"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signed.Signature()),
		"dev.sigstore.cosign/certificate":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate(t, e)})),
	}
	if by.Timestamp {
		annotations["dev.sigstore.cosign/rfc3161timestamp"] = marshal(t, map[string][]byte{"SignedRFC3161Timestamp": timestamp(t, e)})
	}
	if by.Log {
		entries, err := e.TlogEntries()
		check(t, err)
		p, promise := s.promise(t, entries[0])
		annotations["dev.sigstore.cosign/bundle"] = marshal(t, map[string]any{"SignedEntryTimestamp": promise, "Payload": p})
	}
	return annotations
}

func marshal(t T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	check(t, err)
	return string(raw)
}
