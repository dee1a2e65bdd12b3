package artifact_test

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseLocation(t *testing.T) {
	t.Parallel()
	media := func(path, repository, tag string, d digest.Digest) artifact.Location {
		return artifact.Location{Place: artifact.PlaceMedia, Path: path, Repository: repository, Tag: tag, Digest: d}
	}
	tests := []struct {
		ref  string
		want artifact.Location
		str  string // "" for ref
	}{
		{"shop", artifact.Location{Place: artifact.PlaceLibrary, Repository: "shop"}, ""},
		{"shop:1.0.0", artifact.Location{Place: artifact.PlaceLibrary, Repository: "shop", Tag: "1.0.0"}, ""},
		{"shop@" + someDigest, artifact.Location{Place: artifact.PlaceLibrary, Repository: "shop", Digest: someDigest}, ""},
		{"team/shop:1.0.0", artifact.Location{Place: artifact.PlaceLibrary, Repository: "team/shop", Tag: "1.0.0"}, ""},
		{"id:example.com/shop:1.0.0", artifact.Location{Place: artifact.PlaceLibrary, Repository: "example.com/shop", Tag: "1.0.0"}, ""},
		{"id:shop", artifact.Location{Place: artifact.PlaceLibrary, Repository: "shop"}, "shop"},
		{"id:localhost/x", artifact.Location{Place: artifact.PlaceLibrary, Repository: "localhost/x"}, ""},
		{"id:id:1", artifact.Location{Place: artifact.PlaceLibrary, Repository: "id", Tag: "1"}, ""},
		{"example.com/shop", artifact.Location{Place: artifact.PlaceRegistry, Repository: "example.com/shop"}, ""},
		{"localhost/shop:1", artifact.Location{Place: artifact.PlaceRegistry, Repository: "localhost/shop", Tag: "1"}, ""},
		{"host:5000/a/b:1.0.0@" + someDigest, artifact.Location{Place: artifact.PlaceRegistry, Repository: "host:5000/a/b", Tag: "1.0.0", Digest: someDigest}, ""},
		{"[::1]:5000/a", artifact.Location{Place: artifact.PlaceRegistry, Repository: "[::1]:5000/a"}, ""},
		{"127.0.0.1:5000/a@" + someDigest, artifact.Location{Place: artifact.PlaceRegistry, Repository: "127.0.0.1:5000/a", Digest: someDigest}, ""},
		{"/media/stick", media("/media/stick", "", "", ""), ""},
		{"./stick", media("stick", "", "", ""), ""},
		{"../stick:1.0.0", media("../stick", "", "1.0.0", ""), ""},
		{".", media(".", "", "", ""), "./"},
		{"..", media("..", "", "", ""), "../"},
		{"./:1", media(".", "", "1", ""), ""},
		{"../:1", media("..", "", "1", ""), ""},
		{"/", media("/", "", "", ""), ""},
		{"/:1", media("/", "", "1", ""), ""},
		{"/.//h.io/x", media("/", "h.io/x", "", ""), ""},
		{"./a//h.io/x:1@" + someDigest, media("a", "h.io/x", "1", someDigest), ""},
		{"./a//", media("a", "", "", ""), "./a"},
		{"./a//:1", media("a", "", "1", ""), "./a:1"},
		{"./a:b/", media("a:b", "", "", ""), ""},
		{"./a@b/:1", media("a@b", "", "1", ""), ""},
		{"./a:b/c", media("a:b/c", "", "", ""), ""},
		{"oci:stick:1", media("stick", "", "1", ""), "./stick:1"},
		{"oci:example.com/shop", media("example.com/shop", "", "", ""), "./example.com/shop"},
		{"C:/stick:1", media("C:/stick", "", "1", ""), ""},
	}
	for _, tt := range tests {
		got, err := artifact.ParseLocation(tt.ref)
		if err != nil || got != tt.want {
			t.Errorf("ParseLocation(%q) = %+v, %v, want %+v", tt.ref, got, err, tt.want)
			continue
		}
		str := tt.str
		if str == "" {
			str = tt.ref
		}
		if got.String() != str {
			t.Errorf("ParseLocation(%q).String() = %q, want %q", tt.ref, got.String(), str)
		}
		if again, err := artifact.ParseLocation(got.String()); err != nil || again != got {
			t.Errorf("ParseLocation(%q) = %+v, %v, want %+v as before", got.String(), again, err, got)
		}
	}
}

func TestParseLocationRefuses(t *testing.T) {
	t.Parallel()
	for _, ref := range []string{
		"", ":", ":1", "@", "@" + someDigest, "Shop", "shop:", "shop:a b", "shop@sha256:00", "shop@md5:d41d8cd98f00b204e9800998ecf8427e", "shop@" + strings.ToUpper(someDigest),
		"shop@" + someDigest + ":1", "shop/", "/x:", "./x:a b", "./x@y", "example.com", "example.com/", "example.com/Shop", "example.com//x", "example.com/x/", "host:port/x", "-h.io/x",
		"id:", "id:/x", "oci:", "oci:@" + someDigest, "./a//x", "./a//h.io", "./a//h.io/X", "h.io/" + strings.Repeat("a", 256), "shop:" + strings.Repeat("a", 129), "shop\n", "h.io/x\n", "a b",
	} {
		if got, err := artifact.ParseLocation(ref); err == nil || got != (artifact.Location{}) {
			t.Errorf("ParseLocation(%q) = %+v, %v, want nothing and an error", ref, got, err)
		}
	}
}

func TestLocationNames(t *testing.T) {
	t.Parallel()
	tests := []struct{ ref, reference, name string }{
		{"h.io/x", "", "h.io/x"},
		{"h.io/x:1", "1", "h.io/x:1"},
		{"h.io/x@" + someDigest, someDigest, "h.io/x@" + someDigest},
		{"h.io/x:1@" + someDigest, someDigest, "h.io/x:1"},
	}
	for _, tt := range tests {
		l, err := artifact.ParseLocation(tt.ref)
		if err != nil {
			t.Fatal(err)
		}
		if l.Reference() != tt.reference || l.Name() != tt.name {
			t.Errorf("ParseLocation(%q): Reference() = %q, Name() = %q, want %q, %q", tt.ref, l.Reference(), l.Name(), tt.reference, tt.name)
		}
	}
}

func TestParseImage(t *testing.T) {
	t.Parallel()
	tests := []struct{ ref, want string }{
		{"redis", "docker.io/library/redis:latest"},
		{"redis:7.2", "docker.io/library/redis:7.2"},
		{"redis@" + someDigest, "docker.io/library/redis@" + someDigest},
		{"redis:7@" + someDigest, "docker.io/library/redis:7@" + someDigest},
		{"bitnami/redis", "docker.io/bitnami/redis:latest"},
		{"docker.io/redis", "docker.io/library/redis:latest"},
		{"docker.io/bitnami/redis", "docker.io/bitnami/redis:latest"},
		{"index.docker.io/redis", "docker.io/library/redis:latest"},
		{"index.docker.io/bitnami/redis:1", "docker.io/bitnami/redis:1"},
		{"localhost/x", "localhost/x:latest"},
		{"registry:5000/x/y:1", "registry:5000/x/y:1"},
		{"oci:5000/x:1", "oci:5000/x:1"},
		{"id:5000/x", "id:5000/x:latest"},
		{"oci:1", "docker.io/library/oci:1"},
		{"ghcr.io/a/b", "ghcr.io/a/b:latest"},
	}
	for _, tt := range tests {
		got, err := artifact.ParseImage(tt.ref)
		if err != nil || got.String() != tt.want || got.Place != artifact.PlaceRegistry {
			t.Errorf("ParseImage(%q) = %+v, %v, want %s in a registry", tt.ref, got, err, tt.want)
		}
	}
	for _, ref := range []string{"", "/", "./x", "../x", "/x", "C:/x", `C:\x`, "Redis", "a//b", "redis:", "redis@", "a b", "id:x/y", "http://h.io/x", "ghcr.io/"} {
		if got, err := artifact.ParseImage(ref); err == nil || got != (artifact.Location{}) {
			t.Errorf("ParseImage(%q) = %+v, %v, want nothing and an error", ref, got, err)
		}
	}
}
