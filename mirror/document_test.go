package mirror_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		}, "is new at the source", ""},
		{"a signature is gone", func(_ *testing.T, src *store, f fixture, _ *destination) {
			src.tag(f.childSig, scheme(f.root, ".sig"))
		}, "is no longer at the source", ""},
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
		"no JSON":         {`x`, nil},
		"another version": {`{"apiVersion":"sealift/v9","kind":"Plan"}`, errdef.ErrUnsupportedVersion},
		"a label":         {`{"apiVersion":"sealift/v1","kind":"Media"}`, errdef.ErrUnsupportedVersion},
		"root digest":     {head + `"roots":[{"name":"x","digest":"sha256:../x"}]}`, nil},
		"content digest":  {head + `"content":[{"digest":"md5:00","action":"copy"}]}`, nil},
		"size":            {head + `"content":[{"digest":"` + good + `","size":-1,"action":"copy"}]}`, nil},
		"action":          {head + `"content":[{"digest":"` + good + `","size":1,"action":"delete"}]}`, nil},
	} {
		if d, err := mirror.ParseDocument([]byte(tt.raw)); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: ParseDocument = %+v, %v, want error %v", name, d, err, tt.want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	good := "sha256:" + strings.Repeat("a", 64)
	f.Add([]byte(`{"apiVersion":"sealift/v1","kind":"Plan","request":{"refs":["x"]},"roots":[{"name":"a.example/b:1","digest":"` + good + `"}],"content":[{"digest":"` + good + `","size":1,"action":"copy"}]}`))
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
