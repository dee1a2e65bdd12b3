package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

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
	// Left counts what a delta leaves, Absent what neither side has, Resumed bytes
	// of copied that an earlier attempt left.
	Left         int   `json:"left,omitempty"`
	LeftBytes    int64 `json:"leftBytes,omitempty"`
	Absent       int   `json:"absent,omitempty"`
	AbsentBytes  int64 `json:"absentBytes,omitempty"`
	ResumedBytes int64 `json:"resumedBytes,omitempty"`
	// ReadBack counts what was read from the disk again.
	ReadBack      int   `json:"readBack,omitempty"`
	ReadBackBytes int64 `json:"readBackBytes,omitempty"`
	// Unread are directories with something that was not read from the disk again.
	Unread []string `json:"unread,omitempty"`
	// Tool says that the program and START-HERE.txt go along.
	Tool bool `json:"tool,omitempty"`
	// Set is nil unless the copy is spread over volumes.
	Set    *mirroredSet `json:"set,omitempty"`
	DryRun bool         `json:"dryRun,omitempty"`

	leftIs string // where what is left is, "" where nothing can be
}

type mirroredRoot struct {
	Name      string        `json:"name"`
	Digest    string        `json:"digest"`
	Referrers int           `json:"referrers"`
	Platforms []string      `json:"platforms,omitempty"`
	Base      []mirror.Base `json:"base,omitempty"`
	// Replaces is the digest that the name had at the destination.
	Replaces string `json:"replaces,omitempty"`
	// LeftManifests are for platforms that are not carried.
	LeftManifests int            `json:"leftManifests,omitempty"`
	Parts         []mirroredPart `json:"parts"`
}

// mirroredPart counts the content that belongs to one image, or to the root itself,
// and to none before it.
type mirroredPart struct {
	Part        string `json:"part"`
	Digest      string `json:"digest,omitempty"`
	Blobs       int    `json:"blobs"`
	Bytes       int64  `json:"bytes"`
	Copied      int    `json:"copied"`
	CopiedBytes int64  `json:"copiedBytes"`
	Stored      int    `json:"stored"`
	StoredBytes int64  `json:"storedBytes"`
	Left        int    `json:"left,omitempty"`
	LeftBytes   int64  `json:"leftBytes,omitempty"`
}

func newMirrored(p *mirror.Plan, destination string) mirrored {
	sum := p.Summary()
	m := mirrored{Type: "mirrored", Destination: destination, Blobs: sum.All.Blobs, Bytes: sum.All.Bytes,
		Copied: sum.Copied.Blobs, CopiedBytes: sum.Copied.Bytes, Damaged: sum.Damaged.Blobs,
		Left: sum.Left.Blobs, LeftBytes: sum.Left.Bytes, Absent: sum.Absent.Blobs, AbsentBytes: sum.Absent.Bytes, ResumedBytes: sum.Partial}
	for _, r := range p.Roots {
		root := mirroredRoot{Name: r.Name, Digest: r.Descriptor.Digest.String(), Referrers: len(r.Referrers) + len(r.Tags), Base: r.Base, LeftManifests: len(r.Left), Parts: []mirroredPart{}}
		for _, platform := range r.Platforms {
			root.Platforms = append(root.Platforms, mirror.FormatPlatform(platform))
		}
		m.Roots = append(m.Roots, root)
	}
	for i, s := range p.PartSummaries() {
		part := p.Parts[i]
		root := &m.Roots[part.Root]
		if part.Label == mirror.LabelReferrers && s.All.Blobs == 0 {
			continue
		}
		root.Parts = append(root.Parts, mirroredPart{Part: part.Label, Digest: part.Descriptor.Digest.String(), Blobs: s.All.Blobs, Bytes: s.All.Bytes,
			Copied: s.Copied.Blobs, CopiedBytes: s.Copied.Bytes, Stored: s.Stored.Blobs, StoredBytes: s.Stored.Bytes, Left: s.Left.Blobs, LeftBytes: s.Left.Bytes})
	}
	return m
}

func (m mirrored) text(w io.Writer) {
	for _, r := range m.Roots {
		referrers := fmt.Sprintf("%d signatures and other referrers", r.Referrers)
		if r.Referrers == 1 {
			referrers = "1 signature or other referrer"
		}
		fmt.Fprintf(w, "%s\n  digest %s, %s\n", r.Name, r.Digest, referrers)
		if m.DryRun {
			r.partsText(w, m.leftIs)
		}
		if r.LeftManifests > 0 {
			fmt.Fprintf(w, "  carried for %s only; %s for other platforms left\n", strings.Join(r.Platforms, ", "), count(r.LeftManifests, "manifest"))
		}
		if r.Replaces != "" {
			fmt.Fprintf(w, "  takes the name from %s\n", r.Replaces)
		}
		for _, b := range r.Base {
			fmt.Fprintf(w, "  builds on %s, %s\n", ui.Value(b.Name), b.Digest)
		}
	}
	verb, replaced := "copied", "replaced what was"
	if m.DryRun {
		verb, replaced = "would copy", "would replace what is"
	}
	blobs := fmt.Sprintf("%d of %d blobs", m.Copied, m.Blobs)
	if m.Set != nil && len(m.Set.Written) > 1 { // what all volumes have is written to each
		blobs = fmt.Sprintf("%d blobs onto %d volumes, %d different ones", m.Copied, len(m.Set.Written), m.Blobs)
	}
	fmt.Fprintf(w, "%s %s (%s), %s in all, to %s\n", verb, ui.Bytes(m.CopiedBytes), blobs, ui.Bytes(m.Bytes), m.Destination)
	if m.Set != nil {
		m.Set.text(w)
	}
	if m.Damaged > 0 {
		fmt.Fprintf(w, "%d of them %s damaged there\n", m.Damaged, replaced)
	}
	if m.Left > 0 {
		fmt.Fprintf(w, "%s: %s (%s)\n", m.leftIs, ui.Bytes(m.LeftBytes), count(m.Left, "blob"))
	}
	if m.Tool {
		fmt.Fprintf(w, "with sealift itself and START-HERE.txt\n")
	}
	if m.DryRun && m.ResumedBytes > 0 {
		fmt.Fprintf(w, "%s of it has arrived before and will be read again there\n", ui.Bytes(m.ResumedBytes))
	}
	if m.Absent > 0 {
		fmt.Fprintf(w, "%s (%s) is neither at the source nor there\n", ui.Bytes(m.AbsentBytes), count(m.Absent, "blob"))
	}
	if m.ReadBack > 0 {
		fmt.Fprintf(w, "read back %s from the disk, all good: unmount it and take it away\n", ui.Bytes(m.ReadBackBytes))
	}
	for _, dir := range slices.Compact(slices.Clone(m.Unread)) { // discs in one place
		fmt.Fprintf(w, "not read back: sealift verify %s\n", dir)
	}
}

// leftIs says where content is that a delta leaves.
func (c *copying) leftIs() string {
	switch {
	case len(c.req.Sites) > 0:
		return "at every site already"
	case len(c.req.Since) > 0:
		return "in the releases of --since"
	}
	return ""
}

// partsText says of each image what becomes of its content.
func (r mirroredRoot) partsText(w io.Writer, left string) {
	names := make([]string, len(r.Parts))
	width := 0
	for i, p := range r.Parts {
		names[i] = ui.Value(p.Part)
		if p.Part == "" {
			names[i] = "itself"
		}
		width = min(max(width, len(names[i])), maxPartWidth)
	}
	for i, p := range r.Parts {
		fmt.Fprintf(w, "  %-*s  %s\n", width, names[i], words(
			amount("copy", p.Copied, p.CopiedBytes),
			amount("there already", p.Stored, p.StoredBytes),
			amount(left, p.Left, p.LeftBytes),
			nothing(p.Blobs)))
	}
}

// maxPartWidth keeps one long name from moving all others out of sight.
const maxPartWidth = 40

func amount(verb string, blobs int, bytes int64) string {
	if blobs == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s in %s", verb, ui.Bytes(bytes), count(blobs, "blob"))
}

func nothing(blobs int) string {
	if blobs > 0 {
		return ""
	}
	return "counted above, with what it shares"
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
