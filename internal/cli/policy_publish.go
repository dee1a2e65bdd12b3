package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/publish"
	"github.com/sealift/sealift/signer"
)

func newPolicyPublish(a *app) *cobra.Command {
	var key string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "publish POLICY_YAML DEST",
		Short: "Publish a policy as a signed update for sites",
		Long: `publish checks a policy and puts it into a repository of a registry, or onto media, as
an artifact with the policy's version for a tag. mirror carries it like any other, and
at a site policy update puts it in the place of the policy there, if those have signed
it who may, by the updates of that policy. Where several must sign, the others do so
with sealift sign.

The same policy always makes the same digest, and a version that is published with
other content is never overwritten. Versions only go up: give the new policy a higher
one than any site has that it is for.

On media, DIR//HOST/REPOSITORY gives it a name of its own; else it is in
localhost/policy.`,
		Example: "  sealift policy publish policy.yaml registry.example.com/plant/policy --key officer.key\n" +
			"  sealift policy publish policy.yaml /media/usb --key officer.key",
		Args: args(2, 2, "a policy and a destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.policyPublish(cmd.Context(), args[0], args[1], key, dryRun)
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "sign the update with the private key in `FILE`")
	passwordFlag(cmd, a)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check everything and show what the policy holds, write nothing")
	_ = cmd.MarkFlagFilename("key", "key")
	return cmd
}

// policyPublished is the result of policy publish.
type policyPublished struct {
	policyListed
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Signer    string `json:"signer,omitempty"`
	DryRun    bool   `json:"dryRun,omitempty"`
	Unchanged bool   `json:"unchanged,omitempty"`
}

func (a *app) policyPublish(ctx context.Context, file, dest, keyFile string, dryRun bool) error {
	data, err := readFile(file, signer.MaxPolicyBytes)
	if err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	p, err := signer.ParsePolicy(file, data)
	if err != nil {
		return err
	}
	to, err := policyDestination(dest, p.Version)
	if err != nil {
		return err
	}
	var sign *signer.Signer
	if keyFile != "" {
		if sign, err = a.loadSigner(ctx, keyFile); err != nil {
			return err
		}
	}
	update, err := publish.PreparePolicy(p.Version, data)
	if err != nil {
		return err
	}
	v := policyPublished{policyListed: listedPolicy(file, p), Name: to.Repository + ":" + to.Tag, Digest: update.Root.Descriptor.Digest.String(), DryRun: dryRun}
	v.Type = "policyPublished"
	if sign != nil {
		v.Signer = sign.Key().Fingerprint()
	}
	if !p.Updatable(a.Now()) {
		a.out.Warn("%s", noUpdateAfter)
	}
	if to.Place == artifact.PlaceMedia {
		v.Unchanged, err = a.policyOntoMedia(ctx, update, to, sign, dryRun)
	} else {
		v.Unchanged, err = a.policyIntoRegistry(ctx, update, to, sign, dryRun)
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", v.Name, err)
	}
	return a.out.Result(v, v.text)
}

// policyDestination reads where an update goes; its tag is the version.
func policyDestination(dest string, version int) (artifact.Location, error) {
	loc, err := location(dest)
	if err != nil {
		return loc, err
	}
	tag := strconv.Itoa(version)
	if loc.Digest != "" || loc.Tag != "" && loc.Tag != tag {
		return loc, usagef("want a repository or a directory without tag or digest, got %q: the tag is the version of the policy, %s", dest, tag)
	}
	loc.Tag = tag
	if loc.Place == artifact.PlaceMedia {
		loc.Repository = delivery.FullName(cmp.Or(loc.Repository, "policy"))
	}
	return loc, nil
}

func (a *app) policyIntoRegistry(ctx context.Context, update *publish.Policy, to artifact.Location, sign *signer.Signer, dryRun bool) (unchanged bool, err error) {
	repo, err := a.client.Repository(to.Repository)
	if err != nil {
		return false, usagef("%v", err)
	}
	if unchanged, err = update.Check(ctx, repo); err != nil || dryRun {
		return unchanged, err
	}
	var beforeTag func(context.Context, ocispec.Descriptor) error
	if sign != nil {
		beforeTag = func(ctx context.Context, root ocispec.Descriptor) error {
			_, err := signer.Sign(ctx, repo, root, to.Repository, sign, signer.SignOptions{})
			return err
		}
	}
	return unchanged, update.Push(ctx, repo, beforeTag)
}

// policyOntoMedia names the update before it is signed, for on media a manifest is in a
// repository by its name; nobody sees either before both are committed.
func (a *app) policyOntoMedia(ctx context.Context, update *publish.Policy, to artifact.Location, sign *signer.Signer, dryRun bool) (unchanged bool, err error) {
	if dryRun {
		if err := takesCopy(artifact.Location{Place: to.Place, Path: to.Path}, false); err != nil {
			return false, err
		}
		l, err := delivery.OpenMedia(to.Path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, layout.ErrNotLayout) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		return update.Check(ctx, l.Repository(to.Repository))
	}
	err = a.ontoMedia(ctx, to, func(repo *layout.WritableRepository) (err error) {
		if unchanged, err = update.Check(ctx, repo); err != nil {
			return err
		}
		if err := update.Push(ctx, repo, nil); err != nil || sign == nil {
			return err
		}
		_, err = signer.Sign(ctx, repo, update.Root.Descriptor, to.Repository, sign, signer.SignOptions{})
		return err
	})
	return unchanged, err
}

func (v policyPublished) text(w io.Writer) {
	verb := "published"
	if v.DryRun {
		verb = "would publish"
	} else if v.Unchanged {
		verb = "already published"
	}
	fmt.Fprintf(w, "%s %s\n  update %s\n", verb, v.Name, v.Digest)
	if v.Signer != "" {
		fmt.Fprintf(w, "  signed by key %s\n", v.Signer)
	} else {
		fmt.Fprintln(w, "  not signed here; sealift sign adds signatures")
	}
	v.policyListed.text(w)
}
