package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// parseVolumeSize reads --volume-size.
func parseVolumeSize(s string) (mirror.VolumeOptions, error) {
	if kind, ok := delivery.VolumeKind(s); ok {
		return kind, nil
	}
	n, err := ui.ParseBytes(s)
	if err != nil || n <= 0 {
		return mirror.VolumeOptions{}, withHint(usagef("--volume-size wants a size or one of %s, got %q", strings.Join(delivery.VolumeKinds(), ", "), s), "as in --volume-size 4.7GB")
	}
	return mirror.VolumeOptions{Bytes: n}, nil
}

// volumes is a copy onto several volumes.
type volumes struct {
	*copying
	plan  *mirror.Plan
	set   *mirror.Set
	tools *tool.Options // nil when no program goes along
}

// runVolumes makes the set and writes its volumes, or the one that was asked for.
func (c *copying) runVolumes(ctx context.Context, follow *mirror.Document) error {
	plan, err := c.plan(ctx, mirror.Empty(), mirror.PlanOptions{})
	if err != nil {
		return err
	}
	v := &volumes{copying: c, plan: plan}
	if v.tools, err = c.tools(plan); err != nil {
		return err
	}
	if v.set, err = v.volumeSet(); err != nil {
		return err
	}
	if err := v.warnTools(); err != nil {
		return err
	}
	if c.req.Volume > len(v.set.Volumes) {
		return usagef("--volume %d: the set has %d", c.req.Volume, len(v.set.Volumes))
	}
	asked, to, err := v.asked(ctx)
	if err != nil {
		return err
	}
	if err := v.followSet(asked, follow); err != nil {
		return err
	}
	c.req.SetID = v.set.ID
	if err := c.savePlan(asked); err != nil {
		return err
	}
	if err := plan.Complete(); err != nil {
		return fmt.Errorf("mirror to %s: %w", c.to, c.explainAbsent(err))
	}
	if c.dry() {
		return v.show(asked, to)
	}
	numbers, err := v.numbers()
	if err != nil {
		return err
	}
	result := v.result(plan, c.to)
	result.Copied, result.CopiedBytes = 0, 0
	for i, n := range numbers {
		if err := v.write(ctx, n, i > 0, &result); err != nil {
			return err
		}
		result.Set.Written = append(result.Set.Written, n)
	}
	return c.out.Result(result, result.text)
}

// asked is the plan of what was asked for, one volume or all, and where it goes.
func (v *volumes) asked(ctx context.Context) (*mirror.Plan, artifact.Location, error) {
	if v.req.Volume == 0 {
		return v.plan, v.to, nil
	}
	to := delivery.VolumePath(v.to, v.req.Volume)
	dst, err := mirror.Peek(to.Path)
	if err != nil {
		return nil, to, err
	}
	plan, err := v.plan.Volume(ctx, dst, v.set, v.req.Volume, mirror.PlanOptions{})
	return plan, to, err
}

// followSet fails when the plan, or the set it is of, is not what was written down.
func (v *volumes) followSet(plan *mirror.Plan, d *mirror.Document) error {
	err := v.follow(plan, d)
	var moved *mirror.MovedError
	if errors.As(err, &moved) && len(moved.Source) > 0 || err != nil && moved == nil {
		return err
	}
	if d != nil && v.req.SetID != v.set.ID { // what is on which volume follows from it
		return fmt.Errorf("%s: %w", v.flags.fromPlan, &mirror.MovedError{Source: []string{fmt.Sprintf("the set is %s now, the plan has %s", v.set.ID, v.req.SetID)}})
	}
	return err
}

func (v *volumes) result(plan *mirror.Plan, to artifact.Location) mirrored {
	result := newMirrored(plan, to.String())
	result.Set, result.Tool = newMirroredSet(v.set), v.tools != nil
	result.leftIs = v.leftIs()
	if v.req.Volume > 0 && plan != v.plan {
		result.leftIs = words("on other volumes", result.leftIs)
	}
	return result
}

// show tells what would be copied.
func (v *volumes) show(plan *mirror.Plan, to artifact.Location) error {
	result := v.result(plan, to)
	result.DryRun = true
	if v.req.Volume > 0 {
		result.Set.Written = []int{v.req.Volume}
	}
	return v.out.Result(result, result.text)
}

// volumeSet is that of --set, or made anew.
func (v *volumes) volumeSet() (*mirror.Set, error) {
	if v.req.Set != "" {
		set, _, err := mirror.ReadSet(v.req.Set)
		if err != nil {
			return nil, withHint(err, "give the directory of any volume of the set: --set DIR")
		}
		if err = set.Check(v.plan); errors.Is(err, mirror.ErrMoved) && v.flags.fromPlan == "" {
			return nil, withHint(err, "leave out REF, for --set says what its volumes are of; or make another set: --volume-size SIZE")
		}
		return set, err
	}
	opts, err := parseVolumeSize(v.req.VolumeSize)
	if err != nil {
		return nil, err
	}
	if v.tools != nil {
		if opts.Extra, err = v.tools.Room(); err != nil {
			return nil, explainTool(err)
		}
	}
	set, err := v.plan.Split(opts)
	var small *mirror.VolumeSizeError
	if errors.As(err, &small) {
		tenths := (small.Least + 99_999) / 100_000
		return nil, withHint(usagef("--volume-size: %v, and a hundredth and 1 MiB are kept for the file system", err), "these are large enough: --volume-size %d.%dMB", tenths/10, tenths%10)
	} else if err != nil {
		return nil, withHint(usagef("--volume-size: %v", err), "take larger volumes, or others")
	}
	return set, nil
}

// numbers are the volumes to be written. Where they all go to one place, somebody
// has to change the disc.
func (v *volumes) numbers() ([]int, error) {
	if v.req.Volume > 0 {
		return []int{v.req.Volume}, nil
	}
	if len(v.set.Volumes) > 1 && !strings.Contains(v.to.Path, delivery.VolumePlace) && !v.Terminal {
		return nil, withHint(usagef("there are %d volumes, and nobody is here to change the disc", len(v.set.Volumes)),
			"write one at a time with --volume 1, or into a directory each: %s-%s", v.to, delivery.VolumePlace)
	}
	first := 1
	if !strings.Contains(v.to.Path, delivery.VolumePlace) {
		first = v.begun()
	}
	var all []int
	for n := first; n <= len(v.set.Volumes); n++ {
		all = append(all, n)
	}
	return all, nil
}

// begun is the number of the volume that is in the drive already, when it is one of
// the set: an interrupted copy goes on there.
func (v *volumes) begun() int {
	n := delivery.BegunVolume(v.set, v.to)
	if n > 1 {
		v.out.Message("volume %d is in %s: going on there; --volume 1 writes the first again", n, v.to)
	}
	return n
}

// write makes one volume; next says that the disc of another may still be in.
func (v *volumes) write(ctx context.Context, n int, next bool, result *mirrored) (err error) {
	to := delivery.VolumePath(v.to, n)
	if next && to.Path == v.to.Path {
		if err := v.changeDisc(ctx, n, v.to.String()); err != nil {
			return err
		}
	}
	media, err := v.openVolume(ctx, to, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, media.Close()) }()
	plan, err := v.plan.Volume(ctx, media, v.set, n, mirror.PlanOptions{})
	if err != nil {
		return err
	}
	if err := v.room(plan, to); err != nil {
		return err
	}
	v.out.Message("volume %d of %d goes to %s", n, len(v.set.Volumes), to)
	if err := v.copyToMedia(ctx, plan, media, to, v.tools, result); err != nil {
		return err
	}
	sum := plan.Summary()
	result.Copied += sum.Copied.Blobs
	result.CopiedBytes += sum.Copied.Bytes
	if n, bytes := plan.Pieces(); n > 0 {
		v.out.Message("%s of large blobs, %s: the label has their digests, and all volumes together prove them: sealift verify with all of them", count(n, "segment"), ui.Bytes(bytes))
	}
	v.out.Message("volume %d of %d is done: take it out and write on it %s, %d of %d", n, len(v.set.Volumes), v.set.ID, n, len(v.set.Volumes))
	return nil
}

// openVolume opens a disc, and asks for another one while it is the wrong one.
func (v *volumes) openVolume(ctx context.Context, to artifact.Location, n int) (*mirror.Media, error) {
	for {
		media, err := v.openMedia(ctx, to, mirror.MediaOptions{Set: v.set, Volume: n, MaxFileBytes: v.set.Options.FileBytes})
		var wrong *mirror.VolumeError
		if !errors.As(err, &wrong) {
			return media, err
		}
		if !v.Terminal || to.Path != v.to.Path || v.req.Volume > 0 {
			return nil, withHint(err, "give volume %d of the set %s, or a directory that is empty", n, v.set.ID)
		}
		v.out.Warn("%v; it is not written to", err)
		if err := v.changeDisc(ctx, n, v.to.String()); err != nil {
			return nil, err
		}
	}
}

// changeDisc waits until somebody says that the disc is in.
func (a *app) changeDisc(ctx context.Context, n int, place string) error {
	a.out.Question("insert the disc for volume %d at %s and press Enter", n, place)
	_, err := ask(ctx, func() (string, error) {
		var line [1]byte
		for {
			if _, err := a.In.Read(line[:]); err != nil || line[0] == '\n' {
				return "", err
			}
		}
	})
	if errors.Is(err, io.EOF) {
		return withHint(errors.New("nobody is here to change the disc"), "run the same command again with the disc of volume %d", n)
	}
	return err
}

// mirroredSet is the volume set of the result of mirror.
type mirroredSet struct {
	ID       string           `json:"id"`
	Capacity int64            `json:"capacity"`
	Volumes  []mirroredVolume `json:"volumes"`
	// Written are the volumes that were written or were whole.
	Written []int `json:"written,omitempty"`
}

type mirroredVolume struct {
	Volume int `json:"volume"`
	// Blobs are on this volume and no other.
	Blobs int `json:"blobs"`
	// Segments of larger blobs are on this volume.
	Segments int `json:"segments,omitempty"`
	// Bytes is 0 where nobody has worked it out.
	Bytes int64 `json:"bytes,omitempty"`
}

func newMirroredSet(set *mirror.Set) *mirroredSet {
	m := &mirroredSet{ID: set.ID, Capacity: set.Options.Bytes}
	for i, v := range set.Volumes {
		m.Volumes = append(m.Volumes, mirroredVolume{Volume: i + 1, Blobs: len(v.Blobs), Bytes: v.Bytes})
	}
	for _, segments := range set.Segments {
		for _, n := range segments.Volumes {
			if n >= 1 && n <= len(m.Volumes) { // a set that was read is as true as its media
				m.Volumes[n-1].Segments++
			}
		}
	}
	return m
}

func (m *mirroredSet) text(w io.Writer) {
	fmt.Fprintf(w, "set %s, %s of %s\n", m.ID, count(len(m.Volumes), "volume"), ui.Bytes(m.Capacity))
	for _, v := range m.Volumes {
		if len(m.Written) > 0 && !slices.Contains(m.Written, v.Volume) {
			continue
		}
		size := ""
		if v.Bytes > 0 {
			size = ", " + ui.Bytes(v.Bytes) + " in all"
		}
		own := count(v.Blobs, "blob") + " of its own"
		switch {
		case v.Segments > 0 && v.Blobs > 0:
			own += ", " + count(v.Segments, "segment") + " of larger ones"
		case v.Segments > 0:
			own = count(v.Segments, "segment") + " of larger blobs"
		}
		fmt.Fprintf(w, "  volume %d  %s%s\n", v.Volume, own, size)
	}
}
