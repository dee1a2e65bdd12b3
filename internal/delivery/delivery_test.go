package delivery_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/registry"
	"github.com/sealift/sealift/signer"
)

// media is a layout under construction.
type media struct {
	*testing.T
	dir string
}

func newMedia(t *testing.T) media { return media{t, t.TempDir() + "/media"} }

func newSigner(t testing.TB) *signer.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// release adds a release of the app example.com/id under name, signed by s unless
// it is nil.
func (m media) release(name, id, version string, s *signer.Signer) ocispec.Descriptor {
	m.Helper()
	yaml := "apiVersion: sealift/v1\nkind: App\nid: example.com/" + id + "\nversion: " + version +
		"\nplatforms: [linux/amd64]\ncomponents:\n  web: {image: example.com/web:1}\n"
	app, err := artifact.ParseTemplate("app.yaml", []byte(yaml), os.DirFS(m.TempDir()))
	if err != nil {
		m.Fatal(err)
	}
	config := artifact.Blob{Descriptor: artifact.Describe(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux"}`)), Data: []byte(`{"os":"linux"}`)}
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"` + ocispec.MediaTypeImageConfig +
		`","digest":"` + config.Descriptor.Digest.String() + `","size":14},"layers":[]}`)
	image := artifact.Blob{Descriptor: artifact.Describe(ocispec.MediaTypeImageManifest, raw), Data: raw}
	parts, root, err := artifact.BuildRelease(app, map[string]artifact.Image{"web": {Descriptor: image.Descriptor, Source: "example.com/web:1"}}, time.Time{})
	if err != nil {
		m.Fatal(err)
	}
	colon := strings.LastIndexByte(name, ':')
	repository, tag := name[:colon], name[colon+1:]
	m.write(func(ctx context.Context, w *layout.Writer) error {
		repo := w.WritableRepository(repository)
		for _, b := range append(parts, config, image, root) {
			if err := repo.Push(ctx, b.Descriptor, bytes.NewReader(b.Data)); err != nil {
				return err
			}
		}
		if err := repo.Tag(ctx, root.Descriptor, tag); err != nil || s == nil {
			return err
		}
		_, err := signer.Sign(ctx, repo, root.Descriptor, repository, s, signer.SignOptions{})
		return err
	})
	return root.Descriptor
}

func (m media) write(edit func(context.Context, *layout.Writer) error) {
	m.Helper()
	w, err := layout.OpenWriter(m.Context(), m.dir)
	if err != nil {
		m.Fatal(err)
	}
	err = edit(m.Context(), w)
	if err == nil {
		err = w.Commit(m.Context())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		m.Fatal(err)
	}
}

func (m media) find(rest string) []delivery.Found {
	m.Helper()
	loc, err := artifact.ParseLocation(m.dir + rest)
	if err != nil {
		m.Fatal(err)
	}
	list, err := delivery.Finder{}.Find(m.Context(), loc)
	if err != nil {
		m.Fatal(err)
	}
	return list
}

// flip changes one byte of a blob.
func (m media) flip(d ocispec.Descriptor) {
	m.Helper()
	l, err := layout.Open(m.dir)
	if err != nil {
		m.Fatal(err)
	}
	path := l.BlobPath(d.Digest)
	data, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, data, 0o644)); err != nil {
		m.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	s := newSigner(t)
	first := m.release("r.example/a/shop:1.0.0", "shop", "1.0.0", s)
	m.release("r.example/a/shop:1.1.0", "shop", "1.1.0", s)
	m.release("s.example/b/till:1.0.0", "till", "1.0.0", nil)
	for rest, want := range map[string]string{
		"":                                "r.example/a/shop:1.0.0 r.example/a/shop:1.1.0 s.example/b/till:1.0.0",
		":1.0.0":                          "r.example/a/shop:1.0.0 s.example/b/till:1.0.0",
		"//r.example/a/shop":              "r.example/a/shop:1.0.0 r.example/a/shop:1.1.0",
		"//r.example/a/shop:1.1.0":        "r.example/a/shop:1.1.0",
		"@" + first.Digest.String():       "r.example/a/shop:1.0.0",
		":1.0.0@" + first.Digest.String(): "r.example/a/shop:1.0.0",
	} {
		var names []string
		for _, f := range m.find(rest) {
			names = append(names, f.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("Find(DIR%s) = %s, want %s", rest, got, want)
		}
	}
	for _, rest := range []string{":9.9.9", "//r.example/none"} {
		loc, err := artifact.ParseLocation(m.dir + rest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := delivery.FindMedia(t.Context(), loc); !errors.Is(err, errdef.ErrNotFound) {
			t.Errorf("FindMedia(DIR%s) = %v, want %v", rest, err, errdef.ErrNotFound)
		}
	}
	if _, err := delivery.OpenMedia(t.TempDir()); !errors.Is(err, layout.ErrNotLayout) {
		t.Errorf("OpenMedia(empty) = %v, want %v", err, layout.ErrNotLayout)
	}
}

func TestFindUntagged(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`)
	desc := artifact.Describe(ocispec.MediaTypeImageIndex, raw)
	m.write(func(ctx context.Context, w *layout.Writer) error {
		if err := w.Push(ctx, desc, bytes.NewReader(raw)); err != nil {
			return err
		}
		return w.AddUntagged(desc)
	})
	list := m.find("")
	if len(list) != 1 || list[0].Descriptor.Digest != desc.Digest || list[0].Name != "localhost/media@"+desc.Digest.String() {
		t.Errorf("Find(layout of one untagged image) = %+v, want it", list)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	m.release("r.example/shop:1.2.0", "shop", "1.2.0", nil)
	m.release("r.example/shop:1.10.0", "shop", "1.10.0", nil)
	m.release("r.example/shop:2.0.0-rc.1", "shop", "2.0.0-rc.1", nil)
	bad := m.release("r.example/shop:3.0.0", "shop", "3.0.0", nil)
	m.flip(bad)
	// Somebody points names at what is signed under others.
	m.release("r.example/shop:9.0.0", "shop", "0.9.0", nil)
	m.release("r.example/shop:v4", "shop", "0.8.0", nil)
	for version, want := range map[string]string{"": "2.0.0-rc.1", "1.2.0": "1.2.0", "1.10.0": "1.10.0"} {
		f, err := delivery.Choose(t.Context(), m.find(""), version)
		if err != nil || f.Tag != want {
			t.Errorf("Choose(%q) = %s, %v, want %s", version, f.Tag, err, want)
		}
	}
	if _, err := delivery.Choose(t.Context(), m.find(":9.0.0"), ""); !errors.Is(err, delivery.ErrMisnamed) {
		t.Errorf("Choose(misnamed) = %v, want %v", err, delivery.ErrMisnamed)
	}
	if _, err := delivery.Choose(t.Context(), m.find(":3.0.0"), ""); !errors.As(err, new(*layout.ManifestError)) {
		t.Errorf("Choose(damaged) = %v, want a *layout.ManifestError", err)
	}
	var missing *delivery.VersionError
	if _, err := delivery.Choose(t.Context(), m.find(":1.2.0"), "7.0.0"); !errors.As(err, &missing) || len(missing.Have) != 1 {
		t.Errorf("Choose(7.0.0) = %v, want a *VersionError with 1.2.0", err)
	}
	m.release("r.example/till:1.0.0", "till", "1.0.0", nil)
	if _, err := delivery.Choose(t.Context(), m.find(""), ""); !errors.As(err, new(*delivery.SeveralError)) {
		t.Errorf("Choose(two apps) = %v, want a *SeveralError", err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	vendor, stranger := newSigner(t), newSigner(t)
	m.release("r.example/shop:1.0.0", "shop", "1.0.0", vendor)
	m.release("r.example/shop:1.1.0", "shop", "1.1.0", nil)
	m.release("r.example/shop:latest", "shop", "1.2.0", vendor)
	m.release("r.example/shop:shop-1.4.0", "shop", "1.3.0", vendor)
	m.release("r.example/shop:digest-0123456789ab", "shop", "1.5.0", vendor)
	tests := []struct {
		ref  string
		key  *signer.Signer
		want error
		says string
	}{
		{":1.0.0", vendor, nil, ""},
		{":latest", vendor, nil, ""},
		{":1.0.0", stranger, signer.ErrNotAccepted, "r.example/shop:1.0.0 is not signed by the key given (" + stranger.Key().Fingerprint() + "); it claims to be signed by " + vendor.Key().Fingerprint()},
		{":1.1.0", vendor, signer.ErrUnsigned, "r.example/shop:1.1.0 is not signed"},
		{":shop-1.4.0", vendor, delivery.ErrMisnamed, "r.example/shop:shop-1.4.0 says of itself that it is example.com/shop 1.3.0: name disagrees with the signed content"},
		{":digest-0123456789ab", vendor, delivery.ErrMisnamed, ""},
	}
	for _, tt := range tests {
		r, err := delivery.Verify(t.Context(), m.find(tt.ref)[0], delivery.Trust{Keys: []*signer.Key{tt.key.Key()}})
		if !errors.Is(err, tt.want) || tt.says != "" && err.Error() != tt.says {
			t.Errorf("Verify(%s) = %v, want %v %s", tt.ref, err, tt.want, tt.says)
		}
		if tt.want == nil && (err != nil || r.App == nil || len(r.Evidence.Signatures) != 2) {
			t.Errorf("Verify(%s) = %+v, %v, want a release with two signatures", tt.ref, r, err)
		}
		// The name is told from the root alone, whoever signed it.
		named := error(nil)
		if errors.Is(tt.want, delivery.ErrMisnamed) {
			named = delivery.ErrMisnamed
		}
		if err := delivery.CheckName(t.Context(), m.find(tt.ref)[0]); !errors.Is(err, named) {
			t.Errorf("CheckName(%s) = %v, want %v", tt.ref, err, named)
		}
	}
	many := &delivery.SignatureError{Name: "r.example/shop:1.0.0", Err: &signer.VerifyError{More: true, Err: signer.ErrNotAccepted}}
	if !strings.HasSuffix(many.Error(), "; it has more signatures than are looked at") {
		t.Errorf("Error() = %q, want that there are more", many)
	}
}

func TestDamagedSignature(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	s := newSigner(t)
	m.release("r.example/shop:1.0.0", "shop", "1.0.0", s)
	l, err := layout.Open(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	found := m.find(":1.0.0")[0]
	for _, e := range l.Entries() {
		if e.Digest != found.Descriptor.Digest {
			m.flip(ocispec.Descriptor{Digest: e.Digest})
			break
		}
	}
	// One of the two forms is left, or none is found but the damage is told:
	// what it must never be is a release that was simply never signed.
	_, err = delivery.VerifySignature(t.Context(), m.find(":1.0.0")[0], delivery.Trust{Keys: []*signer.Key{s.Key()}})
	if err != nil && !errors.As(err, new(*layout.ManifestError)) {
		t.Errorf("VerifySignature = %v, want nil or a *layout.ManifestError", err)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	s := newSigner(t)
	m.release("r.example:5000/a/shop:1.0.0", "shop", "1.0.0", s)
	r, err := delivery.Verify(t.Context(), m.find("")[0], delivery.Trust{Keys: []*signer.Key{s.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	// A registry of its own, for as long as it is wanted.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	repository, root := delivery.ImageRepository(r.Found, address), r.Found.Descriptor.Digest
	if repository != address+"/r.example__5000/a/shop" {
		t.Fatalf("ImageRepository = %s, want %s/r.example__5000/a/shop", repository, address)
	}
	stop, err := delivery.Finder{}.Answer(t.Context(), address, repository, root, delivery.Catalog(r.Media), log)
	if err != nil {
		t.Fatalf("Answer = %v", err)
	}
	url := "http://" + address + "/v2/r.example__5000/a/shop/manifests/" + root.String()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || artifact.Describe("", data).Digest != root {
		t.Errorf("GET %s = %q, %v, want the root", url, data, err)
	}
	// While it runs, others find the release there; a registry without it is
	// told from one that has it.
	other := delivery.Finder{Open: func(string) (delivery.Store, error) { return r.Store, nil }}
	if end, err := other.Answer(t.Context(), address, repository, root, nil, log); err != nil || end() != nil {
		t.Errorf("Answer beside a registry with the release = %v", err)
	}
	empty := newMedia(t)
	empty.release("r.example/till:1.0.0", "till", "1.0.0", nil)
	wrong := delivery.Finder{Open: func(string) (delivery.Store, error) { return empty.find("")[0].Store, nil }}
	if _, err := wrong.Answer(t.Context(), address, repository, root, nil, log); !errors.Is(err, delivery.ErrElsewhere) {
		t.Errorf("Answer beside a registry without the release = %v, want %v", err, delivery.ErrElsewhere)
	}
	if err := stop(); err != nil {
		t.Errorf("stop = %v", err)
	}
	if resp, err := http.Get(url); err == nil {
		resp.Body.Close()
		t.Error("the registry answers after stop")
	}
}

// TestLibraryCatalog has releases come in while a registry answers from the library.
func TestLibraryCatalog(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	elsewhere := filepath.Join(t.TempDir(), "layout")
	var told bytes.Buffer
	log := slog.New(slog.NewTextHandler(&told, nil))
	c := delivery.LibraryCatalog(elsewhere, log)
	if names, err := c.Repositories(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("Repositories before there is a library = %v, %v", names, err)
	}
	if _, err := c.Repository(t.Context(), "r.example/shop"); !errors.Is(err, errdef.ErrNotFound) {
		t.Errorf("Repository before there is a library = %v, want %v", err, errdef.ErrNotFound)
	}
	c = delivery.LibraryCatalog(m.dir, log)
	for _, tag := range []string{"1.0.0", "1.1.0"} {
		m.release("r.example/shop:"+tag, "shop", tag, nil)
		repo, err := c.Repository(t.Context(), "r.example/shop")
		if err != nil {
			t.Fatalf("Repository = %v", err)
		}
		if _, err := repo.Resolve(t.Context(), tag); err != nil {
			t.Errorf("Resolve of what has just come in = %v", err)
		}
	}
	// Torn, it shows what it did.
	if err := os.Rename(m.dir, elsewhere); err != nil {
		t.Fatal(err)
	}
	var repo registry.Repository
	for range 2 {
		var err error
		if repo, err = c.Repository(t.Context(), "r.example/shop"); err != nil {
			t.Fatalf("Repository of a library that is away = %v", err)
		}
	}
	if n := strings.Count(told.String(), "the library cannot be read"); n != 1 {
		t.Errorf("that it cannot be read is logged %d times, want 1:\n%s", n, told.String())
	}
	if err := repo.Tags(t.Context(), "", func(tags []string) error {
		if len(tags) != 2 {
			t.Errorf("Tags = %v, want both", tags)
		}
		return nil
	}); err != nil {
		t.Errorf("Tags = %v", err)
	}
}

func TestCheckCarried(t *testing.T) {
	t.Parallel()
	m := newMedia(t)
	s := newSigner(t)
	m.release("r.example/shop:1.0.0", "shop", "1.0.0", s)
	f := m.find("")[0]
	evidence, err := delivery.VerifySignature(t.Context(), f, delivery.Trust{Keys: []*signer.Key{s.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := mirror.NewPlan(t.Context(), mirror.Empty(), []mirror.Item{{Source: f.Store, Reference: f.Tag, Name: f.Name}}, mirror.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	whole := plan.Roots[0]
	if err := delivery.CheckCarried(whole, evidence); err != nil {
		t.Errorf("CheckCarried of all that is there = %v", err)
	}
	left := new(delivery.LeftBehindError)
	for _, tt := range []struct {
		name string
		root mirror.Root
	}{
		{"without referrers", mirror.Root{Name: whole.Name, Descriptor: whole.Descriptor, Tags: whole.Tags}},
		{"without tags", mirror.Root{Name: whole.Name, Descriptor: whole.Descriptor, Referrers: whole.Referrers}},
	} {
		if err := delivery.CheckCarried(tt.root, evidence); !errors.As(err, &left) || left.Name != whole.Name {
			t.Errorf("%s: CheckCarried = %v, want a *LeftBehindError", tt.name, err)
		}
	}
	evidence.Signatures = nil
	evidence.Attestations = []signer.Attestation{{Manifest: ocispec.Descriptor{Digest: "sha256:other"}}}
	if err := delivery.CheckCarried(whole, evidence); !errors.As(err, &left) || left.Digest != "sha256:other" {
		t.Errorf("CheckCarried without an attestation that is wanted = %v, want a *LeftBehindError", err)
	}
}
