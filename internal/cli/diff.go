package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery/compare"
	"github.com/sealift/sealift/internal/ui"
)

type diffFlags struct {
	trustFlags
	files, exitCode bool
}

func newDiff(a *app) *cobra.Command {
	var f diffFlags
	cmd := &cobra.Command{
		Use:   "diff REF REF",
		Short: "Show what changes from one release to another",
		Long: `diff compares two releases, in registries or on media: what each component runs and
how, what the site may choose, the files carried, images and layers, and what a place
that has the first lacks of the second. What is no release is compared as an image.
It reads manifests, templates and image configs, and no layer, so that media may lack
those.

Values of secret parameters, and of an image's environment, are not shown. Who signed
is a claim and no verdict, unless --key says whose signatures count. Nothing is
verified beyond digests; use verify for that.

The exit status is 0 whether or not they differ; with --exit-code it is 1 when they do.`,
		Example: "  sealift diff /media/usb:1.0.0 /media/usb:1.1.0\n  sealift diff registry.example.com/shop:1.0.0 ./media:1.1.0 --files --key cosign.pub",
		Args:    args(2, 2, "two REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.diff(cmd.Context(), args[0], args[1], f)
		},
	}
	trustFlagSet(cmd, &f.trustFlags)
	cmd.Flags().BoolVar(&f.files, "files", false, "compare small carried text files line by line")
	cmd.Flags().BoolVar(&f.exitCode, "exit-code", false, "exit with 1 when they differ")
	return cmd
}

// errDiffer gives diff its exit code; what differs stands in the result.
var errDiffer = errors.New("they differ")

func (a *app) diff(ctx context.Context, before, after string, flags diffFlags) error {
	trust, err := a.trust(flags.trustFlags)
	if err != nil {
		return err
	}
	var sides [2]*compare.Side
	for i, ref := range []string{before, after} {
		f, err := a.findOne(ctx, ref)
		if err != nil {
			return err
		}
		if sides[i], err = compare.ReadSide(ctx, f, trust); err != nil {
			return err
		}
	}
	d := diffed{"diff", compare.Sides(sides[0], sides[1], compare.Options{Files: flags.files})}
	if err := a.out.Result(d, func(w io.Writer) { d.text(w, before, after) }); err != nil {
		return err
	}
	if flags.exitCode && !d.Same {
		return errDiffer
	}
	return nil
}

// diffed is the result of diff.
type diffed struct {
	Type string `json:"type"`
	*compare.Diff
}

func (d diffed) text(w io.Writer, before, after string) {
	p := printer{w}
	fmt.Fprintf(w, "%s → %s\n", before, after)
	if d.Old.Digest == d.New.Digest {
		p.row("the same", d.Old.Digest)
		if !d.Same {
			p.row("but", "what refers to it: signatures, SBOMs or attestations")
			p.bytes(d.Bytes)
		}
		d.signers(p)
		return
	}
	p.row("digest", d.Old.Digest)
	p.row("", d.New.Digest)
	if d.Images == nil && (d.Old.ID != "") != (d.New.ID != "") {
		p.row("compared", "as images, since only one is a release")
	}
	for _, c := range d.App {
		p.row(shown(c.Field), difference(c))
	}
	for _, c := range d.Components {
		p.component(c)
	}
	for _, c := range d.Parameters {
		note := ""
		if c.Required && c.Change == compare.Added {
			note = ", required: an upgrade asks for it"
		} else if c.Required {
			note = ", required now: an upgrade keeps the value it has"
		}
		p.row("parameter", signOf(c.Change)+" "+shown(c.Name)+note)
		p.fields(c.Fields)
	}
	for _, c := range d.Files {
		p.file(c)
	}
	d.images(p)
	p.bytes(d.Bytes)
	for _, side := range []compare.Identified{d.Old, d.New} {
		if side.Lacks > 0 {
			p.row("lacks", fmt.Sprintf("%s: %s; what is named there is not counted", side.Name, count(side.Lacks, "manifest")))
		}
	}
	d.signers(p)
}

// images tells of platforms, configs and layers.
func (d diffed) images(p printer) {
	if d.Platforms != nil {
		for _, name := range d.Platforms.Added {
			p.row("platform", "+ "+shown(name))
		}
		for _, name := range d.Platforms.Removed {
			p.row("platform", "- "+shown(name))
		}
	}
	for _, c := range d.Configs {
		p.row("config", signOf(compare.Changed)+" "+shown(c.Platform))
		p.fields(c.Fields)
		if c.Unknown {
			p.more("is not there to be compared")
		}
	}
	if d.Images != nil {
		p.row("images", fmt.Sprintf("%d added, %d removed, %d shared", d.Images.Added, d.Images.Removed, d.Images.Shared))
	}
	p.row("layers", layersText(d.Layers))
}

func (d diffed) signers(p printer) {
	sides := []struct {
		label string
		s     compare.Signers
	}{{"signatures", d.Old.Signers}, {"", d.New.Signers}}
	for i, side := range sides {
		when := []string{"before: ", "after:  "}[i]
		p.row(side.label, when+signersText(side.s))
		if side.s.Problem != "" {
			p.more(ui.Line(side.s.Problem))
		}
	}
}

func signersText(s compare.Signers) string {
	text := "none"
	if s.Signatures > 0 {
		text = strconv.Itoa(s.Signatures)
	}
	switch {
	case len(s.Verified) > 0:
		return text + ", signed by " + signerWords(s.Verified)
	case s.Verified != nil:
		return text + ", not signed by a key or identity given"
	case len(s.Claimed) > 0:
		return text + ", claim " + signerWords(s.Claimed) + " (not verified)"
	case s.Signatures > 0:
		return text + ", naming no key"
	}
	return text
}

// signerWords says of fingerprints that they are of keys; what else there is names
// somebody.
func signerWords(list []string) string {
	var words []string
	for i, s := range list {
		if i == 0 && strings.HasPrefix(s, "sha256:") {
			s = "key " + s
		}
		words = append(words, ui.Value(s))
	}
	return strings.Join(words, ", ")
}

// printer writes rows of a label and what it labels.
type printer struct{ io.Writer }

func (p printer) row(label, text string) { fmt.Fprintf(p, "  %-11s %s\n", label, text) }

// more continues a row.
func (p printer) more(text string) { fmt.Fprintf(p, "                %s\n", text) }

func (p printer) fields(list []compare.Change) {
	for _, c := range list {
		p.more(shown(c.Field) + ": " + difference(c))
	}
}

func (p printer) component(c compare.ComponentDiff) {
	head := signOf(c.Change) + " " + shown(c.Key)
	if c.RenamedFrom != "" {
		head += ", which was " + shown(c.RenamedFrom)
	}
	p.row("component", head)
	if c.Image != nil {
		p.more("image: " + pairText(*c.Image))
	}
	if c.Digest != nil {
		for _, d := range []string{c.Digest.Old, c.Digest.New} {
			if d != "" {
				p.more("       " + d)
			}
		}
	}
	if c.Layers != nil {
		p.more("layers: " + layersText(*c.Layers))
	}
	p.fields(c.Fields)
}

func (p printer) file(f compare.FileDiff) {
	size := map[string]string{
		compare.Added:   ui.Bytes(f.NewSize),
		compare.Removed: ui.Bytes(f.OldSize),
		compare.Changed: ui.Bytes(f.OldSize) + " → " + ui.Bytes(f.NewSize),
	}[f.Change]
	p.row("file", signOf(f.Change)+" "+shown(f.Name)+", "+size)
	for _, d := range []string{f.Digest.Old, f.Digest.New} {
		if d != "" {
			p.more(d)
		}
	}
	for line := range strings.Lines(f.Unified) {
		p.more(strings.TrimSuffix(line, "\n")) // indented: it must not pass for lines of our own
	}
}

// bytes writes a table of sizes.
func (p printer) bytes(list []compare.BytesDiff) {
	t := tabwriter.NewWriter(p, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  bytes       \tbefore\tafter\tshared\tneeded by who has the first\n")
	for _, b := range list {
		name := "in all"
		if b.Platform != "" {
			name = shown(b.Platform)
		}
		fmt.Fprintf(t, "              %s\t%s\t%s\t%s\t%s\n", name, ui.Bytes(b.Old), ui.Bytes(b.New), ui.Bytes(b.Shared), ui.Bytes(b.Needed))
	}
	_ = t.Flush() // into memory
}

func signOf(change string) string {
	return map[string]string{compare.Added: "+", compare.Removed: "-", compare.Changed: "~"}[change]
}

func layersText(s compare.SetDiff) string {
	return fmt.Sprintf("%d added (%s), %d removed (%s), %d shared (%s)",
		s.Added, ui.Bytes(s.AddedBytes), s.Removed, ui.Bytes(s.RemovedBytes), s.Shared, ui.Bytes(s.SharedBytes))
}

func pairText(pair compare.Pair) string {
	switch {
	case pair.Old == "":
		return shown(pair.New)
	case pair.New == "":
		return shown(pair.Old)
	}
	return shown(pair.Old) + " → " + shown(pair.New)
}

// difference writes old and new value; of what was not there before only the new.
func difference(c compare.Change) string {
	if c.Old == nil {
		return "→ " + shown(c.New)
	}
	if c.New == nil {
		return shown(c.Old) + " → none"
	}
	return shown(c.Old) + " → " + shown(c.New)
}

// values writes a list in one line.
func values(list []string) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = ui.Value(s)
	}
	return strings.Join(words, ", ")
}

// shown writes a value in one line in which nothing is hidden and nothing passes for
// ours: text that could is quoted.
func shown(v any) string {
	switch x := v.(type) {
	case string:
		if x == "" || x == "none" || x != strings.TrimSpace(x) || strings.Contains(x, "→") {
			return strconv.Quote(x)
		}
		return ui.Value(x)
	case float64, bool:
		return artifact.Format(x)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(raw)
}
