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
	return BelowPresent(ctx, from, index, nil)
}

// BelowPresent is [Below] for a place that may lack an index: lacks is called with it, and
// nothing below it is listed.
func BelowPresent(ctx context.Context, from content.Provider, index ocispec.Descriptor, lacks func(ocispec.Descriptor)) ([]ocispec.Descriptor, error) {
	if !images.IsIndexType(index.MediaType) {
		return nil, nil
	}
	lists := map[digest.Digest][]ocispec.Descriptor{index.Digest: nil} // of the indexes
	nodes, size := 0, index.Size
	err := newWalker().each(ctx, from, index, func(desc ocispec.Descriptor, m *Manifest, err error) ([]ocispec.Descriptor, error) {
		if errdefs.IsNotFound(err) && lacks != nil {
			lacks(desc)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		lists[desc.Digest] = m.Manifests
		if nodes += len(m.Manifests); nodes > maxNodes {
			return nil, tooMany(index)
		}
		var next []ocispec.Descriptor
		for _, child := range m.Manifests {
			if _, known := lists[child.Digest]; known || !images.IsIndexType(child.MediaType) {
				continue
			}
			if size += child.Size; size > maxIndexes {
				return nil, fmt.Errorf("the indexes that %s leads to have more than %d bytes: %w", index.Digest, maxIndexes, errdefs.ErrInvalidArgument)
			}
			lists[child.Digest] = nil
			next = append(next, child)
		}
		return next, nil
	})
	if err != nil {
		return nil, err
	}
	return inOrder(lists, index, nil), nil
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

// each reads a manifest, what visit returns of its children, and so on, concurrently. It calls
// visit with each manifest, or why it could not be read, one call at a time.
func (w *walker) each(ctx context.Context, from content.Provider, top ocispec.Descriptor, visit func(desc ocispec.Descriptor, m *Manifest, err error) (next []ocispec.Descriptor, _ error)) error {
	var mu sync.Mutex
	var read func(ctx context.Context, desc ocispec.Descriptor, depth int) error
	read = func(ctx context.Context, desc ocispec.Descriptor, depth int) error {
		if depth > registry.MaxDepth {
			return tooDeep(desc)
		}
		m, err := w.read(ctx, from, desc)
		mu.Lock()
		next, err := visit(desc, m, err)
		mu.Unlock()
		if err != nil {
			return err
		}
		return atonce.Each(ctx, atonce.Requests, next, func(ctx context.Context, _ int, child ocispec.Descriptor) error {
			return read(ctx, child, depth+1)
		})
	}
	return read(ctx, top, 0)
}

// walk reads a manifest with all manifests below it, so that a fault in any of them is found
// before anything is written. It does not look below a manifest that the target is known to
// have. It keeps none of them; the client of a registry remembers some.
func (w *walker) walk(ctx context.Context, from layout.Repository, top ocispec.Descriptor, known func(layout.Repository, ocispec.Descriptor) (there, known bool)) error {
	seen := map[digest.Digest]int64{} // sizes
	nodes := 0
	return w.each(ctx, from, top, func(_ ocispec.Descriptor, m *Manifest, err error) (next []ocispec.Descriptor, _ error) {
		if err != nil {
			return nil, err
		}
		if nodes += len(m.Blobs) + len(m.Manifests); nodes > maxNodes {
			return nil, tooMany(top)
		}
		for i, child := range slices.Concat(m.Blobs, m.Manifests) {
			if size, again := seen[child.Digest]; again {
				if err := sameSize(child, size); err != nil {
					return nil, err
				}
				continue
			}
			seen[child.Digest] = child.Size
			if i < len(m.Blobs) {
				continue
			}
			if there, _ := known(from, child); !there {
				next = append(next, child)
			}
		}
		return next, nil
	})
}
