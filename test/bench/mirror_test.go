//go:build real

package bench

import (
	"compress/gzip"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// distribution starts Debian's docker-registry over an empty directory.
func distribution(b *testing.B) string {
	b.Helper()
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
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
	for range 200 {
		if resp, err := http.Get("http://" + address + "/v2/"); err == nil {
			resp.Body.Close()
			return address
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("docker-registry does not answer")
	return ""
}

// push puts an image into a registry whose layers cannot be compressed, in an
// envelope of gzip, so that no tool compresses them.
func push(b *testing.B, ref string, layers int, size int64) {
	b.Helper()
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`), 0o600); err != nil {
		b.Fatal(err)
	}
	args := []string{"push", "--no-tty", "--plain-http", "--config", "config.json:" + ocispec.MediaTypeImageConfig, ref}
	for i := range layers {
		name := fmt.Sprintf("l%d", i)
		if err := randomLayer(filepath.Join(dir, name), size); err != nil {
			b.Fatal(err)
		}
		args = append(args, name+":"+ocispec.MediaTypeImageLayerGzip)
	}
	cmd := exec.CommandContext(b.Context(), "oras", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("oras push: %v\n%s", err, out)
	}
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
}

func randomLayer(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	z, err := gzip.NewWriterLevel(f, gzip.NoCompression)
	if err == nil {
		_, err = io.CopyN(z, rand.NewChaCha8(seed), size)
		err = errors.Join(err, z.Close())
	}
	return errors.Join(err, f.Close())
}

// largeBytes is the content of the comparisons of throughput.
func largeBytes() int64 {
	if testing.Short() {
		return 256 << 20
	}
	return 2 << 30
}

// oursUnsynced is sealift with a kernel that says it has flushed and has not, as
// nobody should run it: what it does not take is the cost of reaching the disk. The
// tracer that says so takes some time itself.
const (
	oursUnsynced = "sealift without fsync"
	unsynced     = "strace -f --seccomp-bpf -qq -o /dev/null -e trace=fsync,sync_file_range -e inject=fsync,sync_file_range:retval=0 "
)

// BenchmarkMirror copies one large image onto a disk, as the others do, and once
// more with a sync behind crane: what sealift copied has reached the disk when it
// returns.
func BenchmarkMirror(b *testing.B) {
	bin, host := sealift(b), distribution(b)
	push(b, host+"/big:1", 8, largeBytes()/8)
	mirror := bin + " mirror -q --no-readback " + host + "/big:1 ./m"
	crane := "crane pull --insecure --format oci " + host + "/big:1 m"
	r := race(b,
		contender{name: ours, script: mirror},
		contender{name: oursUnsynced, script: unsynced + mirror},
		contender{name: "crane", script: crane},
		contender{name: "oras", script: "oras cp --no-tty --from-plain-http " + host + "/big:1 --to-oci-layout m:1"},
		contender{name: "regctl", script: "regctl --host reg=" + host + ",tls=disabled image copy " + host + "/big:1 ocidir://m:1"},
		contender{name: "skopeo", script: "skopeo copy -q --insecure-policy --src-tls-verify=false docker://" + host + "/big:1 oci:m:1"},
		contender{name: "crane+sync", script: crane + "; sync -f m"},
	)
	recordRatio(b, rowMirror, r, 1.05, oursUnsynced, "crane", "oras", "regctl", "skopeo")
	recordRatio(b, rowMirrorSync, r, 1.05, ours, "crane+sync")
	recordRatio(b, rowMirrorBoth, r, 0, ours, "crane", "oras", "regctl", "skopeo")
	record(b, rowMirrorRAM, "", r.peak(), 64, "MiB", "largest of all runs")
	written := r.each(ours, func(u usage) float64 { return float64(u.Written) / float64(largeBytes()) })
	record(b, rowWritten, "content", written[len(written)-1], 1.01, "×", "as the kernel counts what a process dirties")
}

// BenchmarkMirrorSmall copies 60 small images, and then the same again. Where a
// signature has no referrer only its tag tells of it, and nobody but sealift asks for
// these; a contender asks for them behind oras, all at once, and does nothing with
// the answers.
func BenchmarkMirrorSmall(b *testing.B) {
	const images = 60
	bin, host := sealift(b), distribution(b)
	var refs, tags []string
	for i := range images {
		tag := fmt.Sprintf("app%d", i)
		push(b, host+"/small:"+tag, 2, 20<<10)
		refs, tags = append(refs, host+"/small:"+tag), append(tags, tag)
	}
	backup := "oras backup --no-tty --plain-http -o m "
	all := host + "/small:" + strings.Join(tags, ",")
	withReferrers := backup + "--include-referrers " + all
	contenders := []contender{
		{name: ours, script: bin + " mirror -q --no-readback " + strings.Join(refs, " ") + " ./m"},
		{name: "oras backup with referrers", script: withReferrers},
		{name: "oras backup with referrers, and the questions for signature tags", script: withReferrers + "; curl -s -Z --parallel-max 16 -I -K " + signatureQuestions(b, host, "small", tags)},
		{name: "oras backup", script: backup + all},
		{name: oursUnsynced, script: unsynced + bin + " mirror -q --no-readback " + strings.Join(refs, " ") + " ./m"},
	}
	b.Run("first", func(b *testing.B) {
		r := race(b, contenders...)
		recordRatio(b, rowSmall, r, 0.8, ours, contenders[1].name)
		recordRatio(b, rowSmallAsked, r, 0.8, ours, contenders[2].name)
		b.Log(r.detail(contenders[3].name, contenders[4].name))
	})
	b.Run("again", func(b *testing.B) {
		for i := range contenders {
			contenders[i].dir = b.TempDir()
			if _, err := measure(b, contenders[i].dir, contenders[i].script); err != nil {
				b.Fatal(err)
			}
		}
		r := race(b, contenders[:4]...)
		recordRatio(b, rowSmallAgain, r, 1, ours, contenders[1].name)
		recordRatio(b, rowAgainAsked, r, 1, ours, contenders[2].name)
		b.Log(r.detail(contenders[3].name))
	})
}

// signatureQuestions writes a configuration of curl that asks for the signature tags
// of each manifest, and returns its path.
func signatureQuestions(b *testing.B, host, repository string, tags []string) string {
	b.Helper()
	var config strings.Builder
	base := "http://" + host + "/v2/" + repository + "/manifests/"
	for _, tag := range tags {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodHead, base+tag, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
		digest := strings.Replace(resp.Header.Get("Docker-Content-Digest"), ":", "-", 1)
		if resp.StatusCode != http.StatusOK || digest == "" {
			b.Fatalf("%s: %s", tag, resp.Status)
		}
		for _, suffix := range []string{".sig", ".att", ".sbom"} {
			fmt.Fprintf(&config, "url = \"%s%s%s\"\noutput = \"/dev/null\"\n", base, digest, suffix)
		}
	}
	path := filepath.Join(b.TempDir(), "questions")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkMemory copies much content that no one has to store twice.
func BenchmarkMemory(b *testing.B) {
	size := largeBytes()
	if os.Getenv("SEALIFT_BENCH_LARGE") != "" {
		size = 10 << 30
	}
	g := generate(b, 1, 9, size/8)
	u, err := measure(b, b.TempDir(), sealift(b)+" mirror -q "+g.ref+" ./m")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	record(b, rowLargeRAM, "", mib(u.Peak), 64, "MiB", fmt.Sprintf("%d MiB in 8 layers, %.1f s", size>>20, u.Seconds))
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// BenchmarkMany copies ever more small blobs and verifies them. They are kept in
// memory where that is possible, so that what grows is the program's work and not
// the disk's.
func BenchmarkMany(b *testing.B) {
	bin := sealift(b)
	counts := []int{1_000, 10_000, 100_000}
	if testing.Short() {
		counts = counts[:2]
	}
	var copied, verified []usage
	for _, n := range counts {
		g := generate(b, n/1_000, 1_000, 1<<10)
		dir, where := memoryDir(b)
		one := func(script string) usage {
			u, err := measure(b, dir, script)
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("%d blobs in %s: %s: %.2f s, %.0f ms per 1,000, CPU %.2f s, peak %.0f MiB", n, where, strings.Fields(script)[1], u.Seconds, u.Seconds*1e6/float64(n), u.CPU, mib(u.Peak))
			return u
		}
		copied = append(copied, one(bin+" mirror -q "+g.ref+" ./m"))
		verified = append(verified, one(bin+" verify -q --signatures=false ./m"))
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(0, "ns/op")
	if testing.Short() {
		for _, name := range []string{rowManyRAM, rowManyGrowth, rowVerifyRAM, rowVerifyGrow} {
			row{name: name, missing: "not with -short"}.record()
		}
		return
	}
	for _, part := range []struct {
		ram, growth string
		runs        []usage
	}{{rowManyRAM, rowManyGrowth, copied}, {rowVerifyRAM, rowVerifyGrow, verified}} {
		record(b, part.ram, "", mib(part.runs[2].Peak), 128, "MiB", fmt.Sprintf("%.0f and %.0f MiB at 1,000 and 10,000", mib(part.runs[0].Peak), mib(part.runs[1].Peak)))
		record(b, part.growth, "1,000", part.runs[2].CPU/100/part.runs[0].CPU, 1.5, "×", fmt.Sprintf("%.2f, %.2f, %.2f s per 1,000 at 1,000, 10,000, 100,000 (CPU %.2f, %.2f, %.2f)",
			part.runs[0].Seconds, part.runs[1].Seconds/10, part.runs[2].Seconds/100, part.runs[0].CPU, part.runs[1].CPU/10, part.runs[2].CPU/100))
	}
}

// memoryDir makes a directory in memory, or where there is none, on the disk.
func memoryDir(b *testing.B) (dir, where string) {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "bench") //nolint:usetesting // b.TempDir is on the disk
	if err != nil {
		return b.TempDir(), "files on the disk"
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir, "memory"
}

// BenchmarkKill kills mirror again and again while large layers arrive.
func BenchmarkKill(b *testing.B) {
	const (
		workers = 4 // copies at once, mirror's default
		kills   = 5
	)
	bin := sealift(b)
	g := generate(b, 1, workers+1, 80<<20)
	g.rate = 160 << 20
	dir := b.TempDir()
	for n := range int64(kills) {
		cmd := exec.Command(bin, "mirror", "-q", g.ref, "./m")
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for limit := g.sent.Load() + g.size/6 + n<<20; g.sent.Load() < limit; time.Sleep(time.Millisecond) {
			select {
			case err := <-ended:
				b.Fatalf("mirror ended before kill %d: %v", n, err)
			default:
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			b.Fatal(err)
		}
		<-ended
	}
	if _, err := measure(b, dir, bin+" mirror -q "+g.ref+" ./m; "+bin+" verify -q --signatures=false ./m"); err != nil {
		b.Fatal(err)
	}
	content := int64(0)
	for _, c := range g.blobs {
		content += c.size
	}
	again := g.sent.Load() - content
	b.ReportMetric(0, "ns/op")
	record(b, rowKill, "", mib(again)/workers/kills, 8, "MiB", fmt.Sprintf("%d bytes over %d kills of %d workers, what was under way in the sockets included", again, kills, workers))
}

// BenchmarkVerify reads a large image on media; the bound is openssl hashing the
// same files on every core.
func BenchmarkVerify(b *testing.B) {
	bin := sealift(b)
	g := generate(b, 1, 9, largeBytes()/8)
	media := filepath.Join(b.TempDir(), "m")
	run(b, bin, "mirror", "-q", g.ref, media)
	r := race(b,
		contender{name: ours, script: bin + " verify -q --signatures=false " + media},
		contender{name: "openssl", script: hashAll(media)},
	)
	recordRatio(b, rowVerify, r, 1.1, ours, "openssl")
}
