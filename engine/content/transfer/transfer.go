// SPDX-License-Identifier: Apache-2.0

// Package transfer copies manifests, with everything that they name, between repositories, OCI
// layouts and archives. All copying is done by a [Copier] with a [Target].
//
// Everything is copied byte for byte, so that every digest is kept. A manifest is written once
// everything that it names is there: an interrupted copy leaves nothing incomplete behind, and
// content that is already there is not sent again. Nothing is tagged on the way; the caller
// sets tags when everything is there.
package transfer

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/internal/atonce"
)

// Made is a repository of content that this process made: Root, and everything it leads to, are
// in a store.
type Made struct {
	content.Provider
	Root ocispec.Descriptor
}

// Resolve knows only the root.
func (m *Made) Resolve(context.Context, string) (ocispec.Descriptor, error) { return m.Root, nil }

// Referrers returns none.
func (*Made) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) { return nil, nil }

// Blob implements layout.Repository.
func (m *Made) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := m.ReaderAt(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{content.NewReader(ra), ra}, nil
}

// Target is the destination of a copy.
type Target interface {
	// Empty reports whether the target is known to have nothing, so that it need not be asked.
	Empty(ctx context.Context) (bool, error)
	// Exists reports whether the target has a manifest, with everything below it, or a blob.
	Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Blob copies a blob unless it is there. report is called with the bytes as they arrive, and
	// with a negative number if they have to arrive again.
	Blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, report func(n int64)) (registry.How, error)
	// Manifest writes a manifest by its digest. listed reports whether this also listed it among
	// the referrers of its subject.
	Manifest(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, data []byte) (listed bool, err error)
	// List adds manifests, which are there, to the referrers of a subject.
	List(ctx context.Context, subject digest.Digest, referrers []Referrer) error
	Tags
	// Tag tags a manifest that is there. A layout accepts an empty tag, and lists the manifest
	// without a name.
	Tag(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error
	// Close writes what must be written last.
	Close() error
}

// Moved counts what a copier did.
type Moved struct {
	Blobs    int   `json:"blobs"`    // sent
	Bytes    int64 `json:"bytes"`    // of the blobs sent
	Mounted  int   `json:"mounted"`  // blobs that the registry took from another of its repositories
	Existing int   `json:"existing"` // blobs that were there, and manifests that were there with everything below them
}

// Add adds the counts of another copier.
func (m *Moved) Add(o Moved) {
	m.Blobs += o.Blobs
	m.Bytes += o.Bytes
	m.Mounted += o.Mounted
	m.Existing += o.Existing
}

// Referrer is a manifest with a subject of which it is not certain that the target lists it.
type Referrer struct {
	Subject  digest.Digest      `json:"subject"`
	Manifest ocispec.Descriptor `json:"manifest"`
	// Existing reports that the manifest was there, and so is probably listed. Otherwise it was
	// copied, and the target did not report that it processed the subject.
	Existing bool `json:"existing"`
}

// Options configure a copier. The zero value asks the target what it has, and trusts that a
// manifest that is there has everything below it.
type Options struct {
	// Check walks what the target has instead of trusting it.
	Check bool
	// Empty means that the target has nothing and need not be asked.
	Empty bool
	// Asked is the depth below the copied manifest up to which the target is asked for
	// manifests. If an image is missing, most of its parts are; if an application is, its images
	// may be there.
	Asked int
	// Known reports whether the target is known to have something without asking, regardless of
	// Check. It may be nil.
	Known func(from layout.Repository, desc ocispec.Descriptor) (there, known bool)
	// Keep chooses among the entries of an index; nil keeps all.
	Keep Keep
	// Immutable refuses to move a tag that leads to another manifest.
	Immutable bool
	// TagMoved is called with each tag that led to another manifest before; one call at a time.
	// It may be nil.
	TagMoved func(MovedTag)
	// Missing is called with each entry of a list of referrers that the source does not have; one
	// call at a time. It may be nil.
	Missing func(MissingReferrer)
	// Progress counts bytes; it may be nil.
	Progress *Progress
}

// Copier copies from anywhere into one target. Its methods may be called concurrently: every
// manifest and blob is copied once for all that name it, in a [flight]. The client of the
// registry and the target bound what is in flight, and no flight holds a place while it waits
// for those below it.
type Copier struct {
	Options
	target Target
	walker *walker

	mu        sync.Mutex
	flights   map[flightKey]*flight
	moved     Moved
	tags      map[string]digest.Digest     // what they lead to, as far as it is known
	referrers map[digest.Digest][]Referrer // to be listed, by subject
}

// NewCopier returns a copier into a target.
func NewCopier(target Target, o Options) *Copier {
	if o.Known == nil {
		o.Known = func(layout.Repository, ocispec.Descriptor) (there, known bool) { return false, false }
	}
	return &Copier{
		Options: o, target: target, walker: newWalker(),
		flights: map[flightKey]*flight{}, tags: map[string]digest.Digest{}, referrers: map[digest.Digest][]Referrer{},
	}
}

// Moved returns what was done so far.
func (c *Copier) Moved() Moved {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// Manifest copies a manifest with everything that it names, unless the target has it, and
// reports whether it was copied.
func (c *Copier) Manifest(ctx context.Context, from layout.Repository, desc ocispec.Descriptor) (there bool, err error) {
	return c.manifest(ctx, from, desc, 0)
}

// Manifests copies several manifests concurrently.
func (c *Copier) Manifests(ctx context.Context, from layout.Repository, list ...ocispec.Descriptor) error {
	return atonce.Each(ctx, 0, list, func(ctx context.Context, _ int, desc ocispec.Descriptor) error {
		_, err := c.Manifest(ctx, from, desc)
		return err
	})
}

func (c *Copier) manifest(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, depth int) (there bool, err error) {
	return c.once(ctx, from, desc, false, func(ctx context.Context) (bool, error) {
		there, known := c.known(from, desc)
		if !known && !c.Empty && !c.Check && depth <= c.Asked {
			if there, err = c.target.Exists(ctx, desc); err != nil {
				return false, err
			}
		}
		if there {
			c.count(func(m *Moved) { m.Existing++ })
			return true, nil
		}
		// A missing manifest is read with everything below it before any of it is written.
		if depth == c.Asked && !c.Empty || depth == 0 && c.Empty {
			if err := c.walker.walk(ctx, from, desc, c.known); err != nil {
				return false, err
			}
		}
		return c.below(ctx, from, desc, depth)
	})
}

// known reports whether the target has a manifest, if that is known without asking.
func (c *Copier) known(from layout.Repository, desc ocispec.Descriptor) (there, known bool) {
	if c.has(desc.Digest) {
		return true, true
	}
	return c.Known(from, desc)
}

// there reports whether the target, which is asked, has a manifest or blob, and counts it.
func (c *Copier) there(ctx context.Context, from layout.Repository, desc ocispec.Descriptor) (bool, error) {
	there, known := c.Known(from, desc)
	if !known {
		var err error
		if there, err = c.target.Exists(ctx, desc); err != nil {
			return false, err
		}
	}
	if there {
		c.count(func(m *Moved) { m.Existing++ })
	}
	return there, nil
}

// below copies a missing manifest after everything that it names.
func (c *Copier) below(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, depth int) (there bool, err error) {
	m, err := c.children(ctx, from, desc, depth)
	if err != nil {
		return false, err
	}
	if c.Check {
		if there, err := c.there(ctx, from, m.Desc); there || err != nil {
			return there, err
		}
	}
	return false, c.walker.write(ctx, from, m, func(data []byte) error {
		listed, err := c.target.Manifest(ctx, from, m.Desc, data)
		if err != nil || listed {
			return err
		}
		if subject, _, err := registry.Referrer(m.Desc, data); err == nil {
			c.Note(Referrer{Subject: subject, Manifest: m.Desc})
		}
		return nil
	})
}

// children copies the children of a manifest.
func (c *Copier) children(ctx context.Context, from layout.Repository, desc ocispec.Descriptor, depth int) (*Manifest, error) {
	if depth > registry.MaxDepth {
		return nil, tooDeep(desc)
	}
	m, err := c.walker.read(ctx, from, desc)
	if err != nil {
		return nil, err
	}
	if c.Keep != nil && len(m.Manifests) > 0 {
		if m.Manifests, err = c.Keep(m.Desc, m.Manifests); err != nil {
			return nil, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atonce.Tasks)
	for _, child := range m.Blobs {
		group.Go(func() error { return c.blob(ctx, from, child) })
	}
	for _, child := range m.Manifests {
		group.Go(func() error {
			_, err := c.manifest(ctx, from, child, depth+1)
			return err
		})
	}
	return m, group.Wait()
}

// blob copies a blob. A blob that its registry never had is where its URLs lead; this excuses
// only the manifest with these URLs, not another that names the same blob.
func (c *Copier) blob(ctx context.Context, from layout.Repository, desc ocispec.Descriptor) error {
	if there, _ := c.known(from, desc); there && registry.MayBeManifest(desc.MediaType) {
		return nil // it is a manifest of an unknown type
	}
	_, err := c.once(ctx, from, desc, true, func(ctx context.Context) (there bool, err error) {
		if c.Check {
			if there, err := c.there(ctx, from, desc); there || err != nil {
				return there, err
			}
		}
		c.Progress.Add(0, desc.Size)
		how, err := c.target.Blob(ctx, from, desc, func(n int64) { c.Progress.Add(n, 0) })
		if err != nil || how != registry.Streamed {
			c.Progress.Add(0, -desc.Size)
		}
		if err != nil {
			return false, err
		}
		c.count(func(m *Moved) {
			switch how {
			case registry.Existing:
				m.Existing++
			case registry.Mounted:
				m.Mounted++
			case registry.Streamed:
				m.Blobs++
				m.Bytes += desc.Size
			}
		})
		return how == registry.Existing, nil
	})
	if errdefs.IsNotFound(err) && registry.MayBeElsewhere(desc) {
		return nil
	}
	return err
}

func (c *Copier) count(change func(*Moved)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.moved)
}
