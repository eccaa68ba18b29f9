// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
)

const (
	// treeSmall is the size in bytes up to which blobs are read whole.
	treeSmall = 1 << 20
	// treeMemory bounds the manifests that a tree holds, in bytes.
	treeMemory = 64 << 20
)

// treeNode is a manifest or a blob, and its source.
type treeNode struct {
	desc ocispec.Descriptor
	from layout.Repository
	data []byte // of some manifests
}

// Keep chooses among the manifests that an index lists.
type Keep func(index ocispec.Descriptor, list []ocispec.Descriptor) ([]ocispec.Descriptor, error)

// Tree is everything that some manifests lead to, known before any of it is copied. It has the
// descriptors of manifests and blobs, and the data of the first manifests, which is enough for
// an application of a few thousand images. It is built by sequential calls of [Tree.Add], or as
// the target of a copier that asks it at every level.
type Tree struct {
	mu               sync.Mutex
	manifests, blobs map[digest.Digest]treeNode
	held             int // bytes
}

// Add reads everything that the manifests lead to. What is already in the tree is not read
// again from another source. Layers that must not be distributed stay where their URLs lead, as
// do those that are nowhere else.
func (t *Tree) Add(ctx context.Context, from layout.Repository, keep Keep, tops ...ocispec.Descriptor) error {
	return t.Copier(keep).Manifests(ctx, from, tops...)
}

// Copier returns a copier that adds to the tree.
func (t *Tree) Copier(keep Keep) *Copier {
	return NewCopier(t, Options{Keep: keep, Asked: registry.MaxDepth})
}

// Has reports whether something is in the tree.
func (t *Tree) Has(dgst digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, manifest := t.manifests[dgst]
	_, blob := t.blobs[dgst]
	return manifest || blob
}

// Manifests returns the digests of the manifests in the tree, sorted.
func (t *Tree) Manifests() []digest.Digest { return slices.Sorted(maps.Keys(t.manifests)) }

// Descriptors returns the descriptors of everything in the tree, manifests and blobs, sorted by
// digest.
func (t *Tree) Descriptors() []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, 0, len(t.manifests)+len(t.blobs))
	for _, nodes := range []map[digest.Digest]treeNode{t.manifests, t.blobs} {
		for _, n := range nodes {
			out = append(out, n.desc)
		}
	}
	slices.SortFunc(out, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return out
}

// Open reads anything that is in the tree. Small blobs are read again if the reading breaks
// off.
func (t *Tree) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if m, ok := t.manifests[desc.Digest]; ok {
		data, err := m.data, error(nil)
		if data == nil {
			data, err = engine.Get(ctx, m.from, m.desc)
		}
		return io.NopCloser(bytes.NewReader(data)), err
	}
	b, ok := t.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, errdefs.ErrNotFound)
	}
	if b.desc.Size > treeSmall {
		return b.from.Blob(ctx, b.desc)
	}
	data, err := content.ReadBlob(ctx, b.from, b.desc)
	return io.NopCloser(bytes.NewReader(data)), err
}

// Exists implements Target.
func (t *Tree) Exists(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, there := t.manifests[desc.Digest]
	if !there {
		return false, nil
	}
	return true, sameSize(desc, m.desc.Size)
}

// Blob implements Target: it records the blob. A blob that may be elsewhere is looked for.
func (t *Tree) Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, _ func(int64)) (registry.How, error) {
	if registry.MayBeElsewhere(desc) {
		body, err := from.Blob(ctx, desc)
		if err != nil {
			return "", err
		}
		_ = body.Close() // it was read from for this alone
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, there := t.blobs[desc.Digest]; there {
		return registry.Existing, sameSize(desc, b.desc.Size)
	}
	return registry.Existing, t.enter(&t.blobs, treeNode{desc: desc, from: from})
}

// Manifest implements Target: it records the manifest.
func (t *Tree) Manifest(_ context.Context, from layout.Repository, desc ocispec.Descriptor, data []byte) (listed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	node := treeNode{desc: desc, from: from}
	if t.held+len(data) <= treeMemory {
		node.data = data
		t.held += len(data)
	}
	return true, t.enter(&t.manifests, node)
}

func (t *Tree) enter(nodes *map[digest.Digest]treeNode, node treeNode) error {
	if len(t.manifests)+len(t.blobs) >= maxNodes {
		return tooMany(node.desc)
	}
	if *nodes == nil {
		*nodes = map[digest.Digest]treeNode{}
	}
	(*nodes)[node.desc.Digest] = node
	return nil
}

// A tree has no tags: an index is made of its content by other code.

// List implements Target.
func (*Tree) List(context.Context, digest.Digest, []Referrer) error { return nil }

// Digest implements Target.
func (*Tree) Digest(_ context.Context, tag string) (digest.Digest, error) {
	return "", fmt.Errorf("tag %s: %w", tag, errdefs.ErrNotFound)
}

// Tag implements Target.
func (*Tree) Tag(context.Context, ocispec.Descriptor, []byte, string) error { return nil }

// Empty implements Target. It returns false, because looking costs nothing.
func (*Tree) Empty(context.Context) (bool, error) { return false, nil }

// Close implements Target.
func (*Tree) Close() error { return nil }
