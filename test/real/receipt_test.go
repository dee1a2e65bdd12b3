//go:build real

package real

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// receipt has the site tell what it accepted and runs, and checks that with sealift,
// and with the command lines of docs/format.md, by cosign and by openssl.
func (s shop) receipt(t *testing.T) {
	dir := t.TempDir()
	key, pub := s.newKey(t)
	_, other := s.newKey(t)
	edwards := filepath.Join(dir, "edwards")
	s.run(t, "openssl", "genpkey", "-algorithm", "ed25519", "-out", edwards+".pem")
	s.run(t, "sealift", "keygen", "-q", "--import", edwards+".pem", "--out", edwards)
	proof := filepath.Join(dir, "receipt.json")
	s.run(t, "sealift", "receipt", "-q", "-O", proof, "--key", key, "--site", "island", "--for", "example.com/**")

	text := s.run(t, "sealift", "verify", proof, "--key", pub)
	for _, want := range []string{"accepted example.com/shop 1.0.0\n", "accepted example.com/shop 1.1.0\n", "installed shop: example.com/shop 1.0.0, revision ", "  digest " + s.roots["1.1.0"] + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the receipt lacks %q:\n%s", want, text)
		}
	}
	s.fails(t, 15, nil, "sealift", "verify", proof, "--key", other)
	s.run(t, "sealift", "audit", "verify", "--receipt", proof, "--key", pub)

	documented := receiptCommands(t)
	log, err := os.ReadFile(s.dir + "/home/audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	// check runs documented commands on a receipt and a key, and asks for a root.
	check := func(commands, receipt, pub, root string) result {
		t.Helper()
		at := t.TempDir()
		for file, from := range map[string]string{"receipt.json": receipt, "site.pub": pub} {
			data, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(at, file), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(at, "audit.jsonl"), log, 0o600); err != nil {
			t.Fatal(err)
		}
		commands = strings.ReplaceAll(commands, "f16992f7…", strings.TrimPrefix(root, "sha256:"))
		return s.try(t, "bash", "-c", "set -eo pipefail; cd "+at+"\n"+commands)
	}
	sound := func(name, commands, receipt, pub, says string) {
		t.Helper()
		if r := check(commands, receipt, pub, s.roots["1.0.0"]); r.code != 0 || !strings.Contains(r.stdout+r.stderr, says) {
			t.Errorf("%s: exit status %d, want 0 and %q\n%s%s", name, r.code, says, r.stdout, r.stderr)
		}
	}
	unsound := func(name, commands, receipt, pub, root, says string) {
		t.Helper()
		if r := check(commands, receipt, pub, root); r.code == 0 || !strings.Contains(r.stdout+r.stderr, says) {
			t.Errorf("%s: exit status %d, want a failure that says %q\n%s%s", name, r.code, says, r.stdout, r.stderr)
		}
	}
	// without leaves out lines, as those for another kind of key.
	without := func(commands, word string) string {
		var lines []string
		for line := range strings.Lines(commands) {
			if !strings.Contains(line, word) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}

	forged := filepath.Join(dir, "forged.json")
	s.run(t, "bash", "-ec", `payload=$(jq -r .dsseEnvelope.payload "$0")
		lie=$(echo $payload | base64 -d | sed s/1.1.0/6.6.6/g | base64 -w 0)
		[ $payload != $lie ]; sed "s|$payload|$lie|" "$0" > "$1"`, proof, forged)
	s.fails(t, 12, nil, "sealift", "verify", forged, "--key", pub)

	byCosign, byOpenssl, ofLog := documented[0], documented[1], documented[2]
	sound("cosign", byCosign, proof, pub, "Verified OK")
	unsound("cosign, another key", byCosign, proof, other, s.roots["1.0.0"], "accepted signatures do not match threshold")
	unsound("cosign, forged", byCosign, forged, pub, s.roots["1.0.0"], "accepted signatures do not match threshold")
	unsound("cosign, a release that is not in it", byCosign, proof, pub, strings.Repeat("0", 64), "does not match any digest in statement")

	ecdsa := without(byOpenssl, "pkeyutl")
	sound("openssl", ecdsa, proof, pub, "Verified OK")
	sound("openssl, subjects", ecdsa, proof, pub, "https://sealift.dev/receipt/v1\nexample.com/shop:1.0.0 "+strings.TrimPrefix(s.roots["1.0.0"], "sha256:")+"\n")
	unsound("openssl, another key", ecdsa, proof, other, "", "Verification failure")
	unsound("openssl, forged", ecdsa, forged, pub, "", "Verification failure")

	second := filepath.Join(dir, "second.json")
	s.run(t, "sealift", "receipt", "-q", "-O", second, "--key", edwards+".key")
	ed25519 := without(byOpenssl, "openssl dgst")
	sound("openssl, Ed25519", ed25519, second, edwards+".pub", "Signature Verified Successfully")
	unsound("openssl, Ed25519, another receipt", ed25519, proof, edwards+".pub", "", "Signature Verification Failure")
	sound("cosign, Ed25519", byCosign, second, edwards+".pub", "Verified OK")

	head := s.run(t, "bash", "-ec", `jq -r .dsseEnvelope.payload "$0" | base64 -d | jq -r .predicate.audit.digest`, proof)
	sound("the log", without(byOpenssl, "-verify")+ofLog, proof, pub, strings.TrimPrefix(head, "sha256:"))
}

// receiptCommands are the blocks of commands that docs/format.md has for receipts: by
// cosign, by openssl, and for the log.
func receiptCommands(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("../../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(data), "\n## 9. Receipt\n")
	_, section, alone := strings.Cut(section, "\nWithout sealift, ")
	parts := strings.Split(section, "\n```\n")
	if !found || !alone || len(parts) != 7 {
		t.Fatalf("docs/format.md has %d parts on how to check a receipt", len(parts))
	}
	return []string{parts[1] + "\n", parts[3] + "\n", parts[5] + "\n"}
}
