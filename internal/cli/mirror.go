package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

type mirrorFlags struct {
	keys          []string
	check, dryRun bool
}

func newMirror(a *app) *cobra.Command {
	var f mirrorFlags
	cmd := &cobra.Command{
		Use:   "mirror REF… DEST",
		Short: "Copy releases or images, with everything that belongs to them",
		Long: `mirror copies each REF with everything it reaches – images, layers, signatures,
SBOMs and attestations of every part – into DEST, unchanged. DEST is a directory on
a disk, which becomes an ordinary OCI image layout, or a repository in a registry. A
directory can hold many releases; what they share is stored once, and what is there
is not copied again.

An interrupted copy is continued by running the same command again. REF may also be
media, to copy from disk to disk or from a disk into a registry.

Manifests that DEST has already are read there and replaced where they are damaged.
With --check everything of REF that is in DEST is read and replaced likewise, which
mends media that sealift verify finds damaged.`,
		Example: "  sealift mirror registry.example.com/shop:1.0.0 registry.example.com/shop:1.1.0 /media/usb\n" +
			"  sealift mirror /media/usb registry.site.example/shop",
		Args: args(2, -1, "one or more REF and a destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mirror(cmd.Context(), args[:len(args)-1], args[len(args)-1], f)
		},
	}
	keyFlag(cmd, &f.keys)
	cmd.Flags().BoolVar(&f.check, "check", false, "read what the destination has already and replace what is damaged")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be copied, write nothing")
	return cmd
}

// mirrored is the result of mirror.
type mirrored struct {
	Type        string         `json:"type"`
	Destination string         `json:"destination"`
	Roots       []mirroredRoot `json:"roots"`
	Blobs       int            `json:"blobs"`
	Bytes       int64          `json:"bytes"`
	Copied      int            `json:"copied"`
	CopiedBytes int64          `json:"copiedBytes"`
	Damaged     int            `json:"damaged,omitempty"`
	DryRun      bool           `json:"dryRun,omitempty"`
}

type mirroredRoot struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Referrers int    `json:"referrers"`
}

func (a *app) mirror(ctx context.Context, refs []string, dest string, flags mirrorFlags) (err error) {
	keys, err := loadKeys(flags.keys)
	if err != nil {
		return err
	}
	to, err := artifact.ParseLocation(dest)
	if err != nil {
		return usagef("%v", err)
	}
	if to.Place == artifact.PlaceLibrary {
		return withHint(usagef("destination %q is neither a directory nor a registry", dest), "write ./%s for a directory", dest)
	}
	if to.Reference() != "" || to.Place == artifact.PlaceMedia && to.Repository != "" {
		return usagef("want a destination without tag or digest, got %q: names are kept", dest)
	}
	items, err := a.items(ctx, refs, to, func(f delivery.Found) error {
		if len(keys) == 0 {
			return nil
		}
		_, err := delivery.VerifySignature(ctx, f, keys)
		return err
	})
	if err != nil {
		return err
	}
	dst, closeDst, err := a.destination(ctx, to, flags.dryRun)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDst()) }()
	plan, err := mirror.NewPlan(ctx, dst, items, mirror.PlanOptions{Check: flags.check, Progress: a.out.Progress("checking")})
	if err != nil {
		return err
	}
	total, missing := plan.Size()
	result := mirrored{Type: "mirrored", Destination: to.String(), Blobs: len(plan.Manifests) + len(plan.Blobs), Bytes: total,
		Copied: plan.Missing(), CopiedBytes: missing, Damaged: plan.Damaged(), DryRun: flags.dryRun}
	for _, r := range plan.Roots {
		result.Roots = append(result.Roots, mirroredRoot{r.Name, r.Descriptor.Digest.String(), len(r.Referrers) + len(r.Tags)})
	}
	if !flags.dryRun {
		if err := plan.Execute(ctx, mirror.ExecuteOptions{Progress: a.out.Progress("copying")}); err != nil {
			return fmt.Errorf("mirror to %s: %w", to, err)
		}
	}
	return a.out.Result(result, result.text)
}

func (m mirrored) text(w io.Writer) {
	for _, r := range m.Roots {
		fmt.Fprintf(w, "%s\n  digest %s, %d signatures and other referrers\n", r.Name, r.Digest, r.Referrers)
	}
	verb, replaced := "copied", "replaced what was"
	if m.DryRun {
		verb, replaced = "would copy", "would replace what is"
	}
	fmt.Fprintf(w, "%s %s (%d of %d blobs), %s in all, to %s\n", verb, ui.Bytes(m.CopiedBytes), m.Copied, m.Blobs, ui.Bytes(m.Bytes), m.Destination)
	if m.Damaged > 0 {
		fmt.Fprintf(w, "%d of them %s damaged there\n", m.Damaged, replaced)
	}
}

// items finds what is to be mirrored and names it for the destination.
func (a *app) items(ctx context.Context, refs []string, to artifact.Location, check func(delivery.Found) error) ([]mirror.Item, error) {
	var items []mirror.Item
	seen := map[string]string{}
	for _, ref := range refs {
		list, err := a.find(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			if f.Damage != nil {
				return nil, f.Damage
			}
			if err := check(f); err != nil {
				return nil, err
			}
			item := mirror.Item{Source: f.Store, Reference: f.Descriptor.Digest.String(), Name: f.Name}
			if to.Place == artifact.PlaceRegistry {
				item.Name = to.Repository + strings.TrimPrefix(f.Name, delivery.FullName(f.Repository))
				host, path, _ := strings.Cut(f.Repository, "/")
				if strings.HasPrefix(to.Repository, host+"/") {
					item.MountFrom = path
				}
			}
			if other, twice := seen[item.Name]; twice && other != f.Name {
				return nil, usagef("%s and %s would both become %s; mirror them into repositories of their own", other, f.Name, item.Name)
			} else if twice {
				continue
			}
			seen[item.Name] = f.Name
			items = append(items, item)
		}
	}
	return items, nil
}

// destination opens where content goes; for a dry run it is only looked at.
func (a *app) destination(ctx context.Context, to artifact.Location, dryRun bool) (mirror.Destination, func() error, error) {
	nothing := func() error { return nil }
	switch {
	case to.Place == artifact.PlaceRegistry:
		repo, err := a.client.Repository(to.Repository)
		if err != nil {
			return nil, nothing, usagef("%v", err)
		}
		return mirror.Repository{Repository: repo}, nothing, nil
	case dryRun:
		dst, err := mirror.Peek(to.Path)
		return dst, nothing, err
	}
	// A directory is made, but not its parent: a mistyped path, or a disk that is
	// not mounted, must not fill the root file system.
	if _, err := os.Stat(filepath.Dir(to.Path)); err != nil {
		return nil, nothing, fmt.Errorf("the directory that %s is to be made in: %w", to, err)
	}
	m, err := mirror.OpenMedia(ctx, to.Path, mirror.MediaOptions{Tool: "sealift " + Version()})
	if err != nil {
		return nil, nothing, err
	}
	return m, m.Close, nil
}
