package tool_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/mirror"
)

// programs are small programs that the Go tool makes of the module's name.
var programs struct {
	sync.Mutex
	built map[string][]byte
}

// program builds cmd in a module of our name, for a platform and stamped with a
// version; "" is for no stamp.
func program(t *testing.T, cmd, platform, version string) []byte {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	key := cmd + " " + platform + " " + version
	if raw, ok := programs.built[key]; ok {
		return raw
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), []byte("module github.com/sealift/sealift\n\ngo 1.24\n"))
	write(t, filepath.Join(dir, "cmd", cmd, "main.go"), []byte("package main\n\nvar stamp string\n\nfunc main() { println(stamp) }\n"))
	ldflags := "-s -w"
	if version != "" {
		ldflags += " -X main.stamp=sealift-version:" + version + ";"
	}
	goos, arch, _ := strings.Cut(platform, "/")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", "out", "./cmd/"+cmd)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOOS="+goos, "GOARCH="+arch)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	if programs.built == nil {
		programs.built = map[string][]byte{}
	}
	programs.built[key] = raw
	return raw
}

func write(t *testing.T, name string, raw []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, raw, 0o755)); err != nil {
		t.Fatal(err)
	}
}

func platform(t *testing.T, s string) ocispec.Platform {
	t.Helper()
	p, err := mirror.ParsePlatform(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// bench is a directory of programs and media to pack them on.
type bench struct {
	tools, media string
}

func newBench(t *testing.T) bench {
	t.Helper()
	return bench{t.TempDir(), filepath.Join(t.TempDir(), "media")}
}

func (b bench) pack(t *testing.T, version string, names ...string) ([]tool.File, error) {
	t.Helper()
	w, err := layout.OpenWriter(t.Context(), b.media)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	root, err := os.OpenRoot(b.media)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	opts := tool.Options{Version: version, Dir: b.tools, Media: root.FS()}
	for _, name := range names {
		opts.Platforms = append(opts.Platforms, platform(t, name))
	}
	return tool.Pack(t.Context(), w, opts)
}

func TestPack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	linux, windows, mac := program(t, "sealift", "linux/amd64", "1.0.0"), program(t, "sealift", "windows/amd64", "1.0.0"), program(t, "sealift", "darwin/arm64", "1.0.0")
	write(t, filepath.Join(b.tools, "sealift-linux-amd64"), linux)
	write(t, filepath.Join(b.tools, "sealift-windows-amd64.exe"), windows)
	write(t, filepath.Join(b.tools, "really"), mac)
	if err := os.Symlink("really", filepath.Join(b.tools, "sealift-darwin-arm64")); err != nil {
		t.Fatal(err)
	}
	files, err := b.pack(t, "1.0.0", "linux/amd64", "windows/amd64", "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	sums := fmt.Sprintf("%x  sealift-linux-amd64\n%x  sealift-windows-amd64.exe\n", sha256.Sum256(linux), sha256.Sum256(windows))
	if diff := cmp.Diff(sums, b.read(t, "SHA256SUMS")); diff != "" {
		t.Errorf("SHA256SUMS (-want +got):\n%s", diff)
	}
	if b.read(t, "sealift-linux-amd64") != string(linux) || b.read(t, "sealift-windows-amd64.exe") != string(windows) {
		t.Error("a program on the media has other bytes than the one packed")
	}
	if info, err := os.Stat(filepath.Join(b.media, "sealift/bin/sealift-linux-amd64")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode of the program: %v, %v, want 0755", info, err)
	}
	if len(files) != 2 || !files[0].Written || !files[1].Written || files[0].Bytes != int64(len(linux)) {
		t.Errorf("Pack = %+v, want two files that were written", files)
	}

	// A later run for another platform keeps what is there, and lists it.
	if files, err = b.pack(t, "1.0.0", "linux/amd64", "darwin/arm64"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, fmt.Sprintf("%s %s %t", f.Name, mirror.FormatPlatform(f.Platform), f.Written))
	}
	want := []string{"sealift/bin/sealift-darwin-arm64 darwin/arm64 true", "sealift/bin/sealift-linux-amd64 linux/amd64 false", "sealift/bin/sealift-windows-amd64.exe windows/amd64 false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Pack again (-want +got):\n%s", diff)
	}
	sums = fmt.Sprintf("%x  sealift-darwin-arm64\n", sha256.Sum256(mac)) + sums
	if diff := cmp.Diff(sums, b.read(t, "SHA256SUMS")); diff != "" {
		t.Errorf("SHA256SUMS again (-want +got):\n%s", diff)
	}
}

func (b bench) read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.media, "sealift/bin", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A torn program on the media is written again.
func TestPackReplaces(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	linux := program(t, "sealift", "linux/amd64", "1.0.0")
	write(t, filepath.Join(b.tools, "sealift-linux-amd64"), linux)
	write(t, filepath.Join(b.media, "sealift/bin/sealift-linux-amd64"), linux[:1000])
	files, err := b.pack(t, "1.0.0", "linux/amd64")
	if err != nil || !files[0].Written || b.read(t, "sealift-linux-amd64") != string(linux) {
		t.Errorf("Pack over a torn program = %+v, %v, want it written", files, err)
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	linux := func(t *testing.T) []byte { return program(t, "sealift", "linux/amd64", "1.0.0") }
	tests := []struct {
		name, platform string
		make           func(t *testing.T, file string)
		want           error
		text           string
	}{
		{"not there", "linux/arm64", func(*testing.T, string) {}, tool.ErrMissing, "make dist builds sealift-linux-arm64 "},
		{"variant not there", "linux/arm/v7", func(*testing.T, string) {}, tool.ErrMissing, "sealift-linux-arm-v7"},
		{"link to nothing", "linux/amd64", func(t *testing.T, file string) {
			if err := os.Symlink("nothing", file); err != nil {
				t.Fatal(err)
			}
		}, tool.ErrMissing, ""},
		{"directory", "linux/amd64", func(t *testing.T, file string) {
			if err := os.Mkdir(file, 0o755); err != nil {
				t.Fatal(err)
			}
		}, tool.ErrBad, "no regular file"},
		{"empty", "linux/amd64", put(func(*testing.T) []byte { return nil }), tool.ErrBad, ""},
		{"text", "linux/amd64", put(func(*testing.T) []byte { return []byte("#!/bin/sh\n") }), tool.ErrBad, ""},
		{"other format", "linux/amd64", put(func(t *testing.T) []byte { return program(t, "sealift", "windows/amd64", "1.0.0") }), tool.ErrBad, "bad magic"},
		{"other format for Windows", "windows/amd64", put(linux), tool.ErrBad, ""},
		{"other format for macOS", "darwin/arm64", put(linux), tool.ErrBad, ""},
		{"other machine", "linux/arm64", put(linux), tool.ErrBad, "machine EM_X86_64"},
		{"other machine for Windows", "windows/arm64", put(func(t *testing.T) []byte { return program(t, "sealift", "windows/amd64", "1.0.0") }), tool.ErrBad, "not for arm64"},
		{"other machine for macOS", "darwin/amd64", put(func(t *testing.T) []byte { return program(t, "sealift", "darwin/arm64", "1.0.0") }), tool.ErrBad, "not for amd64"},
		{"machine that lies", "linux/arm64", put(func(t *testing.T) []byte {
			raw := bytes.Clone(linux(t))
			binary.LittleEndian.PutUint16(raw[18:], uint16(elf.EM_AARCH64))
			return raw
		}), tool.ErrBad, "it is for linux/amd64"},
		{"machine unknown", "linux/mips", put(linux), tool.ErrBad, "not for mips"},
		{"other system of the same format", "freebsd/amd64", put(linux), tool.ErrBad, "it is for linux/amd64"},
		{"dynamic", "linux/amd64", put(func(t *testing.T) []byte { return dynamic(t, linux(t)) }), tool.ErrBad, "not static"},
		{"cut off", "linux/amd64", put(func(t *testing.T) []byte { return linux(t)[:len(linux(t))/2] }), tool.ErrBad, ""},
		{"cut off, without sections", "linux/amd64", put(func(t *testing.T) []byte {
			raw := bytes.Clone(linux(t)[:len(linux(t))/2])
			clear(raw[40:48]) // where the sections are described,
			clear(raw[60:64]) // how many, and which has their names
			return raw
		}), tool.ErrBad, "cut off"},
		{"end cut off for macOS", "darwin/arm64", put(func(t *testing.T) []byte {
			raw := program(t, "sealift", "darwin/arm64", "1.0.0")
			return raw[:len(raw)-1]
		}), tool.ErrBad, "cut off"},
		{"one byte short for Windows", "windows/amd64", put(func(t *testing.T) []byte {
			raw := program(t, "sealift", "windows/amd64", "1.0.0")
			return raw[:len(raw)-1]
		}), tool.ErrBad, "cut off"},
		{"another program", "linux/amd64", put(func(t *testing.T) []byte { return program(t, "other", "linux/amd64", "1.0.0") }), tool.ErrBad, "not sealift but"},
		{"another version", "linux/amd64", put(func(t *testing.T) []byte { return program(t, "sealift", "linux/amd64", "1.0.1") }), tool.ErrVersion, "it is 1.0.1, and this is 1.0.0"},
		{"no version", "linux/amd64", put(func(t *testing.T) []byte { return program(t, "sealift", "linux/amd64", "") }), tool.ErrVersion, "make dist"},
		{"two versions", "linux/amd64", put(func(t *testing.T) []byte { return append(bytes.Clone(linux(t)), "sealift-version:2;"...) }), tool.ErrBad, "several versions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			name := "sealift-" + strings.ReplaceAll(tt.platform, "/", "-")
			if strings.HasPrefix(tt.platform, "windows/") {
				name += ".exe"
			}
			tt.make(t, filepath.Join(b.tools, name))
			files, err := b.pack(t, "1.0.0", tt.platform)
			var tool *tool.Error
			if !errors.Is(err, tt.want) || !errors.As(err, &tool) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("Pack = %v, %v, want %v with %q", files, err, tt.want, tt.text)
			}
			if tool.Path != filepath.Join(b.tools, name) || !strings.Contains(err.Error(), tool.Path) {
				t.Errorf("error %q names %s, want %s", err, tool.Path, filepath.Join(b.tools, name))
			}
			if _, err := os.Stat(filepath.Join(b.media, "sealift/bin")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

// put returns a function that makes a file of what raw returns.
func put(raw func(*testing.T) []byte) func(*testing.T, string) {
	return func(t *testing.T, file string) {
		t.Helper()
		write(t, file, raw(t))
	}
}

// dynamic makes a static program one that asks for an interpreter.
func dynamic(t *testing.T, raw []byte) []byte {
	t.Helper()
	raw = bytes.Clone(raw)
	le := binary.LittleEndian
	at, size, n := le.Uint64(raw[32:]), le.Uint16(raw[54:]), le.Uint16(raw[56:])
	for i := range uint64(n) {
		if header := raw[at+i*uint64(size):]; elf.ProgType(le.Uint32(header)) == elf.PT_GNU_STACK {
			le.PutUint32(header, uint32(elf.PT_INTERP))
			return raw
		}
	}
	t.Fatal("the program has no header to change")
	return nil
}

// What the media has for other platforms is replaced by what is here, and where
// nothing is, it is refused: only programs that were checked get a line.
func TestPackMix(t *testing.T) {
	t.Parallel()
	good := func(t *testing.T) []byte { return program(t, "sealift", "windows/amd64", "1.0.0") }
	for name, old := range map[string]func(t *testing.T) []byte{
		"other version": func(t *testing.T) []byte { return program(t, "sealift", "windows/amd64", "0.9.0") },
		"torn":          func(t *testing.T) []byte { return good(t)[:5000] },
		// All that a program says of itself is right; it is another one.
		"trojan":   func(t *testing.T) []byte { return append(bytes.Clone(good(t)), "and more"...) },
		"the same": good,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			const windows = "sealift-windows-amd64.exe"
			write(t, filepath.Join(b.tools, "sealift-linux-amd64"), program(t, "sealift", "linux/amd64", "1.0.0"))
			write(t, filepath.Join(b.media, "sealift/bin", windows), old(t))
			write(t, filepath.Join(b.media, "sealift/bin/notes.txt"), []byte("somebody's"))
			_, err := b.pack(t, "1.0.0", "linux/amd64")
			var tool *tool.Error
			if !errors.As(err, &tool) || tool.Path != "sealift/bin/"+windows || !strings.Contains(err.Error(), filepath.Join(b.tools, windows)) {
				t.Fatalf("Pack = %v, want an error about the program on the media", err)
			}
			if _, err := os.Stat(filepath.Join(b.media, "sealift/bin/SHA256SUMS")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("checksums were written: %v", err)
			}
			write(t, filepath.Join(b.tools, windows), good(t))
			files, err := b.pack(t, "1.0.0", "linux/amd64")
			if err != nil || len(files) != 2 || files[1].Written != (name != "the same") || b.read(t, windows) != string(good(t)) {
				t.Errorf("Pack = %+v, %v, want two files, and the program that is here", files, err)
			}
		})
	}
}

// Nothing outside the media is read or changed for a link that somebody planted.
func TestPackLinkOnMedia(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	linux := program(t, "sealift", "linux/amd64", "1.0.0")
	write(t, filepath.Join(b.tools, "sealift-linux-amd64"), linux)
	outside := filepath.Join(t.TempDir(), "outside")
	write(t, outside, linux)
	if err := os.MkdirAll(filepath.Join(b.media, "sealift/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(b.media, "sealift/bin/sealift-linux-amd64")); err != nil {
		t.Fatal(err)
	}
	files, err := b.pack(t, "1.0.0", "linux/amd64")
	if err != nil || !files[0].Written {
		t.Fatalf("Pack = %+v, %v, want the link replaced", files, err)
	}
	if info, err := os.Lstat(filepath.Join(b.media, "sealift/bin/sealift-linux-amd64")); err != nil || !info.Mode().IsRegular() {
		t.Errorf("on the media: %v, %v, want a regular file", info, err)
	}
}

// Without a directory, the running program is carried for its own platform, and
// what lies beside it for others.
func TestPackExecutable(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || runtime.GOARCH == "arm" {
		t.Skip("the file of the running program is made for Linux here")
	}
	dir, host := t.TempDir(), "linux/"+runtime.GOARCH
	opts := tool.Options{Executable: filepath.Join(dir, "sealift"), Version: "(devel)", Platforms: []ocispec.Platform{platform(t, host)}}
	write(t, opts.Executable, program(t, "sealift", host, ""))
	dst := memory{}
	if _, err := tool.Pack(t.Context(), dst, opts); err != nil {
		t.Fatalf("Pack of a running program without a version = %v", err)
	}
	if !bytes.Equal(dst["sealift/bin/sealift-linux-"+runtime.GOARCH], program(t, "sealift", host, "")) || len(dst) != 2 {
		t.Errorf("written: %d files, want the program and its checksum", len(dst))
	}
	opts.Platforms = append(opts.Platforms, platform(t, "windows/amd64"))
	_, err := tool.Pack(t.Context(), memory{}, opts)
	if beside := filepath.Join(dir, "sealift-windows-amd64.exe"); !errors.Is(err, tool.ErrMissing) || !strings.Contains(err.Error(), beside) {
		t.Errorf("Pack = %v, want %v for %s", err, tool.ErrMissing, beside)
	}
	// A program that was replaced since it was started is not the running one.
	write(t, opts.Executable, program(t, "sealift", host, "1.0.1"))
	opts.Version, opts.Platforms = "1.0.0", opts.Platforms[:1]
	if _, err := tool.Pack(t.Context(), memory{}, opts); !errors.Is(err, tool.ErrVersion) {
		t.Errorf("Pack of a replaced program = %v, want %v", err, tool.ErrVersion)
	}
}

// memory is media without a disk.
type memory map[string][]byte

func (m memory) WriteFile(_ context.Context, name string, _ fs.FileMode, r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err == nil {
		m[name] = raw
	}
	return err
}

// A program that changes between being checked and being written is not put in
// place.
func TestPackChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := filepath.Join(b.tools, "sealift-linux-amd64")
	write(t, file, program(t, "sealift", "linux/amd64", "1.0.0"))
	dst := changing{memory{}, file}
	_, err := tool.Pack(t.Context(), dst, tool.Options{Version: "1.0.0", Dir: b.tools, Platforms: []ocispec.Platform{platform(t, "linux/amd64")}})
	if !errors.Is(err, tool.ErrBad) || len(dst.memory) > 0 {
		t.Errorf("Pack of a changing file = %v and %d files, want %v and none", err, len(dst.memory), tool.ErrBad)
	}
}

type changing struct {
	memory
	file string
}

func (c changing) WriteFile(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error {
	f, err := os.OpenFile(c.file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("flip"), 100_000)
	return errors.Join(err, f.Close(), c.memory.WriteFile(ctx, name, mode, r))
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		carried []string
		want    []string
	}{
		{"Linux only", []string{"windows/amd64", "linux/arm64", "linux/amd64", "linux/arm64/v8", "linux/arm"}, []string{"linux/amd64", "linux/arm/v7", "linux/arm64"}},
		{"levels are kept", []string{"linux/amd64/v3", "linux/arm/v6"}, []string{"linux/amd64/v3", "linux/arm/v6"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var carried []ocispec.Platform
			for _, s := range tt.carried {
				carried = append(carried, platform(t, s))
			}
			var got []string
			for _, p := range tool.Platforms(carried) {
				got = append(got, mirror.FormatPlatform(p))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Platforms(%v) (-want +got):\n%s", tt.carried, diff)
			}
		})
	}
	for _, carried := range [][]ocispec.Platform{nil, {{OS: "windows", Architecture: "amd64"}}} {
		if got := tool.Platforms(carried); len(got) != 1 || got[0].OS != "linux" {
			t.Errorf("Platforms(%v) = %v, want one for Linux", carried, got)
		}
	}
}
