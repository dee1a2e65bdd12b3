package registry

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"oras.land/oras-go/v2/errdef"
)

// maxNameBytes bounds the name in a URL. Most clients stop at 255 bytes for
// host and path together; an encoded HOST/REPO behind another host may be
// longer.
const maxNameBytes = 512

const (
	portSeparator = "__"
	ip6Prefix     = "ip6-"
	hexPrefix     = "hex-"
)

// componentPattern is a path component of a repository name.
const componentPattern = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`

var (
	componentRegexp = regexp.MustCompile(`^` + componentPattern + `$`)
	nameRegexp      = regexp.MustCompile(`^` + componentPattern + `(?:/` + componentPattern + `)*$`)
	portRegexp      = regexp.MustCompile(`^[0-9]{1,5}$`)
)

// URLName returns the path by which this package serves the repository name,
// HOST/REPO: a legal repository name, so that ADDRESS/URLName(name):TAG is an
// image reference every client accepts. REPO is kept. HOST is
//
//   - kept, if it is a legal path component: docker.io, 10.0.0.7, localhost;
//   - HOST__PORT for HOST:PORT: registry.example.com__5001;
//   - ip6- and the eight groups of an IPv6 address in its canonical spelling,
//     without leading zeros: [::1]:5001 becomes ip6-0-0-0-0-0-0-0-1__5001;
//   - hex- and the bytes of HOST in hexadecimal for everything else, such as
//     capitals, a trailing dot, or a host that already looks like one of these
//     forms.
//
// [ParseURLName] is the inverse: different names have different paths. A name
// without a slash is taken for a HOST.
func URLName(name string) string {
	host, repo, found := strings.Cut(name, "/")
	if !found {
		return encodeHost(host)
	}
	return encodeHost(host) + "/" + repo
}

// ParseURLName returns the HOST/REPO that [URLName] maps to path. It returns an
// error wrapping errdef.ErrInvalidReference if path is not a legal repository
// name, or longer than 512 bytes.
func ParseURLName(path string) (string, error) {
	if len(path) > maxNameBytes {
		return "", fmt.Errorf("repository name of %d bytes, more than %d: %w", len(path), maxNameBytes, errdef.ErrInvalidReference)
	}
	if !nameRegexp.MatchString(path) {
		return "", fmt.Errorf("repository name %q: %w", path, errdef.ErrInvalidReference)
	}
	host, repo, found := strings.Cut(path, "/")
	if !found {
		return decodeHost(host), nil
	}
	return decodeHost(host) + "/" + repo, nil
}

func encodeHost(host string) string {
	if s, ok := readableHost(host); ok && decodeHost(s) == host {
		return s
	}
	return hexPrefix + hex.EncodeToString([]byte(host))
}

// readableHost returns the readable form of host, if it has one. The caller
// checks that the form decodes to host and not to some other one.
func readableHost(host string) (string, bool) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		address, port, ok := strings.Cut(inner, "]")
		if !ok {
			return "", false
		}
		ip, err := netip.ParseAddr(address)
		if err != nil || !ip.Is6() || ip.Is4In6() || ip.Zone() != "" || ip.String() != address {
			return "", false
		}
		s := ip6Prefix + strings.Join(ip6Groups(ip), "-")
		if port == "" {
			return s, true
		}
		port, ok = strings.CutPrefix(port, ":")
		return s + portSeparator + port, ok && portRegexp.MatchString(port)
	}
	name, port, found := strings.Cut(host, ":")
	if !componentRegexp.MatchString(name) {
		return "", false
	}
	if !found {
		return name, true
	}
	return name + portSeparator + port, portRegexp.MatchString(port)
}

// decodeHost is total: a component in none of the special forms, or in one that
// encodeHost would not have chosen, means itself.
func decodeHost(s string) string {
	if digits, ok := strings.CutPrefix(s, hexPrefix); ok {
		b, err := hex.DecodeString(digits)
		// encodeHost of the shorter string decides whether it needed the escape.
		if err == nil && len(b) > 0 && encodeHost(string(b)) == s {
			return string(b)
		}
	}
	host, port := s, ""
	if i := strings.LastIndex(s, portSeparator); i > 0 && portRegexp.MatchString(s[i+len(portSeparator):]) {
		host, port = s[:i], ":"+s[i+len(portSeparator):]
	}
	if ip, ok := parseIP6(host); ok {
		return "[" + ip.String() + "]" + port
	}
	return host + port
}

func ip6Groups(ip netip.Addr) []string {
	b := ip.As16()
	groups := make([]string, 0, len(b)/2)
	for i := 0; i < len(b); i += 2 {
		groups = append(groups, strconv.FormatUint(uint64(b[i])<<8|uint64(b[i+1]), 16))
	}
	return groups
}

// parseIP6 reads what ip6Groups wrote behind ip6Prefix and nothing else.
func parseIP6(s string) (netip.Addr, bool) {
	list, ok := strings.CutPrefix(s, ip6Prefix)
	if !ok {
		return netip.Addr{}, false
	}
	groups := strings.Split(list, "-")
	var b [16]byte
	if len(groups) != len(b)/2 {
		return netip.Addr{}, false
	}
	for i, group := range groups {
		n, err := strconv.ParseUint(group, 16, 16)
		if err != nil || strconv.FormatUint(n, 16) != group {
			return netip.Addr{}, false
		}
		b[2*i], b[2*i+1] = byte(n>>8), byte(n)
	}
	ip := netip.AddrFrom16(b)
	return ip, !ip.Is4In6()
}
