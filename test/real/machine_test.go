//go:build real

package real

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// machine is a computer of its own, emulated: Debian's kernel with the drivers of
// USB and FAT, busybox, the program, two layouts to mirror from, and a socket for
// sticks. testdata/machine.sh is all that it does.
type machine struct {
	*process
	monitor net.Conn
	answers *json.Decoder
}

// drivers are the modules a stick needs; those they need come with them.
var drivers = []string{"xhci-pci.ko", "sd_mod.ko", "uas.ko", "vfat.ko", "nls_cp437.ko", "nls_ascii.ko", "nls_utf8.ko"}

// needMachine is need for what a machine is made of.
func needMachine(t testing.TB) (kernel string) {
	t.Helper()
	need(t, "qemu-system-x86_64", "busybox", "cpio", "mkfs.vfat", "fsck.vfat", "mcopy", "mdel", "mdir", "truncate")
	found, err := filepath.Glob(filepath.Join(build, "kernel", "boot", "vmlinuz-*"))
	switch {
	case err == nil && len(found) == 1 && runtime.GOARCH == "amd64":
		return found[0]
	case os.Getenv("CI") == "true":
		t.Fatalf("no kernel for this machine in %s/kernel (run make kernel)", build)
	}
	t.Skipf("no kernel for this machine in %s/kernel (run make kernel)", build)
	return ""
}

// newInitrd makes the file system the machine starts from, and returns its file.
func newInitrd(t testing.TB, kernel string, sources map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "proc", "sys", "dev", "modules", "stick", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := shell{}
	s.run(t, "cp", "testdata/machine.sh", filepath.Join(root, "init"))
	s.run(t, "chmod", "+x", filepath.Join(root, "init"))
	s.run(t, "sh", "-c", `cp "$(command -v busybox)" "$(command -v sealift)" "$0"`, filepath.Join(root, "bin"))
	for name, dir := range sources {
		s.run(t, "cp", "-r", dir, filepath.Join(root, name))
	}
	version := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	dir := filepath.Join(filepath.Dir(kernel), "..", "lib", "modules", version)
	var list strings.Builder
	for _, module := range modules(t, filepath.Join(dir, "modules.dep")) {
		s.run(t, "cp", filepath.Join(dir, module), filepath.Join(root, "modules"))
		fmt.Fprintln(&list, filepath.Base(module))
	}
	if err := os.WriteFile(filepath.Join(root, "modules", "list"), []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(t.TempDir(), "initrd")
	s.run(t, "sh", "-c", `cd "$0" && find . | cpio -o -H newc --quiet >"$1"`, root, initrd)
	return initrd
}

// modules returns the files of the drivers, each behind those it needs.
func modules(t testing.TB, dependencies string) []string {
	t.Helper()
	data, err := os.ReadFile(dependencies)
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string][]string{} // of each module's file, the nearest first
	files := map[string]string{}
	for line := range strings.Lines(string(data)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[file], files[filepath.Base(file)] = strings.Fields(rest), file
	}
	var list []string
	listed := map[string]bool{}
	for _, driver := range drivers {
		file, ok := files[driver]
		if !ok {
			t.Fatalf("the kernel has no module %s", driver)
		}
		chain := append([]string{file}, needs[file]...)
		for i := len(chain) - 1; i >= 0; i-- {
			if !listed[chain[i]] {
				list, listed[chain[i]] = append(list, chain[i]), true
			}
		}
	}
	return list
}

// bytesPerSecond is how fast a stick is written to, as a cheap one is.
const bytesPerSecond = 8 << 20

// newMachine starts a machine. The sticks are files of disks, by names they can
// be put in under.
func newMachine(t testing.TB, kernel, initrd string, sticks map[string]string) *machine {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "monitor")
	argv := []string{"qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-nographic", "-no-reboot",
		"-serial", "stdio", "-qmp", "unix:" + socket + ",server=on,wait=off",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1",
		"-device", "qemu-xhci,id=usb", "-object", fmt.Sprintf("throttle-group,id=slow,x-bps-write=%d", bytesPerSecond)}
	for name, file := range sticks {
		argv = append(argv, "-blockdev", "driver=file,node-name="+name+"-file,filename="+file,
			"-blockdev", "driver=raw,node-name="+name+"-raw,file="+name+"-file",
			"-blockdev", "driver=throttle,throttle-group=slow,node-name="+name+",file="+name+"-raw")
	}
	m := &machine{process: shell{}.start(t, argv...)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("a machine said:\n%s", m.log)
		}
	})
	m.until(t, "its monitor answers", func() (ok bool) {
		var err error
		m.monitor, err = new(net.Dialer).DialContext(t.Context(), "unix", socket)
		return err == nil
	})
	t.Cleanup(func() { _ = m.monitor.Close() }) // it may be gone with the machine
	if err := m.monitor.SetDeadline(time.Now().Add(10 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	m.answers = json.NewDecoder(m.monitor)
	m.do(t, "qmp_capabilities", "", nil)
	return m
}

// do has the monitor carry out a command, and waits for its answer or for an
// event, if one is named.
func (m *machine) do(t testing.TB, command, event string, arguments map[string]string) {
	t.Helper()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.monitor).Encode(request); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, m.log)
	}
	for answered, happened := false, event == ""; !answered || !happened; {
		var answer struct {
			Return, Error json.RawMessage
			Event         string
		}
		if err := m.answers.Decode(&answer); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, m.log)
		}
		if answer.Error != nil {
			t.Fatalf("%s: %s", command, answer.Error)
		}
		answered = answered || answer.Return != nil
		happened = happened || answer.Event == event
	}
}

// plug puts a stick in.
func (m *machine) plug(t testing.TB, stick string) {
	t.Helper()
	m.do(t, "device_add", "", map[string]string{"driver": "usb-storage", "bus": "usb.0", "id": "socket", "drive": stick})
}

// pull takes the stick out, whatever is being done with it, and waits until the
// machine has noticed.
func (m *machine) pull(t testing.TB) {
	t.Helper()
	outs := m.said("stick: out")
	m.do(t, "device_del", "DEVICE_DELETED", map[string]string{"id": "socket"})
	m.waitFor(t, "stick: out", outs+1)
}

// said counts how often the machine has said something.
func (m *machine) said(text string) int { return strings.Count(m.log.String(), text) }

// waitFor waits until the machine has said something so many times.
func (m *machine) waitFor(t testing.TB, text string, times int) {
	t.Helper()
	m.until(t, fmt.Sprintf("%q, %d times", text, times), func() bool { return m.said(text) >= times })
}

// until waits for what the machine is doing.
func (m *machine) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		select {
		case <-m.done:
			t.Fatalf("the machine ended before %s\n%s", what, m.log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v\n%s", what, patience, m.log)
		}
	}
}
