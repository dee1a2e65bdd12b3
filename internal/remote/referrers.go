package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
)

// ErrReferrers says that a registry contradicts itself about its API for referrers:
// what it lists may not be all. Asking again helps where something between here and the
// registry gave a wrong answer.
var ErrReferrers = errors.New("the registry answers for referrers, and answers that it does not")

// refusals is how many answers that there is no API for referrers are believed.
const refusals = 3

// ways are the two in which a registry can be asked for referrers. Which it has is
// found out by asking for those that are wanted; one answer that there is no API
// settles nothing, for a gateway may have given it, and whatever refers to a manifest
// would be left behind in silence.
type ways struct {
	api, tags *remote.Repository

	mu       sync.Mutex
	answered bool
	refused  int // answers that there is no API
}

// list asks by the API, and by the tag where there is none.
func (w *ways) list(ctx context.Context, desc ocispec.Descriptor, artifactType string, fn func([]ocispec.Descriptor) error) error {
	if w.settled() {
		return w.tags.Referrers(ctx, desc, artifactType, fn)
	}
	begun := false
	err := w.api.Referrers(ctx, desc, artifactType, func(page []ocispec.Descriptor) error {
		begun = true
		return fn(page)
	})
	switch {
	case err == nil:
		return w.note(true)
	case !errors.Is(err, errdef.ErrUnsupported):
		return err
	case begun: // not wrapped: who takes unsupported for none would take a part for all
		return fmt.Errorf("the list breaks off (%v): %w", err, ErrReferrers) //nolint:errorlint // see above
	}
	if err := w.note(false); err != nil {
		return err
	}
	return w.tags.Referrers(ctx, desc, artifactType, fn)
}

// settled reports whether there is no API.
func (w *ways) settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused >= refusals
}

// note notes whether the API answered. It fails where both have been the case.
func (w *ways) note(answered bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answered {
		w.answered = true
	} else {
		w.refused++
	}
	if w.answered && w.refused > 0 {
		return ErrReferrers
	}
	return nil
}
