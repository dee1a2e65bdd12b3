package remote_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/remote/remotetest"
)

// host is a registry of the network in memory, reached by plain HTTP.
const host = "127.0.0.1:5000"

// repository opens HOST/shop as a client in net sees it.
func repository(t *testing.T, net *remotetest.Network, opts remote.Options) *remote.Repository {
	t.Helper()
	opts.Transport = net.Transport()
	repo, err := newClient(t, opts).Repository(host + "/shop")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func describe(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// blobPath is what a registry is asked for the blob of data.
func blobPath(data []byte) string {
	return "GET /v2/shop/blobs/" + digest.FromBytes(data).String()
}

func TestFetchFrom(t *testing.T) {
	t.Parallel()
	data := []byte("0123456789")
	get := blobPath(data)
	ranged := map[string]string{"Range": "bytes=6-"}
	whole := map[string]string{"Range": ""}
	tests := []struct {
		name   string
		offset int64
		script []remotetest.Exchange
		want   string // the content
		err    string // or what the error says
	}{
		{"whole", 0, []remotetest.Exchange{exchange(get, whole, 1, remotetest.Content(data))}, "0123456789", ""},
		{"whole without length", 0, []remotetest.Exchange{exchange(get, whole, 1, remotetest.Chunked(data))}, "0123456789", ""},
		{"range", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Content(data))}, "6789", ""},
		{"range of unknown length", 6, []remotetest.Exchange{exchange(get, ranged, 1, partial("bytes 6-9/*", "6789"))}, "6789", ""},
		{"no ranges", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Whole(data))}, "6789", ""},
		{"another range", 6, []remotetest.Exchange{
			exchange(get, ranged, 1, partial("bytes 0-9/10", "0123456789")), exchange(get, whole, 1, remotetest.Content(data))}, "6789", ""},
		{"range of another length", 6, []remotetest.Exchange{
			exchange(get, ranged, 1, partial("bytes 6-9/20", "6789")), exchange(get, whole, 1, remotetest.Content(data))}, "6789", ""},
		{"range without a word", 6, []remotetest.Exchange{
			exchange(get, ranged, 1, partial("", "6789")), exchange(get, whole, 1, remotetest.Content(data))}, "6789", ""},
		{"no such range", 6, []remotetest.Exchange{
			exchange(get, ranged, 1, remotetest.Status(http.StatusRequestedRangeNotSatisfiable)), exchange(get, whole, 1, remotetest.Content(data))}, "6789", ""},
		{"no such range of a shorter blob", 6, []remotetest.Exchange{
			exchange(get, ranged, 1, remotetest.Content(data[:3])), exchange(get, whole, 1, remotetest.Content(data[:3]))}, "", "has 3 bytes of it, want 10"},
		{"only ranges", 6, []remotetest.Exchange{
			exchange(get, ranged, 1, partial("bytes 0-0/1", "0")), exchange(get, whole, 1, partial("bytes 6-9/10", "6789"))}, "", `asked for the whole blob, got "bytes 6-9/10"`},
		{"a part unasked", 0, []remotetest.Exchange{exchange(get, whole, 1, partial("bytes 0-3/10", "0123"))}, "", `asked for the whole blob, got "bytes 0-3/10"`},
		{"nothing left", 10, nil, "", ""},
		{"too long", 0, []remotetest.Exchange{exchange(get, whole, 1, remotetest.Content(append(data, 'x')))}, "", "has 11 bytes of it, want 10"},
		{"another digest", 0, []remotetest.Exchange{
			exchange(get, whole, 1, remotetest.Content(data, "Docker-Content-Digest", digest.FromString("x").String()))}, "", "answers with content"},
		{"gone", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Status(http.StatusNotFound))}, "", "not found"},
		{"refused", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Status(http.StatusForbidden))}, "", "response status code 403: Forbidden"},
		{"short while skipping", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Chunked(data[:3]))}, "", "unexpected EOF"},
		{"cut while skipping", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Cut(3, remotetest.Whole(data)))}, "", "unexpected EOF"},
		{"cut", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Cut(2, remotetest.Content(data)))}, "67", "unexpected EOF"},
		{"reset", 6, []remotetest.Exchange{exchange(get, ranged, 1, remotetest.Reset(2, remotetest.Content(data)))}, "67", "connection reset by peer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				net := remotetest.NewNetwork(t)
				net.Serve(host, tt.script...)
				got, err := readFrom(t, repository(t, net, remote.Options{}), describe(data), tt.offset)
				if got != tt.want || (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("FetchFrom gives %q, %v, want %q, %q", got, err, tt.want, tt.err)
				}
			})
		})
	}
}

// A blob without bytes has to be there too.
func TestFetchEmpty(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{"": remotetest.Content(nil), "not found": remotetest.Status(http.StatusNotFound)} {
		synctest.Test(t, func(t *testing.T) {
			net := remotetest.NewNetwork(t)
			net.Serve(host, exchange(blobPath(nil), map[string]string{"Range": ""}, 1, answer))
			got, err := readFrom(t, repository(t, net, remote.Options{}), describe(nil), 0)
			if got != "" || (name == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("FetchFrom gives %q, %v, want nothing, %q", got, err, name)
			}
		})
	}
}

// exchange is one of a script: times is how often, < 0 for as often as it comes.
func exchange(request string, header map[string]string, times int, answer http.HandlerFunc) remotetest.Exchange {
	return remotetest.Exchange{Request: request, Header: header, Times: times, Answer: answer}
}

// partial answers with a part of a blob and what it says to be.
func partial(contentRange, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, body)
	}
}

func readFrom(t *testing.T, repo *remote.Repository, desc ocispec.Descriptor, offset int64) (string, error) {
	t.Helper()
	rc, err := repo.FetchFrom(t.Context(), desc, offset)
	if err != nil {
		return "", err
	}
	got, err := io.ReadAll(rc)
	return string(got), errors.Join(err, rc.Close())
}

// Where a registry wants a token first and keeps its blobs elsewhere, the range is
// asked for there, and the token stays behind.
func TestFetchFromStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := []byte("0123456789")
		get := blobPath(data)
		net := remotetest.NewNetwork(t)
		registry := net.Serve(host,
			exchange(get, map[string]string{"Authorization": "", "Range": "bytes=6-"}, 1,
				remotetest.Status(http.StatusUnauthorized, "WWW-Authenticate", `Bearer realm="http://`+host+`/token",service="s"`)),
			exchange("GET /token?scope=repository%3Ashop%3Apull&service=s", nil, 1,
				func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"token":"t0ken"}`) }),
			exchange(get, map[string]string{"Authorization": "Bearer t0ken", "Range": "bytes=6-"}, 1,
				remotetest.Status(http.StatusTemporaryRedirect, "Location", "https://storage.example/b?sig=1")),
		)
		net.Serve("storage.example:443",
			exchange("GET /b?sig=1", map[string]string{"Authorization": "", "Range": "bytes=6-", "Referer": ""}, 1, remotetest.Content(data)))
		if got, err := readFrom(t, repository(t, net, remote.Options{}), describe(data), 6); got != "6789" || err != nil {
			t.Errorf("FetchFrom gives %q, %v, want 6789", got, err)
		}
		if diff := cmp.Diff([]string{get, "GET /token?scope=repository%3Ashop%3Apull&service=s", get}, registry.Asked()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// At most so many blobs of a registry are open at once; questions and uploads do
// not wait for them.
func TestMaxFetches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := []byte("0123456789")
		net := remotetest.NewNetwork(t)
		const other = "127.0.0.1:5001"
		blobs := exchange(blobPath(data), nil, -1, remotetest.Content(data))
		gone := describe([]byte("gone"))
		net.Serve(other, blobs)
		net.Serve(host, blobs,
			exchange("GET /v2/shop/blobs/"+gone.Digest.String(), nil, -1, remotetest.Status(http.StatusNotFound)),
			exchange("HEAD /v2/shop/manifests/1", nil, 1, remotetest.Status(http.StatusNotFound)),
			exchange("POST /v2/shop/blobs/uploads/", nil, 1, remotetest.Status(http.StatusAccepted, "Location", "/upload/1")),
			exchange("PUT /upload/1?digest="+strings.Replace(describe(data).Digest.String(), ":", "%3A", 1), nil, 1, remotetest.Status(http.StatusCreated)),
		)
		client := newClient(t, remote.Options{MaxFetches: 2, Transport: net.Transport()})
		open := func(name string) *remote.Repository {
			repo, err := client.Repository(name)
			if err != nil {
				t.Fatal(err)
			}
			return repo
		}
		repo := open(host + "/shop")
		for range 3 { // what cannot be opened takes no place
			if err := opened(repo.Fetch(t.Context(), gone)); err == nil {
				t.Error("Fetch of a missing blob = nil, want an error")
			}
		}
		var readers []io.ReadCloser
		fetch := func(repo *remote.Repository) {
			rc, err := repo.Fetch(t.Context(), describe(data))
			if err != nil {
				t.Error(err)
				return
			}
			readers = append(readers, rc)
		}
		fetch(repo)
		fetch(open(host + "/shop")) // another handle counts with it
		waiting := make(chan bool)
		go func() {
			defer close(waiting)
			fetch(repo)
		}()
		synctest.Wait()
		if len(readers) != 2 {
			t.Fatalf("%d blobs are open, want 2", len(readers))
		}
		fetch(open(other + "/shop"))
		if _, err := repo.Resolve(t.Context(), "1"); err == nil {
			t.Error("Resolve = nil, want not found")
		}
		if err := repo.Push(t.Context(), describe(data), strings.NewReader(string(data))); err != nil {
			t.Errorf("Push = %v", err)
		}
		if _, err := io.ReadAll(readers[0]); err != nil { // the end gives the place back, before Close
			t.Error(err)
		}
		<-waiting
		if len(readers) != 4 {
			t.Errorf("%d blobs were opened, want 4", len(readers))
		}
		for _, rc := range readers {
			if err := errors.Join(rc.Close(), rc.Close()); err != nil {
				t.Error(err)
			}
		}
	})
}

// Who waits for a place can be called off.
func TestMaxFetchesCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := []byte("0123456789")
		net := remotetest.NewNetwork(t)
		net.Serve(host, exchange(blobPath(data), nil, 1, remotetest.Content(data)))
		repo := repository(t, net, remote.Options{MaxFetches: 1})
		rc, err := repo.Fetch(t.Context(), describe(data))
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		ctx, cancel := contextWithCause(t)
		done := make(chan error)
		go func() { done <- opened(repo.Fetch(ctx, describe(data))) }()
		synctest.Wait()
		cancel(errPressed)
		if err := <-done; !errors.Is(err, errPressed) {
			t.Errorf("Fetch = %v, want %v", err, errPressed)
		}
	})
}
