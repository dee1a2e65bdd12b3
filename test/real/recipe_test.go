//go:build real

package real

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestRecipe makes releases with oras and jq alone and compares them with those
// of sealift.
func TestRecipe(t *testing.T) {
	need(t, "docker-registry", "curl", "oras", "jq", "bash")
	v := newVendor(t, shell{})
	minimal := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(minimal, []byte(minimalTemplate), 0o600); err != nil {
		t.Fatal(err)
	}
	redis := filepath.Join(build, "images", "redis-7.0")
	tests := []struct {
		name, template, version string
		images, tags            map[string]string
	}{
		{"shop", filepath.Join(example, "1.0.0", "app.yaml"), "1.0.0", shopImages("1.0.0"),
			map[string]string{"db": "7.0", "api": "1.0.0", "web": "1.0.0"}},
		{"minimal", minimal, "0.1.0-rc.1", map[string]string{"cache": redis, "queue": redis},
			map[string]string{"cache": "7.0", "queue": "7.0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := v.registry+"/sealift/"+tt.name, v.registry+"/oras/"+tt.name
			argv := []string{"sealift", "publish", "-o", "json", "-q", tt.template, ours, "--no-sign"}
			recipe := []string{"bash", "testdata/recipe.sh", asJSON(t, tt.template), filepath.Dir(tt.template), "2023-11-14T22:13:20Z", theirs}
			for key, dir := range tt.images {
				argv = append(argv, "--image", key+"="+dir)
				recipe = append(recipe, key+"=oci:"+dir+":"+tt.tags[key])
			}
			want := decode[struct{ Digest string }](t, v.run(t, argv...)).Digest
			byHand := v.shell
			byHand.env = []string{"OPTIONS=--plain-http"}
			byHand.run(t, recipe...)
			fetch := func(repository string) string {
				return v.run(t, "oras", "manifest", "fetch", "--plain-http", repository+":"+tt.version)
			}
			if got := v.run(t, "oras", "resolve", "--plain-http", theirs+":"+tt.version); got != want {
				t.Errorf("the recipe's digest is %s, that of publish %s\n%s\n%s", got, want, fetch(theirs), fetch(ours))
			}
			// What oras pushed can be signed and delivered as if sealift had.
			v.run(t, "sealift", "sign", "-q", theirs+":"+tt.version, "--key", v.key)
			v.run(t, "sealift", "verify", "-q", theirs+":"+tt.version, "--key", v.pub)
			media := v.mirror(t, theirs+":"+tt.version)
			v.run(t, "sealift", "verify", "-q", media, "--key", v.pub)
		})
	}
}

// minimalTemplate differs from the shop in what the recipe has to do: no files, no
// title, an image that two components share, and a job, which is a feature.
const minimalTemplate = `apiVersion: sealift/v1
kind: App
id: example.com/tools/minimal
version: 0.1.0-rc.1
platforms: [linux/amd64]
components:
  queue: {image: docker.io/library/redis:7.0, args: [--port, "6380"]}
  cache: {image: docker.io/library/redis:7.0, kind: job}
`

// asJSON converts a template for the recipe, which takes it as JSON: no tool
// that converts YAML is on every machine.
func asJSON(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var template map[string]any
	if err := yaml.Unmarshal(data, &template); err != nil {
		t.Fatal(err)
	}
	if data, err = json.Marshal(template); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "app.json")
	if err := os.WriteFile(out, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}
