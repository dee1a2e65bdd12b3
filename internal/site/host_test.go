package site_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/internal/target"
	"github.com/sealift/sealift/internal/target/compose"
)

// host is a target in memory: it renders as compose does, and running is what
// runs, by instance and component, as the definition it was started with.
type host struct {
	target.Renderer
	running map[string]map[string]string
	volumes map[string]map[string]bool
	// fail, when set, makes Apply fail after the first component it touches.
	fail func(d target.Deployment) error
	// check and remove, when set, are what Check and Remove say.
	check, remove error

	applied int
	fetched []string
}

func newHost() *host {
	return &host{
		Renderer: compose.Renderer{},
		running:  map[string]map[string]string{}, volumes: map[string]map[string]bool{},
	}
}

func (h *host) Check(context.Context, target.Deployment) error { return h.check }

func (h *host) Fetch(_ context.Context, d target.Deployment, _ func(target.Event)) error {
	h.fetched = slices.Sorted(maps.Values(d.Images))
	return nil
}

func (h *host) Apply(ctx context.Context, d target.Deployment, report func(target.Event)) error {
	h.applied++
	data, err := os.ReadFile(filepath.Join(d.Rendered, "compose.yaml"))
	if err != nil {
		return err
	}
	if h.running[d.Instance] == nil {
		h.running[d.Instance] = map[string]string{}
		h.volumes[d.Instance] = map[string]bool{}
	}
	run := h.running[d.Instance]
	for _, key := range d.Template.Keys() {
		if run[key] != d.Definitions[key] {
			report(target.Event{Type: "start", Component: key})
			if !bytes.Contains(data, []byte(d.Definitions[key])) {
				return fmt.Errorf("the documents of %s do not define %s", d.Rendered, key)
			}
			run[key] = d.Definitions[key]
		}
		for name := range d.Template.Components[key].Volumes {
			h.volumes[d.Instance]["sealift-"+d.Instance+"_"+key+"_"+name] = true
		}
		if h.fail != nil {
			if err := h.fail(d); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	maps.DeleteFunc(run, func(key, _ string) bool { return d.Definitions[key] == "" })
	return nil
}

func (h *host) Remove(_ context.Context, d target.Deployment, _ func(target.Event)) error {
	if h.remove != nil {
		return h.remove
	}
	delete(h.running, d.Instance)
	return nil
}

func (h *host) Status(_ context.Context, d target.Deployment) ([]target.ComponentStatus, error) {
	var list []target.ComponentStatus
	for _, key := range d.Template.Keys() {
		s := target.ComponentStatus{Component: key, State: target.StateMissing}
		if definition, ok := h.running[d.Instance][key]; ok {
			s.State, s.Drifted = "running", definition != d.Definitions[key]
			s.Working = !s.Drifted
		}
		list = append(list, s)
	}
	return list, nil
}

func (h *host) Volumes(_ context.Context, instance string) ([]string, error) {
	return slices.Sorted(maps.Keys(h.volumes[instance])), nil
}

func (h *host) RemoveVolume(_ context.Context, name string) error {
	for _, volumes := range h.volumes {
		delete(volumes, name)
	}
	return nil
}

// shop is an application of two components; body is appended to its template.
func shop(t testing.TB, version, parameters string) site.Delivery {
	t.Helper()
	text := `
apiVersion: sealift/v1
kind: App
id: example.com/shop
version: ` + version + `
platforms: [linux/amd64]
parameters:
  password: {type: string, secret: true, generate: {length: 20}}
` + parameters + `
components:
  db:
    image: x
    volumes: {data: {path: /data}}
    files: {/etc/db.conf: {source: db.conf, template: true, mode: "0400"}}
  web:
    image: x
    env: {PASSWORD: "${parameters.password}", VERSION: "${app.version}"}
`
	return delivery(t, text, map[string]string{"db.conf": "password ${parameters.password}\n"})
}

func delivery(t testing.TB, text string, files map[string]string) site.Delivery {
	t.Helper()
	dir := fstest.MapFS{}
	for name, data := range files {
		dir[name] = &fstest.MapFile{Data: []byte(data)}
	}
	app, err := artifact.ParseTemplate("app.yaml", []byte(text), dir)
	if err != nil {
		t.Fatal(err)
	}
	d := site.Delivery{
		Release:    &artifact.Release{App: app, Root: ocispec.Descriptor{Digest: digest.FromString(text)}},
		Repository: "127.0.0.1:5050/shop", Images: map[string]string{}, Evidence: json.RawMessage(`{"rule":"test"}`),
	}
	for _, key := range app.Template.Keys() {
		d.Images[key] = "127.0.0.1:5050/shop@" + digest.FromString(key).String()
	}
	return d
}

// home is a home, where it is, and the host it runs instances on, if it is one.
type home struct {
	*site.Home
	dir   string
	place *host
}

// open opens a home for a target, with a clock that stands and secrets that are
// the same each time.
func open(t testing.TB, dir string, on target.Target) *home {
	t.Helper()
	h, err := site.Open(dir, site.Options{
		Target: on,
		Now:    func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
		Rand:   rand.NewChaCha8([32]byte{1}),
	})
	if err != nil {
		t.Fatal(err)
	}
	place, _ := on.(*host)
	return &home{h, dir, place}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func status(t testing.TB, h *home, instance string) site.InstanceStatus {
	t.Helper()
	list, err := h.Status(t.Context(), instance)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// password reads the generated secret of a revision's web component.
func password(t testing.TB, h *home, instance string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, "instances", instance, "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var secrets map[string]map[string]string
	if err := json.Unmarshal(data, &secrets); err != nil {
		t.Fatal(err)
	}
	last := slices.Max(slices.Collect(maps.Keys(secrets)))
	return secrets[last]["password"]
}
