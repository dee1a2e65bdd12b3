package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	suite          = "bookworm"
	debianKeyring  = "/usr/share/keyrings/debian-archive-keyring.gpg"
	maxMemberBytes = 64 << 20 // the largest file of the packages taken has about 5 MB
)

// archive fetches packages of Debian's stable release. apt gets a state of its
// own below dir for each architecture, so that the host's package lists,
// architectures and locks are neither read nor changed and root is not needed.
type archive struct {
	dir    string
	mirror string
}

// debPackage is a package fetched and verified by apt.
type debPackage struct {
	name    string
	version string
	control []byte // its control file
	files   tree   // its content with the modes of the package, owned by root
}

// fetch returns roots and the libraries they depend on, however deep. Debian's
// policy names library packages lib…; all other dependencies (adduser, perl,
// init scripts) serve the installation on a host, not the running program.
func (a archive) fetch(ctx context.Context, arch string, roots ...string) ([]debPackage, error) {
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is not installed: the redis image is made from Debian's packages and needs a Debian or Ubuntu host", tool)
		}
	}
	if _, err := os.Stat(debianKeyring); err != nil {
		return nil, fmt.Errorf("%w: install debian-archive-keyring, apt verifies Debian's packages with it", err)
	}
	apt, err := a.prepare(arch)
	if err != nil {
		return nil, err
	}
	if err := apt.run(ctx, nil, "apt-get", "-q", "update"); err != nil {
		return nil, err
	}
	names, err := closure(roots, func(names []string) (map[string][]string, error) {
		var out bytes.Buffer
		if err := apt.run(ctx, &out, "apt-cache", append([]string{"depends", "--important"}, names...)...); err != nil {
			return nil, err
		}
		return parseDepends(out.String()), nil
	})
	if err != nil {
		return nil, err
	}
	return apt.download(ctx, names)
}

// closure follows dependencies into library packages, level by level.
func closure(roots []string, depends func(names []string) (map[string][]string, error)) ([]string, error) {
	seen := map[string]bool{}
	for next := roots; len(next) > 0; {
		for _, name := range next {
			seen[name] = true
		}
		level, err := depends(next)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, names := range level {
			for _, name := range names {
				if isLibrary(name) && !seen[name] && !slices.Contains(next, name) {
					next = append(next, name)
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// isLibrary includes gcc-12-base, which holds the licence of GCC's libraries.
func isLibrary(name string) bool {
	return strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "gcc-")
}

// parseDepends reads the output of apt-cache depends --important. The first of
// several alternatives counts; purely virtual packages, in <>, do not.
func parseDepends(out string) map[string][]string {
	depends := map[string][]string{}
	var current string
	alternative := false
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			current, alternative = line, false
			continue
		}
		kind, name, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.HasPrefix(name, "<") { // a line without kind lists the providers of the one above
			continue
		}
		if !alternative {
			depends[current] = append(depends[current], name)
		}
		alternative = strings.HasPrefix(kind, "|")
	}
	return depends
}

// aptState is a prepared state directory and the options that make apt use it.
type aptState struct {
	dir     string
	options []string
}

func (a archive) prepare(arch string) (aptState, error) {
	dir, err := filepath.Abs(filepath.Join(a.dir, arch))
	if err != nil {
		return aptState{}, err
	}
	for _, sub := range []string{"etc/sources.list.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "packages"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return aptState{}, err
		}
	}
	signed := fmt.Sprintf("deb [arch=%s signed-by=%s]", arch, debianKeyring)
	sources := fmt.Sprintf("%[1]s %[2]s/debian %[3]s main\n%[1]s %[2]s/debian %[3]s-updates main\n%[1]s %[2]s/debian-security %[3]s-security main\n",
		signed, strings.TrimRight(a.mirror, "/"), suite)
	for name, content := range map[string]string{"etc/sources.list": sources, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return aptState{}, err
		}
	}
	s := aptState{dir: dir}
	for _, option := range []string{
		"APT::Architecture=" + arch,
		"APT::Architectures=" + arch,
		"APT::Sandbox::User=", // _apt may not be allowed to enter dir
		"Acquire::Languages=none",
		"Acquire::Retries=3",
		"APT::Update::Post-Invoke=",
		"Dir::Etc=" + filepath.Join(dir, "etc"),
		"Dir::State=" + filepath.Join(dir, "state"),
		"Dir::State::status=" + filepath.Join(dir, "status"),
		"Dir::Cache=" + filepath.Join(dir, "cache"),
	} {
		s.options = append(s.options, "-o", option)
	}
	return s, nil
}

// run starts one of apt's tools in the packages directory.
func (s aptState) run(ctx context.Context, stdout io.Writer, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, tool, append(slices.Clone(s.options), args...)...)
	return command(cmd, filepath.Join(s.dir, "packages"), stdout)
}

// command runs cmd; its error carries the end of what it said.
func command(cmd *exec.Cmd, dir string, stdout io.Writer) error {
	var said bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, stdout, &said
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// download fetches the packages and reads them. What apt-cache shows comes from
// the signed package lists, so the digests there are the ones to trust.
func (s aptState) download(ctx context.Context, names []string) ([]debPackage, error) {
	if err := s.run(ctx, nil, "apt-get", append([]string{"-q", "download"}, names...)...); err != nil {
		return nil, err
	}
	var shown bytes.Buffer
	if err := s.run(ctx, &shown, "apt-cache", append([]string{"show", "--no-all-versions"}, names...)...); err != nil {
		return nil, err
	}
	var packages []debPackage
	for stanza := range strings.SplitSeq(strings.TrimSpace(shown.String()), "\n\n") {
		meta := fields(stanza)
		file := fmt.Sprintf("%s_%s_%s.deb", meta["Package"], strings.ReplaceAll(meta["Version"], ":", "%3a"), meta["Architecture"])
		p, err := readPackage(ctx, filepath.Join(s.dir, "packages", file), meta["SHA256"])
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	if len(packages) != len(names) {
		return nil, fmt.Errorf("apt knows %d of the %d packages %s", len(packages), len(names), strings.Join(names, " "))
	}
	return packages, nil
}

// fields reads the one-line fields of a Debian control stanza.
func fields(stanza string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(stanza) {
		if key, value, ok := strings.Cut(line, ":"); ok && key[0] != ' ' && key[0] != '\t' {
			m[key] = strings.TrimSpace(value)
		}
	}
	return m
}

func readPackage(ctx context.Context, file, sum string) (debPackage, error) {
	packed, err := os.ReadFile(file)
	if err != nil {
		return debPackage{}, err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(packed)); got != sum {
		return debPackage{}, fmt.Errorf("%s has sha256 %s, want %s: remove it and run again", file, got, sum)
	}
	var control, content bytes.Buffer
	if err := command(exec.CommandContext(ctx, "dpkg-deb", "--field", file), "", &control); err != nil {
		return debPackage{}, err
	}
	if err := command(exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file), "", &content); err != nil {
		return debPackage{}, err
	}
	meta := fields(control.String())
	p := debPackage{name: meta["Package"], version: meta["Version"], control: control.Bytes(), files: tree{}}
	if err := readTar(tar.NewReader(&content), p.files); err != nil {
		return debPackage{}, fmt.Errorf("%s: %w", filepath.Base(file), err)
	}
	return p, nil
}

func readTar(r *tar.Reader, into tree) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch h.Typeflag {
		case tar.TypeReg:
			if h.Size > maxMemberBytes {
				return fmt.Errorf("%s: over %d bytes", name, maxMemberBytes)
			}
			content, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			into[name] = entry{mode: h.Mode & 0o777, content: content}
		case tar.TypeSymlink:
			into[name] = entry{link: h.Linkname}
		case tar.TypeLink:
			into[name] = into[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]
		}
	}
}
