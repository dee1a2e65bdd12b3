package delivery_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/signer"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	digestC = "sha512:" + "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	head    = "sealift inventory v1\n"
	rootA   = "root " + digestA + " example.com/shop 1.0.0 linux/amd64,linux/arm/v7,linux/arm64\n"
	rootB   = "root " + digestB + " - - *\n"
	blobB   = "blob " + digestB + "\n"
	blobC   = "blob " + digestC + "\n"
)

func TestInventoryFormat(t *testing.T) {
	t.Parallel()
	inventory := delivery.Inventory{
		Roots: []delivery.InventoryRoot{
			{Digest: digestB},
			{Digest: digestA, ID: "example.com/shop", Version: "1.0.0", Platforms: []ocispec.Platform{
				{OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "linux", Architecture: "amd64"}}},
		},
		Blobs: []digest.Digest{digestC, digestB},
	}
	text, err := inventory.Format()
	if want := head + rootA + rootB + blobB + blobC; err != nil || string(text) != want {
		t.Fatalf("Format = %q, %v, want %q", text, err, want)
	}
	parsed, err := delivery.ParseInventory(text)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(inventory.Roots)
	slices.Reverse(inventory.Blobs)
	slices.Reverse(inventory.Roots[0].Platforms)
	if diff := cmp.Diff(inventory, parsed); diff != "" {
		t.Errorf("ParseInventory(Format) differs:\n%s", diff)
	}
	if text, err := (delivery.Inventory{}).Format(); err != nil || string(text) != head {
		t.Errorf("Format of nothing = %q, %v, want the head", text, err)
	}
}

func TestInventoryFormatRefuses(t *testing.T) {
	t.Parallel()
	root := delivery.InventoryRoot{Digest: digestA, ID: "example.com/shop", Version: "1.0.0"}
	with := func(edit func(*delivery.InventoryRoot)) delivery.Inventory {
		r := root
		edit(&r)
		return delivery.Inventory{Roots: []delivery.InventoryRoot{r}}
	}
	blobs := make([]digest.Digest, 100_000)
	for i := range blobs {
		blobs[i] = digest.Digest(fmt.Sprintf("sha256:%064x", i))
	}
	tests := []struct {
		name      string
		inventory delivery.Inventory
	}{
		{"root twice", delivery.Inventory{Roots: []delivery.InventoryRoot{root, {Digest: digestA}}}},
		{"blob twice", delivery.Inventory{Blobs: []digest.Digest{digestA, digestA}}},
		{"no digest", with(func(r *delivery.InventoryRoot) { r.Digest = "" })},
		{"line in a digest", delivery.Inventory{Blobs: []digest.Digest{digestA + "\nblob " + digestB}}},
		{"line in an id", with(func(r *delivery.InventoryRoot) { r.ID = "a.b/c 1.0.0 *\n" + rootB })},
		{"version alone", with(func(r *delivery.InventoryRoot) { r.ID = "" })},
		{"id alone", with(func(r *delivery.InventoryRoot) { r.Version = "" })},
		{"no platform", with(func(r *delivery.InventoryRoot) { r.Platforms = []ocispec.Platform{{OS: "linux,windows"}} })},
		{"too many platforms", with(func(r *delivery.InventoryRoot) {
			r.Platforms = slices.Repeat([]ocispec.Platform{{OS: "linux", Architecture: "amd64"}}, 101)
		})},
		{"too many lines", delivery.Inventory{Blobs: blobs}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if text, err := tt.inventory.Format(); !errors.As(err, new(*delivery.InventoryError)) || text != nil {
				t.Errorf("Format = %.200q, %v, want an *InventoryError", text, err)
			}
		})
	}
	if _, err := (delivery.Inventory{Blobs: blobs[1:]}).Format(); err != nil {
		t.Errorf("Format of as many as there may be = %v", err)
	}
}

// hostile are files that people may be handed, with what is said of each.
var hostile = []struct {
	name, text string
	line       int
	says       string
}{
	{"empty", "", 0, "does not end with a newline"},
	{"newline", "\n", 1, `want "sealift inventory v1"`},
	{"cut off", head + rootA[:len(rootA)-1], 0, "it may be cut off"},
	{"another file", "hello\n", 1, `got "hello"`},
	{"a later format", "sealift inventory v2\n" + rootA, 1, "unsupported version"},
	{"a byte order mark", "\xef\xbb\xbf" + head, 1, "want "},
	{"carriage returns", strings.ReplaceAll(head+rootB, "\n", "\r\n"), 1, `got "sealift inventory v1\r"`},
	{"carriage return on a root", head + strings.ReplaceAll(rootB, "*\n", "*\r\n"), 2, "platform"},
	{"empty line", head + "\n" + rootA, 2, "want a root or a blob"},
	{"comment", head + "# mine\n", 2, "want a root or a blob"},
	{"another word", head + strings.Replace(rootA, "root", "ROOT", 1), 2, "want a root or a blob"},
	{"roots not sorted", head + rootB + rootA, 3, "not in its place"},
	{"root twice", head + rootA + rootA, 3, "there twice"},
	{"root twice with other words", head + rootA + "root " + digestA + " - - *\n", 3, "there twice"},
	{"root behind a blob", head + blobB + rootB, 3, "not in its place"},
	{"blob twice", head + blobB + blobB, 3, "there twice"},
	{"blobs not sorted", head + blobC + blobB, 3, "not in its place"},
	{"blob with more", head + "blob " + digestB + " x\n", 2, "digest"},
	{"blob without a digest", head + "blob\n", 2, "digest"},
	{"short digest", head + "blob sha256:aa\n", 2, "digest"},
	{"upper case digest", head + "blob " + strings.ToUpper(digestB) + "\n", 2, "digest"},
	{"unknown algorithm", head + "root md5:d41d8cd98f00b204e9800998ecf8427e - - *\n", 2, "digest"},
	{"path for a digest", head + "root ../../etc/passwd - - *\n", 2, "digest"},
	{"few words", head + "root " + digestA + " - -\n", 2, "got 3 words"},
	{"many words", head + "root " + digestA + " - - * *\n", 2, "got 5 words"},
	{"two blanks", head + "root " + digestA + "  - - *\n", 2, "got 5 words"},
	{"empty id", head + "root " + digestA + "  1.0.0 *\n", 2, "without an id"},
	{"blank at the end", head + strings.Replace(rootB, "\n", " \n", 1), 2, "got 5 words"},
	{"id of no domain", head + "root " + digestA + " shop 1.0.0 *\n", 2, "id: "},
	{"control characters", head + "root " + digestA + " \x1b[2J/a 1.0.0 *\n", 2, `"\x1b[2J/a"`},
	{"id without version", head + "root " + digestA + " example.com/shop - *\n", 2, "version: "},
	{"version without id", head + "root " + digestA + " - 1.0.0 *\n", 2, "id: "},
	{"no SemVer", head + "root " + digestA + " example.com/shop 1.0 *\n", 2, "version: "},
	{"no platform", head + "root " + digestA + " - - linux\n", 2, "platform"},
	{"empty platform", head + "root " + digestA + " - - linux/amd64,\n", 2, "platform"},
	{"all and one", head + "root " + digestA + " - - *,linux/amd64\n", 2, "platform"},
	{"platforms not sorted", head + "root " + digestA + " - - linux/arm64,linux/amd64\n", 2, "not sorted"},
	{"platform twice", head + "root " + digestA + " - - linux/amd64,linux/amd64\n", 2, "not sorted"},
	{"platform by another name", head + "root " + digestA + " - - linux/x86_64\n", 2, "not as they are written"},
	{"too many platforms", head + "root " + digestA + " - - " + strings.Repeat("linux/amd64,", 100) + "linux/amd64\n", 2, "101 platforms"},
	{"too many lines", head + strings.Repeat("\n", 100_000), 0, "100001 lines"},
	{"too large", head + strings.Repeat("x", 16<<20) + "\n", 0, "the limit is 16777216"},
	{"far too large", strings.Repeat("{", 25<<20), 0, "the limit is 25165824"},
}

func TestReadInventoryRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range hostile {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inventory, by, err := delivery.ReadInventory([]byte(tt.text), nil)
			var failed *delivery.InventoryError
			if !errors.As(err, &failed) || failed.Line != tt.line || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ReadInventory = %v, want an *InventoryError in line %d that says %q", err, tt.line, tt.says)
			}
			if len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes, want few: %.400s", len(err.Error()), err)
			}
			if cmp.Diff(delivery.Inventory{}, inventory) != "" || by.Key != nil || by.Claimed != nil {
				t.Errorf("ReadInventory = %v, %v, want nothing", inventory, by)
			}
		})
	}
	if _, err := delivery.ParseInventory([]byte("sealift inventory v2\n")); !errors.Is(err, errdef.ErrUnsupportedVersion) {
		t.Errorf("ParseInventory of a later format = %v, want %v", err, errdef.ErrUnsupportedVersion)
	}
}

func TestReadInventorySigned(t *testing.T) {
	t.Parallel()
	site, stranger := newSigner(t), newSigner(t)
	text := []byte(head + rootA + blobC)
	sealed, err := signer.Seal(delivery.TypeInventory, text, site)
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := signer.Seal("application/vnd.sealift.receipt.v1", text, site)
	if err != nil {
		t.Fatal(err)
	}
	garbage, err := signer.Seal(delivery.TypeInventory, []byte(head+rootB+rootA), site)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(sealed, []byte(`"payload":"`), []byte(`"payload":"QUFB`), 1)
	keys := func(list ...*signer.Signer) (out []*signer.Key) {
		for _, s := range list {
			out = append(out, s.Key())
		}
		return out
	}
	tests := []struct {
		name    string
		raw     []byte
		keys    []*signer.Key
		want    error
		key     *signer.Key
		claimed []string
	}{
		{"text, no key", text, nil, nil, nil, nil},
		{"text, a key", text, keys(site), signer.ErrUnsigned, nil, nil},
		{"signed, its key", sealed, keys(stranger, site), nil, site.Key(), nil},
		{"signed, another key", sealed, keys(stranger), signer.ErrNotAccepted, nil, nil},
		{"signed, no key", sealed, nil, nil, nil, []string{site.Key().Fingerprint()}},
		{"changed, its key", changed, keys(site), signer.ErrInvalid, nil, nil},
		{"changed, no key", changed, nil, errAny, nil, nil},
		{"another document, its key", receipt, keys(site), signer.ErrInvalid, nil, nil},
		{"another document, no key", receipt, nil, signer.ErrInvalid, nil, nil},
		{"signed garbage, its key", garbage, keys(site), errAny, nil, nil},
		{"some JSON, no key", []byte("{}\n"), nil, errAny, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inventory, by, err := delivery.ReadInventory(tt.raw, tt.keys)
			if tt.want != nil {
				if !errors.As(err, new(*delivery.InventoryError)) || tt.want != errAny && !errors.Is(err, tt.want) || len(inventory.Roots) > 0 || by.Key != nil || by.Claimed != nil {
					t.Errorf("ReadInventory = %v, %v, %v, want an *InventoryError alone: %v", inventory, by, err, tt.want)
				}
				return
			}
			if err != nil || len(inventory.Roots) != 1 || len(inventory.Blobs) != 1 {
				t.Fatalf("ReadInventory = %v, %v, want one root and one blob", inventory, err)
			}
			if by.Key != tt.key || cmp.Diff(tt.claimed, by.Claimed) != "" {
				t.Errorf("ReadInventory says it is by %v, claimed %v, want %v, %v", by.Key, by.Claimed, tt.key, tt.claimed)
			}
		})
	}
}

// errAny stands for an error that nobody branches on.
var errAny = errors.New("any")

// FuzzReadInventory reads any file. What is taken is written as it was, and is
// never more than it may be.
func FuzzReadInventory(f *testing.F) {
	f.Add([]byte(head + rootA + rootB + blobB + blobC))
	for _, tt := range hostile {
		if len(tt.text) < 1<<10 {
			f.Add([]byte(tt.text))
		}
	}
	sealed, err := signer.Seal(delivery.TypeInventory, []byte(head+rootB), newSigner(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, raw []byte) {
		inventory, by, err := delivery.ReadInventory(raw, nil)
		if err != nil {
			if !errors.As(err, new(*delivery.InventoryError)) {
				t.Errorf("ReadInventory(%q) = %v, want an *InventoryError", raw, err)
			}
			return
		}
		text, err := inventory.Format()
		if err != nil {
			t.Fatalf("Format of what ReadInventory(%q) gave: %v", raw, err)
		}
		if raw[0] != '{' && !bytes.Equal(text, raw) {
			t.Errorf("ReadInventory(%q) is written as %q", raw, text)
		}
		if again, err := delivery.ParseInventory(text); err != nil || cmp.Diff(inventory, again) != "" {
			t.Errorf("ParseInventory(%q) = %v, %v, want %v", text, again, err, inventory)
		}
		if by.Key != nil {
			t.Errorf("ReadInventory(%q) says that %s verified it", raw, by.Key)
		}
	})
}
