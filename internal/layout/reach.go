package layout

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
)

// digestKey is the beginning of a digest. There may be a million of them, and two
// that are taken for one only keep something.
type digestKey [32]byte

func keyOf(d digest.Digest) (k digestKey) {
	_, _ = hex.Decode(k[:], []byte(d.Encoded()[:2*len(k)])) // it is valid
	return k
}

// marks are what is known of a digest.
type marks uint8

const (
	markReached marks = 1 << iota
	markRead          // and followed, as a manifest
	markLacking       // not there, and nobody says that it should be
)

// hanging is an entry of an index that counts only as far as something else is
// reached: a referrer, or a signature tag, of what it is about.
type hanging struct {
	entry   ocispec.Descriptor
	subject digest.Digest
	node    *node // of a referrer, which had to be read for its subject
}

// sorted is an index sorted out by what counts in any case and what hangs on it.
type sorted struct {
	roots   []ocispec.Descriptor
	hanging []hanging
	on      map[digest.Digest][]int // hanging, by subject
}

// sortOut reads each untagged manifest: nothing else tells which are referrers. One
// that cannot be read counts in any case.
func (l *Layout) sortOut(ctx context.Context, entries []ocispec.Descriptor) (*sorted, error) {
	h := &sorted{on: map[digest.Digest][]int{}}
	seen := map[digest.Digest]*node{}
	reader := l.newReach(nil)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := followable(e); err != nil {
			return nil, err
		}
		hang := hanging{entry: e}
		if isNamed(e) {
			hang.subject, _ = signs(e)
		} else {
			n, again := seen[e.Digest]
			if !again {
				var err error
				if n, err = reader.load(ctx, newLink(e)); err != nil && n != nil {
					return nil, err
				}
				seen[e.Digest] = n
			}
			if n != nil {
				hang.node, hang.subject = n, n.subject
			}
		}
		if hang.subject == "" || checkDigest(hang.subject) != nil {
			h.roots = append(h.roots, e)
			seen[e.Digest] = nil // it is read again, when it is followed
			continue
		}
		h.on[hang.subject] = append(h.on[hang.subject], len(h.hanging))
		h.hanging = append(h.hanging, hang)
	}
	return h, ctx.Err()
}

// followable fails for an entry whose content nobody here can know.
func followable(e ocispec.Descriptor) error {
	if err := checkDescriptor(e); err != nil {
		return fmt.Errorf("what index.json lists as %.100q cannot be followed: %w", e.Digest, err)
	}
	if !isManifest(e.MediaType) {
		return fmt.Errorf("what index.json lists as %s has media type %.100q and cannot be followed: %w", e.Digest, e.MediaType, errdef.ErrUnsupported)
	}
	return nil
}

// isNamed reports whether somebody gave an entry a name, be it one that means nothing
// here.
func isNamed(e ocispec.Descriptor) bool {
	return cmp.Or(e.Annotations[ocispec.AnnotationRefName], e.Annotations[annotationImageName]) != ""
}

// signs returns what an entry is a signature of by its name.
func signs(e ocispec.Descriptor) (digest.Digest, bool) {
	tag, _, ok := grows(cmp.Or(fullName(e), e.Annotations[ocispec.AnnotationRefName]))
	if !ok {
		return "", false
	}
	subject, _, ok := artifact.ParseSignatureTag(tag)
	return subject, ok
}

// reach is what entries of an index lead to, with what hangs on that. It keeps
// digests, and no manifests.
type reach struct {
	layout *Layout
	index  *sorted
	marks  map[digestKey]marks
	queue  []visit
	failed map[link]error
	odd    []error                           // what manifests name that cannot be followed
	read   graphLimits                       // what was read
	lacks  int                               // manifests that are not there
	edge   func(from digest.Digest, to link) // told of each step, nil for nobody
}

// visit is a manifest that is to be read.
type visit struct {
	link
	listed bool  // in index.json, so that it has to be there
	node   *node // when it was read before
}

func (l *Layout) newReach(index *sorted) *reach {
	return &reach{layout: l, index: index, marks: map[digestKey]marks{}, failed: map[link]error{}}
}

// load reads a manifest. With errdef.ErrSizeExceedsLimit it returns one that is over
// what a layout may have.
func (r *reach) load(ctx context.Context, k link) (*node, error) {
	raw, err := r.layout.readManifest(ctx, k.descriptor())
	if err != nil {
		return nil, err
	}
	n, err := parseManifest(k.descriptor(), raw)
	if err != nil {
		return nil, err
	}
	n.desc = k.descriptor() // less its annotations
	return n, r.layout.limits.count(&r.read, n)
}

// from marks all that entries lead to.
func (r *reach) from(ctx context.Context, entries []ocispec.Descriptor) error {
	for _, e := range entries {
		r.enter(visit{link: newLink(e), listed: true})
		if err := r.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *reach) run(ctx context.Context) error {
	for len(r.queue) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := r.queue[len(r.queue)-1]
		r.queue = r.queue[:len(r.queue)-1]
		k := keyOf(v.digest)
		if r.marks[k]&markRead != 0 || r.failed[v.link] != nil {
			continue
		}
		n, err := v.node, error(nil)
		if n == nil {
			n, err = r.load(ctx, v.link)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && n != nil:
			return err
		case errors.Is(err, errdef.ErrNotFound) && !v.listed:
			if r.marks[k]&markLacking == 0 {
				r.marks[k] |= markLacking
				r.lacks++
			}
		case errors.Is(err, errdef.ErrNotFound):
			r.failed[v.link] = errors.New("is listed in index.json and is not there")
		case err != nil:
			r.failed[v.link] = err
		default:
			r.marks[k] |= markRead
			r.follow(n)
		}
	}
	return nil
}

// follow marks what a manifest names, be it where no manifest belongs.
func (r *reach) follow(n *node) {
	odd := false
	for _, list := range [][]link{n.children, n.blobs} {
		for _, k := range list {
			if err := checkDescriptor(k.descriptor()); err != nil {
				if isManifest(k.mediaType) && !odd {
					r.odd = append(r.odd, &ManifestError{Digest: n.desc.Digest, Err: fmt.Errorf("names a manifest that cannot be followed: %w", err)})
					odd = true
				}
				continue
			}
			if r.edge != nil {
				r.edge(n.desc.Digest, k)
			}
			r.enter(visit{link: k})
		}
	}
}

// enter marks one piece of content, and with it what hangs on that, recursively.
func (r *reach) enter(first visit) {
	for stack := []visit{first}; len(stack) > 0; {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		k := keyOf(v.digest)
		if r.marks[k]&markReached == 0 {
			r.marks[k] |= markReached
			for _, i := range r.index.on[v.digest] {
				hang := r.index.hanging[i]
				if r.edge != nil {
					r.edge(v.digest, newLink(hang.entry))
				}
				stack = append(stack, visit{link: newLink(hang.entry), listed: true, node: hang.node})
			}
		}
		if isManifest(v.mediaType) && r.marks[k]&markRead == 0 && (v.listed || r.marks[k]&markLacking == 0) {
			r.queue = append(r.queue, v)
		}
	}
}

func (r *reach) has(d digest.Digest) bool { return r.marks[keyOf(d)]&markReached != 0 }

// damage returns an error for each manifest that nobody could read, by whatever size
// it is named.
func (r *reach) damage() error {
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(r.failed), func(a, b link) int {
		return cmp.Or(cmp.Compare(a.digest, b.digest), cmp.Compare(a.size, b.size), cmp.Compare(a.mediaType, b.mediaType))
	}) {
		if r.marks[keyOf(k.digest)]&markRead == 0 {
			errs = append(errs, &ManifestError{Digest: k.digest, Err: r.failed[k]})
		}
	}
	return errors.Join(append(errs, r.odd...)...)
}
