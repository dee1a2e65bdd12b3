package mirror

import (
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Checked is what was found of the blobs of one store. The zero value has seen none.
// It may be used by several verifications at once.
type Checked struct {
	mu       sync.Mutex
	verdicts map[checked]error
}

// checked is what a verdict is about: another size is another claim.
type checked struct {
	digest digest.Digest
	size   int64
}

func (c *Checked) verdict(desc ocispec.Descriptor) (seen bool, err error) {
	if c == nil {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err, seen = c.verdicts[checked{desc.Digest, desc.Size}]
	return seen, err
}

func (c *Checked) remember(desc ocispec.Descriptor, err error) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verdicts == nil {
		c.verdicts = map[checked]error{}
	}
	c.verdicts[checked{desc.Digest, desc.Size}] = err
}
