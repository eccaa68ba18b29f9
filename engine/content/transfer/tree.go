// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
)

const (
	// treeReaders bounds how many manifests of a tree are read at once; a
	// registry's client has bounds of its own below it.
	treeReaders = 32
	// treeSmall is the size of blobs that are read whole, in bytes.
	treeSmall = 1 << 20
)

// Provider is where the manifests and blobs of a tree are read from. What it gives
// is verified.
type Provider interface {
	content.Provider
	// Blob reads a blob from its beginning.
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// treeNode is a manifest or a blob, and where it lies.
type treeNode struct {
	desc ocispec.Descriptor
	from Provider
	data []byte // of some manifests
}

// Keep chooses among the manifests that an index lists; nil keeps all.
type Keep func(index ocispec.Descriptor, list []ocispec.Descriptor) ([]ocispec.Descriptor, error)

// Tree is what some manifests lead to, known before any of it moves. It describes
// manifests and blobs, and holds the first of the manifests, which are all of an
// application of some thousand images. It is built by [Tree.Add], whose calls may
// overlap; what it is asked then, may be as well.
type Tree struct {
	mu               sync.Mutex
	manifests, blobs map[digest.Digest]treeNode
	held             int // bytes
}

// treeMemory is how many bytes of manifests a tree holds.
const treeMemory = 64 << 20

// Add reads what the manifests lead to. What the tree has already is not read
// again, whatever the source. Layers that may not be distributed are left where
// their URLs say they are, as are those that are nowhere else.
func (t *Tree) Add(ctx context.Context, from Provider, keep Keep, tops ...ocispec.Descriptor) error {
	t.mu.Lock()
	if t.manifests == nil {
		t.manifests, t.blobs = map[digest.Digest]treeNode{}, map[digest.Digest]treeNode{}
	}
	t.mu.Unlock()
	r := treeReader{tree: t, from: from, keep: keep, walker: NewWalker(), slots: make(chan struct{}, treeReaders)}
	return r.all(ctx, tops, 0)
}

// Has says whether something is in the tree.
func (t *Tree) Has(dgst digest.Digest) bool {
	_, manifest := t.manifests[dgst]
	_, blob := t.blobs[dgst]
	return manifest || blob
}

// Manifests are the digests of the manifests in the tree, sorted.
func (t *Tree) Manifests() []digest.Digest { return slices.Sorted(maps.Keys(t.manifests)) }

// Descriptors of everything in the tree, manifests and blobs, sorted by digest.
func (t *Tree) Descriptors() []ocispec.Descriptor {
	out := make([]ocispec.Descriptor, 0, len(t.manifests)+len(t.blobs))
	for _, m := range t.manifests {
		out = append(out, m.desc)
	}
	for _, b := range t.blobs {
		out = append(out, b.desc)
	}
	slices.SortFunc(out, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return out
}

// Open reads anything that is in the tree. Small blobs are read again where the
// reading breaks off.
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

// treeReader reads manifests from one source into a tree.
type treeReader struct {
	tree   *Tree
	from   Provider
	keep   Keep
	walker *Walker
	slots  chan struct{}
}

func (r *treeReader) all(ctx context.Context, list []ocispec.Descriptor, depth int) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, desc := range list {
		if depth > registry.MaxDepth {
			return errors.Join(tooDeep(desc), group.Wait())
		}
		known, err := r.tree.claim(r.tree.manifests, treeNode{desc: desc, from: r.from})
		switch {
		case err != nil:
			return errors.Join(err, group.Wait())
		case !known:
			group.Go(func() error { return r.one(ctx, desc, depth) })
		}
	}
	return group.Wait()
}

// claim enters a node that is not known.
func (t *Tree) claim(nodes map[digest.Digest]treeNode, node treeNode) (known bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, known := nodes[node.desc.Digest]
	switch {
	case known:
		return true, sameSize(node.desc, was.desc.Size)
	case len(t.manifests)+len(t.blobs) >= maxNodes:
		return false, tooMany(node.desc)
	}
	nodes[node.desc.Digest] = node
	return false, nil
}

// one reads a manifest that nobody else reads, then those that it lists.
func (r *treeReader) one(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	list, err := r.read(ctx, desc)
	if err != nil {
		return err
	}
	return r.all(ctx, list, depth+1)
}

// read enters a manifest and its blobs, and gives the manifests that it lists.
func (r *treeReader) read(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	m, err := r.walker.Read(ctx, r.from, desc)
	if err != nil {
		return nil, err
	}
	for _, blob := range m.Blobs {
		if registry.MayBeElsewhere(blob) {
			switch body, err := r.from.Blob(ctx, blob); {
			case errdefs.IsNotFound(err):
				continue
			case err != nil:
				return nil, err
			default:
				_ = body.Close() // it was read from for this alone
			}
		}
		if _, err := r.tree.claim(r.tree.blobs, treeNode{desc: blob, from: r.from}); err != nil {
			return nil, err
		}
	}
	r.tree.mu.Lock()
	node := treeNode{desc: m.Desc, from: r.from}
	if m.Data != nil && r.tree.held+len(m.Data) <= treeMemory {
		node.data = m.Data
		r.tree.held += len(m.Data)
	}
	r.tree.manifests[desc.Digest] = node
	r.tree.mu.Unlock()
	if len(m.Manifests) > 0 && r.keep != nil {
		return r.keep(m.Desc, m.Manifests)
	}
	return m.Manifests, nil
}
