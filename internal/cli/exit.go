package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/delivery/tool"
	"github.com/sealift/sealift/internal/layout"
	"github.com/sealift/sealift/internal/publish"
	"github.com/sealift/sealift/internal/remote"
	"github.com/sealift/sealift/internal/site"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// Exit codes. Scripts depend on them: add, never renumber. 2 stays unused
// because the Go runtime exits with it on a panic.
const (
	exitOK           = 0
	exitFailure      = 1
	exitUsage        = 10
	exitNotFound     = 11
	exitVerification = 12
	exitCredentials  = 13
	exitIncomplete   = 14
	exitRefused      = 15
	exitInterrupted  = 130
)

// usageError is a command line, or a template, that cannot be carried out.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// errDeclined says that a person answered no.
var errDeclined = errors.New("not confirmed, nothing was changed")

// hintedError carries advice that only the place that made the error can give.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }

func withHint(err error, format string, args ...any) error {
	return &hintedError{err, fmt.Sprintf(format, args...)}
}

// exitCode is the only place that maps errors to exit codes.
func exitCode(ctx context.Context, err error) int {
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.Is(err, artifact.ErrInvalidRelease), errors.Is(err, artifact.ErrInvalidPolicy), errors.Is(err, artifact.ErrMalformed):
		return exitVerification // before the findings in it, which are not this person's
	case errors.As(err, new(*usageError)), errors.As(err, new(artifact.FindingsError)):
		return exitUsage
	case remote.IsUnauthorized(err), errors.Is(err, signer.ErrPassword):
		return exitCredentials
	case brokenOff(err):
		return exitIncomplete
	case isDamage(err), errors.Is(err, signer.ErrInvalid), errors.Is(err, site.ErrAudit), errors.Is(err, site.ErrContradicted):
		return exitVerification
	case errors.Is(err, signer.ErrUnsigned), errors.Is(err, signer.ErrNotAccepted), errors.Is(err, publish.ErrVersionTaken),
		errors.Is(err, delivery.ErrMisnamed), errors.Is(err, errRefused), errors.Is(err, errDeclined), errors.Is(err, mirror.ErrMoved), errors.As(err, new(*mirror.VolumeError)),
		errors.As(err, new(*delivery.LeftBehindError)):
		return exitRefused
	case errors.As(err, new(*delivery.InventoryError)):
		return exitUsage // a file this person named
	case errors.As(err, new(*delivery.RestError)):
		return exitIncomplete // before what it wraps, which says that something is not there
	case errors.As(err, new(*mirror.PlatformError)), errors.Is(err, tool.ErrMissing):
		return exitNotFound
	case errors.As(err, new(*delivery.VersionError)), errors.Is(err, errdef.ErrNotFound), errors.Is(err, fs.ErrNotExist), errors.Is(err, layout.ErrNotLayout):
		return exitNotFound // also in mid-copy: running it again would not help
	case remote.IsRefusal(err):
		return exitFailure // the registry's last word, in mid-copy too
	case errors.As(err, new(*mirror.IncompleteError)), errors.Is(err, syscall.ENOSPC):
		return exitIncomplete // media may be full before the first blob
	}
	return siteExitCode(err)
}

// errRefused marks what is sound but not accepted here.
var errRefused = errors.New("refused")

func isDamage(err error) bool {
	return artifact.IsDamage(err) || artifact.IsUnreadable(err) || errors.Is(err, mirror.ErrDamaged) || errors.Is(err, layout.ErrCorruptIndex)
}

// asksIdentity reports whether signatures were held against an identity given.
func asksIdentity(err error) bool {
	failed := new(delivery.SignatureError)
	return errors.As(err, &failed) && failed.Identities
}

// brokenOff reports whether a copy ended because the disk it goes to did not take
// any more. What is there is sound.
func brokenOff(err error) bool {
	side := new(mirror.CopyError)
	return errors.As(err, new(*mirror.IncompleteError)) && errors.As(err, &side) && side.Side == "destination" && artifact.IsUnreadable(side.Err)
}

// hint is the only place that maps errors to advice.
func hint(err error, code int) string {
	var hinted *hintedError
	var image *publish.ImageError
	var rest *delivery.RestError
	var update *signer.UpdateError
	switch {
	case code == exitInterrupted && errors.As(err, new(*mirror.IncompleteError)):
		return "run the same command again; it continues where it stopped"
	case errors.As(err, new(*delivery.InventoryError)) && errors.Is(err, signer.ErrNotAccepted):
		return "another key has signed it: compare fingerprints with the site, over another way than the file came (sealift fingerprint FILE), and pass the right key as --site-key"
	case errors.As(err, &hinted):
		return hinted.hint
	case errors.Is(err, artifact.ErrInvalidRelease):
		return "the bytes are what was published, but no release this program can use; ask the vendor"
	case errors.Is(err, artifact.ErrMalformed):
		return "the bytes are what was published, but a manifest that programs may read in several ways, or not at all; ask the vendor"
	case errors.Is(err, artifact.ErrInvalidPolicy):
		return "the bytes are what was published, but no policy this program can use; ask who published it"
	case errors.As(err, new(*delivery.InventoryError)):
		return "compare key fingerprints with the site (sealift fingerprint FILE), or have it make the inventory again: sealift inventory -O FILE --key KEY"
	case errors.Is(err, publish.ErrRaced), errors.Is(err, signer.ErrConflict):
		return "run the same command again; see with sealift inspect what stands there"
	case errors.As(err, new(artifact.FindingsError)):
		return "mend the file and run the same command again; docs/format.md explains every field"
	case remote.IsUnauthorized(err):
		return "log in first, as in: docker login REGISTRY"
	case errors.Is(err, signer.ErrPassword):
		return "set COSIGN_PASSWORD to the key's password, or run on a terminal to be asked"
	case errors.Is(err, publish.ErrVersionTaken):
		return "a published version never changes: raise version in the template and publish that"
	case errors.Is(err, site.ErrAudit), errors.Is(err, site.ErrContradicted):
		return "keep a copy of the site's home as it is now, and ask who had access to it"
	case errors.As(err, new(*signer.ClockError)):
		return "is the clock of this machine right? Where it is, ask the vendor for a release signed by a key that is valid, or change the policy"
	case errors.As(err, &update) && update.Closed:
		return fmt.Sprintf("who answers for the site says who may replace its policy: raise version to %d in policy.yaml and add updates: {keys: [NAME]}, names of keys in it; or puts the new policy there", update.Policy+1)
	case errors.As(err, &update) && code == exitRefused:
		return "see who may sign an update: sealift policy list; more signatures are added with: sealift sign REF --key KEY"
	case errors.As(err, new(*signer.PolicyError)):
		return "see what the site accepts: sealift policy list; whose key it is not, only who answers for the site adds: sealift policy add --key FILE --for ID"
	case errors.Is(err, signer.ErrUnsigned):
		return "have the vendor sign it: sealift sign REF --key cosign.key"
	case errors.Is(err, signer.ErrNotAccepted) && asksIdentity(err):
		return "ask the vendor, over another way than this media, who signs, and pass that as --certificate-identity and --certificate-oidc-issuer"
	case errors.Is(err, signer.ErrNotAccepted):
		return "compare fingerprints with the vendor (sealift fingerprint FILE), over another way than this media, and pass the right key as --key"
	case brokenOff(err):
		return "the disk broke off: see that it sits firmly and is mounted, then run the same command again; it continues where it stopped"
	case errors.As(err, new(*delivery.LeftBehindError)):
		return "run the same command again; where it goes on, ask who runs the registry"
	case errors.Is(err, mirror.ErrMoved):
		return "make a new plan with --plan, look at it again, and follow that"
	case errors.As(err, &rest):
		return fmt.Sprintf("bring volume %d: its disc in the drive and the same command again, or with its directory beside the other; it continues where it stopped", rest.Volumes[0])
	case errors.As(err, new(*mirror.AbsentError)):
		return "a delta goes onto a disk that has what it builds on, and volumes come together on one disk; else copy from a source that is whole"
	case errors.Is(err, syscall.ENOSPC):
		return "make room or take larger media, then run the same command again; it continues where it stopped"
	case errors.Is(err, syscall.EFBIG):
		return "no file may be that large there: lift the limit of this shell (ulimit -f), or take other media; then run the same command again"
	case errors.Is(err, syscall.EROFS):
		return "nothing can be written there: mount it for writing, or slide the switch of the stick; else take other media"
	case errors.Is(err, layout.ErrLocked):
		return "wait until the other command is done, then run this one again"
	case errors.Is(err, signer.ErrInvalid) && asksIdentity(err):
		return "see that --trusted-root is of the sigstore that the vendor signs with, as of then or later; where it is, do not use this copy"
	case isDamage(err), errors.Is(err, signer.ErrInvalid):
		return "do not use this copy; mend it where the release is at hand, sealift verify DIR --repair SRC, or have it made again"
	case errors.Is(err, remote.ErrReferrers):
		return "run the same command again, lest a signature be left behind; where it goes on, ask who runs the registry, or what stands before it"
	case errors.As(err, new(*remote.RedirectError)):
		return "the registry sends its clients to where they must not go: ask who runs it, or copy from another one"
	case errors.As(err, new(*mirror.IncompleteError)) && errors.Is(err, errdef.ErrNotFound):
		return "the source lacks part of what it names; copy from another one, then go on with this destination"
	case remote.IsRefusal(err):
		return "the registry does not allow this; check its address, or ask who runs it"
	case errors.As(err, new(*mirror.IncompleteError)):
		return "run the same command again; it continues where it stopped"
	case errors.Is(err, fs.ErrNotExist):
		return "check the path; a disk may not be mounted"
	case errors.As(err, &image):
		return fmt.Sprintf("check the reference, or give the image from a file: --image %s=PATH", image.Component)
	case remote.IsUnreachable(err):
		return "check that the registry's address is right and that it can be reached from here"
	case errors.Is(err, layout.ErrNotLayout):
		return "give the directory that sealift mirror wrote, the one that holds oci-layout and index.json; where only oci-layout was lost, sealift mirror SRC DIR writes it again"
	}
	return siteHint(err)
}
