package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// platformFlag adds --platform.
func platformFlag(cmd *cobra.Command, platforms *[]string, usage string) {
	cmd.Flags().StringArrayVar(platforms, "platform", nil, usage)
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions([]string{"linux/amd64", "linux/arm64", "linux/arm/v7"}, cobra.ShellCompDirectiveNoFileComp))
}

func parsePlatforms(words []string) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, s := range words {
		p, err := mirror.ParsePlatform(s)
		if err != nil {
			return nil, withHint(usagef("%v", err), "as in --platform linux/arm64")
		}
		list = append(list, p)
	}
	return list, nil
}

// lookups bounds what is looked for at once.
const lookups = 8

// findAll finds what refs name; media is read as one, and what is damaged on one from
// another.
func (a *app) findAll(ctx context.Context, refs []string) ([]delivery.Found, error) {
	lists := make([][]delivery.Found, len(refs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for i, ref := range refs {
		g.Go(func() (err error) {
			lists[i], err = a.find(gctx, ref)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return delivery.Gather(lists...)
}

// explainItems says what else can be asked for where a request makes no copy.
func explainItems(err error) error {
	var lacking *delivery.NotCarriedError
	switch {
	case errors.As(err, &lacking):
		return withHint(err, "mirror %s from where all platforms are", mirror.FormatPlatform(lacking.Platform))
	case errors.As(err, new(*delivery.ClashError)):
		return &usageError{err.Error()}
	}
	return err
}

// setRefs are the names of what a volume set is of, as the media in dir says.
func setRefs(dir string) ([]string, error) {
	l, err := delivery.OpenMedia(dir)
	if err != nil {
		return nil, fmt.Errorf("--set: %w", err)
	}
	label, err := l.Label()
	if err != nil {
		return nil, fmt.Errorf("--set %s: %w", dir, err)
	}
	var refs []string
	for _, r := range label.Roots {
		refs = append(refs, r.Name)
	}
	if len(refs) == 0 {
		return nil, usagef("%s does not say what it is a volume of; name what to copy", dir)
	}
	return refs, nil
}

// maxMissing bounds the content that is listed where the source lacks it.
const maxMissing = 10

// explainAbsent says of what neither side has which volumes have it; where none have
// it, it is missing, and listed with what sources that are deltas build on.
func (c *copying) explainAbsent(err error) error {
	var absent *mirror.AbsentError
	if !errors.As(err, &absent) {
		return err
	}
	if rest := delivery.Rest(c.carried, absent.Content); rest != nil {
		rest.Err = err
		return rest
	}
	errs, word := []error{err}, "missing"
	for _, carried := range c.carried {
		if len(carried.Base) > 0 { // which has it
			word = "absent"
		}
	}
	for _, d := range absent.Content[:min(len(absent.Content), maxMissing)] {
		errs = append(errs, fmt.Errorf("%s: %s, %s", word, d.Digest, ui.Bytes(d.Size)))
	}
	for i, f := range c.found {
		for _, b := range c.carried[i].Base {
			errs = append(errs, fmt.Errorf("%s builds on %s, %s", f.Name, ui.Value(b.Name), b.Digest))
		}
	}
	if c.stays {
		return withHint(errors.Join(errs...), "import what it builds on first, or together with it: sealift import MEDIA MEDIA")
	}
	return errors.Join(errs...)
}

// explainPlatform says what else could be asked for.
func explainPlatform(err error) error {
	var other *mirror.PlatformError
	if errors.As(err, &other) {
		return withHint(err, "choose among %s, or leave out --platform to carry all", mirror.FormatPlatforms(other.Have))
	}
	return err
}

// maxPlanBytes bounds a plan that is read back.
const maxPlanBytes = 256 << 20

// readPlan reads a plan and the request it was made for.
func readPlan(path string) (mirror.Document, delivery.Request, error) {
	raw, err := readFile(path, maxPlanBytes)
	if err != nil {
		return mirror.Document{}, delivery.Request{}, err
	}
	d, err := mirror.ParseDocument(raw)
	if err != nil {
		return d, delivery.Request{}, withHint(usagef("%s: %v", path, err), "give a file that sealift mirror --plan wrote")
	}
	req, err := delivery.ParseRequest(d.Request)
	if errors.Is(err, delivery.ErrNoRequest) {
		err = usagef("%s does not say what it is the plan of", path)
	} else if errors.Is(err, delivery.ErrOldRequest) {
		return d, req, withHint(usagef("%s: %v", path, err), "make the plan again with --plan, and look at it")
	} else if err != nil {
		err = usagef("%s: request: %v", path, err)
	}
	if err != nil {
		return d, req, withHint(err, "give a file that sealift mirror --plan wrote")
	}
	return d, req, nil
}

// writePlan writes a plan whole or not at all.
func writePlan(path string, d mirror.Document) error {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".plan-*")
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	_, err = temp.Write(append(raw, '\n'))
	err = errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write plan: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

// words joins what is not empty.
func words(list ...string) string {
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return s == "" }), ", ")
}
