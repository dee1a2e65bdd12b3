package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/mirror"
)

func plan(t *testing.T, dst mirror.Destination, items ...mirror.Item) *mirror.Plan {
	t.Helper()
	p, err := mirror.NewPlan(t.Context(), dst, items, mirror.PlanOptions{})
	if err != nil {
		t.Fatalf("NewPlan = %v", err)
	}
	return p
}

func item(src mirror.Source, ref string) mirror.Item {
	return mirror.Item{Source: src, Reference: ref, Name: "example.com/shop:" + ref}
}

func digests(list []ocispec.Descriptor) []string {
	var out []string
	for _, d := range list {
		out = append(out, d.Digest.String())
	}
	slices.Sort(out)
	return out
}

func TestCopyIsComplete(t *testing.T) {
	t.Parallel()
	src, dst, w := newStore(t), newDestination(t), &watcher{}
	f := newFixture(src)
	p := plan(t, dst, item(src, "1.0.0"))
	if len(dst.pushed) > 0 || len(dst.named) > 0 {
		t.Errorf("NewPlan pushed %v and named %v, want nothing written", dst.pushed, dst.named)
	}
	total, missing := p.Size()
	if total != missing || p.Missing() != len(p.Manifests)+len(p.Blobs) {
		t.Errorf("Size() = %d, %d, Missing() = %d, want all of it missing", total, missing, p.Missing())
	}
	var planned []ocispec.Descriptor
	for _, s := range p.Manifests {
		planned = append(planned, s.Descriptor)
	}
	if diff := cmp.Diff(digests(f.manifests()), digests(planned)); diff != "" {
		t.Errorf("manifests of the plan (-want +got):\n%s", diff)
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{Progress: w}); err != nil {
		t.Fatalf("Execute = %v", err)
	}
	if w.total != total || w.missing != missing {
		t.Errorf("Begin(%d, %d), want %d, %d", w.total, w.missing, total, missing)
	}
	w.orderly(t)
	if w.begun != 1 || w.advanced != total || len(w.stored) != p.Missing() {
		t.Errorf("progress = %d begun, %d bytes, %d stored, want 1, %d, %d", w.begun, w.advanced, len(w.stored), total, p.Missing())
	}
	for d, n := range dst.pushed {
		if n != 1 {
			t.Errorf("%s was pushed %d times, want once", d, n)
		}
	}
	for _, s := range append(slices.Clone(p.Manifests), p.Blobs...) {
		if _, err := content.FetchAll(t.Context(), dst, s.Descriptor); err != nil {
			t.Errorf("%s at the destination: %v", s.Descriptor.Digest, err)
		}
	}
	if len(dst.named) != 1 || dst.named[0].Name != "example.com/shop:1.0.0" || dst.named[0].Descriptor.Digest != f.root.Digest {
		t.Fatalf("named = %v, want the one root", dst.named)
	}
	if diff := cmp.Diff(digests([]ocispec.Descriptor{f.signature, f.sbom, f.sbomSignature}), digests(dst.named[0].Referrers)); diff != "" {
		t.Errorf("Referrers (-want +got):\n%s", diff)
	}
	tags := map[string]string{}
	for _, tag := range dst.named[0].Tags {
		tags[tag.Name] = tag.Descriptor.Digest.String()
	}
	want := map[string]string{
		scheme(f.root, ".sig"): f.sig.Digest.String(), scheme(f.root, ".att"): f.att.Digest.String(),
		scheme(f.root, ".sbom"): f.sbomTag.Digest.String(), scheme(f.arm64, ".sig"): f.childSig.Digest.String(),
	}
	if diff := cmp.Diff(want, tags); diff != "" {
		t.Errorf("Tags (-want +got):\n%s", diff)
	}
}

func TestCopyAgainCopiesNothing(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	newFixture(src)
	if err := plan(t, dst, item(src, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	p := plan(t, dst, item(src, "1.0.0"))
	if total, missing := p.Size(); missing != 0 || total == 0 || p.Missing() != 0 {
		t.Errorf("Size() = %d, %d, Missing() = %d, want nothing missing", total, missing, p.Missing())
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{}); err != nil || len(dst.named) != 2 {
		t.Errorf("Execute = %v with %d names, want nil and the name again", err, len(dst.named))
	}
}

// Only what is missing is copied, and what has arrived stays when the rest fails.
func TestCopyContinues(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	f := newFixture(src)
	dst.fail = func(_ context.Context, d ocispec.Descriptor) error {
		if d.Digest == f.root.Digest {
			return errors.New("refused")
		}
		return nil
	}
	err := plan(t, dst, item(src, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{})
	var incomplete *mirror.IncompleteError
	if !errors.As(err, &incomplete) || incomplete.Stored == 0 || incomplete.Stored >= incomplete.Total || len(dst.named) != 0 {
		t.Fatalf("Execute = %v with %d names, want an IncompleteError and none", err, len(dst.named))
	}
	dst.fail = nil
	if err := plan(t, dst, item(src, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	for d, n := range dst.pushed {
		if n != 1 {
			t.Errorf("%s was pushed %d times, want once", d, n)
		}
	}
}

// Manifests of one level are copied at once; one by one would never end here.
func TestManifestsInParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newStore(t), newDestination(t)
		one, two := src.image("one", nil), src.image("two", nil)
		root := src.index(nil, one, two)
		src.tag(root, "1")
		var both sync.WaitGroup
		both.Add(2)
		dst.fail = func(_ context.Context, d ocispec.Descriptor) error {
			if d.Digest == one.Digest || d.Digest == two.Digest {
				both.Done()
				both.Wait()
			}
			return nil
		}
		if err := plan(t, dst, item(src, "1")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil || dst.committed != 1 {
			t.Errorf("Execute = %v with %d commits, want nil and 1", err, dst.committed)
		}
	})
}

// absent is a source that has lost one piece of content.
type absent struct {
	mirror.Source
	digest  digest.Digest
	fetched int
	mu      sync.Mutex
}

func (a *absent) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Digest != a.digest {
		return a.Source.Fetch(ctx, d)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetched++
	return nil, fmt.Errorf("%s: %w", d.Digest, errdef.ErrNotFound)
}

func TestMissingBlob(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	layer := src.layer("layer")
	src.tag(src.image("image", nil, layer), "1")
	lost := &absent{Source: src, digest: layer.Digest}
	err := plan(t, dst, item(lost, "1")).Execute(t.Context(), mirror.ExecuteOptions{})
	var failed *mirror.CopyError
	if !errors.Is(err, errdef.ErrNotFound) || !errors.As(err, &failed) || failed.Side != "source" {
		t.Errorf("Execute = %v, want %v at the source", err, errdef.ErrNotFound)
	}
	if lost.fetched != 1 || len(dst.named) != 0 {
		t.Errorf("fetched %d times, %d names, want once and none", lost.fetched, len(dst.named))
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	src, dst := newStore(t), newDestination(t)
	newFixture(src)
	cause := errors.New("the person pressed the key")
	ctx, cancel := context.WithCancelCause(t.Context())
	dst.fail = func(ctx context.Context, _ ocispec.Descriptor) error {
		cancel(cause)
		<-ctx.Done()
		return ctx.Err()
	}
	p := plan(t, dst, item(src, "1.0.0"))
	err := p.Execute(ctx, mirror.ExecuteOptions{})
	var incomplete *mirror.IncompleteError
	if !errors.As(err, &incomplete) || !errors.Is(err, cause) || !errors.Is(err, context.Canceled) {
		t.Errorf("Execute = %v, want an IncompleteError with %v and its cause", err, context.Canceled)
	}
	if len(dst.named) != 0 {
		t.Error("the root was named")
	}
}

// While a copy waits to try again, cancelling must end it at once.
func TestCancelledWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, dst := newStore(t), newDestination(t)
		layer := src.layer("layer")
		src.tag(src.image("image", nil, layer), "1")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		p := plan(t, dst, item(&faulty{Source: src, digest: layer.Digest, times: -1, err: io.ErrUnexpectedEOF}, "1"))
		err := p.Execute(ctx, mirror.ExecuteOptions{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("Execute = %v after %v, want %v after 100ms", err, time.Since(start), context.DeadlineExceeded)
		}
	})
}

// Content that another writer stored meanwhile is as good as copied.
func TestStoredMeanwhile(t *testing.T) {
	t.Parallel()
	src, dst, w := newStore(t), newDestination(t), &watcher{}
	newFixture(src)
	p := plan(t, dst, item(src, "1.0.0"))
	dst.fail = func(context.Context, ocispec.Descriptor) error { return errdef.ErrAlreadyExists }
	for _, s := range append(slices.Clone(p.Blobs), p.Manifests...) {
		data, err := src.Fetch(t.Context(), s.Descriptor)
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.Store.Push(t.Context(), s.Descriptor, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Execute(t.Context(), mirror.ExecuteOptions{Progress: w}); err != nil {
		t.Fatalf("Execute = %v", err)
	}
	if total, _ := p.Size(); w.advanced != total || w.adjusted != total {
		t.Errorf("progress = %d bytes, %d of them not moved, want %d, all of them", w.advanced, w.adjusted, total)
	}
}

// mounter is a destination that can take blobs from a neighbour, or says that it
// cannot.
type mounter struct {
	*destination
	src     *store
	err     error // what mounting gives
	refuse  bool  // fall back on the content offered
	mounted int
	mu      sync.Mutex
}

func (m *mounter) Mount(ctx context.Context, d ocispec.Descriptor, from string, get func() (io.ReadCloser, error)) error {
	if from != "example.com/origin" {
		return fmt.Errorf("mount from %q", from)
	}
	if m.err != nil {
		return m.err
	}
	open := get
	if !m.refuse {
		m.mu.Lock()
		m.mounted++
		m.mu.Unlock()
		open = func() (io.ReadCloser, error) { return m.src.Fetch(ctx, d) }
	}
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	return m.Push(ctx, d, rc)
}

func TestMount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		err     error
		refuse  bool
		mounted int
	}{
		{"mounted", nil, false, 2},
		{"refused by the registry", nil, true, 0},
		{"not supported", errdef.ErrUnsupported, false, 0},
		{"forbidden", &errcode.ErrorResponse{Method: "POST", URL: &url.URL{}, StatusCode: http.StatusForbidden}, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, w := newStore(t), &watcher{}
			dst := &mounter{destination: newDestination(t), src: src, err: tt.err, refuse: tt.refuse}
			src.tag(src.image("image", nil, src.layer("layer")), "1")
			it := item(src, "1")
			it.MountFrom = "example.com/origin"
			p := plan(t, dst, it)
			if err := p.Execute(t.Context(), mirror.ExecuteOptions{Progress: w}); err != nil {
				t.Fatalf("Execute = %v", err)
			}
			if total, _ := p.Size(); w.advanced != total || dst.mounted != tt.mounted {
				t.Errorf("progress = %d bytes, %d mounted, want %d and %d", w.advanced, dst.mounted, total, tt.mounted)
			}
		})
	}
}

// lagging reads on after it has failed, as an HTTP transport may.
type lagging struct {
	*destination
	reading sync.WaitGroup
}

func (l *lagging) Push(_ context.Context, _ ocispec.Descriptor, r io.Reader) error {
	begun := make(chan bool)
	l.reading.Go(func() {
		_, _ = r.Read(make([]byte, 1))
		close(begun)
		_, _ = io.Copy(io.Discard, r)
	})
	<-begun
	return &errcode.ErrorResponse{Method: "PUT", URL: &url.URL{}, StatusCode: http.StatusForbidden}
}

func TestDestinationReadsOn(t *testing.T) {
	t.Parallel()
	src, dst, w := newStore(t), &lagging{destination: newDestination(t)}, &watcher{}
	layer := src.layer("layer")
	src.tag(src.image("image", nil, layer), "1")
	bad := &faulty{Source: src, digest: layer.Digest, times: -1, after: 3, err: io.ErrUnexpectedEOF}
	err := plan(t, dst, item(bad, "1")).Execute(t.Context(), mirror.ExecuteOptions{Progress: w, Attempts: 1})
	dst.reading.Wait()
	if err == nil || w.advanced != 0 {
		t.Errorf("Execute = %v with %d bytes of progress, want an error and none", err, w.advanced)
	}
}
