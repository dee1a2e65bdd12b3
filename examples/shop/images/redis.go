package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	redisTag = "7.0" // the series in Debian's stable release; checked when it is built
	redisUID = 999   // as in the image that most people know
)

// redisPrograms are Debian's names: redis-server is a link to redis-check-rdb.
var redisPrograms = []string{"usr/bin/redis-server", "usr/bin/redis-cli"}

// redisIndex makes Redis out of Debian's packages: the server, its client, the
// shared libraries that these two load, and the copyright notices.
func redisIndex(ctx context.Context, b builder) (v1.ImageIndex, error) {
	return multiPlatform(b.platforms, func(platform v1.Platform) (v1.Image, error) {
		packages, err := b.debian.fetch(ctx, platform.Architecture, "redis-server", "redis-tools")
		if err != nil {
			return nil, err
		}
		version, err := redisVersion(packages)
		if err != nil {
			return nil, err
		}
		root, err := redisRoot(packages)
		if err != nil {
			return nil, err
		}
		config := v1.Config{
			Entrypoint:   []string{"/usr/bin/redis-server"},
			User:         fmt.Sprintf("%d:%d", redisUID, redisUID),
			WorkingDir:   "/data",
			Env:          []string{"PATH=/usr/bin"},
			ExposedPorts: map[string]struct{}{"6379/tcp": {}},
			Volumes:      map[string]struct{}{"/data": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title":   "redis",
				"org.opencontainers.image.version": version,
			},
		}
		return image(root, config, platform, b.epoch)
	})
}

// redisVersion takes 7.0.15 out of Debian's 5:7.0.15-1~deb12u10.
func redisVersion(packages []debPackage) (string, error) {
	for _, p := range packages {
		if p.name != "redis-server" {
			continue
		}
		version := p.version[strings.IndexByte(p.version, ':')+1:]
		version, _, _ = strings.Cut(version, "-")
		if !strings.HasPrefix(version, redisTag+".") {
			return "", fmt.Errorf("debian has redis %s, want %s", version, redisTag)
		}
		return version, nil
	}
	return "", errors.New("redis-server is not among the packages")
}

func redisRoot(packages []debPackage) (tree, error) {
	all, owner := tree{}, map[string]debPackage{}
	for _, p := range packages {
		for name, e := range p.files {
			all[name], owner[name] = e, p
		}
	}
	root, err := loadable(all, redisPrograms)
	if err != nil {
		return nil, err
	}
	for name := range maps.Clone(root) {
		p := owner[name]
		// Where image scanners look for the packages of an image without dpkg.
		root["var/lib/dpkg/status.d/"+p.name] = entry{content: p.control}
		notice, file, err := follow(all, "usr/share/doc/"+p.name+"/copyright")
		if err != nil {
			return nil, err
		}
		root[notice] = file
	}
	maps.Copy(root, tree{
		"etc/passwd": {content: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nredis:x:%d:%[1]d:redis:/data:/sbin/nologin\n", redisUID)},
		"etc/group":  {content: fmt.Appendf(nil, "root:x:0:\nredis:x:%d:\n", redisUID)},
		"data":       {dir: true, mode: 0o755, uid: redisUID},
		"tmp":        {dir: true, mode: 0o1777},
	})
	return root, nil
}

// loadable returns the programs and, recursively, every shared library and
// interpreter that the dynamic linker loads for them, with the links between.
func loadable(all tree, programs []string) (tree, error) {
	root := tree{}
	seen := map[string]bool{}
	queue := slices.Clone(programs)
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		target, err := addLinks(all, root, name)
		if err != nil {
			return nil, err
		}
		needs, err := needed(root[target].content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", target, err)
		}
		for _, need := range needs {
			found, err := locate(all, need)
			if err != nil {
				return nil, fmt.Errorf("%s needs %w", target, err)
			}
			queue = append(queue, found)
		}
	}
	return root, nil
}

// addLinks copies name, and what it links to, from all to root. It returns the
// path of the file at the end.
func addLinks(all, root tree, name string) (string, error) {
	for range 8 {
		e, ok := all[name]
		if !ok {
			return "", fmt.Errorf("%s is in no package", name)
		}
		root[name] = e
		if e.link == "" {
			return name, nil
		}
		name = resolve(name, e.link)
	}
	return "", fmt.Errorf("%s: too many links", name)
}

// follow returns the path and the entry of the file that name leads to.
func follow(all tree, name string) (string, entry, error) {
	links := tree{}
	target, err := addLinks(all, links, name)
	if err != nil {
		// The documentation of some packages is a link to another package's directory.
		if dir, ok := all[path.Dir(name)]; ok && dir.link != "" {
			return follow(all, path.Join(resolve(path.Dir(name), dir.link), path.Base(name)))
		}
		return "", entry{}, err
	}
	return target, links[target], nil
}

func resolve(name, link string) string {
	if strings.HasPrefix(link, "/") {
		return path.Clean(link)[1:]
	}
	return path.Join(path.Dir(name), link)
}

// needed lists the libraries (by soname) and the interpreter (by path) of a
// dynamically linked file.
func needed(content []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	needs, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		interp := make([]byte, p.Filesz)
		if _, err := p.ReadAt(interp, 0); err != nil {
			return nil, err
		}
		needs = append(needs, strings.TrimRight(string(interp), "\x00"))
	}
	return needs, nil
}

// locate finds a library in the directories that the dynamic linker of Debian
// searches, or an interpreter at its path.
func locate(all tree, need string) (string, error) {
	if strings.HasPrefix(need, "/") {
		return need[1:], nil
	}
	var found []string
	for name := range all {
		if path.Base(name) == need && inLinkerPath(path.Dir(name)) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s, which is in no package", need)
	}
	// The order of names is the order of the search: lib/<triplet>, lib, lib64, usr/lib/….
	return slices.Min(found), nil
}

func inLinkerPath(dir string) bool {
	dir = strings.TrimPrefix(dir, "usr/")
	ok, err := path.Match("lib/*-linux-gnu", dir)
	return err == nil && ok || dir == "lib" || dir == "lib64"
}
