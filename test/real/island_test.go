//go:build real

package real

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// island is a machine without a network: namespaces of its own, in which lo is
// the only interface and no mount is seen outside. They vanish with the last
// process in them.
type island struct {
	shell
	owner  testing.TB // whose end is the island's
	dir    string     // what the island keeps
	engine *process
}

// newIsland makes an island.
func newIsland(t testing.TB) *island {
	t.Helper()
	dir := t.TempDir()
	holder := hold(t, "--net", "--mount", "sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /run && "+ready)
	i := &island{owner: t, dir: dir}
	i.pid = holder
	i.env = []string{"SEALIFT_HOME=" + dir + "/home", "DOCKER_HOST=unix://" + dir + "/docker.sock"}
	if out := i.run(t, "ip", "-brief", "link"); len(strings.Split(out, "\n")) != 1 {
		t.Fatalf("the island has more than lo:\n%s", out)
	}
	return i
}

// ready is what the program in new namespaces does last.
const ready = "echo ready && exec sleep infinity"

// hold makes namespaces by unshare's arguments and returns the process that keeps
// them until the test ends.
func hold(t testing.TB, unshare ...string) (pid int) {
	t.Helper()
	holder := shell{}.start(t, append([]string{"unshare"}, unshare...)...)
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(holder.log.String(), "ready"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no namespaces: %s", holder.log)
		}
	}
	return holder.cmd.Process.Pid
}

// startEngine starts a Docker engine, with containerd below it. It runs until it
// is stopped or the island's test ends.
func (i *island) startEngine(t testing.TB) {
	t.Helper()
	i.engine = i.start(i.owner, "dockerd", "--data-root", i.dir+"/data", "--exec-root", i.dir+"/exec",
		"--pidfile", i.dir+"/docker.pid", "--host", "unix://"+i.dir+"/docker.sock")
	i.engine.await(t, i.shell, "docker", "version")
}

// containerd is the address of the engine's containerd.
func (i *island) containerd() string { return i.dir + "/exec/containerd/containerd.sock" }

// mountReadOnly returns where a directory is seen, on the island, as read-only.
func (i *island) mountReadOnly(t testing.TB, dir string) string {
	t.Helper()
	at := filepath.Join(i.dir, "read-only")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	i.run(t, "mount", "--bind", dir, at)
	i.run(t, "mount", "-o", "remount,bind,ro", at)
	if r := i.try(t, "touch", at+"/written"); r.code == 0 {
		t.Fatalf("%s can be written to", at)
	}
	return at
}

// serve serves media on the island until the test ends.
func (i *island) serve(t testing.TB, media, address string) *process {
	t.Helper()
	p := i.start(t, "sealift", "serve", media, "--listen", address)
	p.await(t, i.shell, "curl", "-fsS", "http://"+address+"/v2/")
	return p
}

// listing describes every file below dir: names, modes, sizes and times.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
