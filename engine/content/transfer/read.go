// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/atonce"
)

const (
	// maxNodes bounds how many manifests and blobs one manifest leads to: an application of
	// 1,000 images has about 20,000.
	maxNodes = 1 << 20
	// manifestMemory bounds the manifests that are read and written at once, in bytes.
	manifestMemory = 64 << 20
	// smallManifest is the size in bytes up to which the data of a manifest is kept while its
	// children are copied. Only manifests that are made to use memory are larger.
	smallManifest = 64 << 10
	// maxIndexes bounds the indexes that one index leads to, in bytes: their entries are held at
	// once. Those of an application of 1,000 images have about 10 MB.
	maxIndexes = 64 << 20
)

// Manifest is a manifest or index that was read.
type Manifest struct {
	Desc ocispec.Descriptor // with the type that the manifest declares
	Data []byte
	// Its children, all of them checked. Layers that must not be distributed and have URLs are
	// not among the blobs: they stay where the URLs lead.
	Manifests, Blobs []ocispec.Descriptor
}

// Read reads a manifest, whose size must be that of the descriptor, and checks its children.
// Everything that is copied, saved or inspected is read by it.
func Read(ctx context.Context, from content.Provider, desc ocispec.Descriptor) (*Manifest, error) {
	desc, data, err := registry.Read(ctx, from, desc)
	if err != nil {
		return nil, err
	}
	parts, listed, err := registry.Children(desc, data)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Desc: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}, Data: data}
	m.Blobs = slices.DeleteFunc(parts, elsewhere)
	for _, child := range listed {
		manifest, err := registry.Listed(ctx, from, child)
		switch {
		case err != nil:
			return nil, fmt.Errorf("in %s: %w", desc.Digest, err)
		case manifest:
			m.Manifests = append(m.Manifests, child)
		case !elsewhere(child):
			m.Blobs = append(m.Blobs, child)
		}
	}
	return m, nil
}

// elsewhere reports whether a blob must not be distributed and has URLs to read it from. A blob
// without URLs can only be in its registry.
func elsewhere(desc ocispec.Descriptor) bool {
	return images.IsNonDistributable(desc.MediaType) && len(desc.URLs) > 0
}

// Below lists the manifests that an index leads to, each before its own children. Only indexes
// are read, each once.
func Below(ctx context.Context, from content.Provider, index ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	lists := map[digest.Digest][]ocispec.Descriptor{} // of the indexes
	walker, nodes, size := newWalker(), 0, int64(0)
	for depth, level := 0, indexes(lists, index); len(level) > 0; depth++ {
		if depth > registry.MaxDepth {
			return nil, tooDeep(level[0])
		}
		for _, desc := range level {
			if size += desc.Size; size > maxIndexes {
				return nil, fmt.Errorf("the indexes that %s leads to have more than %d bytes: %w", index.Digest, maxIndexes, errdefs.ErrInvalidArgument)
			}
		}
		read := make([][]ocispec.Descriptor, len(level))
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(atonce.Requests)
		for i, desc := range level {
			group.Go(func() error {
				m, err := walker.read(ctx, from, desc)
				if err == nil {
					read[i] = m.Manifests
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		var next []ocispec.Descriptor
		for i, list := range read {
			if nodes += len(list); nodes > maxNodes {
				return nil, tooMany(index)
			}
			lists[level[i].Digest] = list
			next = append(next, indexes(lists, list...)...)
		}
		level = next
	}
	return inOrder(lists, index, nil), nil
}

// indexes returns the indexes of a list that are not in known, and adds them to it.
func indexes(known map[digest.Digest][]ocispec.Descriptor, list ...ocispec.Descriptor) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, desc := range list {
		if _, is := known[desc.Digest]; !is && images.IsIndexType(desc.MediaType) {
			known[desc.Digest] = nil
			out = append(out, desc)
		}
	}
	return out
}

// inOrder appends the entries of an index, each followed by its own, where they occur first.
func inOrder(lists map[digest.Digest][]ocispec.Descriptor, index ocispec.Descriptor, out []ocispec.Descriptor) []ocispec.Descriptor {
	list := lists[index.Digest]
	delete(lists, index.Digest)
	for _, child := range list {
		out = inOrder(lists, child, append(out, child))
	}
	return out
}

// sameSize returns an error if a digest is described with two sizes.
func sameSize(desc ocispec.Descriptor, size int64) error {
	if desc.Size == size {
		return nil
	}
	return fmt.Errorf("%s is described with %d and with %d bytes: %w", desc.Digest, size, desc.Size, errdefs.ErrInvalidArgument)
}

func tooDeep(desc ocispec.Descriptor) error {
	return fmt.Errorf("manifest %s is nested in more than %d indexes: %w", desc.Digest, registry.MaxDepth, errdefs.ErrInvalidArgument)
}

func tooMany(desc ocispec.Descriptor) error {
	return fmt.Errorf("manifest %s leads to more than %d others: %w", desc.Digest, maxNodes, errdefs.ErrInvalidArgument)
}

// walker reads manifests, and bounds the memory of those that are read at once. Its methods may
// be called concurrently.
type walker struct{ memory *semaphore.Weighted }

// newWalker makes a walker.
func newWalker() *walker { return &walker{semaphore.NewWeighted(manifestMemory)} }

// hold runs do once there is memory for the manifest, which do releases by returning. do must
// not wait for another manifest.
func (w *walker) hold(ctx context.Context, desc ocispec.Descriptor, do func() error) error {
	weight := min(max(desc.Size, 1), manifestMemory)
	if err := w.memory.Acquire(ctx, weight); err != nil {
		return context.Cause(ctx)
	}
	defer w.memory.Release(weight)
	return do()
}

// read is [Read], but keeps only the data of a small manifest: that of another is read again
// when its children have been copied.
func (w *walker) read(ctx context.Context, from content.Provider, desc ocispec.Descriptor) (m *Manifest, err error) {
	err = w.hold(ctx, desc, func() error {
		m, err = Read(ctx, from, desc)
		if err == nil && len(m.Data) > smallManifest {
			m.Data = nil
		}
		return err
	})
	return m, err
}

// write calls do with the data of a manifest.
func (w *walker) write(ctx context.Context, from content.Provider, m *Manifest, do func(data []byte) error) error {
	if m.Data != nil {
		return do(m.Data)
	}
	return w.hold(ctx, m.Desc, func() error {
		data, err := engine.Get(ctx, from, m.Desc)
		if err != nil {
			return err
		}
		return do(data)
	})
}

// walk reads a manifest with all manifests below it, so that a fault in any of them is found
// before anything is written. It does not look below a manifest that the target is known to
// have. It keeps none of them; the client of a registry remembers some.
func (w *walker) walk(ctx context.Context, from layout.Repository, top ocispec.Descriptor, known func(layout.Repository, ocispec.Descriptor) (there, known bool)) error {
	one := &walking{walker: w, from: from, top: top, known: known, seen: map[digest.Digest]int64{}}
	return one.manifest(ctx, top, 0)
}

type walking struct {
	*walker
	from  layout.Repository
	top   ocispec.Descriptor
	known func(layout.Repository, ocispec.Descriptor) (there, known bool)

	mu    sync.Mutex
	seen  map[digest.Digest]int64 // sizes
	nodes int
}

func (w *walking) manifest(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if depth > registry.MaxDepth {
		return tooDeep(desc)
	}
	list, err := w.list(ctx, desc)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atonce.Requests)
	for _, child := range list {
		group.Go(func() error { return w.manifest(ctx, child, depth+1) })
	}
	return group.Wait()
}

// list returns the manifests below one that were not read before.
func (w *walking) list(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	m, err := w.read(ctx, w.from, desc)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes += len(m.Blobs) + len(m.Manifests); w.nodes > maxNodes {
		return nil, tooMany(w.top)
	}
	again := func(child ocispec.Descriptor) (bool, error) {
		size, again := w.seen[child.Digest]
		if again {
			return true, sameSize(child, size)
		}
		w.seen[child.Digest] = child.Size
		return false, nil
	}
	for _, blob := range m.Blobs {
		if _, err := again(blob); err != nil {
			return nil, err
		}
	}
	var fresh []ocispec.Descriptor
	for _, child := range m.Manifests {
		again, err := again(child)
		if err != nil {
			return nil, err
		}
		if there, _ := w.known(w.from, child); !again && !there {
			fresh = append(fresh, child)
		}
	}
	return fresh, nil
}
