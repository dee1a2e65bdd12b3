package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dynamic makes the smallest ELF file that names an interpreter and libraries.
func dynamic(t *testing.T, interp string, libraries ...string) []byte {
	t.Helper()
	const header, progHeader, sectionHeader = 64, 56, 64
	names := "\x00"
	var dyn bytes.Buffer
	put := func(b *bytes.Buffer, v any) {
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range libraries {
		put(&dyn, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(names))})
		names += l + "\x00"
	}
	put(&dyn, elf.Dyn64{Tag: int64(elf.DT_NULL)})
	progs := 0
	if interp != "" {
		progs = 1
		interp += "\x00"
	}
	body := uint64(header + progs*progHeader)
	namesAt := body + uint64(len(interp))
	dynAt := namesAt + uint64(len(names))
	sectionsAt := dynAt + uint64(dyn.Len())

	var f bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: header, Shoff: sectionsAt,
		Ehsize: header, Phentsize: progHeader, Phnum: uint16(progs), Shentsize: sectionHeader, Shnum: 3, Shstrndx: 1,
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	put(&f, h)
	if progs == 1 {
		put(&f, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: body, Filesz: uint64(len(interp))})
	}
	f.WriteString(interp + names)
	f.Write(dyn.Bytes())
	put(&f, elf.Section64{})
	put(&f, elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))})
	put(&f, elf.Section64{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: uint64(dyn.Len()), Link: 1, Entsize: 16})
	return f.Bytes()
}

func TestLoadable(t *testing.T) {
	t.Parallel()
	const ld = "lib/x86_64-linux-gnu/ld.so"
	all := tree{
		"usr/bin/server":                           {link: "check"},
		"usr/bin/check":                            {content: dynamic(t, "/lib64/ld.so", "libssl.so.3", "libc.so.6")},
		"usr/bin/other":                            {content: dynamic(t, "/lib64/ld.so", "libother.so")},
		"usr/lib/x86_64-linux-gnu/pam/x":           {content: dynamic(t, "", "libpam.so")},
		"usr/lib/x86_64-linux-gnu/libssl.so.3":     {link: "libssl.so.3.0"},
		"usr/lib/x86_64-linux-gnu/libssl.so.3.0":   {content: dynamic(t, "", "libc.so.6")},
		"usr/lib/x86_64-linux-gnu/old/libssl.so.3": {content: dynamic(t, "")},
		"lib/x86_64-linux-gnu/libc.so.6":           {content: dynamic(t, "", "ld.so")},
		ld:                                         {content: dynamic(t, "")},
		"lib64/ld.so":                              {link: "/" + ld},
		"usr/share/man/server.1":                   {content: []byte("manual")},
	}
	root, err := loadable(all, []string{"usr/bin/server"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		ld, "lib/x86_64-linux-gnu/libc.so.6", "lib64/ld.so", "usr/bin/check", "usr/bin/server",
		"usr/lib/x86_64-linux-gnu/libssl.so.3", "usr/lib/x86_64-linux-gnu/libssl.so.3.0",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(root))); diff != "" {
		t.Errorf("loadable() (-want +got):\n%s", diff)
	}
	if _, err := loadable(all, []string{"usr/bin/other"}); err == nil || !strings.Contains(err.Error(), "libother.so") {
		t.Errorf("loadable(other) = %v, want the missing libother.so named", err)
	}
	if _, err := loadable(all, []string{"usr/share/man/server.1"}); err == nil {
		t.Error("loadable(a text file) gave no error")
	}
}

func TestLinksThatGoRound(t *testing.T) {
	t.Parallel()
	if _, err := loadable(tree{"a": {link: "b"}, "b": {link: "a"}}, []string{"a"}); err == nil {
		t.Error("loadable() of a circle gave no error")
	}
}

func TestRedisVersion(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"5:7.0.15-1~deb12u10": "7.0.15", "7.0.1": "7.0.1", "5:7.2.4-1": "", "5:7.00": ""} {
		got, err := redisVersion([]debPackage{{name: "libc6", version: "2.36"}, {name: "redis-server", version: in}})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("redisVersion(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}
