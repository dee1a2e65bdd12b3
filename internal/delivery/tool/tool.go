// Package tool packs this program onto media, for those who have only the media,
// and the page START-HERE.txt, which says what is there and what to do with it.
//
// [Pack] carries programs, each checked to be this one, of this version, whole and
// for its platform; [PackStart] writes the page. Nothing is carried as the program
// that was not checked on this machine.
package tool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/mirror"
)

const (
	// dir is where media holds programs.
	programsDir = "sealift/bin"
	sumsName    = programsDir + "/SHA256SUMS"
)

// Sentinel errors, always inside a [*Error].
var (
	// ErrMissing reports that there is no program for a platform.
	ErrMissing = errors.New("there is no such file")
	// ErrBad reports a file that cannot be carried as the program for its
	// platform: another machine's, not static, cut off, or something else.
	ErrBad = errors.New("not this program for that platform")
	// ErrVersion reports a program of another version than the running one.
	ErrVersion = errors.New("of another version")
)

// errUnchecked reports a program on the media that nothing here can be compared with.
var errUnchecked = errors.New("it is on the media already, and nothing here vouches for it")

// Error says which program cannot be carried, and why.
type Error struct {
	Platform ocispec.Platform
	// Path is the file, on this machine or, beginning with sealift/bin, on the media.
	Path string
	Err  error
}

// Error names the platform, the file with its directory, and what makes it.
func (e *Error) Error() string {
	text := fmt.Sprintf("the program for %s, %s: %v", mirror.FormatPlatform(e.Platform), e.Path, e.Err)
	if errors.Is(e.Err, ErrMissing) {
		text += "; make dist builds " + path.Base(filepath.ToSlash(e.Path)) + " and those for the other platforms"
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// FileWriter writes a file beside the blobs of media, durably and as one step;
// [layout.Writer] is one. name is slash-separated.
type FileWriter interface {
	WriteFile(ctx context.Context, name string, mode fs.FileMode, r io.Reader) error
}

// Options say which programs are carried, and where they come from.
type Options struct {
	// Platforms are those the programs are for, see [Platforms].
	Platforms []ocispec.Platform
	// Executable is the file of the running program.
	Executable string
	// Version is that of the running program, which every other must have; "" means
	// the one it is stamped with.
	Version string
	// Dir holds the programs as make dist names them, sealift-linux-arm64; with ""
	// the running program is taken for its own platform, and what lies beside it
	// for others.
	Dir string
	// Media shows what the media holds already; nil for nothing. It should be the
	// file system of an [os.Root], so that no link on the media leads out of it.
	Media fs.FS
}

// File is a program on media.
type File struct {
	Platform ocispec.Platform
	// Name is slash-separated, as sealift/bin/sealift-linux-amd64.
	Name   string
	Digest digest.Digest
	Bytes  int64
	// Written is false for a file that stood there with the same bytes.
	Written bool
}

// Platforms returns the platforms that programs are carried for when nobody
// says otherwise: the Linux ones among those carried, sorted, and with none of
// these the running one, or linux/amd64 where that is not Linux.
func Platforms(carried []ocispec.Platform) []ocispec.Platform {
	var list []ocispec.Platform
	for _, p := range carried {
		if p.OS == "linux" {
			list = append(list, ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
		}
	}
	if len(list) == 0 {
		if p := runningPlatform(); p.OS == "linux" {
			return []ocispec.Platform{p}
		}
		return []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}
	}
	slices.SortFunc(list, func(a, b ocispec.Platform) int { return cmp.Compare(fileName(a), fileName(b)) })
	return slices.CompactFunc(list, func(a, b ocispec.Platform) bool { return fileName(a) == fileName(b) })
}

// KnownPlatforms returns the platforms that make dist builds programs for.
func KnownPlatforms() []string {
	return []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "darwin/arm64", "darwin/amd64", "windows/amd64"}
}

// runningPlatform returns the platform that this program was built for.
func runningPlatform() ocispec.Platform {
	p := ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok && p.Architecture == "arm" {
		for _, s := range info.Settings {
			if level, _, _ := strings.Cut(s.Value, ","); s.Key == "GOARM" && level != "" {
				p.Variant = "v" + level
			}
		}
	}
	return p
}

// fileName is the name of a program's file, as make dist writes it.
func fileName(p ocispec.Platform) string {
	name := "sealift-" + strings.ReplaceAll(mirror.FormatPlatform(p), "/", "-")
	if p.OS == "windows" {
		name += ".exe"
	}
	return name
}

// parseFileName is the inverse of fileName.
func parseFileName(name string) (ocispec.Platform, bool) {
	words := strings.TrimSuffix(strings.TrimPrefix(name, "sealift-"), ".exe")
	p, err := mirror.ParsePlatform(strings.ReplaceAll(words, "-", "/"))
	return p, err == nil && slices.Contains([]string{"linux", "darwin", "windows"}, p.OS) && fileName(p) == name
}

// Pack puts programs and their checksums on media: each is checked to be this
// program, of this version, static, whole and for its platform, before the first is
// written. What stands there with the same bytes is not written again. For every
// other platform that the media has a program for, the one that is here is packed too:
// a courier would carry a mix else, or what somebody put there. It returns all that is there then, by name, and
// fails with [*Error] or the error of dst.
func Pack(ctx context.Context, dst FileWriter, opts Options) ([]File, error) {
	if m := stampRegexp.FindStringSubmatch(stamp); opts.Version == "" && m != nil {
		opts.Version = m[1]
	}
	opened := map[string]*program{} // by name on media
	defer func() {
		for _, t := range opened {
			_ = t.content.Close() // was only read
		}
	}()
	for _, p := range opts.Platforms {
		t, err := opts.open(p)
		if err != nil {
			return nil, err
		}
		if _, twice := opened[t.Name]; twice {
			_ = t.content.Close()
			continue
		}
		opened[t.Name] = t
	}
	if err := opts.openOthers(opened); err != nil {
		return nil, err
	}
	var files []File
	var err error
	for _, t := range opened {
		if t.Written, err = put(ctx, dst, opts.Media, t.Name, 0o755, t.Digest, io.NewSectionReader(t.content, 0, t.Bytes)); err != nil {
			return nil, err
		}
		files = append(files, t.File)
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Name, b.Name) })
	sums := formatSums(files)
	_, err = put(ctx, dst, opts.Media, sumsName, 0o644, digest.FromBytes(sums), bytes.NewReader(sums))
	return files, err
}

// startBytes is room for START-HERE.txt and the checksums.
const startBytes = 64 << 10

// Room checks the programs as [Pack] does and returns the bytes that they take on
// media, with their checksums and START-HERE.txt.
func (o Options) Room() (int64, error) {
	sum := int64(startBytes)
	for _, p := range o.Platforms {
		t, err := o.open(p)
		if err != nil {
			return 0, err
		}
		_ = t.content.Close() // was only read
		sum += t.Bytes
	}
	return sum, nil
}

// program is one that is open to be carried.
type program struct {
	File
	content *os.File
}

// open finds and checks the program for p.
func (o Options) open(p ocispec.Platform) (_ *program, err error) {
	name := o.path(p)
	fail := func(err error) (*program, error) { return nil, &Error{p, name, err} }
	info, err := os.Stat(name) // looks before it opens: opening a named pipe blocks
	if errors.Is(err, fs.ErrNotExist) {
		return fail(ErrMissing)
	} else if err != nil {
		return fail(err)
	}
	if !info.Mode().IsRegular() {
		return fail(fmt.Errorf("%w: it is no regular file", ErrBad))
	}
	f, err := os.Open(name)
	if err != nil {
		return fail(err)
	}
	b, err := readBinary(f, info.Size(), p)
	if err == nil {
		err = o.checkVersion(b, name == o.Executable)
	}
	if err != nil {
		_ = f.Close() // was only read
		return fail(err)
	}
	return &program{File{Platform: p, Name: path.Join(programsDir, fileName(p)), Digest: b.digest, Bytes: info.Size()}, f}, nil
}

func (o Options) path(p ocispec.Platform) string {
	if o.Dir != "" {
		return filepath.Join(o.Dir, fileName(p))
	}
	if fileName(p) == fileName(runningPlatform()) {
		return o.Executable
	}
	return filepath.Join(filepath.Dir(o.Executable), fileName(p))
}

// checkVersion compares a program with the running one. That two were built from
// some checkout says nothing, unless they are one file.
func (o Options) checkVersion(b binary, running bool) error {
	switch {
	case b.version == unversioned && !running:
		return fmt.Errorf("%w: nothing in it says which, and this is %s; make dist stamps it", ErrVersion, o.Version)
	case b.version != o.Version:
		return fmt.Errorf("%w: it is %s, and this is %s", ErrVersion, b.version, o.Version)
	}
	return nil
}

// openOthers opens the programs for what the media has beside the platforms that are
// packed now. What stands on the media vouches for nothing: all that is listed in
// its checksums comes from here.
func (o Options) openOthers(opened map[string]*program) error {
	if o.Media == nil {
		return nil
	}
	there, err := filesOn(o.Media)
	if err != nil {
		return err
	}
	for _, f := range there {
		if _, packed := opened[f.Name]; packed {
			continue
		}
		t, err := o.open(f.Platform)
		if errors.Is(err, ErrMissing) {
			return &Error{f.Platform, f.Name, fmt.Errorf("%w: there is no %s; put it there, or remove this file", errUnchecked, o.path(f.Platform))}
		} else if err != nil {
			return err
		}
		opened[f.Name] = t
	}
	return nil
}

// filesOn returns the names and platforms of the programs on media, by name.
// Nothing else of them is known.
func filesOn(media fs.FS) ([]File, error) {
	entries, err := fs.ReadDir(media, programsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list programs on the media: %w", err)
	}
	var files []File
	for _, e := range entries {
		if p, ok := parseFileName(e.Name()); ok {
			files = append(files, File{Platform: p, Name: path.Join(programsDir, e.Name())})
		}
	}
	return files, nil
}

// openRegular opens a regular file, looking before it opens.
func openRegular(media fs.FS, name string) (fs.File, int64, error) {
	info, err := fs.Stat(media, name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: it is no regular file", ErrBad)
	}
	f, err := media.Open(name)
	return f, info.Size(), err
}

// put writes a file unless it stands there already. r must give the bytes of
// want: when it does not, nothing is put in place.
func put(ctx context.Context, dst FileWriter, media fs.FS, name string, mode fs.FileMode, want digest.Digest, r io.Reader) (written bool, err error) {
	if stands(media, name, want) {
		return false, nil
	}
	v := want.Verifier()
	return true, dst.WriteFile(ctx, name, mode, &verifiedReader{io.TeeReader(r, v), v})
}

// stands reports whether media has a file of that digest; one that cannot be
// read is to be written again.
func stands(media fs.FS, name string, want digest.Digest) bool {
	if media == nil {
		return false
	}
	f, _, err := openRegular(media, name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // was only read
	have, err := want.Algorithm().FromReader(f)
	return err == nil && have == want
}

// verifiedReader ends with an error unless its bytes are those that were wanted.
type verifiedReader struct {
	io.Reader
	verifier digest.Verifier
}

func (r *verifiedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if errors.Is(err, io.EOF) && !r.verifier.Verified() {
		return n, fmt.Errorf("%w: it changed while it was read", ErrBad)
	}
	return n, err
}

// formatSums writes checksums as sha256sum -c takes them, beside the files.
func formatSums(files []File) []byte {
	var out bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&out, "%s  %s\n", f.Digest.Encoded(), path.Base(f.Name))
	}
	return out.Bytes()
}
