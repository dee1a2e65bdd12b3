package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

type verifyFlags struct {
	trustFlags
	signatures bool
	platforms  []string
	repair     []string
	dryRun     bool
}

func newVerify(a *app) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify REF | DIR… | RECEIPT",
		Short: "Check signatures and every byte, and mend what is damaged",
		Long: `verify checks that each artifact REF names is signed by one of the keys given, or
as a policy wants it, by default the site's (see sealift policy --help), and
then reads every byte it reaches and compares it with its digest. All damage is
found, not only the first. It needs no network for media, and writes nothing.

Who signs with a certificate in place of a key is accepted by name: by subject, and by
the issuer that vouches for it. --trusted-root is the trusted_root.json of their
sigstore, which you need over another way than the media, as a key. When the certificate
was valid does not matter, but that it was as of the time a log or a timestamp proves.

Media that carries some platforms only, a delta, or one volume of several says so
itself: what is absent for such a reason is summed up, and is no damage. Several
DIR are read as one: the volumes of a set, a delta and what it builds on, or copies.
Of what several have, one sound copy is enough; those found damaged before it are
listed. Verify each DIR by itself to have every copy read.

With --repair, what is damaged or missing on media is fetched again from SRC, and
only that: a repository of a registry, HOST/REPO, or the directory of another copy.
Several are asked in the order given. Every byte is compared with its digest, so SRC
need not be trusted. Then the media is verified once more. When it is interrupted,
the same command continues it.

RECEIPT is a file that a site made with sealift receipt: that the site's key signed it
is verified, and what it says is shown.`,
		Example: "  sealift verify /media/usb --key cosign.pub\n  sealift verify /media/usb --signatures=false\n" +
			"  sealift verify /media/usb --certificate-identity release@example.com --certificate-oidc-issuer https://accounts.example.com \\\n" +
			"    --trusted-root trusted_root.json\n" +
			"  sealift verify /media/usb --key cosign.pub --repair registry.example.com/shop --repair /media/other\n" +
			"  sealift verify receipt.json --key site.pub",
		Args: args(1, -1, "one REF, or directories"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.verify(cmd.Context(), args, f)
		},
	}
	trustFlagSet(cmd, &f.trustFlags)
	cmd.Flags().BoolVar(&f.signatures, "signatures", true, "check signatures, not only bytes")
	platformFlag(cmd, &f.platforms, "want only images for `OS/ARCH` (may be repeated; default what media says it carries, else all)")
	cmd.Flags().StringArrayVar(&f.repair, "repair", nil, "replace what is damaged on media from `SRC`, a registry's repository or a directory (may be repeated)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "with --repair, show what would be fetched, write nothing")
	return cmd
}

// verified is one artifact of the result of verify.
type verified struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	// ID and Version are what a release says of itself, "" for anything else. Name may
	// stand for another by whoever had the media.
	ID       string           `json:"id,omitempty"`
	Version  string           `json:"version,omitempty"`
	Blobs    int              `json:"blobs"`
	Bytes    int64            `json:"bytes"`
	Evidence *signer.Evidence `json:"evidence,omitempty"`
	// Superseded is the version of an update of the policy that is of no use any more,
	// so that its signatures were not asked for; 0 for anything else.
	Superseded int `json:"superseded,omitempty"`
	// Platforms are those that media says it carries, none for all.
	Platforms []string `json:"platforms,omitempty"`
	// Absent sums up what is not there for a reason, by the reason that media gives.
	Absent []absence `json:"absent,omitempty"`
	// Checked are segments of blobs that are not whole here which are what the label
	// of their volume says. The label of other segments does not say: they can only be
	// checked together with those of other volumes.
	Checked      int   `json:"checkedSegments,omitempty"`
	CheckedBytes int64 `json:"checkedSegmentBytes,omitempty"`
	Segments     int   `json:"segments,omitempty"`
	SegmentBytes int64 `json:"segmentBytes,omitempty"`

	all bool // Platforms are all that the release is for
}

type absence struct {
	Reason string `json:"reason"`
	Blobs  int    `json:"blobs"`
	Bytes  int64  `json:"bytes"`
}

// absences sums up by reason, in the order of reasons.
func absences(list []mirror.Absence) []absence {
	by := map[string]absence{}
	for _, a := range list {
		sum := by[a.Reason]
		by[a.Reason] = absence{a.Reason, sum.Blobs + 1, sum.Bytes + a.Descriptor.Size}
	}
	var sums []absence
	for _, reason := range sorted(by) {
		sums = append(sums, by[reason])
	}
	return sums
}

// verification is the result of verify.
type verification struct {
	Type      string     `json:"type"`
	Artifacts []verified `json:"artifacts"`
	Replaced  *replaced  `json:"replaced,omitempty"`
	// Media are directories of which something is to be remarked that is no damage.
	Media []mediaState `json:"media,omitempty"`
	// Copies are damaged files of content that another of the directories has sound.
	Copies []damagedCopy `json:"damagedCopies,omitempty"`
}

func (a *app) verify(ctx context.Context, refs []string, f verifyFlags) error {
	if len(refs) == 1 && isReceipt(refs[0]) {
		return a.verifyReceipt(refs[0], f)
	}
	trust, err := a.trust(f.trustFlags)
	if err == nil && f.signatures && !trust.Any() {
		trust, err = a.siteTrust(ctx)
	}
	if err != nil {
		return err
	}
	if f.signatures && !trust.Any() {
		return withHint(usagef("verify wants --key FILE, the vendor's public key, or a policy"), "to check bytes only: sealift verify %s --signatures=false", strings.Join(refs, " "))
	}
	if f.dryRun && len(f.repair) == 0 {
		return usagef("--dry-run is for --repair SRC; verify alone writes nothing")
	}
	if len(refs) > 1 && len(f.repair) > 0 {
		return withHint(usagef("--repair mends one directory at a time, got %d", len(refs)), "sealift verify %s --repair SRC", refs[0])
	}
	sources, err := a.repairSources(ctx, refs[0], f.repair)
	if err != nil {
		return err
	}
	list, err := a.findTogether(ctx, refs)
	if err != nil {
		return lostIndex(err, refs)
	}
	if err := a.warnForks(ctx, list); err != nil {
		return err
	}
	doc := verification{Type: "verified"}
	platforms, err := parsePlatforms(f.platforms)
	if err != nil {
		return err
	}
	c := check{app: a, refs: refs, trust: trust, signatures: f.signatures, platforms: platforms}
	results, items, err := c.all(ctx, list)
	if ctx.Err() == nil && len(sources) > 0 {
		r := repairing{check: c, dir: list[0].Media.Dir(), items: items, sources: sources, before: err, found: list}
		if f.dryRun {
			return r.show(ctx)
		}
		doc.Replaced, results, err = r.run(ctx, results)
		list = r.found
	}
	doc.Media = mediaStates(list)
	if err != nil {
		a.warnMedia(doc.Media)
		return err
	}
	doc.Artifacts = results
	if len(refs) > 1 {
		doc.Copies = damagedCopies(list)
	}
	return a.out.Result(doc, doc.text)
}

func (v verification) text(w io.Writer) {
	if v.Replaced != nil {
		v.Replaced.text(w, false)
	}
	for _, v := range v.Artifacts {
		fmt.Fprintf(w, "%s\n  digest %s\n", v.Name, v.Digest)
		if v.ID != "" {
			fmt.Fprintf(w, "  app %s %s\n", v.ID, v.Version)
		}
		if v.Evidence != nil {
			for _, key := range v.Evidence.Keys() {
				fmt.Fprintf(w, "  signed by key %s\n", key)
			}
			for _, c := range v.Evidence.Certificates() {
				printCertificate(w, c)
			}
			for _, a := range v.Evidence.Attestations {
				fmt.Fprintf(w, "  attested %s by %s\n", ui.Value(a.Type), ui.Value(a.Signer()))
			}
			if d := v.Evidence.Decision; d != nil && d.Rule > 0 {
				fmt.Fprintf(w, "  accepted by rule %d of the policy, for %s\n", d.Rule, d.ID)
			} else if d != nil {
				fmt.Fprintln(w, "  accepted as an update of the policy")
			}
		}
		if v.Superseded > 0 {
			fmt.Fprintf(w, "  an update to version %d of the policy, which is in use or older: its signatures were not looked at\n", v.Superseded)
		}
		fmt.Fprintf(w, "  %d blobs, %s, all good\n", v.Blobs, ui.Bytes(v.Bytes))
		if len(v.Platforms) > 0 {
			fmt.Fprintf(w, "  carried for %s%s\n", strings.Join(v.Platforms, ", "), only(v.all))
		}
		if v.Checked > 0 {
			fmt.Fprintf(w, "  as the label says: %s, %s; the volumes together prove it\n", count(v.Checked, "segment"), ui.Bytes(v.CheckedBytes))
		}
		if v.Segments > 0 {
			fmt.Fprintf(w, "  not checked: %s, %s; verify the volumes together to check them\n", count(v.Segments, "segment"), ui.Bytes(v.SegmentBytes))
		}
		for _, a := range v.Absent {
			fmt.Fprintf(w, "  absent: %s, %s, %s\n", count(a.Blobs, "blob"), ui.Bytes(a.Bytes), ui.Value(a.Reason))
		}
	}
	for _, m := range v.Media {
		m.text(w, "")
	}
	for _, c := range v.Copies {
		fmt.Fprintf(w, "damaged: %s, %s, %s; another directory has it sound\n", c.Digest, ui.Bytes(c.Size), ui.Value(c.At))
	}
}

// check is what is named, and what is asked of it.
type check struct {
	*app
	refs       []string
	trust      delivery.Trust
	signatures bool
	platforms  []ocispec.Platform // none for what media says

	seen *mirror.Checked // of one look at everything
}

// all verifies each of list. The items are what a repair has to know of what was
// found; they are there with an error too.
func (c check) all(ctx context.Context, list []delivery.Found) (results []verified, items []mirror.RepairItem, err error) {
	var failed []error
	c.seen = &mirror.Checked{} // what several roots share is read once
	named := map[digest.Digest]bool{}
	for _, f := range list {
		v, damage, err := c.one(ctx, f)
		if err != nil && ctx.Err() != nil {
			return nil, nil, err
		}
		item := mirror.RepairItem{Repository: f.Repository, Reference: f.Tag, Damage: damage, Verify: c.carried(f).Expected(nil)}
		if f.Tag == "" {
			item.Reference = f.Descriptor.Digest.String()
		}
		items = append(items, item)
		if err != nil {
			failed = append(failed, err)
			named[f.Descriptor.Digest] = true
			continue
		}
		results = append(results, v)
	}
	failed = append(failed, wholeMedia(ctx, c.refs[0], list, named))
	return results, items, mediaErrors(list, errors.Join(failed...))
}

// one returns what is damaged too, nil when it could not be read to the end.
func (c check) one(ctx context.Context, f delivery.Found) (verified, *mirror.DamageError, error) {
	v := verified{Name: f.Name, Digest: f.Descriptor.Digest.String()}
	if f.Damage != nil {
		return v, nil, damagedRoot(f)
	}
	var failed []error
	if c.signatures {
		evidence, superseded, err := delivery.Accept(ctx, f, c.trust)
		v.Evidence = evidence
		if superseded != nil {
			v.Superseded = superseded.Version
		}
		failed = append(failed, err)
	}
	// A name that contradicts the signed content is found here too.
	release, err := delivery.ReadRelease(ctx, f)
	if err != nil && !errors.Is(err, artifact.ErrNotRelease) {
		failed = append(failed, err)
	}
	damage := &mirror.DamageError{}
	carried := c.carried(f)
	expected := carried.Expected(c.out.Progress("verifying"))
	expected.Seen = c.seen
	sum, err := delivery.VerifyBytes(ctx, f, expected)
	if err != nil && !errors.As(err, &damage) {
		damage = nil
	}
	if damage != nil && len(damage.Corrupt)+len(damage.Unreadable) == 0 && notCarried(f, c.platforms) {
		err = fmt.Errorf("%s: this media carries %s only: %w", f.Name, mirror.FormatPlatforms(delivery.CarriedOf(f).Platforms), errdef.ErrNotFound)
		err = withHint(err, "choose among these with --platform, or leave it out")
	} else if err != nil && damage != nil {
		err = placeDamage(ctx, f, damage, err)
	}
	v.Blobs, v.Bytes, v.Absent = sum.Manifests+sum.Blobs, sum.Bytes, absences(sum.Absent)
	for _, a := range sum.Absent {
		stated, unknown := carried.PiecesHere(a.Descriptor)
		v.Checked, v.CheckedBytes = v.Checked+stated.Blobs, v.CheckedBytes+stated.Bytes
		v.Segments, v.SegmentBytes = v.Segments+unknown.Blobs, v.SegmentBytes+unknown.Bytes
	}
	for _, p := range carried.Platforms {
		v.Platforms = append(v.Platforms, mirror.FormatPlatform(p))
	}
	if release != nil {
		v.ID, v.Version = release.App.Template.ID, release.App.Template.Version
		v.all = carriesAll(carried, release.App.Template.Platforms)
	}
	return v, damage, errors.Join(append(failed, err)...)
}

// carriesAll reports whether nothing that a release is for is left.
func carriesAll(carried delivery.Carried, platforms []string) bool {
	for _, name := range platforms {
		if p, err := mirror.ParsePlatform(name); err != nil || !carried.Carries(p) {
			return false
		}
	}
	return len(platforms) > 0
}

// only limits what is carried, unless it is all.
func only(all bool) string {
	if all {
		return ""
	}
	return " only"
}

// notCarried reports whether media says that it has none of the platforms asked for.
func notCarried(f delivery.Found, platforms []ocispec.Platform) bool {
	return len(platforms) > 0 && !slices.ContainsFunc(platforms, delivery.CarriedOf(f).Carries)
}

// carried says what of f is to be there: what was asked for, else what media says.
func (c check) carried(f delivery.Found) delivery.Carried {
	carried := delivery.CarriedOf(f)
	if len(c.platforms) > 0 {
		carried.Platforms = c.platforms
	}
	return carried
}

// repairSources opens what --repair names.
func (a *app) repairSources(ctx context.Context, ref string, names []string) (sources []mirror.RepairSource, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	to, err := location(ref)
	if err != nil {
		return nil, err
	}
	if to.Place == artifact.PlaceLibrary {
		return nil, withHint(usagef("--repair mends a directory, got %q", ref), "the library's: sealift verify %s --repair SRC", directory(a.finder().Library))
	}
	if to.Place != artifact.PlaceMedia {
		return nil, withHint(usagef("--repair mends media, and %s is in a registry", ref), "copy it there again: sealift mirror --check SRC %s", to.Repository)
	}
	for _, name := range names {
		from, err := location(name)
		if err != nil {
			return nil, err
		}
		source := mirror.RepairSource{Name: name}
		switch from.Place { // by digest, whatever it is called there
		case artifact.PlaceMedia:
			source.Store, err = delivery.OpenMedia(from.Path)
		case artifact.PlaceLibrary:
			if _, err := a.find(ctx, name); err != nil {
				return nil, err
			}
			source.Store, err = delivery.OpenMedia(a.finder().Library)
		default:
			source.Store, err = a.client.Repository(from.Repository)
		}
		if err != nil {
			return nil, fmt.Errorf("repair from %s: %w", name, err)
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// replaced tells what a repair did, or would do.
type replaced struct {
	// Index says that index.json was torn, or behind, and was written again.
	Index bool           `json:"index,omitempty"`
	Count int            `json:"count"`
	Bytes int64          `json:"bytes"`
	Blobs []replacedBlob `json:"blobs"`
}

type replacedBlob struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Was    string `json:"was"`
	Source string `json:"source"`
}

func newReplaced(done mirror.Repaired) *replaced {
	r := &replaced{Index: done.Index, Count: len(done.Pieces), Blobs: []replacedBlob{}}
	for _, p := range done.Pieces {
		r.Bytes += p.Descriptor.Size
		r.Blobs = append(r.Blobs, replacedBlob{p.Descriptor.Digest.String(), p.Descriptor.Size, p.Was, p.Source})
	}
	return r
}

func (r *replaced) text(w io.Writer, dryRun bool) {
	verb, was, index := "replaced", "was", "is whole again"
	if dryRun {
		verb, was, index = "would replace", "is", "would be whole again"
	}
	for _, p := range r.Blobs {
		fmt.Fprintf(w, "%s  %s, %s, from %s\n", p.Digest, p.Was, ui.Bytes(p.Size), p.Source)
	}
	if r.Index {
		fmt.Fprintf(w, "index.json %s torn and %s\n", was, index)
	}
	if r.Count == 0 {
		fmt.Fprintf(w, "no blob %s damaged or missing\n", was)
		return
	}
	fmt.Fprintf(w, "%s %s, %s\n", verb, count(r.Count, "damaged or missing blob"), ui.Bytes(r.Bytes))
}

// repairing is a check that mends what it finds.
type repairing struct {
	check
	dir     string
	items   []mirror.RepairItem
	sources []mirror.RepairSource
	// before is what the first look found, which stands where nothing can be done
	// about it.
	before error
	found  []delivery.Found // by the last look
}

// run mends the media and, when anything was done, checks it again; else results
// stand.
func (r *repairing) run(ctx context.Context, results []verified) (*replaced, []verified, error) {
	done, err := mirror.Repair(ctx, r.dir, r.items, r.sources, mirror.RepairOptions{Progress: r.out.Progress})
	readOnly := errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
	lacking := new(mirror.RepairError)
	switch {
	case readOnly && r.before == nil:
		return newReplaced(done), results, nil
	case readOnly:
		return nil, nil, withHint(errors.Join(r.before, err), "it cannot be written to: make it writable, or copy it to a disk and repair the copy")
	case err != nil && !errors.As(err, &lacking):
		return nil, nil, err
	}
	if len(done.Pieces) > 0 || done.Index {
		list, findErr := r.findTogether(ctx, r.refs)
		if findErr != nil {
			return nil, nil, findErr
		}
		r.found = list
		if len(done.Pieces) > 0 || r.before != nil {
			results, _, r.before = r.all(ctx, list)
		}
	}
	if r.before != nil {
		return nil, nil, unrepaired(errors.Join(r.before, err))
	}
	if err != nil {
		r.out.Warn("%s lists more that is damaged, beside what %s names: %v", r.dir, r.refs[0], err)
	}
	return newReplaced(done), results, nil
}

// unrepaired adds what to do about damage that no source could mend.
func unrepaired(err error) error {
	if !errors.As(err, new(*mirror.RepairError)) {
		return err
	}
	return withHint(err, "name another source that may have it, with one more --repair SRC")
}

// show tells what run would do.
func (r *repairing) show(ctx context.Context) error {
	done, err := mirror.Repair(ctx, r.dir, r.items, r.sources, mirror.RepairOptions{DryRun: true})
	if err != nil || len(done.Pieces) == 0 && !done.Index && r.before != nil {
		return unrepaired(errors.Join(r.before, err))
	}
	doc := struct {
		Type string `json:"type"`
		*replaced
		DryRun bool `json:"dryRun"`
	}{"repair", newReplaced(done), true}
	return r.out.Result(doc, func(w io.Writer) {
		doc.text(w, true)
		for _, p := range done.Pieces {
			if artifact.IsManifest(p.Descriptor.MediaType) {
				fmt.Fprintln(w, "what damaged manifests name is not known before they are replaced")
				break
			}
		}
	})
}
