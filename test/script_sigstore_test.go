package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

// The media types of what cosign writes.
const (
	typeBundle  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	typePayload = "application/vnd.dev.cosign.simplesigning.v1+json"
)

// scriptIssuer is who vouches for the subjects of keyless.
const scriptIssuer = "https://accounts.example.com"

// scriptT lets helpers of tests fail a script.
type scriptT struct{ ts *testscript.TestScript }

func (t scriptT) Helper()           {}
func (t scriptT) Fatal(args ...any) { t.ts.Fatalf("%s", fmt.Sprint(args...)) }

// cmdSigstore makes sigstores in memory, each with its trusted root in NAME.json and
// the fingerprint of that in NAME_root.
func cmdSigstore(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, !neg && len(args) > 0, "sigstore NAME...")
	for _, name := range args {
		s := sigstoretest.New(scriptT{ts})
		sceneOf(ts).sigstores[name] = s
		raw := s.TrustedRoot(scriptT{ts}, sigstoretest.Parts{Log: true, Timestamps: true})
		root, err := signer.ParseRoot(raw)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name+".json"), raw, 0o644))
		ts.Setenv(name+"_root", root.Fingerprint())
	}
}

// cmdKeyless signs what a tag names with a certificate that a sigstore gives to
// SUBJECT, in a bundle or at the signature tag, or attests something of a type.
func cmdKeyless(ts *testscript.TestScript, neg bool, args []string) {
	by := sigstoretest.Signature{Issuer: scriptIssuer, Log: true, Timestamp: true}
	atTag, predicateType := false, sigstoretest.SignType
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-tag":
			atTag = true
		case args[0] == "-nolog":
			by.Log = false
		case args[0] == "-attest" && len(args) > 1:
			predicateType, args = args[1], args[1:]
		}
		args = args[1:]
	}
	need(ts, !neg && len(args) == 3 && sceneOf(ts).sigstores[args[0]] != nil, "keyless [-tag] [-nolog] [-attest TYPE] SIGSTORE SUBJECT HOST/REPO:TAG")
	by.Subject = args[1]
	name, tag := splitTag(args[2])
	repo := openRepository(ts, name)
	subject, err := repo.Resolve(context.Background(), tag)
	ts.Check(err)
	ts.Check(attachKeyless(scriptT{ts}, repo, name, subject, sceneOf(ts).sigstores[args[0]], by, atTag, predicateType))
}

// attachKeyless signs or attests a subject with a certificate, in a bundle or at its
// signature tag.
func attachKeyless(t sigstoretest.T, repo *remote.Repository, name string, subject ocispec.Descriptor, sigstore *sigstoretest.Sigstore, by sigstoretest.Signature, atTag bool, predicateType string) error {
	ctx := context.Background()
	var failed error
	push := func(mediaType string, raw []byte) ocispec.Descriptor {
		d := artifact.Describe(mediaType, raw)
		failed = errors.Join(failed, repo.Push(ctx, d, bytes.NewReader(raw)))
		return d
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	if atTag {
		raw := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, name, subject.Digest)
		layer := push(typePayload, raw)
		layer.Annotations = sigstore.Payload(t, by, raw)
		m.Config, m.Layers = push(ocispec.MediaTypeImageConfig, []byte("{}")), []ocispec.Descriptor{layer}
		return errors.Join(failed, repo.Tag(ctx, push(m.MediaType, encode(m)), artifact.SignatureTag(subject.Digest, ".sig")))
	}
	var predicate []byte
	if predicateType != sigstoretest.SignType {
		predicate = []byte(`{"name":"a statement"}`)
	}
	m.ArtifactType, m.Subject = typeBundle, &subject
	m.Annotations = map[string]string{"dev.sigstore.bundle.predicateType": predicateType}
	m.Config = push(ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data)
	m.Layers = []ocispec.Descriptor{push(typeBundle, sigstore.Bundle(t, by, subject.Digest, predicateType, predicate))}
	push(m.MediaType, encode(m))
	return failed
}
