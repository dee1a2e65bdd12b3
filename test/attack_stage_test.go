package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/audit"
	"github.com/sealift/sealift/internal/cli"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/sigstoretest"
	"github.com/sealift/sealift/signer"
)

// world is what every attack begins with: a vendor's registry with releases, and a
// site that accepts what the vendor signs.
type world struct {
	dir string
	// hub is the registry, HOST:PORT. It has shop 1.0.0 and 1.1.0 by the vendor's key,
	// till 1.0.0 by it too.
	hub string
	// between is asked before the registry answers, and answers in its place when it
	// returns true; nil for nobody.
	between func(w http.ResponseWriter, r *http.Request) bool

	sigstore, otherSigstore *sigstoretest.Sigstore
	served                  sync.WaitGroup
}

// newWorld makes one, with the programs of an engine that pulls nothing in PATH.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), sigstore: sigstoretest.New(t), otherSigstore: sigstoretest.New(t)}
	store := newRegistry(false)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.between == nil || !w.between(rw, r) {
			store.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(func() {
		w.served.Wait()
		server.CloseClientConnections()
		server.Close()
		_ = store.Close()
	})
	w.hub = strings.TrimPrefix(server.URL, "http://")
	for _, name := range []string{"vendor", "stranger", "officer", "fresh"} {
		p := pairOf(name)
		check(t, p.err)
		writeTo(t, filepath.Join(w.dir, name+".key"), p.private, 0o600)
		writeTo(t, filepath.Join(w.dir, name+".pub"), p.public, 0o644)
	}
	writeTo(t, filepath.Join(w.dir, "root.json"), w.sigstore.TrustedRoot(t, sigstoretest.Parts{Log: true, Timestamps: true}), 0o644)
	engine := filepath.Join(w.dir, "engine")
	writeTo(t, filepath.Join(engine, "docker"), []byte(fakeEngine), 0o755)
	t.Setenv("PATH", engine+string(filepath.ListSeparator)+os.Getenv("PATH"))

	check(t, addImage(w.file("web"), "1", []string{"linux/amd64"}, 2<<10))
	for _, r := range []struct{ repo, id, version string }{{"shop", "shop", "1.0.0"}, {"shop", "shop", "1.1.0"}, {"till", "till", "1.0.0"}} {
		app := filepath.Join(w.dir, "app.yaml")
		writeTo(t, app, fmt.Appendf(nil, attackedApp, r.id, r.version), 0o644)
		w.must(t, "", "publish", app, w.hub+"/"+r.repo, "--image", "web="+w.file("web"), "--key", w.file("vendor.key"))
	}
	w.must(t, "", "mirror", w.hub+"/shop:1.0.0", w.file("media"))
	w.must(t, "", "mirror", w.hub+"/shop:1.0.0", w.hub+"/shop:1.1.0", w.hub+"/till:1.0.0", w.file("everything"))
	w.must(t, w.file("home"), "policy", "add", "--key", w.file("vendor.pub"), "--for", "example.com/**", "--name", "vendor", "--yes")
	w.must(t, w.file("home"), "policy", "add", "--key", w.file("officer.pub"), "--for", "example.org/office", "--name", "officer", "--yes")
	policy, err := os.ReadFile(w.file("home/policy.yaml"))
	check(t, err)
	writeTo(t, w.file("home/policy.yaml"), append(bytes.Replace(policy, []byte("version: 2"), []byte("version: 4"), 1), "updates: {keys: [officer]}\n"...), 0o600)
	w.must(t, w.file("home"), "policy", "list")
	return w
}

// attackedApp is the template of the releases, with an id and a version to fill in.
const attackedApp = `apiVersion: sealift/v1
kind: App
id: example.com/%s
version: %s
platforms: [linux/amd64]
components:
  web: {image: "registry.example.com/web:1"}
`

// fakeEngine answers like an engine that runs linux/amd64, and pulls nothing.
const fakeEngine = `#!/bin/sh
case "$1 $2" in
"compose version") echo 2.40.3 ;;
"version --format") echo '{"Version":"28.1.0","Os":"linux","Arch":"amd64"}' ;;
"ps "* | "volume ls") ;;
"image inspect") echo "no such image" >&2; exit 1 ;;
"pull --quiet") echo "pulls $3" >&2; exit 1 ;;
*) exit 1 ;;
esac
`

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// must runs a command that is to succeed.
func (w *world) must(t *testing.T, home string, args ...string) result {
	t.Helper()
	r := sealift(t.Context(), home, args...)
	if r.code != 0 {
		t.Fatalf("sealift %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r
}

// result is what a command did.
type result struct {
	code           int
	stdout, stderr string
}

// process is what a command sees of a process that nobody sits at.
func process(home string, stdout, stderr *bytes.Buffer) cli.Process {
	return cli.Process{
		In: strings.NewReader(""), Out: stdout, Err: stderr, Environ: os.Environ(), Now: time.Now,
		Getenv: func(name string) string {
			return map[string]string{"SEALIFT_HOME": home, "COSIGN_PASSWORD": keyPassword}[name]
		},
	}
}

// sealift runs a command in this process.
func sealift(ctx context.Context, home string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := cli.Main(ctx, append(args, "-q"), process(home, &stdout, &stderr))
	return result{code, stdout.String(), stderr.String()}
}

// addressWriter takes the address out of the first line that serve prints.
type addressWriter struct {
	once    sync.Once
	address chan string
}

var servingAt = regexp.MustCompile(`at http://(\S+)`)

func (w *addressWriter) Write(p []byte) (int, error) {
	if m := servingAt.FindSubmatch(p); m != nil {
		w.once.Do(func() { w.address <- string(m[1]) })
	}
	return len(p), nil
}

// serving serves media while use runs with the address; what serve did is returned
// where it does not get that far.
func (w *world) serving(ctx context.Context, media, home string, use func(address string) result) result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stderr bytes.Buffer
	p := process(home, nil, &stderr)
	out := &addressWriter{address: make(chan string, 1)}
	p.Out = out
	done := make(chan int, 1)
	// It waits seconds for connections that this process keeps open, and nobody for it.
	w.served.Go(func() { done <- cli.Main(ctx, []string{"serve", media, "--listen", "127.0.0.1:0", "-q"}, p) })
	select {
	case address := <-out.address:
		return use(address)
	case code := <-done:
		return result{code: code, stderr: stderr.String()}
	}
}

// get asks a registry: the code is 0 for an answer, and 1 for an error.
func get(ctx context.Context, url string) result {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return result{code: -1, stderr: err.Error()}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return result{code: 1, stderr: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= http.StatusInternalServerError {
		return result{code: 1, stderr: fmt.Sprintln(resp.Status, string(body), err)}
	}
	return result{}
}

// stage is one attack on the world: what it left behind for the commands to meet.
type stage struct {
	*world
	media, home string
	// repository is what of the registry the media has, and ref what commands are given:
	// the media, a name on it, or a tag of the registry.
	repository, ref string
	// trust are the flags of who checks without a policy.
	trust []string
	// key is what sign is given.
	key string
	// withheld is what serve must not hand out, a path below that of the repository, ""
	// for an artifact that is verified over it.
	withheld string
	// root is what may come in, if anything does, of this version and with this image.
	root    ocispec.Descriptor
	version string
	image   string
	app     string
}

// newStage sets out the media and the site for one attack.
func (w *world) newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{world: w, media: filepath.Join(dir, "media"), home: filepath.Join(dir, "home"), repository: "shop", version: "1.0.0", app: "shop",
		trust: []string{"--key", w.file("vendor.pub")}, key: w.file("vendor.key")}
	check(t, os.CopyFS(s.media, os.DirFS(w.file("media"))))
	s.home = w.copyHome(t, w.file("home"), dir)
	s.ref = s.media
	s.root = s.disc().named(t, "/shop:1.0.0")
	s.image = s.disc().manifest(t, s.root).Manifests[1].Digest.String()
	return s
}

// copyHome copies a home into a directory, for the owner alone.
func (w *world) copyHome(t *testing.T, from, dir string) string {
	t.Helper()
	to := filepath.Join(dir, "home")
	check(t, os.CopyFS(to, os.DirFS(from)))
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		return errors.Join(err, os.Chmod(filepath.Join(to, rel), info.Mode().Perm()))
	}))
	return to
}

func (s *stage) disc() disc { return disc(s.media) }

// policy edits the policy of the site, and has the site see it.
func (s *stage) policy(t *testing.T, edit func(string) string) {
	t.Helper()
	path := filepath.Join(s.home, "policy.yaml")
	data, err := os.ReadFile(path)
	check(t, err)
	edited := edit(string(data))
	if edited == string(data) {
		t.Fatal("the edit changes nothing")
	}
	writeTo(t, path, []byte(edited), 0o600)
}

// replacing replaces the first occurrence, which has to be there.
func replacing(old, text string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, text, 1) }
}

// audit returns the entries of a site's log, as far as they can be read.
func auditOf(t *testing.T, home string) (entries []audit.Entry) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(home, "audit.jsonl"))
	check(t, err)
	for line := range bytes.Lines(data) {
		var e audit.Entry
		check(t, json.Unmarshal(line, &e))
		entries = append(entries, e)
	}
	return entries
}

// snapshot tells whether anything below a directory was written.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return err
	}))
	return all
}

// difference names one file that is not as it was, "" for none.
func difference(before, after map[string]string) string {
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if before[path] != after[path] {
			return path
		}
	}
	for path := range before {
		if _, is := after[path]; !is {
			return path
		}
	}
	return ""
}

// carry makes the media anew, of a repository's 1.0.0.
func (s *stage) carry(t *testing.T, repository string) {
	t.Helper()
	check(t, os.RemoveAll(s.media))
	s.must(t, "", "mirror", s.hub+"/"+repository+":1.0.0", s.media)
	s.repository = repository
	s.root = s.disc().named(t, "/"+repository+":1.0.0")
}

// publish publishes the shop 1.0.0 without a signature.
func (s *stage) publish(t *testing.T, repository string) {
	t.Helper()
	s.publishAs(t, repository, "")
}

// publishAs does so with more in its template.
func (s *stage) publishAs(t *testing.T, repository, more string) {
	t.Helper()
	app := filepath.Join(t.TempDir(), "app.yaml")
	writeTo(t, app, fmt.Appendf(nil, attackedApp+more, "shop", "1.0.0"), 0o644)
	s.must(t, "", "publish", app, s.hub+"/"+repository, "--image", "web="+s.file("web"), "--no-sign")
}

// certify signs the shop with a certificate, and gives the commands the identity that
// the vendor has.
func (s *stage) certify(t *testing.T, repository, issuer, subject string, by sigstoretest.Signature) {
	t.Helper()
	s.publish(t, repository)
	repo, err := remote.NewRepository(s.hub + "/" + repository)
	check(t, err)
	repo.PlainHTTP = true
	root, err := repo.Resolve(t.Context(), "1.0.0")
	check(t, err)
	by.Issuer, by.Subject = issuer, subject
	check(t, attachKeyless(t, repo, s.hub+"/"+repository, root, s.sigstore, by, false, sigstoretest.SignType))
	s.carry(t, repository)
	identity := []string{"--certificate-identity", vendorSubject, "--certificate-oidc-issuer", scriptIssuer, "--trusted-root", s.file("root.json")}
	s.trust = identity
	check(t, os.RemoveAll(s.home))
	s.must(t, s.home, append([]string{"policy", "add", "--for", "example.com/**", "--name", "vendor", "--yes"}, identity...)...)
}

// vendorSubject is whom the issuer knows the vendor as.
const vendorSubject = "release@vendor.example"

// byLog is a signature with all that a verifier may ask for.
var byLog = sigstoretest.Signature{Log: true, Timestamp: true}

// update publishes an update of the policy, signed by a key, and makes media of it.
func (s *stage) update(t *testing.T, repository, key string, edit func(string) string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.home, "policy.yaml"))
	check(t, err)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	writeTo(t, file, []byte(edit(string(data))), 0o600)
	r := s.must(t, "", "policy", "publish", file, s.hub+"/"+repository, "--key", s.file(key+".key"), "-o", "json")
	var published struct{ Name string }
	check(t, json.Unmarshal([]byte(r.stdout), &published))
	check(t, os.RemoveAll(s.media))
	s.must(t, "", "mirror", published.Name, s.media)
	s.repository, s.version = repository, published.Name[strings.LastIndex(published.Name, ":")+1:]
	s.root = s.disc().named(t, "/"+repository+":"+s.version)
	s.trust = []string{"--key", s.file("officer.pub")}
}

// disc is media in the hands of somebody who knows how it is made.
type disc string

func (d disc) index(t *testing.T) (index ocispec.Index) {
	t.Helper()
	readJSON(t, filepath.Join(string(d), "index.json"), &index)
	return index
}

// write replaces index.json, and takes away what would tell.
func (d disc) write(t *testing.T, raw []byte) {
	t.Helper()
	writeTo(t, filepath.Join(string(d), "index.json"), raw, 0o644)
	slots, err := filepath.Glob(filepath.Join(string(d), "sealift", "index.*"))
	check(t, err)
	for _, slot := range slots {
		check(t, os.Remove(slot))
	}
}

// edit changes the entries of index.json.
func (d disc) edit(t *testing.T, edit func(entries []ocispec.Descriptor) []ocispec.Descriptor) {
	t.Helper()
	index := d.index(t)
	index.Manifests = edit(index.Manifests)
	d.write(t, encode(index))
}

// list adds an entry, under a name unless that is "".
func (d disc) list(t *testing.T, name string, entries ...ocispec.Descriptor) {
	t.Helper()
	d.edit(t, func(all []ocispec.Descriptor) []ocispec.Descriptor {
		for _, e := range entries {
			e.Annotations = nil
			if name != "" {
				e.Annotations = map[string]string{ocispec.AnnotationRefName: name, "io.containerd.image.name": name}
			}
			all = append(all, e)
		}
		return all
	})
}

// named returns what a name ends in.
func (d disc) named(t *testing.T, suffix string) ocispec.Descriptor {
	t.Helper()
	for _, e := range d.index(t).Manifests {
		if strings.HasSuffix(e.Annotations[ocispec.AnnotationRefName], suffix) {
			e.Annotations = nil
			return e
		}
	}
	t.Fatalf("nothing is called %s", suffix)
	return ocispec.Descriptor{}
}

func (d disc) path(desc ocispec.Descriptor) string { return blobFile(string(d), desc) }

func (d disc) manifest(t *testing.T, desc ocispec.Descriptor) (m document) {
	t.Helper()
	readJSON(t, d.path(desc), &m)
	return m
}

// put adds content, which nothing lists yet.
func (d disc) put(t *testing.T, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	desc := artifact.Describe(mediaType, data)
	writeTo(t, d.path(desc), data, 0o644)
	return desc
}

// take copies content from another disc.
func (d disc) take(t *testing.T, from disc, descs ...ocispec.Descriptor) {
	t.Helper()
	for _, desc := range descs {
		data, err := os.ReadFile(from.path(desc))
		check(t, err)
		writeTo(t, d.path(desc), data, 0o644)
	}
}

// signatures returns what refers to a subject, and what is at its signature tag.
func (d disc) signatures(t *testing.T, subject ocispec.Descriptor) (referrers []ocispec.Descriptor, tagged *ocispec.Descriptor) {
	t.Helper()
	for _, e := range d.index(t).Manifests {
		name := e.Annotations[ocispec.AnnotationRefName]
		e.Annotations = nil
		if strings.HasSuffix(name, ":"+artifact.SignatureTag(subject.Digest, ".sig")) {
			tagged = &e
		} else if m := d.manifest(t, e); m.Subject != nil && m.Subject.Digest == subject.Digest {
			referrers = append(referrers, e)
		}
	}
	return referrers, tagged
}

// strip takes all signatures of a subject off.
func (d disc) strip(t *testing.T, subject ocispec.Descriptor) {
	t.Helper()
	referrers, tagged := d.signatures(t, subject)
	gone := map[string]bool{}
	for _, r := range referrers {
		gone[r.Digest.String()] = true
	}
	if tagged != nil {
		gone[tagged.Digest.String()] = true
	}
	d.edit(t, func(all []ocispec.Descriptor) []ocispec.Descriptor {
		return slices.DeleteFunc(all, func(e ocispec.Descriptor) bool { return gone[e.Digest.String()] })
	})
}

// attach refers to a subject with one layer, whatever that is.
func (d disc) attach(t *testing.T, subject, layer ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	desc := d.put(t, ocispec.MediaTypeImageManifest, encode(d.referrer(t, subject, layer)))
	d.list(t, "", desc)
	return desc
}

func (d disc) referrer(t *testing.T, subject, layer ocispec.Descriptor) ocispec.Manifest {
	t.Helper()
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: typeBundle,
		Config: d.put(t, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data), Layers: []ocispec.Descriptor{layer}, Subject: &subject,
		Annotations: map[string]string{"dev.sigstore.bundle.predicateType": sigstoretest.SignType},
	}
}

// atTag puts a manifest at the signature tag of a subject.
func (s *stage) atTag(t *testing.T, subject, manifest ocispec.Descriptor) {
	t.Helper()
	s.disc().list(t, s.hub+"/"+s.repository+":"+artifact.SignatureTag(subject.Digest, ".sig"), manifest)
}

// bundle returns the bundle that refers to a subject.
func (d disc) bundle(t *testing.T, subject ocispec.Descriptor) ocispec.Descriptor {
	t.Helper()
	referrers, _ := d.signatures(t, subject)
	return d.manifest(t, referrers[0]).Layers[0]
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	check(t, json.Unmarshal(data, v))
}

// writeTo writes a file anew, in the place of one that may only be read.
func writeTo(t *testing.T, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	check(t, os.WriteFile(path, data, mode))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// relabel makes the name of the shop's 1.0.0 stand for something else that was signed.
func (s *stage) relabel(t *testing.T, suffix string) {
	t.Helper()
	everything := disc(s.file("everything"))
	other := everything.named(t, suffix)
	check(t, os.RemoveAll(s.media))
	check(t, os.CopyFS(s.media, os.DirFS(string(everything))))
	s.disc().edit(t, func(all []ocispec.Descriptor) (left []ocispec.Descriptor) {
		for _, e := range all {
			switch name := e.Annotations[ocispec.AnnotationRefName]; {
			case e.Digest == s.root.Digest && name != "":
				moved := other
				moved.Annotations = e.Annotations
				left = append(left, moved)
			case name == "" || strings.HasSuffix(name, ".sig"):
				left = append(left, e)
			}
		}
		return left
	})
	s.root = other
}

// plantRoot makes a document the trusted root of who checks, and of the site's policy.
func (s *stage) plantRoot(t *testing.T, raw []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "root.json")
	writeTo(t, file, raw, 0o644)
	s.trust = append(s.trust[:len(s.trust)-1:len(s.trust)-1], file)
	s.policy(t, func(string) string {
		return "apiVersion: sealift/v1\nkind: Policy\nversion: 2\ntrustedRoots:\n  vendor:\n    json: |\n      " + strings.ReplaceAll(strings.TrimSpace(string(raw)), "\n", "\n      ") +
			"\nrules:\n  - ids: [example.com/**]\n    require:\n      identities: [{issuer: \"" + scriptIssuer + "\", subject: " + vendorSubject + "}]\n"
	})
}

// huge adds n bytes of nothing, under a digest of something else.
func (d disc) huge(t *testing.T, mediaType string, n int) ocispec.Descriptor {
	t.Helper()
	desc := d.put(t, mediaType, []byte("huge "+mediaType))
	desc.Size = int64(n)
	check(t, os.Truncate(d.path(desc), desc.Size))
	return desc
}

// nested is a JSON value of n arrays within each other.
func nested(n int) []byte {
	return []byte(strings.Repeat("[", n) + strings.Repeat("]", n))
}

func cosignPayload(d digest.Digest) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"shop"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, d)
}

// payload puts a payload n times at the signature tag, each with another signature that
// is by nobody.
func (s *stage) payload(t *testing.T, raw []byte, n int) {
	t.Helper()
	d := s.disc()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: d.put(t, ocispec.MediaTypeImageConfig, []byte("{}"))}
	layer := d.put(t, typePayload, raw)
	for i := range n {
		layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(fmt.Append(nil, i))}
		m.Layers = append(m.Layers, layer)
	}
	s.atTag(t, s.root, d.put(t, m.MediaType, encode(m)))
}

// crowd attaches n bundles to a subject that are none.
func (d disc) crowd(t *testing.T, subject ocispec.Descriptor, n int) {
	t.Helper()
	m := d.referrer(t, subject, d.put(t, typeBundle, []byte("{}")))
	var all []ocispec.Descriptor
	for i := range n {
		m.Annotations["n"] = fmt.Sprint(i)
		all = append(all, d.put(t, m.MediaType, encode(m)))
	}
	d.list(t, "", all...)
}

// excuse takes the image's layers off the media, and has the label say that every site
// has them.
func (s *stage) excuse(t *testing.T) {
	t.Helper()
	l, err := layout.Open(s.media)
	check(t, err)
	label, err := l.Label()
	check(t, err)
	image := s.disc().manifest(t, s.disc().manifest(t, s.root).Manifests[1])
	for _, layer := range image.Layers {
		check(t, os.Remove(s.disc().path(layer)))
		label.Left = append(label.Left, layer.Digest)
	}
	for i := range label.Roots {
		label.Roots[i].Base = []layout.LabelBase{{Name: s.hub + "/shop:0.9.0", Digest: digest.FromString("base")}}
	}
	w, err := layout.OpenWriter(t.Context(), s.media)
	check(t, err)
	check(t, w.SetLabel(t.Context(), label))
	check(t, w.Close())
}

// log edits the lines of the site's log.
func (s *stage) log(t *testing.T, edit func(lines []string) []string) {
	t.Helper()
	path := filepath.Join(s.home, "audit.jsonl")
	data, err := os.ReadFile(path)
	check(t, err)
	writeTo(t, path, []byte(strings.Join(edit(slices.Collect(strings.Lines(string(data)))), "")), 0o600)
}

// manyRules is a policy with n rules more.
func manyRules(policy string, n int) string {
	var b strings.Builder
	b.WriteString(policy[:strings.Index(policy, "rules:\n")] + "updates: {keys: [officer]}\nrules:\n")
	for i := range n {
		fmt.Fprintf(&b, "  - {ids: [example.com/a%d], require: {keys: [vendor]}}\n", i)
	}
	return b.String()
}

// manyKeys is a policy of n keys that are none.
func manyKeys(n int) string {
	var b strings.Builder
	b.WriteString("apiVersion: sealift/v1\nkind: Policy\nversion: 5\nkeys:\n")
	for i := range n {
		fmt.Fprintf(&b, " k%d: {pem: \"\"}\n", i)
	}
	return b.String()
}

// moveTag moves the tag of a repository to a release that nobody signed, and has the
// registry answer with what it was once, for each command: in a repository that is named
// for the command, and that is the one given.
func (s *stage) moveTag(t *testing.T, repository string) {
	t.Helper()
	s.publishAs(t, "evil", "title: Evil\n")
	s.must(t, "", "mirror", s.hub+"/evil:1.0.0", s.hub+"/"+repository)
	var mu sync.Mutex
	asked := map[string]bool{}
	s.between = func(_ http.ResponseWriter, r *http.Request) bool {
		name, rest, is := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
		if !is || !strings.HasPrefix(name, repository+"-") {
			return false
		}
		if mu.Lock(); rest == "manifests/1.0.0" && !asked[name] {
			rest, asked[name] = "manifests/"+s.root.Digest.String(), true
		}
		mu.Unlock()
		r.URL.Path = "/v2/" + repository + "/" + rest
		return false
	}
	s.repository = repository + "-COMMAND"
	s.ref = s.hub + "/" + s.repository + ":1.0.0"
}

// stand makes the names of the release's root stand for something else.
func (s *stage) stand(t *testing.T, other ocispec.Descriptor) {
	t.Helper()
	s.disc().edit(t, func(all []ocispec.Descriptor) []ocispec.Descriptor {
		for i, e := range all {
			if e.Digest == s.root.Digest {
				other.Annotations = e.Annotations
				all[i] = other
			}
		}
		return all
	})
}

// resign changes the bytes of the release's root, and has the vendor sign what comes out.
func (s *stage) resign(t *testing.T, edit func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(s.disc().path(s.root))
	check(t, err)
	changed := s.disc().put(t, s.root.MediaType, edit(raw))
	s.disc().strip(t, s.root)
	s.stand(t, changed)
	key, err := signer.LoadSigner(pairOf("vendor").private, []byte(keyPassword))
	check(t, err)
	w, err := layout.OpenWriter(t.Context(), s.media)
	check(t, err)
	_, err = signer.Sign(t.Context(), w.WritableRepository(s.hub+"/shop"), changed, s.hub+"/shop", key, signer.SignOptions{})
	check(t, errors.Join(err, w.Commit(t.Context()), w.Close()))
	s.root = changed
}
