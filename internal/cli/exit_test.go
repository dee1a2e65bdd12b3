package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/publish"
	"github.com/sealift/sealift/internal/receipt"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// TestExitCode pins the code of every kind of error, and that those a person can
// do something about come with a hint.
func TestExitCode(t *testing.T) {
	t.Parallel()
	status := func(code int) error { return &errcode.ErrorResponse{StatusCode: code, URL: &url.URL{}} }
	incomplete := func(err error) error { return &mirror.IncompleteError{Err: err} }
	down := &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	tests := []struct {
		name string
		err  error
		code int
		hint bool
	}{
		{"usage", usagef("no"), 10, false}, // Main adds the command's help
		{"findings", artifact.FindingsError{{}}, 10, true},
		{"inventory", &delivery.InventoryError{Line: 3, Err: io.EOF}, 10, true},
		{"inventory by another key", &delivery.InventoryError{Err: signer.ErrNotAccepted}, 15, true},
		{"inventory with a false signature", &delivery.InventoryError{Err: signer.ErrInvalid}, 12, true},
		{"values", &site.ValuesError{Findings: []site.ValueFinding{{}}}, 10, true},
		{"not found", errdef.ErrNotFound, 11, false},
		{"no file", fs.ErrNotExist, 11, true},
		{"no layout", layout.ErrNotLayout, 11, true},
		{"no version", &delivery.VersionError{}, 11, false},
		{"no instance", site.ErrNotFound, 11, true},
		{"not installed", site.ErrNotInstalled, 11, true},
		{"no release", artifact.ErrNotRelease, 11, false},
		{"missing at the source", incomplete(errdef.ErrNotFound), 11, true},
		{"invalid release", fmt.Errorf("%w: %w", artifact.ErrInvalidRelease, artifact.FindingsError{{}}), 12, true},
		{"invalid policy update", fmt.Errorf("%w: %w", artifact.ErrInvalidPolicy, artifact.FindingsError{{}}), 12, true},
		{"malformed manifest", incomplete(artifact.ErrMalformed), 12, true},
		{"no policy update", artifact.ErrNotPolicy, 11, false},
		{"update not accepted", &signer.UpdateError{Err: signer.ErrNotAccepted}, 15, true},
		{"update where there are none", &signer.UpdateError{Closed: true, Err: signer.ErrNotAccepted}, 15, true},
		{"update with a false signature", &signer.UpdateError{Err: signer.ErrInvalid}, 12, true},
		{"policy brought back", &site.RefusedError{Reason: site.RefusedPolicyOlder}, 15, true},
		{"policy gone", &site.RefusedError{Reason: site.RefusedPolicyGone}, 15, true},
		{"policy version used", &site.RefusedError{Reason: site.RefusedPolicyVersion}, 15, true},
		{"policy moved", &site.RefusedError{Reason: site.RefusedPolicyMoved}, 15, true},
		{"raced", publish.ErrRaced, 15, true},
		{"invalid signature", signer.ErrInvalid, 12, true},
		{"damage", mirror.ErrDamaged, 12, true},
		{"digest", content.ErrMismatchedDigest, 12, true},
		{"digest in mid-copy", incomplete(&layout.DigestError{}), 12, true},
		{"index", layout.ErrCorruptIndex, 12, true},
		{"audit log", site.ErrAudit, 12, true},
		{"records against the log", site.ErrContradicted, 12, true},
		{"receipt that was changed", &receipt.Error{Err: signer.ErrInvalid}, 12, true},
		{"receipt by another key", &receipt.Error{Err: signer.ErrNotAccepted}, 15, true},
		{"damaged and unsigned", errors.Join(&layout.ManifestError{Err: io.EOF}, signer.ErrUnsigned), 12, true},
		{"login", status(http.StatusUnauthorized), 13, true},
		{"login in mid-copy", incomplete(status(http.StatusForbidden)), 13, true},
		{"password", signer.ErrPassword, 13, true},
		{"broken off", incomplete(io.ErrUnexpectedEOF), 14, true},
		{"down in mid-copy", incomplete(down), 14, true},
		{"full", syscall.ENOSPC, 14, true},
		{"full in mid-copy", incomplete(syscall.ENOSPC), 14, true},
		{"unsigned", signer.ErrUnsigned, 15, true},
		{"another key", signer.ErrNotAccepted, 15, true},
		{"another identity", &delivery.SignatureError{Identities: true, Err: signer.ErrNotAccepted}, 15, true},
		{"a certificate that is not borne out", &delivery.SignatureError{Identities: true, Err: signer.ErrInvalid}, 12, true},
		{"version taken", publish.ErrVersionTaken, 15, true},
		{"misnamed", delivery.ErrMisnamed, 15, false},
		{"site refuses", site.ErrRefused, 15, false},
		{"declined", errDeclined, 15, false},
		{"another volume", &mirror.VolumeError{Volume: 1, Of: 2}, 15, false}, // where it is made knows what to do
		{"down", down, 1, true},
		{"read-only registry", incomplete(status(http.StatusMethodNotAllowed)), 1, true},
		{"locked", site.ErrLocked, 1, true},
		{"media locked", layout.ErrLocked, 1, true},
		{"other", io.ErrClosedPipe, 1, false},
	}
	for _, tt := range tests {
		err := fmt.Errorf("context: %w", tt.err)
		code := exitCode(t.Context(), err)
		if code != tt.code {
			t.Errorf("%s: exitCode = %d, want %d", tt.name, code, tt.code)
		}
		if got := hint(err, code); (got != "") != tt.hint {
			t.Errorf("%s: hint = %q, want one: %v", tt.name, got, tt.hint)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if code := exitCode(ended, io.EOF); code != 130 {
		t.Errorf("interrupted: exitCode = %d, want 130", code)
	}
}
