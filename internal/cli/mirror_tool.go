package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// toolDefault is what --with-tool means without a platform.
const toolDefault = "linux"

// toolFlagSet adds the flags that say which programs go along: for platforms, which
// may be toolDefault, or none.
func toolFlagSet(cmd *cobra.Command, platforms *[]string, dir *string) {
	flags := cmd.Flags()
	flags.StringSliceVar(platforms, "with-tool", nil, "put sealift itself and START-HERE.txt on the media, for `OS/ARCH,…` (default linux on the platforms carried)")
	flags.Lookup("with-tool").NoOptDefVal = toolDefault
	flags.StringVar(dir, "tool-dir", "", "take the programs from `DIR`, where make dist left them (default beside this program)")
	_ = cmd.MarkFlagDirname("tool-dir")
	_ = cmd.RegisterFlagCompletionFunc("with-tool", completeTools)
}

// completeTools completes the last of a list of platforms.
func completeTools(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	before := typed[:strings.LastIndexByte(typed, ',')+1]
	var list []string
	for _, p := range append([]string{toolDefault}, tool.KnownPlatforms()...) {
		if !slices.Contains(strings.Split(before, ","), p) {
			list = append(list, before+p)
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// detachedTool fails when args have the platforms that are meant for --with-tool, which
// takes none without a sign: they would be a source, or the destination.
func detachedTool(platforms, args []string) error {
	if !slices.Equal(platforms, []string{toolDefault}) {
		return nil
	}
	for _, arg := range args {
		if !slices.ContainsFunc(strings.Split(arg, ","), func(s string) bool { return !isToolPlatform(s) }) {
			return withHint(usagef("--with-tool takes platforms behind =, and %q stands apart from it", arg), "write --with-tool=%s", arg)
		}
	}
	return nil
}

func isToolPlatform(s string) bool {
	p, err := mirror.ParsePlatform(s)
	return s == toolDefault || err == nil && slices.Contains([]string{"linux", "darwin", "windows"}, p.OS)
}

// tools are the programs for a plan, nil when none go along. That one cannot is
// found before anything is copied.
func (c *copying) tools(plan *mirror.Plan) (*tool.Options, error) {
	switch {
	case len(c.req.Tool) == 0 && c.req.ToolDir != "":
		return nil, usagef("--tool-dir goes with --with-tool")
	case len(c.req.Tool) == 0:
		return nil, nil
	case c.to.Place == artifact.PlaceRegistry:
		return nil, usagef("--with-tool is for media, and %s is a registry", c.to)
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's own file: %w", err)
	}
	opts := &tool.Options{Executable: executable, Version: Version(), Dir: c.req.ToolDir}
	for _, s := range c.req.Tool {
		if s == toolDefault {
			opts.Platforms = append(opts.Platforms, tool.Platforms(plan.Platforms())...)
			continue
		}
		list, err := parsePlatforms([]string{s})
		if err != nil {
			return nil, err
		}
		opts.Platforms = append(opts.Platforms, list...)
	}
	c.req.Tool = nil // as a plan has it: there is nothing more to choose
	for _, p := range opts.Platforms {
		c.req.Tool = append(c.req.Tool, mirror.FormatPlatform(p))
	}
	_, err = opts.Room()
	return opts, explainTool(err)
}

// toolsFirst finds out whether the programs are there before media is made, which a
// failure would leave behind, with nothing on it. Which platforms those of the default
// are may take a plan of its own, of what is read again then.
func (c *copying) toolsFirst(ctx context.Context) error {
	if len(c.req.Tool) == 0 || c.dry() || c.to.Place != artifact.PlaceMedia || mirror.IsMedia(c.to.Path) {
		return nil
	}
	plan := &mirror.Plan{}
	if slices.Contains(c.req.Tool, toolDefault) {
		var err error
		if plan, err = mirror.NewPlan(ctx, mirror.Empty(), c.items, mirror.PlanOptions{}); err != nil {
			return explainPlatform(err)
		}
	}
	_, err := c.tools(plan)
	return err
}

// warnTools tells of programs that take more than half of every volume.
func (v *volumes) warnTools() error {
	if v.tools == nil {
		return nil
	}
	room, err := v.tools.Room()
	if err != nil {
		return explainTool(err)
	}
	if capacity := v.set.Options.Bytes; room > capacity/2 {
		v.out.Warn("--with-tool is on every volume of the set, and takes %s of %s each", ui.Bytes(room), ui.Bytes(capacity))
	}
	return nil
}

// explainTool says where a program that is wanted can come from.
func explainTool(err error) error {
	var bad *tool.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad) && errors.Is(err, tool.ErrVersion):
		return withHint(err, "take the programs of this release, or run the one that is to travel")
	case errors.As(err, &bad) && !errors.Is(err, tool.ErrMissing):
		return withHint(err, "take the file that make dist builds for it, or that the release has")
	case errors.As(err, &bad):
		return withHint(err, "build the programs with make dist and name where they are, --tool-dir dist, or take another platform: --with-tool=%s", formatTool(bad.Platform))
	}
	return err
}

func formatTool(not ocispec.Platform) string {
	if p := mirror.FormatPlatform(not); p == "linux/amd64" {
		return "linux/arm64"
	}
	return "linux/amd64"
}
