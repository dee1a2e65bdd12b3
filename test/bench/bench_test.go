//go:build real

package bench

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rounds is how often each command runs, in turn with the others.
const rounds = 3

// contender is one command of a comparison.
type contender struct {
	name string
	// script runs in an empty directory, by sh.
	script string
}

// race runs the contenders in turn and reports, for the first, the median time,
// its ratio to each other's median, and its peak memory.
func race(b *testing.B, bytes int64, contenders ...contender) {
	b.Helper()
	times := map[string][]float64{}
	var peak int64
	for range rounds {
		for _, c := range contenders {
			dir := b.TempDir()
			cmd := exec.CommandContext(b.Context(), "sh", "-ec", c.script)
			cmd.Dir = dir
			start := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%s: %v\n%s", c.name, err, out)
			}
			times[c.name] = append(times[c.name], time.Since(start).Seconds())
			if c.name == contenders[0].name {
				peak = max(peak, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
			}
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
		}
	}
	first := median(times[contenders[0].name])
	b.ReportMetric(0, "ns/op") // the whole is not one operation
	b.ReportMetric(first, "s")
	b.ReportMetric(float64(bytes)/first/1e6, "MB/s")
	b.ReportMetric(float64(peak)/1024, "peak-MiB")
	for _, c := range contenders[1:] {
		b.ReportMetric(first/median(times[c.name]), "x-"+c.name)
	}
}

func median(s []float64) float64 {
	s = slices.Clone(s)
	slices.Sort(s)
	return s[len(s)/2]
}

// sealift returns the built program.
func sealift(b *testing.B) string {
	b.Helper()
	path := filepath.Join(os.Getenv("SEALIFT_BUILD"), "sealift")
	if _, err := os.Stat(path); err != nil {
		b.Fatalf("SEALIFT_BUILD must name the directory of the built program: %v", err)
	}
	return path
}

// registry starts Debian's docker-registry over an empty directory.
func registry(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %s}\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for range 100 {
		if resp, err := http.Get("http://" + address + "/v2/"); err == nil {
			resp.Body.Close()
			return address
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("docker-registry does not answer")
	return ""
}

// push puts an artifact of layers of size bytes each, incompressible, into the
// registry.
func push(b *testing.B, ref string, layers int, size int64) {
	b.Helper()
	dir := b.TempDir()
	args := []string{"push", "--plain-http", ref}
	for i := range layers {
		name := fmt.Sprintf("l%d", i)
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyN(f, rand.Reader, size); err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
		args = append(args, name+":application/vnd.oci.image.layer.v1.tar")
	}
	cmd := exec.CommandContext(b.Context(), "oras", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("oras push: %v\n%s", err, out)
	}
}

// BenchmarkMirror copies 1 GiB in 8 layers onto a disk; the others are followed
// by sync, because sealift's copy has reached the disk when it returns.
func BenchmarkMirror(b *testing.B) {
	bin, host := sealift(b), registry(b)
	push(b, host+"/big:1", 8, 128<<20)
	race(b, 1<<30,
		contender{"sealift", bin + " mirror -q " + host + "/big:1 ./m"},
		contender{"crane", "crane pull --format oci " + host + "/big:1 m; sync -f m"},
		contender{"oras", "oras cp -r --from-plain-http " + host + "/big:1 --to-oci-layout m:1; sync -f m"},
	)
}

// BenchmarkMirrorSmall copies 60 small images, and then the same again.
func BenchmarkMirrorSmall(b *testing.B) {
	bin, host := sealift(b), registry(b)
	var refs, oras []string
	for i := range 60 {
		ref := fmt.Sprintf("%s/small/app%d:1", host, i)
		push(b, ref, 3, 20<<10)
		refs = append(refs, ref)
		oras = append(oras, "oras cp -r --from-plain-http "+ref+fmt.Sprintf(" --to-oci-layout m:app%d", i))
	}
	first := bin + " mirror -q " + strings.Join(refs, " ") + " ./m"
	peer := strings.Join(oras, "; ")
	b.Run("first", func(b *testing.B) {
		race(b, 60*3*20<<10, contender{"sealift", first}, contender{"oras", peer + "; sync -f m"})
	})
	b.Run("again", func(b *testing.B) {
		done := b.TempDir()
		cmd := exec.CommandContext(b.Context(), "sh", "-ec", first+"; mkdir o; cd o; "+peer)
		cmd.Dir = done
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		race(b, 60*3*20<<10, contender{"sealift", "cd " + done + "; " + first}, contender{"oras", "cd " + done + "/o; " + peer})
	})
}

// BenchmarkVerify reads 1 GiB on media; the bound is openssl hashing the same
// files on every core.
func BenchmarkVerify(b *testing.B) {
	bin, host := sealift(b), registry(b)
	push(b, host+"/big:1", 8, 128<<20)
	media := filepath.Join(b.TempDir(), "m")
	if out, err := exec.CommandContext(b.Context(), bin, "mirror", "-q", host+"/big:1", media).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	race(b, 1<<30,
		contender{"sealift", bin + " verify -q --signatures=false " + media},
		contender{"openssl", fmt.Sprintf("ls %s/blobs/sha256/* | xargs -n 1 -P %d openssl dgst -sha256", media, runtime.NumCPU())},
	)
}
