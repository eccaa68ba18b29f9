// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/registry"
)

const (
	// treeReaders bounds how many manifests of a tree are read at once; a
	// registry's client has bounds of its own below it.
	treeReaders = 64
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

// treeManifest is a manifest or index, and what it names.
type treeManifest struct {
	desc             ocispec.Descriptor // media type, digest, size
	data             []byte
	manifests, blobs []ocispec.Descriptor
}

// treeBlob is a blob, and where it lies.
type treeBlob struct {
	desc ocispec.Descriptor
	from Provider
}

// Keep chooses among the manifests that an index lists; nil keeps all.
type Keep func(index ocispec.Descriptor, list []ocispec.Descriptor) ([]ocispec.Descriptor, error)

// Tree is what some manifests lead to, known before any of it moves. It holds the
// manifests, a few kilobytes each, and describes the blobs. It is built by
// [Tree.Add], whose calls may overlap; what it is asked then, may be as well.
type Tree struct {
	mu        sync.Mutex
	manifests map[digest.Digest]*treeManifest
	blobs     map[digest.Digest]treeBlob
}

// Add reads what the manifests lead to. What the tree has already is not read
// again, whatever the source. Layers that may not be distributed are left where
// their URLs say they are.
func (t *Tree) Add(ctx context.Context, from Provider, keep Keep, tops ...ocispec.Descriptor) error {
	t.mu.Lock()
	if t.manifests == nil {
		t.manifests, t.blobs = map[digest.Digest]*treeManifest{}, map[digest.Digest]treeBlob{}
	}
	t.mu.Unlock()
	r := treeReader{tree: t, from: from, keep: keep, slots: make(chan struct{}, treeReaders)}
	return r.all(ctx, tops)
}

// Has says whether something is in the tree.
func (t *Tree) Has(dgst digest.Digest) bool {
	_, manifest := t.manifests[dgst]
	_, blob := t.blobs[dgst]
	return manifest || blob
}

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
		return io.NopCloser(bytes.NewReader(m.data)), nil
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
	tree  *Tree
	from  Provider
	keep  Keep
	slots chan struct{}
}

func (r *treeReader) all(ctx context.Context, list []ocispec.Descriptor) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, desc := range list {
		r.tree.mu.Lock()
		_, known := r.tree.manifests[desc.Digest]
		if !known {
			r.tree.manifests[desc.Digest] = &treeManifest{}
		}
		r.tree.mu.Unlock()
		if !known {
			group.Go(func() error { return r.one(ctx, desc) })
		}
	}
	return group.Wait()
}

// one reads a manifest that nobody else reads, then those that it lists.
func (r *treeReader) one(ctx context.Context, desc ocispec.Descriptor) error {
	m, err := r.read(ctx, desc)
	if err != nil {
		return err
	}
	if len(m.manifests) > 0 && r.keep != nil {
		if m.manifests, err = r.keep(m.desc, m.manifests); err != nil {
			return err
		}
	}
	r.tree.mu.Lock()
	*r.tree.manifests[desc.Digest] = *m
	for _, b := range m.blobs {
		if _, ok := r.tree.blobs[b.Digest]; !ok {
			r.tree.blobs[b.Digest] = treeBlob{desc: b, from: r.from}
		}
	}
	r.tree.mu.Unlock()
	return r.all(ctx, m.manifests)
}

func (r *treeReader) read(ctx context.Context, desc ocispec.Descriptor) (*treeManifest, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := desc.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("manifest %q: %w", desc.Digest, err)
	}
	if desc.Size > registry.MaxManifest {
		return nil, fmt.Errorf("manifest %s has %d bytes, and registries take %d", desc.Digest, desc.Size, registry.MaxManifest)
	}
	data, err := content.ReadBlob(ctx, r.from, desc)
	if err != nil {
		return nil, err
	}
	parts, listed, err := registry.Children(desc, data)
	if err != nil {
		return nil, err
	}
	m := &treeManifest{
		desc: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: int64(len(data))},
		data: data,
	}
	for _, child := range slices.Concat(parts, listed) {
		switch {
		case registry.IsManifest(child.MediaType):
			m.manifests = append(m.manifests, child)
		case !images.IsNonDistributable(child.MediaType):
			m.blobs = append(m.blobs, child)
		}
	}
	return m, nil
}
