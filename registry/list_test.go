package registry_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/registry"
)

// pages follows Link headers and returns the value of key on each page.
func pages[T any](t *testing.T, base, path, key string) (all [][]T) {
	t.Helper()
	for path != "" {
		a := request(t, http.MethodGet, base+path)
		if a.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: status %d: %s", path, a.StatusCode, a.body)
		}
		var doc map[string]json.RawMessage
		var page []T
		if err := json.Unmarshal(a.body, &doc); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(doc[key], &page); err != nil || page == nil {
			t.Fatalf("GET %s: %s has no list %s", path, a.body, key)
		}
		all = append(all, page)
		path = ""
		if link := a.Header.Get("Link"); link != "" {
			next, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
			if !ok {
				t.Fatalf("Link %q", link)
			}
			path = next
		}
	}
	return all
}

func TestTags(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	d := repo.image(t, nil, "").Digest
	for _, tag := range []string{"b", "a", "c", "D", "1.0.0"} {
		repo.tags[tag] = d
	}
	c := catalog{"reg.example:5001/r": repo, "h/none": newRepository()}
	url := serve(t, c, registry.Options{PageSize: 3})
	const list = "/v2/reg.example__5001/r/tags/list"
	tests := []struct {
		name, path string
		want       [][]string
	}{
		{"default pages", list, [][]string{{"1.0.0", "D", "a"}, {"b", "c"}}},
		{"small pages", list + "?n=2", [][]string{{"1.0.0", "D"}, {"a", "b"}, {"c"}}},
		{"more than allowed", list + "?n=1000", [][]string{{"1.0.0", "D", "a"}, {"b", "c"}}},
		{"after a tag", list + "?last=a", [][]string{{"b", "c"}}},
		{"after no tag", list + "?last=aa", [][]string{{"b", "c"}}},
		{"after the end", list + "?last=z", [][]string{{}}},
		{"none wanted", list + "?n=0", [][]string{{}}},
		{"none there", "/v2/h/none/tags/list", [][]string{{}}},
		{"mirror", "/v2/r/tags/list?ns=reg.example:5001&n=3", [][]string{{"1.0.0", "D", "a"}, {"b", "c"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, pages[string](t, url, test.path, "tags")); diff != "" {
				t.Errorf("pages of %s (-want +got):\n%s", test.path, diff)
			}
		})
	}
	var doc struct{ Name string }
	if err := json.Unmarshal(request(t, http.MethodGet, url+list).body, &doc); err != nil || doc.Name != "reg.example__5001/r" {
		t.Errorf("name %q, %v", doc.Name, err)
	}
	for _, n := range []string{"-1", "x", "99999999999999999999"} {
		request(t, http.MethodGet, url+list+"?n="+n).wantError(t, http.StatusBadRequest, "PAGINATION_NUMBER_INVALID")
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	c := catalog{
		"docker.io/library/redis": newRepository(), "reg.example:5001/b": newRepository(), "[::1]:5001/a": newRepository(),
		"reg.example/Not/Legal": newRepository(),
	}
	url := serve(t, c, registry.Options{})
	want := []string{"docker.io/library/redis", "ip6-0-0-0-0-0-0-0-1__5001/a", "reg.example__5001/b"}
	for _, path := range []string{"/v2/_catalog", "/v2/_catalog?n=1", "/v2/_catalog?n=2"} {
		if diff := cmp.Diff(want, slices.Concat(pages[string](t, url, path, "repositories")...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if got := pages[string](t, serve(t, catalog{}, registry.Options{}), "/v2/_catalog", "repositories"); len(got) != 1 {
		t.Errorf("empty catalog: %v", got)
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	repo := newRepository()
	subject := repo.image(t, nil, "", []byte("layer"))
	sbom := repo.image(t, &subject, "application/spdx+json", []byte("sbom"))
	signature := repo.image(t, &subject, "application/vnd.dev.sigstore.bundle.v0.3+json", []byte("signature"))
	url := serve(t, catalog{"h/r": repo}, registry.Options{})
	base := "/v2/h/r/referrers/"

	digests := func(path string) []string {
		var got []string
		for _, d := range slices.Concat(pages[ocispec.Descriptor](t, url, path, "manifests")...) {
			got = append(got, d.Digest.String())
		}
		return got
	}
	both := []string{sbom.Digest.String(), signature.Digest.String()}
	slices.Sort(both)
	tests := []struct {
		name, query string
		want        []string
	}{
		{"all", subject.Digest.String(), both},
		{"empty filter", subject.Digest.String() + "?artifactType=", both},
		{"filtered", subject.Digest.String() + "?artifactType=application%2Fspdx%2Bjson", []string{sbom.Digest.String()}},
		{"filtered to nothing", subject.Digest.String() + "?artifactType=none", nil},
		{"none", sbom.Digest.String(), nil},
		{"unknown subject", absent.String(), nil},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, digests(base+test.query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}

	a := request(t, http.MethodGet, url+base+subject.Digest.String()+"?artifactType=x")
	if got := a.Header.Get("OCI-Filters-Applied"); got != "artifactType" {
		t.Errorf("OCI-Filters-Applied %q, want artifactType", got)
	}
	if got := a.Header.Get("Content-Type"); got != ocispec.MediaTypeImageIndex {
		t.Errorf("Content-Type %q, want %q", got, ocispec.MediaTypeImageIndex)
	}
	if got := request(t, http.MethodGet, url+base+subject.Digest.String()).Header.Get("OCI-Filters-Applied"); got != "" {
		t.Errorf("OCI-Filters-Applied %q without a filter", got)
	}
	request(t, http.MethodGet, url+base+"latest").wantError(t, http.StatusBadRequest, "DIGEST_INVALID")
	request(t, http.MethodGet, url+"/v2/h/none/referrers/"+absent.String()).wantError(t, http.StatusNotFound, "NAME_UNKNOWN")
}

// TestReferrersPages has more referrers than one answer may hold, by size and
// by number.
func TestReferrersPages(t *testing.T) {
	t.Parallel()
	const count = 60
	repo := newRepository()
	subject := digest.FromString("subject")
	for i := range count {
		repo.referrers[subject] = append(repo.referrers[subject], ocispec.Descriptor{
			MediaType:    ocispec.MediaTypeImageManifest,
			Digest:       digest.FromString(fmt.Sprint(i)),
			ArtifactType: "a/b",
			Annotations:  map[string]string{"page": strings.Repeat("<&>", 50_000)},
		})
	}
	// Twice the same: listed once.
	repo.referrers[subject] = append(repo.referrers[subject], repo.referrers[subject][0])
	for _, opts := range []registry.Options{{}, {PageSize: 7}} {
		url := serve(t, catalog{"h/r": repo}, opts)
		path := "/v2/h/r/referrers/" + subject.String() + "?artifactType=a%2Fb"
		if a := request(t, http.MethodGet, url+path); len(a.body) > 4<<20 {
			t.Errorf("a page of %d bytes, want at most 4 MiB", len(a.body))
		}
		got := pages[ocispec.Descriptor](t, url, path, "manifests")
		if len(got) < 2 || opts.PageSize > 0 && len(got) != (count+opts.PageSize-1)/opts.PageSize {
			t.Errorf("page size %d: %d pages", opts.PageSize, len(got))
		}
		if all := slices.Concat(got...); len(all) != count {
			t.Errorf("page size %d: %d referrers, want %d", opts.PageSize, len(all), count)
		}
	}
}
