package signer_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/signer"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		attach func(t *testing.T, s *scene)
		// source, if set, stands between Verify and the registry.
		source       func(s *scene) signer.Source
		want         error
		wantAccepted []signer.Form
		wantRejected int
		wantReason   string
	}{
		{
			name:   "unsigned",
			attach: func(*testing.T, *scene) {},
			want:   signer.ErrUnsigned,
		},
		{
			name: "signed",
			attach: func(t *testing.T, s *scene) {
				parts(t, s.repo, s.index, s.accepted)
			},
			wantAccepted: []signer.Form{signer.FormBundle, signer.FormTag},
		},
		{
			name:         "tag alone",
			attach:       func(t *testing.T, s *scene) { attachTag(t, s.repo, s.index, s.sound) },
			wantAccepted: []signer.Form{signer.FormTag},
		},
		{
			name:         "bundle alone",
			attach:       func(t *testing.T, s *scene) { attachBundle(t, s.repo, s.index, s.bundle) },
			wantAccepted: []signer.Form{signer.FormBundle},
		},
		{
			name:         "experimental referrer alone",
			attach:       func(t *testing.T, s *scene) { attachOCI11(t, s.repo, s.index, s.sound) },
			wantAccepted: []signer.Form{signer.FormReferrer},
		},
		{
			name: "signed by another key",
			attach: func(t *testing.T, s *scene) {
				parts(t, s.repo, s.index, newSigner(t))
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 2,
			wantReason:   "verifies by none of the 1 keys given",
		},
		{
			name: "image signed but not the index",
			attach: func(t *testing.T, s *scene) {
				parts(t, s.repo, s.image, s.accepted)
			},
			want: signer.ErrUnsigned,
		},
		{
			name:         "tag of another release",
			attach:       func(t *testing.T, s *scene) { attachTag(t, s.repo, s.index, s.foreign) },
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "payload names",
		},
		{
			name:         "experimental referrer of another release",
			attach:       func(t *testing.T, s *scene) { attachOCI11(t, s.repo, s.index, s.foreign) },
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "payload names",
		},
		{
			name:         "bundle of another release",
			attach:       func(t *testing.T, s *scene) { attachBundle(t, s.repo, s.index, s.foreignBundle) },
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "statement names another subject",
		},
		{
			name: "referrer that refers to another subject",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.image, s.bundle)
			},
			source: func(s *scene) signer.Source {
				return lyingReferrers{Source: s.repo, lie: s.image}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "refers to another subject",
		},
		{
			name: "payload changed to name this release",
			attach: func(t *testing.T, s *scene) {
				attachTag(t, s.repo, s.index, payload{raw: s.sound.raw, sig: s.foreign.sig})
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 1,
		},
		{
			name: "payload with a flipped byte",
			attach: func(t *testing.T, s *scene) {
				raw := bytes.Replace(s.sound.raw, []byte("registry.example"), []byte("registry.exbmple"), 1)
				attachTag(t, s.repo, s.index, payload{raw: raw, sig: s.sound.sig})
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 1,
		},
		{
			name:   "payload flipped where it is stored",
			attach: func(t *testing.T, s *scene) { attachTag(t, s.repo, s.index, s.sound) },
			source: func(s *scene) signer.Source {
				return tampered{s.repo, func(desc ocispec.Descriptor, raw []byte) (io.ReadCloser, error) {
					if desc.MediaType != typePayload {
						return nil, nil
					}
					raw[0] ^= 1
					return io.NopCloser(bytes.NewReader(raw)), nil
				}}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "mismatched digest",
		},
		{
			name: "payload of another type",
			attach: func(t *testing.T, s *scene) {
				raw := bytes.Replace(s.sound.raw, []byte("cosign container image"), []byte("atomic container"), 1)
				attachTag(t, s.repo, s.index, s.sign(t, raw))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "payload is of type",
		},
		{
			name: "payload that names two releases",
			attach: func(t *testing.T, s *scene) {
				raw := bytes.Replace(s.sound.raw, []byte(`{"critical"`), []byte(`{"critical":{},"critical"`), 1)
				attachTag(t, s.repo, s.index, s.sign(t, raw))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   `key "critical" stands twice`,
		},
		{
			name: "bundle whose statement names two releases",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(_, envelope map[string]any) {
					payload, err := base64.StdEncoding.DecodeString(envelope["payload"].(string))
					if err != nil {
						t.Fatal(err)
					}
					payload = bytes.Replace(payload, []byte(`"subject":`), []byte(`"subject":[],"subject":`), 1)
					signed := s.sign(t, dsse.PAE("application/vnd.in-toto+json", payload))
					envelope["payload"] = base64.StdEncoding.EncodeToString(payload)
					envelope["signatures"] = []any{map[string]string{"sig": signed.sig}}
				}))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   `key "subject" stands twice`,
		},
		{
			name:         "payload that is no JSON",
			attach:       func(t *testing.T, s *scene) { attachTag(t, s.repo, s.index, s.sign(t, []byte("signed"))) },
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "oversized payload",
			attach: func(t *testing.T, s *scene) {
				raw := append(bytes.Clone(s.sound.raw), bytes.Repeat([]byte(" "), 1<<20)...)
				attachTag(t, s.repo, s.index, s.sign(t, raw))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "the limit is 1048576",
		},
		{
			name: "oversized bundle",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, append(bytes.Clone(s.bundle), bytes.Repeat([]byte(" "), 1<<20)...))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "the limit is 1048576",
		},
		{
			// Without a hint of the key a wrong signature cannot be told from
			// somebody else's.
			name: "flipped signature at the tag",
			attach: func(t *testing.T, s *scene) {
				attachTag(t, s.repo, s.index, payload{raw: s.sound.raw, sig: flipSignature(t, s.sound.sig)})
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 1,
		},
		{
			name: "flipped signature in the bundle",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, flipBundleSignature(t, s.bundle))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "claims to be by key sha256:",
		},
		{
			name: "statement in the bundle exchanged",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.foreignBundle, func(_, envelope map[string]any) {
					editBundle(t, s.bundle, func(_, sound map[string]any) { envelope["payload"] = sound["payload"] })
				}))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "hint of an accepted key in a bundle by another",
			attach: func(t *testing.T, s *scene) {
				scratch := newRepository(t, true)
				same, _ := pushRelease(t, scratch, "1.0.0")
				_, theirs := parts(t, scratch, same, newSigner(t))
				attachBundle(t, s.repo, s.index, editBundle(t, theirs, func(b, _ map[string]any) {
					editBundle(t, s.bundle, func(sound, _ map[string]any) {
						b["verificationMaterial"] = sound["verificationMaterial"]
					})
				}))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "hint of nobody in a bundle by the accepted key",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(b, _ map[string]any) {
					b["verificationMaterial"] = map[string]any{"publicKey": map[string]any{"hint": "nobody"}}
				}))
			},
			wantAccepted: []signer.Form{signer.FormBundle},
		},
		{
			name: "bundle with a certificate",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(b, _ map[string]any) {
					b["verificationMaterial"] = map[string]any{"certificate": map[string]any{"rawBytes": "AAAA"}}
				}))
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 1,
			wantReason:   "signed with a certificate",
		},
		{
			name: "bundle with two signatures",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(_, envelope map[string]any) {
					sigs := envelope["signatures"].([]any)
					envelope["signatures"] = append(sigs, sigs[0])
				}))
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "exactly one signature",
		},
		{
			name: "bundle with a bare message signature",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(b, _ map[string]any) {
					delete(b, "dsseEnvelope")
					b["messageSignature"] = map[string]any{"signature": "AAAA"}
				}))
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 1,
		},
		{
			name:         "bundle that is no bundle",
			attach:       func(t *testing.T, s *scene) { attachBundle(t, s.repo, s.index, []byte(`{"mediaType":1}`)) },
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "attestation by the accepted key",
			attach: func(t *testing.T, s *scene) {
				attachBundle(t, s.repo, s.index, editBundle(t, s.bundle, func(_, envelope map[string]any) {
					st, err := base64.StdEncoding.DecodeString(envelope["payload"].(string))
					if err != nil {
						t.Fatal(err)
					}
					st = bytes.Replace(st, []byte("https://sigstore.dev/cosign/sign/v1"), []byte("https://spdx.dev/Document"), 1)
					pae := fmt.Sprintf("DSSEv1 28 application/vnd.in-toto+json %d %s", len(st), st)
					envelope["payload"] = base64.StdEncoding.EncodeToString(st)
					envelope["signatures"] = []any{map[string]any{"sig": s.sign(t, []byte(pae)).sig}}
				}))
			},
			want: signer.ErrUnsigned,
		},
		{
			name: "signature that is not base64",
			attach: func(t *testing.T, s *scene) {
				attachTag(t, s.repo, s.index, payload{raw: s.sound.raw, sig: "%"})
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "layer without a signature",
			attach: func(t *testing.T, s *scene) {
				attachTag(t, s.repo, s.index, payload{raw: s.sound.raw, sig: ""})
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "tag on an index",
			attach: func(t *testing.T, s *scene) {
				if err := s.repo.Tag(t.Context(), s.index, sigTag(s.index)); err != nil {
					t.Fatal(err)
				}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
			wantReason:   "not an image manifest",
		},
		{
			name: "tag on the release's own image",
			attach: func(t *testing.T, s *scene) {
				if err := s.repo.Tag(t.Context(), s.image, sigTag(s.index)); err != nil {
					t.Fatal(err)
				}
			},
			want: signer.ErrUnsigned,
		},
		{
			name: "broken beside good",
			attach: func(t *testing.T, s *scene) {
				attachTag(t, s.repo, s.index, s.foreign, payload{raw: s.sound.raw, sig: "%"}, s.sound)
				attachBundle(t, s.repo, s.index, s.foreignBundle)
			},
			wantAccepted: []signer.Form{signer.FormTag},
			wantRejected: 3,
		},
		{
			name: "broken tag beside a good bundle",
			attach: func(t *testing.T, s *scene) {
				if err := s.repo.Tag(t.Context(), s.index, sigTag(s.index)); err != nil {
					t.Fatal(err)
				}
				attachBundle(t, s.repo, s.index, s.bundle)
			},
			wantAccepted: []signer.Form{signer.FormBundle},
			wantRejected: 1,
		},
		{
			name: "good beyond the number looked at",
			attach: func(t *testing.T, s *scene) {
				var all []payload
				for i := range 64 {
					raw := append(bytes.Clone(s.sound.raw), strings.Repeat(" ", i)...)
					all = append(all, payload{raw: raw, sig: s.foreign.sig})
				}
				attachTag(t, s.repo, s.index, append(all, s.sound)...)
			},
			want:         signer.ErrNotAccepted,
			wantRejected: 65,
		},
		{
			name:   "payload absent",
			attach: func(t *testing.T, s *scene) { attachTag(t, s.repo, s.index, s.sound) },
			source: func(s *scene) signer.Source {
				return tampered{s.repo, func(desc ocispec.Descriptor, _ []byte) (io.ReadCloser, error) {
					if desc.MediaType == typePayload {
						return nil, fmt.Errorf("%s: %w", desc.Digest, errdef.ErrNotFound)
					}
					return nil, nil
				}}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name:   "bundle on a sector that cannot be read",
			attach: func(t *testing.T, s *scene) { attachBundle(t, s.repo, s.index, s.bundle) },
			source: func(s *scene) signer.Source {
				return tampered{s.repo, func(desc ocispec.Descriptor, _ []byte) (io.ReadCloser, error) {
					if desc.MediaType == typeBundle {
						return nil, &fs.PathError{Op: "read", Path: desc.Digest.String(), Err: syscall.EIO}
					}
					return nil, nil
				}}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name:   "bundle of another size on the media",
			attach: func(t *testing.T, s *scene) { attachBundle(t, s.repo, s.index, s.bundle) },
			source: func(s *scene) signer.Source {
				return tampered{s.repo, func(desc ocispec.Descriptor, _ []byte) (io.ReadCloser, error) {
					if desc.MediaType == typeBundle {
						return nil, &layout.SizeError{Digest: desc.Digest, Want: desc.Size, Got: 1}
					}
					return nil, nil
				}}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name:   "payload with another digest",
			attach: func(t *testing.T, s *scene) { attachTag(t, s.repo, s.index, s.sound) },
			source: func(s *scene) signer.Source {
				return tampered{s.repo, func(desc ocispec.Descriptor, _ []byte) (io.ReadCloser, error) {
					if desc.MediaType == typePayload {
						return nil, content.ErrMismatchedDigest
					}
					return nil, nil
				}}
			},
			want:         signer.ErrInvalid,
			wantRejected: 1,
		},
		{
			name: "source that fails",
			attach: func(t *testing.T, s *scene) {
				attachTag(t, s.repo, s.index, s.foreign)
				attachBundle(t, s.repo, s.index, s.bundle)
			},
			source: func(s *scene) signer.Source {
				return tampered{s.repo, func(desc ocispec.Descriptor, _ []byte) (io.ReadCloser, error) {
					if desc.MediaType == typeBundle {
						return nil, errSource
					}
					return nil, nil
				}}
			},
			want:         errSource,
			wantRejected: 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			tt.attach(t, s)
			var src signer.Source = s.repo
			if tt.source != nil {
				src = tt.source(s)
			}
			evidence, err := signer.Verify(t.Context(), src, s.index, []*signer.Key{s.accepted.Key()})
			if tt.want != nil {
				checkRefused(t, err, tt.want, s.index, tt.wantRejected, tt.wantReason)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkAccepted(t, evidence, s, tt.wantAccepted, tt.wantRejected)
		})
	}
}
