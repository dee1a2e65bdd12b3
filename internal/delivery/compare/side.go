package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// Side is one of the two artifacts that [Sides] takes.
type Side struct {
	// Name is what it was found as.
	Name string
	// Release is nil for what is no release.
	Release *artifact.Release
	Closure *mirror.Closure
	// Configs are those of an image, by platform; nil for one that is not there,
	// and empty for a release.
	Configs map[string]*ImageConfig
	Signers Signers
}

// Signers tell who signed an artifact.
type Signers struct {
	// Signatures counts what was found.
	Signatures int `json:"signatures"`
	// Claimed are the fingerprints that signatures name. Nothing vouches for them.
	Claimed []string `json:"claimed"`
	// Verified are those of the keys trusted that did sign it; nil when none was
	// given.
	Verified []string `json:"verified,omitempty"`
	// Problem says why it does not count as signed by a key given, or what could not
	// be read.
	Problem string `json:"problem,omitempty"`
}

// ImageConfig is what an image's config says about running it.
type ImageConfig struct {
	Entrypoint []string
	Cmd        []string
	// Env may hold secrets: [Sides] tells which differ, and no values.
	Env        map[string]string
	User       string
	WorkingDir string
}

const (
	maxImageConfigBytes = 4 << 20
	maxImageConfigs     = 64 // platforms of one image that are looked into
)

// ReadSide reads what a comparison needs of f: manifests, and of a release its
// template and carried files, of an image its configs; no layer. With trust it
// finds out whether one of them signed f, which is no condition. It fails as
// [mirror.ReadClosure] and [artifact.ReadRelease] do.
func ReadSide(ctx context.Context, f delivery.Found, trust delivery.Trust) (*Side, error) {
	if f.Damage != nil {
		return nil, f.Damage
	}
	s := &Side{Name: f.Name}
	var err error
	if s.Closure, err = mirror.ReadClosure(ctx, f.Store, f.Descriptor); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	if s.Release, err = artifact.ReadRelease(ctx, f.Store, f.Descriptor); errors.Is(err, artifact.ErrNotRelease) {
		s.Release = nil
		s.Configs, err = readConfigs(ctx, f.Store, s.Closure)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	s.Signers = readSigners(ctx, f, trust)
	return s, ctx.Err()
}

// readConfigs reads the configs of an image, or of the images of an index.
func readConfigs(ctx context.Context, store delivery.Store, c *mirror.Closure) (map[string]*ImageConfig, error) {
	configs := map[string]*ImageConfig{}
	root := c.Members[c.Root.Digest]
	entries := root.Entries
	if len(root.Blobs) > 0 {
		entries = []ocispec.Descriptor{c.Root}
	}
	for _, d := range entries {
		m, there := c.Members[d.Digest]
		platform := ""
		if d.Platform != nil {
			if d.Platform.OS == "unknown" {
				continue // an attestation
			}
			platform = mirror.FormatPlatform(*d.Platform)
		}
		if !there || len(m.Blobs) == 0 {
			configs[platform] = nil
			continue
		}
		if len(configs) == maxImageConfigs {
			break
		}
		config, own, err := readConfig(ctx, store, m.Blobs[0])
		if err != nil {
			return nil, err
		}
		if platform == "" {
			platform = own
		}
		configs[platform] = config
	}
	return configs, nil
}

// readConfig returns the config of an image and the platform it is for; nil and ""
// where it is not there, or is an artifact's.
func readConfig(ctx context.Context, store delivery.Store, desc ocispec.Descriptor) (*ImageConfig, string, error) {
	data, err := artifact.Fetch(ctx, store, desc, maxImageConfigBytes)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, "", nil
	} else if err != nil {
		return nil, "", fmt.Errorf("image config %s: %w", desc.Digest, err)
	}
	var image ocispec.Image
	if json.Unmarshal(data, &image) != nil {
		return nil, "", nil
	}
	c := &ImageConfig{Entrypoint: image.Config.Entrypoint, Cmd: image.Config.Cmd, User: image.Config.User, WorkingDir: image.Config.WorkingDir, Env: map[string]string{}}
	for _, e := range image.Config.Env {
		name, value, _ := strings.Cut(e, "=")
		c.Env[name] = value
	}
	platform := ""
	if image.OS != "" {
		platform = mirror.FormatPlatform(image.Platform)
	}
	return c, platform, nil
}

// readSigners lists who claims to have signed f and, with trust, who did. What goes
// wrong with that is part of the answer.
func readSigners(ctx context.Context, f delivery.Found, trust delivery.Trust) Signers {
	s := Signers{Claimed: []string{}}
	if f.Descriptor.Digest.Algorithm() != digest.SHA256 {
		return s // nothing else can be signed
	}
	list, err := signer.Signatures(ctx, f.Store, f.Descriptor)
	s.Signatures = len(list)
	for _, one := range list {
		if by := one.Signer(); by != "" {
			s.Claimed = append(s.Claimed, by)
		}
	}
	slices.Sort(s.Claimed)
	s.Claimed = slices.Compact(s.Claimed)
	if trust.Any() {
		s.Verified = []string{}
		var evidence *signer.Evidence
		if evidence, err = delivery.VerifySignature(ctx, f, trust); err == nil {
			s.Verified = evidence.Signers()
		}
	}
	if err != nil {
		s.Problem = err.Error()
	}
	return s
}
