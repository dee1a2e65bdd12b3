package mirror

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/layout"
)

// ledger is a label that is being written, its roots by name and digest.
type ledger struct {
	layout.Label // without Roots
	roots        map[Base]layout.LabelRoot
}

// newLedger goes on with a label, which it leaves alone.
func newLedger(label layout.Label) *ledger {
	l := &ledger{label, make(map[Base]layout.LabelRoot, len(label.Roots))}
	for _, r := range label.Roots {
		l.roots[Base{r.Name, r.Digest}] = r
	}
	l.Roots, l.Left = nil, slices.Clone(label.Left)
	return l
}

// label returns what is to be written.
func (l *ledger) label() layout.Label {
	label := l.Label
	label.Roots = slices.Collect(maps.Values(l.roots)) // sorted when they are formatted
	return label
}

// describe notes what of root is carried. What an earlier copy of the same root
// brought is still there; what had the name before is explained until the index names
// it no more.
func (l *ledger) describe(name string, root Root) {
	entry := layout.LabelRoot{Name: name, Digest: root.Descriptor.Digest}
	for _, p := range root.Platforms {
		entry.Platforms = append(entry.Platforms, FormatPlatform(p))
	}
	for _, b := range root.Base {
		entry.Base = append(entry.Base, layout.LabelBase{Name: b.Name, Digest: b.Digest})
	}
	key := Base{name, entry.Digest}
	if before, ok := l.roots[key]; ok {
		entry = widen(before, entry)
	}
	l.roots[key] = entry
	l.Left = append(l.Left, root.LeftBlobs...)
}

// fits fails with errdef.ErrSizeExceedsLimit when the label cannot tell of roots too,
// with those that named lists, which media has and keeps unless they are replaced.
func (l *ledger) fits(named []layout.Root, roots []Root) error {
	next := newLedger(l.label())
	keep, names := map[Base]bool{}, map[string]bool{}
	for _, r := range roots {
		next.describe(rootName(r), r)
		keep[Base{rootName(r), r.Descriptor.Digest}], names[rootName(r)] = true, true
	}
	slices.Sort(next.Left)
	next.Left = slices.Compact(next.Left)
	_, err := next.label().Format()
	if !errors.Is(err, errdef.ErrSizeExceedsLimit) {
		return nil // whatever else it is, whoever writes the label will meet it
	}
	for _, r := range named {
		keep[Base{r.Name, r.Descriptor.Digest}] = !names[r.Name] || keep[Base{r.Name, r.Descriptor.Digest}]
	}
	maps.DeleteFunc(next.roots, func(key Base, _ layout.LabelRoot) bool { return !keep[key] })
	if _, err := next.label().Format(); errors.Is(err, errdef.ErrSizeExceedsLimit) {
		return fmt.Errorf("media cannot say what it carries of %d roots more: %w", len(roots), err)
	}
	return nil
}

// fits fails when dst is media whose label cannot tell of the roots of p too: nothing
// is to be written that cannot be named.
func (p *Plan) fits() error {
	switch d := p.dst.(type) {
	case *Media:
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.label.fits(d.w.Roots(), p.Roots)
	case peek:
		if d.held == nil {
			return newLedger(layout.Label{}).fits(nil, p.Roots)
		}
		label, err := d.held.Label()
		if err != nil {
			label = layout.Label{} // as when it is opened for writing
		}
		return newLedger(label).fits(d.held.Roots(), p.Roots)
	}
	return nil
}
