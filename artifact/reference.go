package artifact

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Place says what kind of store a [Location] is in.
type Place int

// The places of a Location.
const (
	// PlaceRegistry is an OCI registry, reached over the network.
	PlaceRegistry Place = iota + 1
	// PlaceMedia is an OCI image layout in a directory.
	PlaceMedia
	// PlaceLibrary is the site's own library.
	PlaceLibrary
)

// Location is a parsed REF: where something is and what it is called there.
type Location struct {
	Place Place
	// Path is the directory of media.
	Path string
	// Repository is HOST/REPO, or a short name in the library. It is "" for
	// media given as a directory alone.
	Repository string
	Tag        string
	Digest     digest.Digest
}

var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*$`)
	hostName       = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)
	tagName        = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	drive          = regexp.MustCompile(`^[A-Za-z]:[\\/]`)
)

// ParseLocation reads a REF of the command line:
//
//   - what starts with /, ./, ../, a drive letter or oci: is media,
//     DIR[//REPO][:TAG][@DIGEST];
//   - what has a first segment with a dot, a colon or the name localhost is a
//     registry, HOST/REPO[:TAG][@DIGEST];
//   - anything else is a name in the site's library.
func ParseLocation(ref string) (Location, error) {
	dir, forced := strings.CutPrefix(ref, "oci:")
	if forced || isPath(ref) {
		return parseMedia(dir)
	}
	l := Location{Place: PlaceLibrary}
	rest, err := l.cutName(ref)
	if err != nil {
		return Location{}, err
	}
	l.Repository = strings.TrimPrefix(rest, "id:")
	host, _, _ := strings.Cut(l.Repository, "/")
	if strings.HasPrefix(rest, "id:") || !strings.ContainsAny(host, ".:") && host != "localhost" {
		if !repositoryName.MatchString(l.Repository) {
			return Location{}, fmt.Errorf("%q is no name in a library; want one as shop or shop:1.0.0, ./DIR for media, HOST/REPO for a registry", ref)
		}
		return l, nil
	}
	l.Place = PlaceRegistry
	if err := checkRepository(l.Repository); err != nil {
		return Location{}, err
	}
	return l, nil
}

func isPath(ref string) bool {
	for _, p := range []string{"/", "./", "../", `\`, `.\`, `..\`} {
		if strings.HasPrefix(ref, p) {
			return true
		}
	}
	return ref == "." || ref == ".." || drive.MatchString(ref)
}

// parseMedia splits DIR[//REPO][:TAG][@DIGEST]. A name is looked for only behind
// the // or, for a directory alone, behind the last slash.
func parseMedia(ref string) (Location, error) {
	l := Location{Place: PlaceMedia}
	lead := 0
	if strings.HasPrefix(ref, "//") {
		lead = 2 // a network path, not a repository
	}
	dir, name, hasName := strings.Cut(ref[lead:], "//")
	dir = ref[:lead] + dir
	if hasName {
		rest, err := l.cutName(name)
		if err != nil {
			return Location{}, err
		}
		l.Path, l.Repository = filepath.Clean(dir), rest
		if rest == "" {
			return l, nil
		}
		if err := checkRepository(rest); err != nil {
			return Location{}, err
		}
		return l, nil
	}
	slash := strings.LastIndexAny(dir, `/\`)
	rest, err := l.cutName(dir[slash+1:])
	if err != nil {
		return Location{}, err
	}
	if dir[:slash+1]+rest == "" {
		return Location{}, fmt.Errorf("%q names no directory", ref)
	}
	l.Path = filepath.Clean(dir[:slash+1] + rest)
	return l, nil
}

// cutName takes @DIGEST and :TAG off the end of s.
func (l *Location) cutName(s string) (string, error) {
	s, dgst, found := strings.Cut(s, "@")
	if found {
		l.Digest = digest.Digest(dgst)
		if err := l.Digest.Validate(); err != nil {
			return "", fmt.Errorf("%q is no digest; want one as sha256:… with 64 hexadecimal digits", dgst)
		}
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexAny(s, `/]`) && i >= 0 && s[:i] != "id" {
		s, l.Tag = s[:i], s[i+1:]
		if !tagName.MatchString(l.Tag) {
			return "", fmt.Errorf("%q is no tag or version; want letters, digits, '.', '_' and '-', at most 128", l.Tag)
		}
	}
	return s, nil
}

func checkRepository(name string) error {
	host, repo, ok := strings.Cut(name, "/")
	if !ok || repo == "" {
		return fmt.Errorf("%q names no repository; want HOST/REPO, as registry.example.com/shop", name)
	}
	if !hostName.MatchString(host) {
		return fmt.Errorf("%q is no host name", host)
	}
	if !repositoryName.MatchString(repo) || len(repo) > 255 {
		return fmt.Errorf("%q is no repository name; want lower-case letters, digits, '.', '_', '-' and '/'", repo)
	}
	return nil
}

// Reference returns what a store resolves: the digest where there is one, else
// the tag, else "".
func (l Location) Reference() string {
	if l.Digest != "" {
		return l.Digest.String()
	}
	return l.Tag
}

// Name returns the location's full name without a place: HOST/REPO:TAG, or with
// a digest, HOST/REPO@DIGEST.
func (l Location) Name() string {
	switch {
	case l.Tag != "":
		return l.Repository + ":" + l.Tag
	case l.Digest != "":
		return l.Repository + "@" + l.Digest.String()
	}
	return l.Repository
}

// String returns the location as it may be given again.
func (l Location) String() string {
	s := l.Repository
	switch host, _, _ := strings.Cut(s, "/"); {
	case l.Place == PlaceMedia:
		s = l.mediaString()
	case l.Place == PlaceLibrary && (strings.ContainsAny(host, ".:") || host == "localhost" || host == "id"):
		s = "id:" + s // or it would be taken for a registry
	}
	if l.Tag != "" {
		s += ":" + l.Tag
	}
	if l.Digest != "" {
		s += "@" + l.Digest.String()
	}
	return s
}

// mediaString writes directory and repository so that nothing of the directory's
// name is taken for a tag or a digest.
func (l Location) mediaString() string {
	s := filepath.ToSlash(l.Path)
	if !isPath(s) {
		s = "./" + s
	}
	if l.Repository != "" {
		if strings.HasSuffix(s, "/") {
			s += "."
		}
		return s + "//" + l.Repository
	}
	last := s[strings.LastIndexAny(s, `/\`)+1:]
	if last == "." || last == ".." || strings.ContainsAny(last, ":@") {
		s += "/"
	}
	return s
}

// ParseImage reads an image reference as a component names it, completing it as
// Docker does: no host means docker.io, one word on docker.io means library/,
// no tag and no digest mean the tag latest.
func ParseImage(ref string) (Location, error) {
	host, rest, ok := strings.Cut(ref, "/")
	switch {
	case !ok:
		ref = "docker.io/library/" + ref
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		ref = "docker.io/" + ref
	case (host == "docker.io" || host == "index.docker.io") && !strings.Contains(rest, "/"):
		ref = "docker.io/library/" + rest
	case host == "index.docker.io":
		ref = "docker.io/" + rest
	}
	// An image is never media or a name in the library, whatever its host is
	// called.
	l := Location{Place: PlaceRegistry}
	name, err := l.cutName(ref)
	if err != nil {
		return Location{}, err
	}
	l.Repository = name
	if l.Tag == "" && l.Digest == "" {
		l.Tag = "latest"
	}
	if err := checkRepository(name); err != nil {
		return Location{}, err
	}
	return l, nil
}
