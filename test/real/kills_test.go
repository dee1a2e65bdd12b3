//go:build real

package real

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const (
	// kills are tried at most, for at most killing. $SEALIFT_KILLS, if it is set,
	// is tried however long it takes.
	kills   = 200
	killing = time.Minute
)

// killer kills mirror at random moments.
type killer struct {
	*vendor
	random  *rand.Rand
	line    *proxy
	base    string        // media as they were before
	want    string        // and as they become undisturbed
	mirror  []string      // the command, without its destination
	signed  string        // the repository of what base holds
	content int64         // bytes that the command fetches
	takes   time.Duration // undisturbed

	left     int
	deadline time.Time // zero for none
}

// TestManyKills kills mirror hundreds of times, from its start to its end, over
// small content and a fast line. Each time it is run again, until it is done, and
// then begun anew. The moments follow from $SEALIFT_SEED, which is random by
// default.
func TestManyKills(t *testing.T) {
	need(t, "docker-registry", "curl", "oras", "diff", "cp")
	k := &killer{vendor: newVendor(t, shell{}), left: kills, deadline: time.Now().Add(killing)}
	if n := number(t, "SEALIFT_KILLS", 0); n > 0 {
		k.left, k.deadline = int(n), time.Time{}
	}
	seed := number(t, "SEALIFT_SEED", uint64(time.Now().UnixNano()))
	k.random = rand.New(rand.NewPCG(seed, 0))
	base, _ := k.pushRandom(t, "base:1", 4, 256<<10)
	k.run(t, "sealift", "sign", "-q", base, "--key", k.key)
	small, smallContent := k.pushRandom(t, "small:1", 48, 64<<10)
	large, largeContent := k.pushRandom(t, "large:1", workers, 3<<20)
	k.content = smallContent + largeContent
	k.line = newProxy(t, k.registry, 1<<30)
	through := func(ref string) string { return k.line.address + ref[len(k.registry):] }
	k.base, k.signed = k.vendor.mirror(t, through(base)), k.line.address+"/base"
	k.mirror = []string{"sealift", "mirror", "-q", through(small), through(large)}
	k.want = k.vendor.mirror(t, through(base))
	begun := time.Now()
	k.run(t, append(k.mirror, k.want)...)
	k.takes = time.Since(begun)

	rounds, before := 0, k.line.sent.Load()
	for k.more() && !t.Failed() {
		k.round(t)
		rounds++
	}
	killed := kills - k.left
	if n := number(t, "SEALIFT_KILLS", 0); n > 0 {
		killed = int(n) - k.left
	}
	t.Logf("seed %d: %d kills in %d rounds, %d bytes sent again", seed, killed, rounds, k.line.sent.Load()-before-int64(rounds)*k.content)
	if killed < kills/10 {
		t.Errorf("%d kills in %v are too few to tell anything", killed, killing)
	}
}

// number reads a variable of the environment.
func number(t testing.TB, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("$%s: %v", name, err)
	}
	return n
}

// more reports whether another kill is to be tried.
func (k *killer) more() bool {
	return k.left > 0 && (k.deadline.IsZero() || time.Now().Before(k.deadline))
}

// round begins from base and ends with media as they would be undisturbed.
func (k *killer) round(t testing.TB) {
	t.Helper()
	media := filepath.Join(t.TempDir(), "media")
	k.run(t, "cp", "-r", k.base, media)
	defer k.run(t, "rm", "-r", media)
	start, left := k.line.sent.Load(), k.left
	for k.more() && k.kill(t, media, start) {
		k.left--
		checkBlobs(t, media)
		k.run(t, "sealift", "verify", "-q", media+"//"+k.signed, "--key", k.pub)
	}
	k.run(t, append(k.mirror, media)...)
	sameMedia(t, k.shell, k.want, media)
	again, most := k.line.sent.Load()-start-k.content, int64(left-k.left+1)*workers*refetched
	if again < 0 || again > most {
		t.Errorf("%d bytes were sent again over %d kills, want at most %d", again, left-k.left, most)
	}
}

// kill runs mirror and kills it: behind a random number of the bytes that are
// still to come and, since much happens when all have come, a random time. It
// reports whether mirror was not faster.
func (k *killer) kill(t testing.TB, media string, start int64) bool {
	t.Helper()
	sent := k.line.sent.Load()
	limit := sent + k.random.Int64N(max(1, start+k.content-sent))
	wait := time.Duration(k.random.Int64N(int64(k.takes / 4)))
	p := k.start(t, append(k.mirror[:len(k.mirror):len(k.mirror)], media)...)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for k.line.sent.Load() < limit {
		select {
		case <-p.done:
			return k.ended(t, p)
		case <-tick.C:
		}
	}
	select {
	case <-p.done:
		return k.ended(t, p)
	case <-time.After(wait):
	}
	p.kill()
	return !p.cmd.ProcessState.Success()
}

// ended fails the test unless mirror ended well.
func (k *killer) ended(t testing.TB, p *process) bool {
	t.Helper()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after a kill: exit status %d\n%s", code, p.log)
	}
	return false
}
