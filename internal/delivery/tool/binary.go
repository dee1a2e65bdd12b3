package tool

import (
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mainPackage is what the program is built from.
const mainPackage = "github.com/sealift/sealift/cmd/sealift"

// stamp is sealift-version:VERSION; when the linker sets it, as make does. It
// stands as text in the file, where it can be found whatever system the file is
// for: what -trimpath leaves of the build's settings does not tell the version.
var stamp = ""

// stampRegexp does not match its own text in the file.
var stampRegexp = regexp.MustCompile(`sealift-version:([0-9A-Za-z][0-9A-Za-z.+_-]{0,127});`)

// maxStampBytes is the most that stampRegexp matches.
const maxStampBytes = 16 + 128 + 1

// unversioned is what the Go tool calls a program built from a checkout.
const unversioned = "(devel)"

// binary is a program for some platform, checked.
type binary struct {
	version string
	digest  digest.Digest
}

// readBinary checks that r, of size bytes, is this program for p: its format and
// machine, that it is whole and needs no library where p is Linux, and what it was
// built from. It fails with [ErrBad].
func readBinary(r io.ReaderAt, size int64, p ocispec.Platform) (binary, error) {
	var err error
	switch p.OS {
	case "windows":
		err = checkPE(r, size, p.Architecture)
	case "darwin":
		err = checkMachO(r, size, p.Architecture)
	default:
		err = checkELF(r, size, p.Architecture)
	}
	if err != nil {
		return binary{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return binary{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if err := checkBuild(info, p); err != nil {
		return binary{}, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return scan(r, size, info.Main.Version)
}

var elfMachines = map[string]elf.Machine{
	"386": elf.EM_386, "amd64": elf.EM_X86_64, "arm": elf.EM_ARM, "arm64": elf.EM_AARCH64,
	"loong64": elf.EM_LOONGARCH, "ppc64le": elf.EM_PPC64, "riscv64": elf.EM_RISCV, "s390x": elf.EM_S390,
}

func checkELF(r io.ReaderAt, size int64, arch string) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	if want, known := elfMachines[arch]; !known || f.Machine != want {
		return fmt.Errorf("it is for the machine %v, not for %s", f.Machine, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("it is of type %v, no program", f.Type)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is not static: it needs the libraries of the machine it was built on")
		}
		if err := within(p.Off, p.Filesz, size); err != nil {
			return err
		}
	}
	for _, s := range f.Sections {
		if s.Type == elf.SHT_NOBITS {
			continue
		}
		if err := within(s.Offset, s.FileSize, size); err != nil {
			return err
		}
	}
	return nil
}

func checkMachO(r io.ReaderAt, size int64, arch string) error {
	f, err := macho.NewFile(r)
	if err != nil {
		return err
	}
	if want, known := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[arch]; !known || f.Cpu != want {
		return fmt.Errorf("it is for the machine %v, not for %s", f.Cpu, arch)
	}
	if f.Type != macho.TypeExec {
		return fmt.Errorf("it is of type %v, no program", f.Type)
	}
	for _, l := range f.Loads {
		if s, ok := l.(*macho.Segment); ok {
			if err := within(s.Offset, s.Filesz, size); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkPE(r io.ReaderAt, size int64, arch string) error {
	f, err := pe.NewFile(r)
	if err != nil {
		return err
	}
	machines := map[string]uint16{"386": pe.IMAGE_FILE_MACHINE_I386, "amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}
	if want, known := machines[arch]; !known || f.Machine != want {
		return fmt.Errorf("it is for the machine %#x, not for %s", f.Machine, arch)
	}
	if f.Characteristics&pe.IMAGE_FILE_EXECUTABLE_IMAGE == 0 || f.Characteristics&pe.IMAGE_FILE_DLL != 0 {
		return errors.New("it is no program")
	}
	for _, s := range f.Sections {
		if err := within(uint64(s.Offset), uint64(s.Size), size); err != nil {
			return err
		}
	}
	return nil
}

// within fails unless the n bytes at offset are in a file of size bytes.
func within(offset, n uint64, size int64) error {
	if offset > uint64(size) || n > uint64(size)-offset {
		return fmt.Errorf("it is cut off: %d bytes, and it speaks of %d at %d", size, n, offset)
	}
	return nil
}

// checkBuild compares what the Go tool notes in a program with what is wanted.
func checkBuild(info *debug.BuildInfo, p ocispec.Platform) error {
	if info.Path != mainPackage {
		return fmt.Errorf("it is not sealift but %q", info.Path)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if os, arch := settings["GOOS"], settings["GOARCH"]; os != p.OS || arch != p.Architecture {
		return fmt.Errorf("it is for %s/%s", os, arch)
	}
	// Levels of an architecture as the Go tool writes them: v1, or 7,softfloat.
	var need, have string
	switch p.Architecture {
	case "amd64":
		need, have = settings["GOAMD64"], max(p.Variant, "v1")
	case "arm":
		need, have = settings["GOARM"], strings.TrimPrefix(p.Variant, "v")
	}
	if need, _, _ := strings.Cut(need, ","); need > have {
		return fmt.Errorf("it needs %s at level %s, and the platform has %s", p.Architecture, need, have)
	}
	return nil
}

// scan hashes a program and finds its version, which is fallback where it is not
// stamped. Two stamps are none: one of them is not the program's own.
func scan(r io.ReaderAt, size int64, fallback string) (binary, error) {
	h := digest.SHA256.Digester()
	content := io.NewSectionReader(r, 0, size)
	var versions []string
	buffer := make([]byte, maxStampBytes+1<<20)
	kept := 0 // bytes of the last round, where a stamp may have begun
	for {
		n, err := io.ReadFull(content, buffer[kept:])
		_, _ = h.Hash().Write(buffer[kept : kept+n]) // never fails
		window := buffer[:kept+n]
		for _, m := range stampRegexp.FindAllSubmatch(window, -1) {
			versions = append(versions, string(m[1]))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return binary{}, err
		}
		kept = copy(buffer, window[len(window)-maxStampBytes:])
	}
	versions = slices.Compact(slices.Sorted(slices.Values(versions)))
	switch len(versions) {
	case 0:
		return binary{fallback, h.Digest()}, nil
	case 1:
		return binary{versions[0], h.Digest()}, nil
	}
	return binary{}, fmt.Errorf("%w: it has several versions: %s", ErrBad, strings.Join(versions, ", "))
}
