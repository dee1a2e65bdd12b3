package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/mirror"
)

// store is one repository in memory, with the interfaces of a registry's.
type store struct {
	*memory.Store
	t *testing.T
}

func newStore(t *testing.T) *store { return &store{memory.New(), t} }

func (s *store) Resolve(ctx context.Context, ref string) (ocispec.Descriptor, error) {
	return s.Store.Resolve(ctx, ref)
}

func (s *store) Referrers(ctx context.Context, desc ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	list, err := registry.Referrers(ctx, s.Store, desc, artifactType)
	if err != nil || len(list) == 0 {
		return err
	}
	return fn(list)
}

// add stores data under its own digest.
func (s *store) add(mediaType string, data []byte) ocispec.Descriptor {
	s.t.Helper()
	desc := artifact.Describe(mediaType, data)
	if err := s.Push(s.t.Context(), desc, bytes.NewReader(data)); err != nil && !errors.Is(err, errdef.ErrAlreadyExists) {
		s.t.Fatal(err)
	}
	return desc
}

func (s *store) doc(mediaType string, doc any) ocispec.Descriptor {
	s.t.Helper()
	raw, err := json.Marshal(doc)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.add(mediaType, raw)
}

func (s *store) layer(data string) ocispec.Descriptor {
	s.t.Helper()
	return s.add(ocispec.MediaTypeImageLayer, []byte(data))
}

// image stores a manifest with a config of its own and layers.
func (s *store) image(name string, subject *ocispec.Descriptor, layers ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	return s.doc(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: s.add(ocispec.MediaTypeImageConfig, []byte(`{"author":"`+name+`"}`)), Layers: append([]ocispec.Descriptor{}, layers...), Subject: subject,
	})
}

func (s *store) index(subject *ocispec.Descriptor, children ...ocispec.Descriptor) ocispec.Descriptor {
	s.t.Helper()
	return s.doc(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children, Subject: subject,
	})
}

func (s *store) tag(desc ocispec.Descriptor, name string) {
	s.t.Helper()
	if err := s.Tag(s.t.Context(), desc, name); err != nil {
		s.t.Fatal(err)
	}
}

// scheme returns the tag by which a signature of desc is found without referrers.
func scheme(desc ocispec.Descriptor, suffix string) string {
	return strings.Replace(desc.Digest.String(), ":", "-", 1) + suffix
}

// fixture is a multi-arch image with everything that can hang on one.
type fixture struct {
	root, amd64, arm64             ocispec.Descriptor
	signature, sbom, sbomSignature ocispec.Descriptor // referrers of root, of amd64, of sbom
	sig, att, sbomTag, childSig    ocispec.Descriptor // by tag
}

func newFixture(s *store) fixture {
	var f fixture
	shared := s.layer("shared layer")
	f.amd64 = s.image("amd64", nil, shared, s.layer("amd64 layer"))
	f.arm64 = s.image("arm64", nil, shared, s.layer(strings.Repeat("arm64 layer ", 1000)))
	f.root = s.index(nil, f.amd64, f.arm64)
	f.signature = s.image("signature", &f.root, s.layer("signature"))
	f.sbom = s.image("sbom", &f.amd64, s.layer("sbom"))
	f.sbomSignature = s.image("sbom signature", &f.sbom, s.layer("sbom signature"))
	f.sig, f.att, f.sbomTag = s.image("sig", nil, s.layer("sig")), s.image("att", nil, s.layer("att")), s.image("sbom tag", nil)
	f.childSig = s.image("child sig", nil)
	s.tag(f.sig, scheme(f.root, ".sig"))
	s.tag(f.att, scheme(f.root, ".att"))
	s.tag(f.sbomTag, scheme(f.root, ".sbom"))
	s.tag(f.childSig, scheme(f.arm64, ".sig"))
	s.tag(f.root, "1.0.0")
	return f
}

func (f fixture) manifests() []ocispec.Descriptor {
	return []ocispec.Descriptor{f.root, f.amd64, f.arm64, f.signature, f.sbom, f.sbomSignature, f.sig, f.att, f.sbomTag, f.childSig}
}

// destination records what arrives and refuses a manifest that comes before
// something it names.
type destination struct {
	*memory.Store
	t  *testing.T
	mu sync.Mutex
	// pushed counts by digest; named holds the roots.
	pushed    map[digest.Digest]int
	named     []mirror.Root
	committed int
	// fail is asked before each push, failAfter once its content was read.
	fail, failAfter func(ctx context.Context, desc ocispec.Descriptor) error
}

func newDestination(t *testing.T) *destination {
	return &destination{Store: memory.New(), t: t, pushed: map[digest.Digest]int{}}
}

func (d *destination) Push(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if d.fail != nil {
		if err := d.fail(ctx, desc); err != nil {
			return err
		}
	}
	data, err := content.ReadAll(r, desc)
	if err != nil {
		return err
	}
	if d.failAfter != nil {
		if err := d.failAfter(ctx, desc); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.named) > 0 {
		d.t.Errorf("%s was pushed behind a root's name", desc.Digest)
	}
	if artifact.IsManifest(desc.MediaType) {
		m, err := artifact.ParseManifest(desc.MediaType, data)
		if err != nil {
			return err
		}
		for _, c := range append(m.Blobs, m.Manifests...) {
			if ok, err := d.Exists(ctx, c); err != nil || !ok {
				d.t.Errorf("manifest %s was pushed before %s, which it names", desc.Digest, c.Digest)
			}
		}
	}
	d.pushed[desc.Digest]++
	return d.Store.Push(ctx, desc, bytes.NewReader(data))
}

func (d *destination) Name(ctx context.Context, root mirror.Root) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := append([]ocispec.Descriptor{root.Descriptor}, root.Referrers...)
	for _, t := range root.Tags {
		list = append(list, t.Descriptor)
	}
	for _, desc := range list {
		if ok, err := d.Exists(ctx, desc); err != nil || !ok {
			d.t.Errorf("Name(%s) before %s is stored", root.Name, desc.Digest)
		}
	}
	d.named = append(d.named, root)
	return nil
}

func (d *destination) Commit(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.committed++
	return nil
}

// ingester is a destination that keeps what arrived of interrupted content.
type ingester struct {
	*destination
	partial map[digest.Digest][]byte
	offsets []int64
}

func (d *ingester) Ingest(ctx context.Context, desc ocispec.Descriptor, open func(context.Context, int64) (io.ReadCloser, error)) error {
	d.mu.Lock()
	have := d.partial[desc.Digest]
	d.offsets = append(d.offsets, int64(len(have)))
	d.mu.Unlock()
	rc, err := open(ctx, int64(len(have)))
	if err != nil {
		return err
	}
	defer rc.Close()
	rest, err := io.ReadAll(rc)
	have = append(bytes.Clone(have), rest...)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.partial[desc.Digest] = have
		return err
	}
	return d.Push(ctx, desc, bytes.NewReader(have))
}

// watcher adds up what a copy reports, and notes what comes out of order.
type watcher struct {
	mu       sync.Mutex
	begun    int
	ended    int
	blobs    mirror.Amount // missing ones
	state    map[digest.Digest]string
	disorder []string
	total    int64
	missing  int64
	advanced int64 // adjustments too
	adjusted int64
	stored   map[digest.Digest]int
	retried  []time.Duration
}

func (w *watcher) Begin(total, missing mirror.Amount) {
	w.begun, w.total, w.missing, w.blobs = w.begun+1, total.Bytes, missing.Bytes, missing
	w.state = map[digest.Digest]string{}
}

func (w *watcher) End() { w.ended++ }

// orderly fails the test unless a copy or a verification that came to its end was
// told in the order that is promised.
func (w *watcher) orderly(t *testing.T) {
	t.Helper()
	over := 0
	for d, s := range w.state {
		if s == "stored" || s == "failed" {
			over++
		} else {
			w.disorder = append(w.disorder, s+" in the end: "+d.String())
		}
	}
	if w.begun != 1 || w.ended != 1 || over != w.blobs.Blobs || len(w.disorder) > 0 {
		t.Errorf("progress: %d begun, %d ended, %d of %d blobs over, out of order %q", w.begun, w.ended, over, w.blobs.Blobs, w.disorder)
	}
}

// pass notes that desc came from state from to state to.
func (w *watcher) pass(desc ocispec.Descriptor, from, to string) {
	if was, begun := w.state[desc.Digest]; was != from || begun != (from != "") || w.ended > 0 {
		w.disorder = append(w.disorder, fmt.Sprintf("%s after %q, %d ended: %s", to, was, w.ended, desc.Digest))
	}
	w.state[desc.Digest] = to
}

func (w *watcher) Start(desc ocispec.Descriptor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "", "started")
}

func (w *watcher) Advance(desc ocispec.Descriptor, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "started", "started")
	if n < 0 {
		w.disorder = append(w.disorder, fmt.Sprintf("advanced by %d: %s", n, desc.Digest))
	}
	w.advanced += n
}

func (w *watcher) Adjust(desc ocispec.Descriptor, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "started", "started")
	w.advanced += n
	w.adjusted += n
}

func (w *watcher) Failed(desc ocispec.Descriptor, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "started", "failed")
}

func (w *watcher) Absent(desc ocispec.Descriptor, _ string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "started", "absent")
}

func (w *watcher) Stored(desc ocispec.Descriptor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "started", "stored")
	if w.stored == nil {
		w.stored = map[digest.Digest]int{}
	}
	w.stored[desc.Digest]++
}

func (w *watcher) Retrying(desc ocispec.Descriptor, _ error, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(desc, "started", "started")
	w.retried = append(w.retried, wait)
}

// faulty changes what a source serves of one piece of content.
type faulty struct {
	mirror.Source
	digest digest.Digest
	// times is how often the fault shows; < 0 for always.
	times int
	// after is where in the content, and err what happens there; io.EOF for a
	// source that is just short.
	after int64
	err   error

	mu      sync.Mutex
	fetched int
}

func (f *faulty) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := f.Source.Fetch(ctx, desc)
	if err != nil || desc.Digest != f.digest {
		return rc, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fetched++
	if f.times == 0 {
		return rc, nil
	}
	f.times--
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, f.after), failing{f.err}), rc}, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// blobsOf returns config and layers of a manifest.
func blobsOf(t *testing.T, raw []byte) []ocispec.Descriptor {
	t.Helper()
	m, err := artifact.ParseManifest(ocispec.MediaTypeImageManifest, raw)
	if err != nil {
		t.Fatal(err)
	}
	return m.Blobs
}
