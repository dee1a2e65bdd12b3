package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/archive"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/publish"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

type publishFlags struct {
	key    string
	noSign bool
	images []string
	dryRun bool
}

func newPublish(a *app) *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish APP_YAML REGISTRY/REPOSITORY",
		Short: "Publish an application as one signed release",
		Long: `publish reads a template, pins the image of every component by its digest, copies
the images unchanged into the repository, pushes the template with its files, signs
the release, and then tags it with its version. Images come from their registries, or with
--image from an OCI layout, an OCI archive or a docker save archive; PATH:TAG names
one of several.

The same inputs always make the same digest. A version that is published with other
content is never overwritten. Credentials are those of the Docker configuration.
SOURCE_DATE_EPOCH sets the date recorded in the release; without it there is none.`,
		Example: "  sealift publish app.yaml registry.example.com/shop --key cosign.key\n" +
			"  sealift publish app.yaml registry.example.com/shop --key cosign.key --image web=./web.tar --image db=./layouts/redis",
		Args: args(2, 2, "a template and a repository"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.publish(cmd.Context(), args[0], args[1], f)
		},
	}
	cmd.Flags().StringVar(&f.key, "key", "", "sign the release with the private key in `FILE`")
	passwordFlag(cmd, a)
	cmd.Flags().BoolVar(&f.noSign, "no-sign", false, "publish without a signature")
	cmd.Flags().StringArrayVar(&f.images, "image", nil, "take a component's image from elsewhere: `KEY=PATH` (may be repeated)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "check everything and show what would be copied, write nothing")
	return cmd
}

// published is the result of publish.
type published struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	Digest     string            `json:"digest"`
	ID         string            `json:"id"`
	Version    string            `json:"version"`
	Images     map[string]string `json:"images"`
	Bytes      int64             `json:"bytes"`
	Copied     int64             `json:"copied"`
	Signer     string            `json:"signer,omitempty"`
	DryRun     bool              `json:"dryRun,omitempty"`
	Unchanged  bool              `json:"unchanged,omitempty"`
	repository string
}

func (a *app) publish(ctx context.Context, file, repository string, f publishFlags) (err error) {
	dest, err := destinationRepository(repository)
	if err != nil {
		return err
	}
	if (f.key == "") != f.noSign {
		return withHint(usagef("publish wants either --key FILE to sign the release or --no-sign"), "make a key pair first: sealift keygen")
	}
	var sign *signer.Signer
	if f.key != "" {
		if sign, err = a.loadSigner(ctx, f.key); err != nil {
			return err
		}
	}
	created, err := a.sourceDate()
	if err != nil {
		return err
	}
	app, err := readTemplate(file)
	if err != nil {
		return err
	}
	images, closeImages, err := a.componentImages(ctx, app.Template, f.images, dest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeImages()) }()
	a.out.Message("resolving the images of %s %s", app.Template.ID, app.Template.Version)
	r, err := publish.Prepare(ctx, app, images, created)
	if err != nil {
		return err
	}
	return a.pushRelease(ctx, r, dest, sign, f.dryRun)
}

func (a *app) pushRelease(ctx context.Context, r *publish.Release, dest artifact.Location, sign *signer.Signer, dryRun bool) error {
	repo, err := a.client.Repository(dest.Repository)
	if err != nil {
		return usagef("%v", err)
	}
	t := r.App.Template
	name := dest.Repository + ":" + t.Version
	unchanged, err := r.Check(ctx, repo)
	if err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	plan, err := r.Plan(ctx, repo)
	if err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	total, copied := plan.Size()
	result := published{Type: "published", Name: name, Digest: r.Root.Descriptor.Digest.String(), ID: t.ID, Version: t.Version,
		Images: map[string]string{}, Bytes: total, Copied: copied, DryRun: dryRun, Unchanged: unchanged}
	for key, image := range r.Images {
		result.Images[key] = image.Descriptor.Digest.String()
	}
	if dryRun {
		return a.out.Result(result, result.text)
	}
	opts := publish.PushOptions{Execute: mirror.ExecuteOptions{Progress: a.out.Progress("copying")}}
	if sign != nil {
		opts.BeforeTag = func(ctx context.Context, root ocispec.Descriptor) error {
			_, err := signer.Sign(ctx, repo, root, dest.Repository, sign, signer.SignOptions{})
			return err
		}
		result.Signer = sign.Key().Fingerprint()
	}
	if err := r.Push(ctx, repo, plan, opts); err != nil {
		return fmt.Errorf("publish %s: %w", name, err)
	}
	return a.out.Result(result, result.text)
}

func (p published) text(w io.Writer) {
	verb := "published"
	if p.DryRun {
		verb = "would publish"
	} else if p.Unchanged {
		verb = "already published"
	}
	fmt.Fprintf(w, "%s %s\n  digest %s\n  %s in images, %s copied\n", verb, p.Name, p.Digest, ui.Bytes(p.Bytes), ui.Bytes(p.Copied))
	if p.Signer != "" {
		fmt.Fprintf(w, "  signed by key %s\n", p.Signer)
	}
}

// destinationRepository reads a REGISTRY/REPOSITORY argument, which carries
// neither tag nor digest.
func destinationRepository(ref string) (artifact.Location, error) {
	loc, err := artifact.ParseLocation(ref)
	if err != nil {
		return loc, usagef("%v", err)
	}
	if loc.Place != artifact.PlaceRegistry {
		return loc, usagef("want a repository in a registry, as registry.example.com/shop, got %q", ref)
	}
	if loc.Reference() != "" {
		return loc, usagef("want a repository without tag or digest, got %q: the version comes from the template", ref)
	}
	return loc, nil
}

// readTemplate reads a template and what it carries. The directory is opened as
// a root, so that no path and no link in the template leads out of it.
func readTemplate(file string) (*artifact.App, error) {
	data, err := readFile(file, artifact.MaxConfigBytes)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	app, err := artifact.ParseTemplate(file, data, root.FS())
	return app, errors.Join(err, root.Close())
}

// sourceDate reads SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch/).
func (a *app) sourceDate() (time.Time, error) {
	s := a.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH wants seconds since 1970, got %q", s)
	}
	return time.Unix(n, 0).UTC(), nil
}

// componentImages finds where each component's image comes from.
func (a *app) componentImages(ctx context.Context, t *artifact.Template, overrides []string, dest artifact.Location) (map[string]publish.Image, func() error, error) {
	var closers []io.Closer
	closeAll := func() (err error) {
		for _, c := range closers {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	from := map[string]string{}
	for _, o := range overrides {
		key, value, ok := strings.Cut(o, "=")
		if _, known := t.Components[key]; !ok || !known || value == "" {
			return nil, closeAll, usagef("--image wants KEY=PATH with a component's key (%s), got %q", strings.Join(t.Keys(), ", "), o)
		}
		if _, twice := from[key]; twice {
			return nil, closeAll, usagef("--image names component %s twice", key)
		}
		from[key] = value
	}
	images := map[string]publish.Image{}
	for _, key := range t.Keys() {
		ref, given := from[key]
		if !given {
			ref = t.Components[key].Image
		}
		image, closer, err := a.componentImage(ctx, ref, given, dest)
		if closer != nil {
			closers = append(closers, closer)
		}
		if err != nil {
			return nil, closeAll, &publish.ImageError{Component: key, Name: ref, Err: err}
		}
		image.Name = t.Components[key].Image
		images[key] = image
	}
	return images, closeAll, nil
}

// componentImage opens one image; a name from the command line may be a path.
func (a *app) componentImage(ctx context.Context, ref string, mayBePath bool, dest artifact.Location) (publish.Image, io.Closer, error) {
	if mayBePath {
		path, tag, err := existingPath(ref)
		if err != nil {
			return publish.Image{}, nil, err
		}
		if path != "" {
			return openImage(ctx, path, tag)
		}
		// A mistyped file name must not become a question to a registry.
		if loc, err := artifact.ParseLocation(ref); err != nil || loc.Place != artifact.PlaceRegistry {
			return publish.Image{}, nil, fmt.Errorf("%s: %w", ref, fs.ErrNotExist)
		}
	}
	loc, err := artifact.ParseImage(ref)
	if err != nil {
		return publish.Image{}, nil, usagef("%v", err)
	}
	if loc.Place != artifact.PlaceRegistry {
		return publish.Image{}, nil, fmt.Errorf("%s: %w", ref, fs.ErrNotExist)
	}
	repo, err := a.client.Repository(loc.Repository)
	if err != nil {
		return publish.Image{}, nil, usagef("%v", err)
	}
	image := publish.Image{Source: repo, Reference: loc.Reference()}
	host, path, _ := strings.Cut(loc.Repository, "/")
	if strings.HasPrefix(dest.Repository, host+"/") {
		image.MountFrom = path
	}
	return image, nil, nil
}

// existingPath splits PATH[:TAG] by what exists; the path is "" for none. A tag
// may be a full name, with colons of its own.
func existingPath(s string) (path, tag string, err error) {
	s = strings.TrimPrefix(s, "oci:")
	if _, err := os.Stat(s); err == nil {
		return s, "", nil
	}
	for i := strings.LastIndexByte(s, ':'); i > 0; i = strings.LastIndexByte(s[:i], ':') {
		if _, err := os.Stat(s[:i]); err == nil {
			return s[:i], s[i+1:], nil
		}
	}
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "/") {
		return "", "", fmt.Errorf("%s: %w", s, fs.ErrNotExist)
	}
	return "", "", nil
}

// openImage opens an image in a layout or an archive.
func openImage(ctx context.Context, path, tag string) (publish.Image, io.Closer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return publish.Image{}, nil, err
	}
	if info.IsDir() {
		image, err := layoutImage(ctx, path, tag)
		return image, nil, err
	}
	ar, err := archive.Open(path)
	if err != nil {
		return publish.Image{}, nil, err
	}
	return publish.Image{Source: ar, Reference: tag}, ar, nil
}

// layoutImage finds the one image of a layout, or the one called tag, which may be
// a full name: media holds one tag in many repositories.
func layoutImage(ctx context.Context, dir, tag string) (publish.Image, error) {
	loc := artifact.Location{Place: artifact.PlaceMedia, Path: dir, Tag: tag}
	if strings.Contains(tag, "/") {
		named, err := artifact.ParseImage(tag)
		if err != nil {
			return publish.Image{}, usagef("%v", err)
		}
		loc.Repository, loc.Tag, loc.Digest = named.Repository, named.Tag, named.Digest
	}
	list, err := delivery.FindMedia(ctx, loc)
	if err != nil {
		return publish.Image{}, err
	}
	var names []string
	several := false
	for _, f := range list {
		names = append(names, f.Name)
		several = several || f.Descriptor.Digest != list[0].Descriptor.Digest
	}
	if several {
		return publish.Image{}, usagef("holds several images, name one as PATH:TAG: %s", strings.Join(names, ", "))
	}
	return publish.Image{Source: list[0].Store, Reference: list[0].Descriptor.Digest.String()}, nil
}
