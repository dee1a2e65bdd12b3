package signer

import "slices"

// maxCertificateChecks bounds how often certificates are verified in one call of Verify
// or Attestations. Whoever writes to a registry decides how many signatures there are,
// and a certificate with an accepted name, which is all that it takes, makes anybody.
const maxCertificateChecks = 1024

// accepted is whose signatures and attestations are accepted in one call. It must not be
// used concurrently.
type accepted struct {
	keys       []*Key
	identities []Identity // that Check takes, compiled
	given      int        // identities, sound or not
	left       int        // certificates that may still be verified
}

func newAccepted(keys []*Key, identities []Identity) *accepted {
	return &accepted{keys: keys, identities: compiled(identities), given: len(identities), left: maxCertificateChecks}
}

// roots returns the roots by which one who is accepted would be whom a certificate
// claims, each once: however many identities share one, it is asked once.
func (a *accepted) roots(claim *Certificate) (roots []*Root) {
	for _, id := range a.identities {
		known := func(r *Root) bool { return r.Fingerprint() == id.Root.Fingerprint() }
		if !slices.ContainsFunc(roots, known) && id.names(claim) {
			roots = append(roots, id.Root)
		}
	}
	return roots
}
