// SPDX-License-Identifier: Apache-2.0

// Package transfer copies manifests, with all that they name, between
// repositories and OCI layouts.
//
// Everything is copied byte for byte, so that every digest stays. A manifest is
// written when all that it names is there: what is cut off leaves nothing
// incomplete behind, and what is there already is not sent again. Nothing gets a
// name on the way; whoever copies sets tags when all of it is there.
package transfer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/taped-dev/tape/engine/content/layout"
	"github.com/taped-dev/tape/engine/content/registry"
)

// Source is what is copied from: a repository, a layout or an archive. What it
// gives has the digest it was asked for.
type Source interface {
	layout.Repository
	Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Target is what is copied to.
type Target interface {
	// Empty says whether nothing is there: then nobody need ask what is.
	Empty(ctx context.Context) (bool, error)
	// Exists says whether a manifest is there, and so all below it, or a blob.
	Exists(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Blob copies a blob, unless it is there. report hears of bytes as they
	// arrive, and of a negative number where they have to arrive again.
	Blob(ctx context.Context, from Source, desc ocispec.Descriptor, report func(n int64)) (registry.How, error)
	// Manifest writes a manifest by its digest. listed says that it is listed
	// among the referrers of its subject by that alone.
	Manifest(ctx context.Context, desc ocispec.Descriptor, data []byte) (listed bool, err error)
	// List enters manifests among the referrers of a subject, where they are not.
	List(ctx context.Context, subject digest.Digest, entries ...ocispec.Descriptor) error
	Tags
	// Tag names a manifest that is there. A layout takes an empty tag: it lists the
	// manifest without a name.
	Tag(ctx context.Context, desc ocispec.Descriptor, data []byte, tag string) error
	// Close makes what was written last.
	Close() error
}

// Moved counts what a copier did.
type Moved struct {
	Blobs    int   `json:"blobs"`    // sent
	Bytes    int64 `json:"bytes"`    // of those
	Mounted  int   `json:"mounted"`  // blobs that the registry took from another of its repositories
	Existing int   `json:"existing"` // blobs that were there, and manifests that were, with all below them
}

// Copier copies into one target. Its methods may be called concurrently: every
// manifest and blob has a goroutine of its own, and moves once; the registry's
// client and the target bound what is in flight, and none holds anything while
// it waits for those below it.
type Copier struct {
	// Check walks what the target has, instead of trusting that a manifest there
	// has all below it. It is set before anything is copied.
	Check bool
	// Immutable refuses to move a tag that leads elsewhere.
	Immutable bool
	// TagMoved hears of each tag that led elsewhere before; one call at a time. It
	// may be nil.
	TagMoved func(MovedTag)

	source Source
	target Target
	walker *Walker
	report func(current, total int64)

	mu        sync.Mutex
	moves     map[digest.Digest]*move
	moved     Moved
	empty     bool                                   // the target was, to begin with
	tags      map[string]digest.Digest               // what they led to, as far as that is known
	referrers map[digest.Digest][]ocispec.Descriptor // to be listed, by subject

	progressMu     sync.Mutex
	arrived, total int64 // bytes
}

// move is the one copying of a manifest or blob.
type move struct {
	size int64
	done chan struct{} // closed when it ended
	err  error
}

// NewCopier copies from one place to another. report, which may be nil, hears of
// bytes: how many arrived, and of how many it is known that they are to come; one call at a time.
func NewCopier(source Source, target Target, report func(current, total int64)) *Copier {
	if report == nil {
		report = func(int64, int64) {}
	}
	return &Copier{
		source: source, target: target, walker: NewWalker(), report: report,
		moves: map[digest.Digest]*move{}, referrers: map[digest.Digest][]ocispec.Descriptor{}, tags: map[string]digest.Digest{},
	}
}

// Moved says what was done so far.
func (c *Copier) Moved() Moved {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// Manifest copies a manifest with all that it names, unless the target has it.
func (c *Copier) Manifest(ctx context.Context, desc ocispec.Descriptor) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	return c.manifest(ctx, desc, 0)
}

// begin finds out what need not be asked.
func (c *Copier) begin(ctx context.Context) error {
	return c.once(ctx, ocispec.Descriptor{}, func() error {
		empty, err := c.target.Empty(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.empty = empty
		return err
	})
}

// asked is how deep below what is copied the target is asked for manifests: for
// what an application lists. Of an image that is not there, little else is.
const asked = 1

func (c *Copier) manifest(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	return c.once(ctx, desc, func() error {
		if !c.empty && !c.Check && depth <= asked {
			if there, err := c.there(ctx, desc); there || err != nil {
				return err
			}
		}
		// What is not there is looked at as a whole before any of it is written.
		if depth == 0 && c.empty || depth == asked && !c.empty {
			if err := c.walker.Walk(ctx, c.source, desc); err != nil {
				return err
			}
		}
		return c.below(ctx, desc, depth)
	})
}

// there says whether the target has a manifest or blob, and counts it.
func (c *Copier) there(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there, err := c.target.Exists(ctx, desc)
	if there {
		c.count(func(m *Moved) { m.Existing++ })
	}
	return there, err
}

// parallelQuestions leaves most of what a source answers at once to what is copied:
// some look through all that they have for referrers.
const parallelQuestions = 32

// Whole copies a manifest with all that it names and then what is about the
// subjects, and about that, and has it listed. What there is of that is found out
// while the manifest is on its way.
func (c *Copier) Whole(ctx context.Context, desc ocispec.Descriptor, subjects []digest.Digest) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	var about [][]listing
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.Manifest(groupCtx, desc) })
	group.Go(func() (err error) {
		about, err = c.ask(groupCtx, subjects)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	for _, level := range about {
		group, ctx := errgroup.WithContext(ctx)
		for _, l := range level {
			group.Go(func() error {
				if err := c.referrer(ctx, l); err != nil {
					return fmt.Errorf("what is about %s: %w", l.subject, err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// listing is what the list of a subject's referrers has.
type listing struct {
	subject digest.Digest
	desc    ocispec.Descriptor
}

// ask finds out what is about the subjects, what is about that, and so on. Nothing is
// asked for twice: lists are a stranger's, and may lead in a circle. To a target that
// was empty it copies all that is named there: what is left then are manifests, which
// come after their subjects.
func (c *Copier) ask(ctx context.Context, subjects []digest.Digest) ([][]listing, error) {
	var levels [][]listing
	asked := map[digest.Digest]bool{}
	copying, copyCtx := errgroup.WithContext(ctx)
	for len(subjects) > 0 {
		if len(levels) > registry.MaxDepth || len(asked) > maxNodes {
			copying.Go(func() error {
				return fmt.Errorf("what is about %s leads on after %d levels: %w", subjects[0], len(levels), errdefs.ErrInvalidArgument)
			})
			return nil, copying.Wait()
		}
		lists := make([][]ocispec.Descriptor, len(subjects))
		asking, askCtx := errgroup.WithContext(copyCtx)
		asking.SetLimit(parallelQuestions)
		for i, subject := range subjects {
			asked[subject] = true
			asking.Go(func() (err error) {
				lists[i], err = c.source.Referrers(askCtx, subject)
				return err
			})
		}
		if err := asking.Wait(); err != nil {
			copying.Go(func() error { return err }) // which ends the others
			return nil, copying.Wait()
		}
		var level []listing
		next := map[digest.Digest]listing{}
		for i, subject := range subjects {
			for _, desc := range lists[i] {
				level = append(level, listing{subject, desc})
				if _, twice := next[desc.Digest]; !twice && !asked[desc.Digest] {
					next[desc.Digest] = listing{subject, desc}
				}
			}
		}
		if c.empty {
			for _, l := range next {
				copying.Go(func() error {
					entry, err := c.entry(copyCtx, l)
					if err == nil && entry != nil {
						_, err = c.children(copyCtx, l.desc, 0)
					}
					return err
				})
			}
		}
		levels, subjects = append(levels, level), slices.Sorted(maps.Keys(next))
	}
	return levels, copying.Wait()
}

// referrer copies what a list has, where it is about the subject.
func (c *Copier) referrer(ctx context.Context, l listing) error {
	entry, err := c.entry(ctx, l)
	if err != nil || entry == nil {
		return err
	}
	if err := c.Manifest(ctx, l.desc); err != nil {
		return err
	}
	c.note(l.subject, *entry)
	return nil
}

// entry is what the list of a subject's referrers is to say of a manifest: lists
// leave things out, or have them otherwise, and the manifest is what counts. It is nil
// for one that is gone, as lists are older than that, and for one that is about
// something else.
func (c *Copier) entry(ctx context.Context, l listing) (*ocispec.Descriptor, error) {
	desc, data, err := registry.Read(ctx, c.source, l.desc)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	subject, entry, err := registry.Referrer(desc, data)
	if err != nil || subject != l.subject {
		return nil, nil //nolint:nilerr // without a subject it is about nothing
	}
	return &entry, nil
}

// List has every manifest with a subject that was copied listed among the
// subject's referrers, but those that except names. It comes when all of it is
// there.
func (c *Copier) List(ctx context.Context, except map[digest.Digest]bool) error {
	group, ctx := errgroup.WithContext(ctx)
	for subject, list := range c.referrers {
		entries := slices.DeleteFunc(slices.Clone(list), func(d ocispec.Descriptor) bool { return except[d.Digest] })
		if len(entries) == 0 {
			continue
		}
		slices.SortFunc(entries, func(a, b ocispec.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
		group.Go(func() error { return c.target.List(ctx, subject, entries...) })
	}
	return group.Wait()
}

// once runs do for a digest, the first time that it is called for it. Another caller
// waits for that.
func (c *Copier) once(ctx context.Context, desc ocispec.Descriptor, do func() error) error {
	c.mu.Lock()
	m, found := c.moves[desc.Digest]
	if !found {
		m = &move{size: desc.Size, done: make(chan struct{})}
		c.moves[desc.Digest] = m
	}
	c.mu.Unlock()
	if err := sameSize(desc, m.size); err != nil {
		return err
	}
	if !found {
		m.err = do()
		close(m.done)
		return m.err
	}
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// below copies a manifest that is not there, after all that it names.
func (c *Copier) below(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	m, err := c.children(ctx, desc, depth)
	if err != nil {
		return err
	}
	if c.Check {
		if there, err := c.there(ctx, m.Desc); there || err != nil {
			return err
		}
	}
	return c.walker.Write(ctx, c.source, m, func(data []byte) error {
		listed, err := c.target.Manifest(ctx, m.Desc, data)
		if err != nil || listed {
			return err
		}
		if subject, entry, err := registry.Referrer(m.Desc, data); err == nil {
			c.note(subject, entry)
		}
		return nil
	})
}

// childrenAtOnce bounds how many of what one manifest names are copied at once.
const childrenAtOnce = 128

// children copies what a manifest names.
func (c *Copier) children(ctx context.Context, desc ocispec.Descriptor, depth int) (*Manifest, error) {
	if depth > registry.MaxDepth {
		return nil, tooDeep(desc)
	}
	m, err := c.walker.Read(ctx, c.source, desc)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(childrenAtOnce)
	for _, child := range m.Blobs {
		group.Go(func() error { return c.blob(ctx, child) })
	}
	for _, child := range m.Manifests {
		group.Go(func() error { return c.manifest(ctx, child, depth+1) })
	}
	return m, group.Wait()
}

// blob copies a blob. One that its registry never had lies where its URLs say; that
// excuses the manifest that says so, and no other that names the same.
func (c *Copier) blob(ctx context.Context, desc ocispec.Descriptor) error {
	err := c.once(ctx, desc, func() error {
		if c.Check {
			if there, err := c.there(ctx, desc); there || err != nil {
				return err
			}
		}
		c.progress(0, desc.Size)
		how, err := c.target.Blob(ctx, c.source, desc, func(n int64) { c.progress(n, 0) })
		if err != nil || how != registry.Streamed {
			c.progress(0, -desc.Size)
		}
		if err != nil {
			return err
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
		return nil
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

func (c *Copier) note(subject digest.Digest, entry ocispec.Descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.referrers[subject], func(d ocispec.Descriptor) bool { return d.Digest == entry.Digest }) {
		c.referrers[subject] = append(c.referrers[subject], entry)
	}
}

func (c *Copier) progress(arrived, expected int64) {
	c.progressMu.Lock()
	defer c.progressMu.Unlock()
	c.arrived += arrived
	c.total += expected
	c.report(c.arrived, c.total)
}
