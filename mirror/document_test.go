package mirror_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/mirror"
)

func encodeDocument(t testing.TB, d mirror.Document) []byte {
	t.Helper()
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestDocumentRoundTrip(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	newFixture(src)
	d := plan(t, newDestination(t), item(src, "1.0.0")).Document(json.RawMessage(`{"refs":["a"]}`))
	got, err := mirror.ParseDocument(encodeDocument(t, d))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got); diff != "" {
		t.Errorf("ParseDocument (-want +got):\n%s", diff)
	}
	again := plan(t, newDestination(t), item(src, "1.0.0")).Document(json.RawMessage(`{"refs":["a"]}`))
	if diff := cmp.Diff(d, again); diff != "" {
		t.Errorf("the same plan is written down differently (-first +second):\n%s", diff)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// between changes what was planned for.
		between             func(t *testing.T, src *store, f fixture, dst *destination)
		source, destination string // what the error says, "" for nothing
	}{
		{"nothing moved", func(*testing.T, *store, fixture, *destination) {}, "", ""},
		{"carried out before", func(t *testing.T, src *store, _ fixture, dst *destination) {
			if err := plan(t, dst, item(src, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, "", ""},
		{"the tag moved", func(_ *testing.T, src *store, f fixture, _ *destination) { src.tag(f.amd64, "1.0.0") }, "the plan has", ""},
		{"a new signature", func(_ *testing.T, src *store, f fixture, _ *destination) {
			src.image("late signature", &f.root, src.layer("late"))
		}, "the signatures or other referrers of example.com/shop:1.0.0 have changed", ""},
		{"a signature is gone", func(_ *testing.T, src *store, f fixture, _ *destination) {
			src.tag(f.childSig, scheme(f.root, ".sig"))
		}, "the signatures or other referrers of example.com/shop:1.0.0 have changed", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src, dst := newStore(t), newDestination(t)
			f := newFixture(src)
			d := plan(t, dst, item(src, "1.0.0")).Document(nil)
			tt.between(t, src, f, dst)
			err := plan(t, dst, item(src, "1.0.0")).Follow(d)
			if tt.source+tt.destination == "" {
				if err != nil {
					t.Errorf("Follow = %v, want nil", err)
				}
				return
			}
			var moved *mirror.MovedError
			if !errors.As(err, &moved) || !errors.Is(err, mirror.ErrMoved) {
				t.Fatalf("Follow = %v, want a MovedError", err)
			}
			if got := strings.Join(moved.Source, "\n"); !strings.Contains(got, tt.source) || tt.source == "" && got != "" {
				t.Errorf("source: %q, want %q", got, tt.source)
			}
			if got := strings.Join(moved.Destination, "\n"); !strings.Contains(got, tt.destination) || tt.destination == "" && got != "" {
				t.Errorf("destination: %q, want %q", got, tt.destination)
			}
		})
	}
}

// Content that was to be kept, or left to the base, is not copied unseen.
func TestFollowDestination(t *testing.T) {
	t.Parallel()
	src, full := newStore(t), newDestination(t)
	newFixture(src)
	if err := plan(t, full, item(src, "1.0.0")).Execute(t.Context(), mirror.ExecuteOptions{}); err != nil {
		t.Fatal(err)
	}
	d := plan(t, full, item(src, "1.0.0")).Document(nil)
	err := plan(t, newDestination(t), item(src, "1.0.0")).Follow(d)
	var moved *mirror.MovedError
	if !errors.As(err, &moved) || len(moved.Source) > 0 || len(moved.Destination) == 0 {
		t.Errorf("Follow with an empty destination = %v, want it to say what the destination lost", err)
	}
	delta, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{item(src, "1.0.0")}, mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(src, "1.0.0")}}}})
	if err != nil {
		t.Fatal(err)
	}
	err = plan(t, newDestination(t), item(src, "1.0.0")).Follow(delta.Document(nil))
	if !errors.As(err, &moved) || !strings.Contains(err.Error(), "no longer in the base") {
		t.Errorf("Follow without the base = %v, want it to say so", err)
	}
}

func TestParseDocumentRefuses(t *testing.T) {
	t.Parallel()
	const head = `{"apiVersion":"sealift/v1","kind":"Plan",`
	good := "sha256:" + strings.Repeat("a", 64)
	for name, tt := range map[string]struct {
		raw  string
		want error
	}{
		"no JSON":              {`x`, nil},
		"another version":      {`{"apiVersion":"sealift/v9","kind":"Plan"}`, errdef.ErrUnsupportedVersion},
		"a label":              {`{"apiVersion":"sealift/v1","kind":"Media"}`, errdef.ErrUnsupportedVersion},
		"root digest":          {head + `"roots":[{"name":"x","digest":"sha256:../x"}]}`, nil},
		"content digest":       {head + `"content":[{"digest":"md5:00","action":"copy"}]}`, nil},
		"size":                 {head + `"content":[{"digest":"` + good + `","size":-1,"action":"copy"}]}`, nil},
		"action":               {head + `"content":[{"digest":"` + good + `","size":1,"action":"delete"}]}`, nil},
		"a sum":                {head + `"bytes":2,"copyBytes":1,"content":[{"digest":"` + good + `","size":1,"action":"copy"}]}`, nil},
		"a sum of copies":      {head + `"bytes":1,"content":[{"digest":"` + good + `","size":1,"action":"copy"}]}`, nil},
		"sums that wrap":       {head + `"content":[` + strings.Repeat(`{"digest":"`+good+`","size":9223372036854775807,"action":"keep"},`, 2) + `{}]}`, nil},
		"content twice":        {head + `"content":[` + `{"digest":"` + good + `","size":0,"action":"keep"},{"digest":"` + good + `","size":0,"action":"copy"}]}`, nil},
		"base digest":          {head + `"roots":[{"name":"x","digest":"` + good + `","base":[{"name":"x","digest":""}]}]}`, nil},
		"left digest":          {head + `"left":[{"digest":"x"}]}`, nil},
		"an unknown key":       {head + `"Roots":[]}`, nil},
		"a key twice":          {head + `"roots":[],"roots":[]}`, nil},
		"kind in capitals":     {`{"apiVersion":"sealift/v1","kind":"Plan","KIND":"Plan"}`, nil},
		"unknown in a root":    {head + `"roots":[{"name":"x","Name":"y","digest":"` + good + `"}]}`, nil},
		"twice in a root":      {head + `"roots":[{"name":"x","name":"y","digest":"` + good + `"}]}`, nil},
		"twice in content":     {head + `"content":[{"digest":"` + good + `","size":0,"action":"copy","action":"keep"}]}`, nil},
		"twice in the request": {head + `"request":{"a":[{"destination":"x","destination":"y"}]}}`, nil},
		"more behind it":       {head + `"roots":[]}{}`, nil},
		"no version":           {`{}`, errdef.ErrUnsupportedVersion},
		"no object":            {`[]`, nil},
	} {
		if d, err := mirror.ParseDocument([]byte(tt.raw)); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: ParseDocument = %+v, %v, want error %v", name, d, err, tt.want)
		}
	}
}

// What is wrong at its beginning is not read to its end.
func TestParseDocumentEndsEarly(t *testing.T) { // not parallel: it counts what is allocated
	raw := []byte(`{"apiVersion":"sealift/v1","kind":"Plan","content":[` + strings.Repeat(`{},`, 1<<20) + `{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := mirror.ParseDocument(raw); err == nil {
		t.Error("ParseDocument = nil, want an error")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes are allocated for %d, want next to nothing", n, len(raw))
	}
}

// A plan that says something else than what is done is not followed, whatever it is.
func TestFollowRefusesLies(t *testing.T) {
	t.Parallel()
	src, base := newStore(t), newStore(t)
	amd64 := base.image("amd64", nil, base.layer("shared"))
	base.tag(amd64, "0.9.0")
	image := on(t, "linux/amd64", src.image("amd64", nil, src.layer("shared"), src.layer("new")))
	src.tag(src.index(nil, image, on(t, "linux/arm64", src.image("arm64", nil))), "1.0.0")
	it := item(src, "1.0.0")
	it.Platforms = []ocispec.Platform{*platformOf(t, "linux/amd64")}
	p, err := mirror.NewPlan(t.Context(), newDestination(t), []mirror.Item{it}, mirror.PlanOptions{Sites: []mirror.Site{{Items: []mirror.Item{item(base, "0.9.0")}}}})
	if err != nil {
		t.Fatal(err)
	}
	of := func(d *mirror.Document, action string) *mirror.DocumentStep {
		return &d.Content[slices.IndexFunc(d.Content, func(s mirror.DocumentStep) bool { return s.Action == action })]
	}
	for name, lie := range map[string]func(*mirror.Document){
		"size":               func(d *mirror.Document) { of(d, mirror.ActionCopy).Size++ },
		"part":               func(d *mirror.Document) { of(d, mirror.ActionCopy).Part = mirror.LabelReferrers },
		"root":               func(d *mirror.Document) { of(d, mirror.ActionCopy).Root = "other" },
		"left, to be copied": func(d *mirror.Document) { of(d, mirror.ActionLeave).Action = mirror.ActionCopy },
		"left, to be kept":   func(d *mirror.Document) { of(d, mirror.ActionLeave).Action = mirror.ActionKeep },
		"reason":             func(d *mirror.Document) { of(d, mirror.ActionLeave).Reason = "volume 1" },
		"no base":            func(d *mirror.Document) { d.Roots[0].Base = nil },
		"another base":       func(d *mirror.Document) { d.Roots[0].Base[0].Name = "other" },
		"nothing left":       func(d *mirror.Document) { d.Left = nil },
		"another platform":   func(d *mirror.Document) { d.Left[0].Platform = "linux/riscv64" },
	} {
		d := p.Document(nil)
		lie(&d)
		if err := p.Follow(d); !errors.Is(err, mirror.ErrMoved) {
			t.Errorf("%s: Follow = %v, want %v", name, err, mirror.ErrMoved)
		}
	}
	if err := p.Follow(p.Document(nil)); err != nil {
		t.Errorf("Follow of the truth = %v", err)
	}
}

// Of a root that is another one, nothing more is said.
func TestFollowMovedRoot(t *testing.T) {
	t.Parallel()
	src := newStore(t)
	f := newFixture(src)
	d := plan(t, newDestination(t), item(src, "1.0.0")).Document(nil)
	src.tag(f.amd64, "1.0.0")
	var moved *mirror.MovedError
	if err := plan(t, newDestination(t), item(src, "1.0.0")).Follow(d); !errors.As(err, &moved) || len(moved.Source) != 1 || len(moved.Destination) != 0 {
		t.Errorf("Follow = %v, want one sentence", err)
	}
}

func FuzzDocument(f *testing.F) {
	good := "sha256:" + strings.Repeat("a", 64)
	f.Add([]byte(`{"apiVersion":"sealift/v1","kind":"Plan","request":{"refs":["x"]},"roots":[{"name":"a.example/b:1","digest":"` + good + `"}],"bytes":1,"copyBytes":1,"content":[{"digest":"` + good + `","size":1,"action":"copy"}]}`))
	f.Add([]byte(`{"apiVersion":"sealift/v1","kind":"Plan"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := mirror.ParseDocument(raw)
		if err != nil {
			return
		}
		once := encodeDocument(t, d)
		again, err := mirror.ParseDocument(once)
		if err != nil {
			t.Fatalf("ParseDocument of what was parsed: %v", err)
		}
		if twice := encodeDocument(t, again); !bytes.Equal(once, twice) {
			t.Errorf("not stable: %s, then %s", once, twice)
		}
		if err := (&mirror.Plan{}).Follow(d); len(d.Content)+len(d.Roots) > 0 && !errors.Is(err, mirror.ErrMoved) {
			t.Errorf("an empty plan follows %s: %v", once, err)
		}
	})
}
