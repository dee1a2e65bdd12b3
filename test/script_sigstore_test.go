package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
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
	sigstore := sceneOf(ts).sigstores[args[0]]
	by.Subject = args[1]
	ctx := context.Background()
	name, tag := splitTag(args[2])
	repo := openRepository(ts, name)
	subject, err := repo.Resolve(ctx, tag)
	ts.Check(err)
	push := func(mediaType string, raw []byte) ocispec.Descriptor {
		d := artifact.Describe(mediaType, raw)
		ts.Check(repo.Push(ctx, d, bytes.NewReader(raw)))
		return d
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	if atTag {
		raw := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, name, subject.Digest)
		layer := push("application/vnd.dev.cosign.simplesigning.v1+json", raw)
		layer.Annotations = sigstore.Payload(scriptT{ts}, by, raw)
		m.Config, m.Layers = push(ocispec.MediaTypeImageConfig, []byte("{}")), []ocispec.Descriptor{layer}
		ts.Check(repo.Tag(ctx, push(m.MediaType, encode(m)), artifact.SignatureTag(subject.Digest, ".sig")))
		return
	}
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	var predicate []byte
	if predicateType != sigstoretest.SignType {
		predicate = []byte(`{"name":"a statement"}`)
	}
	m.ArtifactType, m.Subject = bundle, &subject
	m.Annotations = map[string]string{"dev.sigstore.bundle.predicateType": predicateType}
	m.Config = push(ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data)
	m.Layers = []ocispec.Descriptor{push(bundle, sigstore.Bundle(scriptT{ts}, by, subject.Digest, predicateType, predicate))}
	push(m.MediaType, encode(m))
}
