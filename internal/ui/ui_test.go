package ui_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
)

// session runs the same output through a printer of each kind, in the time of a
// bubble.
func session(opts ui.Options) (out, errs string) {
	var stdout, stderr bytes.Buffer
	opts.Out, opts.Err = &stdout, &stderr
	p := ui.New(opts)
	p.Message("hello %s", "there")
	p.Warn("look out\x1b[2J")
	g := p.Progress("copying")
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("x"), Size: 3_000_000}
	g.Begin(mirror.Amount{Blobs: 2, Bytes: 4_000_000}, mirror.Amount{Blobs: 1, Bytes: blob.Size})
	g.Start(blob)
	for range 3 {
		time.Sleep(750 * time.Millisecond)
		g.Advance(blob, 1_000_000)
	}
	time.Sleep(3 * time.Second)
	g.Retrying(blob, errors.New("connection reset"), time.Second)
	g.Stored(blob)
	g.End()
	_ = p.Result(struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}{"done", "a<b"}, func(w io.Writer) { _, _ = io.WriteString(w, "all done\n") })
	p.Error(errors.Join(errors.New("first"), errors.New("second\a")), "do this", 12)
	return stdout.String(), stderr.String()
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	blob := `"digest":"` + digest.FromString("x").String() + `","size":3000000,"mediaType":"application/vnd.oci.image.layer.v1.tar"`
	retry := digest.FromString("x").Encoded()[:12] + ": connection reset; trying again in 1s"
	tests := []struct {
		name      string
		opts      ui.Options
		out, errs string
	}{
		{
			"plain", ui.Options{}, "all done\n",
			"hello there\n" +
				"warning: look out\uFFFD[2J\n" +
				"copying 4.0 MB of 4.0 MB, 100%, 600 kB/s, 0s left, 1 of 2 blobs\n" +
				retry + "\n" +
				"sealift: error: first\nsealift: error: second\uFFFD\nsealift: hint: do this\n",
		},
		{
			"quiet", ui.Options{Quiet: true}, "all done\n",
			"warning: look out\uFFFD[2J\n" +
				"sealift: error: first\nsealift: error: second\uFFFD\nsealift: hint: do this\n",
		},
		{
			"json", ui.Options{Format: ui.JSON, Terminal: true}, "{\n  \"apiVersion\": \"sealift/v1\",\n  \"type\": \"done\",\n  \"name\": \"a<b\"\n}\n",
			`{"type":"message","text":"hello there"}` + "\n" +
				`{"type":"warning","text":"look out\u001b[2J"}` + "\n" +
				`{"type":"blob","verb":"copying",` + blob + `,"state":"started"}` + "\n" +
				`{"type":"progress","verb":"copying","bytes":2000000,"total":4000000,"rate":1000000,"eta":2,"blobs":1,"totalBlobs":2}` + "\n" +
				`{"type":"progress","verb":"copying","bytes":3000000,"total":4000000,"rate":1000000,"eta":1,"blobs":1,"totalBlobs":2}` + "\n" +
				`{"type":"progress","verb":"copying","bytes":4000000,"total":4000000,"rate":1000000,"eta":0,"blobs":1,"totalBlobs":2}` + "\n" +
				`{"type":"progress","verb":"copying","bytes":4000000,"total":4000000,"rate":750000,"eta":0,"blobs":1,"totalBlobs":2}` + "\n" +
				`{"type":"progress","verb":"copying","bytes":4000000,"total":4000000,"rate":600000,"eta":0,"blobs":1,"totalBlobs":2}` + "\n" +
				`{"type":"blob","verb":"copying",` + blob + `,"state":"retrying","error":"connection reset","wait":1}` + "\n" +
				`{"type":"blob","verb":"copying",` + blob + `,"state":"stored"}` + "\n" +
				`{"type":"error","code":12,"error":"first\nsecond\u0007","hint":"do this"}` + "\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out, errs := session(tt.opts)
				if diff := cmp.Diff(tt.out, out); diff != "" {
					t.Errorf("stdout (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.errs, errs); diff != "" {
					t.Errorf("stderr (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	log := slog.New(ui.New(ui.Options{Out: io.Discard, Err: &stderr}).Handler())
	log.Info("not shown")
	log.With("blob", "sha256:1\x07").WithGroup("media").Error("corrupt", "dir", "/mnt")
	if got, want := stderr.String(), "warning: corrupt blob=sha256:1\uFFFD media.dir=/mnt\n"; got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "one": "one", "one\n": "one", "one\ntwo": "one …"} {
		if got := ui.Line(in); got != want {
			t.Errorf("Line(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "linux/arm/v7": "linux/arm/v7", "a b": "a b", "Überblick 概要": "Überblick 概要",
		"linux/a\n  signed by key 1": `"linux/a\n  signed by key 1"`,
		"a\tb":                       `"a\tb"`,
		"a\x1b[2Jb\u202eb":           `"a\x1b[2Jb\u202eb"`,
		"\u2066a\u2069":              `"\u2066a\u2069"`,
		"a\u200bb\ufeff":             `"a\u200bb\ufeff"`,
		"\u2028":                     `"\u2028"`,
	} {
		if got := ui.Value(in); got != want {
			t.Errorf("Value(%q) = %s, want %s", in, got, want)
		}
	}
}

// TestHidden writes what does not show as it stands to every output for people.
func TestHidden(t *testing.T) {
	t.Parallel()
	const odd = "a\u202eb\u200ec\u2067d\u200be\x1bf"
	const want = "a\uFFFDb\uFFFDc\uFFFDd\uFFFDe\uFFFDf"
	var out, stderr bytes.Buffer
	p := ui.New(ui.Options{Out: &out, Err: &stderr})
	if err := p.Result(nil, func(w io.Writer) { _, _ = io.WriteString(w, odd) }); err != nil {
		t.Fatal(err)
	}
	p.Message("%s", odd)
	p.Warn("%s", odd)
	p.Error(errors.New(odd), odd, 1)
	if out.String() != want {
		t.Errorf("result %q, want %q", out.String(), want)
	}
	if got, want := stderr.String(), want+"\nwarning: "+want+"\nsealift: error: "+want+"\nsealift: hint: "+want+"\n"; got != want {
		t.Errorf("messages %q, want %q", got, want)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9_949: "9.9 kB", 9_950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		2_147_483_648: "2.1 GB", 5_000_000_000_000: "5.0 TB", 5_000_000_000_000_000: "5000 TB",
	} {
		if got := ui.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// What could speak to a terminal is escaped in JSON, and means the same there.
func TestJSONShowsNothingHidden(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	p := ui.New(ui.Options{Out: &out, Err: &errs, Format: ui.JSON})
	const hostile = "a\u009b2J\u0085b\u202ec\x7fd\U000E0041é✓"
	if err := p.Result(map[string]string{"text": hostile}, nil); err != nil {
		t.Fatal(err)
	}
	p.Warn("%s", hostile)
	for _, text := range []string{out.String(), errs.String()} {
		if strings.ContainsAny(text, "\u009b\u0085\u202e\x7f\U000E0041") || !strings.Contains(text, "é✓") {
			t.Errorf("%q", text)
		}
		var doc struct{ Text string }
		if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.Text != hostile {
			t.Errorf("reads as %q, %v", doc.Text, err)
		}
	}
}
