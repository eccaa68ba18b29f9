// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	containerdimages "github.com/containerd/containerd/v2/core/images"

	"github.com/taped-dev/tape/engine"
	"github.com/taped-dev/tape/engine/content/registry"
	"github.com/taped-dev/tape/engine/content/transfer"
	"github.com/taped-dev/tape/stages/images"
)

const (
	// imagesAtOnce keeps a registry busy, which answers 64 requests at once.
	imagesAtOnce = 64
	// progressStep is how many bytes go by between two reports.
	progressStep = 1 << 20
)

// copier copies into one repository. The children and blobs of an image have a
// goroutine each; the client bounds what is in flight, and none of them holds
// anything while it waits for those below it.
type copier struct {
	origins images.Origins
	dst     *registry.Repository
	target  transfer.Target // dst
	walker  *transfer.Walker
	check   bool
	dry     bool // nothing is written
	report  func(engine.Event)

	empty   bool                   // dst has nothing
	trusted map[digest.Digest]bool // that the last root there names

	mu    sync.Mutex
	moves map[digest.Digest]*move
	moved images.Moved

	progressMu                 sync.Mutex
	arrived, expected, unheard int64 // bytes; unheard arrived since the last report
}

// move is the one copying of a manifest or blob.
type move struct {
	done  chan struct{} // closed when it ended
	there bool          // the destination had it, with all below it
	err   error
}

func newCopier(origins images.Origins, dst *registry.Repository, config Config, report func(engine.Event)) *copier {
	return &copier{
		origins: origins, dst: dst, target: transfer.ToRepository(origins.Registry, dst),
		walker: transfer.NewWalker(), check: config.Check, dry: config.DryRun, report: report, moves: map[digest.Digest]*move{},
	}
}

// copy copies images, and what is related to them. After an error the destination
// has some of it, and nothing without what it names.
func (c *copier) copy(ctx context.Context, list []images.Image) (images.Moved, error) {
	if err := c.trust(ctx); err != nil {
		return images.Moved{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(imagesAtOnce)
	for _, image := range list {
		group.Go(func() error {
			if err := c.image(ctx, image); err != nil {
				return fmt.Errorf("copy image %s%s: %w", image.Source, place(image), err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return images.Moved{}, err
	}
	c.progress(0, 0)
	slices.Sort(c.moved.Copied)
	slices.SortFunc(c.moved.Referrers, func(a, b images.MovedReferrer) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Digest, b.Digest))
	})
	return c.moved, nil
}

// place is where an image stands in the manifests.
func place(image images.Image) string {
	if len(image.Locations) == 0 {
		return ""
	}
	return " (" + image.Locations[0].Place() + ")"
}

// trust finds out what needs no asking: one request answers for all that did not
// change since the last root was pushed, and one for a repository that is new.
func (c *copier) trust(ctx context.Context) error {
	c.moved.Copied, c.moved.Referrers = []digest.Digest{}, []images.MovedReferrer{}
	if c.check {
		return nil
	}
	data, err := c.dst.Remembered(ctx)
	if c.dry && unreadable(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if data == nil {
		if c.dry {
			return nil // whether it is empty is asked once, by who writes
		}
		c.empty, err = c.dst.Empty(ctx)
		c.moved.Empty = c.empty
		return err
	}
	var root ocispec.Index
	if err := json.Unmarshal(data, &root); err != nil {
		return fmt.Errorf("read the root pushed last: %w", err)
	}
	c.trusted = map[digest.Digest]bool{}
	for _, child := range root.Manifests {
		c.trusted[child.Digest] = true
	}
	return nil
}

// image copies an image, then what is related to it.
func (c *copier) image(ctx context.Context, image images.Image) error {
	src, err := c.origins.Open(ctx, image.Name, image.From)
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size}
	there, err := c.top(ctx, src, desc, true)
	switch {
	case registry.Refused(err) && containerdimages.IsIndexType(desc.MediaType):
		return fmt.Errorf("%w; --platform OS/ARCH takes images without their index; the application is an index all the same, which --save FILE puts into an archive", err)
	case err != nil:
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, related := range image.Related {
		if related.Via == images.Inline {
			continue // it is in the image's index
		}
		group.Go(func() error {
			desc := ocispec.Descriptor{MediaType: related.MediaType, Digest: related.Digest, Size: related.Size}
			// What is about an image that was not there is not there either, or does no harm twice.
			there, err := c.top(ctx, src, desc, there)
			if registry.Refused(err) {
				err = fmt.Errorf("%w; --related none leaves it out", err)
			}
			if err != nil {
				return fmt.Errorf("the %s of %s: %w", related.Kind, related.To, err)
			}
			if there && related.Via == images.Referrer && !c.trusted[desc.Digest] {
				c.note(images.MovedReferrer{Subject: related.To, Digest: desc.Digest, Existing: true})
			}
			return nil
		})
	}
	return group.Wait()
}

// once runs do for a digest, the first time that it is called for it. Whoever else
// wants the same waits for that.
func (c *copier) once(ctx context.Context, dgst digest.Digest, do func() (there bool, err error)) (there bool, err error) {
	c.mu.Lock()
	m, found := c.moves[dgst]
	if !found {
		m = &move{done: make(chan struct{})}
		c.moves[dgst] = m
	}
	c.mu.Unlock()
	if !found {
		m.there, m.err = do()
		close(m.done)
		return m.there, m.err
	}
	select {
	case <-m.done:
		return m.there, m.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// top copies a manifest that the root names, unless it is there. ask says that it may be.
func (c *copier) top(ctx context.Context, src images.Origin, desc ocispec.Descriptor, ask bool) (there bool, err error) {
	return c.once(ctx, desc.Digest, func() (bool, error) {
		there, err := c.trusted[desc.Digest] || c.isTarget(src) && !c.check, error(nil)
		if !there && ask && !c.check && !c.empty {
			there, err = c.exists(ctx, desc)
		}
		if !there && err == nil {
			// All of it is looked at before any of it is written, and its depth bounded.
			if err = c.walker.Walk(ctx, src, desc); err == nil {
				there, err = c.below(ctx, src, desc)
			}
		}
		if err != nil {
			return false, err
		}
		c.count(func(m *images.Moved) {
			if there {
				m.Existing++
			} else {
				m.Copied = append(m.Copied, desc.Digest)
			}
		})
		return there, nil
	})
}

// isTarget says whether what is copied from is what is copied to.
func (c *copier) isTarget(src images.Origin) bool {
	repository, ok := src.(*registry.Repository)
	return ok && repository.Name() == c.dst.Name()
}

// below copies a manifest that does not count as there, after all that it names.
func (c *copier) below(ctx context.Context, src images.Origin, desc ocispec.Descriptor) (there bool, err error) {
	m, err := c.children(ctx, src, desc)
	if err != nil {
		return false, err
	}
	if c.check {
		if there, err := c.exists(ctx, m.Desc); there || err != nil {
			return there, err
		}
	}
	if c.dry {
		return false, nil
	}
	return false, c.walker.Write(ctx, src, m, func(data []byte) error {
		registered, err := c.dst.PushSubject(ctx, m.Desc, data)
		if err != nil || registered {
			return err
		}
		if subject, _, err := registry.Referrer(m.Desc, data); err == nil {
			c.note(images.MovedReferrer{Subject: subject, Digest: m.Desc.Digest})
		}
		return nil
	})
}

// childrenAtOnce bounds how many of what one manifest names are copied at once.
const childrenAtOnce = 128

// children copies what a manifest names.
func (c *copier) children(ctx context.Context, src images.Origin, desc ocispec.Descriptor) (*transfer.Manifest, error) {
	m, err := c.walker.Read(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(childrenAtOnce)
	for _, child := range m.Blobs {
		group.Go(func() error { return c.blob(ctx, src, child) })
	}
	for _, child := range m.Manifests {
		group.Go(func() error {
			_, err := c.once(ctx, child.Digest, func() (bool, error) { return c.below(ctx, src, child) })
			return err
		})
	}
	return m, group.Wait()
}

func (c *copier) blob(ctx context.Context, src images.Origin, desc ocispec.Descriptor) error {
	_, err := c.once(ctx, desc.Digest, func() (bool, error) {
		how, err := c.move(ctx, src, desc)
		if err != nil {
			return false, err
		}
		c.count(func(m *images.Moved) {
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
		// Its registry never had it: it lies where its URLs say. Whoever names
		// the same blob without any gets the error.
		return nil
	}
	return err
}

// move copies a blob, and tells of it as it goes.
func (c *copier) move(ctx context.Context, src images.Origin, desc ocispec.Descriptor) (registry.How, error) {
	if c.check {
		if there, err := c.exists(ctx, desc); there || err != nil {
			return registry.Existing, err
		}
	}
	if c.dry {
		repository, _ := src.(*registry.Repository)
		how, err := c.origins.Registry.Foresee(ctx, c.dst, repository, desc)
		if unreadable(err) {
			return registry.Streamed, nil
		}
		return how, err
	}
	c.progress(0, desc.Size)
	how, err := c.target.Blob(ctx, src, desc, func(n int64) { c.progress(n, 0) })
	if err != nil || how != registry.Streamed {
		c.progress(0, -desc.Size)
	}
	return how, err
}

// exists reports whether the destination has a manifest or blob. To a dry run one
// that may not be read has nothing.
func (c *copier) exists(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there, err := c.dst.Exists(ctx, desc)
	if c.dry && unreadable(err) {
		return false, nil
	}
	return there, err
}

func unreadable(err error) bool {
	return errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) || errdefs.IsUnavailable(err)
}

func (c *copier) count(change func(*images.Moved)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.moved)
}

func (c *copier) note(referrer images.MovedReferrer) {
	c.count(func(m *images.Moved) { m.Referrers = append(m.Referrers, referrer) })
}

// progress tells of bytes that arrived, and of those that are to come. Two zeroes
// make it tell of what it held back.
func (c *copier) progress(arrived, expected int64) {
	c.progressMu.Lock()
	defer c.progressMu.Unlock()
	c.arrived += arrived
	c.expected += expected
	c.unheard += arrived
	if arrived > 0 && c.unheard < progressStep {
		return
	}
	c.unheard = 0
	c.report(engine.Event{Current: c.arrived, Total: c.expected, Unit: "bytes"})
}
