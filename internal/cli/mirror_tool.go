package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery/tool"
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
		return withHint(err, "put it there, name its directory with --tool-dir, or leave the platform out: --with-tool=%s", formatTool(bad.Platform))
	}
	return err
}

func formatTool(not ocispec.Platform) string {
	if p := mirror.FormatPlatform(not); p == "linux/amd64" {
		return "linux/arm64"
	}
	return "linux/amd64"
}
