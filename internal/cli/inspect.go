package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

func newInspect(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect REF | RECEIPT",
		Short: "Show what a release, or media, holds",
		Long: `inspect shows each artifact REF names: for a release its components, the images they
run and what the site may choose; for an update of a policy its version; for everything the signatures and statements found,
as SBOMs and reports, and of media what it lacks. Nothing is verified beyond the digests of manifests: who signed is
no verdict. Use verify for that. RECEIPT is a file that a site made with sealift receipt;
what it says is shown.`,
		Example: "  sealift inspect registry.example.com/shop:1.0.0\n  sealift inspect /media/usb -o json\n  sealift inspect receipt.json",
		Args:    args(1, 1, "one REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if isReceipt(args[0]) {
				return a.inspectReceipt(args[0])
			}
			return a.inspect(cmd.Context(), args[0])
		},
	}
}

// inspected is one artifact of the result of inspect.
type inspected struct {
	Name      string            `json:"name"`
	Digest    string            `json:"digest"`
	MediaType string            `json:"mediaType"`
	Release   *inspectedRelease `json:"release,omitempty"`
	// Policy is what an update of a policy says of itself.
	Policy     *inspectedPolicy   `json:"policy,omitempty"`
	Signatures []signer.Signature `json:"signatures"`
	// Statements are attestations, SBOMs and what else is said of it and of its images.
	Statements []delivery.Statement `json:"statements,omitempty"`
	// Carried is what media says of how much is there, nil for all of it.
	Carried *inspectedCarried `json:"carried,omitempty"`
	// Imported is what was verified when it came into the library, nil for what is
	// elsewhere.
	Imported *signer.Evidence `json:"imported,omitempty"`
	// Damage says why nothing else is known.
	Damage string `json:"damage,omitempty"`
}

// inspectedCarried says how much of an artifact is on media. Nobody signs it.
type inspectedCarried struct {
	// Platforms are nil for all.
	Platforms []string `json:"platforms,omitempty"`
	// Base are the roots that hold what a delta left.
	Base []layout.LabelBase `json:"base,omitempty"`
	// Here are the volumes that are read, of Volumes; both zero for no set.
	Here    []int `json:"here,omitempty"`
	Volumes int   `json:"volumes,omitempty"`
	// Lacks is what is not there, nil for nothing.
	Lacks *lack `json:"lacks,omitempty"`

	all bool // Platforms are all that the release is for
}

// carriedOf looks at what media says, and at what is there; at media alone.
func carriedOf(ctx context.Context, f delivery.Found) (*inspectedCarried, error) {
	lacks, err := delivery.Lacking(ctx, []delivery.Found{f})
	if err != nil {
		return nil, err
	}
	said := delivery.CarriedOf(f)
	c := inspectedCarried{Base: said.Base, Here: said.Here}
	for _, p := range said.Platforms {
		c.Platforms = append(c.Platforms, mirror.FormatPlatform(p))
	}
	if said.Set != nil {
		c.Volumes = len(said.Set.Volumes)
	}
	for _, l := range lacks {
		c.Lacks = newLack(l)
	}
	if c.Platforms == nil && c.Base == nil && c.Volumes == 0 && c.Lacks == nil {
		return nil, nil
	}
	return &c, nil
}

func (c *inspectedCarried) text(w io.Writer) {
	if c == nil {
		return
	}
	if len(c.Platforms) > 0 {
		fmt.Fprintf(w, "  carried     for %s%s\n", values(c.Platforms), only(c.all))
	}
	for _, b := range c.Base {
		fmt.Fprintf(w, "  builds on   %s, %s\n", ui.Value(b.Name), b.Digest)
	}
	if c.Volumes > 0 {
		fmt.Fprintf(w, "  volume      %s of %d\n", delivery.Numbers(c.Here), c.Volumes)
	}
	if c.Lacks != nil {
		fmt.Fprintf(w, "  lacks       %s\n", c.Lacks.text())
	}
}

type inspectedRelease struct {
	ID         string                        `json:"id"`
	Version    string                        `json:"version"`
	Title      string                        `json:"title,omitempty"`
	Vendor     string                        `json:"vendor,omitempty"`
	Platforms  []string                      `json:"platforms"`
	Components map[string]inspectedComponent `json:"components"`
	Parameters map[string]artifact.Parameter `json:"parameters,omitempty"`
	Files      map[string]int                `json:"files,omitempty"`
}

type inspectedPolicy struct {
	Version  int    `json:"version"`
	Document string `json:"document"`
	Bytes    int64  `json:"bytes"`
}

type inspectedComponent struct {
	Image  string `json:"image"`
	Digest string `json:"digest"`
}

func (a *app) inspect(ctx context.Context, ref string) error {
	list, err := a.find(ctx, ref)
	if err != nil {
		return err
	}
	doc := struct {
		Type      string       `json:"type"`
		Artifacts []inspected  `json:"artifacts"`
		Media     []mediaState `json:"media,omitempty"`
	}{Type: "inspected", Media: mediaStates(list)}
	for _, f := range list {
		i, err := inspectOne(ctx, f)
		if err == nil && f.Damage == nil && f.Media != nil {
			i.Carried, err = carriedOf(ctx, f)
		}
		if i.Carried != nil && i.Release != nil {
			i.Carried.all = carriesAll(delivery.CarriedOf(f), i.Release.Platforms)
		}
		if err == nil {
			i.Imported, err = a.importedAs(ref, f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		doc.Artifacts = append(doc.Artifacts, i)
	}
	return a.out.Result(doc, func(w io.Writer) {
		for _, i := range doc.Artifacts {
			i.text(w)
		}
		for _, m := range doc.Media {
			m.text(w, torn(m.Directory))
		}
	})
}

// importedAs is what was verified when f came into the library, where ref is of it.
func (a *app) importedAs(ref string, f delivery.Found) (*signer.Evidence, error) {
	if loc, err := location(ref); err != nil || loc.Place != artifact.PlaceLibrary || f.Damage != nil {
		return nil, nil //nolint:nilerr // it was found before
	}
	home, err := a.openState()
	if err != nil {
		return nil, err
	}
	return keptEvidence(home, f)
}

func inspectOne(ctx context.Context, f delivery.Found) (inspected, error) {
	i := inspected{Name: f.Name, Digest: f.Descriptor.Digest.String(), MediaType: f.Descriptor.MediaType}
	if f.Damage != nil {
		i.Damage = f.Damage.Error()
		i.Signatures = []signer.Signature{}
		return i, nil
	}
	var err error
	if i.Signatures, err = signer.Signatures(ctx, f.Store, f.Descriptor); err != nil {
		return i, err
	}
	if i.Signatures == nil {
		i.Signatures = []signer.Signature{} // a list, in JSON too
	}
	r, err := artifact.ReadRelease(ctx, f.Store, f.Descriptor)
	if err != nil && !errors.Is(err, artifact.ErrNotRelease) {
		return i, err
	}
	if i.Statements, err = delivery.Statements(ctx, f, r); err != nil {
		return i, err
	}
	if r == nil {
		update, err := artifact.ReadPolicyUpdate(ctx, f.Store, f.Descriptor)
		if errors.Is(err, artifact.ErrNotPolicy) {
			return i, nil
		} else if err != nil {
			return i, err
		}
		i.Policy = &inspectedPolicy{update.Version, update.Document.Digest.String(), update.Document.Size}
		return i, nil
	}
	t := r.App.Template
	i.Release = &inspectedRelease{ID: t.ID, Version: t.Version, Title: t.Title, Vendor: t.Vendor, Platforms: t.Platforms,
		Components: map[string]inspectedComponent{}, Parameters: t.Parameters, Files: map[string]int{}}
	for key, d := range r.Images {
		i.Release.Components[key] = inspectedComponent{t.Components[key].Image, d.Digest.String()}
	}
	for name, data := range r.App.Files {
		i.Release.Files[name] = len(data)
	}
	return i, nil
}

func (i inspected) text(w io.Writer) {
	var b strings.Builder
	if i.Damage != "" {
		fmt.Fprintf(w, "%s\n", i.Name)
		if i.Digest != "" {
			fmt.Fprintf(w, "  digest      %s\n", i.Digest)
		}
		fmt.Fprintf(w, "  DAMAGED     %s\n", ui.Line(i.Damage))
		return
	}
	fmt.Fprintf(&b, "%s\n  digest      %s\n", i.Name, i.Digest)
	if r := i.Release; r != nil {
		fmt.Fprintf(&b, "  app         %s %s %s\n  platforms   %s\n", r.ID, r.Version, ui.Value(r.Title), values(r.Platforms))
		for _, key := range sorted(r.Components) {
			fmt.Fprintf(&b, "  component   %s: %s\n              %s\n", key, ui.Value(r.Components[key].Image), r.Components[key].Digest)
		}
		for _, name := range sorted(r.Parameters) {
			p := r.Parameters[name]
			fmt.Fprintf(&b, "  parameter   %s (%s) %s\n", name, parameterText(p), ui.Line(p.Description))
		}
		for _, name := range sorted(r.Files) {
			fmt.Fprintf(&b, "  file        %s, %s\n", ui.Value(name), ui.Bytes(int64(r.Files[name])))
		}
	} else if i.Policy != nil {
		fmt.Fprintf(&b, "  policy      version %d, %s\n              %s\n", i.Policy.Version, ui.Bytes(i.Policy.Bytes), i.Policy.Document)
	} else {
		fmt.Fprintf(&b, "  media type  %s\n", ui.Value(i.MediaType))
	}
	i.Carried.text(&b)
	if i.Imported != nil {
		fmt.Fprintf(&b, "  imported    %s\n", acceptedText(i.Imported))
	}
	if len(i.Signatures) == 0 {
		b.WriteString("  signatures  none\n")
	}
	for _, s := range i.Signatures {
		key := "an unnamed key"
		switch {
		case s.Certificate != nil:
			key = certificateText(*s.Certificate)
		case s.Key != "":
			key = "key " + ui.Value(s.Key)
		}
		fmt.Fprintf(&b, "  signature   %s, claims %s (not verified)\n", ui.Value(string(s.Form)), key)
	}
	for _, s := range i.Statements {
		fmt.Fprintf(&b, "  statement   %s\n", statementText(s))
	}
	_, _ = io.WriteString(w, b.String())
}

// acceptedText says why a release was accepted when it was imported.
func acceptedText(e *signer.Evidence) string {
	if d := e.Decision; d != nil {
		return fmt.Sprintf("as signed by %s, by rule %d of policy %d, for %s", ui.Value(strings.Join(d.Signers(), ", ")), d.Rule, d.Policy, d.ID)
	}
	return "as signed by " + ui.Value(strings.Join(e.Signers(), ", "))
}

// statementText is a statement for people.
func statementText(s delivery.Statement) string {
	text := ui.Value(s.Type)
	if s.Component != "" {
		text += " of " + s.Component
	}
	if s.Platform != "" {
		text += " (" + ui.Value(s.Platform) + ")"
	}
	switch {
	case s.Certificate != nil:
		text += ", claims " + certificateText(*s.Certificate) + " (not verified)"
	case s.Key != "":
		text += ", claims key " + ui.Value(s.Key) + " (not verified)"
	case s.Signed:
		text += ", signed (not verified)"
	default:
		text += ", not signed"
	}
	return text
}

// parameterText says what the site may choose, and what happens if it does not.
func parameterText(p artifact.Parameter) string {
	words := []string{p.Type}
	if p.Secret {
		words = append(words, "secret")
	}
	if p.Minimum != nil {
		words = append(words, "from "+artifact.Format(*p.Minimum))
	}
	if p.Maximum != nil {
		words = append(words, "up to "+artifact.Format(*p.Maximum))
	}
	if len(p.Enum) > 0 {
		var choices []string
		for _, e := range p.Enum {
			choices = append(choices, artifact.Format(e))
		}
		words = append(words, "one of "+strings.Join(choices, " "))
	}
	switch {
	case p.Generate != nil:
		words = append(words, "generated")
	case p.Default == nil:
		words = append(words, "required")
	case p.Secret:
		words = append(words, "has a default")
	default:
		words = append(words, "default "+artifact.Format(p.Default))
	}
	return ui.Line(strings.Join(words, ", "))
}
