package tool

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

const (
	// StartName is the page for people, at the root of the media.
	StartName = "START-HERE.txt"
	// TrustedRootName is the empty trusted root beside it. cosign asks for one over the
	// network otherwise; sealift trusts no such file.
	TrustedRootName = "trusted_root.json"
	// startColumns is how wide its lines are; startRoots is how many artifacts it
	// lists, and startTools how many programs: it is one page.
	startColumns = 72
	startRoots   = 5
	startTools   = 6
)

// Content is one artifact on media, as START-HERE.txt speaks of it. Its texts are
// the media's own: nothing in it is verified.
type Content struct {
	// Name is HOST/REPO:TAG, or HOST/REPO@DIGEST.
	Name string
	// Alias is the short name that other tools take, "" for none.
	Alias  string
	Digest digest.Digest
	// ID and Version are those of a release, "" for anything else, which is not
	// installed. Title is for people.
	ID, Version, Title string
	// Image says that it can be pulled and run on its own.
	Image bool
	// Signed says that there is something that claims to sign it.
	Signed bool
}

// PackStart writes START-HERE.txt onto media, with what stands there in sealift/bin,
// and the empty trusted root that its command for cosign names. What stands there with
// the same bytes is not written again.
func PackStart(ctx context.Context, dst FileWriter, media fs.FS, label layout.Label, contents []Content) error {
	files, err := filesOn(media)
	if err != nil {
		return err
	}
	empty := signer.TrustedRoot()
	if _, err := put(ctx, dst, media, TrustedRootName, 0o644, digest.FromBytes(empty), bytes.NewReader(empty)); err != nil {
		return err
	}
	text := StartHere(label, contents, files)
	_, err = put(ctx, dst, media, StartName, 0o644, digest.FromBytes(text), bytes.NewReader(text))
	return err
}

// StartHere writes what somebody needs who has only the media: what is on it, how
// to check, serve and install it, and why nothing on it vouches for itself. It is
// one page of ASCII. Lines end with CR LF: old Windows editors show one long line
// otherwise, and everything else shows the same. The same input gives the same
// bytes.
func StartHere(label layout.Label, contents []Content, tools []File) []byte {
	contents = slices.Clone(contents)
	slices.SortFunc(contents, func(a, b Content) int { return strings.Compare(a.Name, b.Name) })
	p := &page{label: label, contents: contents, tools: tools}
	p.whatIsHere()
	p.howToRun()
	p.howToCheck()
	p.howToUse()
	p.otherTools()
	return []byte(strings.Join(p.lines, "\r\n") + "\r\n")
}

// page is START-HERE.txt while it is written.
type page struct {
	label    layout.Label
	contents []Content
	tools    []File
	lines    []string
}

func (p *page) add(lines ...string) { p.lines = append(p.lines, lines...) }

func (p *page) whatIsHere() {
	p.add("START HERE", "",
		"This disc brings software to a place without a network. DISC means the",
		"directory this file is in: write its path instead. On the disc:")
	for _, c := range p.contents[:min(len(p.contents), startRoots)] {
		p.add(cut("- "+c.describe(), startColumns))
		p.add(p.carried(c)...)
	}
	if more := len(p.contents) - startRoots; more > 0 {
		p.add(fmt.Sprintf("- and %d more, see: sealift inspect DISC", more))
	} else if len(p.contents) == 0 {
		p.add("- nothing that has a name")
	}
	switch {
	case p.isVolume():
		set := p.label.Set
		p.add("", cut(fmt.Sprintf("THIS IS DISC %d OF %d of the set %s.", set.Volume, len(set.Volumes), set.ID), startColumns),
			"It can be checked alone. To use it bring it together with",
			"the other discs. Do this for each of them in turn:")
		p.add(p.together("DISC")...)
		p.add("Each but the last ends with \"incomplete\", exit status 14: go on.")
	case p.isDelta():
		p.add("", "It can be checked alone. To use it bring it together with",
			"a disc that holds what came before, EARLIER, which has to come first:")
		p.add(p.together("EARLIER")...)
		p.add(p.together("DISC")...)
	}
}

// together are the commands that bring one disc together with others: what is signed
// goes into the library, all else onto a disk.
func (p *page) together(disc string) []string {
	if apps, signed := p.apps(); len(apps) > 0 && signed {
		return []string{"  sealift import " + disc + " --key vendor.pub"}
	}
	line := "  sealift mirror " + disc + " /srv/media"
	if disc == "DISC" {
		line += "     and then use /srv/media as DISC"
	}
	return []string{line}
}

// apps are the ids of what is here, sorted; signed says that there is one that is.
func (p *page) apps() (ids []string, signed bool) {
	for _, c := range p.contents {
		if c.ID != "" {
			ids = append(ids, c.ID)
			signed = signed || c.Signed
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), signed
}

// isDelta reports whether something builds on what is not here.
func (p *page) isDelta() bool {
	return slices.ContainsFunc(p.label.Roots, func(r layout.LabelRoot) bool { return len(r.Base) > 0 })
}

// isVolume reports whether other discs hold some of what is named here.
func (p *page) isVolume() bool { return p.label.Set != nil && len(p.label.Set.Volumes) > 1 }

func (c Content) describe() string {
	switch {
	case c.ID != "":
		text := "app " + c.ID + " " + c.Version
		if title := c.Title; title != "" && title == ascii(title) {
			text += ", " + title
		}
		return text
	case c.Image:
		return "image " + c.Name
	}
	return "artifact " + c.Name
}

// carried says what of an artifact is here, when that is not all.
func (p *page) carried(c Content) (lines []string) {
	root, ok := p.label.Root(c.Name, c.Digest)
	if !ok {
		return nil
	}
	if len(root.Platforms) > 0 {
		lines = append(lines, cut("  for "+strings.Join(root.Platforms, ", ")+" only", startColumns))
	}
	if n := len(root.Base); n > 0 {
		line := "  ONLY WHAT IS NEW since " + root.Base[0].Name
		if n > 1 {
			line += fmt.Sprintf(" or %d more", n-1)
		}
		lines = append(lines, cut(line, startColumns))
	}
	return lines
}

// machines say how people find out what they have.
var machines = map[string]string{
	"linux/amd64": "x86_64", "linux/arm64": "aarch64", "linux/arm/v7": "armv7l", "darwin/arm64": "arm64", "darwin/amd64": "x86_64",
}

func (p *page) howToRun() {
	p.add("")
	if len(p.tools) == 0 {
		p.add("You need the program sealift, which is not on this disc.")
		return
	}
	p.add("THE PROGRAM is in DISC/sealift/bin. Take the file for your machine:")
	var unix string
	for _, t := range p.tools[:min(len(p.tools), startTools)] {
		line := "  " + path.Base(t.Name)
		if m := machines[mirror.FormatPlatform(t.Platform)]; m != "" {
			line += fmt.Sprintf("  (uname -sm says %s %s)", strings.ToUpper(t.Platform.OS[:1])+t.Platform.OS[1:], m)
		}
		p.add(cut(line, startColumns))
		if unix == "" && t.Platform.OS != "windows" {
			unix = t.Name
		}
	}
	if unix == "" {
		p.add("Run it at the command prompt, under its full path. Its checksum:",
			cut("  certutil -hashfile DISC/"+p.tools[0].Name+" SHA256", startColumns))
		return
	}
	p.add("Discs often do not let programs run, so copy it, here to /tmp:")
	p.add(cut("  cp DISC/"+unix+" /tmp/sealift", startColumns), "  chmod +x /tmp/sealift", "and write /tmp/sealift for sealift below.")
}

func (p *page) howToCheck() {
	p.add("",
		"CHECK FIRST. Whoever had this disc could change all of it: this text,",
		"the program and its SHA256SUMS too. Get the vendor's key and the list of",
		"the program's checksums over ANOTHER way, never from this disc.")
	if len(p.tools) > 0 {
		p.add("  sha256sum DISC/sealift/bin/*       compare with the vendor's list")
	}
	signed := len(slices.DeleteFunc(slices.Clone(p.contents), func(c Content) bool { return !c.Signed }))
	if signed > 0 {
		p.add("  sealift fingerprint vendor.pub     compare with the vendor's word")
	}
	switch {
	case signed == 0:
		p.add("  sealift verify DISC --signatures=false",
			"Nothing here is signed: that finds damage, and no forgery.")
	case signed == len(p.contents):
		p.add("  sealift verify DISC --key vendor.pub")
	default:
		p.add("  sealift verify DISC//NAME --key vendor.pub     for what is signed",
			"  sealift verify DISC --signatures=false         for damage to the rest")
	}
}

func (p *page) howToUse() {
	p.add("", "USE", "  sealift inspect DISC               names, components, signatures",
		"  sealift serve DISC                 a registry at 127.0.0.1:5050")
	switch apps, signed := p.apps(); {
	case len(apps) == 0:
		p.add("Nothing here is an app to install: pull it from what serve offers.")
	case !signed:
		p.add("No app here is signed, so none can be installed: ask the vendor.")
	case p.isVolume() || p.isDelta():
		p.add("  sealift install APP                as sealift list shows it")
	case len(apps) == 1:
		p.add("  sealift install DISC --key vendor.pub", "  sealift import DISC --key vendor.pub   to keep it here, for later")
	default:
		p.add("  sealift install DISC//NAME --key vendor.pub   NAME as inspect shows it", "  sealift import DISC --key vendor.pub   to keep it here, for later")
	}
}

// otherTools shows what works on what is here whole; what is there in part these
// tools take for damage.
func (p *page) otherTools() {
	if p.isVolume() {
		return
	}
	var alias, image string
	whole := false
	for _, c := range p.contents {
		// What goes into a command must be one word of it: names were checked when they
		// were found, and an alias that is no tag is anything.
		if !artifact.IsTag(c.Alias) {
			c.Alias = ""
		}
		if root, _ := p.label.Root(c.Name, c.Digest); len(root.Platforms) > 0 || len(root.Base) > 0 {
			continue
		}
		alias, whole = cmp.Or(alias, c.Alias), true
		if c.Image {
			image = cmp.Or(image, served(c.Name))
		}
	}
	if !whole {
		return
	}
	p.add("", "OTHER TOOLS (NAME as inspect shows it, with __ for the : of a port)")
	if alias != "" {
		p.add(fit("  oras cp -r --from-oci-layout DISC:"+alias+" HOST/REPO:TAG", "  oras cp -r --from-oci-layout DISC:ALIAS HOST/REPO:TAG"))
	}
	if image != "" {
		p.add(fit("  docker pull "+image, "  docker pull 127.0.0.1:5050/NAME"))
	}
	p.add("  crane copy 127.0.0.1:5050/NAME HOST/REPO:TAG     while serve runs")
	if slices.ContainsFunc(p.contents, func(c Content) bool { return c.Signed }) {
		p.add("  cosign verify --key vendor.pub --insecure-ignore-tlog=true \\",
			"    --trusted-root DISC/"+TrustedRootName+" 127.0.0.1:5050/NAME")
	}
}

// served is the name that an artifact has behind serve.
func served(name string) string {
	host, rest, _ := strings.Cut(name, "/")
	return "127.0.0.1:5050/" + strings.ReplaceAll(host, ":", "__") + "/" + rest
}

// ascii replaces what is not a printable character of ASCII: names and titles come
// from whoever made the content, and must not speak to a terminal.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// cut makes one line of at most n columns of s, leaving out the middle.
func cut(s string, n int) string {
	s = ascii(s)
	if len(s) <= n {
		return s
	}
	const gap = "..."
	tail := (n - len(gap)) / 2
	return s[:n-len(gap)-tail] + gap + s[len(s)-tail:]
}

// fit returns a line that can be copied, or where that is too long, the other.
func fit(line, other string) string {
	if line != ascii(line) || len(line) > startColumns {
		return other
	}
	return line
}
