package layout

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/artifact"
)

// Lists that grow
//
// A manifest under a tag of cosign's scheme is a list, and each signature that is
// made later is one more layer of it. Two volumes that were written before and after
// give such a name to two manifests, and both are right: the one that has all layers
// of the others counts, wherever it is. Where each has some that the others lack there
// is no such one. Then the longest counts, and the name is a [Fork].

// Fork is a name of cosign's tag scheme that stands for several manifests on volumes
// read as one, none of which has all layers of the others.
type Fork struct {
	// Conflict is how it would be told if neither counted.
	Conflict *ConflictError
	// Chosen is the manifest that counts, Left are those with something that it
	// lacks, or that cannot be read; sorted. They are in the repository by digest.
	Chosen digest.Digest
	Left   []digest.Digest
}

// maxCompared bounds the layers that are compared for all names together: on hostile
// media each of many thousands may stand for the same few long lists. Names beyond it
// stay conflicts.
const maxCompared = 20_000_000

// Forks returns the forks among the names of volumes that are read as one, sorted by
// name; an alias of such a name is not told again.
func (l *Layout) Forks(ctx context.Context) ([]Fork, error) {
	g, err := l.graph(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(g.forks), nil
}

// grows reports whether a name is of cosign's tag scheme, and returns its tag.
func grows(name string) (tag string, full, ok bool) {
	if _, tag, full = splitName(name); !full {
		tag = name
	}
	_, suffix, ok := artifact.ParseSignatureTag(tag)
	return tag, full, ok && slices.Contains(artifact.SignatureSuffixes(), suffix)
}

// settle decides which manifests count for names of lists that grow.
func (g *graph) settle(ctx context.Context, l *Layout, limit int) error {
	names := slices.Sorted(maps.Keys(g.view.conflicts))
	told := map[string]bool{} // tags that a full name tells of
	for _, name := range names {
		if tag, full, ok := grows(name); ok && full {
			told[tag] = true
		}
	}
	known := map[digest.Digest]layerKeys{}
	for _, name := range names {
		tag, full, ok := grows(name)
		if !ok {
			continue
		}
		lists, unreadable, err := g.lists(ctx, l, g.view.conflicts[name].digests, known)
		if err != nil {
			return err
		}
		for _, list := range lists {
			limit -= len(list.layers)
		}
		if len(lists) == 0 || limit < 0 {
			continue
		}
		fork := choose(lists)
		fork.Conflict, fork.Left = g.view.conflicts[name].err, append(fork.Left, unreadable...)
		g.settled[name] = fork.Chosen
		if len(fork.Left) > 0 && (full || !told[tag]) {
			slices.Sort(fork.Left)
			g.forks = append(g.forks, fork)
		}
	}
	return nil
}

// list is a manifest under a tag of the scheme, with what tells its layers apart.
type list struct {
	digest digest.Digest
	layers layerKeys
}

// lists reads the manifests a name stands for, each once for all names. Those that
// are not there or damaged are unreadable.
func (g *graph) lists(ctx context.Context, l *Layout, digests []digest.Digest, known map[digest.Digest]layerKeys) (lists []list, unreadable []digest.Digest, err error) {
	for _, d := range slices.Compact(slices.Sorted(slices.Values(digests))) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		n := g.nodes[d]
		if n == nil {
			unreadable = append(unreadable, d)
			continue
		}
		keys, ok := known[d]
		if !ok {
			// What the walk could read is read again: few manifests need their layers'
			// annotations kept.
			raw, err := l.readManifest(ctx, n.desc)
			if err == nil {
				keys, err = parseLayerKeys(raw)
			}
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			if err != nil {
				keys = nil
			}
			known[d] = keys
		}
		lists = append(lists, list{d, keys})
	}
	return lists, unreadable, nil
}

// choose picks the list with the most layers, of several the one with the least
// digest: so it is the same in whatever order the volumes are given. What has no
// layers is none of these lists, and no other has what is in it.
func choose(lists []list) Fork {
	slices.SortFunc(lists, func(a, b list) int {
		return cmp.Or(cmp.Compare(len(b.layers), len(a.layers)), cmp.Compare(a.digest, b.digest))
	})
	fork := Fork{Chosen: lists[0].digest}
	for _, other := range lists[1:] {
		if len(other.layers) == 0 || !lists[0].layers.include(other.layers) {
			fork.Left = append(fork.Left, other.digest)
		}
	}
	return fork
}

// layerKeys are hashes of layers, sorted, each once. A signature stands in the
// annotations: with RSA and one payload all that tells two apart is there.
type layerKeys [][sha256.Size]byte

func compareKeys(a, b [sha256.Size]byte) int { return slices.Compare(a[:], b[:]) }

func parseLayerKeys(raw []byte) (layerKeys, error) {
	var m struct {
		Layers json.RawMessage `json:"layers"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) == 0 {
		return nil, err
	}
	var keys layerKeys
	err := decodeList(m.Layers, artifact.MaxManifestBytes, func(layer ocispec.Descriptor) error {
		if err := checkDigest(layer.Digest); err != nil {
			return err
		}
		text, err := json.Marshal([]any{layer.Digest, layer.Annotations})
		if err != nil {
			return fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		keys = append(keys, sha256.Sum256(text))
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Clip(slices.Compact(keys)), nil
}

// include reports whether all of others are among k.
func (k layerKeys) include(others layerKeys) bool {
	for _, other := range others {
		i, found := slices.BinarySearchFunc(k, other, compareKeys)
		if !found {
			return false
		}
		k = k[i+1:]
	}
	return true
}
