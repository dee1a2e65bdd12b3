package layout

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"oras.land/oras-go/v2/errdef"
)

// maxRepositoryName is the longest repository name registries accept, host
// included.
const maxRepositoryName = 255

// The grammars of a host, a repository path and a tag. The host is checked
// more strictly than oras-go does, since names come from hostile media and
// end up in URLs and, with some consumers, in paths.
var (
	hostRegexp = regexp.MustCompile(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]{1,5})?$`)
	pathRegexp = regexp.MustCompile(`^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$`)
	tagRegexp  = regexp.MustCompile(`^\w[\w.-]{0,127}$`)

	unsafeRegexp = regexp.MustCompile(`[^a-z0-9]+`)
)

// splitName splits a full reference HOST/REPO:TAG at its tag.
func splitName(name string) (repository, tag string, ok bool) {
	slash := strings.LastIndexByte(name, '/')
	colon := strings.LastIndexByte(name, ':')
	if slash < 0 || colon < slash {
		return "", "", false
	}
	repository, tag = name[:colon], name[colon+1:]
	return repository, tag, isRepository(repository) && tagRegexp.MatchString(tag)
}

// isRepository reports whether name is HOST/REPO.
func isRepository(name string) bool {
	host, path, ok := strings.Cut(name, "/")
	return ok && len(name) <= maxRepositoryName && hostRegexp.MatchString(host) && pathRegexp.MatchString(path)
}

// localName makes the repository name for entries without a full reference
// out of the layout's directory name.
func localName(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	name := unsafeRegexp.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-")
	name = strings.Trim(name, "-")
	if name == "" {
		return "layout"
	}
	return name
}

func checkRoot(name, alias string) error {
	if _, _, ok := splitName(name); !ok {
		return fmt.Errorf("root name %q is not HOST/REPOSITORY:TAG: %w", name, errdef.ErrInvalidReference)
	}
	if alias != "" && !tagRegexp.MatchString(alias) {
		return fmt.Errorf("alias %q is not a tag: %w", alias, errdef.ErrInvalidReference)
	}
	return nil
}
