package registry_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/registry"
)

func TestURLName(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, want string }{
		{"docker.io/library/redis", "docker.io/library/redis"},
		{"localhost/a", "localhost/a"},
		{"localhost:5000/a", "localhost__5000/a"},
		{"10.0.0.7:5001/team/app", "10.0.0.7__5001/team/app"},
		{"registry.example.com:5001/a__b/c", "registry.example.com__5001/a__b/c"},
		{"my_registry:5000/a", "my_registry__5000/a"},
		{"a--b.example/c", "a--b.example/c"},
		{"[::1]:5001/a", "ip6-0-0-0-0-0-0-0-1__5001/a"},
		{"[2001:db8::ff]/a", "ip6-2001-db8-0-0-0-0-0-ff/a"},
		{"[::]:1/a", "ip6-0-0-0-0-0-0-0-0__1/a"},
		{"[0:0::1]:5001/a", "hex-5b303a303a3a315d3a35303031/a"},
		{"[::ffff:1.2.3.4]/a", "hex-5b3a3a666666663a312e322e332e345d/a"},
		{"[fe80::1%eth0]/a", "hex-5b666538303a3a3125657468305d/a"},
		{"[::1]x/a", "hex-5b3a3a315d78/a"},
		{"ip6-localhost:5000/a", "ip6-localhost__5000/a"},
		{"Registry.Example/a", "hex-52656769737472792e4578616d706c65/a"},
		{"a.example./a", "hex-612e6578616d706c652e/a"},
		{"a:/b", "hex-613a/b"},
		{"a:123456/b", "hex-613a313233343536/b"},
		// Hosts that look like the encoding of another one.
		{"a__5001/b", "hex-615f5f35303031/b"},
		{"a__b/c", "a__b/c"},
		{"a__5001:5/b", "a__5001__5/b"},
		{"ip6-0-0-0-0-0-0-0-1/a", "hex-6970362d302d302d302d302d302d302d302d31/a"},
		{"hex-61/a", "hex-61/a"}, // nobody encodes "a" like that
		{"hex-613a/a", "hex-6865782d36313361/a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := registry.URLName(test.name)
			if got != test.want {
				t.Errorf("URLName(%q) = %q, want %q", test.name, got, test.want)
			}
			back, err := registry.ParseURLName(got)
			if err != nil || back != test.name {
				t.Errorf("ParseURLName(%q) = %q, %v, want %q", got, back, err, test.name)
			}
		})
	}
}

func TestParseURLNameInvalid(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"", "/", "a/", "/a", "a//b", "A/b", "a:5001/b", "[::1]/b", "a/../b", "a/-b", "a b", "a/b\x00", "ä/b",
		strings.Repeat("a", 513),
	} {
		if got, err := registry.ParseURLName(path); !errors.Is(err, errdef.ErrInvalidReference) {
			t.Errorf("ParseURLName(%q) = %q, %v, want errdef.ErrInvalidReference", path, got, err)
		}
	}
}

var legalComponent = regexp.MustCompile(`^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$`)

func FuzzURLName(f *testing.F) {
	for _, host := range []string{
		"docker.io", "a:1", "[::1]:5001", "a__1", "hex-61", "hex-413a", "ip6-0-0-0-0-0-0-0-1", "ip6-0-0-0-0-0-ffff-102-304",
		"ip6-00-0-0-0-0-0-0-1", "[", "[]", "[::1", "A", "a__b__5", "hex-", "hex-6865782d36313361", "\xff", "ip6-1__2",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if host == "" || strings.Contains(host, "/") || len(host) > 200 {
			return
		}
		path := registry.URLName(host + "/repo")
		component, _, _ := strings.Cut(path, "/")
		if !legalComponent.MatchString(component) {
			t.Fatalf("URLName(%q) = %q: not a legal repository name", host+"/repo", path)
		}
		back, err := registry.ParseURLName(path)
		if err != nil || back != host+"/repo" {
			t.Fatalf("ParseURLName(URLName(%q)) = %q, %v", host+"/repo", back, err)
		}
		// The other way round: one name has one path.
		name, err := registry.ParseURLName(host + "/repo")
		if err != nil {
			return
		}
		if got := registry.URLName(name); got != host+"/repo" {
			t.Fatalf("URLName(ParseURLName(%q)) = %q", host+"/repo", got)
		}
	})
}
